//! Messages → evidence. Whatever arrives is taken: an unknown enum value is "unknown", an absent message is an empty one.

use lastwords_diagnosis::evidence::{
    ChildExit, Container, Evidence, Exec, Exit, KilledBy, LogTail, Losses, MemorySample, OomKill, OomScope,
    Process, SenderKind, Signal, UnixNanos,
};
use prost_types::Timestamp;

use crate::v1;

/// Nanoseconds in a second.
const NANOS: i64 = 1_000_000_000;

/// The evidence that a crash carries. What the aggregator added (`id`, `pod_state`, `diagnosis`) is no evidence, and the names of
/// errors and signals follow from their numbers.
pub fn crash_to_evidence(crash: &v1::Crash) -> Evidence {
    let v1::Crash {
        id: _,
        node,
        observed_at,
        container: died,
        process: main,
        exit: end,
        container_survived,
        timed_out,
        oom,
        failures,
        signals,
        execs,
        child_exits,
        memory,
        log_tail: tail,
        pod_state: _,
        diagnosis: _,
        losses: lost,
        agent_version,
        listeners,
        fault,
        blocked,
        opened_files,
        log_files,
        cluster: _,
        pod_unconfirmed: _,
    } = crash;
    Evidence {
        node: node.clone(),
        agent_version: agent_version.clone(),
        observed_at: time(observed_at.as_ref()),
        container: died.as_ref().map(container).unwrap_or_default(),
        process: main.as_ref().map(process),
        exit: end.as_ref().map(exit),
        container_survived: *container_survived,
        timed_out: *timed_out,
        oom: oom.iter().map(oom_kill).collect(),
        failures: failures.iter().map(Into::into).collect(),
        signals: signals.iter().map(signal).collect(),
        execs: execs.iter().map(exec).collect(),
        child_exits: child_exits.iter().map(child_exit).collect(),
        memory: memory.iter().map(memory_sample).collect(),
        log_tail: tail.as_ref().map(log_tail),
        listeners: listeners.iter().map(Into::into).collect(),
        fault: fault.as_ref().map(Into::into),
        blocked: blocked.as_ref().map(Into::into),
        opened_files: opened_files.iter().map(Into::into).collect(),
        log_files: log_files.iter().map(log_tail).collect(),
        losses: lost.as_ref().map(losses).unwrap_or_default(),
    }
}

fn time(timestamp: Option<&Timestamp>) -> UnixNanos {
    UnixNanos(timestamp.map_or(0, |timestamp| {
        timestamp.seconds.saturating_mul(NANOS).saturating_add(i64::from(timestamp.nanos))
    }))
}

fn container(container: &v1::Container) -> Container {
    let v1::Container { runtime, id, pod_uid, pod_name, namespace, name, image, restart_count, cgroup_path } =
        container;
    Container {
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

fn process(process: &v1::Process) -> Process {
    let v1::Process {
        pid,
        comm,
        args,
        exe,
        uid,
        gid,
        cwd,
        started_at,
        exited_at,
        args_truncated,
        namespace_init,
        environment_names,
        unknown_options,
    } = process;
    Process {
        pid: *pid,
        comm: comm.clone(),
        args: args.clone(),
        args_truncated: *args_truncated,
        exe: exe.clone(),
        uid: *uid,
        gid: *gid,
        cwd: cwd.clone(),
        started_at: time(started_at.as_ref()),
        exited_at: time(exited_at.as_ref()),
        namespace_init: *namespace_init,
        environment_names: environment_names.clone(),
        unknown_options: unknown_options.clone(),
    }
}

fn exit(exit: &v1::Exit) -> Exit {
    let v1::Exit { code, signal, signal_name: _, core_dumped, killed_by: killer, tid } = exit;
    Exit {
        code: *code,
        signal: *signal,
        core_dumped: *core_dumped,
        killed_by: killer.as_ref().map(killed_by),
        tid: *tid,
    }
}

fn killed_by(sender: &v1::KilledBy) -> KilledBy {
    let v1::KilledBy { kind: _, pid, comm } = sender;
    let kind = match sender.kind() {
        v1::killed_by::Kind::Unspecified => SenderKind::Unknown,
        v1::killed_by::Kind::Kernel => SenderKind::Kernel,
        v1::killed_by::Kind::OomKiller => SenderKind::OomKiller,
        v1::killed_by::Kind::Runtime => SenderKind::Runtime,
        v1::killed_by::Kind::SameContainer => SenderKind::SameContainer,
        v1::killed_by::Kind::Other => SenderKind::Other,
    };
    KilledBy { kind, pid: *pid, comm: comm.clone() }
}

fn oom_kill(oom: &v1::OomKill) -> OomKill {
    let v1::OomKill {
        victim_pid,
        victim_comm,
        total_vm_bytes,
        anon_rss_bytes,
        file_rss_bytes,
        shmem_rss_bytes,
        page_tables_bytes,
        scope: _,
        limit_bytes,
        usage_bytes,
        allocating_pid,
        allocating_comm,
        group_kill,
        time: chosen_at,
        oom_score_adj,
        victim_is_main,
        limit_confirmed,
    } = oom;
    let scope = match oom.scope() {
        v1::oom_kill::Scope::Unspecified => OomScope::Unknown,
        v1::oom_kill::Scope::Container => OomScope::Container,
        v1::oom_kill::Scope::Pod => OomScope::Pod,
        v1::oom_kill::Scope::Node => OomScope::Node,
    };
    OomKill {
        victim_pid: *victim_pid,
        victim_comm: victim_comm.clone(),
        victim_is_main: *victim_is_main,
        total_vm_bytes: *total_vm_bytes,
        anon_rss_bytes: *anon_rss_bytes,
        file_rss_bytes: *file_rss_bytes,
        shmem_rss_bytes: *shmem_rss_bytes,
        page_tables_bytes: *page_tables_bytes,
        oom_score_adj: *oom_score_adj,
        scope,
        limit_bytes: *limit_bytes,
        usage_bytes: *usage_bytes,
        allocating_pid: *allocating_pid,
        allocating_comm: allocating_comm.clone(),
        group_kill: *group_kill,
        limit_confirmed: *limit_confirmed,
        time: time(chosen_at.as_ref()),
    }
}

fn signal(signal: &v1::Signal) -> Signal {
    let v1::Signal {
        signal: number,
        signal_name: _,
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
    Signal {
        signal: *number,
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

fn exec(exec: &v1::Exec) -> Exec {
    let v1::Exec { path, args, time: executed_at } = exec;
    Exec { path: path.clone(), args: args.clone(), time: time(executed_at.as_ref()) }
}

fn child_exit(child: &v1::ChildExit) -> ChildExit {
    let v1::ChildExit { pid, comm, code, signal, before_death_ms, detached, parent_wrote, parent_pid } =
        child;
    ChildExit {
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

fn memory_sample(sample: &v1::MemorySample) -> MemorySample {
    let v1::MemorySample { time: taken_at, bytes } = sample;
    MemorySample { time: time(taken_at.as_ref()), bytes: *bytes }
}

fn log_tail(tail: &v1::LogTail) -> LogTail {
    let v1::LogTail { lines, bytes, source } = tail;
    LogTail { lines: lines.clone(), bytes: *bytes, source: source.clone() }
}

fn losses(losses: &v1::Losses) -> Losses {
    let v1::Losses {
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
    Losses {
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
