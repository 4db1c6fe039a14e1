//! The running aggregator: its parts put together, and taken apart in order.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lastwords_proto::DESCRIPTORS;
use lastwords_proto::v1::crash_ingest_server::CrashIngestServer;
use lastwords_proto::v1::crash_query_server::CrashQueryServer;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tonic::server::NamedService as _;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::agents::{self, Agents};
use crate::api::Query;
use crate::config::Settings;
use crate::connection::connections;
use crate::counters::Reports;
use crate::diagnose::{Diagnoser, Revisions};
use crate::gate::Gate;
use crate::guard::Guarded;
use crate::ingest::Ingest;
use crate::kubernetes::{
    self, Access, Annotated, Annotating, Announced, Announcing, Cluster, Listed, OnPods, Reviewer, Security,
};
use crate::metrics::{self, Queries, Sources};
use crate::pods::Pods;
use crate::shutdown::{self, Stop, StopSender};
use crate::store::{Store, StoreError};
use crate::tls::{self, CallerCertificates, Shown};

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
    /// The certificate cannot be used.
    #[error("no TLS: {0}")]
    Certificate(String),
    /// A part of this program is broken.
    #[error("the server failed: {0}")]
    Server(String),
}

/// A running aggregator.
#[derive(Debug)]
pub struct Aggregator {
    address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    health_address: Option<SocketAddr>,
    stop: StopSender,
    server: Option<JoinHandle<Result<(), ServeError>>>,
    background: Vec<JoinHandle<()>>,
    /// Lets go of the lead, so that another aggregator need not wait for its end.
    letting_go: Option<JoinHandle<()>>,
    store: Arc<dyn Store>,
    diagnoser: Arc<Diagnoser>,
    reports: Arc<Reports>,
    announced: Arc<Announced>,
    annotated: Arc<Annotated>,
    gate: Option<Arc<Gate>>,
}

