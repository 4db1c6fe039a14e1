//! A store in PostgreSQL, which several aggregators may share.
//!
//! Each write is a transaction of its own and is answered once PostgreSQL has flushed it (`synchronous_commit` as the server has it,
//! `on` unless somebody changed that). While the server is away every call is an error, and the agents keep their reports and send
//! them again; a connection that broke is replaced by the next call.

mod retention;
mod schema;
mod sharing;
mod statements;
mod tls;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use deadpool_postgres::{Client, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use lastwords_proto::v1;
use tokio::task::JoinHandle;
use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;

use self::schema::Prepared;
use self::sharing::News;
use self::statements::Failed;
use super::steady::Steady;
use super::{
    Assessment, Cursor, Filter, Inserted, Kind, NewCrash, Page, PageBounds, Retention, Store, StoreError,
    Written,
};
use crate::healthy::ToKeep;
use crate::{causes, time};

/// Connections at most: PostgreSQL takes 100 by default, and three aggregators leave most of them to others.
const CONNECTIONS: usize = 8;
/// How long a call waits for a connection, and a connection for the server.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one statement may take: far more than any needs, and an end to those that wait for a lock.
const STATEMENT_TIMEOUT: &str = "-c statement_timeout=30s";
/// How often what is too old or too much is removed.
const RETENTION_INTERVAL: Duration = Duration::from_secs(30);

/// A store in PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    connections: Connections,
    retention: Retention,
    retaining: JoinHandle<()>,
    /// Tells what this aggregator wrote from what others did.
    writer: i64,
    news: tokio::sync::Mutex<News>,
}

/// How the server is reached, and what it is called in sentences: never with the password.
#[derive(Debug, Clone)]
struct Connections {
    pool: Pool,
    place: Arc<str>,
    written: Arc<Written>,
}

impl Postgres {
    /// Connects and makes the tables, unless they are there.
    ///
    /// # Errors
    /// When the address is wrong, the server does not answer or refuses, or the tables are those of a newer program.
    pub async fn open(url: &str, retention: Retention) -> Result<Self, StoreError> {
        let address = tls::Address::parse(url).map_err(|sentence| StoreError::new(Kind::Failed, sentence))?;
        let place: Arc<str> = place(&address.config).into();
        let mut config = address.config;
        config.connect_timeout(PATIENCE).application_name("lastwords-aggregator").options(STATEMENT_TIMEOUT);
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(config, address.tls, recycling);
        let pool = Pool::builder(manager)
            .max_size(CONNECTIONS)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(PATIENCE))
            .create_timeout(Some(PATIENCE))
            .build()
            .map_err(|error| StoreError::new(Kind::Failed, format!("the store {place} failed: {error}")))?;
        let connections = Connections { pool, place, written: Arc::default() };
        let mut client = connections.client().await?;
        let prepared = schema::prepare(&mut client).await;
        let complaint = match prepared.map_err(|error| connections.failed(error.into()))? {
            Prepared::Ready => None,
            Prepared::TooNew(version) => Some(format!(
                "has version {version} and this program knows {}: run the newer aggregator that wrote it",
                schema::VERSION
            )),
            Prepared::Foreign => Some(
                "has tables of another program: give Lastwords a database of its own (createdb lastwords)"
                    .to_owned(),
            ),
        };
        if let Some(complaint) = complaint {
            return Err(StoreError::new(
                Kind::Damaged,
                format!("the store {} {complaint}", connections.place),
            ));
        }
        let number = sharing::last_number(&client).await.map_err(|error| connections.failed(error))?;
        drop(client);
        let retaining = tokio::spawn({
            let connections = connections.clone();
            async move {
                let (mut steady, began) = (Steady::default(), Instant::now());
                loop {
                    tokio::time::sleep(RETENTION_INTERVAL).await;
                    let now = steady.now(time::now().0, began.elapsed());
                    if let Err(error) = connections.retain(&retention, now).await {
                        tracing::warn!("{error}");
                    }
                }
            }
        });
        // By the keys of hashes, which the kernel gives at random: process 1 of each pod may open it in the same moment.
        let writer = RandomState::new().hash_one(&connections.place).cast_signed();
        let news = tokio::sync::Mutex::new(News::from(number));
        Ok(Self { connections, retention, retaining, writer, news })
    }

    /// Removes what is beyond the bounds, as it does every half minute by itself once the clock has gone on evenly for an hour.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn retain_now(&self) -> Result<(), StoreError> {
        self.connections.retain(&self.retention, Some(time::now().0)).await
    }
}

impl Connections {
    async fn retain(&self, retention: &Retention, now: Option<i64>) -> Result<(), StoreError> {
        let mut client = self.client().await?;
        let removed = retention::enforce(&mut client, retention, now).await;
        self.written.note(removed.map_err(|error| self.failed(error))?);
        Ok(())
    }

