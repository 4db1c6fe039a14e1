//! What a running agent knows of a container from before its death: how its memory went, and what it does without.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use lastwords_tests::demo::PODS;
use lastwords_tests::http::Client;
use lastwords_tests::lastwords::Lastwords;
use lastwords_tests::patience::eventually;
use lastwords_tests::programs::{Node, is_ready};
use lastwords_tests::time::parse;
use serde_json::{Value, json};

/// Long enough for the pod's status to reach the aggregator on a busy machine: what is told of a pod that is not known yet is forgotten.
const HEALTHY_AFTER: &str = "healthy_after_seconds = 10\n";
/// Grows by 2 MiB in half a second, into a limit of 32 MiB.
const GROWS: &str =
    r#"BEGIN { part = sprintf("%2097152s", ""); for (;;) { kept[n++] = part n; system("sleep 0.5") } }"#;
const LIMIT: u64 = 32 << 20;
/// It is not there, and whoever is asked to wait goes on without it.
const OPTIONAL: &str = "/etc/app/extra.yaml";

fn pod(name: &str, command: &[&str]) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "app", "image": "localhost/busybox:1", "command": command,
                "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
            }],
            "volumes": [{"name": "scratch", "emptyDir": {}}],
        },
    })
}

/// The crash of a pod's only run.
async fn crash_of(lastwords: &Lastwords, name: &str) -> Value {
    eventually(&format!("{name} explained"), async || {
        let answer = lastwords.ask_json(&["explain", &format!("pod/{name}")]).ok()?;
        // Judged with what is remembered of the pod's other runs once the pod is known.
        Some(answer["crashes"][0].clone()).filter(|crash| crash["pod_state"]["phase"] == "Failed")
    })
    .await
}

fn bytes(value: &Value) -> u64 {
    value.as_str().unwrap().parse().unwrap()
}

/// A container that grows into its limit is told with the way that its memory took.
fn assert_grew(crash: &Value, screen: &str) {
    assert_eq!(
        (&crash["diagnosis"]["cause"], &crash["diagnosis"]["object"]),
        (&json!("CAUSE_OUT_OF_MEMORY"), &json!("memory limit 32Mi")),
        "{crash:#}"
    );
    let curve = crash["memory"].as_array().unwrap();
    assert!(curve.len() >= 4, "a sample a second for some eight: {curve:#?}");
    let samples: Vec<(_, u64)> = curve
        .iter()
        .map(|sample| (parse(sample["time"].as_str().unwrap()).unwrap(), bytes(&sample["bytes"])))
        .collect();
    assert!(samples.is_sorted_by(|earlier, later| earlier.0 < later.0), "{curve:#?}");
    let of_process = |key: &str| parse(crash["process"][key].as_str().unwrap()).unwrap();
    let (first, last) = (samples[0], samples[samples.len() - 1]);
    assert!(first.0 >= of_process("started_at") && last.0 <= of_process("exited_at"), "{crash:#}");
    assert!(first.1 < LIMIT / 2 && last.1 > LIMIT / 2 && last.1 <= LIMIT, "{curve:#?}");
    let courses = ["grew steadily from", "rose from", "jumped from"];
    // On a busy machine it need not be steady.
    assert!(courses.iter().any(|course| screen.contains(course)), "{screen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leak_shows_its_way_and_what_was_done_without_is_no_cause() {
    let test = "a_leak_shows_its_way_and_what_was_done_without_is_no_cause";
    if !is_ready(test, &["lastwords", "lastwords-agent", "lastwords-aggregator"]) {
        return;
    }
    let node = Node::start(&[]).unwrap();
    let mut lastwords = Lastwords::start_configured(&node, HEALTHY_AFTER).unwrap();
    let client = Client::new(node.url()).unwrap();

    let mut leak = pod("leak", &["awk", GROWS]);
    leak["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "32Mi"}});
    client.post(PODS, &leak).await.unwrap();

    // Opens it, goes on, and opens it once more when it is told to end.
    let gate = node.directory().join("gate");
    std::fs::create_dir(&gate).unwrap();
    nix::unistd::mkfifo(&gate.join("go"), nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
    let script = format!("cat {OPTIONAL}; read word < /scratch/go; exec cat {OPTIONAL}");
    let mut content = pod("content", &["/bin/sh", "-c", &script]);
    content["spec"]["volumes"][0] = json!({"name": "scratch", "hostPath": {"path": gate}});
    client.post(PODS, &content).await.unwrap();

    // The same, in a container of which nothing is remembered.
    client.post(PODS, &pod("new", &["/bin/sh", "-c", &format!("exec cat {OPTIONAL}")])).await.unwrap();
    let new = crash_of(&lastwords, "new").await;
    assert_eq!(
        (&new["diagnosis"]["cause"], &new["diagnosis"]["object"]),
        (&json!("CAUSE_FILE_NOT_FOUND"), &json!(OPTIONAL)),
        "{new:#}"
    );

    eventually("a container runs well", async || {
        lastwords.agent().output().contains(" runs well without ").then_some(())
    })
    .await;
    drop(std::fs::OpenOptions::new().write(true).open(gate.join("go")).unwrap());
    let content = crash_of(&lastwords, "content").await;
    let failures = content["failures"].as_array().unwrap();
    let is_last = |failure: &&Value| failure["path"] == OPTIONAL && failure["by_dying_thread"] == true;
    assert!(failures.iter().any(|failure| is_last(&failure)), "it failed once more: {failures:#?}");
    assert_ne!(content["diagnosis"]["object"], OPTIONAL, "it did without it: {:#}", content["diagnosis"]);
    assert_ne!(content["diagnosis"]["cause"], "CAUSE_FILE_NOT_FOUND", "{:#}", content["diagnosis"]);

    let leak = crash_of(&lastwords, "leak").await;
    let screen = lastwords.ask(&["explain", "pod/leak"]).unwrap();
    assert_grew(&leak, &String::from_utf8(screen.stdout).unwrap());
}
