//! A program file of a container, as far as names are made of it: its build id, and a copy of its symbols.
//!
//! The library that looks symbols up maps the file it is given into memory, and who can write to a mapped file can cut it short and so
//! kill whoever reads it. Hence a copy of our own, with holes where the code is: header, symbols, and what tells lines.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::sys::memfd::{MFdFlags, memfd_create};

/// `Elf64_Ehdr`, `Elf64_Phdr`, `Elf64_Shdr` (elf.h).
const HEADER_BYTES: usize = 64;
const SEGMENT_BYTES: usize = 56;
const SECTION_BYTES: usize = 64;
/// Linkers write about a dozen segments and forty sections. What has more is not looked at.
const MOST_SEGMENTS: usize = 64;
const MOST_SECTIONS: usize = 1024;
/// Bytes of notes and of section names that are read; a few hundred are usual.
const NOTE_BYTES: u64 = 4096;
const NAMES_BYTES: u64 = 64 * 1024;
/// Bytes of symbols that are copied: those of a browser's engine, unstripped, have about 50 MiB. A file with more has no names.
const SYMBOL_BYTES: u64 = 64 << 20;
/// Bytes of debug information that are copied beside them. A file with more has names and no lines.
const DEBUG_BYTES: u64 = 64 << 20;
/// Bytes copied at a time.
const CHUNK_BYTES: usize = 256 * 1024;

const NOTE_SEGMENT: u32 = 4;
const NO_SECTION: u32 = 0;
const SYMBOLS: u32 = 2;
const STRINGS: u32 = 3;
const DYNAMIC_SYMBOLS: u32 = 11;
const COMPRESSED: u64 = 0x800;
const BUILD_ID_NOTE: u32 = 3;

/// An ELF file of a 64-bit little-endian machine.
pub(super) struct Module {
    file: File,
    header: Vec<u8>,
    segments: Vec<u8>,
}

/// One section's place and kind.
struct Section {
    kind: u32,
    flags: u64,
    at: u64,
    bytes: u64,
    name: usize,
}

impl Module {
    /// Reads the headers; `None` for anything else than such a file.
    pub(super) fn read(file: File) -> Option<Self> {
        let header = read_at(&file, 0, HEADER_BYTES)?;
        let is_ours = header.starts_with(b"\x7fELF\x02\x01");
        let count = usize::from(u16_at(&header, 56)?);
        if !is_ours || count > MOST_SEGMENTS || usize::from(u16_at(&header, 54)?) != SEGMENT_BYTES {
            return None;
        }
        let segments = read_at(&file, u64_at(&header, 32)?, count * SEGMENT_BYTES)?;
        Some(Self { file, header, segments })
    }

    /// Its GNU build id, empty when it has none.
    pub(super) fn build_id(&self) -> Vec<u8> {
        let notes = self.segments.chunks(SEGMENT_BYTES).filter(|it| u32_at(it, 0) == Some(NOTE_SEGMENT));
        notes
            .filter_map(|segment| {
                let bytes = u64_at(segment, 32)?.min(NOTE_BYTES);
                build_id_in(&read_at(&self.file, u64_at(segment, 8)?, usize::try_from(bytes).ok()?)?)
            })
            .next()
            .unwrap_or_default()
    }

    /// The copy: sections that are not copied are marked as absent.
    pub(super) fn copy(&self) -> Option<File> {
        let count = usize::from(u16_at(&self.header, 60)?);
        if count > MOST_SECTIONS || usize::from(u16_at(&self.header, 58)?) != SECTION_BYTES {
            return None;
        }
        let sections_at = u64_at(&self.header, 40)?;
        let mut sections = read_at(&self.file, sections_at, count * SECTION_BYTES)?;
        let parsed: Vec<Section> = sections.chunks(SECTION_BYTES).filter_map(section).collect();
        let names = parsed.get(usize::from(u16_at(&self.header, 62)?))?;
        let names = read_at(&self.file, names.at, usize::try_from(names.bytes.min(NAMES_BYTES)).ok()?)?;
        let is_symbols = |it: &Section| matches!(it.kind, SYMBOLS | STRINGS | DYNAMIC_SYMBOLS);
        let is_debug = |it: &Section| {
            let name = names.get(it.name..).unwrap_or_default();
            name.starts_with(b".debug_") && it.flags & COMPRESSED == 0
        };
        let total = |wanted: &dyn Fn(&Section) -> bool| {
            parsed.iter().filter(|it| wanted(it)).fold(0_u64, |sum, it| sum.saturating_add(it.bytes))
        };
        if total(&is_symbols) > SYMBOL_BYTES {
            return None;
        }
        let with_lines = total(&is_debug) <= DEBUG_BYTES;
        let copy = File::from(memfd_create("module", MFdFlags::MFD_CLOEXEC).ok()?);
        for (section, raw) in parsed.iter().zip(sections.chunks_mut(SECTION_BYTES)) {
            if is_symbols(section) || (with_lines && is_debug(section)) {
                transfer(&self.file, &copy, section.at, section.bytes).ok()?;
            } else if let Some(kind) = raw.get_mut(4..8) {
                kind.copy_from_slice(&NO_SECTION.to_le_bytes());
            }
        }
        copy.write_all_at(&self.header, 0).ok()?;
        copy.write_all_at(&self.segments, u64_at(&self.header, 32)?).ok()?;
        copy.write_all_at(&sections, sections_at).ok()?;
        Some(copy)
    }
}

