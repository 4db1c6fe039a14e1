//! The spool's state: which reports there are, on the disk or in memory, and which of them are acknowledged.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lastwords_proto::v1;
use prost::Message;

use super::acknowledgements::Acknowledgements;
use super::identity::Identity;
use super::segment::{Position, Segment, record_bytes};
use super::{MAX_REPORT_BYTES, MEMORY_BYTES, MEMORY_REPORTS};
use crate::counters;

/// A segment is this part of the spool: what is dropped at once when the spool is full.
const SEGMENTS: u64 = 16;
/// Smaller segments would be deleted and made for every few reports.
const SMALLEST_SEGMENT: u64 = 64 * 1024;

#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    max_bytes: u64,
    segment_bytes: u64,
    identity: Identity,
    acknowledgements: Acknowledgements,
    /// By the lowest sequence they may hold; the last one is appended to.
    segments: BTreeMap<u64, Tracked>,
    /// Encoded reports that the disk had no room for.
    memory: BTreeMap<u64, Vec<u8>>,
    unsynced: bool,
    disk_fails: bool,
}

/// A segment and what became of its reports.
#[derive(Debug)]
struct Tracked {
    segment: Segment,
    pending: BTreeMap<u64, Position>,
    acknowledged: Vec<u64>,
}

impl Store {
    pub(super) fn open(directory: &Path, max_bytes: u64) -> io::Result<Self> {
        let (acknowledgements, acknowledged) = Acknowledgements::open(directory)?;
        let acknowledged: HashSet<u64> = acknowledged.into_iter().collect();
        let mut segments = BTreeMap::new();
        let mut highest_seen = acknowledged.iter().copied().max().unwrap_or(0);
        for (first, path) in segment_files(directory)? {
            let (segment, found) = Segment::open(path)?;
            counters::SPOOL_DROPPED_CORRUPT.add(found.corrupt);
            counters::SPOOL_TORN_BYTES.add(found.torn_bytes);
            let (done, pending): (Vec<_>, Vec<_>) =
                found.records.into_iter().partition(|(sequence, _)| acknowledged.contains(sequence));
            let tracked = Tracked {
                segment,
                acknowledged: done.into_iter().map(|(sequence, _)| sequence).collect(),
                pending: pending.into_iter().collect(),
            };
            highest_seen = highest_seen.max(first.saturating_sub(1)).max(tracked.highest());
            segments.insert(first, tracked);
        }
        let mut store = Self {
            directory: directory.to_owned(),
            max_bytes,
            segment_bytes: (max_bytes / SEGMENTS).max(SMALLEST_SEGMENT),
            identity: Identity::open(directory, highest_seen)?,
            acknowledgements,
            segments,
            memory: BTreeMap::new(),
            unsynced: false,
            disk_fails: false,
        };
        store.delete_finished_segments();
        store.rewrite_acknowledgements();
        Ok(store)
    }

    pub(super) fn append(&mut self, crash: v1::Crash) -> Option<u64> {
        let (spool_id, sequence) = self.identity.take();
        let payload = v1::CrashReport { spool_id, sequence, crash: Some(crash) }.encode_to_vec();
        let largest = usize::try_from(self.max_bytes / 4).unwrap_or(usize::MAX).min(MAX_REPORT_BYTES);
        if payload.len() > largest {
            counters::SPOOL_DROPPED_TOO_LARGE.increment();
            tracing::warn!(
                "dropped a crash report of {} bytes: the spool takes {largest} at most",
                payload.len()
            );
            return None;
        }
        counters::REPORTS_SPOOLED.increment();
        self.write_from_memory();
        if !self.memory.is_empty() || !self.write(sequence, &payload) {
            self.keep_in_memory(sequence, payload);
        }
        Some(sequence)
    }

