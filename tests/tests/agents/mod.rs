//! An agent as the aggregator hears it: for what must not depend on what this machine's kernel can show.
#![allow(clippy::unwrap_used, reason = "this file is part of a test")]

use std::time::{SystemTime, UNIX_EPOCH};

use lastwords_proto::v1;
use lastwords_proto::v1::acknowledgement::Outcome;
use lastwords_proto::v1::crash_ingest_client::CrashIngestClient;
use lastwords_proto::v1::stream_crashes_request::Message;
use lastwords_tests::patience::PATIENCE;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

pub(crate) struct Agent {
    requests: mpsc::Sender<v1::StreamCrashesRequest>,
    responses: Streaming<v1::StreamCrashesResponse>,
}

impl Agent {
    pub(crate) async fn connect(url: &str, node: &str) -> Self {
        let (requests, receiver) = mpsc::channel(64);
        let hello = v1::AgentHello { node: node.to_owned(), ..Default::default() };
        requests.send(v1::StreamCrashesRequest { message: Some(Message::Hello(hello)) }).await.unwrap();
        let channel = Channel::from_shared(url.to_owned()).unwrap().connect().await.unwrap();
        let mut client = CrashIngestClient::new(channel);
        let responses = client.stream_crashes(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Self { requests, responses }
    }

    pub(crate) async fn send(&self, report: v1::CrashReport) {
        let message = v1::StreamCrashesRequest { message: Some(Message::Report(report)) };
        self.requests.send(message).await.unwrap();
    }

    pub(crate) async fn report(&mut self, report: v1::CrashReport) {
        self.send(report).await;
        let answer = tokio::time::timeout(PATIENCE, self.responses.message()).await.unwrap();
        assert_eq!(answer.unwrap().unwrap().acknowledgement.unwrap().outcome(), Outcome::Stored);
    }
}

/// The container id of a run.
pub(crate) fn id(sequence: u64) -> String {
    format!("{sequence:064x}")
}

pub(crate) fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// The main process was refused a port that another one has. Of its pod an agent knows what its group is called.
pub(crate) fn port_in_use(node: &str, pod_uid: &str, sequence: u64) -> v1::CrashReport {
    let at = |before: i64| Some(prost_types::Timestamp { seconds: now() - before, nanos: 0 });
    let crash = v1::Crash {
        node: node.to_owned(),
        observed_at: at(0),
        agent_version: "0.1.0".to_owned(),
        container: Some(v1::Container {
            id: id(sequence),
            pod_uid: pod_uid.to_owned(),
            ..Default::default()
        }),
        process: Some(v1::Process {
            pid: 4242,
            comm: "api".to_owned(),
            started_at: at(1),
            exited_at: at(0),
            ..Default::default()
        }),
        exit: Some(v1::Exit { code: 1, ..Default::default() }),
        failures: vec![v1::Failure {
            syscall: "bind".to_owned(),
            errno: 98,
            errno_name: "EADDRINUSE".to_owned(),
            address: format!("0.0.0.0:{}/tcp", 8_000 + sequence),
            pid: 4242,
            comm: "api".to_owned(),
            count: 1,
            first_before_death_ms: 0.5,
            last_before_death_ms: 0.5,
            by_dying_thread: true,
            ..Default::default()
        }],
        ..Default::default()
    };
    v1::CrashReport { spool_id: format!("{:032x}", 7), sequence, crash: Some(crash) }
}