/// Opens the store, follows the cluster, and serves.
///
/// # Errors
/// When the store or the address cannot be used.
pub async fn start(settings: Settings) -> Result<Aggregator, ServeError> {
    let store = settings.store.open(settings.retention).await?;
    let listener = TcpListener::bind(settings.listen)
        .await
        .map_err(|error| ServeError::Listen(settings.listen, error))?;
    let address = listener.local_addr().map_err(|error| ServeError::Listen(settings.listen, error))?;

    let health_listener = listening(settings.health_listen).await?;
    let metrics_listener = listening(settings.metrics_listen).await?;

    let (stop_sender, stop) = shutdown::stop();
    let gate = settings.kubernetes.clone().zip(settings.authorization);
    let gate = gate.map(|(access, account)| Arc::new(Gate::new(Reviewer::new(access), account)));
    let pods = Arc::new(Mutex::new(Pods::new(settings.back_off)));
    let agents = Arc::new(Mutex::new(Agents::default()));
    let (changes, heard) = mpsc::channel(CHANGES);
    let diagnoser = Arc::new(Diagnoser::new(
        Arc::clone(&pods),
        Arc::clone(&agents),
        store.clone(),
        changes.clone(),
        settings.wait_for_agents,
        settings.cluster,
        gate.is_some(),
    ));
    diagnoser.remember_again().await;
    let reports = Arc::new(Reports::default());
    let announced = Arc::new(Announced::default());
    let annotated = Arc::new(Annotated::default());

    // Who has a store of its own leads; and without Kubernetes there is nothing that only one may do.
    let contender = settings.kubernetes.clone().filter(|_| store.is_shared());
    let (leader, leading) = watch::channel(contender.is_none());
    let mut background = vec![tokio::spawn({
        let (diagnoser, leading, stop) = (Arc::clone(&diagnoser), leading.clone(), stop.clone());
        async move { diagnoser.follow(heard, settings.keep_deleted_pods, leading, stop).await }
    })];
    let mut letting_go = None;
    if let Some(access) = contender {
        letting_go = Some(tokio::spawn(kubernetes::contend(access, settings.lease, leader, stop.clone())));
    }
    let tls = encrypted(settings.tls, settings.kubernetes.clone(), gate.is_some(), &stop, &mut background)?;
    say_what_is_open(address, tls.is_some(), gate.is_some());
    let listed = Arc::new(Listed::default());
    if let Some(access) = settings.kubernetes {
        let cluster = Cluster { pods: Arc::clone(&pods), changes, listed: Arc::clone(&listed) };
        let events = settings.write_events.then(|| Announcing {
            judged: diagnoser.to_announce(),
            counts: Arc::clone(&announced),
            store: store.clone(),
            leading: leading.clone(),
        });
        let annotations = settings.annotate_pods.then(|| Annotating {
            judged: diagnoser.to_announce(),
            counts: Arc::clone(&annotated),
            leading: leading.clone(),
        });
        let on_pods = OnPods { events, annotations };
        background.push(tokio::spawn(kubernetes::follow(access, cluster, on_pods, stop.clone())));
    }

    if store.is_shared() {
        background.push(tokio::spawn(agents::share(Arc::clone(&agents), store.clone(), stop.clone())));
    }
    let ingest = Ingest::new(
        Arc::clone(&diagnoser),
        Arc::clone(&agents),
        Arc::clone(&reports),
        settings.max_report_bytes,
        gate.clone(),
        stop.clone(),
    );
    let query = Query::new(
        store.clone(),
        Arc::clone(&pods),
        Arc::clone(&agents),
        Arc::clone(&diagnoser),
        stop.clone(),
    );
    let query = Guarded::new(query, gate.clone());
    let queries = Queries::default();
    let health_address = health_listener.as_ref().and_then(|listener| listener.local_addr().ok());
    let listeners = Listeners { agents_and_people: listener, tls, probes: health_listener };
    let server = Some(tokio::spawn(serve(listeners, ingest, query, queries.clone(), stop)));
    tracing::info!(%address, store = %settings.store, "ready");
    let metrics_address = metrics_listener.as_ref().and_then(|listener| listener.local_addr().ok());
    if let Some(listener) = metrics_listener {
        let sources = Sources {
            reports: Arc::clone(&reports),
            diagnoser: Arc::clone(&diagnoser),
            store: store.clone(),
            agents,
            pods,
            listed,
            announced: Arc::clone(&announced),
            annotated: Arc::clone(&annotated),
            gate: gate.clone(),
            leading,
        };
        let registry = Arc::new(metrics::registry(sources, &queries));
        background.push(tokio::spawn(lastwords_metrics::serve(listener, registry)));
    }
    Ok(Aggregator {
        address,
        metrics_address,
        health_address,
        stop: stop_sender,
        server,
        background,
        letting_go,
        store,
        diagnoser,
        reports,
        announced,
        annotated,
        gate,
    })
}

async fn listening(at: Option<SocketAddr>) -> Result<Option<TcpListener>, ServeError> {
    let Some(at) = at else { return Ok(None) };
    TcpListener::bind(at).await.map(Some).map_err(|error| ServeError::Listen(at, error))
}

/// TLS as it is set, its certificate kept up to date in the background; None for plain text.
fn encrypted(
    mode: tls::Mode,
    access: Option<Access>,
    ask_callers: bool,
    stop: &Stop,
    background: &mut Vec<JoinHandle<()>>,
) -> Result<Option<Encrypted>, ServeError> {
    let shown = Arc::new(Shown::default());
    let callers = Arc::new(CallerCertificates::default());
    let own = match mode {
        tls::Mode::Off => return Ok(None),
        tls::Mode::Own(own) => Some((own, Arc::clone(&shown))),
        tls::Mode::Files { certificate, key } => {
            let following = tls::follow_files(certificate, key, Arc::clone(&shown));
            background.push(tokio::spawn(following.map_err(ServeError::Certificate)?));
            None
        }
    };
    if let Some(access) = access {
        let security = Security { own, callers: ask_callers.then(|| Arc::clone(&callers)) };
        background.push(tokio::spawn(kubernetes::secure(access, security, stop.clone())));
    }
    let server = tls::server(Arc::clone(&shown), callers);
    let server = server.map_err(|error| ServeError::Certificate(error.to_string()))?;
    Ok(Some(Encrypted { server, certificate: shown }))
}

fn say_what_is_open(address: SocketAddr, encrypted: bool, guarded: bool) {
    if address.ip().is_loopback() {
        tracing::debug!(encrypted, guarded, "only this host can connect");
        return;
    }
    if !encrypted {
        tracing::warn!(
            "{address} is plain text: whoever is on the way reads and changes what passes (tls.mode is off)"
        );
    }
    if !guarded {
        tracing::warn!(
            "{address} asks nobody who they are: whoever reaches it reads all and reports anything (authorization.enabled)"
        );
    }
}

