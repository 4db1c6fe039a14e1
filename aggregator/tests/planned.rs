//! Ends that somebody wanted are stored and explained, and nobody is alarmed by them.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "common/api_server.rs"]
mod api_server;
mod common;

use std::time::Duration;

use api_server::ApiServer;
use common::{Agent, SOON, query, report};
use lastwords_aggregator::serve::Aggregator;
use lastwords_proto::v1;
use lastwords_proto::v1::acknowledgement::Outcome;
use serde_json::{Value, json};

/// A pod that `stopped` is about: its end is 30 s after 2026-09-21T14:13:20Z.
fn pod(name: &str, metadata: Value, state: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "prod", "uid": format!("uid-of-{name}")},
        "spec": {"nodeName": "node1", "restartPolicy": "Always", "containers": [{"name": "app", "image": "registry/api:1"}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "app", "restartCount": 0, "ready": true,
            "containerID": format!("containerd://{:064x}", 30), "state": state}]},
    });
    for (key, value) in metadata.as_object().unwrap() {
        pod["metadata"][key] = value.clone();
    }
    pod
}

fn running() -> Value {
    json!({"running": {"startedAt": "2026-09-21T14:13:21Z"}})
}

/// The runtime told it to stop, and it left with 143.
fn stopped(pod: &str) -> v1::CrashReport {
    let mut report = report("node1", 30, "prod", pod);
    let crash = report.crash.as_mut().unwrap();
    crash.oom.clear();
    let runtime = v1::KilledBy { kind: v1::killed_by::Kind::Runtime.into(), pid: 9, comm: "runc".to_owned() };
    crash.exit = Some(v1::Exit { code: 143, ..v1::Exit::default() });
    crash.signals = vec![v1::Signal {
        signal: 15,
        signal_name: "SIGTERM".to_owned(),
        sender: Some(runtime),
        target_pid: 4242,
        to_main: true,
        delivered: true,
        before_death_ms: 50.0,
        ..v1::Signal::default()
    }];
    report
}

async fn explained(aggregator: &Aggregator, name: &str) -> Vec<v1::Crash> {
    let request = v1::ExplainPodRequest {
        namespace: "prod".to_owned(),
        pod_name: name.to_owned(),
        ..v1::ExplainPodRequest::default()
    };
    match query(aggregator).await.explain_pod(request).await {
        Ok(answer) => answer.into_inner().crashes,
        Err(_) => Vec::new(),
    }
}

async fn planned(aggregator: &Aggregator, name: &str) -> v1::Diagnosis {
    let found = async {
        loop {
            let crashes = explained(aggregator, name).await;
            let planned = crashes.into_iter().filter_map(|crash| crash.diagnosis).find(|it| it.planned);
            if let Some(planned) = planned {
                return planned;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON * 3, found).await.unwrap_or_else(|_| panic!("{name} is not told as planned"))
}

async fn listed(aggregator: &Aggregator, include_completed: bool) -> usize {
    let request = v1::ListCrashesRequest { include_completed, ..v1::ListCrashesRequest::default() };
    query(aggregator).await.list_crashes(request).await.unwrap().into_inner().crashes.len()
}

async fn is_known(aggregator: &Aggregator, name: &str) {
    let request = v1::ExplainPodRequest {
        namespace: "prod".to_owned(),
        pod_name: name.to_owned(),
        ..v1::ExplainPodRequest::default()
    };
    let known = async {
        while query(aggregator).await.explain_pod(request.clone()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON * 3, known).await.unwrap_or_else(|_| panic!("{name} is not known"));
}

#[tokio::test]
async fn a_pod_that_is_deleted_is_no_crash_whichever_comes_first() {
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::start().await;
    let deleting = json!({"deletionTimestamp": "2026-09-21T14:14:20Z", "deletionGracePeriodSeconds": 31});
    api.put("pods", pod("first", deleting.clone(), running()));
    let aggregator = api.aggregator(&directory).await;
    is_known(&aggregator, "first").await;
    let mut agent = Agent::connect(&aggregator, "node1").await;
    assert_eq!(agent.report(stopped("first")).await.outcome(), Outcome::Stored);
    let told = planned(&aggregator, "first").await;
    assert_eq!((told.cause(), told.object.as_str()), (v1::Cause::Killed, "SIGTERM from runc (pid 9)"));
    assert!(told.summary.ends_with("; its pod was being deleted"), "{}", told.summary);

    // The other way round: it looks like a kill until the API tells of the deletion.
    let mut late = stopped("late");
    late.sequence = 31;
    late.crash.as_mut().unwrap().container.as_mut().unwrap().id = format!("{:064x}", 31);
    assert_eq!(agent.report(late).await.outcome(), Outcome::Stored);
    assert_eq!(listed(&aggregator, false).await, 1);
    let mut pod = pod("late", deleting, running());
    pod["status"]["containerStatuses"][0]["containerID"] = json!(format!("containerd://{:064x}", 31));
    api.put("pods", pod);
    planned(&aggregator, "late").await;
    assert_eq!((listed(&aggregator, false).await, listed(&aggregator, true).await), (0, 2));
    aggregator.stop().await.unwrap();
}

#[tokio::test]
async fn a_changed_image_is_no_crash() {
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::start().await;
    api.put("pods", pod("api", json!({}), running()));
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "api.1", "namespace": "prod", "uid": "e1"},
        "involvedObject": {"kind": "Pod", "namespace": "prod", "name": "api", "uid": "uid-of-api", "fieldPath": "spec.containers{app}"},
        "reason": "Killing", "type": "Normal", "count": 1, "eventTime": null,
        "message": "Container app definition changed, will be restarted",
        "firstTimestamp": "2026-09-21T14:13:50Z", "lastTimestamp": "2026-09-21T14:13:50Z",
    });
    let aggregator = api.aggregator(&directory).await;
    is_known(&aggregator, "api").await;
    let mut agent = Agent::connect(&aggregator, "node1").await;
    assert_eq!(agent.report(stopped("api")).await.outcome(), Outcome::Stored);
    assert_eq!(listed(&aggregator, false).await, 1, "until the event comes");
    api.put("events", event);
    let told = planned(&aggregator, "api").await;
    assert!(told.summary.contains("definition in the running pod was changed"), "{}", told.summary);
    assert_eq!(
        (told.evidence.last().unwrap().field.as_str(), listed(&aggregator, false).await),
        ("probe_events", 0)
    );
    aggregator.stop().await.unwrap();
}

