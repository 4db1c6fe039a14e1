use std::collections::HashSet;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use lastwords_proto::v1::acknowledgement::Outcome;
use lastwords_proto::v1::crash_ingest_server::{CrashIngest, CrashIngestServer};
use lastwords_proto::v1::stream_crashes_request::Message;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use super::*;

/// What an aggregator saw, over all its lives.
#[derive(Default)]
struct Seen {
    hellos: Vec<String>,
    stored: HashSet<(String, u64)>,
    /// Numbers of the reports of each stream, in the order they came.
    streams: Vec<Vec<u64>>,
}

/// An aggregator that stores in memory and answers as it is told.
#[derive(Clone)]
struct Aggregator {
    seen: Arc<Mutex<Seen>>,
    answer: Arc<dyn Fn(u64, usize) -> Answer + Send + Sync>,
}

enum Answer {
    Say(Outcome),
    Nothing,
}

type Responses = Pin<Box<dyn tokio_stream::Stream<Item = Result<v1::StreamCrashesResponse, Status>> + Send>>;

#[tonic::async_trait]
impl CrashIngest for Aggregator {
    type StreamCrashesStream = Responses;

    async fn stream_crashes(
        &self,
        request: Request<Streaming<v1::StreamCrashesRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let mut incoming = request.into_inner();
        let (responses, outgoing) = mpsc::channel(16);
        let aggregator = self.clone();
        let stream = {
            let mut seen = self.seen.lock().unwrap();
            seen.streams.push(Vec::new());
            seen.streams.len() - 1
        };
        tokio::spawn(async move {
            while let Ok(Some(request)) = incoming.message().await {
                let Some(acknowledgement) = aggregator.take(stream, request) else { continue };
                let response = v1::StreamCrashesResponse { acknowledgement: Some(acknowledgement) };
                if responses.send(Ok(response)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

impl Aggregator {
    fn new(answer: impl Fn(u64, usize) -> Answer + Send + Sync + 'static) -> Self {
        Self { seen: Arc::default(), answer: Arc::new(answer) }
    }

    fn take(&self, stream: usize, request: v1::StreamCrashesRequest) -> Option<v1::Acknowledgement> {
        let mut seen = self.seen.lock().unwrap();
        let report = match request.message? {
            Message::Hello(hello) => {
                seen.hellos.push(hello.node);
                return None;
            }
            Message::Report(report) => report,
            Message::Healthy(_) | Message::Heartbeat(_) => return None,
        };
        let times = seen.streams.iter().flatten().filter(|sequence| **sequence == report.sequence).count();
        seen.streams[stream].push(report.sequence);
        let Answer::Say(outcome) = (self.answer)(report.sequence, times) else {
            return None;
        };
        if outcome == Outcome::Stored {
            seen.stored.insert((report.spool_id.clone(), report.sequence));
        }
        Some(v1::Acknowledgement {
            spool_id: report.spool_id,
            sequence: report.sequence,
            outcome: outcome.into(),
            reason: "because".to_owned(),
        })
    }

    /// Serves in a runtime of its own, so that dropping that kills the server with all its connections.
    fn serve(&self, address: Option<SocketAddr>) -> (Runtime, SocketAddr) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let address = address.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap());
        let listener = bind(address);
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let service = CrashIngestServer::new(self.clone());
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let server = tonic::transport::Server::builder().add_service(service);
            server.serve_with_incoming(TcpListenerStream::new(listener)).await
        });
        (runtime, address)
    }

    fn stored(&self) -> usize {
        self.seen.lock().unwrap().stored.len()
    }
}

/// A server that was shut down holds its port until its own threads have come to that.
fn bind(address: SocketAddr) -> std::net::TcpListener {
    for _ in 0..6000 {
        match std::net::TcpListener::bind(address) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                std::thread::sleep(Duration::from_millis(10));
            }
            bound => return bound.unwrap(),
        }
    }
    panic!("not within a minute: {address} is free");
}

