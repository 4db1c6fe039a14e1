//! What only the Kubernetes API shows is a crash like others: stored once, judged anew, and replaced by the report of an agent that saw it.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "common/api_server.rs"]
mod api_server;
mod common;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api_server::ApiServer;
use common::{Agent, SOON, query, report, settings};
use lastwords_aggregator::kubernetes::Access;
use lastwords_aggregator::serve::{self, Aggregator};
use lastwords_proto::v1;
use lastwords_proto::v1::acknowledgement::Outcome;
use lastwords_proto::v1::stream_crashes_request::Message;
use serde_json::{Value, json};

async fn start(directory: &tempfile::TempDir, api: &ApiServer) -> Aggregator {
    let mut settings = settings(directory);
    settings.kubernetes = Some(Access::Kubeconfig(api.kubeconfig(directory)));
    settings.cluster = "east".to_owned();
    settings.wait_for_agents = Duration::from_millis(50);
    serve::start(settings).await.unwrap()
}

fn pod(name: &str, status: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "prod", "uid": format!("uid-of-{name}")},
        "spec": {
            "nodeName": "node1", "restartPolicy": "Always",
            "containers": [{"name": "app", "image": "registry/api:1", "resources": {"limits": {"memory": "64Mi"}}}],
        },
        "status": status,
    })
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"phase": "Pending", "containerStatuses": [{"name": "app", "restartCount": 0, "ready": false,
        "state": {"waiting": {"reason": reason, "message": message}}}]})
}

/// Seconds since 1970 of an end a little while ago.
fn a_while_ago() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap() - 30
}

fn ended(at: i64, id: u64, code: i32, reason: &str) -> Value {
    let time = |seconds: i64| k8s_openapi::jiff::Timestamp::from_second(seconds).unwrap().to_string();
    json!({"phase": "Running", "containerStatuses": [{"name": "app", "restartCount": 0, "ready": false,
        "containerID": format!("containerd://{id:064x}"),
        "state": {"terminated": {"exitCode": code, "reason": reason, "containerID": format!("containerd://{id:064x}"),
            "startedAt": time(at - 1), "finishedAt": time(at)}}}]})
}

/// The report of an agent that saw that end.
fn seen(at: i64, sequence: u64, pod: &str) -> v1::CrashReport {
    let mut report = report("node1", sequence, "prod", pod);
    let crash = report.crash.as_mut().unwrap();
    crash.agent_version = "0.1.0".to_owned();
    let time = |seconds: i64| Some(prost_types::Timestamp { seconds, nanos: 250_000_000 });
    crash.observed_at = time(at);
    let process = crash.process.as_mut().unwrap();
    (process.started_at, process.exited_at) = (time(at - 1), time(at));
    report
}

async fn crashes(aggregator: &Aggregator) -> Vec<v1::Crash> {
    let request = v1::ListCrashesRequest { include_completed: true, ..v1::ListCrashesRequest::default() };
    query(aggregator).await.list_crashes(request).await.unwrap().into_inner().crashes
}

