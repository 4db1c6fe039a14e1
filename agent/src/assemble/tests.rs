mod connections;
mod locks;
mod options;
mod parents;
mod waited;

use lastwords_agent_common::rules::object;
use lastwords_diagnosis::evidence::{OomScope, Process, SenderKind};

use lastwords_diagnosis::evidence::Seccomp;

use super::*;
use crate::decode::{self, Failure, MemoryLevel, Object, Place, Signal};

const MAIN: u32 = 100;
const GROUP: u64 = 42;
const POD: &str = "835d2b9d-605e-4925-9a48-f9e7424bc518";

fn id() -> String {
    "3f".repeat(32)
}

fn executed() -> Executed {
    Executed {
        tgid: MAIN,
        uid: 4242,
        gid: 4242,
        namespace_init: true,
        first: true,
        compat: false,
        comm: b"cat".to_vec(),
        filename: b"/bin/cat".to_vec(),
        arguments: vec![b"cat".to_vec(), b"--password=hunter2".to_vec(), b"secret.txt".to_vec()],
        arguments_truncated: false,
        cwd: Some(b"/app".to_vec()),
    }
}

fn exited(status: Status) -> Exited {
    Exited {
        tgid: MAIN,
        first_tid: MAIN,
        waited: None,
        writes: None,
        status,
        uid: 4242,
        gid: 4242,
        processes: None,
        open_files: Some(64),
        comm: b"cat".to_vec(),
        cwd: Some(b"/app".to_vec()),
    }
}

pub(crate) fn death(status: Status) -> Death {
    let path = format!("/kubepods/burstable/pod{POD}/{}", id());
    Death {
        container: ContainerRef::from_cgroup_path(&path).unwrap(),
        cgroup_id: GROUP,
        adopted: false,
        execs: vec![(1_000_000, executed())],
        end: End::Exited(exited(status)),
        time: 3_000_000,
        oom: Vec::new(),
        memory: Vec::new(),
        ports: Vec::new(),
        early_listeners: Vec::new(),
        callers: Vec::new(),
        recording: Some(Recording::default()),
        looked: Looked::default(),
        symbols: Vec::new(),
        ring_records_dropped: 0,
    }
}

fn failure(time: u64, path: &[u8]) -> Failure {
    Failure {
        time,
        tgid: MAIN,
        tid: MAIN,
        uid: 4242,
        gid: 4242,
        syscall: 257,
        errno: 13,
        arguments: [0; 3],
        comm: b"cat".to_vec(),
        object: Object::Path { path: path.to_vec(), directory: nix::libc::AT_FDCWD, truncated: false },
        late: false,
        unanswered: false,
        transport: None,
        lost: false,
        directory: None,
        capabilities: 0,
        refused_capability: None,
        waited: None,
        seccomp: Seccomp::Unknown,
    }
}

fn signal(number: i32, code: i32, sender_cgroup: u64, sender: &[u8]) -> Signal {
    Signal {
        time: 2_500_000,
        signal: number,
        code,
        result: 0,
        sender_tgid: 7,
        sender_cgroup,
        sender_container: None,
        sender_comm: sender.to_vec(),
        sender_parent_comm: b"bash".to_vec(),
        target_tgid: MAIN,
        target_comm: b"cat".to_vec(),
        address: 0,
        target_tid: MAIN,
        place_number: 0,
        place: None,
    }
}

fn evidence(death: &Death) -> Evidence {
    let redactor = Redactor::default();
    let node = Node {
        name: "node1",
        page_bytes: 4096,
        redactor: &redactor,
        clock: ClockOffsets::measure(),
        agent_pid: 1,
    };
    assemble(death, &node)
}

#[test]
fn the_thread_that_aborted_began_the_end_whichever_left_first() {
    const WORKER: u32 = MAIN + 3;
    let place = Place { tid: WORKER, comm: b"worker".to_vec(), frames: Vec::new() };
    let raised = Signal {
        sender_tgid: MAIN,
        target_tid: WORKER,
        place_number: 1,
        place: Some(place),
        ..signal(nix::libc::SIGABRT, -6, GROUP, b"worker")
    };
    let told = |status: Status| {
        let mut death = death(status);
        let failures = vec![failure(2_400_000, b"/a"), Failure { tid: WORKER, ..failure(2_400_001, b"/b") }];
        death.recording = Some(Recording { signals: vec![raised.clone()], failures, ..Recording::default() });
        tell_thread(&mut death);
        evidence(&death).failures.iter().map(|failure| failure.by_dying_thread).collect::<Vec<_>>()
    };
    assert_eq!(told(Status { signal: nix::libc::SIGABRT, ..Status::default() }), [false, true]);
    assert_eq!(told(Status { code: 1, ..Status::default() }), [true, false], "it went on after that");
}

