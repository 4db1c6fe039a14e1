use std::collections::BTreeMap;

use super::*;
use crate::backoff::Policy;
use crate::pods::Pod;
use crate::pods::tests::{recorded_pods, recorded_watch};

const SECOND: i64 = 1_000_000_000;

/// A crash as an agent reports it that knows the container's group and nothing more.
fn crash(container_id: &str, pod_uid: &str, started: i64, exited: i64) -> v1::Crash {
    v1::Crash {
        node: "node1".to_owned(),
        observed_at: Some(time::to_wire(UnixNanos(exited))),
        container: Some(v1::Container {
            runtime: "containerd".to_owned(),
            id: container_id.to_owned(),
            pod_uid: pod_uid.to_owned(),
            ..v1::Container::default()
        }),
        process: Some(v1::Process {
            started_at: Some(time::to_wire(UnixNanos(started))),
            exited_at: Some(time::to_wire(UnixNanos(exited))),
            ..v1::Process::default()
        }),
        exit: Some(v1::Exit { code: 1, ..v1::Exit::default() }),
        ..v1::Crash::default()
    }
}

struct Recorded {
    pod: String,
    container: String,
    restart_count: i32,
    crash: v1::Crash,
}

/// Every death that the statuses tell of, by container id.
fn deaths(states: &[Pod]) -> BTreeMap<String, Recorded> {
    let mut deaths = BTreeMap::new();
    for pod in states {
        for container in &pod.containers {
            let context = &container.context;
            let state = match &context.state {
                ContainerState::Terminated(terminated) => Some(terminated),
                _ => None,
            };
            for terminated in state.into_iter().chain(&context.terminated) {
                let id = terminated.container_id.clone();
                let earlier = i32::from(id != container.id);
                deaths.entry(id.clone()).or_insert(Recorded {
                    pod: pod.name.clone(),
                    container: context.name.clone(),
                    restart_count: context.restart_count - earlier,
                    crash: crash(
                        &id,
                        &pod.uid,
                        terminated.started_at.0,
                        terminated.finished_at.0 + SECOND / 2,
                    ),
                });
            }
        }
    }
    deaths
}

fn taken(pods: &mut Pods, crash: &v1::Crash, before: Option<&v1::PodState>) -> Option<Paired> {
    note(crash, pods);
    pair(crash, before, pods, &Healthy::default())
}

#[test]
fn every_recorded_crash_finds_its_pod_and_container() {
    for states in [recorded_watch(), recorded_pods()] {
        let deaths = deaths(&states);
        assert!(deaths.len() >= 7, "{}", deaths.len());
        let mut pods = Pods::new(Policy::default());
        for state in states {
            pods.apply(state);
        }
        for (id, death) in deaths {
            let paired =
                taken(&mut pods, &death.crash, None).unwrap_or_else(|| panic!("{id} of {}", death.pod));
            assert_eq!((&paired.container.pod_name, &paired.container.name), (&death.pod, &death.container));
            assert_eq!(paired.container.restart_count, death.restart_count, "{}", death.pod);
            assert_eq!(paired.context.container.name, death.container);
            assert_eq!(paired.context.container.terminated.as_ref().unwrap().container_id, id);
        }
    }
}

/// The agent is mostly faster than the kubelet: here each crash comes before the first status that shows its container id.
#[test]
fn every_recorded_crash_is_paired_though_it_came_first() {
    let states = recorded_watch();
    let mut waiting = deaths(&states);
    let (mut early, mut late) = (0, 0);
    let mut pods = Pods::new(Policy::default());
    for state in states {
        let shows = |id: &String| {
            state.containers.iter().any(|container| {
                let last = container.context.terminated.as_ref();
                container.id == *id || last.is_some_and(|last| last.container_id == *id)
            })
        };
        let mut shown: Vec<String> = waiting.keys().filter(|id| shows(id)).cloned().collect();
        shown.sort_by_key(|id| died_at(&waiting[id].crash));
        for id in &shown {
            // With one container in the pod the answer is there at once; with two it has to wait for the status.
            if let Some(paired) = taken(&mut pods, &waiting[id].crash, None) {
                assert_eq!(paired.container.name, waiting[id].container);
                // A first run that no status ever showed cannot be counted before the status of the second one comes.
                let known = pods.by_uid(&state.uid).unwrap().history(&paired.container.name).unwrap();
                let before =
                    |run: &Run| run.container_id != *id && run.restart_count + 1 == waiting[id].restart_count;
                if known.runs().iter().any(before) {
                    assert_eq!(
                        paired.container.restart_count, waiting[id].restart_count,
                        "{}",
                        waiting[id].pod
                    );
                }
                early += 1;
            }
        }
        pods.apply(state);
        for id in shown {
            let death = waiting.remove(&id).unwrap();
            let paired = taken(&mut pods, &death.crash, None).unwrap();
            assert_eq!((paired.container.pod_name, paired.container.name), (death.pod, death.container));
            assert_eq!(paired.container.restart_count, death.restart_count);
            late += 1;
        }
    }
    assert!(waiting.is_empty());
    assert!(early > 10 && late >= early, "{early} {late}");
}

