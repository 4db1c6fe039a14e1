//! The running aggregator: its parts put together, and taken apart in order.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lastwords_proto::DESCRIPTORS;
use lastwords_proto::v1::crash_ingest_server::CrashIngestServer;
use lastwords_proto::v1::crash_query_server::CrashQueryServer;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

use crate::api::Query;
use crate::config::Settings;
use crate::counters::Reports;
use crate::diagnose::Diagnoser;
use crate::ingest::Ingest;
use crate::kubernetes::{self, Announced, Announcing, Cluster};
use crate::pods::Pods;
use crate::shutdown::{self, Stop, StopSender};
use crate::store::{Sqlite, Store, StoreError};

/// Largest message of a stream. A larger one ends the stream, so it is far above what is rejected one by one.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// Changes of pods that wait to be looked at; the watch waits with them.
const CHANGES: usize = 1_024;
/// A connection that does not answer for this long is closed: an agent's node may be gone.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long open calls may take to end once told to. Health watchers and the like never do by themselves.
const DRAIN: Duration = Duration::from_secs(2);
/// How long the store may take to finish.
const STORE_CLOSE: Duration = Duration::from_secs(2);

/// The aggregator could not start, or not go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store cannot be used.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The address cannot be listened on.
    #[error("cannot listen on {0}: {1}; end what uses it, or name another with --listen")]
    Listen(SocketAddr, std::io::Error),
    /// A part of this program is broken.
    #[error("the server failed: {0}")]
    Server(String),
}

/// A running aggregator.
#[derive(Debug)]
pub struct Aggregator {
    address: SocketAddr,
    stop: StopSender,
    server: Option<JoinHandle<Result<(), ServeError>>>,
    background: Vec<JoinHandle<()>>,
    store: Arc<Sqlite>,
    diagnoser: Arc<Diagnoser>,
    reports: Arc<Reports>,
    announced: Arc<Announced>,
}

/// Opens the store, follows the cluster, and serves.
///
/// # Errors
/// When the store or the address cannot be used.
pub async fn start(settings: Settings) -> Result<Aggregator, ServeError> {
    let store = Arc::new(open(&settings).await?);
    let listener = TcpListener::bind(settings.listen)
        .await
        .map_err(|error| ServeError::Listen(settings.listen, error))?;
    let address = listener.local_addr().map_err(|error| ServeError::Listen(settings.listen, error))?;

    let (stop_sender, stop) = shutdown::stop();
    let pods = Arc::new(Mutex::new(Pods::new(settings.back_off)));
    let (changes, heard) = mpsc::channel(CHANGES);
    let diagnoser = Arc::new(Diagnoser::new(
        Arc::clone(&pods),
        store.clone(),
        changes.clone(),
        settings.wait_for_agents,
        settings.cluster,
    ));
    diagnoser.remember_again().await;
    let reports = Arc::new(Reports::default());
    let announced = Arc::new(Announced::default());

    let mut background = vec![tokio::spawn({
        let (diagnoser, stop) = (Arc::clone(&diagnoser), stop.clone());
        async move { diagnoser.follow(heard, settings.keep_deleted_pods, stop).await }
    })];
    if let Some(access) = settings.kubernetes {
        let cluster = Cluster { pods: Arc::clone(&pods), changes };
        let announcing = settings
            .write_events
            .then(|| Announcing { judged: diagnoser.watch(), counts: Arc::clone(&announced) });
        background.push(tokio::spawn(kubernetes::follow(access, cluster, announcing, stop.clone())));
    }

    let ingest =
        Ingest::new(Arc::clone(&diagnoser), Arc::clone(&reports), settings.max_report_bytes, stop.clone());
    let query = Query::new(store.clone(), pods, Arc::clone(&diagnoser), stop.clone());
    let server = Some(tokio::spawn(serve(listener, ingest, query, stop)));
    tracing::info!(%address, store = %settings.store.display(), "ready");
    Ok(Aggregator { address, stop: stop_sender, server, background, store, diagnoser, reports, announced })
}

async fn open(settings: &Settings) -> Result<Sqlite, ServeError> {
    let (path, retention) = (settings.store.clone(), settings.retention);
    let opened = tokio::task::spawn_blocking(move || Sqlite::open(Path::new(&path), retention)).await;
    Ok(opened.map_err(|error| ServeError::Server(error.to_string()))??)
}

async fn serve(
    listener: TcpListener,
    ingest: Ingest,
    query: Query,
    mut stop: Stop,
) -> Result<(), ServeError> {
    let failed = |error: &dyn std::fmt::Display| ServeError::Server(error.to_string());
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<CrashIngestServer<Ingest>>().await;
    health.set_serving::<CrashQueryServer<Query>>().await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let drained = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_service(CrashIngestServer::new(ingest).max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(CrashQueryServer::new(query))
        .add_service(health_service)
        .add_service(reflection().build_v1().map_err(|error| failed(&error))?)
        .add_service(reflection().build_v1alpha().map_err(|error| failed(&error))?)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), {
            let mut stop = stop.clone();
            async move { stop.requested().await }
        });
    tokio::select! {
        ended = drained => ended.map_err(|error| failed(&error)),
        () = async { stop.requested().await; tokio::time::sleep(DRAIN).await } => Ok(()),
    }
}

impl Aggregator {
    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What became of the reports.
    pub fn reports(&self) -> &Reports {
        &self.reports
    }

    /// Returns only if the server ends without being asked to, with the reason.
    pub async fn failed(&mut self) -> ServeError {
        match self.ended().await {
            Ok(()) => ServeError::Server("it ended without being asked to".to_owned()),
            Err(error) => error,
        }
    }

    /// Ends all streams, finishes what was received, and closes the store; takes four seconds at most.
    ///
    /// # Errors
    /// When the server failed.
    pub async fn stop(mut self) -> Result<(), ServeError> {
        self.stop.request();
        let ended = self.ended().await;
        self.finish().await;
        ended
    }

    async fn ended(&mut self) -> Result<(), ServeError> {
        let Some(server) = &mut self.server else { return Ok(()) };
        let ended = server.await;
        self.server = None;
        ended.map_err(|error| ServeError::Server(error.to_string()))?
    }

    async fn finish(self) {
        for task in self.background {
            task.abort();
        }
        if tokio::time::timeout(STORE_CLOSE, self.store.close()).await.is_err() {
            tracing::warn!(
                "the store did not close in time; what was acknowledged is safe in its write-ahead log"
            );
        }
        let revisions = self.diagnoser.revisions();
        let count =
            |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
        tracing::info!(
            revisions = count(&revisions.made),
            revisions_failed = count(&revisions.failed),
            unsettled_dropped = count(&revisions.dropped),
            healthy_forgotten = self.diagnoser.healthy_forgotten(),
            removed_too_old = count(&self.store.written().removed_too_old),
            removed_too_much = count(&self.store.written().removed_too_much),
            events_written = count(&self.announced.written),
            events_dropped = count(&self.announced.dropped),
            events_failed = count(&self.announced.failed),
            "stopped; reports: {}",
            self.reports.counts()
        );
    }
}