#[tokio::test]
async fn a_pod_deleted_without_a_grace_period_is_no_crash() {
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::start().await;
    api.put("pods", pod("forced", json!({}), running()));
    let aggregator = api.aggregator(&directory).await;
    is_known(&aggregator, "forced").await;
    let now = now();
    api.delete("pods", pod("forced", json!({}), running()));
    // The kubelet learns of it and stops the container.
    let mut agent = Agent::connect(&aggregator, "node1").await;
    assert_eq!(agent.report(stopped_at("forced", now + 2)).await.outcome(), Outcome::Stored);
    planned(&aggregator, "forced").await;
    aggregator.stop().await.unwrap();
}

#[tokio::test]
async fn a_deletion_that_the_watch_missed_is_no_crash() {
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::start().await;
    api.put("pods", pod("missed", json!({}), running()));
    let aggregator = api.aggregator(&directory).await;
    is_known(&aggregator, "missed").await;
    let now = now();
    // All of it in one step of this thread, which serves the API too: the watch gets 410 Gone instead.
    api.delete("pods", pod("missed", json!({}), running()));
    api.forget_history();
    let mut agent = Agent::connect(&aggregator, "node1").await;
    assert_eq!(agent.report(stopped_at("missed", now + 2)).await.outcome(), Outcome::Stored);
    planned(&aggregator, "missed").await;
    aggregator.stop().await.unwrap();
}

#[tokio::test]
async fn what_was_wanted_stays_so_when_the_aggregator_starts_again() {
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::start().await;
    let now = now();
    let mut pod = pod("trainer", json!({}), running());
    let began = prost_types::Timestamp { seconds: now, nanos: 0 }.to_string();
    pod["status"]["conditions"] =
        json!([{"type": "AllContainersRestarting", "status": "True", "lastTransitionTime": began}]);
    api.put("pods", pod.clone());
    let aggregator = api.aggregator(&directory).await;
    is_known(&aggregator, "trainer").await;
    let mut agent = Agent::connect(&aggregator, "node1").await;
    assert_eq!(agent.report(stopped_at("trainer", now + 1)).await.outcome(), Outcome::Stored);
    let first = planned(&aggregator, "trainer").await;
    aggregator.stop().await.unwrap();

    // Over, and nothing tells of it any more.
    pod["status"]["conditions"] = json!([]);
    pod["status"]["phase"] = json!("Pending");
    api.put("pods", pod);
    let aggregator = api.aggregator(&directory).await;
    let judged_anew = async {
        loop {
            let crashes = explained(&aggregator, "trainer").await;
            let anew = crashes
                .into_iter()
                .filter_map(|crash| crash.diagnosis)
                .find(|diagnosis| diagnosis.revision > first.revision);
            if let Some(anew) = anew {
                return anew;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let anew = tokio::time::timeout(SOON * 3, judged_anew).await.expect("it is judged anew");
    assert!(anew.planned && anew.summary.contains("restarted all its containers"), "{anew:?}");
    assert_eq!(listed(&aggregator, false).await, 0);
    aggregator.stop().await.unwrap();
}

/// Seconds since 1970.
fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

/// As `stopped`, then.
fn stopped_at(pod: &str, seconds: i64) -> v1::CrashReport {
    let mut report = stopped(pod);
    let crash = report.crash.as_mut().unwrap();
    let time = |seconds: i64| Some(prost_types::Timestamp { seconds, nanos: 0 });
    crash.observed_at = time(seconds);
    let process = crash.process.as_mut().unwrap();
    (process.started_at, process.exited_at) = (time(seconds - 600), time(seconds));
    report
}
