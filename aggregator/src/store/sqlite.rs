//! A store in one SQLite file.
//!
//! Two threads, because SQLite blocks: one writes, the other reads beside it (the write-ahead log allows that). What waits to be
//! written goes into one transaction, so that hundreds of reports a second cost a few flushes of the disk. A crash is reported as
//! stored only once its transaction is flushed (`synchronous = FULL`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lastwords_proto::v1;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::retention::{self, Retention};
use super::schema::{self, Prepared};
use super::steady::Steady;
use super::{
    Assessment, Cursor, Filter, Inserted, Kind, NewCrash, Page, PageBounds, Store, StoreError, Written,
    statements,
};
use crate::healthy::ToKeep;
use crate::time;

/// Writes that wait at most; whoever has more to write waits with it. At 20 KiB each this is 20 MiB.
const WRITE_QUEUE: usize = 1_024;
/// Writes in one transaction at most: about what 200 nodes send in a second when all their pods crash.
const BATCH: usize = 256;
/// Reads that wait at most.
const READ_QUEUE: usize = 64;
/// How long another process may hold the file before that is an error.
const BUSY: Duration = Duration::from_secs(3);
/// How often what is too old or too much is removed, as long as something is written.
const RETENTION_INTERVAL: Duration = Duration::from_secs(30);

type Read = Box<dyn FnOnce(&Connection) + Send>;

enum Write {
    Insert(Box<NewCrash>, oneshot::Sender<Result<Inserted, StoreError>>),
    Revise(String, Box<Assessment>, oneshot::Sender<Result<(), StoreError>>),
    Remove(String, oneshot::Sender<Result<(), StoreError>>),
    Keep(Vec<ToKeep>, oneshot::Sender<Result<(), StoreError>>),
    Close(oneshot::Sender<()>),
}

/// A store in one SQLite file.
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    writes: mpsc::Sender<Write>,
    reads: mpsc::Sender<Read>,
    written: Arc<Written>,
}

impl Sqlite {
    /// Opens the file, or creates it with the directories above it.
    ///
    /// # Errors
    /// When it cannot be opened for writing, is no database of this program, or was written by a newer one.
    pub fn open(path: &Path, retention: Retention) -> Result<Self, StoreError> {
        let failed = |error: rusqlite::Error| StoreError::from_sqlite(path, &error);
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory).map_err(|error| {
                let sentence = format!(
                    "the directory {} for the store cannot be created: {error}; name another with --store or data_directory",
                    directory.display()
                );
                StoreError::new(Kind::NotWritable, sentence)
            })?;
        }
        let mut writer = connect(path).map_err(failed)?;
        match schema::prepare(&mut writer).map_err(failed)? {
            Prepared::Ready => {}
            Prepared::TooNew(version) => {
                let sentence = format!(
                    "the store {} has version {version} and this program knows {}: run the newer aggregator that wrote it",
                    path.display(),
                    schema::VERSION
                );
                return Err(StoreError::new(Kind::Damaged, sentence));
            }
            Prepared::Foreign => {
                let sentence = format!(
                    "{} is a database of another program: name another file with --store",
                    path.display()
                );
                return Err(StoreError::new(Kind::Damaged, sentence));
            }
        }
        let reader = connect(path).map_err(failed)?;
        let written = Arc::new(Written::default());
        let (writes, write_queue) = mpsc::channel(WRITE_QUEUE);
        let (reads, read_queue) = mpsc::channel(READ_QUEUE);
        let thread = Writer {
            path: path.to_owned(),
            connection: writer,
            retention,
            steady: Steady::default(),
            began: Instant::now(),
            written: Arc::clone(&written),
        };
        spawn("store-write", path, move || thread.run(write_queue))?;
        spawn("store-read", path, move || read(&reader, read_queue))?;
        Ok(Self { path: path.to_owned(), writes, reads, written })
    }

    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let path = self.path.clone();
        let written = Arc::clone(&self.written);
        let read: Read = Box::new(move |connection| {
            let result = question(connection).map_err(|error| failed(&written, &path, &error));
            // Nobody waits any more when the query was cancelled.
            let _ = reply.send(result);
        });
        self.reads.send(read).await.map_err(|_| StoreError::closed())?;
        answer.await.map_err(|_| StoreError::closed())?
    }
}

#[tonic::async_trait]
impl Store for Sqlite {
    async fn insert(&self, crash: NewCrash) -> Result<Inserted, StoreError> {
        let (reply, answer) = oneshot::channel();
        let write = Write::Insert(Box::new(crash), reply);
        self.writes.send(write).await.map_err(|_| StoreError::closed())?;
        answer.await.map_err(|_| StoreError::closed())?
    }

