//! Killed by the kernel for want of memory: the main process itself, or a child whose death took it along.

use crate::case::Case;
use crate::evidence::{OomKill, OomScope, SenderKind};
use crate::rules::Finding;
use crate::verdict::{Cause, Confidence, EvidenceRef};
use crate::{memory, quantity, signals, words};

/// The main process's end counts as shown to follow from a child's OOM kill up to here (milliseconds).
const AT_ONCE_MS: f64 = 500.0;
/// Beyond this (milliseconds) the main process has gone on with other work.
const OVERCOME_MS: f64 = 1_000.0;
/// Beyond this (milliseconds) a child's OOM kill is no longer offered as the reason for the main process's end.
const RELATED_MS: f64 = 60_000.0;
/// What shells and supervisors exit with when a child was killed: 128 + SIGKILL.
const CODE_OF_SIGKILL: i32 = 137;

/// The main process was the victim.
pub(super) fn main_process(case: &Case<'_>) -> Option<Finding> {
    // A task that was already leaving is only marked; it was not killed by it.
    if case.exit().is_some_and(|exit| exit.signal != signals::SIGKILL) {
        return None;
    }
    let killer =
        case.exit().and_then(|exit| exit.killed_by.as_ref()).map_or(SenderKind::Unknown, |by| by.kind);
    let victim = case.evidence.oom.iter().enumerate().rfind(|(_, oom)| oom.victim_is_main);
    match (victim, killer) {
        (Some((index, oom)), SenderKind::OomKiller | SenderKind::Kernel | SenderKind::Unknown) => {
            let summary = format!(
                "killed by the kernel's OOM killer {}; {}{}{}",
                at_limit(case, oom),
                whole_group(case, oom).unwrap_or_else(|| format!(
                    "{} held {}",
                    words::program(&oom.victim_comm),
                    held(oom)
                )),
                allocator(oom),
                before(case, oom)
            );
            let mut evidence = vec![EvidenceRef::Oom(index)];
            evidence.extend(case.exit().map(|_| EvidenceRef::Exit));
            Some(finding(case, oom, Confidence::High, summary, evidence))
        }
        (None, SenderKind::OomKiller) => Some(without_record(case, Confidence::High)),
        (None, SenderKind::Unknown) if told_by_kubernetes(case) => {
            Some(without_record(case, Confidence::Medium))
        }
        _ => None,
    }
}

/// A child was the victim: the container lives on, or ended because of it.
pub(super) fn child(case: &Case<'_>) -> Option<Finding> {
    let (index, oom) = case.evidence.oom.iter().enumerate().rfind(|(_, oom)| !oom.victim_is_main)?;
    let confidence = child_confidence(case, oom)?;
    let mut evidence = vec![EvidenceRef::Oom(index)];
    if let Some(child) = case.evidence.child_exits.iter().position(|child| child.pid == oom.victim_pid) {
        evidence.push(EvidenceRef::ChildExit(child));
    }
    let what_then = match case.exit() {
        None => format!("{} lives on", case.main_name()),
        Some(exit) => {
            evidence.push(EvidenceRef::Exit);
            let after = case
                .before_end_ms(oom.time)
                .map_or_else(String::new, |ms| format!(" {} later", words::span(ms)));
            format!("{} ended{after} with {}", case.main_name(), words::ending(exit))
        }
    };
    let summary = format!(
        "the kernel's OOM killer killed {} {}, when it held {}{}; {what_then}",
        words::process(&oom.victim_comm, oom.victim_pid),
        at_limit(case, oom),
        held(oom),
        before(case, oom),
    );
    Some(finding(case, oom, confidence, summary, evidence))
}

