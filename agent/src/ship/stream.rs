//! One stream to the aggregator, from the connection to its end.

use std::error::Error as _;
use std::time::Duration;

use lastwords_proto::v1;
use lastwords_proto::v1::acknowledgement::Outcome;
use lastwords_proto::v1::crash_ingest_client::CrashIngestClient;
use lastwords_proto::v1::stream_crashes_request::Message;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use super::back_off::BackOff;
use super::connect::{self, OPEN_TIMEOUT, innermost};
use super::flow::{Flow, IN_FLIGHT};
use super::{HealthyRuns, ShipSettings, heartbeat, is_down};
use crate::counters;
use crate::escape::escape;
use crate::spool::Spool;

/// An aggregator that owes acknowledgements for this long hangs: a new connection may reach another one.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(60);
/// A stream that lasted this long, or brought an acknowledgement, works: only then the aggregator counts as back.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// How long what was sent last may take to arrive when a stream is ended on purpose.
const CLOSES_WITHIN: Duration = Duration::from_secs(1);

/// Healthy runs on their way at most.
const HEALTHY_RUNS: usize = 16;

/// How a stream ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// After the shutdown signal, with nothing left to send.
    Drained,
    /// It has lasted long enough, and the next one is begun.
    Renewed,
    /// For this reason.
    Broken(String),
}

pub(super) struct Stream<'a> {
    pub(super) spool: &'a Spool,
    pub(super) healthy: &'a HealthyRuns,
    pub(super) settings: &'a ShipSettings,
    pub(super) hello: &'a v1::AgentHello,
    pub(super) back_off: &'a BackOff,
}

