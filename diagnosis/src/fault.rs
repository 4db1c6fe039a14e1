//! Where a fault happened, in words.

use crate::evidence::{Fault, Frame};
use crate::words::one_line;

/// Begins of the names of C libraries: what raises a signal on a program's behalf says nothing of the program.
const C_LIBRARIES: [&str; 5] = ["libc.so", "libc-2.", "libpthread", "ld-musl-", "libc.musl-"];
/// So many frames of one and the same call are no accident.
const RECURSION_FRAMES: usize = 8;

/// The frame that tells where the program was: the instruction, or the first frame outside the C library when the program raised the
/// signal by calling it. None when that lies in no file.
pub(crate) fn place(fault: &Fault) -> Option<&Frame> {
    let first = fault.frames.first()?;
    let place = if fault.code <= 0 { fault.frames.iter().find(|frame| !is_c_library(frame))? } else { first };
    (!place.module.is_empty()).then_some(place)
}

fn is_c_library(frame: &Frame) -> bool {
    C_LIBRARIES.iter().any(|begin| file_name(&frame.module).starts_with(begin))
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// `libfoo.so+0x1a2b`.
pub(crate) fn module_and_offset(frame: &Frame) -> String {
    format!("{}+{:#x}", one_line(file_name(&frame.module)), frame.offset)
}

/// What a sentence that has named the place can add: ` (parse_header, parser.c:42)`, ` in its thread worker`, and more.
pub(crate) fn more(fault: &Fault, main_pid: u32) -> String {
    let mut more = String::new();
    let named = place(fault).filter(|frame| !frame.symbol.is_empty());
    if let Some(frame) = named {
        more.push_str(&format!(" ({}{})", one_line(&frame.symbol), line(frame)));
    }
    if fault.tid != main_pid && !fault.comm.is_empty() {
        more.push_str(&format!(" in its thread {}", one_line(&fault.comm)));
    }
    if let Some((_, caller)) = jump(fault) {
        more.push_str(&format!("; it had jumped to an address without code, coming from {caller}"));
    }
    if is_recursion(fault) {
        more.push_str("; its innermost calls are all the same, as in a recursion without end");
    }
    more
}

/// `, parser.c:42`.
fn line(frame: &Frame) -> String {
    match (file_name(&frame.file), frame.line) {
        ("", _) => String::new(),
        (file, 0) => format!(", {}", one_line(file)),
        (file, line) => format!(", {}:{line}", one_line(file)),
    }
}

/// A jump to where nothing is mapped: the address, and the nearest caller that frame pointers lead to.
fn jump(fault: &Fault) -> Option<(u64, String)> {
    let [first, caller, ..] = fault.frames.as_slice() else { return None };
    let is_jump = fault.code > 0 && first.module.is_empty() && first.instruction == fault.address;
    (is_jump && !caller.module.is_empty()).then(|| (first.instruction, module_and_offset(caller)))
}

fn is_recursion(fault: &Fault) -> bool {
    let callers = fault.frames.get(1..).unwrap_or_default();
    let Some(first) = callers.first() else { return false };
    let same =
        callers.iter().take_while(|frame| frame.module == first.module && frame.offset == first.offset);
    same.count() >= RECURSION_FRAMES
}
