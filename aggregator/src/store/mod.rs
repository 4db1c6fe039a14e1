//! Where crashes are kept. A stored report never changes; its diagnoses are stored beside it, and the one with the highest
//! revision is what is read back.

mod cursor;
mod error;
mod place;
mod postgres;
mod retention;
mod schema;
mod sqlite;
mod statements;
mod steady;

use std::sync::atomic::{AtomicU64, Ordering};

use lastwords_diagnosis::evidence::UnixNanos;
use lastwords_proto::v1;

use crate::healthy::ToKeep;

pub use cursor::Cursor;
pub use error::{Kind, StoreError};
pub use place::Place;
pub use postgres::Postgres;
pub use retention::Retention;
pub use sqlite::Sqlite;

/// What was written and removed since the start.
#[derive(Debug, Default)]
pub struct Written {
    /// Transactions.
    pub transactions: AtomicU64,
    /// Reports removed because they were older than `retention.max_age`.
    pub removed_too_old: AtomicU64,
    /// Reports removed because the store was larger than `retention.max_bytes`.
    pub removed_too_much: AtomicU64,
    /// Times that the store could not do what it was asked to.
    pub errors: AtomicU64,
}

impl Written {
    fn note(&self, removed: retention::Removed) {
        let retention::Removed { too_old, too_much } = removed;
        self.removed_too_old.fetch_add(too_old, Ordering::Relaxed);
        self.removed_too_much.fetch_add(too_much, Ordering::Relaxed);
        if too_old + too_much > 0 {
            tracing::info!(too_old, too_much, "oldest crashes removed");
        }
    }
}

/// What was made of a report: everything of a [`v1::Crash`] that the agent did not fill.
#[derive(Debug, Clone, PartialEq)]
pub struct Assessment {
    /// 1 for the first.
    pub revision: u32,
    /// The container, with the names that the agent did not know.
    pub container: v1::Container,
    /// The pod; None while it is not known.
    pub pod_state: Option<v1::PodState>,
    /// The cause.
    pub diagnosis: v1::Diagnosis,
}

impl Assessment {
    /// The whole crash: the report with this beside it.
    pub fn complete(&self, id: &str, report: v1::Crash) -> v1::Crash {
        v1::Crash {
            id: id.to_owned(),
            container: Some(self.container.clone()),
            pod_state: self.pod_state.clone(),
            diagnosis: Some(v1::Diagnosis { revision: self.revision, ..self.diagnosis.clone() }),
            ..report
        }
    }
}

/// A crash to be stored.
#[derive(Debug, Clone)]
pub struct NewCrash {
    /// Unique: "<node>/<spool id>/<sequence>" for a report. A second crash of the same id is the same crash.
    pub id: String,
    /// As it was reported.
    pub report: v1::Crash,
    /// What was made of it.
    pub assessment: Assessment,
}

/// What became of a crash that was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It is stored now.
    New,
    /// It was stored before.
    Known,
}

/// Which crashes. Empty strings match all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Only this namespace.
    pub namespace: String,
    /// Only these namespaces, whatever `namespace` says.
    pub only: Option<Vec<String>>,
    /// Only this pod.
    pub pod_name: String,
    /// Only this container of it.
    pub container: String,
    /// Only this node.
    pub node: String,
    /// Only this cause (a `v1::Cause`).
    pub cause: Option<i32>,
    /// Only crashes observed at or after this time.
    pub since: Option<UnixNanos>,
    /// Also `CAUSE_COMPLETED`, and ends that were planned. Who asks for that cause gets it without.
    pub include_completed: bool,
}

impl Filter {
    fn leaves_out_planned(&self) -> bool {
        !self.include_completed && self.cause != Some(v1::Cause::Completed.into())
    }
}

/// One page of a list, newest first.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The crashes.
    pub crashes: Vec<v1::Crash>,
    /// Where the next page begins; None after the last one.
    pub next: Option<Cursor>,
}

/// Bounds of one page.
#[derive(Debug, Clone, Copy)]
pub struct PageBounds {
    /// Crashes at most.
    pub crashes: usize,
    /// Encoded bytes at most, but always one crash.
    pub bytes: usize,
}

/// A place to keep crashes.
#[tonic::async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Stores a crash once. When this returns, it survives a power cut.
    async fn insert(&self, crash: NewCrash) -> Result<Inserted, StoreError>;
    /// Stores a newer assessment of a crash. Does nothing when the crash is gone or has one of that revision.
    async fn revise(&self, id: &str, assessment: Assessment) -> Result<(), StoreError>;
    /// Forgets a crash, because another one tells more of the same end.
    async fn remove(&self, id: &str) -> Result<(), StoreError>;
    /// One crash.
    async fn get(&self, id: &str) -> Result<Option<v1::Crash>, StoreError>;
    /// One page of crashes, newest first, from `after` on.
    async fn list(
        &self,
        filter: Filter,
        bounds: PageBounds,
        after: Option<Cursor>,
    ) -> Result<Page, StoreError>;
    /// The namespaces of all crashes.
    async fn namespaces(&self) -> Result<Vec<String>, StoreError>;
    /// Keeps, replaces or removes texts that are remembered by a key.
    async fn keep(&self, texts: Vec<ToKeep>) -> Result<(), StoreError>;
    /// All texts that are kept, with their keys.
    async fn kept(&self) -> Result<Vec<(String, String)>, StoreError>;
    /// True when other aggregators may share it.
    fn is_shared(&self) -> bool {
        false
    }
    /// Ids of the crashes that others who share it stored or judged since the last call, and not those from before it was opened.
    async fn news(&self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }
    /// Takes the right to say this of a crash on its pod; false when it was said before, by whoever shares it.
    async fn claim(&self, _id: &str, _said: &str) -> Result<bool, StoreError> {
        Ok(true)
    }
    /// Tells the others which agents are heard here, and takes what they tell.
    async fn share_agents(&self, _heard_here: Vec<v1::Node>) -> Result<Vec<v1::Node>, StoreError> {
        Ok(Vec::new())
    }
    /// Finishes what was begun and closes. Whatever comes later is refused.
    async fn close(&self);
    /// What was written and removed since the start.
    fn written(&self) -> &Written;
}
