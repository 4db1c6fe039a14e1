//! A limit other than memory and disk: open files, processes, address space, processor time, file size.

use super::{Finding, before_the_end, call_and_exit};
use crate::calls::Call;
use crate::case::Case;
use crate::evidence::{Failure, Seccomp, SenderKind};
use crate::verdict::{Cause, Confidence, EvidenceRef};
use crate::{errno, log, noise, signals, words};

/// A program that cannot do without the memory that it asked for leaves within this (milliseconds).
const LEAVES_MS: f64 = 20.0;

/// A call that a limit refused.
pub(super) fn call(case: &Case<'_>, call: &Call<'_>) -> Option<Finding> {
    let failure = call.failure;
    let forks = matches!(failure.syscall.as_str(), "clone" | "clone3" | "fork" | "vfork");
    let inotify = failure.syscall.starts_with("inotify_");
    let (limit, remedy) = match failure.errno {
        // Not a matter of the process's files: each user may have so many on the node, and the node's agents are root, too.
        errno::EMFILE if inotify => (
            "fs.inotify.max_user_instances",
            "raise the node's sysctl fs.inotify.max_user_instances (128 by default, for all processes of one user), or find who holds so many",
        ),
        errno::ENOSPC if inotify => (
            "fs.inotify.max_user_watches",
            "raise the node's sysctl fs.inotify.max_user_watches, or let the program watch fewer files",
        ),
        errno::EMFILE if failure.syscall == "fanotify_init" => (
            "fs.fanotify.max_user_groups",
            "raise the node's sysctl fs.fanotify.max_user_groups, or find who holds so many",
        ),
        errno::ENOSPC if failure.path.ends_with("/ptmx") => (
            "kernel.pty.max",
            "close terminals that are no longer used, or raise the node's sysctl kernel.pty.max (or the max= of the devpts that the container has)",
        ),
        // Any free port was asked for.
        errno::EADDRINUSE if failure.syscall == "bind" && is_any_port(failure) => (
            "net.ipv4.ip_local_port_range",
            "close sockets that are no longer used, or widen net.ipv4.ip_local_port_range in spec.securityContext.sysctls",
        ),
        errno::EMFILE => (
            "RLIMIT_NOFILE",
            "raise the limit on open files that the container runtime sets (LimitNOFILE of its service), or close files that are no longer used",
        ),
        errno::ENFILE => {
            ("fs.file-max", "raise the node's fs.file-max, or find what holds so many files open")
        }
        // SIGXFSZ, which comes with it, was ignored.
        errno::EFBIG if was_signalled(case) => (
            "RLIMIT_FSIZE",
            "raise RLIMIT_FSIZE where it is set: a ulimit line in the entrypoint, or the container runtime's default",
        ),
        errno::EFBIG => (
            "RLIMIT_FSIZE or the file system's largest file",
            "see whether the size that it asked for is meant (a file system has a largest file, ext4 16 TiB), and whether RLIMIT_FSIZE is set: a ulimit line in the entrypoint, or the container runtime's default",
        ),
        errno::EAGAIN if forks => (
            "pids.max or RLIMIT_NPROC",
            "raise the kubelet's podPidsLimit (pids.max of the pod's group) or the user's RLIMIT_NPROC, or start fewer processes and threads",
        ),
        errno::ENOMEM if forks => (
            "RLIMIT_AS or memory overcommit",
            "see whether the first process of its PID namespace is gone (unshare --pid without --fork), then at the program's RLIMIT_AS and at the node's vm.overcommit_memory: no memory limit of a container answers ENOMEM",
        ),
        errno::ENOMEM => (
            "RLIMIT_AS or memory overcommit",
            "look at the program's RLIMIT_AS and at the node's vm.overcommit_memory and vm.max_map_count: no memory limit of a container answers ENOMEM",
        ),
        _ => return None,
    };
    // The agent names the limit of open files for EMFILE, whichever call it was.
    let own = failure.name.starts_with("RLIMIT_NOFILE") && limit != "RLIMIT_NOFILE";
    let object =
        if failure.name.is_empty() || own { limit.to_owned() } else { words::one_line(&failure.name) };
    // Several limits answer the same, or the program does without.
    let is_one_of_several = (failure.errno == errno::ENOMEM && forks)
        || (failure.errno == errno::EFBIG && !was_signalled(case))
        || (failure.errno == errno::ENOSPC && inotify);
    Some(Finding {
        cause: Cause::ResourceLimit,
        // The same error answers who asks for huge pages, and does without.
        confidence: if is_one_of_several || (noise::asks_for_memory(failure) && call.gap_ms > LEAVES_MS) {
            call.confidence().min(Confidence::Medium)
        } else {
            call.confidence()
        },
        summary: format!(
            "{} reached {object}: {} {}",
            words::program(&failure.comm),
            words::failed(failure),
            before_the_end(case, call)
        ),
        object,
        remedy: remedy.to_owned(),
        evidence: call_and_exit(case, call),
    })
}