async fn until(what: &str, aggregator: &Aggregator, holds: impl Fn(&[v1::Crash]) -> bool) -> Vec<v1::Crash> {
    let found = async {
        loop {
            let crashes = crashes(aggregator).await;
            if holds(&crashes) {
                return crashes;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON * 3, found).await.unwrap_or_else(|_| panic!("no {what}"))
}

fn cause(crash: &v1::Crash) -> v1::Cause {
    crash.diagnosis.as_ref().unwrap().cause()
}

#[tokio::test]
async fn an_image_that_cannot_be_had_is_one_crash() {
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::start().await;
    let aggregator = start(&directory, &api).await;
    let mut client = query(&aggregator).await;
    let mut watched = client.watch_crashes(v1::WatchCrashesRequest::default()).await.unwrap().into_inner();
    api.put(
        "pods",
        pod("api", waiting("ErrImagePull", "failed to resolve image: registry/api:1: not found")),
    );
    let first = tokio::time::timeout(SOON, watched.message()).await.unwrap().unwrap().unwrap().crash.unwrap();
    assert_eq!(
        (cause(&first), first.process.is_none(), first.exit.is_none()),
        (v1::Cause::ImagePullFailed, true, true)
    );
    assert_eq!(first.cluster, "east");
    assert_eq!((first.node.as_str(), first.diagnosis.as_ref().unwrap().revision), ("node1", 1));
    api.put(
        "pods",
        pod("api", waiting("ImagePullBackOff", "Back-off pulling image: registry/api:1: not found")),
    );
    // Tried for the second time: worth a revision.
    let failed = |count: u32| {
        json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "prod", "uid": "e1"},
            "involvedObject": {"kind": "Pod", "namespace": "prod", "name": "api", "uid": "uid-of-api", "fieldPath": "spec.containers{app}"},
            "reason": "Failed", "message": "Failed to pull image \"registry/api:1\": not found", "count": count})
    };
    api.put("events", failed(2));
    let second =
        tokio::time::timeout(SOON, watched.message()).await.unwrap().unwrap().unwrap().crash.unwrap();
    assert_eq!((&second.id, second.diagnosis.as_ref().unwrap().revision), (&first.id, 2));
    assert_eq!(second.pod_state.unwrap().attempts, 2);
    aggregator.stop().await.unwrap();

    // The same state after a restart is the same crash, and it is followed on.
    api.put("events", failed(7));
    let aggregator = start(&directory, &api).await;
    let all = until("third revision", &aggregator, |all| {
        all.iter().any(|crash| crash.diagnosis.as_ref().is_some_and(|diagnosis| diagnosis.revision == 3))
    });
    let all = all.await;
    assert_eq!((all.len(), &all[0].id), (1, &first.id));
    assert_eq!((all[0].pod_state.as_ref().unwrap().attempts, all[0].cluster.as_str()), (7, "east"));
    let request =
        v1::ExplainPodRequest { namespace: "prod".into(), pod_name: "api".into(), ..Default::default() };
    let explained = query(&aggregator).await.explain_pod(request).await.unwrap().into_inner();
    assert_eq!(explained.crashes.len(), 1);
    aggregator.stop().await.unwrap();
}

#[tokio::test]
async fn an_end_that_no_agent_saw_is_told_after_a_while_and_a_late_report_replaces_it() {
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::start().await;
    let at = a_while_ago();
    api.put("pods", pod("api", ended(at, 5, 137, "OOMKilled")));
    let aggregator = start(&directory, &api).await;
    let told = until("end", &aggregator, |all| !all.is_empty()).await.remove(0);
    assert_eq!(told.id, format!("kubernetes/uid-of-api/app/{:064x}", 5));
    let diagnosis = told.diagnosis.clone().unwrap();
    assert_eq!((cause(&told), diagnosis.confidence()), (v1::Cause::OutOfMemory, v1::Confidence::Medium));
    assert_eq!(diagnosis.object, "memory limit 64Mi");
    assert!(diagnosis.summary.contains("no agent saw it"), "{}", diagnosis.summary);
    assert_eq!(told.observed_at.unwrap().seconds, at);

    let mut agent = Agent::connect(&aggregator, "node1").await;
    assert_eq!(agent.report(seen(at, 5, "api")).await.outcome(), Outcome::Stored);
    let all =
        until("the report alone", &aggregator, |all| all.len() == 1 && all[0].id.starts_with("node1/")).await;
    assert_eq!(all[0].diagnosis.as_ref().unwrap().confidence(), v1::Confidence::High);
    aggregator.stop().await.unwrap();
}

