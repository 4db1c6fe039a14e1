//! An aggregator on a free port, and what an agent and a person say to it.
#![allow(dead_code, reason = "each test file uses a part")]

use std::time::Duration;

use lastwords_aggregator::config::Settings;
use lastwords_aggregator::serve::{self, Aggregator};
use lastwords_aggregator::tls::Mode;
use lastwords_proto::v1;
use lastwords_proto::v1::crash_ingest_client::CrashIngestClient;
use lastwords_proto::v1::crash_query_client::CrashQueryClient;
use lastwords_proto::v1::stream_crashes_request::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

/// How long anything may take here before that is a failure.
pub(crate) const SOON: Duration = Duration::from_secs(10);
pub(crate) const SPOOL: &str = "0123456789abcdef0123456789abcdef";

pub(crate) fn settings(directory: &tempfile::TempDir) -> Settings {
    Settings {
        listen: ([127, 0, 0, 1], 0).into(),
        store: lastwords_aggregator::store::Place::Sqlite(directory.path().join("lastwords.db")),
        kubernetes: None,
        tls: Mode::Off,
        authorization: None,
        ..Settings::default()
    }
}

pub(crate) async fn start(directory: &tempfile::TempDir) -> Aggregator {
    serve::start(settings(directory)).await.unwrap()
}

pub(crate) async fn channel(aggregator: &Aggregator) -> Channel {
    Channel::from_shared(format!("http://{}", aggregator.address())).unwrap().connect().await.unwrap()
}

pub(crate) async fn query(aggregator: &Aggregator) -> CrashQueryClient<Channel> {
    CrashQueryClient::new(channel(aggregator).await)
}

/// One stream of one agent.
pub(crate) struct Agent {
    pub(crate) requests: mpsc::Sender<v1::StreamCrashesRequest>,
    pub(crate) responses: Streaming<v1::StreamCrashesResponse>,
}

impl Agent {
    pub(crate) async fn connect(aggregator: &Aggregator, node: &str) -> Self {
        let hello = v1::AgentHello { node: node.to_owned(), ..v1::AgentHello::default() };
        Self::connect_with(aggregator, Message::Hello(hello)).await
    }

    /// Opens a stream as this node, by this token.
    pub(crate) async fn prove(channel: Channel, node: &str, token: &str) -> Result<Self, tonic::Status> {
        let (requests, receiver) = mpsc::channel(1_024);
        let hello = v1::AgentHello { node: node.to_owned(), ..v1::AgentHello::default() };
        requests.send(v1::StreamCrashesRequest { message: Some(Message::Hello(hello)) }).await.unwrap();
        let call = with_token(ReceiverStream::new(receiver), token);
        let responses = CrashIngestClient::new(channel).stream_crashes(call).await?.into_inner();
        Ok(Self { requests, responses })
    }

    pub(crate) async fn connect_with(aggregator: &Aggregator, first: Message) -> Self {
        let (requests, receiver) = mpsc::channel(1_024);
        requests.send(v1::StreamCrashesRequest { message: Some(first) }).await.unwrap();
        let mut client = CrashIngestClient::new(channel(aggregator).await);
        let responses = client.stream_crashes(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Self { requests, responses }
    }

    pub(crate) async fn send(&self, report: v1::CrashReport) {
        self.requests
            .send(v1::StreamCrashesRequest { message: Some(Message::Report(report)) })
            .await
            .unwrap();
    }

    pub(crate) async fn acknowledgement(&mut self) -> v1::Acknowledgement {
        let response = tokio::time::timeout(SOON, self.responses.message()).await.unwrap().unwrap().unwrap();
        response.acknowledgement.unwrap()
    }

    pub(crate) async fn report(&mut self, report: v1::CrashReport) -> v1::Acknowledgement {
        self.send(report).await;
        self.acknowledgement().await
    }
}

/// A request with this token; without one when it is empty.
pub(crate) fn with_token<T>(message: T, token: &str) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if !token.is_empty() {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    request
}

/// A container killed for want of memory, as an agent reports it.
pub(crate) fn report(node: &str, sequence: u64, namespace: &str, pod: &str) -> v1::CrashReport {
    let at = |seconds: i64| Some(prost_types::Timestamp { seconds: 1_790_000_000 + seconds, nanos: 0 });
    let now = i64::try_from(sequence).unwrap();
    let crash = v1::Crash {
        node: node.to_owned(),
        observed_at: at(now),
        container: Some(v1::Container {
            runtime: "containerd".to_owned(),
            id: format!("{sequence:064x}"),
            pod_uid: format!("uid-of-{pod}"),
            pod_name: pod.to_owned(),
            namespace: namespace.to_owned(),
            name: "app".to_owned(),
            ..v1::Container::default()
        }),
        process: Some(v1::Process {
            pid: 4242,
            comm: "stress".to_owned(),
            started_at: at(now - 1),
            exited_at: at(now),
            ..v1::Process::default()
        }),
        exit: Some(v1::Exit {
            signal: 9,
            signal_name: "SIGKILL".to_owned(),
            killed_by: Some(v1::KilledBy {
                kind: v1::killed_by::Kind::OomKiller.into(),
                ..v1::KilledBy::default()
            }),
            ..v1::Exit::default()
        }),
        oom: vec![v1::OomKill {
            victim_pid: 4242,
            victim_comm: "stress".to_owned(),
            victim_is_main: true,
            scope: v1::oom_kill::Scope::Container.into(),
            limit_bytes: 64 << 20,
            usage_bytes: 64 << 20,
            anon_rss_bytes: 63 << 20,
            time: at(now),
            ..v1::OomKill::default()
        }],
        ..v1::Crash::default()
    };
    v1::CrashReport { spool_id: SPOOL.to_owned(), sequence, crash: Some(crash) }
}
