use super::*;
use crate::backoff::{Policy, Run};
use crate::kubernetes::KubernetesPod;
use crate::pods::Pods;

/// 2026-11-22T09:10:00Z.
const NINE_TEN: i64 = 1_795_338_600;

fn at(seconds: i64) -> UnixNanos {
    UnixNanos((NINE_TEN + seconds) * 1_000_000_000)
}

fn id(number: u64) -> String {
    format!("{number:064x}")
}

/// A worker, and before it a sidecar that has everything started anew by exit code 88.
fn pods(spec: serde_json::Value, metadata: serde_json::Value, status: serde_json::Value) -> Pods {
    let mut pod = serde_json::json!({
        "metadata": {"name": "w-1", "namespace": "ml", "uid": "u1"},
        "spec": {"nodeName": "node1", "restartPolicy": "Never",
            "initContainers": [
                {"name": "setup", "image": "setup:1"},
                {"name": "watcher", "image": "watcher:1", "restartPolicy": "Always", "restartPolicyRules": [
                    {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}}]}],
            "containers": [{"name": "app", "image": "train:1"}]},
        "status": {"phase": "Running"},
    });
    for (key, value) in [("spec", spec), ("metadata", metadata), ("status", status)] {
        for (name, value) in value.as_object().unwrap() {
            pod[key][name] = value.clone();
        }
    }
    let mut pods = Pods::new(Policy::default());
    pods.apply(serde_json::from_value::<KubernetesPod>(pod).unwrap().reduce());
    pods
}

fn asked(pods: &Pods, container: &str, seconds: i64) -> Option<Stop> {
    let known = pods.by_uid("u1").unwrap();
    stop(known, known.container(container).unwrap(), at(seconds))
}

fn none() -> serde_json::Value {
    serde_json::json!({})
}

fn ended(number: u64, code: i32, second: i64) -> serde_json::Value {
    serde_json::json!({"terminated": {"exitCode": code, "reason": "Error", "containerID": format!("containerd://{}", id(number)),
        "startedAt": "2026-11-22T09:09:00Z", "finishedAt": format!("2026-11-22T09:10:{second:02}Z")}})
}

#[test]
fn a_deletion_stops_what_ends_after_it() {
    // Asked for at 09:10:00, with half a minute to go.
    let pods = pods(
        none(),
        serde_json::json!({"deletionTimestamp": "2026-11-22T09:10:30Z", "deletionGracePeriodSeconds": 30}),
        none(),
    );
    assert_eq!(asked(&pods, "app", 2), Some(Stop::PodDeleted));
    assert_eq!(asked(&pods, "app", 31), Some(Stop::PodDeleted));
    assert_eq!(asked(&pods, "app", -10), None, "that was before anybody asked");
}

#[test]
fn the_exit_that_a_rule_names_restarts_the_others() {
    let statuses = serde_json::json!({"initContainerStatuses": [{"name": "watcher", "restartCount": 0,
        "containerID": format!("containerd://{}", id(7)), "state": ended(7, 88, 10)}]});
    let by_watcher = Some(Stop::AllRestarted { by: "watcher".to_owned() });
    let pods_told = pods(none(), none(), statuses.clone());
    assert_eq!(asked(&pods_told, "app", 12), by_watcher);
    assert_eq!(asked(&pods_told, "setup", 12), by_watcher);
    assert_eq!(asked(&pods_told, "watcher", 10), None, "its own exit is told by its rule");
    assert_eq!(asked(&pods_told, "app", 0), None, "before it");
    assert_eq!(asked(&pods_told, "app", 200), None, "long after it");
    let mut other = statuses;
    other["initContainerStatuses"][0]["state"] = ended(7, 1, 10);
    assert_eq!(asked(&pods(none(), none(), other), "app", 12), None);

    // The agent was faster than the kubelet.
    let mut reported = pods(none(), none(), none());
    let run = Run { container_id: id(7), exit_code: Some(88), ended_at: Some(at(10)), ..Run::default() };
    reported.observe_run("u1", "watcher", run);
    assert_eq!(asked(&reported, "app", 11), by_watcher);
}

#[test]
fn the_condition_tells_of_it_also_when_it_is_over() {
    let condition = |status: &str| {
        serde_json::json!({"conditions": [{"type": "AllContainersRestarting", "status": status,
            "lastTransitionTime": "2026-11-22T09:10:10Z"}]})
    };
    let mut pods = pods(none(), none(), condition("True"));
    assert_eq!(asked(&pods, "app", 12), Some(Stop::AllRestarted { by: String::new() }));
    let mut over = pods.by_uid("u1").unwrap().pod.clone();
    over.restarting_all = None;
    pods.apply(over);
    assert_eq!(asked(&pods, "app", 12), Some(Stop::AllRestarted { by: String::new() }));
    assert_eq!(asked(&pods, "app", 100), None);
}

#[test]
fn all_have_their_grace_period_to_be_restarted_in() {
    let condition = serde_json::json!({"conditions": [{"type": "AllContainersRestarting", "status": "True",
        "lastTransitionTime": "2026-11-22T09:10:10Z"}]});
    let spec = serde_json::json!({"terminationGracePeriodSeconds": 300});
    let pods = pods(spec, none(), condition);
    assert_eq!(asked(&pods, "app", 309), Some(Stop::AllRestarted { by: String::new() }));
    assert_eq!(asked(&pods, "app", 400), None);
}

#[test]
fn sidecars_go_when_the_work_is_done() {
    let done = |code: i32, spec| {
        let statuses = serde_json::json!({"containerStatuses": [{"name": "app", "restartCount": 0,
            "containerID": format!("containerd://{}", id(1)), "state": ended(1, code, 20)}]});
        pods(spec, none(), statuses)
    };
    assert_eq!(asked(&done(0, none()), "watcher", 21), Some(Stop::PodDone));
    assert_eq!(asked(&done(1, none()), "watcher", 21), Some(Stop::PodDone), "never restarted");
    assert_eq!(asked(&done(0, none()), "watcher", 5), None, "while it still worked");
    assert_eq!(asked(&done(0, none()), "setup", 21), None, "no sidecar");
    let again = serde_json::json!({"restartPolicy": "OnFailure"});
    assert_eq!(asked(&done(1, again), "watcher", 21), None, "it is tried again");
    assert_eq!(asked(&pods(none(), none(), none()), "watcher", 21), None);
}

#[test]
fn a_containers_own_policy_and_rules_say_whether_it_is_restarted() {
    let spec = serde_json::json!({"restartPolicy": "Always", "containers": [
        {"name": "app", "image": "a", "restartPolicy": "Never", "restartPolicyRules": [
            {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]},
        {"name": "again", "image": "a", "restartPolicy": "OnFailure"},
        {"name": "unlike", "image": "a", "restartPolicy": "Never", "restartPolicyRules": [
            {"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [0, 3]}}]}]});
    let pods = pods(spec, none(), none());
    let known = pods.by_uid("u1").unwrap();
    let codes = |container: &str| {
        let container = known.container(container).unwrap();
        [0, 1, 3, 42]
            .into_iter()
            .filter(|code| pair::is_restarted(known, container, *code))
            .collect::<Vec<_>>()
    };
    assert_eq!(codes("app"), [42]);
    assert_eq!(codes("again"), [1, 3, 42]);
    assert_eq!(codes("unlike"), [1, 42]);
    assert_eq!(codes("watcher"), [0, 1, 3, 42]);
    assert_eq!(codes("setup"), [1, 3, 42]);
}
