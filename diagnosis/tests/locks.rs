//! Locked files, and what a program was waiting in when it was told to stop.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::{EvidenceRef, diagnose, errno, signals, waiting_in};
use support::*;

fn app() -> Evidence {
    exited(&["app"], 400, 1)
}

fn holder() -> Holder {
    Holder { pid: 12, comm: "postgres".into(), container_id: "3f8a1c5d7e9b".repeat(6), ..Holder::default() }
}

fn refused(before_death_ms: f64) -> Failure {
    Failure {
        holder: Some(holder()),
        holder_looked_for: true,
        ..failed("fcntl", errno::EAGAIN, "/data/app.db", before_death_ms)
    }
}

fn waiting(syscall: &str, path: &str, holder: Option<Holder>) -> Option<BlockedCall> {
    Some(BlockedCall {
        syscall: syscall.into(),
        pid: MAIN,
        tid: MAIN,
        comm: "app".into(),
        path: path.into(),
        signal: signals::SIGTERM,
        before_death_ms: 10_000.0,
        holder_looked_for: holder.is_some(),
        holder,
        ..BlockedCall::default()
    })
}

fn stopped(code: i32, blocked: Option<BlockedCall>) -> Evidence {
    let mut evidence = exited(&["app"], 60_000, code);
    evidence.signals =
        vec![sent(signals::SIGTERM, 0, by(SenderKind::Runtime, "containerd-shim", 7), 10_000.0)];
    evidence.blocked = blocked;
    evidence
}

#[test]
fn verdicts() {
    let killed = |blocked| {
        let runtime = by(SenderKind::Runtime, "runc", 7);
        let mut evidence = signalled(&["app"], 60_000, signals::SIGKILL, runtime.clone());
        evidence.signals.insert(0, sent(signals::SIGTERM, 0, runtime, 10_000.0));
        evidence.blocked = blocked;
        evidence
    };
    let exclusive = |path: &str| failed("openat", errno::EEXIST, path, 0.3);
    check(vec![
        ("refused at once", with(app(), vec![refused(0.4)]), "FILE_LOCKED HIGH /data/app.db"),
        (
            "a file server's, for which nobody here is to blame",
            with(app(), vec![Failure { holder: None, ..refused(0.4) }]),
            "FILE_LOCKED HIGH /data/app.db",
        ),
        (
            "had at a later try",
            with(app(), vec![Failure { later_succeeded: true, ..refused(0.4) }]),
            "PROGRAM_ERROR LOW exit code 1",
        ),
        (
            "waited for until an alarm",
            with(app(), vec![failed("flock", errno::EINTR, "/run/app.lock", 0.4)]),
            "FILE_LOCKED HIGH /run/app.lock",
        ),
        (
            "tried and done without, before a refused connection",
            with(
                app(),
                vec![refused(2.0), failed_at("connect", errno::ECONNREFUSED, "10.0.0.9:5432/tcp", 0.4)],
            ),
            "CONNECTION_FAILED HIGH 10.0.0.9:5432/tcp",
        ),
        (
            "a refused connection that it went on from, then the lock",
            with(
                app(),
                vec![failed_at("connect", errno::ECONNREFUSED, "10.0.0.9:5432/tcp", 2.0), refused(0.4)],
            ),
            "FILE_LOCKED MEDIUM /data/app.db",
        ),
        ("long before", with(app(), vec![refused(61_000.0)]), "PROGRAM_ERROR LOW exit code 1"),
        (
            "before a clean end",
            with(exited(&["app"], 400, 0), vec![refused(0.4)]),
            "COMPLETED HIGH exit code 0",
        ),
        ("a lock file", with(app(), vec![exclusive("/run/app.lock")]), "FILE_LOCKED MEDIUM /run/app.lock"),
        ("a pid file", with(app(), vec![exclusive("/run/app.pid")]), "FILE_LOCKED MEDIUM /run/app.pid"),
        (
            "a temporary name that was taken",
            with(app(), vec![exclusive("/tmp/tmp.aX31k")]),
            "PROGRAM_ERROR LOW exit code 1",
        ),
        (
            "a folder that is there",
            with(app(), vec![failed("mkdir", errno::EEXIST, "/var/lock", 0.3)]),
            "PROGRAM_ERROR LOW exit code 1",
        ),
        (
            "killed while it waited",
            killed(waiting("fcntl", "/data/app.db", Some(holder()))),
            "FILE_LOCKED MEDIUM /data/app.db",
        ),
        (
            "told to stop while it waited, and left",
            stopped(143, waiting("flock", "/data/app.db", None)),
            "FILE_LOCKED MEDIUM /data/app.db",
        ),
        (
            "told to stop while it waited, and left well",
            stopped(0, waiting("flock", "/data/app.db", None)),
            "COMPLETED MEDIUM exit code 0",
        ),
        (
            "killed while it read",
            killed(waiting("read", "/run/in", None)),
            "KILLED HIGH SIGKILL from runc (pid 7)",
        ),
    ]);
}

