//! What is said to PostgreSQL, and how its rows become crashes.

use deadpool_postgres::{Client, GenericClient, Transaction};
use lastwords_proto::v1;
use prost::Message;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use crate::healthy::{self, ToKeep};
use crate::store::{Assessment, Cursor, Filter, Inserted, NewCrash, Page, PageBounds};
use crate::time;

const COLUMNS: &str = "SELECT n.observed_at, n.row, r.id, r.report, d.container, d.pod_state, d.diagnosis, d.revision \
                       FROM newest n JOIN reports r ON r.row = n.row \
                       JOIN diagnoses d ON d.row = n.row AND d.revision = n.revision";
/// Rows fetched at once: some hundred kilobytes.
const FETCH: usize = 64;

/// What goes wrong between rows and crashes.
#[derive(Debug)]
pub(super) enum Failed {
    Postgres(Error),
    Pool(deadpool_postgres::PoolError),
    Damaged(String),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<deadpool_postgres::PoolError> for Failed {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        Self::Pool(error)
    }
}

pub(super) async fn insert(client: &mut Client, writer: i64, crash: &NewCrash) -> Result<Inserted, Failed> {
    let transaction = client.transaction().await?;
    let report = crash.report.encode_to_vec();
    let bytes = report.len() + crash.assessment.diagnosis.encoded_len();
    let statement = transaction
        .prepare_cached(
            "INSERT INTO reports (id, received_at, bytes, report) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (id) DO NOTHING RETURNING row",
        )
        .await?;
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    let added =
        transaction.query_opt(&statement, &[&text(&crash.id), &time::now().0, &bytes, &report]).await?;
    let Some(added) = added else { return Ok(Inserted::Known) };
    let row: i64 = added.try_get(0)?;
    add_diagnosis(&transaction, writer, row, &crash.assessment).await?;
    let observed_at = crash.report.observed_at.as_ref().and_then(time::from_wire).unwrap_or_default();
    let container = &crash.assessment.container;
    let statement = transaction
        .prepare_cached(
            "INSERT INTO newest (row, revision, observed_at, node, namespace, pod_name, container, cause, planned) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .await?;
    let values: [&(dyn ToSql + Sync); 9] = [
        &row,
        &revision(&crash.assessment),
        &observed_at.0,
        &text(&crash.report.node),
        &text(&container.namespace),
        &text(&container.pod_name),
        &text(&container.name),
        &crash.assessment.diagnosis.cause,
        &crash.assessment.diagnosis.planned,
    ];
    transaction.execute(&statement, &values).await?;
    transaction.commit().await?;
    Ok(Inserted::New)
}

pub(super) async fn revise(
    client: &mut Client,
    writer: i64,
    id: &str,
    assessment: &Assessment,
) -> Result<(), Failed> {
    let transaction = client.transaction().await?;
    // Retention by another aggregator would take the row away between the two steps.
    let statement = transaction.prepare_cached("SELECT row FROM reports WHERE id = $1 FOR KEY SHARE").await?;
    let Some(found) = transaction.query_opt(&statement, &[&text(id)]).await? else { return Ok(()) };
    let row: i64 = found.try_get(0)?;
    add_diagnosis(&transaction, writer, row, assessment).await?;
    let container = &assessment.container;
    let statement = transaction
        .prepare_cached(
            "UPDATE newest SET revision = $2, namespace = $3, pod_name = $4, container = $5, cause = $6, planned = $7 \
             WHERE row = $1 AND revision < $2",
        )
        .await?;
    let values: [&(dyn ToSql + Sync); 7] = [
        &row,
        &revision(assessment),
        &text(&container.namespace),
        &text(&container.pod_name),
        &text(&container.name),
        &assessment.diagnosis.cause,
        &assessment.diagnosis.planned,
    ];
    transaction.execute(&statement, &values).await?;
    transaction.commit().await?;
    Ok(())
}

async fn add_diagnosis(
    transaction: &Transaction<'_>,
    writer: i64,
    row: i64,
    assessment: &Assessment,
) -> Result<(), Failed> {
    let statement = transaction
        .prepare_cached(
            "INSERT INTO diagnoses (row, revision, made_at, container, pod_state, diagnosis, writer) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (row, revision) DO NOTHING",
        )
        .await?;
    let values: [&(dyn ToSql + Sync); 7] = [
        &row,
        &revision(assessment),
        &time::now().0,
        &assessment.container.encode_to_vec(),
        &assessment.pod_state.as_ref().map(Message::encode_to_vec),
        &assessment.diagnosis.encode_to_vec(),
        &writer,
    ];
    transaction.execute(&statement, &values).await?;
    Ok(())
}

/// With its diagnoses and its line in the lists.
pub(super) async fn remove(client: &Client, id: &str) -> Result<(), Failed> {
    client.execute("DELETE FROM reports WHERE id = $1", &[&text(id)]).await?;
    Ok(())
}

pub(super) async fn keep(client: &mut Client, texts: &[ToKeep]) -> Result<(), Failed> {
    let transaction = client.transaction().await?;
    for kept in texts {
        let key = text(&kept.key);
        match &kept.value {
            Some(value) => {
                // Another aggregator may have learned something else of the same container.
                let select = "SELECT value FROM healthy WHERE key = $1 FOR UPDATE";
                let there = transaction.query_opt(select, &[&key]).await?;
                let there: Option<String> = there.map(|row| row.try_get(0)).transpose()?;
                let value = there.map_or_else(|| value.clone(), |there| healthy::merged(&there, value));
                let statement = "INSERT INTO healthy (key, value) VALUES ($1, $2) \
                                 ON CONFLICT (key) DO UPDATE SET value = excluded.value";
                transaction.execute(statement, &[&key, &text(&value)]).await?
            }
            None => transaction.execute("DELETE FROM healthy WHERE key = $1", &[&key]).await?,
        };
    }
    transaction.commit().await?;
    Ok(())
}

pub(super) async fn kept(client: &Client) -> Result<Vec<(String, String)>, Failed> {
    let rows = client.query("SELECT key, value FROM healthy", &[]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

pub(super) async fn get(client: &Client, id: &str) -> Result<Option<v1::Crash>, Failed> {
    let statement = client.prepare_cached(&format!("{COLUMNS} WHERE r.id = $1")).await?;
    let row = client.query_opt(&statement, &[&text(id)]).await?;
    row.map(|row| crash(&row).map(|(_, crash)| crash)).transpose()
}

/// Fetches some rows at a time, until the page is full or there are no more.
pub(super) async fn list(
    client: &Client,
    filter: &Filter,
    bounds: PageBounds,
    after: Option<Cursor>,
) -> Result<Page, Failed> {
    let mut page = Page::default();
    let mut bytes = 0;
    let mut last = after;
    loop {
        let wanted = bounds.crashes.saturating_sub(page.crashes.len()).saturating_add(1).min(FETCH);
        let (conditions, values) = conditions(filter, last);
        let query =
            format!("{COLUMNS} WHERE {conditions} ORDER BY n.observed_at DESC, n.row DESC LIMIT {wanted}");
        let statement = client.prepare_cached(&query).await?;
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| &**value as _).collect();
        let rows = client.query(&statement, &values).await?;
        for row in &rows {
            let (cursor, crash) = crash(row)?;
            bytes += crash.encoded_len();
            let full =
                page.crashes.len() >= bounds.crashes || (bytes > bounds.bytes && !page.crashes.is_empty());
            if full {
                page.next = last;
                return Ok(page);
            }
            page.crashes.push(crash);
            last = Some(cursor);
        }
        if rows.len() < wanted {
            return Ok(page);
        }
    }
}

pub(super) async fn namespaces(client: &Client) -> Result<Vec<String>, Failed> {
    let rows = client.query("SELECT DISTINCT namespace FROM newest", &[]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

type Value = Box<dyn ToSql + Sync + Send>;

fn conditions(filter: &Filter, after: Option<Cursor>) -> (String, Vec<Value>) {
    let mut conditions = vec!["true".to_owned()];
    let mut values: Vec<Value> = Vec::new();
    let mut add = |condition: &str, value: Value| {
        values.push(value);
        conditions.push(format!("{condition} ${}", values.len()));
    };
    let texts = [
        ("n.namespace =", &filter.namespace),
        ("n.pod_name =", &filter.pod_name),
        ("n.container =", &filter.container),
        ("n.node =", &filter.node),
    ];
    for (condition, wanted) in texts.into_iter().filter(|(_, wanted)| !wanted.is_empty()) {
        add(condition, Box::new(text(wanted)));
    }
    if let Some(only) = &filter.only {
        let only: Vec<String> = only.iter().map(|namespace| text(namespace)).collect();
        values.push(Box::new(only));
        conditions.push(format!("n.namespace = ANY (${})", values.len()));
    }
    let mut add = |condition: &str, value: Value| {
        values.push(value);
        conditions.push(format!("{condition} ${}", values.len()));
    };
    match filter.cause {
        Some(cause) => add("n.cause =", Box::new(cause)),
        None if !filter.include_completed => add("n.cause <>", Box::new(v1::Cause::Completed as i32)),
        None => {}
    }
    if let Some(since) = filter.since {
        add("n.observed_at >=", Box::new(since.0));
    }
    if filter.leaves_out_planned() {
        conditions.push("NOT n.planned".to_owned());
    }
    if let Some(cursor) = after {
        values.push(Box::new(cursor.observed_at));
        values.push(Box::new(cursor.row));
        conditions.push(format!("(n.observed_at, n.row) < (${}, ${})", values.len() - 1, values.len()));
    }
    (conditions.join(" AND "), values)
}

fn crash(row: &Row) -> Result<(Cursor, v1::Crash), Failed> {
    let cursor = Cursor { observed_at: row.try_get(0)?, row: row.try_get(1)? };
    let id: String = row.try_get(2)?;
    let pod_state: Option<&[u8]> = row.try_get(5)?;
    let revision: i32 = row.try_get(7)?;
    let assessment = Assessment {
        revision: revision.cast_unsigned(),
        container: message(row.try_get(4)?)?,
        pod_state: pod_state.map(message).transpose()?,
        diagnosis: message(row.try_get(6)?)?,
    };
    let report = message(row.try_get(3)?)?;
    Ok((cursor, assessment.complete(&id, report)))
}

fn message<M: Message + Default>(bytes: &[u8]) -> Result<M, Failed> {
    M::decode(bytes).map_err(|error| Failed::Damaged(error.to_string()))
}

fn revision(assessment: &Assessment) -> i32 {
    i32::try_from(assessment.revision).unwrap_or(i32::MAX)
}

/// PostgreSQL's texts cannot hold the character 0, which a report may: its bytes are stored beside and keep it.
pub(super) fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