/// True for port 0, for which the kernel chooses a free one.
pub(super) fn is_any_port(failure: &Failure) -> bool {
    failure.address.split('/').next().is_some_and(|address| address.ends_with(":0"))
}

/// True when the kernel sent the signal that comes with RLIMIT_FSIZE, and with no file system's own limit.
fn was_signalled(case: &Case<'_>) -> bool {
    case.evidence.signals.iter().any(|signal| signal.signal == signals::SIGXFSZ)
}

/// It may not raise its hard limit on open files, and its log says that it was about these: which limit a call asks for is not recorded.
/// Containers that do not run as root gain nothing from a capability that is added: it is the limit that has to be higher.
pub(super) fn raise(case: &Case<'_>, call: &Call<'_>) -> Option<Finding> {
    const OF_OPEN_FILES: [&str; 5] = ["fd limit", "open files", "file descriptor", "nofile", "ulimit-n"];
    let failure = call.failure;
    let raises = matches!(failure.syscall.as_str(), "setrlimit" | "prlimit64");
    if !raises || failure.errno != errno::EPERM || failure.uid == 0 || failure.seccomp == Seccomp::Denied {
        return None;
    }
    let line = log::last_lines(case).find(|line| {
        let lower = line.text.to_ascii_lowercase();
        OF_OPEN_FILES.iter().any(|words| lower.contains(words)) && !log::goes_on(line.text)
    })?;
    let mut evidence = call_and_exit(case, call);
    evidence.push(line.evidence);
    Some(Finding {
        cause: Cause::ResourceLimit,
        confidence: call.confidence().min(Confidence::Medium),
        summary: format!(
            "{} (uid {}) may not raise its limit on open files: {} {}; its log says {}",
            words::program(&failure.comm),
            failure.uid,
            words::failed(failure),
            before_the_end(case, call),
            line.quoted()
        ),
        object: "RLIMIT_NOFILE".to_owned(),
        remedy: "raise the hard limit on open files that the container runtime sets (LimitNOFILE of its service), or configure the program for fewer".to_owned(),
        evidence,
    })
}

/// Ended by the signal that the kernel sends at a limit: the main process, or a child whose end it passed on.
pub(super) fn by_signal(case: &Case<'_>) -> Option<Finding> {
    let child = case.passed_on().filter(|(_, child)| child.signal != 0);
    let signal = case.fatal_signal().or(child.map(|(_, child)| child.signal))?;
    let (limit, what) = match signal {
        signals::SIGXCPU => ("RLIMIT_CPU", "used up its processor time"),
        signals::SIGXFSZ => ("RLIMIT_FSIZE", "wrote a file larger than it may"),
        signals::SIGKILL if used_all_its_time(case) => ("RLIMIT_CPU", "used up its processor time"),
        _ => return None,
    };
    let sent = match child {
        Some((_, child)) => case.last_signal_to(child.pid, signal),
        None => case.last_signal_to_main(signal),
    };
    let mut evidence: Vec<EvidenceRef> =
        child.map(|(index, _)| EvidenceRef::ChildExit(index)).into_iter().collect();
    evidence.push(EvidenceRef::Exit);
    evidence.extend(sent.map(|(index, _)| EvidenceRef::Signal(index)));
    let who = child.map_or_else(|| case.main_name(), |(_, child)| words::process(&child.comm, child.pid));
    Some(Finding {
        cause: Cause::ResourceLimit,
        confidence: if sent.is_some() && signal != signals::SIGKILL {
            Confidence::High
        } else {
            Confidence::Medium
        },
        summary: format!("{who} {what} and the kernel ended it with {}", signals::name(signal)),
        object: limit.to_owned(),
        remedy: format!(
            "raise {limit} where it is set: a ulimit line in the entrypoint, or the container runtime's default"
        ),
        evidence,
    })
}

/// True when the kernel itself killed the first process of a container, which was not out of memory. What is left of the kernel's own
/// reasons to send SIGKILL is the hard limit on processor time, in whole seconds (`check_process_timers`).
fn used_all_its_time(case: &Case<'_>) -> bool {
    // One second is the shortest limit. What ran before the last exec counts too, and two threads use it up in half the time.
    const SHORTEST_LIFE_MS: f64 = 500.0;
    let by_kernel =
        case.exit().and_then(|exit| exit.killed_by.as_ref()).is_some_and(|by| by.kind == SenderKind::Kernel);
    let evidence = case.evidence;
    by_kernel
        && case.fatal_signal() == Some(signals::SIGKILL)
        && evidence.process.as_ref().is_some_and(|process| process.namespace_init)
        && evidence.oom.is_empty()
        && evidence.losses.ring_records_dropped == 0
        && case.life_ms().is_some_and(|life| life >= SHORTEST_LIFE_MS)
}
