//! Two aggregators, one PostgreSQL, one API server: one of them leads, and its sudden end loses nothing and has nothing said twice.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod agents;
#[path = "../../aggregator/tests/postgres_server/mod.rs"]
#[allow(dead_code, reason = "another test uses the rest of it")]
mod postgres_server;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::UNIX_EPOCH;

use agents::{Agent, id, now, port_in_use};
use lastwords_proto::v1;
use lastwords_proto::v1::crash_query_client::CrashQueryClient;
use lastwords_tests::api_server::{ApiServer, Options};
use lastwords_tests::http::Client;
use lastwords_tests::patience::{PATIENCE, eventually};
use lastwords_tests::programs::{Program, release_program};
use postgres_server::Server;
use serde_json::{Value, json};
use tonic::transport::Channel;

const PODS: &str = "/api/v1/namespaces/default/pods";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";

struct Aggregator {
    program: Program,
    url: String,
}

impl Aggregator {
    fn start(name: &str, store: &str, directory: &std::path::Path) -> Self {
        let mut command = Command::new(release_program("lastwords-aggregator").unwrap());
        command
            .args(["--listen", "127.0.0.1:0", "--store", store, "--kubeconfig"])
            .arg(directory.join("kubeconfig"));
        let mut program = Program::start(command, name, directory).unwrap();
        let url = format!("http://{}", program.wait_for_address().unwrap());
        Self { program, url }
    }

    async fn channel(&self) -> Channel {
        Channel::from_shared(self.url.clone()).unwrap().connect().await.unwrap()
    }

    async fn query(&self) -> CrashQueryClient<Channel> {
        CrashQueryClient::new(self.channel().await)
    }

    /// As it last said of itself.
    fn leads(&self) -> bool {
        let output = self.program.output();
        let said = output.lines().rfind(|line| line.contains("leading="));
        said.is_some_and(|line| line.contains("leading=true"))
    }

    /// All crashes by pod, with how many there are of each.
    async fn crashes(&self) -> BTreeMap<String, usize> {
        let request =
            v1::ListCrashesRequest { include_completed: true, page_size: 1_000, ..Default::default() };
        let crashes = self.query().await.list_crashes(request).await.unwrap().into_inner().crashes;
        let mut by_pod = BTreeMap::new();
        for crash in crashes {
            *by_pod.entry(crash.container.unwrap().pod_name).or_default() += 1;
        }
        by_pod
    }

    /// The newest crash of a pod, once it is judged with its pod's state.
    async fn explained(&self, pod: &str) -> v1::Crash {
        let request = v1::ExplainPodRequest {
            namespace: "default".to_owned(),
            pod_name: pod.to_owned(),
            ..Default::default()
        };
        eventually(&format!("{pod} explained by {}", self.url), async || {
            let answer = self.query().await.explain_pod(request.clone()).await.ok()?.into_inner();
            let crash = answer.crashes.into_iter().next()?;
            let told = crash.pod_state.as_ref().is_some_and(|state| !state.terminated.is_empty());
            told.then_some(crash)
        })
        .await
    }

    /// Waits until it shows these nodes' agents as connected.
    async fn shows_agents(&self, nodes: &[&str]) {
        eventually(&format!("agents of {nodes:?} shown by {}", self.url), async || {
            let answer = self.query().await.list_nodes(v1::ListNodesRequest::default()).await.unwrap();
            let connected: Vec<String> =
                answer.into_inner().nodes.into_iter().filter(|it| it.connected).map(|it| it.name).collect();
            (connected == nodes).then_some(())
        })
        .await;
    }
}

fn of(node: &str, pod: &Value, sequence: u64) -> v1::CrashReport {
    port_in_use(node, pod["metadata"]["uid"].as_str().unwrap(), sequence)
}

/// A pod whose container ended as the report of that sequence tells.
async fn crashed(client: &Client, name: &str, node: &str, sequence: u64) -> Value {
    let spec = json!({"metadata": {"name": name}, "spec": {"nodeName": node, "restartPolicy": "Always",
        "containers": [{"name": "app", "image": "api:1"}]}});
    let pod = client.post(PODS, &spec).await.unwrap();
    let time = |seconds: i64| {
        lastwords_tests::time::seconds(UNIX_EPOCH + std::time::Duration::from_secs(seconds.unsigned_abs()))
    };
    let ended = json!({"exitCode": 1, "reason": "Error", "containerID": format!("containerd://{}", id(sequence)),
        "startedAt": time(now() - 1), "finishedAt": time(now())});
    let status = json!({"status": {"phase": "Running", "containerStatuses": [{"name": "app", "restartCount": 0, "ready": false,
        "image": "api:1", "imageID": "", "containerID": format!("containerd://{}", id(sequence)),
        "state": {"terminated": ended}, "lastState": {}}]}});
    client.patch(&format!("{PODS}/{name}/status"), &status).await.unwrap();
    pod
}

