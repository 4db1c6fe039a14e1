//! What goes wrong with a store, in sentences.

use std::path::Path;

use rusqlite::ErrorCode;

/// What went wrong, for those who must decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No room on the disk.
    Full,
    /// Another process holds it.
    Locked,
    /// The file may not be written or opened.
    NotWritable,
    /// The file is damaged, or no database of ours.
    Damaged,
    /// The aggregator is stopping.
    Closed,
    /// Anything else.
    Failed,
}

/// A store could not do what it was asked to. Nothing stored before is lost by it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{sentence}")]
pub struct StoreError {
    /// What went wrong.
    pub kind: Kind,
    /// What, where, and what to do.
    pub sentence: String,
}

impl StoreError {
    pub(super) fn new(kind: Kind, sentence: String) -> Self {
        Self { kind, sentence }
    }

    pub(super) fn closed() -> Self {
        Self::new(Kind::Closed, "the store is closed because the aggregator is stopping".to_owned())
    }

    pub(super) fn from_sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        let path = path.display();
        let code = error.sqlite_error_code();
        let (kind, sentence) = match code {
            Some(ErrorCode::DiskFull) => (
                Kind::Full,
                format!(
                    "no room on the disk for the store {path}: make room there, or lower retention.max_bytes"
                ),
            ),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
                Kind::Locked,
                format!(
                    "the store {path} is locked by another process: only one aggregator may use it, end the other one"
                ),
            ),
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => (
                Kind::NotWritable,
                format!(
                    "the store {path} cannot be opened for writing ({error}): check that its directory exists and is writable"
                ),
            ),
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => (
                Kind::Damaged,
                format!(
                    "the store {path} is damaged or no SQLite database ({error}): move the file away, keep it for repair with \
                     `sqlite3 FILE .recover`, and start again with an empty one"
                ),
            ),
            _ => (Kind::Failed, format!("the store {path} failed: {error}")),
        };
        Self::new(kind, sentence)
    }
}