struct Encrypted {
    server: Arc<ServerConfig>,
    /// Without it nobody can connect yet.
    certificate: Arc<Shown>,
}

struct Listeners {
    agents_and_people: TcpListener,
    tls: Option<Encrypted>,
    probes: Option<TcpListener>,
}

async fn serve(
    listeners: Listeners,
    ingest: Ingest,
    query: Guarded,
    queries: Queries,
    mut stop: Stop,
) -> Result<(), ServeError> {
    let failed = |error: &dyn std::fmt::Display| ServeError::Server(error.to_string());
    let (health, health_service) = tonic_health::server::health_reporter();
    is_ready(&health, listeners.tls.is_none()).await;
    let (tls, certificate) = listeners.tls.map(|tls| (tls.server, tls.certificate)).unzip();
    let certified = certificate.map(|certificate| {
        tokio::spawn(async move {
            certificate.is_there().await;
            is_ready(&health, true).await;
        })
    });
    let probes = listeners.probes.map(|listener| {
        let server = Server::builder().add_service(health_service.clone());
        tokio::spawn(server.serve_with_incoming(connections(listener, None)))
    });
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let drained = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_service(CrashIngestServer::new(ingest).max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(queries.timed(CrashQueryServer::new(query)))
        .add_service(health_service)
        .add_service(reflection().build_v1().map_err(|error| failed(&error))?)
        .add_service(reflection().build_v1alpha().map_err(|error| failed(&error))?)
        .serve_with_incoming_shutdown(connections(listeners.agents_and_people, tls), {
            let mut stop = stop.clone();
            async move { stop.requested().await }
        });
    let ended = tokio::select! {
        ended = drained => ended.map_err(|error| failed(&error)),
        () = async { stop.requested().await; tokio::time::sleep(DRAIN).await } => Ok(()),
    };
    if let Some(probes) = probes {
        probes.abort();
    }
    if let Some(certified) = certified {
        certified.abort();
    }
    ended
}

/// Says to whoever asks for its health whether agents and people can be served: the program as a whole, and each of its services.
async fn is_ready(health: &HealthReporter, ready: bool) {
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in ["", CrashIngestServer::<Ingest>::NAME, CrashQueryServer::<Guarded>::NAME] {
        health.set_service_status(service, status).await;
    }
}

impl Aggregator {
    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it tells its health besides, if it does.
    pub fn health_address(&self) -> Option<SocketAddr> {
        self.health_address
    }

    /// Where it answers Prometheus, if it does.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// What became of the reports.
    pub fn reports(&self) -> &Reports {
        &self.reports
    }

    /// What was made anew of the crashes, and what was removed.
    pub fn revisions(&self) -> &Revisions {
        self.diagnoser.revisions()
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
        if let Some(letting_go) = self.letting_go {
            // When it takes longer the lead ends by itself.
            let _ = tokio::time::timeout(STORE_CLOSE, letting_go).await;
        }
        if tokio::time::timeout(STORE_CLOSE, self.store.close()).await.is_err() {
            tracing::warn!("the store did not close in time; what was acknowledged is safe in it");
        }
        let revisions = self.diagnoser.revisions();
        let count =
            |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
        tracing::info!(
            revisions = count(&revisions.made),
            revisions_failed = count(&revisions.failed),
            crashes_unread = count(&revisions.unread),
            unsettled_dropped = count(&revisions.dropped),
            healthy_forgotten = self.diagnoser.healthy_forgotten(),
            removed_too_old = count(&self.store.written().removed_too_old),
            removed_too_much = count(&self.store.written().removed_too_much),
            events_written = count(&self.announced.written),
            events_dropped = count(&self.announced.dropped),
            events_put_off = count(&self.announced.put_off),
            events_failed = count(&self.announced.failed),
            annotations_written = count(&self.annotated.written),
            annotations_gone = count(&self.annotated.gone),
            annotations_refused = count(&self.annotated.refused),
            annotations_failed = count(&self.annotated.failed),
            annotations_dropped = count(&self.annotated.dropped),
            gate = self.gate.as_ref().map(tracing::field::display),
            "stopped; reports: {}",
            self.reports.counts()
        );
    }
}
