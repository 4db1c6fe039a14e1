//! Tables in PostgreSQL, and the step from one version of them to the next.

use tokio_postgres::{Client, Error};

/// Version that this program writes, kept in `lastwords_schema`.
pub(super) const VERSION: i32 = 3;

/// Several aggregators may start at the same moment: one of them makes the tables ("LstW").
pub(super) const LOCK: i64 = 0x4c73_7457;

/// As in SQLite (`store/schema.rs`). `bytes` is what a report takes with its first diagnosis: PostgreSQL gives no space back when rows
/// go, so that the size of its files says nothing of what is kept.
const VERSION_1: &str = "
CREATE TABLE reports (
    row bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text NOT NULL UNIQUE,
    received_at bigint NOT NULL,
    bytes bigint NOT NULL,
    report bytea NOT NULL
);
CREATE INDEX reports_by_age ON reports (received_at);
CREATE TABLE diagnoses (
    row bigint NOT NULL REFERENCES reports (row) ON DELETE CASCADE,
    revision integer NOT NULL,
    made_at bigint NOT NULL,
    container bytea NOT NULL,
    pod_state bytea,
    diagnosis bytea NOT NULL,
    PRIMARY KEY (row, revision)
);
CREATE TABLE newest (
    row bigint PRIMARY KEY REFERENCES reports (row) ON DELETE CASCADE,
    revision integer NOT NULL,
    observed_at bigint NOT NULL,
    node text NOT NULL,
    namespace text NOT NULL,
    pod_name text NOT NULL,
    container text NOT NULL,
    cause integer NOT NULL
);
CREATE INDEX newest_by_time ON newest (observed_at, row);
CREATE INDEX newest_by_pod ON newest (namespace, pod_name, observed_at, row);
CREATE INDEX newest_by_cause ON newest (cause, observed_at, row);
CREATE INDEX newest_by_node ON newest (node, observed_at, row);
CREATE TABLE healthy (
    key text PRIMARY KEY,
    value text NOT NULL
);
CREATE TABLE lastwords_schema (version integer NOT NULL);
";

/// Whether the end was planned: lists leave that out.
const VERSION_2: &str = "ALTER TABLE newest ADD COLUMN planned boolean NOT NULL DEFAULT false;";

/// What aggregators that share the tables tell each other (`sharing.rs`).
const VERSION_3: &str = "
ALTER TABLE diagnoses ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY;
ALTER TABLE diagnoses ADD COLUMN writer bigint NOT NULL DEFAULT 0;
CREATE INDEX diagnoses_by_number ON diagnoses (number);
ALTER TABLE newest ADD COLUMN said text NOT NULL DEFAULT '';
CREATE TABLE agents (
    node text PRIMARY KEY,
    writer bigint NOT NULL,
    heard_at bigint NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    agent bytea NOT NULL
);
";

/// What a database's version says of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Prepared {
    /// The tables are there.
    Ready,
    /// A newer program wrote them.
    TooNew(i32),
    /// Tables of these names belong to something else.
    Foreign,
}

/// Creates the tables, unless they are there.
pub(super) async fn prepare(client: &mut Client) -> Result<Prepared, Error> {
    let transaction = client.transaction().await?;
    // A new column may have all that is kept written anew, and another aggregator may be doing so now: what is cut off in the middle would
    // be begun from the start at every start.
    transaction.batch_execute("SET LOCAL statement_timeout = 0").await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    let ours = transaction.query_one("SELECT to_regclass('lastwords_schema') IS NOT NULL", &[]).await?;
    if ours.try_get(0)? {
        let version: i32 =
            transaction.query_one("SELECT max(version) FROM lastwords_schema", &[]).await?.try_get(0)?;
        if version > VERSION {
            return Ok(Prepared::TooNew(version));
        }
        if version < VERSION {
            if version < 2 {
                transaction.batch_execute(VERSION_2).await?;
            }
            transaction.batch_execute(VERSION_3).await?;
            transaction.execute("INSERT INTO lastwords_schema (version) VALUES ($1)", &[&VERSION]).await?;
            transaction.commit().await?;
        }
        return Ok(Prepared::Ready);
    }
    let taken = transaction.query_one("SELECT to_regclass('reports') IS NOT NULL", &[]).await?;
    if taken.try_get(0)? {
        return Ok(Prepared::Foreign);
    }
    transaction.batch_execute(VERSION_1).await?;
    transaction.batch_execute(VERSION_2).await?;
    transaction.batch_execute(VERSION_3).await?;
    transaction.execute("INSERT INTO lastwords_schema (version) VALUES ($1)", &[&VERSION]).await?;
    transaction.commit().await?;
    Ok(Prepared::Ready)
}
