//! One story: three nodes with an agent each, pods in every state, the real kubectl and its plugin `kubectl lastwords` before one API server.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod agents;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use agents::{Agent, id, now, port_in_use};
use lastwords_proto::v1;
use lastwords_tests::api_server::{ApiServer, Options};
use lastwords_tests::http::Client;
use lastwords_tests::lastwords::kubectl_lastwords;
use lastwords_tests::patience::eventually;
use lastwords_tests::programs::{Program, kubectl, release_program};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";

/// A pod, and what is to be said of it: the container, the cause, and the event's reason where there is one.
struct Chapter {
    pod: &'static str,
    container: &'static str,
    cause: &'static str,
    event: Option<&'static str>,
}

const fn chapter(pod: &'static str, container: &'static str, cause: &'static str) -> Chapter {
    Chapter { pod, container, cause, event: None }
}

impl Chapter {
    const fn said(self, event: &'static str) -> Self {
        Self { event: Some(event), ..self }
    }
}

const STORY: [Chapter; 13] = [
    // Seen by an agent.
    chapter("listener", "app", "CAUSE_PORT_IN_USE").said("PortInUse"),
    chapter("meshed", "proxy", "CAUSE_PORT_IN_USE").said("PortInUse"),
    chapter("migrating", "migrate", "CAUSE_PORT_IN_USE").said("PortInUse"),
    chapter("debugged", "debugger", "CAUSE_PORT_IN_USE").said("PortInUse"),
    chapter("etcd-node1", "app", "CAUSE_PORT_IN_USE").said("PortInUse"),
    chapter("done", "app", "CAUSE_COMPLETED"),
    chapter("deleted", "app", "CAUSE_KILLED"),
    // Told by the API alone.
    chapter("unpulled", "app", "CAUSE_IMAGE_PULL_FAILED").said("ImagePullFailed"),
    chapter("unconfigured", "app", "CAUSE_CONTAINER_CONFIG_ERROR").said("ContainerConfigError"),
    chapter("uncreated", "app", "CAUSE_CONTAINER_CREATE_ERROR").said("ContainerCreateError"),
    chapter("evicted", "", "CAUSE_EVICTED").said("Evicted"),
    chapter("preempted", "", "CAUSE_PREEMPTED").said("Preempted"),
    chapter("unseen", "app", "CAUSE_OUT_OF_MEMORY").said("OutOfMemory"),
];

fn container(name: &str) -> Value {
    json!({"name": name, "image": "team/app:1.2.3", "resources": {"limits": {"memory": "64Mi"}}})
}

fn ended(sequence: u64, code: i32, reason: &str) -> Value {
    let time = |at: i64| lastwords_tests::time::seconds(UNIX_EPOCH + Duration::from_secs(at.unsigned_abs()));
    json!({"terminated": {"exitCode": code, "reason": reason, "containerID": format!("containerd://{}", id(sequence)),
        "startedAt": time(now() - 1), "finishedAt": time(now())}})
}

fn status(name: &str, sequence: u64, state: Value) -> Value {
    json!({"name": name, "restartCount": 0, "ready": false, "image": "i", "imageID": "",
        "containerID": format!("containerd://{}", id(sequence)), "state": state, "lastState": {}})
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"phase": "Pending", "containerStatuses": [{"name": "app", "restartCount": 0, "ready": false, "image": "i", "imageID": "",
        "state": {"waiting": {"reason": reason, "message": message}}}]})
}

fn app_ended(sequence: u64, code: i32, reason: &str) -> Value {
    json!({"phase": "Running", "containerStatuses": [status("app", sequence, ended(sequence, code, reason))]})
}