fn child_confidence(case: &Case<'_>, oom: &OomKill) -> Option<Confidence> {
    let Some(exit) = case.exit() else {
        return case.evidence.container_survived.then_some(Confidence::High);
    };
    let before_end = case.before_end_ms(oom.time).unwrap_or(0.0);
    let collateral = exit.signal == signals::SIGKILL && oom.group_kill;
    if exit.signal != 0 && !collateral {
        return None;
    }
    // It survived that one, and another process's end, which somebody else made, was passed on.
    let another = case.passed_on().is_some_and(|(_, child)| {
        let killer =
            case.last_signal_to(child.pid, child.signal).and_then(|(_, signal)| signal.sender.as_ref());
        child.signal == signals::SIGKILL
            && child.pid != oom.victim_pid
            && killer.is_some_and(|by| {
                !matches!(by.kind, SenderKind::OomKiller | SenderKind::Kernel | SenderKind::Unknown)
            })
    });
    // A program that was executed afterwards has nothing to do with it.
    let became_another = case.evidence.execs.last().is_some_and(|exec| exec.time.0 > oom.time.0);
    if another {
        return None;
    }
    // Long after it, what failed right before the end weighs more.
    let other = |least| case.calls.iter().any(|call| call.by_dying() && call.confidence() >= least);
    // What the main process itself failed with since.
    let own_afterwards = |ms: f64| {
        case.calls.iter().any(|call| {
            call.failure.by_dying_thread
                && call.failure.last_before_death_ms < ms
                && call.confidence() >= Confidence::High
        })
    };
    match (exit.code, before_end) {
        (code, _) if code != CODE_OF_SIGKILL && became_another && other(Confidence::Medium) => None,
        (code, ms) if code != CODE_OF_SIGKILL && became_another && ms <= RELATED_MS => {
            Some(Confidence::Medium)
        }
        (code, ms) if code != CODE_OF_SIGKILL && ms > AT_ONCE_MS && other(Confidence::High) => None,
        (code, ms) if code != CODE_OF_SIGKILL && own_afterwards(ms) => None,
        (code, ms) if code != CODE_OF_SIGKILL && ms > OVERCOME_MS && other(Confidence::Medium) => None,
        (CODE_OF_SIGKILL, ms) if ms <= RELATED_MS => Some(Confidence::High),
        (0, ms) if ms <= RELATED_MS => Some(Confidence::Medium),
        (_, ms) if ms <= AT_ONCE_MS => Some(Confidence::High),
        (_, ms) if ms <= RELATED_MS => Some(Confidence::Medium),
        _ => None,
    }
}

fn finding(
    case: &Case<'_>,
    oom: &OomKill,
    confidence: Confidence,
    summary: String,
    evidence: Vec<EvidenceRef>,
) -> Finding {
    let object = match whose(case, oom) {
        OomScope::Node => "node memory".to_owned(),
        OomScope::Pod if oom.limit_bytes > 0 => format!("pod memory limit {}", limit(case, oom)),
        OomScope::Pod => "pod memory limit".to_owned(),
        _ if oom.limit_bytes > 0 => format!("memory limit {}", limit(case, oom)),
        _ => "memory limit".to_owned(),
    };
    let remedy = match whose(case, oom) {
        OomScope::Node => format!(
            "the node itself ran out of memory: set {0}.resources.requests.memory (and limits) so that the scheduler leaves room, or give the node less to run",
            case.field()
        ),
        OomScope::Pod if is_the_pods(case, oom) => {
            "raise spec.resources.limits.memory, which all containers of the pod share, or make them use less"
                .to_owned()
        }
        OomScope::Pod => format!(
            "raise the memory limits of the pod's containers ({}.resources.limits.memory and its neighbours', or spec.resources.limits.memory) above {}, or make them use less",
            case.field(),
            limit(case, oom)
        ),
        _ => raise(case),
    };
    let leaks = memory::course(&case.evidence.memory, oom.time).is_some_and(|course| course.is_leak());
    let remedy = if leaks {
        format!("{remedy}; a steady rise is what a leak looks like, which a higher limit only delays")
    } else {
        remedy
    };
    let remedy = format!("{remedy}{}", others(oom));
    Finding { cause: Cause::OutOfMemory, confidence, summary, object, remedy, evidence }
}

/// What to look at when the victim held little: it is the largest process that the kernel takes, and files in memory belong to none.
fn others(oom: &OomKill) -> &'static str {
    let little = oom.limit_bytes > 0 && own(oom) < oom.limit_bytes / 2 && !oom.group_kill;
    if little && oom.scope != OomScope::Node {
        "; most of it was held by other processes, or by files in memory (/dev/shm, an emptyDir with medium Memory), which count as well"
    } else {
        ""
    }
}

/// Kernel or Kubernetes say that it was an OOM kill, but the record of the kill itself is missing.
fn without_record(case: &Case<'_>, confidence: Confidence) -> Finding {
    let written = case.pod.map_or("", |pod| pod.container.memory_limit.as_str());
    let by = match confidence {
        Confidence::High => "killed by the kernel's OOM killer",
        _ if case.only_kubernetes() => "Kubernetes says OOMKilled, and no agent saw it",
        _ => "Kubernetes says OOMKilled",
    };
    Finding {
        cause: Cause::OutOfMemory,
        confidence,
        summary: format!(
            "{by}; the record of the kill itself is missing, so whose limit was hit is not known"
        ),
        object: format!("memory limit {written}").trim_end().to_owned(),
        remedy: raise(case),
        evidence: case.exit().map(|_| EvidenceRef::Exit).into_iter().collect(),
    }
}

