//! What was recorded of a death → evidence. Pure: the node's facts come in as values, time as an argument.
//!
//! Here text from containers is escaped and arguments are redacted; nothing after this point sees the raw bytes.

mod dns;
mod failures;
mod fault;
mod listeners;
mod locks;
mod netlink;
mod oom;
mod opened;
mod options;
mod signals;

pub(crate) use failures::{against, missed};

use lastwords_diagnosis::evidence::{ChildExit, Container, Evidence, Exec, Exit, Losses, Process, UnixNanos};

pub use fault::{decisive, query, tell_thread};
pub use opened::logs as written_logs;
pub use options::options_query;

use crate::{
    clock::ClockOffsets,
    container::ContainerRef,
    decode::{Executed, Exited, Listener, OomVictim, Recording, Status},
    enrich::symbols::Named,
    escape::escape,
    looked::{Looked, PortFacts},
    memory::Sample,
    redact::Redactor,
};

/// Longest text made of a path, an argument or a name, in bytes: four for each byte the kernel side keeps.
const TEXT_BYTES: usize = 4 * 512;

/// All that was recorded of one death, or of an OOM kill that the container survived.
#[derive(Debug, Clone)]
pub struct Death {
    /// Which container.
    pub container: ContainerRef,
    /// Its group.
    pub cgroup_id: u64,
    /// It ran before the agent did.
    pub adopted: bool,
    /// Programs its main process executed, oldest first, with their times (CLOCK_MONOTONIC).
    pub execs: Vec<(u64, Executed)>,
    /// How it came to this.
    pub end: End,
    /// When, CLOCK_MONOTONIC.
    pub time: u64,
    /// OOM kills in it, oldest first, with their times.
    pub oom: Vec<(u64, OomVictim)>,
    /// What it used in the time before, oldest first; empty when it had no limit.
    pub memory: Vec<Sample>,
    /// Who held the addresses that it could not have, as far as that was told at once.
    pub ports: Vec<PortFacts>,
    /// What it listened on when the agent came.
    pub early_listeners: Vec<Listener>,
    /// Who made the refused calls that were told at once.
    pub callers: Vec<Caller>,
    /// Its flight recorder; None when it had none.
    pub recording: Option<Recording>,
    /// What was seen of it while it lived.
    pub looked: Looked,
    /// Names for the frames of [`decisive`]'s place, as far as there are any.
    pub symbols: Vec<Option<Named>>,
    /// Life-cycle records that the whole node lost since the crash before this one.
    pub ring_records_dropped: u64,
}

/// Who made a call that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// When the failure was recorded, CLOCK_MONOTONIC.
    pub failed_at: u64,
    /// The thread.
    pub tid: u32,
    /// Its supplementary groups.
    pub groups: Vec<u32>,
}

/// How a run of a container came to be reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Its main process ended.
    Exited(Exited),
    /// It was removed without having executed a program.
    NeverRan,
    /// It lives on, something in it was killed.
    Survived,
    /// It lives on, and nothing happened: no death, but what has failed in it until now.
    RunsWell,
    /// It is gone, and the record of its end was lost with a full ring buffer.
    Unseen,
}

/// What the node knows that is the same for every death.
pub struct Node<'a> {
    /// As Kubernetes names it.
    pub name: &'a str,
    /// Bytes of a page of memory.
    pub page_bytes: u64,
    /// What may be shown of arguments.
    pub redactor: &'a Redactor,
    /// The kernel's clocks against the wall clock.
    pub clock: ClockOffsets,
    /// This agent: what it sends to a container of its own it sends as a runtime.
    pub agent_pid: u32,
}

