//! A container that was stopped: by a probe, or by something that looks like one.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::pod::{ContainerContext, Probe, ProbeEvent};
use lastwords_diagnosis::{Confidence, EvidenceRef, PodContext, diagnose, errno, signals};
use support::*;

const KILLING: &str = "Container app failed liveness probe, will be restarted";
const REFUSED: &str = "Liveness probe failed: Get \"http://10.244.0.74:8081/healthz\": dial tcp 10.244.0.74:8081: connect: connection refused";

/// Stopped by the runtime: told to, and killed ten seconds later, or gone by itself.
fn stopped(killed: bool) -> Evidence {
    let runtime = || by(SenderKind::Runtime, "containerd-shim", 4);
    let mut evidence = if killed {
        signalled(&["app"], 40_000, signals::SIGKILL, runtime())
    } else {
        exited(&["app"], 40_000, 0)
    };
    evidence.signals.insert(0, sent(signals::SIGTERM, 0, runtime(), 10_000.0));
    evidence.listeners = vec![Listener {
        address: "0.0.0.0:8080/tcp".into(),
        before_death_ms: 39_500.0,
        ..Listener::default()
    }];
    evidence
}

fn pod(events: &[(&str, &str, u32)]) -> PodContext {
    let event = |(reason, message, count): &(&str, &str, u32)| ProbeEvent {
        reason: (*reason).to_owned(),
        message: (*message).to_owned(),
        count: *count,
    };
    let probe = Probe {
        kind: "liveness".into(),
        action: "http-get :8081/healthz".into(),
        port: 8081,
        period_seconds: 10,
        timeout_seconds: 1,
        failure_threshold: 3,
        field_path: "spec.containers[0].livenessProbe".into(),
        ..Probe::default()
    };
    PodContext {
        probe_events: events.iter().map(event).collect(),
        container: ContainerContext {
            name: "app".into(),
            field_path: "spec.containers[0]".into(),
            probes: vec![probe],
            ..ContainerContext::default()
        },
        ..PodContext::default()
    }
}

#[test]
fn a_probe_that_asks_another_port() {
    let pod = pod(&[("Unhealthy", REFUSED, 3), ("Killing", KILLING, 1)]);
    let diagnosis = diagnose(&stopped(true), Some(&pod));
    assert_eq!(short(&diagnosis), "PROBE_FAILED HIGH liveness http-get :8081/healthz");
    assert_eq!(
        diagnosis.summary,
        "the kubelet had app stopped because its liveness probe http-get :8081/healthz failed 3 times (Get \"http://10.244.0.74:8081/healthz\": dial tcp 10.244.0.74:8081: connect: connection refused); nothing listened on port 8081; it listened on 8080; it ended with SIGKILL"
    );
    assert_eq!(
        diagnosis.remedy,
        "set the port of spec.containers[0].livenessProbe to 8080, or let the program listen on 8081"
    );
    assert_eq!(
        diagnosis.evidence,
        [EvidenceRef::ProbeEvent(1), EvidenceRef::Signal(0), EvidenceRef::Exit, EvidenceRef::ProbeEvent(0)]
    );
    let diagnosis = diagnose(&stopped(false), Some(&pod));
    assert!(diagnosis.summary.ends_with("it ended with exit code 0"), "{}", diagnosis.summary);
    assert_eq!(
        short(&diagnosis),
        "PROBE_FAILED HIGH liveness http-get :8081/healthz",
        "a clean end hides it"
    );
}

#[test]
fn a_program_that_answers_too_slowly() {
    let message = "Liveness probe failed: Get \"http://10.0.0.1:8081/healthz\": context deadline exceeded";
    let mut evidence = stopped(true);
    evidence.listeners[0].address = "[::]:8081/tcp".into();
    let diagnosis = diagnose(&evidence, Some(&pod(&[("Unhealthy", message, 3), ("Killing", KILLING, 1)])));
    assert!(
        diagnosis
            .summary
            .contains("context deadline exceeded); it listened on port 8081 from 500 ms after its start"),
        "{}",
        diagnosis.summary
    );
    assert!(diagnosis.remedy.contains("timeoutSeconds"), "{}", diagnosis.remedy);
    evidence.listeners[0].address = "127.0.0.1:8081/tcp".into();
    let diagnosis = diagnose(&evidence, Some(&pod(&[("Killing", KILLING, 1)])));
    assert!(
        diagnosis.summary.contains("it listened on 127.0.0.1:8081 only, where the kubelet cannot reach it"),
        "{}",
        diagnosis.summary
    );
}

