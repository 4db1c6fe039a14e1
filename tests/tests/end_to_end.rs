//! The whole way, for real: a container dies, the kernel's record becomes a report, the report an answer.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::process::Command;
use std::time::{Duration, SystemTime};

use lastwords_tests::demo::{self, PODS};
use lastwords_tests::http::Client;
use lastwords_tests::lastwords::Lastwords;
use lastwords_tests::patience::eventually;
use lastwords_tests::programs::{NODE_NAME, Node, containers_missing, kubectl, release_program};
use lastwords_tests::time::parse;
use nix::sys::stat::Mode;
use serde_json::{Value, json};

/// How many containers die together: a little more than the 110 pods of a full node with two containers each crashing.
const MANY: usize = 200;

fn started(test: &str, kubelet_arguments: &[&str]) -> Option<(Lastwords, Node, Client)> {
    if let Some(reason) = containers_missing() {
        println!("SKIPPED {test}: {reason}");
        return None;
    }
    for name in ["lastwords", "lastwords-agent", "lastwords-aggregator"] {
        if let Err(error) = release_program(name) {
            println!("SKIPPED {test}: {error:#}");
            return None;
        }
    }
    let node = Node::start(kubelet_arguments).unwrap();
    let client = Client::new(node.url()).unwrap();
    Some((Lastwords::start(&node).unwrap(), node, client))
}

fn pod(name: &str, command: &[&str]) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "app", "image": "localhost/busybox:1", "command": command}]},
    })
}

/// The newest crash of a pod that already waits in CrashLoopBackOff.
async fn explained(lastwords: &Lastwords, client: &Client, pod: &Value) -> Value {
    let name = pod["metadata"]["name"].as_str().unwrap();
    client.post(PODS, pod).await.unwrap();
    eventually(&format!("{name} explained with its back-off"), async || {
        // Until the first crash is stored the answer is a failure.
        let answer = lastwords.ask_json(&["explain", &format!("pod/{name}")]).ok()?;
        let newest = answer["crashes"][0].clone();
        let state = &newest["pod_state"];
        (state["restart_count"].as_i64() >= Some(1) && state["next_retry_at"].is_string()).then_some(newest)
    })
    .await
}

