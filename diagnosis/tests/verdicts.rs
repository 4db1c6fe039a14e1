//! Deaths that a limit, a signal or nothing explains: the evidence, and the cause, confidence and object that must come out.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::pod::{ContainerContext, Terminated};
use lastwords_diagnosis::{PodContext, errno, signals};
use support::*;

#[test]
fn memory() {
    let killed = |scope, limit| {
        let mut evidence =
            signalled(&["python3", "eat.py"], 800, signals::SIGKILL, by(SenderKind::OomKiller, "", 0));
        evidence.oom = vec![oom(scope, limit, true, 3, evidence.observed_at)];
        evidence
    };
    let child = |args: &[&str], code, before| {
        let mut evidence = exited(args, 900, code);
        evidence.oom = vec![oom(OomScope::Container, 20 << 20, false, before, evidence.observed_at)];
        evidence.child_exits = vec![child_exit("python3", 0, signals::SIGKILL, 2.0)];
        evidence
    };
    check(vec![
        (
            "the container's limit",
            killed(OomScope::Container, 20 << 20),
            "OUT_OF_MEMORY HIGH memory limit 20Mi",
        ),
        ("the pod's limit", killed(OomScope::Pod, 64 << 20), "OUT_OF_MEMORY HIGH pod memory limit 64Mi"),
        ("the node", killed(OomScope::Node, 0), "OUT_OF_MEMORY HIGH node memory"),
        (
            "a level that could not be told",
            killed(OomScope::Unknown, 64 << 20),
            "OUT_OF_MEMORY HIGH memory limit 64Mi",
        ),
        (
            "a child, and its shell passes it on",
            child(&["sh", "-c", "python3 eat.py; exit $?"], 137, 3),
            "OUT_OF_MEMORY HIGH memory limit 20Mi",
        ),
        (
            "a child, and its shell goes on and ends well",
            child(&["sh", "-c", "python3 eat.py; sleep 1"], 0, 1_000),
            "OUT_OF_MEMORY MEDIUM memory limit 20Mi",
        ),
        (
            "a child, and its parent gives up at once",
            child(&["server"], 1, 30),
            "OUT_OF_MEMORY HIGH memory limit 20Mi",
        ),
        (
            "a JVM's own heap",
            exited(&["java", "-Xmx32m", "-XX:+ExitOnOutOfMemoryError", "-jar", "a.jar"], 90, 3),
            "PROGRAM_ERROR MEDIUM exit code 3",
        ),
        ("a child, hours ago", child(&["server"], 1, 7_200_000), "PROGRAM_ERROR LOW exit code 1"),
        ("a child, hours before a clean end", child(&["server"], 0, 7_200_000), "COMPLETED HIGH exit code 0"),
        (
            "a child, and the container lives on",
            Evidence { exit: None, container_survived: true, ..child(&["server"], 0, 0) },
            "OUT_OF_MEMORY HIGH memory limit 20Mi",
        ),
        (
            "it was already leaving when it was marked",
            Evidence {
                exit: Some(Exit { code: 1, ..Exit::default() }),
                ..killed(OomScope::Container, 20 << 20)
            },
            "PROGRAM_ERROR LOW exit code 1",
        ),
        (
            "the kernel says OOM killer, the record of it is missing",
            Evidence { oom: vec![], ..killed(OomScope::Container, 20 << 20) },
            "OUT_OF_MEMORY HIGH memory limit",
        ),
        (
            "killed from outside after an OOM kill that it survived",
            {
                let mut evidence = child(&["server"], 0, 400);
                evidence.exit = Some(Exit {
                    signal: signals::SIGKILL,
                    killed_by: by(SenderKind::Runtime, "runc", 55),
                    ..Exit::default()
                });
                evidence
            },
            "KILLED HIGH SIGKILL from runc (pid 55)",
        ),
    ]);
}