fn pod_named(prefix: &str) -> Vec<Pod> {
    recorded_watch().into_iter().filter(|pod| pod.name.starts_with(prefix)).collect()
}

/// One crash cycle as recorded: terminated, CrashLoopBackOff, running again.
#[test]
fn the_wait_is_computed_then_announced_then_kept() {
    let states = pod_named("c02c-");
    let died = |state: &Pod| match &state.containers[0].context.state {
        ContainerState::Terminated(terminated) => {
            state.containers[0].context.restart_count == 2 && terminated.exit_code == 137
        }
        _ => false,
    };
    let at = states.iter().position(died).unwrap();
    let ContainerState::Terminated(terminated) = states[at].containers[0].context.state.clone() else {
        panic!()
    };
    let crash = crash(
        &terminated.container_id,
        &states[at].uid,
        terminated.started_at.0,
        terminated.finished_at.0 + 400,
    );
    let mut pods = Pods::new(Policy::default());
    for state in &states[..at] {
        pods.apply(state.clone());
    }

    let agent_first = taken(&mut pods, &crash, None).unwrap().state;
    assert_eq!(
        (agent_first.back_off_seconds, agent_first.back_off_level, agent_first.back_off_computed),
        (20, 2, true)
    );
    assert_eq!(
        agent_first.next_retry_at,
        Some(time::to_wire(UnixNanos(terminated.finished_at.0 + 400 + 20 * SECOND)))
    );

    pods.apply(states[at].clone());
    let ended = taken(&mut pods, &crash, Some(&agent_first)).unwrap();
    let retry = Some(time::to_wire(UnixNanos(terminated.finished_at.0 + 20 * SECOND)));
    assert_eq!(ended.state.next_retry_at, retry);
    assert_eq!((ended.state.waiting_reason.as_str(), ended.state.back_off_computed), ("", true));
    assert_eq!(ended.state.terminated, "OOMKilled, exit code 137");
    assert!(!ended.settled);

    pods.apply(states[at + 1].clone());
    let waits = taken(&mut pods, &crash, Some(&ended.state)).unwrap().state;
    assert_eq!(
        (waits.waiting_reason.as_str(), waits.back_off_seconds, waits.back_off_computed),
        ("CrashLoopBackOff", 20, false)
    );
    assert_eq!(waits.next_retry_at, retry);
    assert!(waits.message.starts_with("back-off 20s restarting failed container=app"));

    pods.apply(states[at + 2].clone());
    let again = taken(&mut pods, &crash, Some(&waits)).unwrap();
    assert!(again.settled);
    assert_eq!(again.state, waits);
    let now = state_now(pods.by_uid(&states[at].uid).unwrap(), &states[at + 2].containers[0], &pods);
    assert_eq!((now.back_off_seconds, now.next_retry_at, now.restart_count), (0, None, 3));
}

/// Wherever the recordings announce a wait, the one computed a moment before is the same; but for containers that a probe
/// killed, whose series begins later: there it is the same once one wait was announced.
#[test]
fn computed_waits_are_those_announced_later() {
    let mut pods = Pods::new(Policy::default());
    let (mut same, mut before_first_message) = (0, 0);
    for state in recorded_watch().into_iter().chain(recorded_pods()) {
        for container in &state.containers {
            let ContainerState::Waiting { message, .. } = &container.context.state else { continue };
            let Some(announced) = crate::backoff::announced_wait(message) else { continue };
            let known = pods.by_uid(&state.uid).unwrap();
            let history = known.history(&container.context.name).unwrap();
            let computed =
                history.back_off_after(container.context.restart_count, &pods.policy_of("node1")).unwrap();
            if computed.wait == announced {
                same += 1;
            } else {
                assert!(history.runs().iter().all(|run| run.announced.is_none()), "{}", state.name);
                assert!(
                    ["c08", "x27", "x28"].iter().any(|probed| state.name.starts_with(probed)),
                    "{}",
                    state.name
                );
                before_first_message += 1;
            }
        }
        pods.apply(state);
    }
    assert_eq!((same, before_first_message), (19, 2));
}