#[test]
fn what_is_no_probe() {
    let drained = diagnose(&stopped(true), Some(&pod(&[])));
    assert_eq!(short(&drained), "KILLED HIGH SIGKILL from containerd-shim (pid 4)");
    assert_eq!(short(&diagnose(&stopped(true), None)), "KILLED HIGH SIGKILL from containerd-shim (pid 4)");
    let readiness = pod(&[("Unhealthy", "Readiness probe failed: x", 9)]);
    assert_eq!(short(&diagnose(&stopped(false), Some(&readiness))), "COMPLETED MEDIUM exit code 0");
    let once = pod(&[("Unhealthy", REFUSED, 1)]);
    assert_eq!(short(&diagnose(&stopped(false), Some(&once))), "COMPLETED MEDIUM exit code 0");
    // Its own fault while the probe failed too.
    let crashed = signalled(&["app"], 40_000, signals::SIGSEGV, by(SenderKind::Kernel, "", 0));
    let both = pod(&[("Unhealthy", REFUSED, 9), ("Killing", KILLING, 1)]);
    assert!(short(&diagnose(&crashed, Some(&both))).starts_with("PROGRAM_ERROR"));
    // It left by itself before anybody told it to.
    let left = exited(&["app"], 40_000, 1);
    assert!(short(&diagnose(&left, Some(&both))).starts_with("PROGRAM_ERROR"));
}

#[test]
fn an_event_that_the_kubelet_swallowed() {
    let often = pod(&[("Unhealthy", REFUSED, 4)]);
    assert_eq!(
        short(&diagnose(&stopped(true), Some(&often))),
        "PROBE_FAILED MEDIUM liveness http-get :8081/healthz"
    );
    let deleted = PodContext { deleted: true, ..often };
    assert!(short(&diagnose(&stopped(true), Some(&deleted))).starts_with("KILLED"));
}

/// A probe's process runs in the container and ends with code 1, as the program does a moment later by itself.
#[test]
fn what_a_probe_failed_at_is_at_most_a_guess() {
    let of_probe = |failure: Failure, comm: &str| Failure { comm: comm.to_owned(), ..by_child(failure) };
    for (command, failure) in [
        (
            "curl -f http://localhost:8080/ready",
            of_probe(failed_at("connect", errno::ECONNREFUSED, "127.0.0.1:8080/tcp", 205.0), "curl"),
        ),
        (
            "/bin/sh -c cat /root/ready;true",
            of_probe(failed("openat", errno::EACCES, "/root/ready", 205.0), "cat"),
        ),
    ] {
        let mut evidence = with(exited(&["/app/server"], 60_000, 1), vec![failure.clone()]);
        evidence.child_exits = vec![child_exit(&failure.comm, 1, 0, 200.0)];
        assert_eq!(diagnose(&evidence, None).confidence, Confidence::High, "{command}: a child's");

        let mut pod = pod(&[]);
        pod.container.probes[0].kind = "readiness".to_owned();
        pod.container.probes[0].action = format!("exec [{command}]");
        let diagnosis = diagnose(&evidence, Some(&pod));
        assert_eq!(diagnosis.confidence, Confidence::Low, "{command}: {}", diagnosis.summary);

        // Another program of the container does fail as part of its main one.
        evidence.child_exits[0].comm = "migrate".to_owned();
        assert_eq!(diagnose(&evidence, Some(&pod)).confidence, Confidence::High, "{command}: a child's");
    }
}

/// `kubectl exec` and a hook's command end in the container with a code of their own, which the program's may agree with.
#[test]
fn what_a_detached_process_failed_at_is_at_most_a_guess() {
    let of_visitor = by_child(failed("openat", errno::EACCES, "/etc/visitor.yaml", 205.0));
    let mut evidence = with(exited(&["/app/server"], 60_000, 1), vec![of_visitor]);
    evidence.child_exits = vec![child_exit("cat", 1, 0, 200.0)];
    assert_eq!(diagnose(&evidence, None).confidence, Confidence::High, "a child's");
    evidence.child_exits[0].detached = true;
    let diagnosis = diagnose(&evidence, None);
    assert_eq!(diagnosis.confidence, Confidence::Low, "{}", diagnosis.summary);
}
