//! What the first bytes of a program tell: the interpreter that it names and the machine that it is for. Read only of a file that
//! could not be executed.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// As much of a script's first line as the kernel reads (BINPRM_BUF_SIZE, include/uapi/linux/binfmts.h).
const FIRST_LINE_BYTES: usize = 256;
/// Program headers that are looked at; linkers write about a dozen, and the interpreter's is among the first.
const MOST_HEADERS: usize = 64;
/// Longest name of an ELF interpreter that is read. The kernel takes up to PATH_MAX; no C library's has a hundred.
const INTERPRETER_BYTES: usize = 256;
/// `PT_INTERP` (elf.h).
const INTERPRETER_HEADER: u32 = 3;

/// What a program says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Program {
    /// The interpreter of a script, the loader of an ELF program.
    pub interpreter: Option<PathBuf>,
    /// Of an ELF program, as [`machine`] names it; empty for others.
    pub machine: String,
}

impl Program {
    /// Reads it. What is neither a script nor an ELF program says nothing.
    pub(super) fn read(file: &File) -> Self {
        let mut head = [0; FIRST_LINE_BYTES];
        let read = file.read_at(&mut head, 0).unwrap_or(0);
        let head = head.get(..read).unwrap_or_default();
        if let Some(line) = head.strip_prefix(b"#!") {
            return Self { interpreter: script_interpreter(line), machine: String::new() };
        }
        Elf::of(head).map_or_else(Self::default, |elf| Self {
            interpreter: elf.interpreter(file),
            machine: machine(elf.u16_at(head, 18), elf.is_64_bit),
        })
    }
}

/// The first word, as the kernel takes it (load_script, fs/binfmt_script.c): blanks and tabs around it do not count, a carriage
/// return is part of it.
fn script_interpreter(line: &[u8]) -> Option<PathBuf> {
    let line = line.split(|byte| matches!(byte, b'\n' | 0)).next()?;
    let word = line.split(|byte| matches!(byte, b' ' | b'\t')).find(|word| !word.is_empty())?;
    Some(Path::new(OsStr::from_bytes(word)).to_owned())
}

/// How the numbers of an ELF file are written.
struct Elf {
    is_64_bit: bool,
    is_big_endian: bool,
    headers_at: u64,
    header_bytes: usize,
    header_count: usize,
}

impl Elf {
    fn of(head: &[u8]) -> Option<Self> {
        let (class, data) = match head {
            [0x7f, b'E', b'L', b'F', class @ 1..=2, data @ 1..=2, ..] => (*class, *data),
            _ => return None,
        };
        let mut elf = Self {
            is_64_bit: class == 2,
            is_big_endian: data == 2,
            headers_at: 0,
            header_bytes: 0,
            header_count: 0,
        };
        let (at, sizes) =
            if elf.is_64_bit { (elf.number(head, 32, 8), 54) } else { (elf.number(head, 28, 4), 42) };
        elf.headers_at = at;
        elf.header_bytes = usize::from(elf.u16_at(head, sizes));
        elf.header_count = usize::from(elf.u16_at(head, sizes + 2)).min(MOST_HEADERS);
        Some(elf)
    }

    fn interpreter(&self, file: &File) -> Option<PathBuf> {
        let least = if self.is_64_bit { 56 } else { 32 };
        if !(least..=256).contains(&self.header_bytes) {
            return None;
        }
        let mut headers = vec![0; self.header_bytes * self.header_count];
        let read = file.read_at(&mut headers, self.headers_at).ok()?;
        headers.truncate(read);
        let found = headers
            .chunks_exact(self.header_bytes)
            .find(|header| self.number(header, 0, 4) == u64::from(INTERPRETER_HEADER))?;
        let (at, length) = if self.is_64_bit {
            (self.number(found, 8, 8), self.number(found, 32, 8))
        } else {
            (self.number(found, 4, 4), self.number(found, 16, 4))
        };
        let mut name = vec![0; usize::try_from(length).ok()?.min(INTERPRETER_BYTES)];
        let read = file.read_at(&mut name, at).ok()?;
        let name = name.get(..read)?.split(|byte| *byte == 0).next()?;
        (!name.is_empty()).then(|| Path::new(OsStr::from_bytes(name)).to_owned())
    }

