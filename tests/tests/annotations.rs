//! Causes in the annotations of pods: only where it is asked for, nothing else of the pod is touched, and whatever the API server answers, events go on.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod agents;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use agents::{Agent, id, now, port_in_use};
use lastwords_tests::api_server::{ApiServer, Options};
use lastwords_tests::http::{Client, refused};
use lastwords_tests::patience::eventually;
use lastwords_tests::programs::{Program, free_port, kubectl, release_program};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const PODS: &str = "/api/v1/namespaces/default/pods";
const MANAGER: &str = "lastwords.dev/aggregator";

struct Cluster {
    aggregator: Program,
    agent: Agent,
    client: Client,
    metrics: String,
    directory: tempfile::TempDir,
    _api: ApiServer,
}

impl Cluster {
    /// None where there is no aggregator, which it says.
    async fn start(test: &str, configuration: &str) -> Option<Self> {
        let program = match release_program("lastwords-aggregator") {
            Ok(program) => program,
            Err(error) => {
                println!("SKIPPED {test}: {error:#}");
                return None;
            }
        };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let api = ApiServer::start(Options { schedule: false, ..Options::default() }).await.unwrap();
        api.write_kubeconfig(&path.join("kubeconfig")).unwrap();
        let metrics = format!("127.0.0.1:{}", free_port().unwrap());
        let text = format!("metrics_listen = '{metrics}'\n{configuration}");
        std::fs::write(path.join("aggregator.toml"), text).unwrap();
        let mut command = Command::new(program);
        command.args(["--listen", "127.0.0.1:0", "--store"]);
        command.arg(format!("sqlite:{}", path.join("crashes.db").display()));
        command.arg("--config").arg(path.join("aggregator.toml"));
        command.arg("--kubeconfig").arg(path.join("kubeconfig"));
        let mut aggregator = Program::start(command, "lastwords-aggregator", path).unwrap();
        let url = format!("http://{}", aggregator.wait_for_address().unwrap());
        let agent = Agent::connect(&url, "node1").await;
        let client = Client::new(&api.url()).unwrap();
        Some(Self { aggregator, agent, client, metrics, directory, _api: api })
    }

    /// A pod of this name whose container ends, as an agent reports it.
    async fn crashes(&mut self, name: &str, sequence: u64) {
        // The stand-in says who changed what where somebody has begun to.
        let maker = json!({"manager": "maker", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {}});
        let pod = json!({
            "metadata": {"name": name, "labels": {"app": name}, "annotations": {"example.com/team": "shop"},
                "managedFields": [maker]},
            "spec": {"nodeName": "node1", "restartPolicy": "Always", "containers": [{"name": "app", "image": "api:1"}]},
        });
        let pod = self.client.post(PODS, &pod).await.unwrap();
        let at = |seconds: i64| {
            lastwords_tests::time::seconds(UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs()))
        };
        let container = format!("containerd://{}", id(sequence));
        let ended = json!({"terminated": {"exitCode": 1, "reason": "Error", "containerID": container,
            "startedAt": at(now() - 1), "finishedAt": at(now())}});
        let status = json!({"status": {"phase": "Running", "containerStatuses": [{"name": "app", "restartCount": 0,
            "ready": false, "image": "api:1", "imageID": "", "containerID": container, "state": ended, "lastState": {}}]}});
        self.client.patch(&format!("{PODS}/{name}/status"), &status).await.unwrap();
        let uid = pod["metadata"]["uid"].as_str().unwrap();
        self.agent.report(port_in_use("node1", uid, sequence)).await;
    }

    async fn pod(&self, name: &str) -> Value {
        self.client.get(&format!("{PODS}/{name}")).await.unwrap()
    }

    async fn is_said_by_an_event(&self, name: &str) {
        eventually(&format!("an event on {name}"), async || {
            let events = self.client.get("/apis/events.k8s.io/v1/namespaces/default/events").await.unwrap();
            let of_pod =
                |event: &Value| event["reason"] == "PortInUse" && event["regarding"]["name"] == *name;
            events["items"].as_array().unwrap().iter().any(of_pod).then_some(())
        })
        .await;
    }

    /// The next patches of pods fail with this code.
    async fn refuse(&self, code: u16, count: u32) {
        let fault =
            json!({"fault": "fail", "resource": "pods", "verb": "patch", "code": code, "count": count});
        self.client.post("/stand-in/faults", &fault).await.unwrap();
    }

    /// The counter of annotations with this outcome.
    async fn counted(&self, outcome: &str) -> u64 {
        let mut stream = tokio::net::TcpStream::connect(&self.metrics).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: it\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let name = format!("lastwords_aggregator_annotations_total{{outcome=\"{outcome}\"}} ");
        answer.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
    }

    async fn comes_to(&self, outcome: &str, count: u64) {
        let what = format!("{count} annotations {outcome}");
        eventually(&what, async || (self.counted(outcome).await == count).then_some(())).await;
    }
}

