//! How long and how much is kept.

use std::time::Duration;

use rusqlite::{Connection, params};

/// Reports removed in one transaction: small enough that reports waiting to be stored wait some milliseconds.
const STEP: u32 = 200;

/// What is kept at most; beyond it the oldest reports go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Age since it was received.
    pub max_age: Duration,
    /// Bytes in use in the database file.
    pub max_bytes: u64,
}

impl Default for Retention {
    /// Thirty days: a month's regressions can still be compared. 2 GiB: about 200 000 crashes of 10 KiB each.
    fn default() -> Self {
        Self { max_age: Duration::from_secs(30 * 24 * 3600), max_bytes: 2 << 30 }
    }
}

/// Reports removed, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Removed {
    pub(super) too_old: u64,
    pub(super) too_much: u64,
}

/// Removes what is beyond the bounds; nothing by its age without a time to tell it by.
pub(super) fn enforce(
    connection: &Connection,
    retention: &Retention,
    now: Option<i64>,
) -> rusqlite::Result<Removed> {
    let mut removed = Removed::default();
    let max_age = i64::try_from(retention.max_age.as_nanos()).unwrap_or(i64::MAX);
    let by_age = "DELETE FROM reports WHERE row IN (SELECT row FROM reports WHERE received_at < ?1 LIMIT ?2)";
    while let Some(oldest) = now.map(|now| now.saturating_sub(max_age)) {
        match connection.execute(by_age, params![oldest, STEP])? {
            0 => break,
            rows => removed.too_old += rows as u64,
        }
    }
    let by_size = "DELETE FROM reports WHERE row IN (SELECT row FROM reports ORDER BY row LIMIT ?1)";
    while bytes_in_use(connection)? > retention.max_bytes {
        match connection.execute(by_size, [STEP])? {
            0 => break,
            rows => removed.too_much += rows as u64,
        }
    }
    Ok(removed)
}

/// Bytes of the file that hold something; pages freed are used again before the file grows.
fn bytes_in_use(connection: &Connection) -> rusqlite::Result<u64> {
    let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
    let pages = number("PRAGMA page_count")?.saturating_sub(number("PRAGMA freelist_count")?);
    Ok(u64::try_from(pages.saturating_mul(number("PRAGMA page_size")?)).unwrap_or(0))
}