/// Makes a pod with this besides, and gives it this status. Its UID.
async fn pod(client: &Client, name: &str, node: &str, spec: Value, of_status: Value) -> String {
    let mut pod = json!({"metadata": {"name": name},
        "spec": {"nodeName": node, "restartPolicy": "Always", "containers": [container("app")]}});
    for (key, value) in spec.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    if name.starts_with("etcd") {
        pod["metadata"]["annotations"] = json!({"kubernetes.io/config.hash": "0fe9c9d3b6a1", "kubernetes.io/config.mirror": "0fe9c9d3b6a1"});
    }
    let made = client.post(PODS, &pod).await.unwrap();
    client.patch(&format!("{PODS}/{name}/status"), &json!({"status": of_status})).await.unwrap();
    made["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// An end that was ordered from outside, or its own wish.
fn other_end(node: &str, uid: &str, sequence: u64, code: i32, told_to: bool) -> v1::CrashReport {
    let mut report = port_in_use(node, uid, sequence);
    let crash = report.crash.as_mut().unwrap();
    crash.failures.clear();
    crash.exit.as_mut().unwrap().code = code;
    if told_to {
        let runtime =
            v1::KilledBy { kind: v1::killed_by::Kind::Runtime.into(), pid: 9, comm: "runc".to_owned() };
        crash.signals = vec![v1::Signal {
            signal: 15,
            signal_name: "SIGTERM".to_owned(),
            sender: Some(runtime),
            target_pid: 4242,
            to_main: true,
            delivered: true,
            before_death_ms: 50.0,
            ..Default::default()
        }];
    }
    report
}

async fn happen(client: &Client, server: &str) {
    let mut node1 = Agent::connect(server, "node1").await;
    let mut node2 = Agent::connect(server, "node2").await;
    let mut node3 = Agent::connect(server, "node3").await;
    let none = json!({});
    let uid = pod(client, "listener", "node1", none.clone(), app_ended(1, 1, "Error")).await;
    node1.report(port_in_use("node1", &uid, 1)).await;
    let mut proxy = container("proxy");
    proxy["restartPolicy"] = json!("Always");
    let statuses =
        json!({"phase": "Pending", "initContainerStatuses": [status("proxy", 2, ended(2, 1, "Error"))]});
    let uid = pod(client, "meshed", "node2", json!({"initContainers": [proxy]}), statuses).await;
    node2.report(port_in_use("node2", &uid, 2)).await;
    let statuses =
        json!({"phase": "Pending", "initContainerStatuses": [status("migrate", 3, ended(3, 1, "Error"))]});
    let uid =
        pod(client, "migrating", "node3", json!({"initContainers": [container("migrate")]}), statuses).await;
    node3.report(port_in_use("node3", &uid, 3)).await;
    let statuses = json!({"phase": "Running", "ephemeralContainerStatuses": [status("debugger", 4, ended(4, 1, "Error"))]});
    let uid =
        pod(client, "debugged", "node2", json!({"ephemeralContainers": [container("debugger")]}), statuses)
            .await;
    node2.report(port_in_use("node2", &uid, 4)).await;
    pod(client, "etcd-node1", "node1", none.clone(), app_ended(5, 1, "Error")).await;
    node1.report(port_in_use("node1", "0fe9c9d3b6a1", 5)).await;
    let uid = pod(client, "done", "node3", none.clone(), app_ended(6, 0, "Completed")).await;
    node3.report(other_end("node3", &uid, 6, 0, false)).await;
    let running =
        json!({"running": {"startedAt": lastwords_tests::time::seconds(std::time::SystemTime::now())}});
    let statuses = json!({"phase": "Running", "containerStatuses": [status("app", 7, running)]});
    let uid = pod(client, "deleted", "node1", none.clone(), statuses).await;
    client.delete(&format!("{PODS}/deleted"), &json!({"gracePeriodSeconds": 600})).await.unwrap();
    node1.report(other_end("node1", &uid, 7, 143, true)).await;

    pod(client, "unpulled", "node1", none.clone(), waiting("ErrImagePull", "team/app:1.2.3: not found"))
        .await;
    let missing = "configmap \"app-settings\" not found";
    pod(client, "unconfigured", "node2", none.clone(), waiting("CreateContainerConfigError", missing)).await;
    let no_command = "failed to generate spec: no command specified";
    pod(client, "uncreated", "node3", none.clone(), waiting("CreateContainerError", no_command)).await;
    let low =
        json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory. "});
    pod(client, "evicted", "node1", none.clone(), low).await;
    let preempted = json!({"phase": "Running", "conditions": [{"type": "DisruptionTarget", "status": "True",
        "reason": "PreemptionByScheduler", "message": "default-scheduler: preempting"}]});
    pod(client, "preempted", "node2", none.clone(), preempted).await;
    // Its node's agent was not there.
    pod(client, "unseen", "node4", none, app_ended(8, 137, "OOMKilled")).await;
}

fn run(mut command: Command) -> Option<String> {
    let output = command.output().unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `kubectl lastwords`, with its plugin in this directory.
fn lastwords(directory: &Path, server: &str, arguments: &[&str]) -> Option<String> {
    let mut command = kubectl_lastwords(&directory.join("plugins")).unwrap();
    command.args(arguments).args(["--server", server]).env("HOME", directory);
    run(command)
}

fn describe(kubeconfig: &Path, home: &Path, pod: &str) -> String {
    let mut command = Command::new(kubectl().unwrap());
    command.arg("--kubeconfig").arg(kubeconfig).args(["describe", "pod", pod]).env("HOME", home);
    run(command).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_state_is_explained_and_said_where_people_look() {
    let test = "every_state_is_explained_and_said_where_people_look";
    for name in ["lastwords", "lastwords-aggregator"] {
        if let Err(error) = release_program(name) {
            println!("SKIPPED {test}: {error:#}");
            return;
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let api = ApiServer::start(Options { schedule: false, ..Options::default() }).await.unwrap();
    let kubeconfig = path.join("kubeconfig");
    api.write_kubeconfig(&kubeconfig).unwrap();
    let client = Client::new(&api.url()).unwrap();
    std::fs::write(path.join("aggregator.toml"), "[kubernetes]\nwait_for_agents = '1s'\n").unwrap();
    let mut command = Command::new(release_program("lastwords-aggregator").unwrap());
    command
        .args(["--listen", "127.0.0.1:0", "--store"])
        .arg(format!("sqlite:{}", path.join("crashes.db").display()));
    command.arg("--config").arg(path.join("aggregator.toml")).arg("--kubeconfig").arg(&kubeconfig);
    let mut aggregator = Program::start(command, "lastwords-aggregator", path).unwrap();
    let server = format!("http://{}", aggregator.wait_for_address().unwrap());
    happen(&client, &server).await;

    for Chapter { pod, container, cause, .. } in &STORY {
        let name = format!("pod/{pod}");
        eventually(&format!("{pod} explained as {cause}"), async || {
            let answer = lastwords(path, &server, &["explain", &name, "-o", "json"])?;
            let answer: Value = serde_json::from_str(&answer).unwrap();
            let crash = &answer["crashes"][0];
            let told = crash["diagnosis"]["cause"] == *cause && crash["container"]["name"] == *container;
            let planned = crash["diagnosis"]["planned"] == json!(*pod == "deleted");
            (told && planned && crash["pod_state"].is_object()).then_some(())
        })
        .await;
        let screen = lastwords(path, &server, &["explain", &name]).unwrap();
        assert!(screen.contains("Why"), "{screen}");
    }
    // What was wanted is no crash.
    let list: Value =
        serde_json::from_str(&lastwords(path, &server, &["list", "-A", "-o", "json"]).unwrap()).unwrap();
    let listed: Vec<&str> = list["crashes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|crash| crash["container"]["pod_name"].as_str().unwrap())
        .collect();
    assert_eq!(listed.len(), STORY.len() - 2, "{listed:?}");
    assert!(!listed.contains(&"deleted") && !listed.contains(&"done"), "{listed:?}");

    if kubectl().is_none() {
        println!("SKIPPED {test}, what kubectl shows: no kubectl; `cargo xtask setup` unpacks one");
        return;
    }
    for chapter in STORY.iter().filter(|chapter| chapter.event.is_some()) {
        let reason = chapter.event.unwrap();
        eventually(&format!("kubectl describe pod {} says {reason}", chapter.pod), async || {
            let text = describe(&kubeconfig, path, chapter.pod);
            let events = text.split_once("Events:").map(|(_, events)| events.to_owned())?;
            (events.contains(reason) && events.contains("kubectl lastwords explain")).then_some(())
        })
        .await;
    }
    for chapter in STORY.iter().filter(|chapter| chapter.event.is_none()) {
        let text = describe(&kubeconfig, path, chapter.pod);
        assert!(text.contains("Events:") && !text.contains("lastwords"), "{text}");
    }
}