    fn u16_at(&self, bytes: &[u8], at: usize) -> u16 {
        u16::try_from(self.number(bytes, at, 2)).unwrap_or(0)
    }

    /// The number of `size` bytes at `at`; 0 beyond the end.
    fn number(&self, bytes: &[u8], at: usize, size: usize) -> u64 {
        let digits = bytes.get(at..at + size).unwrap_or_default().iter();
        let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        if self.is_big_endian { digits.fold(0, add) } else { digits.rev().fold(0, add) }
    }
}

/// `e_machine` (elf.h) as people call it.
fn machine(number: u16, is_64_bit: bool) -> String {
    let name = match number {
        3 => "x86",
        8 => "mips",
        20 => "ppc",
        21 => "ppc64",
        22 => "s390x",
        40 => "arm",
        62 if !is_64_bit => "x32",
        62 => "x86-64",
        183 => "aarch64",
        243 => "riscv",
        258 => "loongarch",
        other => return format!("machine {other}"),
    };
    name.to_owned()
}

/// The machine of this node, as [`machine`] names it.
pub(super) fn own_machine() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "x86-64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(bytes: &[u8]) -> Program {
        let place = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(place.path(), bytes).unwrap();
        Program::read(&File::open(place.path()).unwrap())
    }

    /// A header and one program header that names an interpreter.
    fn elf(machine: u16, is_64_bit: bool, interpreter: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, b"\x7fELF");
        put(4, &[if is_64_bit { 2 } else { 1 }, 1]);
        put(18, &machine.to_le_bytes());
        let (offset_at, sizes_at, header) = if is_64_bit { (32, 54, 64) } else { (28, 42, 52) };
        put(offset_at, &[header]);
        put(sizes_at, &[if is_64_bit { 56 } else { 32 }, 0, 1, 0]);
        let header = usize::from(header);
        put(header, &3u32.to_le_bytes());
        let (at, length) = if is_64_bit { (8, 32) } else { (4, 16) };
        put(header + at, &300u32.to_le_bytes());
        put(header + length, &[interpreter.len().try_into().unwrap()]);
        put(300, interpreter);
        bytes
    }

    #[test]
    fn scripts_name_their_interpreter() {
        for (script, interpreter) in [
            ("#!/bin/sh\nexit 1\n", "/bin/sh"),
            ("#! /usr/bin/env bash\n", "/usr/bin/env"),
            ("#!\t/opt/python -u\n", "/opt/python"),
            ("#!/bin/sh\r\nexit 1\r\n", "/bin/sh\r"),
            ("#!/bin/sh", "/bin/sh"),
        ] {
            assert_eq!(program(script.as_bytes()).interpreter.as_deref(), Some(Path::new(interpreter)));
        }
        for nothing in ["", "#!", "#!\n/bin/sh", "# /bin/sh", "echo hello\n"] {
            assert_eq!(program(nothing.as_bytes()), Program::default(), "{nothing:?}");
        }
    }

    #[test]
    fn programs_name_their_machine_and_loader() {
        let of = |machine, is_64_bit, loader: &[u8]| {
            let program = program(&elf(machine, is_64_bit, loader));
            (program.machine, program.interpreter.map(|path| path.display().to_string()))
        };
        let musl = Some("/lib/ld-musl-aarch64.so.1".to_owned());
        assert_eq!(of(183, true, b"/lib/ld-musl-aarch64.so.1\0"), ("aarch64".to_owned(), musl));
        assert_eq!(of(62, true, b""), ("x86-64".to_owned(), None));
        assert_eq!(of(40, false, b"/lib/ld.so\0"), ("arm".to_owned(), Some("/lib/ld.so".to_owned())));
        assert_eq!(of(9999, true, b"").0, "machine 9999");
    }

    #[test]
    fn this_very_program_is_for_this_machine() {
        let own = Program::read(&File::open("/proc/self/exe").unwrap());
        assert_eq!(own.machine, own_machine());
    }

    #[test]
    fn any_bytes_are_survived() {
        let whole = elf(62, true, b"/lib64/ld-linux-x86-64.so.2\0");
        for length in 0..whole.len() {
            program(&whole[..length]);
        }
        for at in 0..120 {
            let mut broken = whole.clone();
            broken[at] = 0xff;
            program(&broken);
        }
    }
}
