//! Evidence and diagnosis → messages.

use lastwords_diagnosis::evidence::{
    ChildExit, Container, Evidence, Exec, Exit, KilledBy, LogTail, Losses, MemorySample, OomKill, OomScope,
    Process, SenderKind, Signal, UnixNanos,
};
use lastwords_diagnosis::{Cause, Confidence, Diagnosis, EvidenceRef, signals};
use prost_types::Timestamp;

use crate::v1;

/// Nanoseconds in a second.
const NANOS: i64 = 1_000_000_000;

/// The crash that carries this evidence. What the aggregator adds (`id`, `pod_state`, `diagnosis`) is left empty; the names of
/// errors and signals are filled in from their numbers.
pub fn evidence_to_crash(evidence: &Evidence) -> v1::Crash {
    let Evidence {
        node,
        agent_version,
        observed_at,
        container: died,
        process: main,
        exit: end,
        container_survived,
        timed_out,
        oom,
        failures,
        signals: sent,
        execs,
        child_exits,
        memory,
        log_tail: tail,
        listeners,
        fault,
        blocked,
        opened_files,
        log_files,
        losses: lost,
    } = evidence;
    v1::Crash {
        id: String::new(),
        cluster: String::new(),
        pod_unconfirmed: false,
        node: node.clone(),
        observed_at: timestamp(*observed_at),
        container: Some(container(died)),
        process: main.as_ref().map(process),
        exit: end.as_ref().map(exit),
        container_survived: *container_survived,
        timed_out: *timed_out,
        oom: oom.iter().map(oom_kill).collect(),
        failures: failures.iter().map(Into::into).collect(),
        signals: sent.iter().map(signal).collect(),
        execs: execs.iter().map(exec).collect(),
        child_exits: child_exits.iter().map(child_exit).collect(),
        memory: memory.iter().map(memory_sample).collect(),
        log_tail: tail.as_ref().map(log_tail),
        pod_state: None,
        diagnosis: None,
        losses: Some(losses(lost)),
        agent_version: agent_version.clone(),
        listeners: listeners.iter().map(Into::into).collect(),
        fault: fault.as_ref().map(Into::into),
        blocked: blocked.as_ref().map(Into::into),
        opened_files: opened_files.iter().map(Into::into).collect(),
        log_files: log_files.iter().map(log_tail).collect(),
    }
}

/// The diagnosis as a message; `revision` is 1 for the first of a crash.
pub fn diagnosis_to_wire(diagnosis: &Diagnosis, revision: u32) -> v1::Diagnosis {
    let Diagnosis {
        cause: named,
        confidence: how_sure,
        summary,
        object,
        remedy,
        evidence,
        also_seen,
        planned,
    } = diagnosis;
    v1::Diagnosis {
        cause: cause(*named).into(),
        confidence: confidence(*how_sure).into(),
        summary: summary.clone(),
        object: object.clone(),
        remedy: remedy.clone(),
        evidence: evidence.iter().copied().map(evidence_ref).collect(),
        also_seen: also_seen.clone(),
        revision,
        planned: *planned,
    }
}

pub(super) fn timestamp(time: UnixNanos) -> Option<Timestamp> {
    let UnixNanos(nanos) = time;
    (nanos != 0).then(|| Timestamp {
        seconds: nanos.div_euclid(NANOS),
        nanos: i32::try_from(nanos.rem_euclid(NANOS)).unwrap_or(0),
    })
}

fn container(container: &Container) -> v1::Container {
    let Container { runtime, id, pod_uid, pod_name, namespace, name, image, restart_count, cgroup_path } =
        container;
    v1::Container {
        runtime: runtime.clone(),
        id: id.clone(),
        pod_uid: pod_uid.clone(),
        pod_name: pod_name.clone(),
        namespace: namespace.clone(),
        name: name.clone(),
        image: image.clone(),
        restart_count: *restart_count,
        cgroup_path: cgroup_path.clone(),
    }
}

fn process(process: &Process) -> v1::Process {
    let Process {
        pid,
        comm,
        args,
        args_truncated,
        exe,
        uid,
        gid,
        cwd,
        started_at,
        exited_at,
        namespace_init,
        environment_names,
        unknown_options,
    } = process;
    v1::Process {
        pid: *pid,
        comm: comm.clone(),
        args: args.clone(),
        exe: exe.clone(),
        uid: *uid,
        gid: *gid,
        cwd: cwd.clone(),
        started_at: timestamp(*started_at),
        exited_at: timestamp(*exited_at),
        args_truncated: *args_truncated,
        namespace_init: *namespace_init,
        environment_names: environment_names.clone(),
        unknown_options: unknown_options.clone(),
    }
}