    pub(super) fn next_after(&mut self, after: u64) -> Option<v1::CrashReport> {
        loop {
            let on_disk = self.first_on_disk_after(after);
            let in_memory = self.memory.range(after.checked_add(1)?..).next();
            match (on_disk, in_memory) {
                (Some((sequence, ..)), Some((earlier, payload))) if *earlier < sequence => {
                    return v1::CrashReport::decode(payload.as_slice()).ok();
                }
                (None, Some((_, payload))) => return v1::CrashReport::decode(payload.as_slice()).ok(),
                (None, None) => return None,
                (Some((sequence, first, position)), _) => {
                    let tracked = self.segments.get_mut(&first)?;
                    if let Some(report) = tracked.segment.read(position) {
                        return Some(report);
                    }
                    tracked.pending.remove(&sequence);
                    counters::SPOOL_DROPPED_CORRUPT.increment();
                    tracing::warn!(
                        "dropped crash report {sequence}: what is on the disk does not match its checksum"
                    );
                }
            }
        }
    }

    pub(super) fn acknowledge(&mut self, sequence: u64) -> bool {
        if self.memory.remove(&sequence).is_some() {
            return true;
        }
        let Some(tracked) = self.segments.range_mut(..=sequence).next_back().map(|(_, tracked)| tracked)
        else {
            return false;
        };
        if tracked.pending.remove(&sequence).is_none() {
            return false;
        }
        tracked.acknowledged.push(sequence);
        let is_finished = tracked.pending.is_empty();
        // Without its entry the report is sent once more after a restart, and stored once.
        if let Err(error) = self.acknowledgements.append(sequence) {
            self.note_failure(&error);
        }
        if is_finished {
            self.delete_finished_segments();
        }
        if self.acknowledgements.is_worth_rewriting() {
            self.rewrite_acknowledgements();
        }
        true
    }

    pub(super) fn pending(&self) -> usize {
        self.memory.len() + self.segments.values().map(|tracked| tracked.pending.len()).sum::<usize>()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.values().map(|tracked| tracked.segment.bytes()).sum()
    }

    /// Writes what waits in memory, and gives the file to be synced, if there is anything new in it.
    pub(super) fn prepare_sync(&mut self) -> Option<Arc<File>> {
        self.write_from_memory();
        let newest = self.segments.last_key_value().map(|(_, tracked)| tracked.segment.file());
        newest.filter(|_| std::mem::take(&mut self.unsynced))
    }

    /// Counts a write that failed, and says so at the first one.
    pub(super) fn note_failure(&mut self, error: &io::Error) {
        counters::SPOOL_WRITE_ERRORS.increment();
        if !std::mem::replace(&mut self.disk_fails, true) {
            tracing::warn!(
                "cannot write to the spool {}: {error}; up to {MEMORY_REPORTS} crash reports are kept in memory meanwhile: \
                 free some space there",
                self.directory.display()
            );
        }
    }

    fn first_on_disk_after(&self, after: u64) -> Option<(u64, u64, Position)> {
        let earlier = self.segments.range(..=after).next_back();
        let later = self.segments.range(after.checked_add(1)?..);
        earlier.into_iter().chain(later).find_map(|(first, tracked)| {
            let (sequence, position) = tracked.pending.range(after.checked_add(1)?..).next()?;
            Some((*sequence, *first, *position))
        })
    }

    /// Writes a report to the newest segment, or to a new one. False when the disk does not take it.
    fn write(&mut self, sequence: u64, payload: &[u8]) -> bool {
        if let Err(error) = self.try_write(sequence, payload) {
            self.note_failure(&error);
            return false;
        }
        if self.memory.is_empty() && std::mem::take(&mut self.disk_fails) {
            tracing::info!("the spool {} can be written to again", self.directory.display());
        }
        true
    }

