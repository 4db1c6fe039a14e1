use std::collections::BTreeMap;

use super::*;
use crate::backoff::Policy;
use crate::kubernetes::KubernetesPod;
use crate::pods::{Pod, ProbeEvent};

/// Long after the recording, and less than a day.
const NOW: UnixNanos = UnixNanos(1_795_353_365_000_000_000);

/// Each state of all pods of a real node in their first minute, in order.
pub(crate) fn recorded() -> Vec<Pod> {
    include_str!("../tests/fixtures/watch-all-1.36.jsonl")
        .lines()
        .map(|line| reduced(serde_json::from_str::<serde_json::Value>(line).unwrap()["object"].clone()))
        .collect()
}

fn reduced(pod: serde_json::Value) -> Pod {
    serde_json::from_value::<KubernetesPod>(pod).unwrap().reduce()
}

fn known(pod: &Pod) -> Pods {
    let mut pods = Pods::new(Policy::default());
    pods.apply(pod.clone());
    pods
}

/// Cause, confidence and object of each state.
fn told(crashes: &[NewCrash]) -> Vec<String> {
    let line = |crash: &NewCrash| {
        let diagnosis = &crash.assessment.diagnosis;
        let (cause, confidence) = (diagnosis.cause().as_str_name(), diagnosis.confidence().as_str_name());
        format!("{} {} {}", &cause[6..], &confidence[11..], diagnosis.object)
    };
    crashes.iter().map(line).collect()
}

fn pod(status: serde_json::Value) -> Pod {
    reduced(serde_json::json!({
        "metadata": {"name": "api-7f9", "namespace": "shop", "uid": "u1"},
        "spec": {"nodeName": "node1", "restartPolicy": "Always", "containers": [{"name": "app", "image": "team/app:1.2.3"}]},
        "status": status,
    }))
}

fn waits(reason: &str, message: &str) -> Vec<NewCrash> {
    let pod =
        pod(serde_json::json!({"phase": "Pending", "containerStatuses": [{"name": "app", "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": message}}}]}));
    let pods = known(&pod);
    waiting(pods.by_uid("u1").unwrap(), &pods, NOW)
}

#[test]
fn what_a_real_node_could_not_make_is_told_once_each() {
    let mut pods = Pods::new(Policy::default());
    let mut crashes: BTreeMap<String, (String, NewCrash)> = BTreeMap::new();
    for state in recorded() {
        let (uid, name) = (state.uid.clone(), state.name.clone());
        pods.apply(state);
        for crash in waiting(pods.by_uid(&uid).unwrap(), &pods, NOW) {
            crashes.insert(crash.id.clone(), (name.clone(), crash));
        }
    }
    let mut lines: Vec<String> = crashes
        .into_values()
        .map(|(name, crash)| format!("{}: {}", name.split('-').next().unwrap(), told(&[crash])[0]))
        .collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "c14a: IMAGE_PULL_FAILED HIGH 10.0.0.60:5000/team/app:1.2.3",
            "c14b: IMAGE_PULL_FAILED HIGH localhost:5055/team/app:1.2.3",
            "c14c: IMAGE_PULL_FAILED HIGH localhost/nosuch:1",
            "c14d: IMAGE_PULL_FAILED HIGH Team/App:1.2.3",
            "c15a: CONTAINER_CONFIG_ERROR HIGH configmap app-settings",
            "c15b: CONTAINER_CONFIG_ERROR HIGH key password in secret c15-secret",
            // Each attempt's message has another id.
            "c16: CONTAINER_CREATE_ERROR HIGH no command specified",
            "nopull: IMAGE_PULL_FAILED HIGH localhost/nosuch:1",
            "x26: CONTAINER_CONFIG_ERROR HIGH runAsNonRoot",
        ]
    );
}

#[test]
fn why_an_image_cannot_be_had() {
    let summary = |reason: &str, message: &str| {
        let crash = waits(reason, message).remove(0);
        assert_eq!(crash.assessment.diagnosis.object, "team/app:1.2.3");
        crash.assessment.diagnosis.summary
    };
    let pull = |message: &str| summary("ErrImagePull", message);
    for (message, why) in [
        (
            "failed to resolve reference \"docker.io/team/app:1.2.3\": docker.io/team/app:1.2.3: not found",
            "no such image",
        ),
        ("pull access denied, repository does not exist or may require authorization", "refuses it"),
        ("unexpected status from HEAD request: 401 Unauthorized", "refuses it"),
        ("dial tcp: lookup registry.nowhere on 10.96.0.10:53: no such host", "cannot resolve"),
        ("dial tcp 10.0.0.60:5000: i/o timeout", "did not answer in time"),
        ("dial tcp 10.0.0.60:5000: connect: connection refused", "cannot reach the registry"),
        ("toomanyrequests: You have reached your pull rate limit", "no more requests"),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "agree on TLS"),
        ("no match for platform in manifest: not found", "other architectures"),
        ("something new", "could not pull it"),
    ] {
        assert!(pull(message).contains(why), "{message}: {}", pull(message));
        assert!(pull(message).contains(message), "the registry's words stay: {}", pull(message));
    }
    assert!(summary("RegistryUnavailable", "").contains("cannot reach"));
    let waits_again = |message| waits("ImagePullBackOff", message).remove(0).id;
    assert_eq!(
        waits_again("Back-off pulling image"),
        waits("ErrImagePull", "x: not found").remove(0).id,
        "one crash"
    );
}

