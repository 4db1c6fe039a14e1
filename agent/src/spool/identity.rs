//! The spool's identity and its sequence numbers, which together name a report for ever.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{open_own, replace_file};

/// Sequence numbers reserved at a time, so that the disk is waited for once in so many reports. After a kill, at most so many are
/// skipped.
const RESERVED_AT_ONCE: u64 = 1024;

/// Gives out pairs of spool id and sequence number, none of them twice.
#[derive(Debug)]
pub(super) struct Identity {
    id: String,
    next: u64,
    /// The first number not reserved; `None` when numbers cannot be reserved and `id` therefore lives only in this process.
    reserved: Option<u64>,
    file: File,
}

impl Identity {
    /// Reads the identity of the spool in `directory`, where numbers up to `highest_seen` are in use. Where either of its files is
    /// missing or damaged, the numbers used so far are not known, and a new identity is made.
    pub(super) fn open(directory: &Path, highest_seen: u64) -> io::Result<Self> {
        let file = open_own(&directory.join("sequence"))?;
        let known = read_id(directory).zip(read_reserved(&file));
        let next = highest_seen.saturating_add(1).max(known.as_ref().map_or(1, |(_, reserved)| *reserved));
        let id = match known {
            Some((id, _)) => id,
            None => {
                let id = random_id()?;
                replace_file(directory, "spool-id", format!("{id}\n").as_bytes())?;
                id
            }
        };
        let mut identity = Self { id, next, reserved: None, file };
        identity.reserve(next.saturating_add(RESERVED_AT_ONCE))?;
        Ok(identity)
    }

    /// The next pair of spool id and sequence number.
    pub(super) fn take(&mut self) -> (String, u64) {
        if self.reserved.is_some_and(|reserved| self.next >= reserved)
            && self.reserve(self.next.saturating_add(RESERVED_AT_ONCE)).is_err()
        {
            // Numbers that are not reserved could be given again after a restart; under another id they name other reports.
            self.reserved = None;
            self.id = random_id().unwrap_or_else(|_| format!("{:032x}", crate::clock::now().0));
        }
        let sequence = self.next;
        self.next = self.next.saturating_add(1);
        (self.id.clone(), sequence)
    }

    fn reserve(&mut self, up_to: u64) -> io::Result<()> {
        let number = up_to.to_le_bytes();
        let bytes = [number.as_slice(), &crc32fast::hash(&number).to_le_bytes()].concat();
        // Written in place: a full disk has room for what is there already.
        self.file.write_all_at(&bytes, 0)?;
        self.file.sync_data()?;
        self.reserved = Some(up_to);
        Ok(())
    }
}

impl Drop for Identity {
    /// Gives back what was reserved and not used. Where that fails, numbers are skipped.
    fn drop(&mut self) {
        if self.reserved.is_some() {
            let _ = self.reserve(self.next);
        }
    }
}

fn read_id(directory: &Path) -> Option<String> {
    let text = std::fs::read_to_string(directory.join("spool-id")).ok()?;
    let id = text.strip_suffix('\n')?;
    let is_id = id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_id.then(|| id.to_owned())
}

fn read_reserved(file: &File) -> Option<u64> {
    let mut number = [0; 8];
    let mut checksum = [0; 4];
    file.read_exact_at(&mut number, 0).ok()?;
    file.read_exact_at(&mut checksum, 8).ok()?;
    (crc32fast::hash(&number) == u32::from_le_bytes(checksum)).then(|| u64::from_le_bytes(number))
}

fn random_id() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(format!("no random numbers: {error}")))?;
    Ok(format!("{:032x}", u128::from_le_bytes(bytes)))
}
