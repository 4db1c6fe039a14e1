//! What an agent of the last release sends is taken: the recording in `proto/wire`, with every field of a report filled.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod common;

use common::{Agent, SPOOL, query, start};
use lastwords_proto::v1;
use lastwords_proto::v1::acknowledgement::Outcome;
use lastwords_proto::v1::stream_crashes_request::Message;
use prost::Message as _;

#[tokio::test]
async fn a_stream_of_the_last_release_is_taken_and_answered() {
    let recorded = include_bytes!("../../proto/wire/StreamCrashesRequest.binpb");
    let mut rest = recorded.as_slice();
    let directory = tempfile::tempdir().unwrap();
    let aggregator = start(&directory).await;
    let mut agent = None;
    let mut stored = None;
    while !rest.is_empty() {
        match v1::StreamCrashesRequest::decode_length_delimited(&mut rest).unwrap().message.unwrap() {
            Message::Hello(hello) => {
                agent = Some(Agent::connect_with(&aggregator, Message::Hello(hello)).await);
            }
            Message::Report(mut report) => {
                // The recording is of no time and of no spool.
                SPOOL.clone_into(&mut report.spool_id);
                let crash = report.crash.as_mut().unwrap();
                crash.observed_at = Some(std::time::SystemTime::now().into());
                let sent = crash.clone();
                let id = format!("{}/{SPOOL}/{}", sent.node, report.sequence);
                let answer = agent.as_mut().unwrap().report(report).await;
                assert_eq!(answer.outcome(), Outcome::Stored, "{}", answer.reason);
                stored = Some((id, sent));
            }
            // A heartbeat, a run that goes well: neither is answered.
            other => {
                let request = v1::StreamCrashesRequest { message: Some(other) };
                agent.as_ref().unwrap().requests.send(request).await.unwrap();
            }
        }
    }
    let (id, sent) = stored.unwrap();
    let request = v1::GetCrashRequest { id: id.clone() };
    let got = query(&aggregator).await.get_crash(request).await.unwrap().into_inner().crash.unwrap();
    assert!(got.diagnosis.is_some());
    // What the aggregator says itself; the rest is as it was sent.
    let told = |crash: v1::Crash| v1::Crash {
        id: String::new(),
        cluster: String::new(),
        pod_state: None,
        diagnosis: None,
        ..crash
    };
    assert_eq!(told(got), told(sent));
    aggregator.stop().await.unwrap();
}