    fn wrote<T>(&self, result: Result<T, Failed>) -> Result<T, StoreError> {
        match result {
            Ok(done) => {
                self.written.transactions.fetch_add(1, Ordering::Relaxed);
                Ok(done)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn client(&self) -> Result<Client, StoreError> {
        self.pool.get().await.map_err(|error| self.failed(error.into()))
    }

    fn failed(&self, error: Failed) -> StoreError {
        self.written.errors.fetch_add(1, Ordering::Relaxed);
        let place = &self.place;
        let (kind, sentence) = match error {
            Failed::Postgres(error) | Failed::Pool(deadpool_postgres::PoolError::Backend(error)) => {
                let said = causes(&error);
                match error.code() {
                    Some(&SqlState::DISK_FULL) => (
                        Kind::Full,
                        format!(
                            "no room on the disk of {place}: make room there, or lower retention.max_bytes"
                        ),
                    ),
                    Some(&(SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION)) => (
                        Kind::NotWritable,
                        format!("{place} refuses us ({said}): check the user and the password in --store"),
                    ),
                    Some(&SqlState::INVALID_CATALOG_NAME) => (
                        Kind::NotWritable,
                        format!("{place} has no such database ({said}): make it with createdb"),
                    ),
                    Some(&(SqlState::INSUFFICIENT_PRIVILEGE | SqlState::READ_ONLY_SQL_TRANSACTION)) => (
                        Kind::NotWritable,
                        format!(
                            "{place} does not let us write ({said}): the user has to own the database, and it has to be the primary server"
                        ),
                    ),
                    _ => (Kind::Failed, format!("the store {place} failed: {said}")),
                }
            }
            Failed::Pool(deadpool_postgres::PoolError::Closed) => return StoreError::closed(),
            Failed::Pool(error) => {
                (Kind::Failed, format!("the store {place} cannot be reached: {}", causes(&error)))
            }
            Failed::Damaged(error) => (Kind::Damaged, format!("a row of {place} cannot be read: {error}")),
        };
        StoreError::new(kind, sentence)
    }
}

#[tonic::async_trait]
impl Store for Postgres {
    async fn insert(&self, crash: NewCrash) -> Result<Inserted, StoreError> {
        let mut client = self.connections.client().await?;
        let inserted = statements::insert(&mut client, self.writer, &crash).await;
        self.connections.wrote(inserted)
    }

    async fn revise(&self, id: &str, assessment: Assessment) -> Result<(), StoreError> {
        let mut client = self.connections.client().await?;
        let revised = statements::revise(&mut client, self.writer, id, &assessment).await;
        self.connections.wrote(revised)
    }

    async fn remove(&self, id: &str) -> Result<(), StoreError> {
        let client = self.connections.client().await?;
        self.connections.wrote(statements::remove(&client, id).await)
    }

    async fn get(&self, id: &str) -> Result<Option<v1::Crash>, StoreError> {
        let client = self.connections.client().await?;
        statements::get(&client, id).await.map_err(|error| self.connections.failed(error))
    }

    async fn list(
        &self,
        filter: Filter,
        bounds: PageBounds,
        after: Option<Cursor>,
    ) -> Result<Page, StoreError> {
        let client = self.connections.client().await?;
        let page = statements::list(&client, &filter, bounds, after).await;
        page.map_err(|error| self.connections.failed(error))
    }

    async fn namespaces(&self) -> Result<Vec<String>, StoreError> {
        let client = self.connections.client().await?;
        statements::namespaces(&client).await.map_err(|error| self.connections.failed(error))
    }

    async fn keep(&self, texts: Vec<ToKeep>) -> Result<(), StoreError> {
        let mut client = self.connections.client().await?;
        let kept = statements::keep(&mut client, &texts).await;
        self.connections.wrote(kept)
    }

    async fn kept(&self) -> Result<Vec<(String, String)>, StoreError> {
        let client = self.connections.client().await?;
        statements::kept(&client).await.map_err(|error| self.connections.failed(error))
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn news(&self) -> Result<Vec<String>, StoreError> {
        let client = self.connections.client().await?;
        let ids = self.news.lock().await.look(&client, self.writer).await;
        ids.map_err(|error| self.connections.failed(error))
    }

    async fn claim(&self, id: &str, said: &str) -> Result<bool, StoreError> {
        let client = self.connections.client().await?;
        self.connections.wrote(sharing::claim(&client, id, said).await)
    }

    async fn share_agents(&self, heard_here: Vec<v1::Node>) -> Result<Vec<v1::Node>, StoreError> {
        let client = self.connections.client().await?;
        self.connections.wrote(sharing::tell_agents(&client, self.writer, &heard_here).await)?;
        let elsewhere = sharing::agents_elsewhere(&client, self.writer).await;
        elsewhere.map_err(|error| self.connections.failed(error))
    }

    async fn close(&self) {
        self.retaining.abort();
        self.connections.pool.close();
    }

    fn written(&self) -> &Written {
        &self.connections.written
    }
}

/// `PostgreSQL at db.example:5432/lastwords`.
fn place(config: &tokio_postgres::Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        #[cfg(unix)]
        Some(Host::Unix(path)) => path.display().to_string(),
        None => "localhost".to_owned(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let user = config.get_user().unwrap_or_default();
    format!("PostgreSQL at {host}:{port}/{}", config.get_dbname().unwrap_or(user))
}
