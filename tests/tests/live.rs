//! The whole path with real eBPF and real containers: from a death to the answer a person reads.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lastwords_tests::demo::{CASES, PODS, pods, secret};
use lastwords_tests::http::Client;
use lastwords_tests::programs::{Lastwords, Node, containers_missing};
use serde_json::{Value, json};

/// Two processors may be busy with a build at the same time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Restarts after a second and then two, so that a test sees some.
const FAST: &[&str] = &["--back-off-initial", "1", "--back-off-max", "4", "--relist-period", "0.1"];

fn start(test: &str, kubelet: &[&str]) -> Option<(Node, Lastwords, Client)> {
    if let Some(reason) = containers_missing() {
        println!("SKIPPED {test}: {reason}");
        return None;
    }
    let node = Node::start(kubelet).unwrap();
    let lastwords = Lastwords::start(&node).unwrap();
    let client = Client::new(node.url()).unwrap();
    Some((node, lastwords, client))
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn three_silent_crash_loops_are_explained() {
    let Some((_node, lastwords, client)) = start("three_silent_crash_loops_are_explained", FAST) else {
        return;
    };
    block_on(async {
        client.post("/api/v1/namespaces/default/secrets", &secret()).await.unwrap();
        for pod in pods() {
            client.post(PODS, &pod).await.unwrap();
        }
    });
    for case in CASES {
        let target = format!("pod/{}", case.name);
        let explained = until(&format!("a second crash of {} and its back-off", case.name), || {
            let explained = lastwords.ask_json(&["explain", &target]).ok()?;
            let state = &explained["pod"]["containers"][0]["pod_state"];
            let waits = state["waiting_reason"] == "CrashLoopBackOff" && state["next_retry_at"].is_string();
            (explained["crashes"].as_array()?.len() >= 2 && waits).then_some(explained)
        });
        for crash in explained["crashes"].as_array().unwrap() {
            let diagnosis = &crash["diagnosis"];
            assert_eq!(
                (&diagnosis["cause"], &diagnosis["object"], &diagnosis["confidence"]),
                (&json!(case.cause), &json!(case.object), &json!("CONFIDENCE_HIGH")),
                "{diagnosis:#}"
            );
            assert_eq!(crash["log_tail"]["lines"], json!([]), "they are silent: {:#}", crash["log_tail"]);
            assert_eq!(crash["container"]["pod_name"], case.name);
            assert_eq!(crash["container"]["name"], "app");
        }
        let restarts: Vec<_> = explained["crashes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| &it["container"]["restart_count"])
            .collect();
        assert!(
            restarts.windows(2).all(|pair| pair[0].as_i64() > pair[1].as_i64()),
            "newest first: {restarts:?}"
        );
        let screen = lastwords.ask(&["explain", &target]).unwrap();
        let screen = String::from_utf8(screen.stdout).unwrap();
        for part in ["Why", "Evidence", "Fix", "Back-off", case.object] {
            assert!(screen.contains(part), "no {part:?} in\n{screen}");
        }
    }
    let key = lastwords.ask_json(&["explain", "pod/payments-api"]).unwrap();
    let failure = key["crashes"][0]["failures"]
        .as_array()
        .unwrap()
        .iter()
        .find(|failure| failure["path"] == "/etc/payments/tls.key")
        .unwrap();
    assert_eq!((&failure["uid"], &failure["errno_name"]), (&json!(4242), &json!("EACCES")));
    assert_eq!(failure["file"]["mode"], 0o400, "looked at while it was there: {failure:#}");
    let memory = lastwords.ask_json(&["explain", "pod/report-builder"]).unwrap();
    let kill = &memory["crashes"][0]["oom"][0];
    assert_eq!((&kill["scope"], &kill["limit_bytes"]), (&json!("CONTAINER"), &json!((32 << 20).to_string())));
}

/// Every crash of the store, page by page.
fn all_crashes(lastwords: &Lastwords) -> Vec<Value> {
    let listed = lastwords.ask_json(&["list", "-A", "--all"]).unwrap();
    listed["crashes"].as_array().unwrap().clone()
}

#[test]
fn two_hundred_deaths_within_a_second_are_stored_once_each() {
    const CONTAINERS: usize = 200;
    let kubelet = ["--no-sandbox", "--start-together", "200", "--relist-period", "0.1"];
    let Some((_node, mut lastwords, client)) =
        start("two_hundred_deaths_within_a_second_are_stored_once_each", &kubelet)
    else {
        return;
    };
    let names: BTreeSet<String> = (0..CONTAINERS).map(|number| format!("burst-{number}")).collect();
    block_on(async {
        for name in &names {
            let pod = json!({
                "metadata": {"name": name},
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "app",
                        "image": "localhost/busybox:1",
                        "command": ["/bin/cat", format!("/missing/{name}")],
                    }],
                },
            });
            client.post(PODS, &pod).await.unwrap();
        }
    });
    let mut stored = Vec::new();
    let began = Instant::now();
    while stored.len() < CONTAINERS && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(250));
        stored = all_crashes(&lastwords);
    }
    // Nothing may come twice, however late.
    std::thread::sleep(Duration::from_secs(1));
    stored = all_crashes(&lastwords);
    let dropped: u64 = stored
        .iter()
        .map(|crash| crash["losses"]["ring_records_dropped"].as_str().unwrap().parse::<u64>().unwrap())
        .sum();
    let seen: BTreeSet<String> =
        stored.iter().map(|crash| crash["container"]["pod_name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(stored.len(), seen.len(), "a crash stands twice");
    assert_eq!(seen, names, "{} are missing, {dropped} records were dropped", names.len() - seen.len());
    let mut unnamed = 0;
    for crash in &stored {
        let expected = format!("/missing/{}", crash["container"]["pod_name"].as_str().unwrap());
        unnamed += usize::from(crash["diagnosis"]["object"] != json!(expected));
    }
    assert_eq!(unnamed, 0, "each has its own path, none another's");
    let first = stored.iter().map(|crash| crash["process"]["exited_at"].as_str().unwrap()).min().unwrap();
    let last = stored.iter().map(|crash| crash["process"]["exited_at"].as_str().unwrap()).max().unwrap();
    println!("200 deaths between {first} and {last}");
    let (status, took) = lastwords.agent().stop().unwrap();
    assert!(status.success() && took < Duration::from_secs(5), "the agent took {took:?}: {status}");
}
