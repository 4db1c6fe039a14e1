//! Evidence survives the way over the wire and back, and its JSON is the promised one.

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::{Cause, Confidence, Diagnosis, EvidenceRef};
use lastwords_proto::convert::{crash_to_evidence, diagnosis_to_wire, evidence_to_crash};
use lastwords_proto::{to_json, v1};
use prost::Message;

fn killed_by(kind: SenderKind) -> Option<KilledBy> {
    Some(KilledBy { kind, pid: 9, comm: "runc".into() })
}

fn holder() -> Holder {
    Holder {
        pid: 7,
        comm: "nginx".into(),
        container_id: "4a".repeat(32),
        pod_uid: "4a1c".into(),
        same_container: true,
    }
}

/// Evidence in which no field has its default value.
fn full() -> Evidence {
    let time = UnixNanos(1_795_353_365_123_456_789);
    let later = UnixNanos(time.0 + 1);
    Evidence {
        node: "node-1".into(),
        agent_version: "0.1.0".into(),
        observed_at: time,
        container: Container {
            runtime: "containerd".into(),
            id: "3f".repeat(32),
            pod_uid: "4a1c".into(),
            pod_name: "api".into(),
            namespace: "shop".into(),
            name: "app".into(),
            image: "team/app:1".into(),
            restart_count: 3,
            cgroup_path: "/kubepods/pod4a1c/3f".into(),
        },
        process: Some(Process {
            pid: 5,
            comm: "app".into(),
            args: vec!["app".into(), "--listen=:80".into()],
            args_truncated: true,
            exe: "/app".into(),
            uid: 1000,
            gid: 1001,
            cwd: "/srv".into(),
            started_at: time,
            exited_at: later,
            namespace_init: true,
            environment_names: vec!["DB_HOST".into()],
            unknown_options: vec!["--verbos".into()],
        }),
        exit: Some(Exit {
            code: 1,
            signal: 9,
            core_dumped: true,
            killed_by: killed_by(SenderKind::Runtime),
            tid: 6,
        }),
        container_survived: true,
        timed_out: true,
        oom: vec![OomKill {
            victim_pid: 1,
            victim_comm: "eat".into(),
            victim_is_main: true,
            total_vm_bytes: 2,
            anon_rss_bytes: 3,
            file_rss_bytes: 4,
            shmem_rss_bytes: 5,
            page_tables_bytes: 6,
            oom_score_adj: -7,
            scope: OomScope::Pod,
            limit_bytes: 8,
            usage_bytes: 9,
            allocating_pid: 10,
            allocating_comm: "ask".into(),
            group_kill: true,
            limit_confirmed: true,
            time,
        }],
        failures: vec![Failure {
            syscall: "openat".into(),
            errno: 13,
            path: "/etc/shadow".into(),
            path_truncated: true,
            path_unresolved: true,
            address: "10.0.0.9:5432/tcp".into(),
            name: "CAP_SYS_TIME".into(),
            pid: 5,
            tid: 6,
            comm: "app".into(),
            uid: 1000,
            gid: 1001,
            count: 7,
            first_before_death_ms: 12.5,
            last_before_death_ms: 0.25,
            waited_for_processor_ms: 2.5,
            by_dying_thread: true,
            later_succeeded: true,
            file: Some(FileFacts {
                uid: 1,
                gid: 42,
                mode: 0o640,
                kind: "file".into(),
                path: "/etc/shadow".into(),
                mount_point: "/".into(),
                interpreter: "/lib64/ld-linux-x86-64.so.2".into(),
                interpreter_missing: true,
                machine: "aarch64".into(),
                node_machine: "x86-64".into(),
            }),
            mount: Some(Mount { mount_point: "/".into(), file_system: "overlay".into(), read_only: true }),
            holder: Some(holder()),
            holder_looked_for: true,
            groups: vec![4, 20],
            capabilities: vec!["CAP_CHOWN".into()],
            capability: "CAP_SYS_TIME".into(),
            variables: vec!["DB_HOST".into()],
            later_connected: "10.0.0.7:6379/tcp".into(),
            unanswered: true,
            seccomp: Seccomp::Denied,
            dns: Some(DnsQuery {
                outcome: DnsOutcome::NxDomain,
                response_code: 3,
                types: vec!["A".into()],
                transport: "udp".into(),
            }),
        }],
        signals: vec![Signal {
            signal: 11,
            code: 1,
            sender: killed_by(SenderKind::SameContainer),
            target_pid: 5,
            target_comm: "app".into(),
            to_main: true,
            delivered: true,
            before_death_ms: 0.5,
            fault_address: 0xdead_beef,
            syscall: "mkdir".into(),
        }],
        execs: vec![Exec { path: "/app".into(), args: vec!["app".into()], time }],
        child_exits: vec![ChildExit {
            pid: 8,
            comm: "sub".into(),
            code: 2,
            signal: 3,
            before_death_ms: 4.0,
            detached: true,
            parent_wrote: Some(2),
            parent_pid: 70,
        }],
        memory: vec![MemorySample { time, bytes: 11 }],
        log_tail: Some(LogTail { lines: vec!["bye".into()], bytes: 4, source: "0.log".into() }),
        listeners: vec![Listener {
            address: "0.0.0.0:80/tcp".into(),
            pid: 5,
            comm: "app".into(),
            before_death_ms: 6.0,
            closed: true,
        }],
        fault: Some(Fault {
            signal: 11,
            code: 1,
            address: 0xdead_beef,
            tid: 6,
            comm: "worker".into(),
            frames: vec![Frame {
                instruction: 0x40_1000,
                module: "/app".into(),
                build_id: "c0ffee".into(),
                offset: 0x1000,
                symbol: "main".into(),
                symbol_offset: 16,
                file: "main.c".into(),
                line: 3,
            }],
        }),
        blocked: Some(BlockedCall {
            syscall: "fcntl".into(),
            pid: 5,
            tid: 6,
            comm: "app".into(),
            path: "/data/app.db".into(),
            address: "10.0.0.9:5432/tcp".into(),
            signal: 15,
            before_death_ms: 7.0,
            holder: Some(holder()),
            holder_looked_for: true,
        }),
        opened_files: vec![OpenedFile {
            path: "/etc/app.conf".into(),
            written: true,
            pid: 5,
            comm: "app".into(),
            before_death_ms: 8.0,
            path_unresolved: true,
        }],
        log_files: vec![LogTail { lines: vec!["bye".into()], bytes: 4, source: "/var/log/app.log".into() }],
        losses: Losses {
            failures_overwritten: 1,
            signals_overwritten: 2,
            torn_entries: 3,
            ring_records_dropped: 4,
            recorder_missing: true,
            agent_started_later: true,
            io_uring_used: true,
            compat_calls_failed: 5,
            opened_files_overwritten: 6,
            unreadable: vec!["log: gone".into()],
        },
    }
}