    fn try_write(&mut self, sequence: u64, payload: &[u8]) -> io::Result<()> {
        let bytes = record_bytes(payload.len());
        self.make_room(bytes);
        let newest = self.segments.last_key_value().map(|(_, tracked)| &tracked.segment);
        if newest.is_none_or(|newest| !newest.is_empty() && newest.bytes() + bytes > self.segment_bytes) {
            self.start_segment(sequence)?;
        }
        if let Some(mut newest) = self.segments.last_entry() {
            let tracked = newest.get_mut();
            let position = tracked.segment.append(payload)?;
            tracked.pending.insert(sequence, position);
            self.unsynced = true;
        }
        Ok(())
    }

    fn start_segment(&mut self, first: u64) -> io::Result<()> {
        if let Some((_, finished)) = self.segments.last_key_value()
            && self.unsynced
        {
            finished.segment.file().sync_data()?;
        }
        let segment = Segment::create(&self.directory, first)?;
        self.segments.insert(first, Tracked { segment, pending: BTreeMap::new(), acknowledged: Vec::new() });
        self.delete_finished_segments();
        Ok(())
    }

    /// Drops the oldest segments until `bytes` more fit.
    fn make_room(&mut self, bytes: u64) {
        while self.segments.values().map(|tracked| tracked.segment.bytes()).sum::<u64>() + bytes
            > self.max_bytes
        {
            let Some((_, oldest)) = self.segments.pop_first() else {
                return;
            };
            let dropped = oldest.pending.len();
            if dropped > 0 {
                counters::SPOOL_DROPPED_FULL.add(dropped as u64);
                tracing::warn!(
                    "the spool is full ({} bytes): dropped its {dropped} oldest crash reports; look at why the aggregator does \
                     not take them, or raise spool_max_bytes",
                    self.max_bytes
                );
            }
            oldest.segment.delete();
        }
    }

    fn keep_in_memory(&mut self, sequence: u64, payload: Vec<u8>) {
        self.memory.insert(sequence, payload);
        while self.memory.len() > MEMORY_REPORTS
            || self.memory.values().map(Vec::len).sum::<usize>() > MEMORY_BYTES
        {
            self.memory.pop_first();
            counters::SPOOL_DROPPED_MEMORY.increment();
        }
    }

    /// Writes what waits in memory, oldest first, until the disk refuses.
    fn write_from_memory(&mut self) {
        while let Some((sequence, payload)) = self.memory.pop_first() {
            if !self.write(sequence, &payload) {
                self.memory.insert(sequence, payload);
                return;
            }
        }
    }

    /// Deletes the segments without reports to send, but never the newest: its name keeps the sequence from starting over.
    fn delete_finished_segments(&mut self) {
        let Some(newest) = self.segments.last_key_value().map(|(first, _)| *first) else {
            return;
        };
        let is_finished = |first: u64, tracked: &mut Tracked| first != newest && tracked.pending.is_empty();
        for (_, finished) in self.segments.extract_if(.., |first, tracked| is_finished(*first, tracked)) {
            finished.segment.delete();
        }
    }

    fn rewrite_acknowledgements(&mut self) {
        let sequences = self.segments.values().flat_map(|tracked| tracked.acknowledged.iter().copied());
        if let Err(error) = self.acknowledgements.rewrite(sequences) {
            self.note_failure(&error);
        }
    }
}

impl Tracked {
    fn highest(&self) -> u64 {
        let pending = self.pending.last_key_value().map_or(0, |(sequence, _)| *sequence);
        self.acknowledged.iter().copied().max().unwrap_or(0).max(pending)
    }
}

/// The segment files in `directory` with the numbers in their names.
fn segment_files(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".segment"));
        if let Some(first) = name.and_then(|name| name.parse().ok()) {
            files.push((first, path));
        }
    }
    Ok(files)
}

impl Drop for Store {
    /// Leaves nothing to the kernel that a power failure could take. What waits in memory gets its last chance.
    fn drop(&mut self) {
        if let Some(file) = self.prepare_sync() {
            let _ = file.sync_data();
        }
    }
}
