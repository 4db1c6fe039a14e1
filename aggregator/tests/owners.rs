//! Pods are explained by what owns them and by their labels, nodes by their agents, and an answer without a crash says why.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "common/api_server.rs"]
mod api_server;
mod common;

use std::time::Duration;

use api_server::ApiServer;
use common::{Agent, SOON, query, report, settings};
use lastwords_aggregator::serve::{self, Aggregator};
use lastwords_proto::v1;
use lastwords_proto::v1::stream_crashes_request::Message;
use serde_json::{Value, json};

/// A pod whose container has the id of `report(…, id, …)`.
fn pod(name: &str, namespace: &str, id: u64, owner: (&str, &str), labels: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": namespace, "uid": format!("uid-of-{name}"), "labels": labels,
            "ownerReferences": [{"apiVersion": "x/v1", "kind": owner.0, "name": owner.1, "uid": "o", "controller": true}],
        },
        "spec": {"nodeName": "node1", "restartPolicy": "Always", "containers": [{"name": "app", "image": "api:1"}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "app", "restartCount": 0, "ready": true,
            "containerID": format!("containerd://{id:064x}"), "state": {"running": {"startedAt": "2026-09-21T14:13:20Z"}}}]},
    })
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

/// The names of the pods with the number of their crashes.
async fn explained(aggregator: &Aggregator, target: &str) -> Result<Vec<(String, usize)>, tonic::Code> {
    let (kind, name) = target.split_once('/').unwrap_or_default();
    let request = v1::ExplainOwnerRequest {
        namespace: "prod".to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        selector: if name.is_empty() { target.to_owned() } else { String::new() },
        ..v1::ExplainOwnerRequest::default()
    };
    let answer = query(aggregator).await.explain_owner(request).await.map_err(|status| status.code())?;
    let pods = answer.into_inner().pods.into_iter();
    Ok(pods.map(|of_pod| (of_pod.pod.unwrap().name, of_pod.crashes.len())).collect())
}

fn told(pods: &[(&str, usize)]) -> Result<Vec<(String, usize)>, tonic::Code> {
    Ok(pods.iter().map(|(name, crashes)| ((*name).to_owned(), *crashes)).collect())
}

#[tokio::test]
async fn pods_are_found_by_what_owns_them_and_by_labels() {
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::start().await;
    let labels = json!({"app": "api", "pod-template-hash": "5d8"});
    api.put("pods", pod("api-5d8-a", "prod", 1, ("ReplicaSet", "api-5d8"), labels.clone()));
    api.put("pods", pod("api-5d8-b", "prod", 2, ("ReplicaSet", "api-5d8"), labels.clone()));
    api.put("pods", pod("api-5d8-c", "test", 3, ("ReplicaSet", "api-5d8"), labels));
    api.put("pods", pod("backup-29390400-x", "prod", 4, ("Job", "backup-29390400"), json!({})));
    let aggregator = api.aggregator(&directory).await;
    until("pods", async || explained(&aggregator, "cronjob/backup").await.ok()).await;
    let mut agent = Agent::connect(&aggregator, "node1").await;
    agent.report(report("node1", 2, "prod", "api-5d8-b")).await;
    agent.report(report("node1", 4, "prod", "backup-29390400-x")).await;
    let both = told(&[("api-5d8-b", 1), ("api-5d8-a", 0)]);
    for target in ["deploy/api", "deployment.apps/api", "rs/api-5d8", "app=api", "app in (api),!canary"] {
        assert_eq!(explained(&aggregator, target).await, both, "{target}");
    }
    let of_job = told(&[("backup-29390400-x", 1)]);
    for target in ["job/backup-29390400", "cj/backup"] {
        assert_eq!(explained(&aggregator, target).await, of_job, "{target}");
    }
    for target in ["deploy/web", "statefulset/api", "app=web"] {
        assert_eq!(explained(&aggregator, target).await, Err(tonic::Code::NotFound), "{target}");
    }
    assert_eq!(explained(&aggregator, "app in").await, Err(tonic::Code::InvalidArgument));
    aggregator.stop().await.unwrap();

    // Gone from the API altogether: the crash remembers its owner.
    let directory_without = settings(&directory);
    let aggregator = serve::start(directory_without).await.unwrap();
    assert_eq!(explained(&aggregator, "deploy/api").await, told(&[("api-5d8-b", 1)]));
    assert_eq!(explained(&aggregator, "cronjob/backup").await, of_job);
    aggregator.stop().await.unwrap();
}

#[tokio::test]
async fn nodes_show_their_agents_and_an_empty_answer_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::start().await;
    api.put("pods", pod("quiet", "prod", 1, ("DaemonSet", "log"), json!({})));
    let aggregator = api.aggregator(&directory).await;
    let why = async || {
        let request = v1::ExplainPodRequest {
            namespace: "prod".into(),
            pod_name: "quiet".into(),
            ..Default::default()
        };
        query(&aggregator).await.explain_pod(request).await.ok().map(|answer| answer.into_inner().why_none)
    };
    let without = until("pod", why).await;
    assert!(without.contains("no agent has reported from node node1"), "{without}");

    let nodes = async || {
        query(&aggregator).await.list_nodes(v1::ListNodesRequest {}).await.unwrap().into_inner().nodes
    };
    assert_eq!(
        nodes().await.iter().map(|node| (node.connected, node.pods)).collect::<Vec<_>>(),
        [(false, 1)]
    );
    let hello = v1::AgentHello {
        node: "node1".to_owned(),
        agent_version: "0.1.0".to_owned(),
        started_at: Some(prost_types::Timestamp { seconds: 1_790_000_000, nanos: 0 }),
        ..v1::AgentHello::default()
    };
    let agent = Agent::connect_with(&aggregator, Message::Hello(hello)).await;
    let in_an_hour = std::time::SystemTime::now() + Duration::from_secs(3_600);
    let beat = v1::Heartbeat {
        sent_at: Some(in_an_hour.into()),
        losses: vec![v1::Count { name: "ring_records_dropped".to_owned(), value: 3 }],
        ..v1::Heartbeat::default()
    };
    agent.requests.send(v1::StreamCrashesRequest { message: Some(Message::Heartbeat(beat)) }).await.unwrap();
    let node =
        until("heartbeat", async || nodes().await.into_iter().find(|node| node.clock_ahead_ms.is_some()))
            .await;
    assert_eq!(
        (node.connected, node.agent.unwrap().agent_version, node.losses[0].value),
        (true, "0.1.0".to_owned(), 3)
    );
    // What a loaded machine takes makes it seem behind.
    assert!((3_000_000..=3_600_000).contains(&node.clock_ahead_ms.unwrap()), "{:?}", node.clock_ahead_ms);
    let with = until("agent", why).await;
    assert!(with.contains("none of its containers has ended; an agent watches it on node node1"), "{with}");
    drop(agent);
    until("end of the stream", async || nodes().await.into_iter().find(|node| !node.connected)).await;
    let after = until("answer", why).await;
    assert!(after.contains("the agent on node node1 is not connected"), "{after}");
    aggregator.stop().await.unwrap();
}