impl Stream<'_> {
    /// Connects and delivers until the stream breaks, or nothing is left to send after `shutdown`. Calls `settled` once it works.
    pub(super) async fn run(&self, shutdown: &mut watch::Receiver<bool>, mut settled: impl FnMut()) -> Ended {
        let opening = async {
            let channel = connect::connect(self.settings).await?;
            Ok::<_, String>((channel, connect::token(self.settings)?))
        };
        let (channel, token) = match opening.await {
            Ok(opened) => opened,
            Err(reason) => return Ended::Broken(reason),
        };
        // Room for all that may be in flight and the hello, so that sending never waits, and for some healthy runs.
        let (requests, outgoing) = mpsc::channel(IN_FLIGHT + 1 + HEALTHY_RUNS);
        let hello = request(Message::Hello(self.hello.clone()));
        let mut client = CrashIngestClient::new(channel);
        if requests.try_send(hello).is_err() {
            return Ended::Broken("the stream ended as it began".to_owned());
        }
        let mut call = Request::new(ReceiverStream::new(outgoing));
        if let Some(token) = token {
            call.metadata_mut().insert("authorization", token);
        }
        let opened = timeout(OPEN_TIMEOUT, client.stream_crashes(call)).await;
        let mut acknowledgements = match opened {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return Ended::Broken(said(&status)),
            Err(_) => return Ended::Broken(format!("no answer within {} s", OPEN_TIMEOUT.as_secs())),
        };

        let mut flow = Flow::new(self.back_off.clone());
        let mut last_heard = Instant::now();
        let mut settles_at = Some(last_heard + SETTLED_AFTER);
        let mut stopping = is_down(shutdown);
        let mut beats_at = Instant::now();
        let renews_at = Instant::now() + self.renews_after();
        loop {
            let was_waiting = flow.is_waiting();
            let renews = renews_at <= Instant::now() && !stopping;
            if renews && !was_waiting {
                drop(requests);
                let end = async { while let Ok(Some(_)) = acknowledgements.message().await {} };
                // Who does not end it has had the time to read.
                let _ = timeout(CLOSES_WITHIN, end).await;
                return Ended::Renewed;
            }
            while !renews && let Some(report) = flow.next(self.spool, Instant::now()) {
                if !was_waiting {
                    last_heard = Instant::now();
                }
                counters::REPORTS_SENT.increment();
                if requests.try_send(request(Message::Report(report))).is_err() {
                    return Ended::Broken("the aggregator closed the stream".to_owned());
                }
            }
            // Never in the way of a report.
            while requests.capacity() > IN_FLIGHT
                && let Some(run) = self.healthy.pop()
            {
                counters::HEALTHY_RUNS_SENT.increment();
                if requests.try_send(request(Message::Healthy(run))).is_err() {
                    return Ended::Broken("the aggregator closed the stream".to_owned());
                }
            }
            if beats_at <= Instant::now() && requests.capacity() > IN_FLIGHT {
                beats_at = Instant::now() + heartbeat::EVERY;
                let beat = heartbeat::now(self.spool.pending());
                if requests.try_send(request(Message::Heartbeat(beat))).is_err() {
                    return Ended::Broken("the aggregator closed the stream".to_owned());
                }
            }
            if stopping && self.spool.pending() == 0 {
                return Ended::Drained;
            }
            let due = flow.next_due();
            tokio::select! {
                received = acknowledgements.message() => match received {
                    Ok(Some(response)) => {
                        last_heard = Instant::now();
                        if settles_at.take().is_some() {
                            settled();
                        }
                        if let Some(acknowledgement) = response.acknowledgement {
                            self.acknowledge(&mut flow, &acknowledgement);
                        }
                    }
                    Ok(None) => return Ended::Broken("the aggregator closed the stream".to_owned()),
                    Err(status) => return Ended::Broken(said(&status)),
                },
                () = self.spool.appended() => {}
                () = self.healthy.more() => {}
                () = at(due), if !renews => {}
                () = sleep_until(renews_at), if !renews && !stopping => {}
                // One that found no room is made up for with the next thing that happens.
                () = sleep_until(beats_at), if beats_at > Instant::now() => {}
                () = at(settles_at) => {
                    settles_at = None;
                    settled();
                }
                () = sleep_until(last_heard + ACKNOWLEDGED_WITHIN), if flow.is_waiting() => {
                    return Ended::Broken(format!("no acknowledgement for {} s", ACKNOWLEDGED_WITHIN.as_secs()));
                }
                _ = shutdown.wait_for(|down| *down), if !stopping => stopping = true,
            }
        }
    }

    /// From two thirds of the setting on, so that the agents of a cluster do not come all at once.
    fn renews_after(&self) -> Duration {
        let random = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
        self.settings.renew_after.mul_f64((2.0 + random) / 3.0)
    }

    fn acknowledge(&self, flow: &mut Flow, acknowledgement: &v1::Acknowledgement) {
        let sequence = acknowledgement.sequence;
        match acknowledgement.outcome() {
            Outcome::Stored => counters::REPORTS_STORED.increment(),
            Outcome::Rejected => {
                counters::REPORTS_REJECTED.increment();
                let reason = escape(acknowledgement.reason.as_bytes(), 300);
                tracing::warn!("the aggregator rejected crash report {sequence}: {reason}; it is dropped");
            }
            Outcome::Retry | Outcome::Unspecified => {
                counters::REPORTS_RETRIED.increment();
                tracing::debug!("crash report {sequence} is sent again later: {:?}", acknowledgement.reason);
                flow.put_off(sequence, Instant::now());
                return;
            }
        }
        flow.finish(sequence);
        self.spool.acknowledge(sequence);
    }
}

fn request(message: Message) -> v1::StreamCrashesRequest {
    v1::StreamCrashesRequest { message: Some(message) }
}

/// Resolves at that time, or never.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// What a status says for people: its message, else its code, else what lies below it.
fn said(status: &tonic::Status) -> String {
    match status.source() {
        Some(source) => innermost(source),
        None if status.message().is_empty() => status.code().to_string(),
        None => escape(status.message().as_bytes(), 300),
    }
}
