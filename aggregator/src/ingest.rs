//! Takes the agents' reports: a hello, then one acknowledgement for each report, sent only once it is stored.
//!
//! Reports of a stream are handled side by side and acknowledged in whatever order they end, so none holds up another. What the
//! agent sends is not trusted: it may be of any shape, and only its size, identity and times decide whether it is kept.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use lastwords_proto::v1;
use lastwords_proto::v1::acknowledgement::Outcome;
use lastwords_proto::v1::crash_ingest_server::CrashIngest;
use lastwords_proto::v1::stream_crashes_request::Message;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::agents::Agents;
use crate::counters::{Rejection, Reports};
use crate::diagnose::{Diagnoser, Standing};
use crate::gate::Gate;
use crate::shutdown::Stop;
use crate::store::Inserted;
use crate::{lock, time};

/// Reports of one stream that are being stored at most; the next ones wait in the connection. Enough to fill one transaction.
const IN_FLIGHT: usize = 256;
/// Acknowledgements that wait for the network at most.
const ACKNOWLEDGEMENTS: usize = 64;
/// Longest name of a node: that of a DNS name, which Kubernetes demands.
const MAX_NODE_NAME: usize = 253;

/// The service `CrashIngest`.
#[derive(Debug, Clone)]
pub struct Ingest {
    diagnoser: Arc<Diagnoser>,
    agents: Arc<Mutex<Agents>>,
    reports: Arc<Reports>,
    max_report_bytes: usize,
    gate: Option<Arc<Gate>>,
    stop: Stop,
}

impl Ingest {
    /// Hands what it takes to `diagnoser` and what it hears of the agents themselves to `agents`; a report larger than
    /// `max_report_bytes` is rejected. Agents have to prove their node to `gate`, where there is one.
    pub fn new(
        diagnoser: Arc<Diagnoser>,
        agents: Arc<Mutex<Agents>>,
        reports: Arc<Reports>,
        max_report_bytes: usize,
        gate: Option<Arc<Gate>>,
        stop: Stop,
    ) -> Self {
        Self { diagnoser, agents, reports, max_report_bytes, gate, stop }
    }
}

#[tonic::async_trait]
impl CrashIngest for Ingest {
    type StreamCrashesStream = Pin<Box<dyn Stream<Item = Result<v1::StreamCrashesResponse, Status>> + Send>>;

