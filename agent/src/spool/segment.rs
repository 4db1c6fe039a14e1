//! One segment file: records one after the other, appended to while it is the newest.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lastwords_proto::v1;
use prost::Message;

use super::{MAX_REPORT_BYTES, open_own};

const MAGIC: &[u8; 8] = b"LWSPOOL1";
const RECORD_HEADER: usize = 8;
/// How a report begins: field 1, the spool's id, which has 32 digits.
const REPORT_BEGINS: [u8; 2] = [0x0a, 32];
/// Bytes by which the beginning of a record is told from anything else, before its checksum is looked at.
const RECORD_BEGINS: usize = RECORD_HEADER + REPORT_BEGINS.len() + 32;
/// Bytes read at a time where a record is looked for.
const CHUNK: u64 = 64 * 1024;

/// Bytes that a record of so many bytes of payload takes.
pub(super) fn record_bytes(payload: usize) -> u64 {
    (RECORD_HEADER + payload) as u64
}

/// Where a record stands in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    offset: u64,
    payload: u32,
}

/// What was found in a segment when it was opened.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Sequence numbers and where their records stand.
    pub(super) records: Vec<(u64, Position)>,
    /// Places between good records where something else stands: a report was lost at each, at least.
    pub(super) corrupt: u64,
    /// Bytes after the last good record.
    pub(super) torn_bytes: u64,
}

#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: Arc<File>,
    /// Where the next record goes.
    end: u64,
}

impl Segment {
    /// Makes a segment whose first record will be `first`.
    pub(super) fn create(directory: &Path, first: u64) -> io::Result<Self> {
        let path = directory.join(format!("{first:020}.segment"));
        let file = open_own(&path)?;
        let written = file
            .set_len(0)
            .and_then(|()| file.write_all_at(MAGIC, 0))
            .and_then(|()| File::open(directory)?.sync_data());
        if let Err(error) = written {
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        Ok(Self { path, file: Arc::new(file), end: MAGIC.len() as u64 })
    }

    /// Opens a segment and reads through it. What follows the last good record is not part of it any more.
    pub(super) fn open(path: PathBuf) -> io::Result<(Self, Found)> {
        let file = open_own(&path)?;
        let length = file.metadata()?.len();
        let mut found = Found::default();
        let mut good_end = MAGIC.len() as u64;
        while let Some((position, report)) = next_report(&file, good_end, length) {
            found.corrupt += u64::from(position.offset > good_end);
            found.records.push((report.sequence, position));
            good_end = position.offset + record_bytes(position.payload as usize);
        }
        // Stopped while it was made, or damaged.
        if read_at(&file, 0, MAGIC.len()).is_none_or(|magic| magic != MAGIC) {
            file.write_all_at(MAGIC, 0)?;
        }
        found.torn_bytes = length.saturating_sub(good_end);
        if found.torn_bytes > 0 {
            file.set_len(good_end)?;
        }
        Ok((Self { path, file: Arc::new(file), end: good_end }, found))
    }

    /// Bytes on the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.end
    }

    pub(super) fn is_empty(&self) -> bool {
        self.end == MAGIC.len() as u64
    }

    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Appends a record. After an error the segment is as it was before.
    pub(super) fn append(&mut self, payload: &[u8]) -> io::Result<Position> {
        let too_large = |_| io::Error::new(io::ErrorKind::InvalidInput, "a record of 4 GiB");
        let position =
            Position { offset: self.end, payload: u32::try_from(payload.len()).map_err(too_large)? };
        let length = position.payload.to_le_bytes();
        let mut record = Vec::with_capacity(RECORD_HEADER + payload.len());
        record.extend_from_slice(&length);
        record.extend_from_slice(&checksum(&length, payload).to_le_bytes());
        record.extend_from_slice(payload);
        if let Err(error) = self.file.write_all_at(&record, self.end) {
            // Should this fail too, the next record is written over the torn one, and a start cuts it off.
            let _ = self.file.set_len(self.end);
            return Err(error);
        }
        self.end += record.len() as u64;
        Ok(position)
    }

    /// The report at a position; `None` when it cannot be read or its checksum does not hold any more.
    pub(super) fn read(&self, position: Position) -> Option<v1::CrashReport> {
        report_at(&self.file, position.offset, self.end).map(|(_, report)| report)
    }

    /// Deletes the file. Where that fails its reports come back at the next start, and are stored once all the same.
    pub(super) fn delete(self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(
                "cannot delete {}: {error}; its reports will be sent again after a restart",
                self.path.display()
            );
        }
    }
}

/// The first good report at `from` or after it. A damaged length leads nowhere, so that each byte may be where the next one begins.
fn next_report(file: &File, from: u64, end: u64) -> Option<(Position, v1::CrashReport)> {
    if let Some(found) = report_at(file, from, end) {
        return Some(found);
    }
    let mut at = from;
    while at.checked_add(RECORD_BEGINS as u64)? <= end {
        let size = CHUNK.min(end - at);
        let bytes = read_at(file, at, usize::try_from(size).ok()?)?;
        let begins = bytes.windows(RECORD_BEGINS).zip(at..).filter(|(bytes, _)| begins_record(bytes));
        if let Some(found) = begins.filter_map(|(_, offset)| report_at(file, offset, end)).next() {
            return Some(found);
        }
        at += size + 1 - RECORD_BEGINS as u64;
    }
    None
}

fn begins_record(bytes: &[u8]) -> bool {
    let report = bytes.get(RECORD_HEADER..).unwrap_or_default();
    report.strip_prefix(&REPORT_BEGINS).is_some_and(|id| id.iter().all(u8::is_ascii_hexdigit))
}

fn report_at(file: &File, offset: u64, end: u64) -> Option<(Position, v1::CrashReport)> {
    let (position, payload) = read_record(file, offset, end)?;
    Some((position, v1::CrashReport::decode(payload?.as_slice()).ok()?))
}

/// The record at `offset`: where it stands, and its payload if the checksum holds. `None` when no whole record stands there.
fn read_record(file: &File, offset: u64, end: u64) -> Option<(Position, Option<Vec<u8>>)> {
    let header = read_at(file, offset, RECORD_HEADER)?;
    let (length, expected) = header.split_first_chunk::<4>()?;
    let expected = u32::from_le_bytes(expected.try_into().ok()?);
    let payload_length = u32::from_le_bytes(*length);
    let size = payload_length as usize;
    if size == 0 || size > MAX_REPORT_BYTES || offset.checked_add(record_bytes(size))? > end {
        return None;
    }
    let payload = read_at(file, offset + RECORD_HEADER as u64, size)?;
    let holds = checksum(length, &payload) == expected;
    Some((Position { offset, payload: payload_length }, holds.then_some(payload)))
}

fn read_at(file: &File, offset: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

fn checksum(length: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(length);
    hasher.update(payload);
    hasher.finalize()
}
