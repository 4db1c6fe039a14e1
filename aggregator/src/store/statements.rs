//! What is said to SQLite, and how its rows become crashes.

use lastwords_proto::v1;
use prost::Message;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::{Assessment, Cursor, Filter, Inserted, NewCrash, Page, PageBounds};
use crate::healthy::ToKeep;
use crate::time;

const COLUMNS: &str = "SELECT n.observed_at, n.row, r.id, r.report, d.container, d.pod_state, d.diagnosis, d.revision \
                       FROM newest n JOIN reports r ON r.row = n.row \
                       JOIN diagnoses d ON d.row = n.row AND d.revision = n.revision";

pub(super) fn insert(connection: &Connection, crash: &NewCrash) -> rusqlite::Result<Inserted> {
    let report = crash.report.encode_to_vec();
    let rows = connection
        .prepare_cached(
            "INSERT INTO reports (id, received_at, report) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![crash.id, time::now().0, report])?;
    if rows == 0 {
        return Ok(Inserted::Known);
    }
    let row = connection.last_insert_rowid();
    add_diagnosis(connection, row, &crash.assessment)?;
    let observed_at = crash.report.observed_at.as_ref().and_then(time::from_wire).unwrap_or_default();
    let container = &crash.assessment.container;
    connection
        .prepare_cached(
            "INSERT INTO newest (row, revision, observed_at, node, namespace, pod_name, container, cause, planned) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            row,
            crash.assessment.revision,
            observed_at.0,
            crash.report.node,
            container.namespace,
            container.pod_name,
            container.name,
            crash.assessment.diagnosis.cause,
            crash.assessment.diagnosis.planned,
        ])?;
    Ok(Inserted::New)
}

pub(super) fn revise(connection: &Connection, id: &str, assessment: &Assessment) -> rusqlite::Result<()> {
    let row: Option<i64> = connection
        .prepare_cached("SELECT row FROM reports WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    let Some(row) = row else { return Ok(()) };
    add_diagnosis(connection, row, assessment)?;
    let container = &assessment.container;
    connection
        .prepare_cached(
            "UPDATE newest SET revision = ?2, namespace = ?3, pod_name = ?4, container = ?5, cause = ?6, planned = ?7 \
             WHERE row = ?1 AND revision < ?2",
        )?
        .execute(params![
            row,
            assessment.revision,
            container.namespace,
            container.pod_name,
            container.name,
            assessment.diagnosis.cause,
            assessment.diagnosis.planned,
        ])?;
    Ok(())
}

/// With its diagnoses and its line in the lists.
pub(super) fn remove(connection: &Connection, id: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM reports WHERE id = ?1")?.execute([id])?;
    Ok(())
}

fn add_diagnosis(connection: &Connection, row: i64, assessment: &Assessment) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO diagnoses (row, revision, made_at, container, pod_state, diagnosis) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (row, revision) DO NOTHING",
        )?
        .execute(params![
            row,
            assessment.revision,
            time::now().0,
            assessment.container.encode_to_vec(),
            assessment.pod_state.as_ref().map(Message::encode_to_vec),
            assessment.diagnosis.encode_to_vec(),
        ])?;
    Ok(())
}

pub(super) fn keep(connection: &Connection, texts: &[ToKeep]) -> rusqlite::Result<()> {
    for text in texts {
        match &text.value {
            Some(value) => connection
                .prepare_cached(
                    "INSERT INTO healthy (key, value) VALUES (?1, ?2) \
                     ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                )?
                .execute(params![text.key, value])?,
            None => connection.prepare_cached("DELETE FROM healthy WHERE key = ?1")?.execute([&text.key])?,
        };
    }
    Ok(())
}

pub(super) fn kept(connection: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    let mut statement = connection.prepare_cached("SELECT key, value FROM healthy")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

pub(super) fn get(connection: &Connection, id: &str) -> rusqlite::Result<Option<v1::Crash>> {
    connection
        .prepare_cached(&format!("{COLUMNS} WHERE r.id = ?1"))?
        .query_row([id], |row| Ok(crash(row)?.1))
        .optional()
}

pub(super) fn list(
    connection: &Connection,
    filter: &Filter,
    bounds: PageBounds,
    after: Option<Cursor>,
) -> rusqlite::Result<Page> {
    let (conditions, values) = conditions(filter, after);
    let order = "ORDER BY n.observed_at DESC, n.row DESC";
    let mut statement = connection.prepare_cached(&format!("{COLUMNS} WHERE {conditions} {order}"))?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut page = Page::default();
    let mut bytes = 0;
    let mut last = None;
    while let Some(row) = rows.next()? {
        let (cursor, crash) = crash(row)?;
        bytes += crash.encoded_len();
        let full = page.crashes.len() >= bounds.crashes || (bytes > bounds.bytes && !page.crashes.is_empty());
        if full {
            page.next = last;
            break;
        }
        page.crashes.push(crash);
        last = Some(cursor);
    }
    Ok(page)
}

pub(super) fn namespaces(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare_cached("SELECT DISTINCT namespace FROM newest")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    rows.collect()
}

fn conditions(filter: &Filter, after: Option<Cursor>) -> (String, Vec<Value>) {
    let mut conditions = vec!["1"];
    let mut values: Vec<Value> = Vec::new();
    let texts = [
        ("n.namespace = ?", &filter.namespace),
        ("n.pod_name = ?", &filter.pod_name),
        ("n.container = ?", &filter.container),
        ("n.node = ?", &filter.node),
    ];
    for (condition, text) in texts {
        if !text.is_empty() {
            conditions.push(condition);
            values.push(text.clone().into());
        }
    }
    if let Some(only) = &filter.only {
        // A JSON list is one value, however many they are.
        conditions.push("n.namespace IN (SELECT value FROM json_each(?))");
        values.push(serde_json::Value::from(only.clone()).to_string().into());
    }
    if let Some(cause) = filter.cause {
        conditions.push("n.cause = ?");
        values.push(i64::from(cause).into());
    } else if !filter.include_completed {
        // The sign keeps SQLite from answering "not this cause" by the index on causes.
        conditions.push("+n.cause <> ?");
        values.push(i64::from(v1::Cause::Completed as i32).into());
    }
    if filter.leaves_out_planned() {
        conditions.push("NOT n.planned");
    }
    if let Some(since) = filter.since {
        conditions.push("n.observed_at >= ?");
        values.push(since.0.into());
    }
    if let Some(cursor) = after {
        conditions.push("(n.observed_at, n.row) < (?, ?)");
        values.extend([cursor.observed_at.into(), cursor.row.into()]);
    }
    (conditions.join(" AND "), values)
}

fn crash(row: &Row<'_>) -> rusqlite::Result<(Cursor, v1::Crash)> {
    let cursor = Cursor { observed_at: row.get(0)?, row: row.get(1)? };
    let id: String = row.get(2)?;
    let report: v1::Crash = message(row, 3)?;
    let pod_state = match row.get_ref(5)? {
        rusqlite::types::ValueRef::Null => None,
        _ => Some(message(row, 5)?),
    };
    let assessment = Assessment {
        revision: row.get(7)?,
        container: message(row, 4)?,
        pod_state,
        diagnosis: message(row, 6)?,
    };
    Ok((cursor, assessment.complete(&id, report)))
}

fn message<M: Message + Default>(row: &Row<'_>, column: usize) -> rusqlite::Result<M> {
    let bytes = row.get_ref(column)?.as_blob()?;
    M::decode(bytes).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Blob, Box::new(error))
    })
}