#[test]
fn a_cap_that_messages_showed_is_used_for_the_whole_node() {
    let mut pods = Pods::new(Policy { cap: std::time::Duration::from_secs(600), ..Policy::default() });
    assert_eq!(pods.policy_of("node1").cap.as_secs(), 600);
    for pod in recorded_pods() {
        pods.apply(pod);
    }
    assert_eq!(pods.policy_of("node1").cap.as_secs(), 300);
    assert_eq!(pods.policy_of("node2").cap.as_secs(), 600);
}

#[test]
fn who_is_not_restarted_has_no_wait() {
    let recorded = recorded_pods().into_iter().find(|pod| pod.name.starts_with("c02c-")).unwrap();
    let last = recorded.containers[0].context.terminated.clone().unwrap();
    let crash = crash(&last.container_id, &recorded.uid, last.started_at.0, last.finished_at.0);
    let state_of = |pod: Pod, deleted: bool| {
        let mut pods = Pods::new(Policy::default());
        let uid = pod.uid.clone();
        pods.apply(pod);
        if deleted {
            pods.delete(&uid, UnixNanos(1));
        }
        taken(&mut pods, &crash, None).unwrap().state
    };
    assert_eq!(state_of(recorded.clone(), false).back_off_seconds, 300);
    let never = Pod { restart_policy: "Never".to_owned(), ..recorded.clone() };
    assert_eq!(state_of(never, false).back_off_seconds, 0);
    let failed = Pod { phase: "Failed".to_owned(), ..recorded.clone() };
    assert_eq!(state_of(failed, false).back_off_seconds, 0);
    let gone = state_of(recorded.clone(), true);
    assert_eq!((gone.back_off_seconds, gone.pod_deleted), (0, true));
    let mut succeeded = Pod { restart_policy: "OnFailure".to_owned(), ..recorded };
    succeeded.containers[0].context.terminated.as_mut().unwrap().exit_code = 0;
    assert_eq!(state_of(succeeded, false).back_off_seconds, 0);
}

#[test]
fn what_the_agent_knew_is_kept_and_the_rest_filled_in() {
    let recorded = recorded_pods().into_iter().find(|pod| pod.name.starts_with("c03-")).unwrap();
    let second = &recorded.containers[1];
    let mut pods = Pods::new(Policy::default());
    pods.apply(recorded.clone());
    let mut crash = crash(&second.id, "", 0, SECOND);
    crash.container.as_mut().unwrap().image = "as the agent says".to_owned();
    let paired = taken(&mut pods, &crash, None).unwrap();
    assert_eq!(paired.container.image, "as the agent says");
    assert_eq!(paired.container.name, "app2");
    assert_eq!(paired.container.pod_uid, recorded.uid);
    assert_eq!(paired.context.container.field_path, "spec.containers[1]");
    assert_eq!(paired.state.owner, "deployment/c03");
}

#[test]
fn with_two_containers_and_no_name_nothing_is_guessed() {
    let recorded = recorded_pods().into_iter().find(|pod| pod.name.starts_with("c03-")).unwrap();
    let mut pods = Pods::new(Policy::default());
    pods.apply(recorded.clone());
    let mut crash = crash(&"f".repeat(64), &recorded.uid, 0, SECOND);
    assert_eq!(taken(&mut pods, &crash, None), None);
    crash.container.as_mut().unwrap().name = "app2".to_owned();
    assert_eq!(taken(&mut pods, &crash, None).unwrap().container.name, "app2");
}

#[test]
fn a_container_that_survived_waits_for_nothing() {
    let running = pod_named("c02c-")
        .into_iter()
        .find(|pod| matches!(pod.containers[0].context.state, ContainerState::Running { .. }))
        .unwrap();
    let mut pods = Pods::new(Policy::default());
    pods.apply(running.clone());
    let mut crash = crash(&running.containers[0].id, &running.uid, 0, i64::MAX / 2);
    crash.container_survived = true;
    crash.exit = None;
    let state = taken(&mut pods, &crash, None).unwrap().state;
    assert_eq!((state.back_off_seconds, state.next_retry_at), (0, None));
    assert_eq!(pods.by_uid(&running.uid).unwrap().history("app").unwrap().latest().unwrap().ended_at, None);
}