    async fn stream_crashes(
        &self,
        request: Request<Streaming<v1::StreamCrashesRequest>>,
    ) -> Result<Response<Self::StreamCrashesStream>, Status> {
        let proven = match &self.gate {
            Some(gate) => Some(gate.agent(request.metadata()).await?),
            None => None,
        };
        let (answers, receiver) = mpsc::channel(ACKNOWLEDGEMENTS);
        let ingest = self.clone();
        tokio::spawn(async move {
            if let Err(status) = ingest.converse(request.into_inner(), proven, &answers).await {
                // An error means that the agent is gone.
                let _ = answers.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

type Answers = mpsc::Sender<Result<v1::StreamCrashesResponse, Status>>;

impl Ingest {
    async fn converse(
        &self,
        mut messages: Streaming<v1::StreamCrashesRequest>,
        proven: Option<String>,
        answers: &Answers,
    ) -> Result<(), Status> {
        let mut stop = self.stop.clone();
        let hello = tokio::select! {
            () = stop.requested() => return Err(stopping()),
            hello = messages.message() => hello?,
        };
        let Some(hello) = hello else { return Ok(()) };
        let hello = checked(hello)?;
        let node = hello.node.clone();
        if let (Some(gate), Some(proven)) = (&self.gate, proven)
            && proven != node
        {
            gate.agent_refused();
            return Err(Status::permission_denied("the token is of another node"));
        }
        lock(&self.agents).connected(&hello, time::now());
        let _disconnected = OnEnd(|| lock(&self.agents).disconnected(&node));
        let mut in_flight = FuturesUnordered::new();
        let result = loop {
            tokio::select! {
                () = stop.requested() => break Err(stopping()),
                Some(acknowledgement) = in_flight.next(), if !in_flight.is_empty() => acknowledge(answers, acknowledgement).await,
                message = messages.message(), if in_flight.len() < IN_FLIGHT => match message {
                    Ok(Some(v1::StreamCrashesRequest { message: Some(Message::Report(report)) })) => {
                        self.reports.received();
                        lock(&self.agents).reported(&node, time::now());
                        in_flight.push(self.handle(&node, report));
                    }
                    Ok(Some(v1::StreamCrashesRequest { message: Some(Message::Hello(_)) })) => {
                        break Err(Status::invalid_argument("a stream has one hello, at its beginning"));
                    }
                    Ok(Some(v1::StreamCrashesRequest { message: Some(Message::Healthy(run)) })) => {
                        self.diagnoser.note_healthy(&run, &node).await;
                    }
                    Ok(Some(v1::StreamCrashesRequest { message: Some(Message::Heartbeat(beat)) })) => {
                        lock(&self.agents).beat(&node, beat, time::now());
                    }
                    // A kind of message that a newer agent knows.
                    Ok(Some(v1::StreamCrashesRequest { message: None })) => {}
                    Ok(None) => break Ok(()),
                    Err(status) => break Err(status),
                },
            }
        };
        // What was received is carried to its end, whether or not the agent still listens: it is in the store or it is not,
        // and either way it is counted.
        while let Some(acknowledgement) = in_flight.next().await {
            acknowledge(answers, acknowledgement).await;
        }
        result
    }

    async fn handle(&self, node: &str, report: v1::CrashReport) -> v1::Acknowledgement {
        let v1::CrashReport { spool_id, sequence, .. } = &report;
        let (spool_id, sequence) = (spool_id.clone(), *sequence);
        let (outcome, reason) = match self.check(node, report) {
            Ok((id, crash)) => self.keep(id, crash).await,
            Err((rejection, reason)) => {
                self.reports.rejected(rejection);
                tracing::warn!(node, sequence, "report rejected: {reason}");
                (Outcome::Rejected, reason)
            }
        };
        v1::Acknowledgement { spool_id, sequence, outcome: outcome.into(), reason }
    }

    async fn keep(&self, id: String, crash: v1::Crash) -> (Outcome, String) {
        match self.diagnoser.take(id, crash).await {
            Ok(Inserted::New) => {
                self.reports.stored();
                (Outcome::Stored, String::new())
            }
            Ok(Inserted::Known) => {
                self.reports.duplicate();
                (Outcome::Stored, String::new())
            }
            Err(error) => {
                self.reports.retry();
                (Outcome::Retry, error.to_string())
            }
        }
    }

    /// The id of the crash and the crash itself, without what is not the agent's to say.
    fn check(&self, node: &str, report: v1::CrashReport) -> Result<(String, v1::Crash), (Rejection, String)> {
        let size = report.encoded_len();
        if size > self.max_report_bytes {
            let reason =
                format!("the report has {size} bytes and at most {} are taken", self.max_report_bytes);
            return Err((Rejection::TooLarge, reason));
        }
        let v1::CrashReport { spool_id, sequence, crash } = report;
        let is_spool_id = spool_id.len() == 32 && spool_id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_spool_id || sequence == 0 || i64::try_from(sequence).is_err() {
            let reason = "a spool id has 32 hexadecimal digits and a sequence begins with 1".to_owned();
            return Err((Rejection::BadIdentity, reason));
        }
        let Some(crash) = crash else {
            return Err((Rejection::NoCrash, "the report carries no crash".to_owned()));
        };
        if crash.node != node {
            let reason = "the crash is of another node than its stream".to_owned();
            return Err((Rejection::OtherNode, reason));
        }
        let standing = crash.container.as_ref().map(|container| self.diagnoser.standing_of(container, node));
        if standing == Some(Standing::Elsewhere) {
            let reason = "the container is of a pod on another node".to_owned();
            return Err((Rejection::OtherNode, reason));
        }
        well_formed(&crash).map_err(|reason| (Rejection::Malformed, reason.to_owned()))?;
        let id = format!("{node}/{}/{sequence}", spool_id.to_ascii_lowercase());
        let crash = v1::Crash {
            id: String::new(),
            cluster: String::new(),
            pod_state: None,
            diagnosis: None,
            pod_unconfirmed: false,
            ..crash
        };
        Ok((id, crash))
    }
}

fn well_formed(crash: &v1::Crash) -> Result<(), &'static str> {
    if crash.observed_at.as_ref().and_then(time::from_wire).is_none() {
        return Err("the crash has no usable observed_at");
    }
    if crash.container.as_ref().is_none_or(|container| container.id.is_empty()) {
        return Err("the crash names no container id");
    }
    let failures = crash
        .failures
        .iter()
        .flat_map(|it| [it.first_before_death_ms, it.last_before_death_ms, it.waited_for_processor_ms]);
    let signals = crash.signals.iter().map(|signal| signal.before_death_ms);
    let children = crash.child_exits.iter().map(|child| child.before_death_ms);
    if !failures.chain(signals).chain(children).all(f64::is_finite) {
        return Err("a time before death is no number");
    }
    Ok(())
}

/// Does it when it is dropped.
struct OnEnd<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn checked(first: v1::StreamCrashesRequest) -> Result<v1::AgentHello, Status> {
    let Some(Message::Hello(hello)) = first.message else {
        return Err(Status::invalid_argument("the first message of a stream has to be a hello"));
    };
    let node = &hello.node;
    // The node is the first part of every crash's id, which slashes divide.
    let is_name = !node.is_empty()
        && node.len() <= MAX_NODE_NAME
        && node.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if !is_name {
        return Err(Status::invalid_argument(format!(
            "{node:?} is no name of a node: set node_name in the agent"
        )));
    }
    tracing::debug!(
        node,
        agent_version = hello.agent_version,
        kernel = hello.kernel_release,
        "agent connected"
    );
    Ok(hello)
}

async fn acknowledge(answers: &Answers, acknowledgement: v1::Acknowledgement) {
    let response = v1::StreamCrashesResponse { acknowledgement: Some(acknowledgement) };
    // An error means that the agent is gone: it sends the report again, and gets its acknowledgement then.
    let _ = answers.send(Ok(response)).await;
}

fn stopping() -> Status {
    Status::unavailable("the aggregator is stopping")
}
