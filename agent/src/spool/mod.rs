//! Crash reports on the node's disk, from the death until the aggregator has stored them.
//!
//! # On disk
//! The directory (mode 0700) holds, all numbers little-endian:
//! - `spool-id`: 32 hexadecimal digits and a newline, made at random when the spool is created.
//! - `sequence`: a u64 and its CRC-32. Sequence numbers below it may have been used, so the next start begins there.
//! - `<first sequence, 20 digits>.segment`: the eight bytes `LWSPOOL1`, then records. A record is the payload's length (u32), the
//!   CRC-32 of length and payload (u32), and the payload, a protobuf `lastwords.v1.CrashReport`. A record counts only if its
//!   checksum holds; what follows the last such record was torn by a stop and is cut off at start, and behind a damaged place in the
//!   middle the next record is looked for.
//! - `acknowledged`: a u64 sequence and its CRC-32 for each report of a present segment that needs not be sent any more. A segment
//!   all of whose reports are acknowledged is deleted.
//! - `run`: whether the agent was asked to stop, and when it last lived ([`crate::last_run`]).
//! - `lock`: locked by the agent that uses the spool.
//!
//! # What a stop can cost
//! Nothing when only the agent is killed: what was appended is in the kernel's hands. A power failure or a kernel crash costs at
//! most the reports of the last second, because [`Spool::sync`] is called every second, and not for every report: 200 deaths at once
//! would wait for the disk 200 times. Sequence numbers are never given twice all the same, for they are reserved, and that is
//! synced, before they are used. A lost acknowledgement means that a report is sent once more, and stored once.
//!
//! # When it is full
//! At `max_bytes` the oldest segment, a sixteenth of the spool, is dropped with its reports. When the disk itself is full, up to
//! [`MEMORY_REPORTS`] reports are kept in memory and written as soon as there is room; of more, the oldest are dropped. Each
//! dropped report is counted ([`crate::counters`]).

mod acknowledgements;
mod identity;
mod segment;
mod store;

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lastwords_proto::v1;
use tokio::sync::Notify;

use store::Store;

/// Reports kept in memory while the disk is full: 64 of some 10 KiB are under a megabyte, and a full disk is no state to last.
pub const MEMORY_REPORTS: usize = 64;
/// Bytes of reports kept in memory while the disk is full.
pub const MEMORY_BYTES: usize = 4 * 1024 * 1024;
/// The largest report taken. One with every list full and a log tail of 50 long lines has about 300 KiB.
pub const MAX_REPORT_BYTES: usize = 1024 * 1024;

/// The reports that are not yet stored by the aggregator. Safe to share between threads; each call is short, and only
/// [`Spool::sync`] waits for the disk.
#[derive(Debug)]
pub struct Spool {
    store: Mutex<Store>,
    appended: Notify,
    _lock: File,
}

/// The spool's directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the spool directory {directory}: {reason}; {advice}")]
pub struct SpoolError {
    directory: String,
    reason: String,
    advice: &'static str,
}

impl Spool {
    /// Opens the spool in `directory`, which is made when it is missing, and reads what it holds.
    ///
    /// # Errors
    /// When the directory cannot be made or written to, or another agent uses it.
    pub fn open(directory: &Path, max_bytes: u64) -> Result<Self, SpoolError> {
        let fail = |error: std::io::Error| SpoolError {
            directory: directory.display().to_string(),
            reason: error.to_string(),
            advice: "give the agent a directory it may write to (spool_directory)",
        };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(fail)?;
        let lock = open_own(&directory.join("lock")).map_err(fail)?;
        if lock.try_lock().is_err() {
            return Err(SpoolError {
                directory: directory.display().to_string(),
                reason: "another lastwords-agent uses it".to_owned(),
                advice: "stop that one, or set another spool_directory",
            });
        }
        let store = Store::open(directory, max_bytes).map_err(fail)?;
        Ok(Self { store: Mutex::new(store), appended: Notify::new(), _lock: lock })
    }

    /// Takes a report and gives it its sequence number. `None` when it was too large and therefore dropped.
    pub fn append(&self, crash: v1::Crash) -> Option<u64> {
        let sequence = self.lock().append(crash);
        self.appended.notify_one();
        sequence
    }

    /// The oldest report after the sequence number `after` that is not acknowledged; 0 begins at the oldest of all.
    #[must_use]
    pub fn next_after(&self, after: u64) -> Option<v1::CrashReport> {
        self.lock().next_after(after)
    }

    /// The report of that sequence number, unless it is acknowledged or was dropped.
    #[must_use]
    pub fn get(&self, sequence: u64) -> Option<v1::CrashReport> {
        self.next_after(sequence.checked_sub(1)?).filter(|report| report.sequence == sequence)
    }

    /// Forgets a report. False when it was not there any more.
    pub fn acknowledge(&self, sequence: u64) -> bool {
        self.lock().acknowledge(sequence)
    }

    /// How many reports are not acknowledged.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.lock().pending()
    }

    /// Bytes of its files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.lock().bytes()
    }

    /// Makes what was appended safe from a power failure, and writes what waits in memory when the disk has room again. Waits for
    /// the disk: call it once a second, not from an asynchronous task's own thread.
    pub fn sync(&self) {
        let file = self.lock().prepare_sync();
        if let Some(Err(error)) = file.map(|file| file.sync_data()) {
            self.lock().note_failure(&error);
        }
    }

    /// Resolves once a report was appended since the last call resolved.
    pub async fn appended(&self) {
        self.appended.notified().await;
    }

    /// A panic while the lock was held leaves at worst a report that is sent twice; going on is better than losing all.
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a file of the spool for reading and writing, and makes it when it is missing; only its owner can read it.
pub(crate) fn open_own(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Puts `bytes` into a file at once: after a stop it holds either what it held before, or them.
fn replace_file(directory: &Path, name: &str, bytes: &[u8]) -> std::io::Result<PathBuf> {
    use std::io::Write;
    let path = directory.join(name);
    let new = directory.join(format!("{name}.new"));
    let mut file = open_own(&new)?;
    file.set_len(0)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    std::fs::rename(&new, &path)?;
    File::open(directory)?.sync_data()?;
    Ok(path)
}

#[cfg(test)]
mod tests;
