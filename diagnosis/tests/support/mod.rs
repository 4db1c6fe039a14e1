//! Short ways to write down what a death looked like.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::pod::{ContainerContext, Mount, Variable};
use lastwords_diagnosis::{Diagnosis, PodContext, diagnose, errno};

/// Id of the main process.
pub const MAIN: u32 = 100;
/// Id of its child.
pub const CHILD: u32 = 107;
const STARTED: i64 = 1_795_353_365_000_000_000;
const MILLISECOND: i64 = 1_000_000;

/// A container whose program `comm` ran for `life_ms` with these arguments and ended with `code`.
pub fn exited(args: &[&str], life_ms: i64, code: i32) -> Evidence {
    let comm = args[0].rsplit('/').next().unwrap_or_default().to_owned();
    let args: Vec<String> = args.iter().map(|argument| (*argument).to_owned()).collect();
    Evidence {
        observed_at: UnixNanos(STARTED + life_ms * MILLISECOND),
        process: Some(Process {
            pid: MAIN,
            comm,
            args: args.clone(),
            exe: args[0].clone(),
            started_at: UnixNanos(STARTED),
            exited_at: UnixNanos(STARTED + life_ms * MILLISECOND),
            namespace_init: true,
            ..Process::default()
        }),
        exit: Some(Exit { code, tid: MAIN, ..Exit::default() }),
        execs: vec![Exec { path: args[0].clone(), args, time: UnixNanos(STARTED) }],
        ..Evidence::default()
    }
}

/// As `exited`, ended by a signal from this sender.
pub fn signalled(args: &[&str], life_ms: i64, signal: i32, sender: Option<KilledBy>) -> Evidence {
    let mut evidence = exited(args, life_ms, 0);
    evidence.exit = Some(Exit { signal, killed_by: sender.clone(), tid: MAIN, ..Exit::default() });
    evidence.signals.push(sent(signal, 0, sender, 0.2));
    evidence
}

/// A signal to the main process.
pub fn sent(signal: i32, code: i32, sender: Option<KilledBy>, before_death_ms: f64) -> Signal {
    Signal {
        signal,
        code,
        sender,
        target_pid: MAIN,
        to_main: true,
        delivered: true,
        before_death_ms,
        ..Signal::default()
    }
}

pub fn by(kind: SenderKind, comm: &str, pid: u32) -> Option<KilledBy> {
    Some(KilledBy { kind, pid, comm: comm.to_owned() })
}

/// A failed call of the dying thread on a path.
pub fn failed(syscall: &str, number: i32, path: &str, before_death_ms: f64) -> Failure {
    Failure {
        syscall: syscall.to_owned(),
        errno: number,
        path: path.to_owned(),
        pid: MAIN,
        tid: MAIN,
        comm: "app".to_owned(),
        uid: 4242,
        gid: 4242,
        count: 1,
        first_before_death_ms: before_death_ms,
        last_before_death_ms: before_death_ms,
        by_dying_thread: true,
        ..Failure::default()
    }
}

/// A failed call of the dying thread on an address.
pub fn failed_at(syscall: &str, number: i32, address: &str, before_death_ms: f64) -> Failure {
    Failure { address: address.to_owned(), ..failed(syscall, number, "", before_death_ms) }
}

/// The same call, made by a child.
pub fn by_child(failure: Failure) -> Failure {
    Failure { pid: CHILD, tid: CHILD, by_dying_thread: false, ..failure }
}

/// The same call, made by another thread of the main process.
pub fn by_other_thread(failure: Failure) -> Failure {
    Failure { tid: MAIN + 3, by_dying_thread: false, ..failure }
}

/// The same call, made by a process that has nothing to do with the end.
pub fn by_stranger(failure: Failure) -> Failure {
    Failure { pid: 900, tid: 900, by_dying_thread: false, ..failure }
}

pub fn child_exit(comm: &str, code: i32, signal: i32, before_death_ms: f64) -> ChildExit {
    ChildExit { pid: CHILD, comm: comm.to_owned(), code, signal, before_death_ms, ..ChildExit::default() }
}