#[test]
fn faults_and_kills() {
    let fault = |signal, code, address| {
        let mut evidence = signalled(&["app"], 70, signal, by(SenderKind::Kernel, "", 0));
        evidence.signals =
            vec![Signal { fault_address: address, ..sent(signal, code, by(SenderKind::Kernel, "", 0), 0.1) }];
        evidence
    };
    check(vec![
        ("a null pointer", fault(signals::SIGSEGV, 1, 0), "PROGRAM_ERROR HIGH SIGSEGV at 0x0"),
        ("a division", fault(signals::SIGFPE, 1, 0x4010), "PROGRAM_ERROR HIGH SIGFPE at 0x4010"),
        (
            "abort()",
            signalled(&["app"], 70, signals::SIGABRT, by(SenderKind::SameContainer, "app", MAIN)),
            "PROGRAM_ERROR HIGH SIGABRT",
        ),
        (
            "abort() of PID 1, which ends in a fault",
            {
                let mut evidence = fault(signals::SIGSEGV, 128, 0);
                let ignored = Signal {
                    delivered: false,
                    ..sent(signals::SIGABRT, -6, by(SenderKind::SameContainer, "app", MAIN), 0.4)
                };
                evidence.signals.insert(0, ignored);
                evidence
            },
            "PROGRAM_ERROR HIGH SIGABRT",
        ),
        (
            "a shell that passes on its child's fault",
            {
                let mut evidence = exited(&["sh", "-c", "app; exit $?"], 70, 139);
                evidence.child_exits = vec![child_exit("app", 0, signals::SIGSEGV, 1.0)];
                evidence.signals = vec![Signal {
                    target_pid: CHILD,
                    to_main: false,
                    ..sent(signals::SIGSEGV, 1, by(SenderKind::Kernel, "", 0), 1.1)
                }];
                evidence
            },
            "PROGRAM_ERROR HIGH SIGSEGV at 0x0",
        ),
        (
            "a fault that the language's runtime turned into an exit code",
            {
                let mut evidence = exited(&["goapp"], 70, 2);
                evidence.signals = vec![sent(signals::SIGSEGV, 1, by(SenderKind::Kernel, "", 0), 4.0)];
                evidence
            },
            "PROGRAM_ERROR MEDIUM SIGSEGV at 0x0",
        ),
        (
            "a fault signal that PID 1 sent itself and the kernel ignored",
            {
                let mut evidence = exited(&["sh"], 70, 3);
                let by_itself = by(SenderKind::SameContainer, "sh", MAIN);
                evidence.signals =
                    vec![Signal { delivered: false, ..sent(signals::SIGSEGV, 0, by_itself, 0.3) }];
                evidence
            },
            "PROGRAM_ERROR LOW exit code 3",
        ),
        (
            "a failed call before a fault does not win",
            with(fault(signals::SIGSEGV, 1, 0), vec![shadow(1.0)]),
            "PROGRAM_ERROR HIGH SIGSEGV at 0x0",
        ),
        (
            "a fault signal that somebody else sent",
            signalled(&["app"], 70, signals::SIGSEGV, by(SenderKind::SameContainer, "bash", 7)),
            "KILLED HIGH SIGSEGV from bash (pid 7)",
        ),
        (
            "a neighbour",
            signalled(&["app"], 70, signals::SIGKILL, by(SenderKind::SameContainer, "stress", 12)),
            "KILLED HIGH SIGKILL from stress (pid 12)",
        ),
        (
            "nobody knows who",
            signalled(&["app"], 70, signals::SIGKILL, None),
            "KILLED MEDIUM SIGKILL from an unknown sender",
        ),
        (
            "the program itself",
            signalled(&["app"], 70, signals::SIGKILL, by(SenderKind::SameContainer, "app", MAIN)),
            "PROGRAM_ERROR HIGH SIGKILL",
        ),
        (
            "asked to stop, then killed",
            {
                let mut evidence = signalled(
                    &["sleep", "99"],
                    30_000,
                    signals::SIGKILL,
                    by(SenderKind::Runtime, "runc", 56),
                );
                let ignored = Signal {
                    delivered: false,
                    ..sent(signals::SIGTERM, 0, by(SenderKind::Runtime, "runc", 55), 10_000.0)
                };
                evidence.signals.insert(0, ignored);
                evidence
            },
            "KILLED HIGH SIGKILL from runc (pid 56)",
        ),
        (
            "asked to stop, and left with 143",
            {
                let mut evidence = exited(&["app"], 30_000, 143);
                evidence.signals = vec![sent(signals::SIGTERM, 0, by(SenderKind::Runtime, "runc", 55), 20.0)];
                evidence
            },
            "KILLED HIGH SIGTERM from runc (pid 55)",
        ),
        (
            "asked to stop, and ended cleanly",
            {
                let mut evidence = exited(&["app"], 30_000, 0);
                evidence.signals = vec![sent(signals::SIGTERM, 0, by(SenderKind::Runtime, "runc", 55), 20.0)];
                evidence
            },
            "COMPLETED MEDIUM exit code 0",
        ),
        (
            "a shell's child was killed, for no want of memory",
            {
                let mut evidence = exited(&["sh", "-c", "app; exit $?"], 70, 137);
                evidence.child_exits = vec![child_exit("app", 0, signals::SIGKILL, 1.0)];
                evidence
            },
            "KILLED MEDIUM SIGKILL from an unknown sender",
        ),
        (
            "--timeout",
            Evidence {
                timed_out: true,
                ..signalled(
                    &["sleep", "99"],
                    3_000,
                    signals::SIGKILL,
                    by(SenderKind::Other, "lastwords-agent", 5),
                )
            },
            "KILLED HIGH SIGKILL from lastwords-agent (--timeout)",
        ),
    ]);
}

