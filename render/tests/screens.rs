//! The screens as people see them. After a wanted change run `UPDATE_GOLDEN=1 cargo test -p lastwords-render` and look at the
//! difference.
#![allow(clippy::expect_used, reason = "a test may fail loudly")]

use std::path::Path;

use lastwords_proto::convert::diagnosis_to_wire;
use lastwords_proto::v1::killed_by::Kind;
use lastwords_proto::v1::oom_kill::Scope;
use lastwords_proto::v1::*;
use lastwords_render::{crash_text, explain_text, list_text, watch_line};
use prost_types::Timestamp;

/// 2026-11-22 13:16:05 UTC.
const DEATH: i64 = 1_795_353_365;

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 250_000_000 })
}

fn golden(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, text).expect("the golden file can be written");
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(
        text, expected,
        "{name} differs; if that is wanted: UPDATE_GOLDEN=1 cargo test -p lastwords-render"
    );
}

/// The same diagnosis as the aggregator would make.
fn diagnosed(mut crash: Crash) -> Crash {
    let evidence = lastwords_proto::convert::crash_to_evidence(&crash);
    crash.diagnosis = Some(diagnosis_to_wire(&lastwords_diagnosis::diagnose(&evidence, None), 1));
    crash
}

fn crash(pod: &str, container: &str, args: &[&str], started: i64, exit: Exit) -> Crash {
    Crash {
        id: format!("node-1/5f0c/{started}"),
        node: "node-1".into(),
        observed_at: at(DEATH),
        container: Some(Container {
            runtime: "containerd".into(),
            id: "3f".repeat(32),
            pod_name: pod.into(),
            namespace: "shop".into(),
            name: container.into(),
            ..Container::default()
        }),
        process: Some(Process {
            pid: 4711,
            comm: args.first().copied().unwrap_or_default().rsplit('/').next().unwrap_or_default().into(),
            args: args.iter().map(|argument| (*argument).into()).collect(),
            uid: 4242,
            started_at: at(started),
            exited_at: at(DEATH),
            ..Process::default()
        }),
        exit: Some(exit),
        execs: vec![Exec { path: "/usr/bin/x".into(), ..Exec::default() }],
        losses: Some(Losses::default()),
        ..Crash::default()
    }
}

fn out_of_memory() -> Crash {
    let killed_by = KilledBy { kind: Kind::OomKiller.into(), ..KilledBy::default() };
    let exit =
        Exit { signal: 9, signal_name: "SIGKILL".into(), killed_by: Some(killed_by), ..Exit::default() };
    diagnosed(Crash {
        oom: vec![OomKill {
            victim_pid: 4711,
            victim_comm: "python3".into(),
            victim_is_main: true,
            anon_rss_bytes: 60 << 20,
            file_rss_bytes: 3 << 20,
            page_tables_bytes: 200 << 10,
            scope: Scope::Container.into(),
            limit_bytes: 64 << 20,
            usage_bytes: 64 << 20,
            time: at(DEATH),
            ..OomKill::default()
        }],
        memory: (0..=42)
            .map(|second| MemorySample {
                time: at(DEATH - 42 + second),
                bytes: (10 << 20) + ((54 << 20) / 42) * second.unsigned_abs(),
            })
            .collect(),
        log_tail: Some(LogTail { source: "0.log".into(), ..LogTail::default() }),
        ..crash("api-7f9", "app", &["python3", "eat.py"], DEATH - 42, exit)
    })
}

fn permission_denied(uid: u32) -> Crash {
    let failure = |syscall: &str, errno: i32, name: &str, path: &str, before: f64, file| Failure {
        syscall: syscall.into(),
        errno,
        errno_name: name.into(),
        path: path.into(),
        pid: 4711,
        tid: 4711,
        comm: "cat".into(),
        uid,
        count: 1,
        last_before_death_ms: before,
        by_dying_thread: true,
        file,
        ..Failure::default()
    };
    let owner = FileFacts {
        gid: 42,
        mode: 0o640,
        kind: "file".into(),
        path: "/etc/shadow".into(),
        ..FileFacts::default()
    };
    diagnosed(Crash {
        failures: vec![
            failure("access", 2, "ENOENT", "/etc/ld.so.preload", 1.5, None),
            failure("openat", 13, "EACCES", "/etc/shadow", 0.4, Some(owner)),
        ],
        ..crash("cat-0", "reader", &["cat", "/etc/shadow"], DEATH - 1, Exit { code: 1, ..Exit::default() })
    })
}

fn waiting() -> PodState {
    PodState {
        phase: "Running".into(),
        waiting_reason: "CrashLoopBackOff".into(),
        back_off_seconds: 160,
        next_retry_at: at(DEATH + 160),
        back_off_level: 5,
        restart_count: 6,
        ..PodState::default()
    }
}

#[test]
fn explain() {
    let mut earlier = out_of_memory();
    earlier.observed_at = at(DEATH - 200);
    let container =
        ContainerStatus { name: "app".into(), pod_state: Some(waiting()), ..ContainerStatus::default() };
    let answer = ExplainPodResponse {
        pod: Some(Pod {
            namespace: "shop".into(),
            name: "api-7f9".into(),
            containers: vec![container],
            ..Pod::default()
        }),
        crashes: vec![out_of_memory(), earlier],
        ..Default::default()
    };
    let now = Timestamp { seconds: DEATH + 80, nanos: 0 };
    golden("explain.txt", &explain_text(&answer, &now, false));
    golden("explain-colour.txt", &explain_text(&answer, &now, true));

    // The retry is at a time of the node's clock: who looks at another one is told how far off it is, and waits the true time.
    let mut apart = answer;
    apart.pod = apart.pod.map(|pod| Pod { node_clock_ahead_ms: Some(30_040), ..pod });
    let screen = explain_text(&apart, &now, false);
    let told = screen.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains("by the node's clock, which is 30.0 s ahead (in 50s);"), "{screen}");
}