struct Agent {
    _directory: tempfile::TempDir,
    spool: Arc<Spool>,
    shutdown: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Agent {
    fn start(address: SocketAddr, reports: usize) -> Self {
        Self::start_with(ShipSettings::new(&format!("http://{address}")), reports)
    }

    fn start_with(settings: ShipSettings, reports: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let spool = Arc::new(Spool::open(directory.path(), 16 << 20).unwrap());
        (0..reports).for_each(|_| append(&spool));
        let settings = ShipSettings {
            shortest_wait: Duration::from_millis(20),
            longest_wait: Duration::from_millis(100),
            ..settings
        };
        let hello = v1::AgentHello { node: "worker-1".into(), ..v1::AgentHello::default() };
        let (shutdown, signal) = watch::channel(false);
        let task = tokio::spawn(ship(Arc::clone(&spool), Arc::default(), settings, hello, signal));
        Self { _directory: directory, spool, shutdown, task }
    }

    async fn stop(self) -> Duration {
        let start = std::time::Instant::now();
        self.shutdown.send(true).unwrap();
        self.task.await.unwrap();
        start.elapsed()
    }
}

fn append(spool: &Spool) {
    spool.append(v1::Crash { node: "worker-1".into(), ..v1::Crash::default() }).unwrap();
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..6000 {
        if holds() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("not within a minute: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delivers_what_is_spooled_and_what_comes_later() {
    let aggregator = Aggregator::new(|_, _| Answer::Say(Outcome::Stored));
    let (server, address) = aggregator.serve(None);
    let agent = Agent::start(address, 200);
    until("the first 200 are stored", || agent.spool.pending() == 0).await;
    append(&agent.spool);
    until("the later one is stored", || aggregator.stored() == 201).await;
    until("it is acknowledged", || agent.spool.pending() == 0).await;
    {
        let seen = aggregator.seen.lock().unwrap();
        assert_eq!(seen.hellos, ["worker-1"]);
        assert_eq!(seen.streams, [(1..=201).collect::<Vec<u64>>()]);
    }
    assert!(agent.stop().await < Duration::from_secs(1));
    server.shutdown_background();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aggregator_killed_in_mid_stream_loses_and_repeats_nothing() {
    let aggregator = Aggregator::new(|_, _| Answer::Say(Outcome::Stored));
    let (mut server, address) = aggregator.serve(None);
    let agent = Agent::start(address, 0);
    let mut appended = 0;
    for life in 1..=5 {
        for _ in 0..300 {
            append(&agent.spool);
            appended += 1;
            if appended % 50 == 0 {
                sleep(Duration::from_millis(2)).await;
            }
        }
        until("some are stored", || aggregator.stored() > (life - 1) * 300).await;
        server.shutdown_background();
        let forgotten = agent.spool.next_after(0).map_or(appended + 1, |report| report.sequence);
        let streams_before = aggregator.seen.lock().unwrap().streams.len();
        sleep(Duration::from_millis(50)).await;
        (server, _) = aggregator.serve(Some(address));
        until("it came back", || {
            agent.spool.pending() == 0 || aggregator.seen.lock().unwrap().streams.len() > streams_before
        })
        .await;
        let seen = aggregator.seen.lock().unwrap();
        let again = seen.streams.iter().skip(streams_before).flatten().min().copied();
        assert!(
            again.is_none_or(|sequence| sequence >= forgotten),
            "what was acknowledged is not sent again"
        );
    }
    until("all are stored", || agent.spool.pending() == 0).await;
    assert_eq!(aggregator.stored() as u64, appended);
    for stream in &aggregator.seen.lock().unwrap().streams {
        let once: HashSet<_> = stream.iter().collect();
        assert_eq!(once.len(), stream.len(), "on one stream nothing is sent twice");
    }
    agent.stop().await;
    server.shutdown_background();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_renewed_between_reports_and_nothing_is_lost_or_sent_twice() {
    let aggregator = Aggregator::new(|_, _| Answer::Say(Outcome::Stored));
    let (server, address) = aggregator.serve(None);
    let settings = ShipSettings::new(&format!("http://{address}"));
    let agent = Agent::start_with(ShipSettings { renew_after: Duration::from_millis(60), ..settings }, 0);
    let streams = || aggregator.seen.lock().unwrap().streams.len();
    let mut appended = 0;
    while streams() < 5 {
        append(&agent.spool);
        appended += 1;
        assert!(appended < 60_000, "no stream is renewed");
        sleep(Duration::from_millis(1)).await;
    }
    until("all are acknowledged", || agent.spool.pending() == 0).await;
    {
        let seen = aggregator.seen.lock().unwrap();
        let all: Vec<u64> = seen.streams.iter().flatten().copied().collect();
        assert_eq!(all, (1..=appended).collect::<Vec<u64>>());
        assert_eq!(seen.hellos.len(), seen.streams.len());
    }
    // Also when there is nothing to send.
    let before = streams();
    until("an idle stream is renewed", || streams() > before + 1).await;
    agent.stop().await;
    server.shutdown_background();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejected_reports_are_forgotten_and_retried_ones_come_again() {
    let aggregator = Aggregator::new(|sequence, times| match sequence {
        3 => Answer::Say(Outcome::Rejected),
        5 if times < 3 => Answer::Say(Outcome::Retry),
        _ => Answer::Say(Outcome::Stored),
    });
    let (server, address) = aggregator.serve(None);
    let agent = Agent::start(address, 10);
    until("nothing is pending", || agent.spool.pending() == 0).await;
    {
        let seen = aggregator.seen.lock().unwrap();
        let stored: HashSet<u64> = seen.stored.iter().map(|(_, sequence)| *sequence).collect();
        assert_eq!(stored, (1..=10).filter(|sequence| *sequence != 3).collect());
        assert_eq!(seen.streams.len(), 1);
        assert_eq!(seen.streams[0].iter().filter(|sequence| **sequence == 5).count(), 4);
    }
    agent.stop().await;
    server.shutdown_background();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_shutdown_what_is_pending_gets_a_last_chance() {
    // Nobody listens: nothing to wait for.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let agent = Agent::start(address, 3);
    let spool = Arc::clone(&agent.spool);
    sleep(Duration::from_millis(100)).await;
    assert!(agent.stop().await < Duration::from_secs(1));
    assert_eq!(spool.pending(), 3);

    // It listens and never acknowledges: three seconds.
    let silent = Aggregator::new(|_, _| Answer::Nothing);
    let (server, address) = silent.serve(None);
    let agent = Agent::start(address, 3);
    until("all are sent", || silent.seen.lock().unwrap().streams.iter().flatten().count() == 3).await;
    let took = agent.stop().await;
    assert!((Duration::from_secs(3)..Duration::from_secs(4)).contains(&took), "{took:?}");
    server.shutdown_background();

    // It acknowledges a little late.
    let late = Arc::new(AtomicBool::new(false));
    let ready = Arc::clone(&late);
    let slow = Aggregator::new(move |_, _| {
        if ready.load(Ordering::SeqCst) { Answer::Say(Outcome::Stored) } else { Answer::Say(Outcome::Retry) }
    });
    let (server, address) = slow.serve(None);
    let agent = Agent::start(address, 3);
    let spool = Arc::clone(&agent.spool);
    until("all are sent", || slow.seen.lock().unwrap().streams.iter().flatten().count() >= 3).await;
    late.store(true, Ordering::SeqCst);
    let took = agent.stop().await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!((spool.pending(), slow.stored()), (0, 3));
    server.shutdown_background();
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn says_once_that_the_aggregator_is_away_and_once_that_it_is_back() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    // Where there is one subscriber alone, an event that another test's thread comes by first is off for all, for that thread has none.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let count = |text: &str| String::from_utf8_lossy(&log.0.lock().unwrap()).matches(text).count();

    let aggregator = Aggregator::new(|_, _| Answer::Say(Outcome::Stored));
    let (server, address) = aggregator.serve(None);
    let agent = Agent::start(address, 1);
    until("it is connected", || count("connected to the aggregator") == 1).await;
    server.shutdown_background();
    until("it is away", || count("cannot deliver to the aggregator") == 1).await;
    append(&agent.spool);
    // Several tries, of which nothing is said.
    sleep(Duration::from_millis(500)).await;
    let (server, _) = aggregator.serve(Some(address));
    until("it is back", || count("is back") == 2).await;
    assert_eq!(count("cannot deliver to the aggregator"), 1);
    agent.stop().await;
    server.shutdown_background();
}
