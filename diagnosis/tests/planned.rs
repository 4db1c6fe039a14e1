//! Ends that whoever runs the pod wanted: told as such, and never for a crash that only happens to come then.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::pod::{ContainerContext, Disruption, ProbeEvent, RestartRule, Stop, Terminated};
use lastwords_diagnosis::{Diagnosis, EvidenceRef, PodContext, diagnose, errno, signals};
use support::*;

/// Told to stop by the runtime; gone with that code, or killed for staying.
fn stopped(code: Option<i32>) -> Evidence {
    let runtime = || by(SenderKind::Runtime, "runc", 4);
    let mut evidence = match code {
        Some(code) => exited(&["app"], 40_000, code),
        None => signalled(&["app"], 40_000, signals::SIGKILL, runtime()),
    };
    evidence.signals.insert(0, sent(signals::SIGTERM, 0, runtime(), 300.0));
    evidence.signals[0].delivered = code.is_some();
    evidence
}

fn pod(stop: Option<Stop>) -> PodContext {
    let container = ContainerContext {
        name: "app".into(),
        field_path: "spec.containers[0]".into(),
        ..ContainerContext::default()
    };
    PodContext { restart_policy: "Always".into(), stop, container, ..PodContext::default() }
}

fn with_event(message: &str) -> PodContext {
    let event = ProbeEvent { reason: "Killing".into(), message: message.into(), count: 1 };
    PodContext { probe_events: vec![event], ..pod(None) }
}

fn told(diagnosis: &Diagnosis) -> (String, bool) {
    (short(diagnosis), diagnosis.planned)
}

#[test]
fn a_deleted_pod_stops_its_containers() {
    let deleted = pod(Some(Stop::PodDeleted));
    let clean = diagnose(&stopped(Some(0)), Some(&deleted));
    assert_eq!(told(&clean), ("COMPLETED MEDIUM exit code 0".into(), true));
    assert_eq!(
        clean.summary,
        "app was asked to stop by SIGTERM from runc (pid 4) and ended cleanly with exit code 0; its pod was being deleted"
    );
    assert_eq!(clean.remedy, "nothing is wrong");
    let by_default = diagnose(&stopped(Some(143)), Some(&deleted));
    assert_eq!(told(&by_default), ("KILLED HIGH SIGTERM from runc (pid 4)".into(), true));
    assert_eq!(by_default.remedy, "nothing is wrong");
    let stubborn = diagnose(&stopped(None), Some(&deleted));
    assert_eq!(told(&stubborn), ("KILLED HIGH SIGKILL from runc (pid 4)".into(), true));
    assert!(stubborn.remedy.contains("handle SIGTERM"), "{}", stubborn.remedy);
    assert!(stubborn.summary.ends_with("; its pod was being deleted"), "{}", stubborn.summary);
}

#[test]
fn without_a_reason_a_stop_is_not_planned() {
    for evidence in [stopped(Some(143)), stopped(None)] {
        assert!(!diagnose(&evidence, Some(&pod(None))).planned);
        assert!(!diagnose(&evidence, None).planned);
    }
}

#[test]
fn what_crashes_by_itself_while_its_pod_goes_is_a_crash() {
    let deleted = pod(Some(Stop::PodDeleted));
    let by_itself = diagnose(&exited(&["app"], 40_000, 1), Some(&deleted));
    assert!(!by_itself.planned, "{by_itself:?}");
    let faulted = signalled(&["app"], 40_000, signals::SIGSEGV, by(SenderKind::Kernel, "", 0));
    assert!(!diagnose(&faulted, Some(&deleted)).planned);
    // Somebody in the container, not the kubelet.
    let own = signalled(&["app"], 40_000, signals::SIGKILL, by(SenderKind::SameContainer, "sh", 7));
    assert!(!diagnose(&own, Some(&deleted)).planned);
}

#[test]
fn a_failing_probe_of_a_pod_that_goes_is_no_probe_kill() {
    let unhealthy =
        ProbeEvent { reason: "Unhealthy".into(), message: "Liveness probe failed: EOF".into(), count: 9 };
    let pod = PodContext { probe_events: vec![unhealthy], ..pod(Some(Stop::PodDeleted)) };
    assert_eq!(told(&diagnose(&stopped(Some(0)), Some(&pod))), ("COMPLETED MEDIUM exit code 0".into(), true));
}

#[test]
fn a_changed_image_and_a_resize_restart_it() {
    let changed = diagnose(
        &stopped(Some(143)),
        Some(&with_event("Container app definition changed, will be restarted")),
    );
    assert_eq!(told(&changed), ("KILLED HIGH SIGTERM from runc (pid 4)".into(), true));
    assert!(changed.summary.ends_with("for example its image"), "{}", changed.summary);
    assert_eq!(changed.evidence.last(), Some(&EvidenceRef::ProbeEvent(0)));
    let resized = diagnose(&stopped(Some(0)), Some(&with_event("Container app resize requires restart")));
    assert_eq!(told(&resized), ("COMPLETED MEDIUM exit code 0".into(), true));
    assert!(resized.summary.contains("its resizePolicy asks for a restart"), "{}", resized.summary);
    let probe = with_event("Container app failed liveness probe, will be restarted");
    assert!(!diagnose(&stopped(Some(143)), Some(&probe)).planned);
}