/// Events by pod that tell of a port in use.
async fn events(client: &Client) -> BTreeMap<String, u64> {
    let mut by_pod = BTreeMap::new();
    for event in client.get(EVENTS).await.unwrap()["items"].as_array().unwrap() {
        if event["reason"] == "PortInUse" {
            let pod = event["regarding"]["name"].as_str().unwrap().to_owned();
            *by_pod.entry(pod).or_default() += event["series"]["count"].as_u64().unwrap_or(1);
        }
    }
    by_pod
}

async fn said_once(client: &Client, pods: &[&str]) {
    eventually(&format!("events on {pods:?}"), async || {
        let said = events(client).await;
        pods.iter().all(|pod| said.contains_key(*pod)).then_some(())
    })
    .await;
    let expected: BTreeMap<String, u64> = pods.iter().map(|pod| ((*pod).to_owned(), 1)).collect();
    assert_eq!(events(client).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leaders_sudden_end_loses_nothing_and_has_nothing_said_twice() {
    let test = "the_leaders_sudden_end_loses_nothing_and_has_nothing_said_twice";
    if let Err(error) = release_program("lastwords-aggregator") {
        println!("SKIPPED {test}: {error:#}");
        return;
    }
    let Some(database) = Server::start(test) else { return };
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::start(Options { schedule: false, ..Options::default() }).await.unwrap();
    api.write_kubeconfig(&directory.path().join("kubeconfig")).unwrap();
    let client = Client::new(&api.url()).unwrap();
    let store = database.database("replicas");
    let start = |name: &str| Aggregator::start(name, &store, directory.path());
    let mut both = vec![start("one"), start("two")];
    let leader = eventually("one that leads", async || both.iter().position(Aggregator::leads)).await;
    let mut leader = both.remove(leader);
    let other = both.remove(0);
    assert!(!other.leads(), "{}", other.program.output());

    // An agent at each. Whoever is asked, and whoever was told, the answer is the same.
    let mut at_leader = Agent::connect(&leader.url, "node1").await;
    let mut at_other = Agent::connect(&other.url, "node2").await;
    let mut watched =
        leader.query().await.watch_crashes(v1::WatchCrashesRequest::default()).await.unwrap().into_inner();
    let first = crashed(&client, "first", "node1", 1).await;
    let second = crashed(&client, "second", "node2", 2).await;
    at_leader.report(of("node1", &first, 1)).await;
    at_other.report(of("node2", &second, 2)).await;
    for aggregator in [&leader, &other] {
        for pod in ["first", "second"] {
            let crash = aggregator.explained(pod).await;
            assert_eq!(crash.diagnosis.unwrap().cause(), v1::Cause::PortInUse);
        }
        aggregator.shows_agents(&["node1", "node2"]).await;
    }
    let seen_by_watch = async {
        loop {
            let crash = watched.message().await.unwrap().unwrap().crash.unwrap();
            if crash.node == "node2" {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, seen_by_watch).await.expect("watch shows what another one was told");
    said_once(&client, &["first", "second"]).await;

    // The leader ends in the middle of its work; its agent gets no acknowledgement and goes to the other one.
    let third = crashed(&client, "third", "node1", 3).await;
    let fourth = crashed(&client, "fourth", "node2", 4).await;
    at_other.report(of("node2", &fourth, 4)).await;
    at_leader.send(of("node1", &third, 3)).await;
    leader.program.kill();
    let mut moved = Agent::connect(&other.url, "node1").await;
    moved.report(of("node1", &third, 3)).await;
    eventually("the other one leads", async || other.leads().then_some(())).await;
    let fifth = crashed(&client, "fifth", "node1", 5).await;
    moved.report(of("node1", &fifth, 5)).await;
    for pod in ["third", "fourth", "fifth"] {
        assert_eq!(other.explained(pod).await.diagnosis.unwrap().cause(), v1::Cause::PortInUse);
    }
    // What is said of the fifth comes after all that was left undone.
    said_once(&client, &["first", "second", "third", "fourth", "fifth"]).await;
    let once: BTreeMap<String, usize> =
        ["first", "second", "third", "fourth", "fifth"].into_iter().map(|pod| (pod.to_owned(), 1)).collect();
    assert_eq!(other.crashes().await, once);
    other.shows_agents(&["node1", "node2"]).await;

    // One that is asked to stop lets go at once.
    let successor = start("three");
    let mut other = other;
    other.program.stop().unwrap();
    eventually("the third one leads", async || successor.leads().then_some(())).await;
    assert_eq!(successor.crashes().await, once);
    let sixth = crashed(&client, "sixth", "node2", 6).await;
    Agent::connect(&successor.url, "node2").await.report(of("node2", &sixth, 6)).await;
    said_once(&client, &["first", "second", "third", "fourth", "fifth", "sixth"]).await;
}
