//! What a seccomp filter forbids, told apart from what the kernel itself refuses.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::{diagnose, errno, signals};
use support::*;

fn forbidden(code: i32, syscall: &str) -> Signal {
    Signal { syscall: syscall.to_owned(), ..sent(signals::SIGSYS, code, by(SenderKind::Kernel, "", 0), 0.2) }
}

#[test]
fn a_filter_that_kills() {
    let mut evidence = signalled(&["app"], 70, signals::SIGSYS, by(SenderKind::Kernel, "", 0));
    evidence.signals = vec![forbidden(1, "io_uring_setup")];
    assert_eq!(verdict(&evidence, None), "SECCOMP_DENIED HIGH io_uring_setup");
    assert_eq!(
        diagnose(&evidence, None).summary,
        "app called io_uring_setup, which its seccomp filter forbids: the kernel ended it with SIGSYS"
    );
    evidence.signals = vec![forbidden(0, "")];
    assert_eq!(verdict(&evidence, None), "PROGRAM_ERROR HIGH SIGSYS", "somebody sent it by kill(2)");
}

#[test]
fn a_filter_that_kills_a_child() {
    let mut evidence = exited(&["sh", "run.sh"], 70, 128 + signals::SIGSYS);
    evidence.child_exits = vec![child_exit("app", 0, signals::SIGSYS, 0.3)];
    evidence.signals = vec![Signal { target_pid: CHILD, to_main: false, ..forbidden(1, "ptrace") }];
    assert_eq!(verdict(&evidence, None), "SECCOMP_DENIED HIGH ptrace");
}

#[test]
fn a_filter_that_refuses() {
    let said = |seccomp, syscall| {
        let mut evidence = exited(&["app"], 70, 1);
        evidence.failures = vec![Failure {
            seccomp,
            by_dying_thread: true,
            ..failed(syscall, errno::EPERM, "/data/state", 0.4)
        }];
        let diagnosis = diagnose(&evidence, None);
        (verdict(&evidence, None), diagnosis.summary)
    };
    let (verdict, summary) = said(Seccomp::Denied, "mkdir");
    assert_eq!(verdict, "SECCOMP_DENIED HIGH mkdir");
    assert!(summary.contains("called mkdir on /data/state, which its seccomp filter refuses"), "{summary}");
    // Only a file system that knows no folders, or an immutable one above it, would answer so.
    let (verdict, _) = said(Seccomp::Undecided, "mkdir");
    assert_eq!(verdict, "SECCOMP_DENIED MEDIUM mkdir");
    for (seccomp, part) in [
        (Seccomp::Undecided, "whether its seccomp filter did cannot be told"),
        (Seccomp::NotByFilter, "and no seccomp filter did"),
        (Seccomp::NoFilter, "and no seccomp filter did"),
        (Seccomp::Unknown, "look for a seccomp profile"),
    ] {
        let (verdict, summary) = said(seccomp, "openat");
        assert_eq!(verdict, "PERMISSION_DENIED MEDIUM /data/state");
        assert!(summary.contains(part), "{summary}");
    }
}
