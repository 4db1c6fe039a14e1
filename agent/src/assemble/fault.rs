//! Where the process that ended the run stood when it did.

use lastwords_diagnosis::evidence::{Fault, Frame};

use super::{Death, End, Node, failures, is_of_run, text};
use crate::decode::{self, Recording, SI_KERNEL, Signal};
use crate::enrich::symbols::{Named, Query};

/// Faults that abort() ends a PID 1 by, which ignores its SIGABRT: hlt or ud2 or brk.
const DELIBERATE: [i32; 3] = [SIGSEGV, SIGILL, SIGTRAP];
const SIGILL: i32 = 4;
const SIGTRAP: i32 = 5;
const SIGABRT: i32 = 6;
const SIGSEGV: i32 = 11;
/// From an ignored SIGABRT to the deliberate fault, in nanoseconds; a few microseconds of the same function.
const ABORT_TO_FAULT: u64 = 1_000_000_000;
/// From a fault to the one that says that its handler could not be run, in nanoseconds: the same way back from the kernel.
const FAULT_TO_FORCED: u64 = 1_000_000;
/// A shell's exit code for a child that a signal ended, less the signal.
const PASSED_ON: i32 = 128;

/// The signal that tells where the run ended: the one that ended the main process, or a child whose end it passed on as its exit code.
#[must_use]
pub fn decisive(death: &Death) -> Option<&Signal> {
    let recording = death.recording.as_ref()?;
    let End::Exited(exited) = &death.end else { return None };
    let (tgid, signal) = match exited.status.signal {
        0 => {
            let signal = exited.status.code - PASSED_ON;
            let child = recording.child_exits.iter().rfind(|child| child.status.signal == signal)?;
            (child.tgid, signal)
        }
        signal => (exited.tgid, signal),
    };
    let raised = |number: i32| {
        let is_it = |it: &&Signal| {
            it.target_tgid == tgid && it.signal == number && it.place_number != 0 && is_of_run(death, it.time)
        };
        // Of several threads that faulted at once the one that began the end.
        let all = || recording.signals.iter().filter(is_it);
        all().rfind(|it| it.target_tid == exited.first_tid).or_else(|| all().next_back())
    };
    let fatal = raised(signal);
    let aborted = raised(SIGABRT).filter(|it| {
        DELIBERATE.contains(&signal)
            && fatal.is_none_or(|fatal| fatal.time.saturating_sub(it.time) <= ABORT_TO_FAULT)
    });
    aborted.or(fatal)
}

/// Where a fault or an abort() of the main process ended it, the thread that stood there began the end, whichever left first: for a core
/// dump all of them wait, and then they leave together.
pub fn tell_thread(death: &mut Death) {
    let stood = decisive(death).and_then(|signal| signal.place.as_ref()).map(|place| place.tid);
    if let (Some(tid), End::Exited(exited)) = (stood, &mut death.end)
        && exited.status.signal != 0
    {
        exited.first_tid = tid;
    }
}

/// What to look up names for. Takes the container's root out of what was seen, so that it is held no longer than that takes.
#[must_use]
pub fn query(death: &mut Death, page_bytes: u64) -> Option<Query> {
    let root = death.looked.root.take()?;
    let frames = decisive(death)?.place.as_ref()?.frames.clone();
    let executable = death.execs.last().map(|(_, executed)| {
        failures::against(&executed.filename, executed.cwd.as_deref())
            .unwrap_or_else(|| executed.filename.clone())
    });
    Some(Query { frames, root, executable, page_bytes })
}

/// What is known of it; `None` when nobody recorded where it was.
pub(super) fn fault(death: &Death, node: &Node<'_>, recording: &Recording) -> Option<Fault> {
    let signal = decisive(death)?;
    let place = signal.place.as_ref()?;
    // A handler that cannot be run, most often because the stack is used up, gets its fault repeated without the address.
    let told = recording
        .signals
        .iter()
        .rfind(|it| {
            signal.code == SI_KERNEL
                && it.signal == signal.signal
                && it.target_tid == signal.target_tid
                && it.code > 0
                && it.code != SI_KERNEL
                && it.time <= signal.time
                && signal.time - it.time <= FAULT_TO_FORCED
        })
        .unwrap_or(signal);
    Some(Fault {
        signal: signal.signal,
        code: told.code,
        address: told.address,
        tid: place.tid,
        comm: text(&place.comm),
        frames: (0..)
            .zip(&place.frames)
            .map(|(number, raw)| frame(raw, named(death, number), node))
            .collect(),
    })
}

/// What to say when the place of the decisive signal was recorded and lost again.
pub(super) fn lost(death: &Death) -> Option<String> {
    let signal = decisive(death)?;
    signal
        .place
        .is_none()
        .then(|| "where the fault happened: newer faults on this node replaced the record".to_owned())
}

fn named(death: &Death, number: usize) -> Option<&Named> {
    death.symbols.get(number)?.as_ref()
}

fn frame(raw: &decode::Frame, named: Option<&Named>, node: &Node<'_>) -> Frame {
    let name = raw.mapping.as_ref().and_then(|mapping| mapping.names.first());
    let build_id = raw.build_id.as_ref().map(|(id, _)| id);
    let mut frame = Frame {
        instruction: raw.instruction,
        module: name.map(|name| text(name)).unwrap_or_default(),
        build_id: build_id.map(|id| hexadecimal(id)).unwrap_or_default(),
        offset: raw.file_offset(node.page_bytes).unwrap_or(0),
        ..Frame::default()
    };
    if let Some(named) = named {
        frame.module = text(&named.path);
        frame.build_id = hexadecimal(&named.build_id);
        frame.symbol = text(named.symbol.as_bytes());
        frame.symbol_offset = named.symbol_offset;
        frame.file = text(&named.file);
        frame.line = named.line;
    }
    frame
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
