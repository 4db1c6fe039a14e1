//! The file that says which reports of the present segments need not be sent any more.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{open_own, replace_file};

const NAME: &str = "acknowledged";
const ENTRY: usize = 12;
/// Below this size the file is not worth rewriting: 5 461 entries.
const SMALL: u64 = 64 * 1024;

#[derive(Debug)]
pub(super) struct Acknowledgements {
    directory: PathBuf,
    file: File,
    end: u64,
    rewrite_at: u64,
}

impl Acknowledgements {
    /// Opens the file and reads it. Damaged entries count as not written.
    pub(super) fn open(directory: &Path) -> io::Result<(Self, Vec<u64>)> {
        let path = directory.join(NAME);
        let file = open_own(&path)?;
        let bytes = std::fs::read(&path)?;
        let (entries, _torn) = bytes.as_chunks::<ENTRY>();
        let end = (entries.len() * ENTRY) as u64;
        let sequences = entries.iter().filter_map(decode).collect();
        Ok((Self { directory: directory.to_owned(), file, end, rewrite_at: SMALL.max(2 * end) }, sequences))
    }

    /// Writes down one more.
    pub(super) fn append(&mut self, sequence: u64) -> io::Result<()> {
        self.file.write_all_at(&encode(sequence), self.end)?;
        self.end += ENTRY as u64;
        Ok(())
    }

    /// True when most of the file may be about segments that are gone.
    pub(super) fn is_worth_rewriting(&self) -> bool {
        self.end >= self.rewrite_at
    }

    /// Keeps only these.
    pub(super) fn rewrite(&mut self, sequences: impl Iterator<Item = u64>) -> io::Result<()> {
        let bytes: Vec<u8> = sequences.flat_map(encode).collect();
        // When this fails the old file stays in use, and is not tried again before it doubled.
        self.rewrite_at = SMALL.max(2 * self.end);
        let path = replace_file(&self.directory, NAME, &bytes)?;
        self.file = open_own(&path)?;
        self.end = bytes.len() as u64;
        self.rewrite_at = SMALL.max(2 * self.end);
        Ok(())
    }
}

fn encode(sequence: u64) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    let (number, checksum) = entry.split_at_mut(8);
    number.copy_from_slice(&sequence.to_le_bytes());
    checksum.copy_from_slice(&crc32fast::hash(number).to_le_bytes());
    entry
}

fn decode(entry: &[u8; ENTRY]) -> Option<u64> {
    let (number, checksum) = entry.split_first_chunk::<8>()?;
    (crc32fast::hash(number).to_le_bytes() == checksum).then(|| u64::from_le_bytes(*number))
}