#[test]
fn all_are_restarted_for_one() {
    let all = |by: &str| pod(Some(Stop::AllRestarted { by: by.into() }));
    let named = diagnose(&stopped(None), Some(&all("watcher")));
    assert_eq!(told(&named), ("KILLED HIGH SIGKILL from runc (pid 4)".into(), true));
    assert!(named.summary.contains("the end of the container watcher"), "{}", named.summary);
    let unnamed = diagnose(&stopped(None), Some(&all("")));
    assert!(unnamed.summary.contains("restarted all its containers"), "{}", unnamed.summary);
}

#[test]
fn an_exit_code_that_a_rule_names() {
    let ruled = |action: &str, not_in: bool, codes: &[i32]| {
        let mut pod = pod(None);
        let rule = RestartRule { action: action.into(), not_in, codes: codes.to_vec() };
        pod.container.restart_rules = vec![RestartRule { codes: vec![7], ..rule.clone() }, rule];
        pod
    };
    let exit = |code| exited(&["app"], 40_000, code);
    let wanted = diagnose(&exit(42), Some(&ruled("Restart", false, &[42, 43])));
    assert_eq!(told(&wanted), ("COMPLETED HIGH exit code 42".into(), true));
    assert_eq!(
        wanted.summary,
        "app ended by itself with exit code 42, for which spec.containers[0].restartPolicyRules[1] restarts it"
    );
    let all = diagnose(&exit(42), Some(&ruled("RestartAllContainers", false, &[42])));
    assert!(all.summary.ends_with("restarts all containers of the pod"), "{}", all.summary);
    // A rule that retries failures does not make them ends that were wanted.
    assert!(!diagnose(&exit(1), Some(&ruled("Restart", false, &[1, 137]))).planned);
    assert!(!diagnose(&exit(42), Some(&ruled("Restart", true, &[0]))).planned);
    assert!(!diagnose(&exit(44), Some(&ruled("Restart", false, &[42]))).planned);
    let mut told_only = ruled("Restart", false, &[42]);
    told_only.container.terminated = Some(Terminated { exit_code: 42, ..Terminated::default() });
    let unseen = diagnose(&Evidence::default(), Some(&told_only));
    assert_eq!(told(&unseen), ("COMPLETED MEDIUM exit code 42".into(), true));
}

/// A pod that the API says was drained then.
fn drained(since: UnixNanos) -> PodContext {
    let disruption = Disruption {
        reason: "EvictionByEvictionAPI".into(),
        message: "Eviction API: evicting".into(),
        since,
    };
    PodContext { disruption, ..pod(Some(Stop::PodDeleted)) }
}

#[test]
fn a_drain_is_planned_and_an_eviction_for_want_of_memory_is_not() {
    let diagnosis = diagnose(&stopped(Some(143)), Some(&drained(UnixNanos(0))));
    assert_eq!(told(&diagnosis), ("EVICTED HIGH eviction API".into(), true));
    let low = PodContext {
        reason: "Evicted".into(),
        message: "The node was low on resource: memory. ".into(),
        ..pod(None)
    };
    assert_eq!(told(&diagnose(&stopped(None), Some(&low))), ("EVICTED HIGH memory".into(), false));
}

#[test]
fn what_fails_while_it_stops_is_a_crash() {
    for stop in [pod(Some(Stop::PodDeleted)), drained(UnixNanos(0))] {
        let failed = diagnose(&stopped(Some(1)), Some(&stop));
        assert!(!failed.planned, "{failed:?}");
    }
    let failed = diagnose(&stopped(Some(1)), Some(&pod(Some(Stop::PodDeleted))));
    assert_eq!(short(&failed), "KILLED MEDIUM SIGTERM from runc (pid 4)");
    assert!(
        failed.summary.ends_with("; its pod was being deleted, but this is no exit code of a stop"),
        "{}",
        failed.summary
    );
    assert!(failed.remedy.contains("leaves with 0 or 143"), "{}", failed.remedy);
}

#[test]
fn who_kills_what_the_runtime_stops_is_told() {
    let deleted = pod(Some(Stop::PodDeleted));
    let other = || by(SenderKind::Other, "earlyoom", 700);
    let mut killed = signalled(&["app"], 40_000, signals::SIGKILL, other());
    killed.signals.insert(0, sent(signals::SIGTERM, 0, by(SenderKind::Runtime, "runc", 4), 300.0));
    let diagnosis = diagnose(&killed, Some(&deleted));
    assert_eq!(told(&diagnosis), ("KILLED HIGH SIGKILL from earlyoom (pid 700)".into(), false));
    assert_ne!(diagnosis.remedy, "nothing is wrong");

    let mut child = stopped(Some(143));
    child.child_exits = vec![child_exit("worker", 0, signals::SIGTERM, 5.0)];
    assert!(diagnose(&child, Some(&deleted)).planned, "passed on by its parent");
    child.signals.push(Signal {
        target_pid: CHILD,
        to_main: false,
        ..sent(signals::SIGTERM, 0, other(), 6.0)
    });
    assert!(!diagnose(&child, Some(&deleted)).planned);
}