#[test]
fn probe_events_are_those_of_the_run() {
    let recorded = recorded_pods().into_iter().find(|pod| pod.name.starts_with("c08k-")).unwrap();
    let last = recorded.containers[0].context.terminated.clone().unwrap();
    let mut pods = Pods::new(Policy::default());
    pods.apply(recorded.clone());
    let mut event = |uid: &str, container: &str, count, first: i64, last: i64| {
        pods.probe_event(ProbeEvent {
            uid: uid.to_owned(),
            pod_uid: recorded.uid.clone(),
            container: container.to_owned(),
            reason: "Unhealthy".to_owned(),
            message: format!("Liveness probe failed: {uid}"),
            count,
            first: UnixNanos(first),
            last: UnixNanos(last),
        });
    };
    let (start, end) = (last.started_at.0, last.finished_at.0);
    event("before", "app", 3, start - 60 * SECOND, start - 30 * SECOND);
    event("within", "app", 15, start - 300 * SECOND, end - SECOND);
    event("other", "sidecar", 1, start, end);
    event("after", "app", 1, end + 60 * SECOND, end + 60 * SECOND);
    event("once", "", 1, end, end);
    let crash = crash(&last.container_id, &recorded.uid, start, end);
    let state = taken(&mut pods, &crash, None).unwrap().state;
    assert_eq!(
        state.probe_events,
        ["Unhealthy: Liveness probe failed: within (15 times)", "Unhealthy: Liveness probe failed: once"]
    );
}

#[test]
fn a_change_stops_the_run_in_which_it_was_last_told() {
    let recorded = recorded_pods().into_iter().find(|pod| pod.name.starts_with("c08k-")).unwrap();
    let run = recorded.containers[0].context.terminated.clone().unwrap();
    let (start, end) = (run.started_at.0, run.finished_at.0);
    let crash = crash(&run.container_id, &recorded.uid, start, end);
    let told = |first: i64, last: i64| {
        let mut pods = Pods::new(Policy::default());
        pods.apply(recorded.clone());
        pods.probe_event(ProbeEvent {
            uid: "resize".to_owned(),
            pod_uid: recorded.uid.clone(),
            container: "app".to_owned(),
            reason: "Killing".to_owned(),
            message: "Container app resize requires restart".to_owned(),
            count: if first == last { 1 } else { 2 },
            first: UnixNanos(first),
            last: UnixNanos(last),
        });
        taken(&mut pods, &crash, None).unwrap().context.probe_events.len()
    };
    assert_eq!(told(end - SECOND, end - SECOND), 1);
    assert_eq!(told(end + SECOND, end + SECOND), 1, "written a little after");
    assert_eq!(told(start - 2400 * SECOND, end - SECOND), 1, "told again for this run");
    assert_eq!(told(start - 1200 * SECOND, end + 1200 * SECOND), 0, "of the runs before and after");
    assert_eq!(told(start - SECOND, start - SECOND), 0, "it stopped the run before");
    assert_eq!(told(start, start), 0);
    assert_eq!(told(end + 60 * SECOND, end + 60 * SECOND), 0);
}

#[test]
fn an_end_like_the_one_before_it_is_told_to_repeat() {
    let status = |restarts: i32, code: i32, ended: i64| {
        serde_json::json!({"name": "app", "restartCount": restarts, "containerID": format!("containerd://{:064x}", restarts),
            "state": {"terminated": {"exitCode": code, "reason": "Error", "containerID": format!("containerd://{:064x}", restarts),
                "startedAt": "2026-11-22T09:10:00Z", "finishedAt": format!("2026-11-22T09:10:{ended:02}Z")}}})
    };
    let repeats = |codes: &[i32]| {
        let mut pods = Pods::new(Policy::default());
        for (restarts, code) in (0..).zip(codes) {
            let pod = serde_json::json!({
                "metadata": {"name": "w-1", "namespace": "ml", "uid": "u1"},
                "spec": {"nodeName": "node1", "restartPolicy": "Always", "containers": [{"name": "app", "image": "train:1"}]},
                "status": {"phase": "Running", "containerStatuses": [status(restarts, *code, 10 + i64::from(restarts))]}});
            pods.apply(serde_json::from_value::<crate::kubernetes::KubernetesPod>(pod).unwrap().reduce());
        }
        let last = codes.len() - 1;
        let ended = 1_795_338_610 + i64::try_from(last).unwrap();
        let mut crash = crash(&format!("{last:064x}"), "u1", 1_795_338_600 * SECOND, ended * SECOND);
        crash.exit = Some(v1::Exit { code: codes[last], ..v1::Exit::default() });
        taken(&mut pods, &crash, None).unwrap().context.repeats
    };
    assert!(!repeats(&[42]), "restarted at once");
    assert!(repeats(&[42, 42]));
    assert!(!repeats(&[1, 42]), "another end");
}
