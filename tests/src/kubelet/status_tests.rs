//! The statuses written here have the fields that a real kubelet wrote at the same step.

use std::collections::BTreeSet;
use std::io::Read;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{Pod, State, Terminated};

const NAME: &str = "c04-7744784dc9-sq75h";

/// All statuses of one pod of the recording, in order.
fn recorded(name: &str) -> Vec<Value> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/kube-1.36/watch-pods.jsonl.gz");
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(file).unwrap()).read_to_string(&mut text).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|mut line| line["object"].take()).filter(|object| object["metadata"]["name"] == name).collect()
}

/// The paths of all fields; list elements are told apart by their `type` only.
fn fields(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| fields(value, &format!("{path}.{key}"), found))
        }
        Value::Array(list) => list.iter().for_each(|value| {
            let kind = value["type"].as_str().unwrap_or_default();
            fields(value, &format!("{path}[{kind}]"), found);
        }),
        _ => {
            found.insert(path.to_owned());
        }
    }
}

fn assert_same_fields(ours: &Value, theirs: &Value) {
    let (mut left, mut right) = (BTreeSet::new(), BTreeSet::new());
    fields(ours, "status", &mut left);
    fields(theirs, "status", &mut right);
    // The pod's network here has no address.
    right.retain(|path| !path.contains("podIP"));
    assert_eq!(left, right);
}

fn end(id: &str, exit_code: i32) -> Terminated {
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_338_634);
    let finished = start + Duration::from_secs(1);
    Terminated { exit_code, reason: "Error", message: None, started: start, finished, id: id.to_owned() }
}

#[test]
fn every_step_of_a_crash_loop_has_the_recorded_fields() {
    let recorded = recorded(NAME);
    let steps: Vec<&Value> = recorded.iter().map(|object| &object["status"]).collect();
    let find = |restarts: u64, state: &str| {
        let found = steps.iter().find(|status| {
            let container = &status["containerStatuses"][0];
            container["restartCount"] == restarts && container["state"][state].is_object()
        });
        *found.unwrap_or_else(|| panic!("the recording has no step {restarts} {state}"))
    };
    let mut pod = Pod::new(recorded.last().unwrap().clone(), SystemTime::now(), false);
    // The earlier of the two pods of this name; both have the same spec.
    let now = SystemTime::now();
    let ours = pod.status(now);
    assert_same_fields(&ours, find(0, "waiting"));
    assert_eq!(ours["conditions"].as_array().unwrap().len(), 5);

    pod.sandbox_ready = true;
    pod.containers[0].id = Some("a".repeat(64));
    pod.containers[0].state = State::Running(now);
    assert_same_fields(&pod.status(now), find(0, "running"));

    pod.containers[0].state = State::Terminated(end("a", 5));
    let ours = pod.status(now);
    assert_same_fields(&ours, find(0, "terminated"));
    assert_eq!((&ours["phase"], &ours["containerStatuses"][0]["lastState"]), (&json!("Running"), &json!({})));

    pod.containers[0].last = Some(end("a", 5));
    pod.containers[0].restarts = 1;
    pod.containers[0].state = State::Running(now);
    assert_same_fields(&pod.status(now), find(1, "running"));
    pod.containers[0].state = State::Terminated(end("b", 5));
    assert_same_fields(&pod.status(now), find(1, "terminated"));
    pod.containers[0].state = State::Waiting("CrashLoopBackOff", Some("back-off 10s".to_owned()));
    assert_same_fields(&pod.status(now), find(1, "waiting"));
}

#[test]
fn a_start_error_has_the_recorded_fields() {
    let recorded = recorded("c05b-758f9f45c9-tmnbd");
    let theirs = recorded
        .iter()
        .map(|object| &object["status"])
        .find(|status| status["containerStatuses"][0]["state"]["waiting"]["reason"] == "RunContainerError")
        .unwrap();
    let mut pod = Pod::new(recorded[0].clone(), SystemTime::now(), true);
    pod.sandbox_ready = true;
    pod.containers[0].id = Some("a".repeat(64));
    pod.containers[0].restarts = 1;
    pod.containers[0].state = State::Waiting("RunContainerError", Some("why".to_owned()));
    let message = Some("why".to_owned());
    pod.containers[0].last = Some(Terminated { message, started: SystemTime::UNIX_EPOCH, ..end("a", 128) });
    let ours = pod.status(SystemTime::now());
    assert_same_fields(&ours, theirs);
    assert_eq!(ours["containerStatuses"][0]["lastState"]["terminated"]["startedAt"], "1970-01-01T00:00:00Z");
    assert_eq!(ours["phase"], "Running");
}

#[test]
fn restart_policies_decide_the_phase() {
    for (policy, code, phase) in [
        ("Never", 0, "Succeeded"),
        ("Never", 1, "Failed"),
        ("OnFailure", 1, "Running"),
        ("Always", 0, "Running"),
    ] {
        let object = json!({"spec": {"restartPolicy": policy, "containers": [{"name": "app"}]}});
        let mut pod = Pod::new(object, SystemTime::now(), true);
        pod.containers[0].state = State::Terminated(end("a", code));
        assert_eq!(pod.phase(), phase, "{policy} {code}");
    }
}