#[tokio::test]
async fn the_agents_own_end_and_what_died_while_there_was_none_are_told_as_that() {
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::start().await;
    let at = a_while_ago();
    let aggregator = start(&directory, &api).await;
    let wire = |seconds: i64| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let hello = v1::AgentHello {
        node: "node1".to_owned(),
        started_at: wire(at + 30),
        earlier_run: Some(v1::EarlierRun { last_alive: wire(at - 3), ..v1::EarlierRun::default() }),
        pod_uid: "uid-of-lastwords-agent".to_owned(),
        ..v1::AgentHello::default()
    };
    let _agent = Agent::connect_with(&aggregator, Message::Hello(hello)).await;
    let knows_the_agent = async {
        while query(&aggregator)
            .await
            .list_nodes(v1::ListNodesRequest {})
            .await
            .unwrap()
            .into_inner()
            .nodes
            .is_empty()
        {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, knows_the_agent).await.unwrap();
    api.put("pods", pod("lastwords-agent", ended(at, 5, 137, "OOMKilled")));
    api.put("pods", pod("api", ended(at + 1, 6, 1, "Error")));
    let all = until("both ends", &aggregator, |all| all.len() == 2).await;
    let lost = |pod: &str| {
        let of_pod = |crash: &&v1::Crash| crash.container.as_ref().unwrap().pod_name == pod;
        all.iter().find(of_pod).unwrap().losses.clone().unwrap().unreadable.join(";")
    };
    assert_eq!(
        lost("lastwords-agent"),
        "this was the agent of node node1 itself, which cannot see its own end"
    );
    let gap = lost("api");
    assert!(
        gap.starts_with("no agent watched node node1 from ") && gap.contains("without being asked to"),
        "{gap}"
    );
    aggregator.stop().await.unwrap();
}

#[tokio::test]
async fn an_end_that_was_reported_is_not_told_again() {
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::start().await;
    let at = a_while_ago();
    let aggregator = start(&directory, &api).await;
    let mut agent = Agent::connect(&aggregator, "node1").await;
    agent.report(seen(at, 5, "api")).await;
    aggregator.stop().await.unwrap();
    // This one knows of the report by its store alone. Ends of one pod are told in their order.
    let mut two = pod("api", ended(at, 5, 137, "OOMKilled"));
    let container = json!({"name": "unseen", "image": "registry/api:1"});
    two["spec"]["containers"].as_array_mut().unwrap().push(container);
    let mut unseen = ended(at + 1, 6, 1, "Error")["containerStatuses"][0].clone();
    unseen["name"] = json!("unseen");
    two["status"]["containerStatuses"].as_array_mut().unwrap().push(unseen);
    api.put("pods", two);
    let aggregator = start(&directory, &api).await;
    let all = until("both", &aggregator, |all| all.len() > 1).await;
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].id, format!("kubernetes/uid-of-api/unseen/{:064x}", 6));
    let diagnosis = all[0].diagnosis.clone().unwrap();
    assert_eq!((diagnosis.cause(), diagnosis.object.as_str()), (v1::Cause::Unknown, "exit code 1"));
    assert!(all[1].id.starts_with("node1/"), "{}", all[1].id);
    aggregator.stop().await.unwrap();
}

#[tokio::test]
async fn an_evicted_pod_is_one_crash() {
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::start().await;
    let low =
        json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory. "});
    api.put("pods", pod("never-ran", low.clone()));
    let at = a_while_ago();
    let mut ran = ended(at, 9, 137, "Error");
    for key in ["phase", "reason", "message"] {
        ran[key] = low[key].clone();
    }
    api.put("pods", pod("ran", ran));
    let aggregator = start(&directory, &api).await;
    let all = until("two", &aggregator, |all| all.len() > 1).await;
    let told = |name: &str| {
        let of_pod = all.iter().filter(|crash| crash.container.as_ref().unwrap().pod_name == name);
        of_pod.map(|crash| (cause(crash), crash.container.as_ref().unwrap().name.clone())).collect::<Vec<_>>()
    };
    assert_eq!(told("never-ran"), [(v1::Cause::Evicted, String::new())]);
    assert_eq!(told("ran"), [(v1::Cause::Evicted, "app".to_owned())]);
    aggregator.stop().await.unwrap();
}
