//! With a Kubernetes API: pods are listed and watched, crashes paired whichever comes first, outages survived.
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

/// The pod that `report("node1", sequence, "prod", name)` is about, its container in that state.
fn pod(name: &str, id: Option<u64>, restarts: u32, state: Value, last: Value) -> Value {
    let mut status =
        json!({"name": "app", "restartCount": restarts, "ready": false, "state": state, "lastState": last});
    if let Some(id) = id {
        status["containerID"] = json!(format!("containerd://{id:064x}"));
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "prod", "uid": format!("uid-of-{name}"), "labels": {"pod-template-hash": "5d8"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "api-5d8", "uid": "r", "controller": true}],
        },
        "spec": {
            "nodeName": "node1", "restartPolicy": "Always",
            "containers": [{"name": "app", "image": "registry/api:1", "resources": {"limits": {"memory": "64Mi"}}}],
        },
        "status": {"phase": "Running", "containerStatuses": [status]},
    })
}

/// An end at 1_790_000_000 + `sequence` seconds, as `report` has it.
fn ended(sequence: u64) -> Value {
    let at = |second: u64| format!("2026-09-21T14:13:{:02}Z", 20 + second);
    json!({"terminated": {"containerID": format!("containerd://{sequence:064x}"), "exitCode": 137, "reason": "OOMKilled",
        "startedAt": at(sequence - 1), "finishedAt": at(sequence)}})
}

fn running() -> Value {
    json!({"running": {"startedAt": "2026-09-21T14:13:20Z"}})
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON * 3, found).await.unwrap_or_else(|_| panic!("no {what}"))
}

async fn explain(aggregator: &Aggregator, name: &str) -> Option<v1::ExplainPodResponse> {
    let request = v1::ExplainPodRequest {
        namespace: "prod".to_owned(),
        pod_name: name.to_owned(),
        ..v1::ExplainPodRequest::default()
    };
    query(aggregator).await.explain_pod(request).await.ok().map(tonic::Response::into_inner)
}

async fn pod_is_known(aggregator: &Aggregator, name: &str) {
    until(name, async || explain(aggregator, name).await?.pod.filter(|pod| !pod.phase.is_empty())).await;
}

#[tokio::test]
async fn pods_are_listed_in_pages_and_followed() {
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::start().await;
    for name in ["a", "b", "c", "d", "e"] {
        api.put("pods", pod(name, Some(1), 0, running(), json!({})));
    }
    let aggregator = api.aggregator(&directory).await;
    for name in ["a", "b", "c", "d", "e"] {
        pod_is_known(&aggregator, name).await;
    }
    assert!(api.requests().iter().any(|request| request.contains("continue=4")), "{:#?}", api.requests());
    assert!(api.requests().iter().any(|request| request.contains("allowWatchBookmarks=true")));
    api.put("pods", pod("f", None, 0, json!({"waiting": {"reason": "ContainerCreating"}}), json!({})));
    pod_is_known(&aggregator, "f").await;
    let known = explain(&aggregator, "f").await.unwrap().pod.unwrap();
    assert_eq!((known.owner.as_str(), known.node.as_str()), ("deployment/api", "node1"));
    assert_eq!(
        (known.containers[0].state.as_str(), known.containers[0].reason.as_str()),
        ("waiting", "ContainerCreating")
    );
    api.delete("pods", pod("f", None, 0, json!({}), json!({})));
    until("deletion", async || explain(&aggregator, "f").await?.pod.filter(|pod| pod.deleted)).await;
    aggregator.stop().await.unwrap();
}

#[tokio::test]
async fn a_crash_is_judged_anew_as_its_pod_becomes_known() {
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::start().await;
    let aggregator = api.aggregator(&directory).await;
    let mut query = query(&aggregator).await;
    let mut watched = query.watch_crashes(v1::WatchCrashesRequest::default()).await.unwrap().into_inner();
    let mut agent = Agent::connect(&aggregator, "node1").await;
    let mut unnamed = report("node1", 5, "prod", "api");
    let container = unnamed.crash.as_mut().unwrap().container.as_mut().unwrap();
    (container.pod_name, container.namespace, container.name) = Default::default();
    assert_eq!(agent.report(unnamed).await.outcome(), Outcome::Stored);

    let mut revision = async || {
        let response = tokio::time::timeout(SOON, watched.message()).await.unwrap().unwrap().unwrap();
        let crash = response.crash.unwrap();
        let container = crash.container.clone().unwrap();
        (crash.diagnosis.clone().unwrap().revision, container, crash.pod_state)
    };
    let (first, container, state) = revision().await;
    assert_eq!((first, container.pod_name.as_str(), state), (1, "", None));

    // The status still speaks of the run before.
    api.put("pods", pod("api", Some(4), 3, running(), ended(3)));
    let (second, container, state) = revision().await;
    let state = state.unwrap();
    assert_eq!((second, container.pod_name.as_str(), container.name.as_str()), (2, "api", "app"));
    assert_eq!((container.image.as_str(), container.restart_count), ("registry/api:1", 4));
    assert_eq!(
        (state.back_off_seconds, state.back_off_computed, state.owner.as_str()),
        (80, true, "deployment/api")
    );

    api.put("pods", pod("api", Some(5), 4, ended(5), ended(4)));
    let (third, _, state) = revision().await;
    assert_eq!((third, state.unwrap().terminated.as_str()), (3, "OOMKilled, exit code 137"));

    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff",
        "message": "back-off 1m20s restarting failed container=app pod=api_prod(uid-of-api)"}});
    api.put("pods", pod("api", Some(5), 4, waiting, ended(5)));
    let (fourth, _, state) = revision().await;
    let state = state.unwrap();
    assert_eq!((fourth, state.waiting_reason.as_str(), state.back_off_seconds), (4, "CrashLoopBackOff", 80));
    assert!(!state.back_off_computed);
    assert_eq!(state.next_retry_at.unwrap().seconds, 1_790_000_005 + 80);

    let explained = explain(&aggregator, "api").await.unwrap();
    let now = explained.pod.unwrap().containers.remove(0).pod_state.unwrap();
    assert_eq!(now.next_retry_at.unwrap().seconds, 1_790_000_005 + 80);
    assert_eq!(explained.crashes.len(), 1);

    // It runs again: the pod waits no longer, and the crash keeps the wait that followed it.
    api.put("pods", pod("api", Some(6), 5, running(), ended(5)));
    let runs = until("new run", async || {
        explain(&aggregator, "api")
            .await
            .filter(|now| now.pod.as_ref().unwrap().containers[0].state == "running")
    })
    .await;
    assert_eq!(runs.pod.unwrap().containers[0].pod_state.as_ref().unwrap().back_off_seconds, 0);
    assert_eq!(runs.crashes[0].pod_state.as_ref().unwrap().back_off_seconds, 80);
    assert_eq!(runs.crashes[0].diagnosis.as_ref().unwrap().revision, 4);
    aggregator.stop().await.unwrap();
}