#[test]
fn evidence_survives_the_wire() {
    for evidence in [full(), Evidence::default()] {
        let bytes = evidence_to_crash(&evidence).encode_to_vec();
        let crash = v1::Crash::decode(bytes.as_slice()).expect("what was encoded decodes");
        assert_eq!(crash_to_evidence(&crash), evidence);
    }
}

#[test]
fn every_sender_and_scope_survives() {
    for kind in [
        SenderKind::Unknown,
        SenderKind::Kernel,
        SenderKind::OomKiller,
        SenderKind::Runtime,
        SenderKind::SameContainer,
        SenderKind::Other,
    ] {
        for scope in [OomScope::Unknown, OomScope::Container, OomScope::Pod, OomScope::Node] {
            let evidence = Evidence {
                exit: Some(Exit { killed_by: killed_by(kind), ..Exit::default() }),
                oom: vec![OomKill { scope, ..OomKill::default() }],
                ..Evidence::default()
            };
            assert_eq!(crash_to_evidence(&evidence_to_crash(&evidence)), evidence);
        }
    }
}

#[test]
fn times_before_1970_and_far_away_survive() {
    for nanos in [-1, 1, 999_999_999, -1_000_000_000, i64::MAX, i64::MIN + 1_000_000_000] {
        let evidence = Evidence { observed_at: UnixNanos(nanos), ..Evidence::default() };
        assert_eq!(crash_to_evidence(&evidence_to_crash(&evidence)).observed_at, UnixNanos(nanos));
    }
    let absurd = v1::Crash {
        observed_at: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: i32::MIN }),
        ..v1::Crash::default()
    };
    assert!(crash_to_evidence(&absurd).observed_at.0 > 0);
}

#[test]
fn the_names_follow_the_numbers_and_what_the_aggregator_adds_is_left_empty() {
    let crash = evidence_to_crash(&full());
    assert_eq!(crash.failures[0].errno_name, "EACCES");
    assert_eq!(crash.signals[0].signal_name, "SIGSEGV");
    assert_eq!(crash.exit.map(|exit| exit.signal_name).as_deref(), Some("SIGKILL"));
    assert_eq!(crash.id, "");
    assert!(crash.pod_state.is_none() && crash.diagnosis.is_none());
}