/// Makes the evidence. The log tail and the pod's names are added by `enrich`.
#[must_use]
pub fn assemble(death: &Death, node: &Node<'_>) -> Evidence {
    let recording = death.recording.clone().unwrap_or_default();
    let mut failures = failures::folded(death, &recording);
    let limits = &death.looked.limits;
    if let End::Exited(exited) = &death.end {
        limits.at_end_of(exited).name(failures.iter_mut().filter(|failure| failure.pid == exited.tgid));
    }
    limits.name(failures.iter_mut());
    let opened_files = opened::files(death, &recording);
    opened::mark_succeeded(&mut failures, &opened_files);
    failures.extend(netlink::refused(death, &recording));
    failures.extend(dns::failures(death, &recording));
    // Behind that: to open a file is not to have its lock.
    failures.extend(locks::failures(death, &recording));
    // Stable: what came in order stays so.
    failures.sort_by(|one, other| other.last_before_death_ms.total_cmp(&one.last_before_death_ms));
    let oom = oom::kills(death, node);
    let exit = match &death.end {
        End::Exited(exited) => Some(Exit {
            code: exited.status.code,
            signal: exited.status.signal,
            core_dumped: exited.status.core_dumped,
            killed_by: signals::killed_by(death, node, &recording, exited),
            tid: exited.first_tid,
        }),
        End::NeverRan | End::Survived | End::RunsWell | End::Unseen => None,
    };
    let mut evidence = Evidence {
        node: node.name.to_owned(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        observed_at: node.clock.from_monotonic(death.time),
        container: Container {
            runtime: death.container.runtime.to_owned(),
            id: death.container.id.clone(),
            pod_uid: death.container.pod_uid.clone(),
            cgroup_path: text(death.container.cgroup_path.as_bytes()),
            ..Container::default()
        },
        process: process(death, node),
        exit,
        container_survived: death.end == End::Survived,
        timed_out: false,
        oom,
        memory: oom::curve(death, node),
        failures,
        signals: signals::list(death, node, &recording),
        execs: execs(death, node),
        child_exits: child_exits(death, &recording),
        listeners: listeners::list(death, &recording),
        fault: fault::fault(death, node, &recording),
        opened_files,
        blocked: locks::blocked(death, &recording),
        losses: Losses {
            failures_overwritten: recording.failures_overwritten,
            signals_overwritten: recording.signals_overwritten,
            torn_entries: recording.torn,
            compat_calls_failed: recording.compat_calls_failed,
            opened_files_overwritten: recording.opened_overwritten,
            ring_records_dropped: death.ring_records_dropped,
            recorder_missing: death.recording.is_none(),
            agent_started_later: death.adopted,
            io_uring_used: recording.io_urings > 0,
            unreadable: compat_programs(death)
                .into_iter()
                .chain(listeners::lost(&recording))
                .chain(fault::lost(death))
                .collect(),
        },
        ..Evidence::default()
    };
    death.looked.environment.name(&mut evidence);
    evidence
}

fn process(death: &Death, node: &Node<'_>) -> Option<Process> {
    let last = death.execs.last().map(|(_, executed)| executed);
    let exited = match &death.end {
        End::Exited(exited) => Some(exited),
        End::NeverRan | End::Survived | End::RunsWell | End::Unseen => None,
    };
    let (tgid, uid, gid, comm) = match (exited, last) {
        (Some(exited), _) => (exited.tgid, exited.uid, exited.gid, &exited.comm),
        (None, Some(executed)) => (executed.tgid, executed.uid, executed.gid, &executed.comm),
        // There was one, and all records of it were lost.
        (None, None) if death.end == End::Unseen => return Some(Process::default()),
        (None, None) => return None,
    };
    let cwd =
        exited.and_then(|exited| exited.cwd.as_ref()).or(last.and_then(|executed| executed.cwd.as_ref()));
    Some(Process {
        pid: tgid,
        comm: text(comm),
        args: last.map(|executed| arguments(executed, node)).unwrap_or_default(),
        args_truncated: last.is_some_and(|executed| executed.arguments_truncated),
        exe: last.map(executable).unwrap_or_default(),
        uid,
        gid,
        cwd: cwd.map(|cwd| text(cwd)).unwrap_or_default(),
        started_at: death.execs.first().map_or(UnixNanos(0), |(time, _)| node.clock.from_monotonic(*time)),
        exited_at: if exited.is_some() { node.clock.from_monotonic(death.time) } else { UnixNanos(0) },
        namespace_init: last.is_some_and(|executed| executed.namespace_init),
        environment_names: Vec::new(),
        unknown_options: death.looked.unknown_options.clone(),
    })
}

/// 32-bit programs number their calls in another way.
fn compat_programs(death: &Death) -> Vec<String> {
    let compat = death.execs.iter().filter(|(_, executed)| executed.compat);
    compat
        .map(|(_, executed)| {
            format!("failed calls: {} is a 32-bit program, its calls are not decoded", executable(executed))
        })
        .collect()
}

fn execs(death: &Death, node: &Node<'_>) -> Vec<Exec> {
    let exec = |(time, executed): &(u64, Executed)| Exec {
        path: executable(executed),
        args: arguments(executed, node),
        time: node.clock.from_monotonic(*time),
    };
    death.execs.iter().map(exec).collect()
}

fn executable(executed: &Executed) -> String {
    text(
        &failures::against(&executed.filename, executed.cwd.as_deref())
            .unwrap_or_else(|| executed.filename.clone()),
    )
}

fn arguments(executed: &Executed, node: &Node<'_>) -> Vec<String> {
    let shown: Vec<String> = executed.arguments.iter().map(|argument| text(argument)).collect();
    node.redactor.arguments(&shown)
}

fn child_exits(death: &Death, recording: &Recording) -> Vec<ChildExit> {
    let before = recording.child_exits.iter().filter(|child| is_of_run(death, child.time));
    before
        .map(|child| {
            let Status { code, signal, .. } = child.status;
            let before_death_ms = milliseconds_before(death.time, child.time);
            let comm = text(&child.comm);
            ChildExit {
                pid: child.tgid,
                comm,
                code,
                signal,
                before_death_ms,
                detached: child.detached,
                parent_pid: child.parent,
                parent_wrote: parent_wrote(death, recording, child),
            }
        })
        .collect()
}

/// How often the parent of this child wrote from the child's end to its own; None when that is not known.
fn parent_wrote(death: &Death, recording: &Recording, child: &crate::decode::ChildExit) -> Option<u64> {
    let main = match &death.end {
        End::Exited(exited) if exited.tgid == child.parent => exited.writes,
        _ => None,
    };
    let mut later = recording.child_exits.iter().filter(|parent| parent.time >= child.time);
    let in_all = main.or_else(|| later.find(|parent| parent.tgid == child.parent)?.writes[0])?;
    Some(in_all.saturating_sub(child.writes[1]?))
}

/// What a container chose, as text that is safe to show.
fn text(bytes: &[u8]) -> String {
    escape(bytes, TEXT_BYTES)
}

/// Whether something happened in the run itself. Before the first program it is the runtime's set-up that fails at this and that,
/// and what the kernel does to the others once the main process is gone is collateral.
fn is_of_run(death: &Death, time: u64) -> bool {
    let started = death.execs.first().is_none_or(|(first, _)| time >= *first);
    let ended = matches!(death.end, End::Exited(_)) && time > death.time;
    started && !ended
}

#[expect(clippy::cast_precision_loss, reason = "a nanosecond more or less in 2^53 does not matter")]
fn milliseconds_before(end: u64, time: u64) -> f64 {
    end.saturating_sub(time) as f64 / 1e6
}

#[cfg(test)]
pub(crate) mod tests;