    async fn revise(&self, id: &str, assessment: Assessment) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let write = Write::Revise(id.to_owned(), Box::new(assessment), reply);
        self.writes.send(write).await.map_err(|_| StoreError::closed())?;
        answer.await.map_err(|_| StoreError::closed())?
    }

    async fn remove(&self, id: &str) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let write = Write::Remove(id.to_owned(), reply);
        self.writes.send(write).await.map_err(|_| StoreError::closed())?;
        answer.await.map_err(|_| StoreError::closed())?
    }

    async fn get(&self, id: &str) -> Result<Option<v1::Crash>, StoreError> {
        let id = id.to_owned();
        self.read(move |connection| statements::get(connection, &id)).await
    }

    async fn list(
        &self,
        filter: Filter,
        bounds: PageBounds,
        after: Option<Cursor>,
    ) -> Result<Page, StoreError> {
        self.read(move |connection| statements::list(connection, &filter, bounds, after)).await
    }

    async fn namespaces(&self) -> Result<Vec<String>, StoreError> {
        self.read(statements::namespaces).await
    }

    async fn keep(&self, texts: Vec<ToKeep>) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.writes.send(Write::Keep(texts, reply)).await.map_err(|_| StoreError::closed())?;
        answer.await.map_err(|_| StoreError::closed())?
    }

    async fn kept(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.read(statements::kept).await
    }

    async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        if self.writes.send(Write::Close(reply)).await.is_ok() {
            // An error means that the thread ended already.
            let _ = answer.await;
        }
    }

    fn written(&self) -> &Written {
        &self.written
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // What a statement notes beside the database goes to /tmp otherwise, which a root file system that is only read does not have.
    connection.pragma_update(None, "temp_store", "memory")?;
    // The log is cut back to this many bytes after it was copied into the file.
    connection.pragma_update_and_check(None, "journal_size_limit", 16 << 20, |_| Ok(()))?;
    Ok(connection)
}

fn failed(written: &Written, path: &Path, error: &rusqlite::Error) -> StoreError {
    written.errors.fetch_add(1, Ordering::Relaxed);
    StoreError::from_sqlite(path, error)
}

fn spawn(name: &str, path: &Path, run: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map(|_| ()).map_err(|error| {
        StoreError::new(Kind::Failed, format!("no thread for the store {}: {error}", path.display()))
    })
}

fn read(connection: &Connection, mut queue: mpsc::Receiver<Read>) {
    while let Some(read) = queue.blocking_recv() {
        read(connection);
    }
}

struct Writer {
    path: PathBuf,
    connection: Connection,
    retention: Retention,
    steady: Steady,
    began: Instant,
    written: Arc<Written>,
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Write>) {
        let mut last_retention: Option<Instant> = None;
        while let Some(first) = queue.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(next) = queue.try_recv()
            {
                batch.push(next);
            }
            let closing = self.write(batch);
            if !closing.is_empty() {
                queue.close();
                self.drain(queue);
                drop(self.connection);
                for reply in closing {
                    let _ = reply.send(());
                }
                return;
            }
            if last_retention.is_none_or(|last| last.elapsed() >= RETENTION_INTERVAL) {
                self.retain();
                last_retention = Some(Instant::now());
            }
        }
    }

    fn drain(&mut self, mut queue: mpsc::Receiver<Write>) {
        let mut rest = Vec::new();
        while let Ok(write) = queue.try_recv() {
            rest.push(write);
        }
        for reply in self.write(rest) {
            let _ = reply.send(());
        }
    }

    /// Writes a batch in one transaction: all of it, or none. Answers everybody in it, but for those who asked to close.
    fn write(&mut self, batch: Vec<Write>) -> Vec<oneshot::Sender<()>> {
        let result = self.transaction(&batch);
        if let Err(error) = &result {
            tracing::warn!(
                "{error}; nothing of {} writes was stored, the agents send them again",
                batch.len()
            );
        }
        let mut outcomes = result.as_ref().map(|outcomes| outcomes.iter().copied()).ok();
        let mut closing = Vec::new();
        for write in batch {
            let outcome = match (&result, outcomes.as_mut().and_then(|outcomes| outcomes.next())) {
                (Ok(_), Some(outcome)) => Ok(outcome),
                (Err(error), _) => Err(error.clone()),
                (Ok(_), None) => Err(StoreError::closed()),
            };
            // Nobody waits any more when a stream broke; the agent asks again.
            match write {
                Write::Insert(_, reply) => drop(reply.send(outcome)),
                Write::Revise(_, _, reply) | Write::Remove(_, reply) | Write::Keep(_, reply) => {
                    drop(reply.send(outcome.map(|_| ())));
                }
                Write::Close(reply) => closing.push(reply),
            }
        }
        closing
    }

    fn transaction(&mut self, batch: &[Write]) -> Result<Vec<Inserted>, StoreError> {
        let outcomes = write_all(&mut self.connection, batch)
            .map_err(|error| failed(&self.written, &self.path, &error))?;
        self.written.transactions.fetch_add(1, Ordering::Relaxed);
        Ok(outcomes)
    }

    fn retain(&mut self) {
        let now = self.steady.now(time::now().0, self.began.elapsed());
        match retention::enforce(&self.connection, &self.retention, now) {
            Ok(removed) => self.written.note(removed),
            Err(error) => tracing::warn!("{}", failed(&self.written, &self.path, &error)),
        }
    }
}

fn write_all(connection: &mut Connection, batch: &[Write]) -> rusqlite::Result<Vec<Inserted>> {
    // Dropped without a commit, a transaction is rolled back.
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let mut outcomes = Vec::with_capacity(batch.len());
    for write in batch {
        outcomes.push(match write {
            Write::Insert(crash, _) => statements::insert(&transaction, crash)?,
            Write::Revise(id, assessment, _) => {
                statements::revise(&transaction, id, assessment)?;
                Inserted::Known
            }
            Write::Remove(id, _) => {
                statements::remove(&transaction, id)?;
                Inserted::Known
            }
            Write::Keep(texts, _) => {
                statements::keep(&transaction, texts)?;
                Inserted::Known
            }
            Write::Close(_) => Inserted::Known,
        });
    }
    transaction.commit()?;
    Ok(outcomes)
}

#[cfg(test)]
#[path = "sqlite_tests.rs"]
mod tests;