#[test]
fn explain_of_two_containers() {
    let mut second = permission_denied(4242);
    if let Some(container) = &mut second.container {
        container.pod_name = "api-7f9".into();
    }
    let answer =
        ExplainPodResponse { pod: None, crashes: vec![out_of_memory(), second], ..Default::default() };
    golden("explain-two.txt", &explain_text(&answer, &Timestamp { seconds: DEATH + 80, nanos: 0 }, false));
}

#[test]
fn a_pod_that_never_crashed() {
    let container =
        ContainerStatus { name: "app".into(), state: "running".into(), ..ContainerStatus::default() };
    let answer = ExplainPodResponse {
        pod: Some(Pod {
            namespace: "shop".into(),
            name: "web".into(),
            containers: vec![container],
            ..Pod::default()
        }),
        crashes: vec![],
        why_none: "none of its containers has ended; an agent watches it on node node1".into(),
    };
    golden("explain-none.txt", &explain_text(&answer, &Timestamp { seconds: DEATH, nanos: 0 }, false));
}

#[test]
fn one_crash_without_kubernetes() {
    let mut crash = permission_denied(4242);
    crash.id = "try".into();
    crash.container = Some(Container { runtime: "lastwords-try".into(), ..Container::default() });
    crash.log_tail = Some(LogTail {
        lines: vec!["cat: /etc/shadow: Permission denied".into()],
        bytes: 36,
        source: "stdout and stderr".into(),
    });
    golden("try.txt", &crash_text(&crash, false));
}

#[test]
fn list_and_watch() {
    let now = Timestamp { seconds: DEATH + 80, nanos: 0 };
    golden("list.txt", &list_text(&[out_of_memory(), permission_denied(4242)], &now, false));
    golden("list-none.txt", &list_text(&[], &now, false));
    let mut newer = out_of_memory();
    if let Some(diagnosis) = &mut newer.diagnosis {
        diagnosis.revision = 2;
    }
    golden(
        "watch.txt",
        &format!("{}\n{}\n", watch_line(&newer, false), watch_line(&permission_denied(1), false)),
    );
}

#[test]
fn what_was_lost_and_what_is_not_shown_is_said() {
    let mut crash = permission_denied(4242);
    crash.losses = Some(Losses {
        failures_overwritten: 12,
        recorder_missing: true,
        unreadable: vec!["log: no file".into()],
        ..Losses::default()
    });
    golden("losses.txt", &crash_text(&crash, false));
}

#[test]
fn nothing_from_a_container_reaches_the_terminal_raw() {
    let hostile = "a\x1b]0;owned\x07\u{9b}2J\r\n\u{202e}z";
    let mut crash = permission_denied(4242);
    crash.id = hostile.into();
    crash.node = hostile.into();
    if let Some(container) = &mut crash.container {
        (container.name, container.pod_name) = (hostile.into(), hostile.into());
    }
    if let Some(process) = &mut crash.process {
        (process.comm, process.args) = (hostile.into(), vec![hostile.into()]);
    }
    for failure in &mut crash.failures {
        (failure.path, failure.comm, failure.syscall) = (hostile.into(), hostile.into(), hostile.into());
    }
    crash.log_tail = Some(LogTail { lines: vec![hostile.into()], ..LogTail::default() });
    crash.pod_state = Some(PodState { waiting_reason: hostile.into(), ..waiting() });
    if let Some(losses) = &mut crash.losses {
        losses.unreadable.push(hostile.into());
    }
    if let Some(diagnosis) = &mut crash.diagnosis {
        diagnosis.summary = hostile.into();
        diagnosis.object = hostile.into();
        diagnosis.remedy = hostile.into();
        diagnosis.also_seen = vec![hostile.into()];
    }
    let now = Timestamp { seconds: DEATH, nanos: 0 };
    let explained =
        ExplainPodResponse { pod: None, crashes: vec![crash.clone(), crash.clone()], ..Default::default() };
    for text in [
        crash_text(&crash, false),
        explain_text(&explained, &now, false),
        list_text(&[crash.clone()], &now, false),
        watch_line(&crash, false),
    ] {
        let raw = text
            .chars()
            .find(|character| (character.is_control() && *character != '\n') || *character == '\u{202e}');
        assert_eq!(raw, None, "{text}");
    }
}

#[test]
fn a_pod_that_only_an_agent_speaks_of_is_marked() {
    let mut claimed = crash("api-7f9", "app", &["/app"], DEATH - 1, Exit { code: 1, ..Exit::default() });
    claimed.pod_unconfirmed = true;
    let said = "only the agent on node-1 says so: the Kubernetes API has shown no such pod on that node";
    assert!(crash_text(&claimed, false).contains(said));
    assert!(
        list_text(std::slice::from_ref(&claimed), &at(DEATH).expect("a time"), false)
            .contains("api-7f9 (unconfirmed) ")
    );
    claimed.pod_unconfirmed = false;
    assert!(!crash_text(&claimed, false).contains("says so"));
}