fn section(raw: &[u8]) -> Option<Section> {
    Some(Section {
        name: usize::try_from(u32_at(raw, 0)?).ok()?,
        kind: u32_at(raw, 4)?,
        flags: u64_at(raw, 8)?,
        at: u64_at(raw, 24)?,
        bytes: u64_at(raw, 32)?,
    })
}

/// `Elf64_Nhdr`s, one after the other, each part filled up to four bytes.
fn build_id_in(mut notes: &[u8]) -> Option<Vec<u8>> {
    loop {
        let name_bytes = usize::try_from(u32_at(notes, 0)?).ok()?;
        let content_bytes = usize::try_from(u32_at(notes, 4)?).ok()?;
        let kind = u32_at(notes, 8)?;
        let name = notes.get(12..)?.get(..name_bytes)?;
        let after_name = notes.get(12..)?.get(name_bytes.checked_next_multiple_of(4)?..)?;
        let content = after_name.get(..content_bytes)?;
        if kind == BUILD_ID_NOTE && name == b"GNU\0" {
            return Some(content.to_vec());
        }
        notes = after_name.get(content_bytes.checked_next_multiple_of(4)?..)?;
    }
}

fn transfer(from: &File, to: &File, at: u64, bytes: u64) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES.min(usize::try_from(bytes).unwrap_or(CHUNK_BYTES))];
    let mut done = 0;
    while done < bytes {
        let chunk = usize::try_from(bytes - done).unwrap_or(CHUNK_BYTES).min(buffer.len());
        let chunk = buffer.get_mut(..chunk).unwrap_or_default();
        let place = at.checked_add(done).ok_or(io::ErrorKind::InvalidData)?;
        from.read_exact_at(chunk, place)?;
        to.write_all_at(chunk, place)?;
        done += chunk.len() as u64;
    }
    Ok(())
}

fn read_at(file: &File, at: u64, bytes: usize) -> Option<Vec<u8>> {
    let mut buffer = vec![0; bytes];
    file.read_exact_at(&mut buffer, at).ok()?;
    Some(buffer)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_id_is_found_behind_other_notes() {
        let other =
            [&4_u32.to_le_bytes()[..], &5_u32.to_le_bytes(), &1_u32.to_le_bytes(), b"GNU\0", b"12345\0\0\0"];
        let id =
            [&4_u32.to_le_bytes()[..], &3_u32.to_le_bytes(), &3_u32.to_le_bytes(), b"GNU\0", b"\xaa\xbb\0\0"];
        let notes = [other.concat(), id.concat()].concat();
        assert_eq!(build_id_in(&notes), Some(vec![0xaa, 0xbb, 0]));
        for cut in 0..notes.len() - 1 {
            assert_eq!(build_id_in(&notes[..cut]), None, "{cut}");
        }
        assert_eq!(build_id_in(&[0xff; 40]), None);
    }

    #[test]
    fn a_copy_has_the_symbols_and_not_the_code() {
        let own = File::open("/proc/self/exe").unwrap();
        let module = Module::read(own.try_clone().unwrap()).unwrap();
        let copy = module.copy().unwrap();
        let copied = Module::read(copy.try_clone().unwrap()).unwrap();
        assert_eq!(copied.segments, module.segments);
        let held = std::os::unix::fs::MetadataExt::blocks(&copy.metadata().unwrap()) * 512;
        assert!(held < own.metadata().unwrap().len(), "{held} bytes are no part");
    }

    #[test]
    fn what_is_no_program_is_none() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        let own = std::fs::read("/proc/self/exe").unwrap();
        let mut endless = own[..HEADER_BYTES].to_vec();
        endless[40..48].copy_from_slice(&u64::MAX.to_le_bytes());
        endless.resize(4096, 0xff);
        for content in [&b""[..], b"\x7fELF\x02\x01", b"#!/bin/sh\n", &[0xff; 4096], &own[..100], &endless] {
            std::fs::write(&file, content).unwrap();
            let module = Module::read(File::open(&file).unwrap());
            assert!(module.is_none_or(|module| module.build_id().is_empty() && module.copy().is_none()));
        }
    }
}