fn told_by_kubernetes(case: &Case<'_>) -> bool {
    let terminated = case.pod.and_then(|pod| pod.container.terminated.as_ref());
    (case.exit().is_some() || case.only_kubernetes())
        && terminated.is_some_and(|terminated| terminated.reason == "OOMKilled")
}

fn raise(case: &Case<'_>) -> String {
    format!("raise {}.resources.limits.memory, or make the program use less", case.field())
}

/// Whose limit it was. A pod's group has the sum of its containers' limits and is hit first even when that sum has one term.
fn whose(case: &Case<'_>, oom: &OomKill) -> OomScope {
    if oom.scope == OomScope::Pod && is_the_containers(case, oom) { OomScope::Container } else { oom.scope }
}

fn is_the_containers(case: &Case<'_>, oom: &OomKill) -> bool {
    case.pod.is_some_and(|pod| quantity::same_limit(&pod.container.memory_limit, oom.limit_bytes))
}

fn is_the_pods(case: &Case<'_>, oom: &OomKill) -> bool {
    oom.scope == OomScope::Pod
        && case.pod.is_some_and(|pod| quantity::same_limit(&pod.memory_limit, oom.limit_bytes))
}

/// The limit as the user wrote it, else exactly in binary units.
fn limit(case: &Case<'_>, oom: &OomKill) -> String {
    match case.pod {
        Some(pod) if is_the_containers(case, oom) => words::one_line(&pod.container.memory_limit),
        Some(pod) if is_the_pods(case, oom) => words::one_line(&pod.memory_limit),
        _ => quantity::binary_quantity(oom.limit_bytes),
    }
}

fn at_limit(case: &Case<'_>, oom: &OomKill) -> String {
    match (whose(case, oom), oom.limit_bytes) {
        (OomScope::Node, _) => "because the node ran out of memory".to_owned(),
        (OomScope::Pod, 1..) => format!("at the pod's limit of {}", limit(case, oom)),
        (OomScope::Container, 1..) => format!("at the container's limit of {}", limit(case, oom)),
        (_, 1..) => format!("at a limit of {}", limit(case, oom)),
        (_, 0) => "at a memory limit that could not be read".to_owned(),
    }
}

/// `19.2Mi of it`. File pages are left out: a group shares most of them, libraries above all, with the groups that read them
/// first, so that with them one process could hold more than the limit that it hit.
fn held(oom: &OomKill) -> String {
    let own = own(oom);
    let of_it = if oom.limit_bytes == 0 || own <= oom.limit_bytes { " of it" } else { "" };
    format!("{}{of_it}", quantity::about(own))
}

fn own(oom: &OomKill) -> u64 {
    oom.anon_rss_bytes.saturating_add(oom.shmem_rss_bytes).saturating_add(oom.page_tables_bytes)
}

/// How the container's memory went up to the kill.
fn before(case: &Case<'_>, oom: &OomKill) -> String {
    memory::course(&case.evidence.memory, oom.time)
        .map_or_else(String::new, |course| format!("; the container's memory {course}"))
}

/// Of a kill that took all for one: how many, and who held most.
fn whole_group(case: &Case<'_>, oom: &OomKill) -> Option<String> {
    let victims = || case.evidence.oom.iter().filter(|other| other.group_kill);
    let most = victims().max_by_key(|other| own(other)).filter(|_| oom.group_kill)?;
    let count = victims().count();
    let told = || {
        let who = words::process(&most.victim_comm, most.victim_pid);
        format!(
            "memory.oom.group ends the whole group, {count} processes, of which {who} held {}",
            held(most)
        )
    };
    (count > 1).then(told)
}

fn allocator(oom: &OomKill) -> String {
    // Of a whole group one is named already.
    if oom.group_kill
        || oom.allocating_pid == 0
        || oom.allocating_pid == oom.victim_pid
        || oom.allocating_comm.is_empty()
    {
        return String::new();
    }
    format!(" when {} asked for more", words::process(&oom.allocating_comm, oom.allocating_pid))
}