fn exit(exit: &Exit) -> v1::Exit {
    let Exit { code, signal, core_dumped, killed_by: killer, tid } = exit;
    v1::Exit {
        code: *code,
        signal: *signal,
        signal_name: signals::name(*signal),
        core_dumped: *core_dumped,
        killed_by: killer.as_ref().map(killed_by),
        tid: *tid,
    }
}

fn killed_by(sender: &KilledBy) -> v1::KilledBy {
    let KilledBy { kind, pid, comm } = sender;
    let kind = match kind {
        SenderKind::Unknown => v1::killed_by::Kind::Unspecified,
        SenderKind::Kernel => v1::killed_by::Kind::Kernel,
        SenderKind::OomKiller => v1::killed_by::Kind::OomKiller,
        SenderKind::Runtime => v1::killed_by::Kind::Runtime,
        SenderKind::SameContainer => v1::killed_by::Kind::SameContainer,
        SenderKind::Other => v1::killed_by::Kind::Other,
    };
    v1::KilledBy { kind: kind.into(), pid: *pid, comm: comm.clone() }
}

fn oom_kill(oom: &OomKill) -> v1::OomKill {
    let OomKill {
        victim_pid,
        victim_comm,
        victim_is_main,
        total_vm_bytes,
        anon_rss_bytes,
        file_rss_bytes,
        shmem_rss_bytes,
        page_tables_bytes,
        oom_score_adj,
        scope,
        limit_bytes,
        usage_bytes,
        allocating_pid,
        allocating_comm,
        group_kill,
        limit_confirmed,
        time,
    } = oom;
    let scope = match scope {
        OomScope::Unknown => v1::oom_kill::Scope::Unspecified,
        OomScope::Container => v1::oom_kill::Scope::Container,
        OomScope::Pod => v1::oom_kill::Scope::Pod,
        OomScope::Node => v1::oom_kill::Scope::Node,
    };
    v1::OomKill {
        victim_pid: *victim_pid,
        victim_comm: victim_comm.clone(),
        total_vm_bytes: *total_vm_bytes,
        anon_rss_bytes: *anon_rss_bytes,
        file_rss_bytes: *file_rss_bytes,
        shmem_rss_bytes: *shmem_rss_bytes,
        page_tables_bytes: *page_tables_bytes,
        scope: scope.into(),
        limit_bytes: *limit_bytes,
        usage_bytes: *usage_bytes,
        allocating_pid: *allocating_pid,
        allocating_comm: allocating_comm.clone(),
        group_kill: *group_kill,
        time: timestamp(*time),
        oom_score_adj: *oom_score_adj,
        victim_is_main: *victim_is_main,
        limit_confirmed: *limit_confirmed,
    }
}

fn signal(signal: &Signal) -> v1::Signal {
    let Signal {
        signal: number,
        code,
        sender,
        target_pid,
        target_comm,
        to_main,
        delivered,
        before_death_ms,
        fault_address,
        syscall,
    } = signal;
    v1::Signal {
        signal: *number,
        signal_name: signals::name(*number),
        code: *code,
        sender: sender.as_ref().map(killed_by),
        target_pid: *target_pid,
        target_comm: target_comm.clone(),
        to_main: *to_main,
        delivered: *delivered,
        before_death_ms: *before_death_ms,
        fault_address: *fault_address,
        syscall: syscall.clone(),
    }
}

fn exec(exec: &Exec) -> v1::Exec {
    let Exec { path, args, time } = exec;
    v1::Exec { path: path.clone(), args: args.clone(), time: timestamp(*time) }
}

fn child_exit(child: &ChildExit) -> v1::ChildExit {
    let ChildExit { pid, comm, code, signal, before_death_ms, detached, parent_wrote, parent_pid } = child;
    v1::ChildExit {
        pid: *pid,
        comm: comm.clone(),
        code: *code,
        signal: *signal,
        before_death_ms: *before_death_ms,
        detached: *detached,
        parent_wrote: *parent_wrote,
        parent_pid: *parent_pid,
    }
}

fn memory_sample(sample: &MemorySample) -> v1::MemorySample {
    let MemorySample { time, bytes } = sample;
    v1::MemorySample { time: timestamp(*time), bytes: *bytes }
}