fn with_failures(failures: Vec<Failure>) -> Evidence {
    let mut death = death(Status { code: 1, ..Status::default() });
    death.recording = Some(Recording { failures, ..Recording::default() });
    evidence(&death)
}

fn killed_by(
    signals: Vec<Signal>,
    oom: Vec<(u64, OomVictim)>,
) -> Option<lastwords_diagnosis::evidence::KilledBy> {
    let mut death = death(Status { signal: 9, ..Status::default() });
    death.recording = Some(Recording { signals, ..Recording::default() });
    death.oom = oom;
    evidence(&death).exit.unwrap().killed_by
}

#[test]
fn arguments_are_redacted_and_times_are_kept() {
    let evidence = with_failures(Vec::new());
    let process = evidence.process.unwrap();
    assert_eq!(process.args, ["cat", "--password=<redacted>", "secret.txt"]);
    assert_eq!(process.exited_at.0 - process.started_at.0, 2_000_000);
    assert_eq!(evidence.container.pod_uid, POD);
}

#[test]
fn repeats_are_one_failure_with_a_count() {
    let failures = vec![failure(1_500_000, b"/k"), failure(2_000_000, b"/other"), failure(2_900_000, b"/k")];
    let failures = with_failures(failures).failures;
    let shown: Vec<_> = failures.iter().map(|it| (it.path.as_str(), it.count)).collect();
    assert_eq!(shown, [("/other", 1), ("/k", 2)], "ordered by their last occurrence");
    assert!((failures[1].first_before_death_ms - 1.5).abs() < 1e-9);
    assert!((failures[1].last_before_death_ms - 0.1).abs() < 1e-9);
    assert!(failures[1].by_dying_thread);
}

#[test]
fn what_failed_before_the_program_or_after_the_end_is_left_out() {
    let failures = vec![failure(900_000, b"/setup"), failure(2_000_000, b"/k"), failure(3_000_001, b"/late")];
    let paths: Vec<_> = with_failures(failures).failures.into_iter().map(|it| it.path).collect();
    assert_eq!(paths, ["/k"]);
}

#[test]
fn relative_paths_are_resolved_only_when_the_directory_is_sure() {
    let sure = with_failures(vec![failure(2_000_000, b"./secret.txt")]).failures.remove(0);
    assert_eq!((sure.path.as_str(), sure.path_unresolved), ("/app/secret.txt", false));

    let mut elsewhere = failure(2_000_000, b"secret.txt");
    elsewhere.tgid = MAIN + 1;
    let unsure = with_failures(vec![elsewhere]).failures.remove(0);
    assert_eq!((unsure.path.as_str(), unsure.path_unresolved), ("secret.txt", true));

    let mut moved = death(Status::default());
    moved.recording =
        Some(Recording { failures: vec![failure(2_000_000, b"secret.txt")], ..Recording::default() });
    if let End::Exited(exited) = &mut moved.end {
        exited.cwd = Some(b"/tmp".to_vec());
    }
    assert!(evidence(&moved).failures[0].path_unresolved, "it changed its directory at some time");
}

#[test]
fn hostile_names_cannot_leave_the_line() {
    let shown = with_failures(vec![failure(2_000_000, b"/a\x1b[2J\xff\nb")]).failures.remove(0).path;
    assert_eq!(shown, "/a\\x1b[2J\\xff\\x0ab");
}

#[test]
fn a_program_of_which_all_records_were_lost_ran_all_the_same() {
    let lost = |end| evidence(&Death { execs: Vec::new(), end, ..death(Status::default()) }).process;
    assert_eq!(lost(End::Unseen), Some(Process::default()));
    assert_eq!(lost(End::NeverRan), None);
}