#[test]
fn a_refused_lock_names_the_holder() {
    let diagnosis = diagnose(&with(app(), vec![refused(0.4)]), None);
    assert_eq!(
        diagnosis.summary,
        "app could not lock /data/app.db, held by postgres (pid 12) of container 3f8a1c5d7e9b: fcntl failed with EAGAIN (resource temporarily unavailable) 400 µs before it ended with exit code 1"
    );
    assert_eq!(
        diagnosis.remedy,
        "let one program use /data/app.db at a time: end postgres (pid 12) of container 3f8a1c5d7e9b, or give each a file of its own"
    );
    assert_eq!(diagnosis.evidence, [EvidenceRef::Failure(0), EvidenceRef::Exit]);

    let of_pod = Holder { pod_uid: "0c1f2a3b".into(), ..holder() };
    let remedy = diagnose(&with(app(), vec![Failure { holder: Some(of_pod), ..refused(0.4) }]), None).remedy;
    assert!(
        remedy.contains("Recreate") && remedy.ends_with("the pod with the UID 0c1f2a3b has it locked"),
        "{remedy}"
    );

    let nobody = diagnose(&with(app(), vec![Failure { holder: None, ..refused(0.4) }]), None);
    assert!(
        nobody.summary.starts_with("app could not lock /data/app.db, held by no process on this node: "),
        "{}",
        nobody.summary
    );
    assert!(nobody.remedy.contains("another node"), "{}", nobody.remedy);
}

#[test]
fn a_wait_for_a_lock_and_the_stop_are_one_story() {
    let evidence =
        stopped(143, waiting("flock", "/data/app.db", Some(Holder { same_container: true, ..holder() })));
    let diagnosis = diagnose(&evidence, None);
    assert_eq!(
        diagnosis.summary,
        "app (pid 100) was waiting for a lock on /data/app.db, held by postgres (pid 12) of the same container, when it was told to stop by SIGTERM; app ended with exit code 143 10.0 s later"
    );
    assert_eq!(diagnosis.evidence, [EvidenceRef::Blocked, EvidenceRef::Exit, EvidenceRef::Signal(0)]);
    assert!(diagnosis.also_seen.is_empty(), "the stop is told already: {:?}", diagnosis.also_seen);
}

#[test]
fn what_it_waited_in_is_a_fact_of_the_stop() {
    let connect =
        BlockedCall { address: "10.0.0.9:5432/tcp".into(), ..waiting("connect", "", None).unwrap() };
    let diagnosis = diagnose(&stopped(143, Some(connect.clone())), None);
    assert_eq!(
        diagnosis.summary,
        "app was asked to stop by SIGTERM from containerd-shim (pid 7) and left 10.0 s later with exit code 143; it was waiting in connect to 10.0.0.9:5432/tcp when it was told to stop"
    );
    assert_eq!(diagnosis.evidence, [EvidenceRef::Signal(0), EvidenceRef::Exit, EvidenceRef::Blocked]);
    for (blocked, words) in [
        (
            BlockedCall { syscall: "accept4".into(), ..connect.clone() },
            "waiting in accept4 on 10.0.0.9:5432/tcp",
        ),
        (waiting("read", "/run/in", None).unwrap(), "waiting in read from /run/in"),
        (waiting("futex", "", None).unwrap(), "waiting in futex"),
        (waiting("flock", "/a\nb", None).unwrap(), "waiting in flock on /a\\x0ab"),
    ] {
        assert_eq!(waiting_in(&blocked), words);
    }
}

#[test]
fn a_lock_that_was_tried_until_the_stop() {
    let tried = |count, first_before_death_ms, last_before_death_ms| {
        let mut evidence = stopped(143, None);
        evidence.failures = vec![Failure { count, first_before_death_ms, ..refused(last_before_death_ms) }];
        evidence
    };
    let runtime = "KILLED HIGH SIGTERM from containerd-shim (pid 7)";
    check(vec![
        ("all the time", tried(1000, 59_000.0, 10_020.0), "FILE_LOCKED MEDIUM /data/app.db"),
        ("as it stopped, too", tried(1200, 59_000.0, 2.0), "FILE_LOCKED MEDIUM /data/app.db"),
        ("now and then, late in its life", tried(10, 12_000.0, 10_020.0), runtime),
        ("at its start", tried(20, 59_000.0, 58_000.0), runtime),
    ]);
    let diagnosis = diagnose(&tried(1000, 59_000.0, 10_020.0), None);
    assert_eq!(
        diagnosis.summary,
        "app (pid 100) had tried to lock /data/app.db 1000 times, held by postgres (pid 12) of container 3f8a1c5d7e9b, when it was told to stop by SIGTERM; app ended with exit code 143 10.0 s later"
    );
    assert_eq!(diagnosis.evidence, [EvidenceRef::Failure(0), EvidenceRef::Signal(0), EvidenceRef::Exit]);
}

#[test]
fn a_jvm_does_without_its_counters() {
    let jvm =
        |path: &str| with(exited(&["java", "App"], 400, 1), vec![failed("flock", errno::EAGAIN, path, 0.4)]);
    check(vec![
        ("another JVM of that id has them", jvm("/tmp/hsperfdata_root/1"), "PROGRAM_ERROR LOW exit code 1"),
        ("a lock of its program", jvm("/tmp/queue_root/1"), "FILE_LOCKED HIGH /tmp/queue_root/1"),
    ]);
}
