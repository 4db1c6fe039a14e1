//! Containers of every kind, and pods that are not like others: each report finds its pod and container, and is explained with the field to
//! change.
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

fn id(number: u64) -> String {
    format!("{number:064x}")
}

/// Killed for want of memory, as the kubelet tells it of the runs of `report`.
fn killed(number: u64) -> Value {
    let at = |second: u64| format!("2026-09-21T14:13:{:02}Z", 20 + second);
    json!({"terminated": {"exitCode": 137, "reason": "OOMKilled", "containerID": format!("containerd://{}", id(number)),
        "startedAt": at(number - 1), "finishedAt": at(number)}})
}

fn status(name: &str, number: u64) -> Value {
    json!({"name": name, "restartCount": 0, "ready": false, "image": "i", "imageID": "",
        "containerID": format!("containerd://{}", id(number)), "state": killed(number), "lastState": {}})
}

fn container(name: &str) -> Value {
    json!({"name": name, "image": "registry/app:1", "resources": {"limits": {"memory": "64Mi"}}})
}

fn pod(name: &str, spec: Value, status: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "prod", "uid": format!("uid-of-{name}")},
        "spec": {"nodeName": "node1", "restartPolicy": "Always", "containers": [container("app")]},
        "status": {"phase": "Running"},
    });
    for (key, value) in [("spec", spec), ("status", status)] {
        for (name, value) in value.as_object().unwrap() {
            pod[key][name] = value.clone();
        }
    }
    pod
}

/// As an agent reports what it knows by the group's path alone: pod UID and container id.
fn by_path(pod_uid: &str, number: u64) -> v1::CrashReport {
    let mut report = report("node1", number, "", "");
    let container = report.crash.as_mut().unwrap().container.as_mut().unwrap();
    pod_uid.clone_into(&mut container.pod_uid);
    container.name.clear();
    report
}