fn assert_cause(crash: &Value, cause: &str, object: &str) {
    let diagnosis = &crash["diagnosis"];
    assert_eq!(
        (diagnosis["cause"].as_str(), diagnosis["object"].as_str(), diagnosis["confidence"].as_str()),
        (Some(cause), Some(object), Some("CONFIDENCE_HIGH")),
        "{crash:#}"
    );
    assert_eq!(crash["node"], NODE_NAME);
    assert_eq!(
        (&crash["container"]["namespace"], &crash["container"]["name"]),
        (&json!("default"), &json!("app"))
    );
    let state = &crash["pod_state"];
    assert!(state["back_off_seconds"].as_u64() >= Some(10), "{crash:#}");
    let (end, retry) =
        (crash["process"]["exited_at"].as_str().unwrap(), state["next_retry_at"].as_str().unwrap());
    let wait = parse(retry).unwrap().duration_since(parse(end).unwrap()).unwrap();
    assert!(
        (Duration::from_secs(8)..Duration::from_secs(60)).contains(&wait),
        "{wait:?} until the next retry"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_crashes_are_explained_with_cause_object_and_back_off() {
    let test = "silent_crashes_are_explained_with_cause_object_and_back_off";
    let Some((lastwords, node, client)) = started(test, &[]) else { return };
    client.post("/api/v1/namespaces/default/secrets", &demo::secret()).await.unwrap();
    let pods = demo::pods();
    let crashes = futures::future::join_all(pods.iter().map(|pod| explained(&lastwords, &client, pod))).await;
    for (case, crash) in demo::CASES.iter().zip(&crashes) {
        assert_cause(crash, case.cause, case.object);
        assert_eq!(crash["container"]["pod_name"], case.name);
        assert_eq!(crash["log_tail"]["lines"], json!([]), "the log is empty: {}", crash["log_tail"]);
        let losses = &crash["losses"];
        assert_eq!(
            losses["failures_overwritten"], "0",
            "what the runtime failed at is not the program's: {losses}"
        );
    }
    let [memory, key, _] = crashes.try_into().unwrap();
    let kill = &memory["oom"][0];
    assert_eq!(
        (&kill["limit_bytes"], &kill["scope"]),
        (&json!((32_u64 << 20).to_string()), &json!("CONTAINER"))
    );
    assert_eq!(memory["exit"]["signal_name"], "SIGKILL");
    assert_eq!(memory["exit"]["killed_by"]["kind"], "OOM_KILLER");
    let refused = key["failures"]
        .as_array()
        .unwrap()
        .iter()
        .find(|failure| failure["path"] == demo::CASES[1].object)
        .unwrap();
    assert_eq!((&refused["errno_name"], &refused["uid"]), (&json!("EACCES"), &json!(4242)));
    assert_eq!(
        (&refused["file"]["mode"], &refused["file"]["uid"]),
        (&json!(0o400), &json!(0)),
        "{refused:#}"
    );
    for case in demo::CASES {
        let screen = lastwords.ask(&["explain", &format!("pod/{}", case.name)]).unwrap();
        let screen = String::from_utf8(screen.stdout).unwrap();
        for part in ["Why", "Evidence", "Fix", "Back-off", case.object] {
            assert!(screen.contains(part), "no {part:?} in\n{screen}");
        }
    }

    // Where people look first.
    if kubectl().is_none() {
        println!("SKIPPED {test}, what kubectl shows: no kubectl; `cargo xtask setup` unpacks one");
        return;
    }
    for (case, reason) in demo::CASES.iter().zip(["OutOfMemory", "PermissionDenied", "FileNotFound"]) {
        let what = format!("kubectl describe pod {} says {reason}", case.name);
        eventually(&what, async || describe(&node, case.name).contains(reason).then_some(())).await;
        let events =
            client.get(&format!("/api/v1/namespaces/default/events?fieldSelector=reason%3D{reason}")).await;
        let event = events.unwrap()["items"][0].clone();
        let note = event["message"].as_str().unwrap();
        assert!(note.len() <= 1_024 && note.contains("kubectl lastwords explain pod/"), "{event:#}");
        assert_eq!(
            (&event["type"], &event["involvedObject"]["name"]),
            (&json!("Warning"), &json!(case.name))
        );
    }

    // The end of a pod takes its sandbox along, which is no container of anybody's.
    client.delete(&format!("{PODS}/payments-api"), &json!({})).await.unwrap();
    eventually("the pod is gone", async || {
        client.get(&format!("{PODS}/payments-api")).await.is_err().then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let listed = lastwords.ask_json(&["list", "-A", "--all"]).unwrap();
    // Other tests have containers on this machine too.
    let pod = &key["container"]["pod_uid"];
    let of_pod: Vec<_> = listed["crashes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|crash| crash["container"]["pod_uid"] == *pod)
        .collect();
    assert!(!of_pod.is_empty(), "{listed:#}");
    for crash in of_pod {
        assert_ne!(crash["process"]["comm"], "pause", "{:#}", crash["container"]);
        assert_eq!(crash["container"]["name"], "app", "{:#}", crash["container"]);
    }
}

/// What `kubectl describe pod` prints.
fn describe(node: &Node, pod: &str) -> String {
    let mut command = Command::new(kubectl().unwrap());
    command.arg("--kubeconfig").arg(node.kubeconfig()).args(["describe", "pod", pod]);
    String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_in_the_containers_own_layer_are_told_and_volumes_are_not_read() {
    let test = "logs_in_the_containers_own_layer_are_told_and_volumes_are_not_read";
    let Some((lastwords, _node, client)) = started(test, &[]) else { return };
    let script = "mkdir -p /var/log/app; read word < /etc/passwd; echo first > /var/log/app/app.log; \
                  echo 'password=hunter2 refused' >> /var/log/app/app.log; echo volume >> /scratch/own.log; sleep 0.3; exit 3";
    // It lives a moment longer than it takes to find its layer, on a busy machine too.
    let mut pod = pod("silent", &["/bin/sh", "-c", script]);
    pod["spec"]["volumes"] = json!([{"name": "scratch", "emptyDir": {}}]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "scratch", "mountPath": "/scratch"}]);
    let crash = explained(&lastwords, &client, &pod).await;
    let opened: Vec<&str> =
        crash["opened_files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(opened, ["/var/log/app/app.log", "/scratch/own.log"], "{crash:#}");
    let files = crash["log_files"].as_array().unwrap();
    assert_eq!(files.len(), 1, "{files:#?}");
    assert_eq!(files[0]["source"], "/var/log/app/app.log");
    assert_eq!(files[0]["lines"], json!(["first", "password=<redacted> refused"]));
    let screen = lastwords.ask(&["explain", "pod/silent"]).unwrap();
    let screen = String::from_utf8(screen.stdout).unwrap();
    assert!(screen.contains("| password=<redacted> refused"), "{screen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_deaths_within_a_second_are_each_stored_once() {
    let test = "two_hundred_deaths_within_a_second_are_each_stored_once";
    let Some((mut lastwords, node, client)) = started(test, &["--no-sandbox"]) else { return };
    // All wait for the same FIFO: opening it for writing wakes every reader at once.
    let gate = node.directory().join("gate");
    fs::create_dir(&gate).unwrap();
    nix::unistd::mkfifo(&gate.join("go"), Mode::from_bits_truncate(0o644)).unwrap();
    for number in 0..MANY {
        let mut pod = pod(
            &format!("many-{number}"),
            &["/bin/sh", "-c", "read word < /gate/go; exec cat /etc/app/app.conf"],
        );
        pod["spec"]["restartPolicy"] = json!("Never");
        pod["spec"]["volumes"] = json!([{"name": "gate", "hostPath": {"path": gate}}]);
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "gate", "mountPath": "/gate"}]);
        client.post(PODS, &pod).await.unwrap();
    }
    let in_phase = async |phase: &str| {
        let list = client.get(&format!("{PODS}?fieldSelector=status.phase%3D{phase}")).await.unwrap();
        let pods = list["items"].as_array().unwrap().clone();
        (pods.len() == MANY).then_some(pods)
    };
    eventually("all containers run", async || in_phase("Running").await).await;
    // A shell needs a moment from its start to its wait.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let released = SystemTime::now();
    drop(OpenOptions::new().write(true).open(gate.join("go")).unwrap());
    let pods = eventually("all containers have died", async || in_phase("Failed").await).await;
    let died: BTreeSet<String> = pods
        .iter()
        .map(|pod| pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap())
        .map(|id| id.trim_start_matches("containerd://").to_owned())
        .collect();
    assert_eq!(died.len(), MANY);

    let crashes = eventually("all crashes stored", async || {
        let list = lastwords.ask_json(&["list", "-A", "--limit", "10000"]).unwrap();
        // Other containers of this machine may die meanwhile.
        let crashes = list["crashes"].as_array().unwrap().iter();
        let ours = crashes.filter(|crash| died.contains(crash["container"]["id"].as_str().unwrap()));
        let ours: Vec<Value> = ours.cloned().collect();
        (ours.len() >= MANY).then_some(ours)
    })
    .await;
    let mut stored: BTreeMap<&str, usize> = BTreeMap::new();
    for crash in &crashes {
        *stored.entry(crash["container"]["id"].as_str().unwrap()).or_default() += 1;
        assert_cause_of_many(crash);
    }
    let twice: Vec<_> = stored.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "stored more than once: {twice:?}");
    let stored: BTreeSet<String> = stored.into_keys().map(str::to_owned).collect();
    assert_eq!(stored, died);
    let last =
        crashes.iter().filter_map(|crash| parse(crash["process"]["exited_at"].as_str()?)).max().unwrap();
    println!(
        "{MANY} containers died within {:?} of their release",
        last.duration_since(released).unwrap_or_default()
    );

    for program in ["agent", "aggregator"] {
        let stopped =
            if program == "agent" { lastwords.agent().stop() } else { lastwords.aggregator().stop() };
        let (status, took) = stopped.unwrap();
        assert!(status.success() && took < Duration::from_secs(5), "{program}: {status} after {took:?}");
    }
}

fn assert_cause_of_many(crash: &Value) {
    assert_eq!(
        (&crash["diagnosis"]["cause"], &crash["diagnosis"]["object"], &crash["exit"]["code"]),
        (&json!("CAUSE_FILE_NOT_FOUND"), &json!("/etc/app/app.conf"), &json!(1)),
        "{crash:#}"
    );
}