fn log_tail(tail: &LogTail) -> v1::LogTail {
    let LogTail { lines, bytes, source } = tail;
    v1::LogTail { lines: lines.clone(), bytes: *bytes, source: source.clone() }
}

fn losses(losses: &Losses) -> v1::Losses {
    let Losses {
        failures_overwritten,
        signals_overwritten,
        torn_entries,
        ring_records_dropped,
        recorder_missing,
        agent_started_later,
        unreadable,
        io_uring_used,
        compat_calls_failed,
        opened_files_overwritten,
    } = losses;
    v1::Losses {
        failures_overwritten: *failures_overwritten,
        signals_overwritten: *signals_overwritten,
        torn_entries: *torn_entries,
        ring_records_dropped: *ring_records_dropped,
        recorder_missing: *recorder_missing,
        agent_started_later: *agent_started_later,
        unreadable: unreadable.clone(),
        io_uring_used: *io_uring_used,
        compat_calls_failed: *compat_calls_failed,
        opened_files_overwritten: *opened_files_overwritten,
    }
}

fn evidence_ref(reference: EvidenceRef) -> v1::EvidenceRef {
    let (field, index) = match reference {
        EvidenceRef::Exit => ("exit", 0),
        EvidenceRef::Oom(index) => ("oom", index),
        EvidenceRef::Failure(index) => ("failures", index),
        EvidenceRef::Signal(index) => ("signals", index),
        EvidenceRef::ChildExit(index) => ("child_exits", index),
        EvidenceRef::Exec(index) => ("execs", index),
        EvidenceRef::Fault => ("fault", 0),
        EvidenceRef::Blocked => ("blocked", 0),
        EvidenceRef::OpenedFile(index) => ("opened_files", index),
        EvidenceRef::Listener(index) => ("listeners", index),
        EvidenceRef::LogTail => ("log_tail", 0),
        EvidenceRef::LogFile(index) => ("log_files", index),
        EvidenceRef::ProbeEvent(index) => ("probe_events", index),
        EvidenceRef::Change(index) => ("changed_since_last_good", index),
    };
    v1::EvidenceRef { field: field.to_owned(), index: u32::try_from(index).unwrap_or(u32::MAX) }
}

fn confidence(confidence: Confidence) -> v1::Confidence {
    match confidence {
        Confidence::Low => v1::Confidence::Low,
        Confidence::Medium => v1::Confidence::Medium,
        Confidence::High => v1::Confidence::High,
    }
}

/// The wire's number of a cause.
pub fn cause(cause: Cause) -> v1::Cause {
    match cause {
        Cause::Unknown => v1::Cause::Unknown,
        Cause::OutOfMemory => v1::Cause::OutOfMemory,
        Cause::PermissionDenied => v1::Cause::PermissionDenied,
        Cause::ReadOnlyFilesystem => v1::Cause::ReadOnlyFilesystem,
        Cause::FileNotFound => v1::Cause::FileNotFound,
        Cause::ExecFailed => v1::Cause::ExecFailed,
        Cause::PortInUse => v1::Cause::PortInUse,
        Cause::FileLocked => v1::Cause::FileLocked,
        Cause::ConnectionFailed => v1::Cause::ConnectionFailed,
        Cause::DnsFailed => v1::Cause::DnsFailed,
        Cause::IdentityUnavailable => v1::Cause::IdentityUnavailable,
        Cause::ProbeFailed => v1::Cause::ProbeFailed,
        Cause::InvalidArguments => v1::Cause::InvalidArguments,
        Cause::InvalidConfiguration => v1::Cause::InvalidConfiguration,
        Cause::InvalidEnvironment => v1::Cause::InvalidEnvironment,
        Cause::ProgramError => v1::Cause::ProgramError,
        Cause::DiskFull => v1::Cause::DiskFull,
        Cause::ResourceLimit => v1::Cause::ResourceLimit,
        Cause::SeccompDenied => v1::Cause::SeccompDenied,
        Cause::Killed => v1::Cause::Killed,
        Cause::Completed => v1::Cause::Completed,
        Cause::ImagePullFailed => v1::Cause::ImagePullFailed,
        Cause::ContainerConfigError => v1::Cause::ContainerConfigError,
        Cause::ContainerCreateError => v1::Cause::ContainerCreateError,
        Cause::Evicted => v1::Cause::Evicted,
        Cause::Preempted => v1::Cause::Preempted,
        Cause::NodeShutdown => v1::Cause::NodeShutdown,
    }
}