#[test]
fn the_sender_of_the_fatal_signal_is_told_by_where_it_runs() {
    let kind = |signal| killed_by(vec![signal], Vec::new()).map(|it| it.kind);
    assert_eq!(kind(signal(9, 0, GROUP, b"sh")), Some(SenderKind::SameContainer));
    assert_eq!(kind(signal(9, 0, 1, b"runc")), Some(SenderKind::Runtime));
    assert_eq!(kind(signal(9, 0, 1, b"containerd-shim")), Some(SenderKind::Runtime));
    assert_eq!(kind(signal(9, 0, 1, b"stress")), Some(SenderKind::Other));
    // In a pod that shares its processes. The main process of every container is a shim's child.
    let of_a_shim =
        Signal { sender_parent_comm: b"containerd-shim".to_vec(), ..signal(9, 0, 1, b"reloader") };
    assert_eq!(kind(of_a_shim.clone()), Some(SenderKind::Runtime));
    let in_a_container = |container| Signal { sender_container: Some(container), ..of_a_shim.clone() };
    assert_eq!(kind(in_a_container(GROUP + 1)), Some(SenderKind::Other), "a sidecar");
    assert_eq!(kind(in_a_container(GROUP)), Some(SenderKind::SameContainer), "in a group that it made");
    assert_eq!(kind(signal(9, 128, GROUP, b"cat")), Some(SenderKind::Kernel));
    assert_eq!(kind(signal(15, 0, 1, b"stress")), None, "another signal did not end it");
    let mut ignored = signal(9, 0, 1, b"stress");
    ignored.result = 1;
    assert_eq!(kind(ignored), None);
}

#[test]
fn what_the_kernel_sends_after_the_end_is_no_evidence() {
    let mut death = death(Status { code: 9, ..Status::default() });
    let at_its_end = |result, target_tgid| Signal {
        time: 3_000_000,
        result,
        target_tgid,
        ..signal(9, 128, GROUP, b"cat")
    };
    let seen = |death: &Death| evidence(death).signals.len();
    let with = |signals| Some(Recording { signals, ..Recording::default() });
    death.recording = with(vec![at_its_end(1, MAIN), at_its_end(0, MAIN + 1)]);
    assert_eq!(seen(&death), 0, "its own last thread, and the others");
    death.recording = with(vec![at_its_end(0, MAIN)]);
    assert_eq!(seen(&death), 1, "one that reached it may have ended it");
    death.recording = with(vec![Signal { code: 0, ..at_its_end(1, MAIN) }]);
    assert_eq!(seen(&death), 1, "somebody else's is told");
}

fn victim(levels: Vec<MemoryLevel>) -> OomVictim {
    OomVictim {
        tgid: MAIN,
        comm: b"cat".to_vec(),
        is_main: true,
        oom_score_adj: 0,
        allocating_tgid: MAIN,
        allocating_comm: b"cat".to_vec(),
        total_vm_pages: 10_000,
        anon_pages: 5_000,
        file_pages: 1,
        shmem_pages: 0,
        page_tables_bytes: 8192,
        already_exiting: false,
        ends_by_sigkill: false,
        owner: None,
        levels,
    }
}

fn level(name: &str, usage_pages: u64, limit_pages: u64, oom_events: u64) -> MemoryLevel {
    // Told apart by their limits.
    let id = limit_pages;
    MemoryLevel { usage_pages, limit_pages, oom_events, oom_group: false, id, name: name.as_bytes().to_vec() }
}

fn oom_of(levels: Vec<MemoryLevel>) -> lastwords_diagnosis::evidence::OomKill {
    oom_with(None, levels)
}

fn oom_with(owner: Option<u64>, levels: Vec<MemoryLevel>) -> lastwords_diagnosis::evidence::OomKill {
    let mut death = death(Status { signal: 9, ..Status::default() });
    death.oom = vec![(2_400_000, OomVictim { owner, ..victim(levels) })];
    evidence(&death).oom.remove(0)
}

#[test]
fn the_kernels_own_account_confirms_or_wins() {
    let levels = || vec![level(&id(), 5120, 5120, 1), level(&format!("pod{POD}"), 10_240, 10_240, 1)];
    let told = |owner| {
        let oom = oom_with(owner, levels());
        (oom.scope, oom.limit_bytes, oom.limit_confirmed)
    };
    assert_eq!(told(None), (OomScope::Container, 20 << 20, false), "not seen");
    assert_eq!(told(Some(5120)), (OomScope::Container, 20 << 20, true));
    assert_eq!(
        told(Some(10_240)),
        (OomScope::Pod, 40 << 20, true),
        "both are full, and it knows whose turn it was"
    );
    assert_eq!(told(Some(0)), (OomScope::Node, 0, true), "the node's memory, beside a full group");
    assert_eq!(
        told(Some(77)),
        (OomScope::Container, 20 << 20, false),
        "a level above those that were walked"
    );
}

