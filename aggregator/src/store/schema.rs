//! Tables, and the step from one version of them to the next.

use rusqlite::Connection;

/// Version that this program writes, kept in SQLite's `user_version`.
pub(super) const VERSION: i64 = 3;
/// Marks the file as ours ("LstW"), kept in SQLite's `application_id`.
const APPLICATION_ID: i64 = 0x4c73_7457;

/// `reports` and `diagnoses` only ever gain rows, until retention removes the oldest reports with all that belongs to them.
/// `newest` repeats, for each crash, what lists are filtered by, and follows its newest diagnosis.
pub(super) const VERSION_1: &str = "
CREATE TABLE reports (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    received_at INTEGER NOT NULL,
    report BLOB NOT NULL
) STRICT;
CREATE INDEX reports_by_age ON reports (received_at);

CREATE TABLE diagnoses (
    row INTEGER NOT NULL REFERENCES reports (row) ON DELETE CASCADE,
    revision INTEGER NOT NULL,
    made_at INTEGER NOT NULL,
    container BLOB NOT NULL,
    pod_state BLOB,
    diagnosis BLOB NOT NULL,
    PRIMARY KEY (row, revision)
) STRICT, WITHOUT ROWID;

CREATE TABLE newest (
    row INTEGER PRIMARY KEY REFERENCES reports (row) ON DELETE CASCADE,
    revision INTEGER NOT NULL,
    observed_at INTEGER NOT NULL,
    node TEXT NOT NULL,
    namespace TEXT NOT NULL,
    pod_name TEXT NOT NULL,
    container TEXT NOT NULL,
    cause INTEGER NOT NULL
) STRICT;
CREATE INDEX newest_by_time ON newest (observed_at, row);
CREATE INDEX newest_by_pod ON newest (namespace, pod_name, observed_at, row);
CREATE INDEX newest_by_cause ON newest (cause, observed_at, row);
CREATE INDEX newest_by_node ON newest (node, observed_at, row);
";

/// What is remembered of runs that went well (`healthy.rs`).
const VERSION_2: &str = "
CREATE TABLE healthy (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Whether the end was planned: lists leave that out.
const VERSION_3: &str = "ALTER TABLE newest ADD COLUMN planned INTEGER NOT NULL DEFAULT 0;";

/// What a database's version says of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Prepared {
    /// The tables are there.
    Ready,
    /// A newer program wrote them.
    TooNew(i64),
    /// It holds something else.
    Foreign,
}

/// Creates the tables in an empty database, or brings older ones up to date.
pub(super) fn prepare(connection: &mut Connection) -> rusqlite::Result<Prepared> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let application: i64 = transaction.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (version, application) {
        (0, 0) if tables == 0 => {
            transaction.execute_batch(VERSION_1)?;
            transaction.execute_batch(VERSION_2)?;
            transaction.execute_batch(VERSION_3)?;
        }
        (1, APPLICATION_ID) => {
            transaction.execute_batch(VERSION_2)?;
            transaction.execute_batch(VERSION_3)?;
        }
        (2, APPLICATION_ID) => transaction.execute_batch(VERSION_3)?,
        (_, APPLICATION_ID) if version > VERSION => return Ok(Prepared::TooNew(version)),
        (VERSION, APPLICATION_ID) => return Ok(Prepared::Ready),
        _ => return Ok(Prepared::Foreign),
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.commit()?;
    Ok(Prepared::Ready)
}
