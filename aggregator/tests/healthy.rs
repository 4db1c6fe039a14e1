//! What is remembered of runs that went well: it names a change, leaves out what is harmless, and survives a restart.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "common/api_server.rs"]
mod api_server;
mod common;

use std::time::Duration;

use api_server::ApiServer;
use common::{Agent, SOON, query, report};
use lastwords_aggregator::serve::Aggregator;
use lastwords_diagnosis::evidence::Failure;
use lastwords_diagnosis::{errno, signature::signature};
use lastwords_proto::v1;
use lastwords_proto::v1::acknowledgement::Outcome;
use lastwords_proto::v1::stream_crashes_request::Message;
use serde_json::{Value, json};

const OPTIONAL: &str = "/etc/app/extra.yaml";

/// A pod of the deployment `api`; the reports are of the minutes after 14:13:20.
fn pod(name: &str, id: u64, ready: bool, argument: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "prod", "uid": format!("uid-of-{name}"), "labels": {"pod-template-hash": "5d8"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "api-5d8", "uid": "r", "controller": true}],
        },
        "spec": {
            "nodeName": "node1", "restartPolicy": "Always",
            "containers": [{"name": "app", "image": "registry/api:1", "args": [argument]}],
        },
        "status": {"phase": "Running", "containerStatuses": [{
            "name": "app", "restartCount": 0, "ready": ready, "containerID": format!("containerd://{id:064x}"),
            "state": {"running": {"startedAt": "2026-09-21T14:13:20Z"}},
        }]},
    })
}

/// It did not find something, and left.
fn left(sequence: u64, name: &str) -> v1::CrashReport {
    let mut report = report("node1", sequence, "prod", name);
    let crash = report.crash.as_mut().unwrap();
    crash.oom.clear();
    crash.exit = Some(v1::Exit { code: 1, tid: 4242, ..v1::Exit::default() });
    crash.process.as_mut().unwrap().args = vec!["/app".to_owned(), "--lisen=:80".to_owned()];
    crash.failures = vec![v1::Failure {
        syscall: "openat".to_owned(),
        errno: errno::ENOENT,
        path: OPTIONAL.to_owned(),
        pid: 4242,
        tid: 4242,
        count: 1,
        by_dying_thread: true,
        last_before_death_ms: 1.0,
        ..v1::Failure::default()
    }];
    report
}

async fn crash_of(aggregator: &Aggregator, name: &str) -> v1::Crash {
    let mut query = query(aggregator).await;
    let request = v1::ExplainPodRequest {
        namespace: "prod".to_owned(),
        pod_name: name.to_owned(),
        ..v1::ExplainPodRequest::default()
    };
    let changed = async {
        loop {
            let answer = query.explain_pod(request.clone()).await.map(tonic::Response::into_inner);
            let crash = answer.ok().and_then(|answer| answer.crashes.into_iter().next());
            // The pod's state is shown as it is now, before the crash is judged anew by it.
            let is_told = |crash: &v1::Crash| {
                let is_judged = |diagnosis: &v1::Diagnosis| diagnosis.cause() == v1::Cause::InvalidArguments;
                crash.diagnosis.as_ref().is_some_and(is_judged)
                    && crash.pod_state.as_ref().is_some_and(|state| !state.changed_since_last_good.is_empty())
            };
            if let Some(crash) = crash.filter(is_told) {
                return crash;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON * 2, changed).await.unwrap()
}

fn is_named_by_the_change(crash: &v1::Crash) {
    let diagnosis = crash.diagnosis.clone().unwrap();
    assert_eq!(diagnosis.cause(), v1::Cause::InvalidArguments, "{diagnosis:#?}");
    assert_eq!(diagnosis.object, "--lisen=:80");
    assert_eq!(
        crash.pod_state.clone().unwrap().changed_since_last_good,
        ["spec.containers[0].args[--lisen]: added", "spec.containers[0].args[--listen]: removed"]
    );
}

#[tokio::test]
async fn a_crash_is_told_from_the_run_that_went_well() {
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::start().await;
    api.put("pods", pod("good", 1, true, "--listen=:80"));
    let aggregator = api.aggregator(&directory).await;
    let mut agent = Agent::connect(&aggregator, "node1").await;
    let optional = Failure {
        syscall: "openat".into(),
        errno: errno::ENOENT,
        path: OPTIONAL.into(),
        ..Failure::default()
    };
    let healthy = || v1::HealthyRun {
        container: Some(v1::Container { id: format!("{:064x}", 1), ..v1::Container::default() }),
        failures: vec![signature(&optional)],
    };
    // Told of a pod that is not known yet it would be forgotten.
    let mut query = query(&aggregator).await;
    let request = v1::ExplainPodRequest {
        namespace: "prod".to_owned(),
        pod_name: "good".to_owned(),
        ..v1::ExplainPodRequest::default()
    };
    while query.explain_pod(request.clone()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let message = v1::StreamCrashesRequest { message: Some(Message::Healthy(healthy())) };
    agent.requests.send(message).await.unwrap();

    api.put("pods", pod("bad", 200, false, "--lisen=:80"));
    assert_eq!(agent.report(left(200, "bad")).await.outcome(), Outcome::Stored);
    is_named_by_the_change(&crash_of(&aggregator, "bad").await);
    aggregator.stop().await.unwrap();

    api.delete("pods", pod("good", 1, true, "--listen=:80"));
    let aggregator = api.aggregator(&directory).await;
    let mut agent = Agent::connect(&aggregator, "node1").await;
    api.put("pods", pod("worse", 201, false, "--lisen=:80"));
    assert_eq!(agent.report(left(201, "worse")).await.outcome(), Outcome::Stored);
    is_named_by_the_change(&crash_of(&aggregator, "worse").await);
    aggregator.stop().await.unwrap();
}