#[test]
fn what_cannot_be_told() {
    let mut no_recorder = exited(&["app"], 60_000, 1);
    no_recorder.losses.recorder_missing = true;
    check(vec![
        ("a clean end", exited(&["true"], 1, 0), "COMPLETED HIGH exit code 0"),
        (
            "a clean end, whatever failed before",
            with(exited(&["app"], 9, 0), vec![shadow(0.5)]),
            "COMPLETED HIGH exit code 0",
        ),
        ("a code, early", exited(&["false"], 1, 1), "PROGRAM_ERROR LOW exit code 1"),
        ("a code, later", exited(&["app"], 60_000, 7), "PROGRAM_ERROR MEDIUM exit code 7"),
        ("failed calls were not recorded", no_recorder, "UNKNOWN LOW exit code 1"),
        (
            "a file was missing long before the end",
            with(exited(&["app"], 90_000, 1), vec![failed("openat", errno::ENOENT, "/data/seed", 30_000.0)]),
            "PROGRAM_ERROR MEDIUM exit code 1",
        ),
        ("nothing was seen at all", Evidence::default(), "UNKNOWN LOW"),
    ]);
}

fn pod(memory_limit: &str) -> PodContext {
    PodContext {
        container: ContainerContext {
            field_path: "spec.containers[1]".into(),
            memory_limit: memory_limit.into(),
            ..ContainerContext::default()
        },
        ..PodContext::default()
    }
}

#[test]
fn limits_are_named_as_the_user_wrote_them() {
    for (scope, limit, written, expected) in [
        (OomScope::Container, 64 << 20, "64Mi", "OUT_OF_MEMORY HIGH memory limit 64Mi"),
        (OomScope::Container, 512 << 20, "0.5Gi", "OUT_OF_MEMORY HIGH memory limit 0.5Gi"),
        (OomScope::Container, 99_999_744, "100M", "OUT_OF_MEMORY HIGH memory limit 100M"),
        // The pod's group is hit first when its sum has one term.
        (OomScope::Pod, 64 << 20, "64Mi", "OUT_OF_MEMORY HIGH memory limit 64Mi"),
        (OomScope::Pod, 128 << 20, "64Mi", "OUT_OF_MEMORY HIGH pod memory limit 128Mi"),
        // Resized since: the kernel's word counts.
        (OomScope::Container, 32 << 20, "64Mi", "OUT_OF_MEMORY HIGH memory limit 32Mi"),
        (OomScope::Node, 0, "64Mi", "OUT_OF_MEMORY HIGH node memory"),
    ] {
        let mut evidence = signalled(&["python3"], 800, signals::SIGKILL, by(SenderKind::OomKiller, "", 0));
        evidence.oom = vec![oom(scope, limit, true, 3, evidence.observed_at)];
        assert_eq!(verdict(&evidence, Some(&pod(written))), expected, "{scope:?} {limit} {written}");
    }
}

#[test]
fn what_only_the_runtime_said() {
    let mut pod = pod("");
    pod.container.terminated = Some(Terminated {
        reason: "StartError".into(),
        message: "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: \"/app/missing\": stat /app/missing: no such file or directory: unknown".into(),
        exit_code: 128,
        ..Terminated::default()
    });
    assert_eq!(verdict(&Evidence::default(), Some(&pod)), "EXEC_FAILED HIGH /app/missing");
    pod.container.terminated =
        Some(Terminated { reason: "Error".into(), exit_code: 1, ..Terminated::default() });
    assert_eq!(verdict(&Evidence::default(), Some(&pod)), "UNKNOWN LOW exit code 1");
}

#[test]
fn unknown_is_never_certain_and_every_reference_holds() {
    let mut evidence = with(
        exited(&["app"], 90_000, 1),
        vec![shadow(70_000.0), failed("openat", errno::ENOENT, "/x", 30_000.0)],
    );
    evidence.signals = vec![sent(signals::SIGTERM, 0, None, 5.0)];
    for code in [0, 1, 2, 126, 127, 137, 139, 143, 255] {
        evidence.exit = Some(Exit { code, ..Exit::default() });
        let diagnosis = lastwords_diagnosis::diagnose(&evidence, None);
        if diagnosis.cause == lastwords_diagnosis::Cause::Unknown {
            assert_ne!(diagnosis.confidence, lastwords_diagnosis::Confidence::High);
        }
        assert!(!diagnosis.summary.is_empty() && !diagnosis.summary.contains('\n'));
        for reference in diagnosis.evidence {
            match reference {
                lastwords_diagnosis::EvidenceRef::Failure(index) => assert!(index < evidence.failures.len()),
                lastwords_diagnosis::EvidenceRef::Signal(index) => assert!(index < evidence.signals.len()),
                lastwords_diagnosis::EvidenceRef::Exit => {}
                other => panic!("nothing of that kind is there: {other:?}"),
            }
        }
    }
}