pub fn oom(
    scope: OomScope,
    limit_bytes: u64,
    victim_is_main: bool,
    before_death_ms: i64,
    end: UnixNanos,
) -> OomKill {
    OomKill {
        victim_pid: if victim_is_main { MAIN } else { CHILD },
        victim_comm: "python3".to_owned(),
        victim_is_main,
        anon_rss_bytes: 19 << 20,
        file_rss_bytes: 150_000,
        page_tables_bytes: 60_000,
        scope,
        limit_bytes,
        usage_bytes: limit_bytes,
        allocating_pid: if victim_is_main { MAIN } else { CHILD },
        allocating_comm: "python3".to_owned(),
        time: UnixNanos(end.0 - before_death_ms * MILLISECOND),
        ..OomKill::default()
    }
}

pub fn shadow(before_death_ms: f64) -> Failure {
    Failure {
        file: Some(FileFacts {
            uid: 0,
            gid: 42,
            mode: 0o640,
            kind: "file".to_owned(),
            path: "/etc/shadow".to_owned(),
            mount_point: "/".to_owned(),
            ..FileFacts::default()
        }),
        ..failed("openat", errno::EACCES, "/etc/shadow", before_death_ms)
    }
}

/// `PERMISSION_DENIED HIGH /etc/shadow`, for comparing.
pub fn verdict(evidence: &Evidence, pod: Option<&PodContext>) -> String {
    short(&diagnose(evidence, pod))
}

pub fn short(diagnosis: &Diagnosis) -> String {
    let words = |text: String| {
        text.chars().enumerate().fold(String::new(), |mut name, (index, character)| {
            if character.is_uppercase() && index > 0 {
                name.push('_');
            }
            name.push(character.to_ascii_uppercase());
            name
        })
    };
    format!(
        "{} {} {}",
        words(format!("{:?}", diagnosis.cause)),
        words(format!("{:?}", diagnosis.confidence)),
        diagnosis.object
    )
    .trim_end()
    .to_owned()
}

/// Cases are (what happened, evidence, verdict).
pub fn check(cases: Vec<(&str, Evidence, &str)>) {
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(what, evidence, expected)| {
            let got = verdict(evidence, None);
            (got != *expected).then(|| format!("{what}\n  expected {expected}\n  got      {got}"))
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The same death with these failed calls.
pub fn with(mut evidence: Evidence, failures: Vec<Failure>) -> Evidence {
    evidence.failures = failures;
    evidence
}

/// The same death, and these were the last lines of the log.
pub fn logged(mut evidence: Evidence, lines: &[&str]) -> Evidence {
    let lines = lines.iter().map(|line| (*line).to_owned()).collect();
    evidence.log_tail = Some(LogTail { lines, ..LogTail::default() });
    evidence
}

/// The same death, and these files had been read, each so long (milliseconds) before it.
pub fn read(mut evidence: Evidence, files: &[(&str, f64)]) -> Evidence {
    let opened = |(path, before_death_ms): &(&str, f64)| OpenedFile {
        path: (*path).to_owned(),
        comm: "app".to_owned(),
        before_death_ms: *before_death_ms,
        ..OpenedFile::default()
    };
    evidence.opened_files = files.iter().map(opened).collect();
    evidence
}

/// The same death of a process with these variables and no others.
pub fn with_environment(mut evidence: Evidence, names: &[&str]) -> Evidence {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    evidence.process = evidence.process.map(|process| Process { environment_names: names, ..process });
    evidence
}

/// The container `api`, the second of its pod, with these volumes and variables.
pub fn in_pod(mounts: Vec<Mount>, variables: Vec<Variable>) -> PodContext {
    let container = ContainerContext {
        name: "api".into(),
        field_path: "spec.containers[1]".into(),
        mounts,
        variables,
        ..ContainerContext::default()
    };
    PodContext { container, ..PodContext::default() }
}

/// A ConfigMap's volume at `/etc/app`.
pub fn app_settings() -> Mount {
    Mount {
        path: "/etc/app".into(),
        volume: "settings".into(),
        source: "configmap app-settings".into(),
        read_only: true,
    }
}