/// Those of Lastwords, by key without the domain.
fn ours(pod: &Value) -> Vec<(&str, &str)> {
    let annotations = pod["metadata"]["annotations"].as_object().unwrap().iter();
    annotations
        .filter_map(|(key, value)| Some((key.strip_prefix("lastwords.dev/")?, value.as_str().unwrap())))
        .collect()
}

fn managers(pod: &Value) -> Vec<&str> {
    let fields = pod["metadata"]["managedFields"].as_array().unwrap();
    fields.iter().map(|of| of["manager"].as_str().unwrap()).collect()
}

fn describe(directory: &Path, pod: &str) -> Option<String> {
    let mut command = Command::new(kubectl()?);
    command.arg("--kubeconfig").arg(directory.join("kubeconfig")).args(["describe", "pod", pod]);
    let output = command.env("HOME", directory).output().unwrap();
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_shows_the_cause_of_its_newest_crash() {
    let test = "a_pod_shows_the_cause_of_its_newest_crash";
    let Some(mut cluster) = Cluster::start(test, "[kubernetes]\nannotate_pods = true\n").await else {
        return;
    };
    cluster.crashes("api", 1).await;
    cluster.comes_to("written", 1).await;
    let pod = cluster.pod("api").await;
    let ours: std::collections::BTreeMap<&str, &str> = ours(&pod).into_iter().collect();
    let keys: Vec<&str> = ours.keys().copied().collect();
    assert_eq!(keys, ["cause", "confidence", "container", "crash-id", "crashed-at", "summary"]);
    assert_eq!([ours["cause"], ours["confidence"], ours["container"]], ["PortInUse", "high", "app"]);
    assert!(ours["summary"].contains("0.0.0.0:8001/tcp") && ours["summary"].contains("Fix: "), "{ours:?}");
    assert!(ours["crash-id"].starts_with("node1/") && ours["crashed-at"].ends_with('Z'), "{ours:?}");
    assert!(managers(&pod).contains(&MANAGER), "{pod:#}");
    // Nothing else of it is touched, and what was written is no reason to write again.
    assert_eq!(pod["metadata"]["annotations"]["example.com/team"], "shop");
    assert_eq!(
        (&pod["metadata"]["labels"], &pod["metadata"]["generation"]),
        (&json!({"app": "api"}), &json!(1))
    );
    cluster.is_said_by_an_event("api").await;
    assert_eq!(cluster.counted("written").await, 1);
    match describe(cluster.directory.path(), "api") {
        Some(text) => assert!(text.contains("lastwords.dev/cause: PortInUse"), "{text}"),
        None => println!("SKIPPED {test}, what kubectl shows: no kubectl; `cargo xtask setup` unpacks one"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_pod_is_changed_unless_it_is_asked_for() {
    let test = "no_pod_is_changed_unless_it_is_asked_for";
    let Some(mut cluster) = Cluster::start(test, "").await else { return };
    cluster.crashes("api", 1).await;
    cluster.is_said_by_an_event("api").await;
    // As long again as an event takes.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let pod = cluster.pod("api").await;
    assert_eq!(ours(&pod), []);
    assert!(!managers(&pod).contains(&MANAGER), "{pod:#}");
    assert_eq!(cluster.counted("written").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_server_refuses_is_counted_and_stops_no_event() {
    let test = "what_the_api_server_refuses_is_counted_and_stops_no_event";
    let Some(mut cluster) = Cluster::start(test, "[kubernetes]\nannotate_pods = true\n").await else {
        return;
    };
    // Who has no right to gets none by asking again; a pod that is gone, or has another UID by now, is nobody's.
    for (sequence, (code, outcome, before)) in
        (1..).zip([(403, "refused", 0), (404, "gone", 0), (422, "gone", 1)])
    {
        let name = format!("pod-{code}");
        cluster.crashes(&name, sequence).await;
        cluster.refuse(code, 1).await;
        cluster.comes_to(outcome, before + 1).await;
        cluster.is_said_by_an_event(&name).await;
        assert_eq!(ours(&cluster.pod(&name).await), [], "{code}");
    }
    let warned = |line: &&str| line.contains("WARN") && line.contains("needs patch on pods");
    assert_eq!(cluster.aggregator.output().lines().filter(warned).count(), 1);
    // A conflict passes, and so does what went wrong in the server.
    cluster.crashes("contended", 5).await;
    cluster.refuse(409, 1).await;
    cluster.refuse(500, 1).await;
    cluster.comes_to("failed", 2).await;
    cluster.comes_to("written", 1).await;
    assert_eq!(ours(&cluster.pod("contended").await).len(), 6);
    cluster.is_said_by_an_event("contended").await;
    assert_eq!([cluster.counted("refused").await, cluster.counted("gone").await], [1, 2], "once each");

    // What the aggregator relies on: a patch for another pod of that name is refused, with the code of above.
    let patch = json!({"metadata": {"uid": "of-another", "annotations": {"lastwords.dev/cause": "Killed"}}});
    let answer = cluster.client.patch(&format!("{PODS}/contended"), &patch).await;
    assert_eq!(refused(&answer.unwrap_err()), Some(422));
}