#[test]
fn what_ended_before_the_drain_was_not_drained() {
    let crashed = exited(&["app"], 40_000, 1);
    let end = crashed.observed_at.0;
    let asked = |seconds: i64| drained(UnixNanos(end + seconds * 1_000_000_000));
    let killing = ProbeEvent {
        reason: "Killing".into(),
        message: "Container app failed liveness probe, will be restarted".into(),
        count: 1,
    };
    let by_probe = |seconds: i64| PodContext { probe_events: vec![killing.clone()], ..asked(seconds) };
    let cause = |evidence: &Evidence, pod: &PodContext| format!("{:?}", diagnose(evidence, Some(pod)).cause);
    assert_eq!(cause(&stopped(None), &by_probe(120)), "ProbeFailed");
    assert_eq!(cause(&stopped(None), &by_probe(-20)), "Evicted");
    assert_eq!(cause(&stopped(None), &by_probe(3)), "Evicted", "the clocks differ by that much");
    for reason in ["DeletionByTaintManager", "PreemptionByScheduler", "TerminationByKubelet"] {
        let mut pod = by_probe(120);
        pod.disruption.reason = reason.into();
        assert_eq!(cause(&stopped(None), &pod), "ProbeFailed", "{reason}");
    }
    let mut told_only = asked(120);
    told_only.container.terminated =
        Some(Terminated { exit_code: 1, finished_at: UnixNanos(end), ..Terminated::default() });
    assert_eq!(cause(&Evidence::default(), &told_only), "Unknown");
}

#[test]
fn of_an_adopted_container_only_the_end_of_a_stop_is_one() {
    let adopted = |code: i32| {
        let mut evidence = exited(&["app"], 40_000, code);
        evidence.losses.agent_started_later = true;
        evidence
    };
    let drained = drained(UnixNanos(0));
    let deleted = pod(Some(Stop::PodDeleted));
    for pod in [&drained, &deleted] {
        assert!(!diagnose(&adopted(1), Some(pod)).planned);
        assert!(diagnose(&adopted(0), Some(pod)).planned);
    }
    assert_eq!(format!("{:?}", diagnose(&adopted(143), Some(&drained)).cause), "Evicted");
    assert_ne!(format!("{:?}", diagnose(&adopted(1), Some(&drained)).cause), "Evicted");
    let mut unwatched = drained.clone();
    for (exit_code, planned) in [(143, true), (1, false)] {
        unwatched.container.terminated = Some(Terminated { exit_code, ..Terminated::default() });
        assert_eq!(diagnose(&Evidence::default(), Some(&unwatched)).planned, planned, "{exit_code}");
    }
}

#[test]
fn a_failure_with_a_code_of_a_rule_is_a_failure() {
    let mut ruled = pod(None);
    let rule = RestartRule { action: "Restart".into(), not_in: false, codes: vec![42, 70, 101] };
    ruled.container.restart_rules = vec![rule];
    let missing = || failed("openat", errno::ENOENT, "/app/settings.yaml", 0.4);
    let lost = with(exited(&["app", "/app/settings.yaml"], 40_000, 42), vec![missing()]);
    assert_eq!(
        told(&diagnose(&lost, Some(&ruled))),
        ("FILE_NOT_FOUND HIGH /app/settings.yaml".into(), false)
    );
    for code in [70, 101] {
        let diagnosis = diagnose(&exited(&["app"], 40_000, code), Some(&ruled));
        assert_eq!(told(&diagnosis), (format!("PROGRAM_ERROR MEDIUM exit code {code}"), false));
    }
    let again = || exited(&["app"], 40_000, 42);
    assert!(diagnose(&again(), Some(&ruled)).planned);
    ruled.repeats = true;
    let looping = diagnose(&again(), Some(&ruled));
    assert_eq!(told(&looping), ("PROGRAM_ERROR MEDIUM exit code 42".into(), false));
}

#[test]
fn a_sidecar_that_is_done_is_told_by_its_own_field() {
    let mut sidecar = PodContext { restart_policy: "OnFailure".into(), ..pod(None) };
    sidecar.container.field_path = "spec.initContainers[0]".into();
    let once = diagnose(&exited(&["app"], 40_000, 0), Some(&sidecar));
    assert!(once.remedy.starts_with("nothing is wrong"), "{}", once.remedy);
    sidecar.container.restart_policy = "Always".into();
    let again = diagnose(&exited(&["app"], 40_000, 0), Some(&sidecar));
    assert!(again.remedy.contains("with spec.initContainers[0].restartPolicy Always"), "{}", again.remedy);
    assert!(!again.planned);
    let done = PodContext { stop: Some(Stop::PodDone), ..sidecar };
    let ended = diagnose(&stopped(Some(143)), Some(&done));
    assert!(ended.planned && ended.summary.contains("which ends its sidecars"), "{}", ended.summary);
}