#[tokio::test]
async fn a_report_that_comes_after_its_pod_vanished_still_finds_it() {
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::start().await;
    api.put("pods", pod("gone", Some(5), 0, running(), json!({})));
    let aggregator = api.aggregator(&directory).await;
    pod_is_known(&aggregator, "gone").await;
    api.delete("pods", pod("gone", Some(5), 0, running(), json!({})));
    until("deletion", async || explain(&aggregator, "gone").await?.pod.filter(|pod| pod.deleted)).await;
    let mut agent = Agent::connect(&aggregator, "node1").await;
    agent.report(report("node1", 5, "prod", "gone")).await;
    let explained = explain(&aggregator, "gone").await.unwrap();
    let state = explained.crashes[0].pod_state.as_ref().unwrap();
    assert_eq!(
        (state.pod_deleted, state.back_off_seconds, state.owner.as_str()),
        (true, 0, "deployment/api")
    );
    aggregator.stop().await.unwrap();
}

#[tokio::test]
async fn probe_events_reach_the_pod() {
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::start().await;
    api.put("pods", pod("probed", Some(5), 0, running(), json!({})));
    api.put("events", json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "probed.1", "namespace": "prod", "uid": "e1"},
        "involvedObject": {"kind": "Pod", "namespace": "prod", "name": "probed", "uid": "uid-of-probed",
            "fieldPath": "spec.containers{app}"},
        "reason": "Unhealthy", "type": "Warning", "count": 3, "eventTime": null,
        "message": "Liveness probe failed: connection refused",
        "firstTimestamp": "2026-09-21T14:13:20Z", "lastTimestamp": "2026-09-21T14:13:24Z",
    }));
    let aggregator = api.aggregator(&directory).await;
    let events = until("event", async || {
        let pod = explain(&aggregator, "probed").await?.pod?;
        pod.containers[0]
            .pod_state
            .clone()
            .map(|state| state.probe_events)
            .filter(|events| !events.is_empty())
    });
    assert_eq!(events.await, ["Unhealthy: Liveness probe failed: connection refused (3 times)"]);
    aggregator.stop().await.unwrap();
}

#[tokio::test]
async fn too_old_a_watch_is_listed_anew() {
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::start().await;
    api.put("pods", pod("stays", Some(1), 0, running(), json!({})));
    api.put("pods", pod("goes", Some(2), 0, running(), json!({})));
    let aggregator = api.aggregator(&directory).await;
    pod_is_known(&aggregator, "goes").await;
    api.delete("pods", pod("goes", Some(2), 0, running(), json!({})));
    api.put("pods", pod("comes", Some(3), 0, running(), json!({})));
    api.forget_history();
    pod_is_known(&aggregator, "comes").await;
    until("deletion", async || explain(&aggregator, "goes").await?.pod.filter(|pod| pod.deleted)).await;
    assert!(!explain(&aggregator, "stays").await.unwrap().pod.unwrap().deleted);
    aggregator.stop().await.unwrap();
}

#[tokio::test]
async fn an_outage_stops_nothing_and_is_made_up_for() {
    let directory = tempfile::tempdir().unwrap();
    let mut api = ApiServer::start().await;
    api.go_away().await;
    let aggregator = api.aggregator(&directory).await;
    let mut agent = Agent::connect(&aggregator, "node1").await;
    assert_eq!(agent.report(report("node1", 5, "prod", "api")).await.outcome(), Outcome::Stored);
    assert_eq!(explain(&aggregator, "api").await.unwrap().crashes[0].pod_state, None);

    api.put("pods", pod("api", Some(5), 0, ended(5), json!({})));
    api.come_back().await;
    let paired = async |restarts: i32| {
        until("pairing", async || {
            let crash = explain(&aggregator, "api").await?.crashes.into_iter().next()?;
            crash.pod_state.filter(|state| state.restart_count == restarts)
        })
        .await
    };
    assert_eq!(paired(0).await.terminated, "OOMKilled, exit code 137");

    api.go_away().await;
    api.put("pods", pod("late", Some(9), 0, running(), json!({})));
    tokio::time::sleep(Duration::from_millis(300)).await;
    api.come_back().await;
    pod_is_known(&aggregator, "late").await;
    aggregator.stop().await.unwrap();
}