#[test]
fn the_memory_curve_ends_with_what_the_kernel_knew_at_the_kill() {
    let mut death = death(Status { signal: 9, ..Status::default() });
    let sample = |time, bytes| Sample { time, bytes };
    death.memory =
        vec![sample(500_000, 1), sample(1_000_000, 4096), sample(2_000_000, 8192), sample(3_500_000, 2)];
    let in_use = |death: &Death| evidence(death).memory.iter().map(|sample| sample.bytes).collect::<Vec<_>>();
    assert_eq!(in_use(&death), [4096, 8192], "neither the set-up's nor what was left behind");
    death.oom = vec![(2_400_000, victim(vec![level(&id(), 5120, 5120, 1)]))];
    assert_eq!(in_use(&death), [4096, 8192, 20 << 20]);
    death.memory.clear();
    assert!(in_use(&death).is_empty(), "it was not followed: one number is no curve");
}

#[test]
fn the_limit_is_the_lowest_full_level_that_was_out_of_memory() {
    const NONE: u64 = u64::MAX / 4096;
    let pod = format!("pod{POD}");
    let own = oom_of(vec![
        level(&id(), 5120, 5120, 1),
        level(&pod, 5200, 10_240, 0),
        level("kubepods", 9_000, NONE, 0),
    ]);
    assert_eq!((own.scope, own.limit_bytes), (OomScope::Container, 20 << 20));

    let pods = oom_of(vec![
        level(&id(), 5100, NONE, 0),
        level(&pod, 10_230, 10_240, 1),
        level("kubepods", 9_000, NONE, 0),
    ]);
    assert_eq!((pods.scope, pods.limit_bytes), (OomScope::Pod, 40 << 20));

    let same = oom_of(vec![level(&id(), 5100, 5120, 0), level(&pod, 5120, 5120, 1)]);
    assert_eq!(same.scope, OomScope::Container, "the pod's limit is this container's own");

    let above =
        oom_of(vec![level(&id(), 5100, NONE, 0), level(&pod, 5120, NONE, 0), level("kubepods", 100, 100, 3)]);
    assert_eq!((above.scope, above.limit_bytes), (OomScope::Node, 409_600));

    let node = oom_of(vec![level(&id(), 5100, NONE, 0), level(&pod, 5120, NONE, 4)]);
    assert_eq!(
        (node.scope, node.limit_bytes),
        (OomScope::Node, 0),
        "an old count at a level that is not full says nothing"
    );
}

#[test]
fn an_oom_kill_is_known_by_its_victim_and_not_by_the_bystander() {
    let kill = || signal(9, 128, GROUP, b"cat");
    let oom =
        |victim: OomVictim| killed_by(vec![kill()], vec![(2_499_000, victim)]).map(|it| (it.kind, it.pid));
    assert_eq!(oom(victim(Vec::new())), Some((SenderKind::OomKiller, 0)));
    let mut other = victim(Vec::new());
    other.tgid = 5;
    assert_eq!(oom(other), Some((SenderKind::Kernel, 0)));
    let mut marked = victim(Vec::new());
    marked.already_exiting = true;
    assert_eq!(oom(marked), Some((SenderKind::Kernel, 0)), "marked on its way out: not killed");
}

#[test]
fn the_limit_that_the_process_had_at_last_counts() {
    let mut death = death(Status { code: 1, ..Status::default() });
    let full = decode::Failure { errno: 24, ..failure(2_000_000, b"/etc/passwd") };
    let of_child = decode::Failure { tgid: 7, tid: 7, ..full.clone() };
    death.recording = Some(Recording { failures: vec![full, of_child], ..Recording::default() });
    death.looked.limits.open_files = Some(1024);
    let names: Vec<String> = evidence(&death).failures.into_iter().map(|failure| failure.name).collect();
    assert_eq!(names, ["RLIMIT_NOFILE 64", "RLIMIT_NOFILE 1024"], "a child's own are not known");
}

#[test]
fn a_container_without_a_recorder_says_so() {
    let mut death = death(Status::default());
    death.recording = None;
    death.adopted = true;
    let losses = evidence(&death).losses;
    assert!(losses.recorder_missing && losses.agent_started_later);
}

#[test]
fn a_set_up_that_failed_has_no_process() {
    let mut death = death(Status::default());
    death.execs.clear();
    death.end = End::NeverRan;
    death.recording = Some(Recording {
        failures: vec![failure(2_000_000, b"/no/such")],
        child_exits: vec![decode::ChildExit {
            time: 2_000_100,
            tgid: MAIN,
            comm: b"runc:[2:INIT]".to_vec(),
            status: Status { code: 1, ..Status::default() },
            detached: false,
            tid: 0,
            waited: None,
            parent: 0,
            writes: [None; 2],
        }],
        ..Recording::default()
    });
    let evidence = evidence(&death);
    assert_eq!((evidence.process, evidence.exit), (None, None));
    assert!(evidence.failures[0].by_dying_thread);
    assert_eq!(evidence.child_exits[0].code, 1);
}