/// The one crash of this pod, once it is judged with its pod.
async fn explained(aggregator: &Aggregator, name: &str) -> v1::Crash {
    let request = v1::ExplainPodRequest {
        namespace: "prod".to_owned(),
        pod_name: name.to_owned(),
        ..v1::ExplainPodRequest::default()
    };
    let found = async {
        loop {
            let answer = query(aggregator).await.explain_pod(request.clone()).await;
            let crashes = answer.map(|answer| answer.into_inner().crashes).unwrap_or_default();
            if let Some(crash) = crashes.into_iter().find(|crash| crash.pod_state.is_some()) {
                return crash;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON * 3, found).await.unwrap_or_else(|_| panic!("{name} is not explained"))
}

/// Reports a death of that pod's container, before the API tells of the pod or after it, and checks who it was.
async fn told(pod: &Value, uid: &str, number: u64, container: &str, field: &str) {
    let name = pod["metadata"]["name"].as_str().unwrap();
    for report_first in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let api = ApiServer::start().await;
        if !report_first {
            api.put("pods", pod.clone());
        }
        let aggregator = api.aggregator(&directory).await;
        let mut agent = Agent::connect(&aggregator, "node1").await;
        assert_eq!(agent.report(by_path(uid, number)).await.outcome(), Outcome::Stored);
        if report_first {
            api.put("pods", pod.clone());
        }
        let crash = explained(&aggregator, name).await;
        let of = crash.container.clone().unwrap();
        assert_eq!(
            (of.namespace.as_str(), of.pod_name.as_str(), of.name.as_str()),
            ("prod", name, container)
        );
        let diagnosis = crash.diagnosis.unwrap();
        assert_eq!(
            (diagnosis.cause(), diagnosis.object.as_str()),
            (v1::Cause::OutOfMemory, "memory limit 64Mi")
        );
        assert!(diagnosis.remedy.contains(field), "{field} is not in {:?}", diagnosis.remedy);
        assert_eq!(crash.pod_state.unwrap().terminated, "OOMKilled, exit code 137");
        aggregator.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_sidecar() {
    let mut sidecar = container("proxy");
    sidecar["restartPolicy"] = json!("Always");
    let pod = pod(
        "with-sidecar",
        json!({"initContainers": [container("setup"), sidecar]}),
        json!({"initContainerStatuses": [status("setup", 3), status("proxy", 5)], "containerStatuses": [status("app", 6)]}),
    );
    told(&pod, "uid-of-with-sidecar", 5, "proxy", "spec.initContainers[1].resources.limits.memory").await;
}

#[tokio::test]
async fn an_init_container() {
    let pod = pod(
        "with-init",
        json!({"initContainers": [container("migrate")]}),
        json!({"phase": "Pending", "initContainerStatuses": [status("migrate", 5)],
            "containerStatuses": [{"name": "app", "restartCount": 0, "ready": false,
                "state": {"waiting": {"reason": "PodInitializing"}}}]}),
    );
    told(&pod, "uid-of-with-init", 5, "migrate", "spec.initContainers[0].resources.limits.memory").await;
}

#[tokio::test]
async fn an_ephemeral_container() {
    let mut debugger = container("debugger-x7k2p");
    debugger["targetContainerName"] = json!("app");
    let pod = pod(
        "debugged",
        json!({"ephemeralContainers": [debugger]}),
        json!({"ephemeralContainerStatuses": [status("debugger-x7k2p", 5)], "containerStatuses": [status("app", 6)]}),
    );
    told(&pod, "uid-of-debugged", 5, "debugger-x7k2p", "spec.ephemeralContainers[0]").await;
}

#[tokio::test]
async fn a_static_pod_by_its_manifests_hash() {
    let hash = "0fe9c9d3b6a1f3d2c0c4a5b6d7e8f901";
    let mut pod = pod("etcd-node1", json!({}), json!({"containerStatuses": [status("app", 5)]}));
    pod["metadata"]["annotations"] = json!({
        "kubernetes.io/config.hash": hash, "kubernetes.io/config.mirror": hash,
        "kubernetes.io/config.source": "file", "kubernetes.io/config.seen": "2026-09-21T14:00:00Z",
    });
    pod["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Node", "name": "node1", "uid": "n", "controller": true}]);
    // The node knows nothing but the hash: in the group's path, and in the log folder's name.
    told(&pod, hash, 5, "app", "spec.containers[0].resources.limits.memory").await;
}

#[tokio::test]
async fn a_pod_with_users_of_its_own() {
    let pod = pod("mapped", json!({"hostUsers": false}), json!({"containerStatuses": [status("app", 5)]}));
    told(&pod, "uid-of-mapped", 5, "app", "spec.containers[0].resources.limits.memory").await;
}

#[tokio::test]
async fn a_pod_that_is_already_gone() {
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::start().await;
    let short_lived = pod("job-x", json!({}), json!({"containerStatuses": [status("app", 5)]}));
    api.put("pods", short_lived.clone());
    let aggregator = api.aggregator(&directory).await;
    let request = v1::ExplainPodRequest {
        namespace: "prod".to_owned(),
        pod_name: "job-x".to_owned(),
        ..v1::ExplainPodRequest::default()
    };
    let gone = async |is: bool| {
        let found = async {
            loop {
                let answer = query(&aggregator).await.explain_pod(request.clone()).await;
                let pod = answer.ok().and_then(|answer| answer.into_inner().pod);
                if pod.is_some_and(|pod| pod.deleted == is) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(SOON * 3, found).await.unwrap();
    };
    gone(false).await;
    api.delete("pods", short_lived);
    gone(true).await;
    // The node was cut off for a while.
    let mut agent = Agent::connect(&aggregator, "node1").await;
    assert_eq!(agent.report(by_path("uid-of-job-x", 5)).await.outcome(), Outcome::Stored);
    let crash = explained(&aggregator, "job-x").await;
    assert_eq!(crash.container.unwrap().name, "app");
    let state = crash.pod_state.unwrap();
    assert!(state.pod_deleted && state.next_retry_at.is_none(), "{state:?}");
    aggregator.stop().await.unwrap();
}