#[test]
fn what_is_under_way_or_over_is_no_failure() {
    for reason in ["ContainerCreating", "PodInitializing", "CrashLoopBackOff", "SomethingNew", ""] {
        assert_eq!(told(&waits(reason, "")), [""; 0], "{reason}");
    }
    let gone =
        pod(serde_json::json!({"phase": "Failed", "containerStatuses": [{"name": "app", "restartCount": 0,
        "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}]}));
    let pods = known(&gone);
    assert_eq!(told(&waiting(pods.by_uid("u1").unwrap(), &pods, NOW)), [""; 0]);
}

#[test]
fn pods_that_were_sent_away() {
    let told = |status: serde_json::Value| {
        let pods = known(&pod(status));
        whole_pod(pods.by_uid("u1").unwrap(), NOW).map(|crash| told(&[crash]).remove(0)).unwrap_or_default()
    };
    let disrupted = |reason: &str, message: &str| {
        serde_json::json!({"phase": "Running", "conditions": [
            {"type": "Ready", "status": "False", "reason": "x"},
            {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}]})
    };
    let failed = |reason: &str, message: &str| serde_json::json!({"phase": "Failed", "reason": reason, "message": message});
    let low = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 52Mi. Container app was using 1Gi.";
    assert_eq!(told(failed("Evicted", low)), "EVICTED HIGH memory");
    let rejected = "The node had condition: [DiskPressure]. ";
    assert_eq!(told(failed("Evicted", rejected)), "EVICTED HIGH DiskPressure");
    let own = "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ";
    assert_eq!(told(failed("Evicted", own)), "EVICTED HIGH ephemeral-storage");
    let empty_dir = "Usage of EmptyDir volume \"cache\" exceeds the limit \"10Mi\". ";
    assert_eq!(told(failed("Evicted", empty_dir)), "EVICTED HIGH emptyDir sizeLimit");
    let shut_down = "Pod was terminated in response to imminent node shutdown.";
    assert_eq!(told(failed("Terminated", shut_down)), "NODE_SHUTDOWN HIGH node node1");
    assert_eq!(
        told(failed("Preempting", "Preempted in order to admit critical pod")),
        "PREEMPTED HIGH pod priority"
    );
    let preempted = disrupted(
        "PreemptionByScheduler",
        "default-scheduler: preempting to accommodate a higher priority pod",
    );
    assert_eq!(told(preempted), "PREEMPTED HIGH pod priority");
    // What ran there is told by its own end.
    assert_eq!(told(disrupted("EvictionByEvictionAPI", "Eviction API: evicting")), "");
    assert_eq!(
        told(failed("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")),
        ""
    );
    assert_eq!(told(serde_json::json!({"phase": "Failed"})), "");
}

#[test]
fn attempts_are_those_of_the_kubelets_events() {
    let pod =
        pod(serde_json::json!({"phase": "Pending", "containerStatuses": [{"name": "app", "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}]}));
    let mut pods = known(&pod);
    let events = [
        ("Error: ImagePullBackOff", 20),
        ("Failed to pull image \"team/app:1.2.3\": not found", 5),
        ("Error: ErrImagePull", 5),
    ];
    for (index, (message, count)) in events.into_iter().enumerate() {
        let event = ProbeEvent {
            uid: index.to_string(),
            pod_uid: "u1".to_owned(),
            container: "app".to_owned(),
            reason: "Failed".to_owned(),
            message: message.to_owned(),
            count,
            first: NOW,
            last: NOW,
        };
        assert!(pods.probe_event(event).is_some());
    }
    let known = pods.by_uid("u1").unwrap();
    assert_eq!(known.probe_events.len(), 0, "no events of a probe");
    let state = waiting(known, &pods, NOW).remove(0).assessment.pod_state.unwrap();
    assert_eq!((state.attempts, state.waiting_reason.as_str()), (5, "ImagePullBackOff"));
}

#[test]
fn ends_that_no_agent_reported() {
    let ended = |code: i32, extra: serde_json::Value| {
        let mut pod = serde_json::json!({
            "metadata": {"name": "api-7f9", "namespace": "shop", "uid": "u1"},
            "spec": {"nodeName": "node1", "restartPolicy": "Always", "containers": [{"name": "app", "image": "a"}]},
            "status": {"phase": "Running", "containerStatuses": [{"name": "app", "restartCount": 1,
                "containerID": format!("containerd://{:064x}", 2), "state": {"running": {"startedAt": "2026-11-22T09:10:39Z"}},
                "lastState": {"terminated": {"exitCode": code, "reason": "Error", "containerID": format!("containerd://{:064x}", 1),
                    "startedAt": "2026-11-22T09:10:30Z", "finishedAt": "2026-11-22T09:10:37Z"}}}]},
        });
        for (pointer, value) in extra.as_object().unwrap() {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            pod.pointer_mut(parent).unwrap()[key] = value.clone();
        }
        known(&reduced(pod))
    };
    let ids = |pods: &Pods, now: UnixNanos| -> Vec<String> {
        super::ended(pods.by_uid("u1").unwrap(), now).into_iter().map(|crash| crash.id).collect()
    };
    let none = serde_json::json!({});
    let pods = ended(1, none.clone());
    let id = format!("kubernetes/u1/app/{:064x}", 1);
    assert_eq!(ids(&pods, NOW), std::slice::from_ref(&id));
    assert!(is_stated(&id) && !is_stated("kubernetes/0123456789abcdef0123456789abcdef/7"));
    let next_day = UnixNanos(NOW.0 + MAX_AGE);
    assert_eq!(ids(&pods, next_day), [""; 0], "too long ago");
    let mut reported = ended(1, none.clone());
    let run = Run { container_id: format!("{:064x}", 1), told: true, ..Run::default() };
    reported.observe_run("u1", "app", run);
    assert_eq!(ids(&reported, NOW), [""; 0]);
    assert_eq!(ids(&ended(0, none), NOW).len(), 1, "started again and again");
    assert_eq!(ids(&ended(0, serde_json::json!({"/spec/restartPolicy": "OnFailure"})), NOW), [""; 0], "done");
    let deleting = serde_json::json!({"/metadata/deletionTimestamp": "2026-11-22T09:11:00Z", "/metadata/deletionGracePeriodSeconds": 30});
    assert_eq!(ids(&ended(143, deleting.clone()), NOW), [""; 0], "stopped with its pod");
    assert_eq!(ids(&ended(1, deleting), NOW).len(), 1);
    // A probe's kill, and 40 s later the pod was deleted for that.
    let later = serde_json::json!({"/metadata/deletionTimestamp": "2026-11-22T09:11:47Z", "/metadata/deletionGracePeriodSeconds": 30});
    assert_eq!(ids(&ended(137, later), NOW).len(), 1);
}

#[test]
fn a_volume_of_what_is_not_there_is_told_after_a_while() {
    let told_after = |message: &str, seconds: i64, ago: i64, status: serde_json::Value| {
        let pod = pod(status);
        let mut pods = known(&pod);
        pods.probe_event(ProbeEvent {
            uid: "e1".to_owned(),
            pod_uid: "u1".to_owned(),
            container: String::new(),
            reason: "FailedMount".to_owned(),
            message: message.to_owned(),
            count: 6,
            first: UnixNanos(NOW.0 - (ago + seconds) * 1_000_000_000),
            last: UnixNanos(NOW.0 - ago * 1_000_000_000),
        });
        let crashes = waiting(pods.by_uid("u1").unwrap(), &pods, NOW);
        if let Some(crash) = crashes.first() {
            let remedy = &crash.assessment.diagnosis.remedy;
            assert!(remedy.contains("the volume settings in spec.volumes"), "{remedy}");
        }
        told(&crashes)
    };
    let status = |state: serde_json::Value, id: &str| serde_json::json!({"phase": "Pending", "containerStatuses": [{"name": "app", "restartCount": 0, "containerID": id, "state": state}]});
    let creating = serde_json::json!({"waiting": {"reason": "ContainerCreating"}});
    let missing = "MountVolume.SetUp failed for volume \"settings\" : configmap \"app-settings\" not found";
    assert_eq!(
        told_after(missing, 31, 5, status(creating.clone(), "")),
        ["CONTAINER_CONFIG_ERROR HIGH configmap app-settings"]
    );
    let none: [&str; 0] = [];
    assert_eq!(told_after(missing, 2, 5, status(creating.clone(), "")), none, "it may come in a moment");
    let slow = "MountVolume.SetUp failed for volume \"settings\" : timed out waiting for the condition";
    assert_eq!(told_after(slow, 31, 5, status(creating.clone(), "")), none, "what is slow is not missing");
    assert_eq!(told_after(missing, 31, 600, status(creating, "")), none, "it was not tried for long");
    let running = serde_json::json!({"running": {"startedAt": "2026-11-22T09:10:39Z"}});
    assert_eq!(told_after(missing, 31, 5, status(running, "containerd://1")), none, "it came");
}