#[test]
fn an_unknown_enum_value_is_unknown() {
    let crash = v1::Crash {
        exit: Some(v1::Exit {
            killed_by: Some(v1::KilledBy { kind: 99, ..v1::KilledBy::default() }),
            ..v1::Exit::default()
        }),
        ..v1::Crash::default()
    };
    let killer = crash_to_evidence(&crash).exit.and_then(|exit| exit.killed_by);
    assert_eq!(killer.map(|by| by.kind), Some(SenderKind::Unknown));
}

#[test]
fn a_diagnosis_keeps_its_order() {
    let diagnosis = Diagnosis {
        cause: Cause::ReadOnlyFilesystem,
        confidence: Confidence::High,
        summary: "s".into(),
        object: "/o".into(),
        remedy: "r".into(),
        evidence: vec![EvidenceRef::Failure(3), EvidenceRef::Exit, EvidenceRef::ChildExit(1)],
        also_seen: vec!["a".into()],
        planned: true,
    };
    let wire = diagnosis_to_wire(&diagnosis, 2);
    assert!(wire.planned);
    assert_eq!(wire.cause(), v1::Cause::ReadOnlyFilesystem);
    assert_eq!(wire.confidence(), v1::Confidence::High);
    assert_eq!(wire.revision, 2);
    let order: Vec<(&str, u32)> = wire.evidence.iter().map(|one| (one.field.as_str(), one.index)).collect();
    assert_eq!(order, [("failures", 3), ("exit", 0), ("child_exits", 1)]);
}

#[test]
fn every_cause_has_the_same_name_on_both_sides() {
    for number in 0..=26 {
        let wire = v1::Cause::try_from(number).expect("causes are numbered without a gap");
        let name = wire.as_str_name().trim_start_matches("CAUSE_").replace('_', "").to_lowercase();
        let known = ALL_CAUSES.iter().find(|cause| format!("{cause:?}").to_lowercase() == name);
        let cause = known.unwrap_or_else(|| panic!("no cause {name} in the diagnosis"));
        let diagnosis = Diagnosis { cause: *cause, ..Diagnosis::default() };
        assert_eq!(diagnosis_to_wire(&diagnosis, 1).cause(), wire);
    }
    assert!(v1::Cause::try_from(27).is_err(), "a new cause belongs into this test");
}

const ALL_CAUSES: [Cause; 27] = [
    Cause::Unknown,
    Cause::OutOfMemory,
    Cause::PermissionDenied,
    Cause::ReadOnlyFilesystem,
    Cause::FileNotFound,
    Cause::ExecFailed,
    Cause::PortInUse,
    Cause::FileLocked,
    Cause::ConnectionFailed,
    Cause::DnsFailed,
    Cause::IdentityUnavailable,
    Cause::ProbeFailed,
    Cause::InvalidArguments,
    Cause::InvalidConfiguration,
    Cause::InvalidEnvironment,
    Cause::ProgramError,
    Cause::DiskFull,
    Cause::ResourceLimit,
    Cause::SeccompDenied,
    Cause::Killed,
    Cause::Completed,
    Cause::ImagePullFailed,
    Cause::ContainerConfigError,
    Cause::ContainerCreateError,
    Cause::Evicted,
    Cause::Preempted,
    Cause::NodeShutdown,
];

#[test]
fn json_has_original_names_defaults_and_enums_by_name() {
    let mut crash = evidence_to_crash(&Evidence {
        exit: Some(Exit::default()),
        oom: full().oom,
        observed_at: UnixNanos(1_795_353_365_000_000_000),
        ..Evidence::default()
    });
    crash.diagnosis = Some(diagnosis_to_wire(
        &Diagnosis { cause: Cause::Completed, confidence: Confidence::High, ..Diagnosis::default() },
        1,
    ));
    let json = to_json("Crash", &crash).expect("a crash has JSON");
    assert_eq!(json["exit"]["code"], 0, "a default value is there");
    assert_eq!(json["exit"]["signal_name"], "");
    assert_eq!(json["diagnosis"]["cause"], "CAUSE_COMPLETED");
    assert_eq!(json["diagnosis"]["confidence"], "CONFIDENCE_HIGH");
    assert_eq!(json["oom"][0]["scope"], "POD");
    assert_eq!(json["oom"][0]["anon_rss_bytes"], "3", "64-bit integers are strings");
    assert_eq!(json["container_survived"], false);
    assert_eq!(json["failures"], serde_json::json!([]));
    assert_eq!(json["observed_at"], "2026-11-22T13:16:05Z");
    assert!(json.get("containerSurvived").is_none());
    assert!(to_json("NoSuchMessage", &crash).is_err());
}
