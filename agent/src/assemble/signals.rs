//! Signals: who sent them, and which one ended the process.

use lastwords_diagnosis::evidence::{KilledBy, SenderKind, Signal};

use super::{Death, Node, is_of_run, milliseconds_before, text};
use crate::{
    decode::{self, Exited, Recording, SI_KERNEL},
    kernel::syscalls,
};

const SIGKILL: i32 = 9;
const SIGSYS: i32 = 31;
/// si_code of a SIGSYS that a seccomp filter caused.
const SYS_SECCOMP: i32 = 1;
/// __AUDIT_ARCH_64BIT (include/uapi/linux/audit.h).
const FULL_WIDTH: u64 = 0x8000_0000;
/// The victim gets its SIGKILL in the same kernel function that announces it (`__oom_kill_process`); half a millisecond was
/// measured between the two. A second leaves room for a loaded machine.
const OOM_KILL_WINDOW: u64 = 1_000_000_000;
/// Names of runtimes and of what they leave behind to watch a container, as far as 15 bytes show them.
const RUNTIMES: &[&[u8]] = &[
    b"runc",
    b"crun",
    b"youki",
    b"runsc",
    b"conmon",
    b"conmonrs",
    b"containerd",
    b"dockerd",
    b"crio",
    b"podman",
];

pub(super) fn list(death: &Death, node: &Node<'_>, recording: &Recording) -> Vec<Signal> {
    let main = main_tgid(death);
    // By a coarse clock what was sent when the main process was gone has the time of its end: to the others, and to its own last
    // thread (zap_pid_ns_processes, kernel/pid_namespace.c), which is beyond any signal.
    let exited = matches!(death.end, super::End::Exited(_));
    let collateral = |signal: &decode::Signal| {
        let is_beyond = main != Some(signal.target_tgid) || signal.result != 0;
        exited && signal.time == death.time && signal.code == SI_KERNEL && is_beyond
    };
    let before =
        recording.signals.iter().filter(|signal| is_of_run(death, signal.time) && !collateral(signal));
    before
        .map(|raw| Signal {
            signal: raw.signal,
            code: raw.code,
            sender: Some(sender(death, node, raw)),
            target_pid: raw.target_tgid,
            target_comm: text(&raw.target_comm),
            to_main: main == Some(raw.target_tgid),
            delivered: raw.result == 0,
            before_death_ms: milliseconds_before(death.time, raw.time),
            fault_address: if is_by_filter(raw) { 0 } else { raw.address },
            syscall: forbidden(raw),
        })
        .collect()
}

fn is_by_filter(raw: &decode::Signal) -> bool {
    raw.signal == SIGSYS && raw.code == SYS_SECCOMP
}

/// The call that a seccomp filter forbade: its number, and in the upper half the architecture that it is of (`struct siginfo`).
fn forbidden(raw: &decode::Signal) -> String {
    let [number, architecture] = [raw.address & 0xffff_ffff, raw.address >> 32];
    match u32::try_from(number) {
        Ok(number) if is_by_filter(raw) && architecture & FULL_WIDTH != 0 => syscalls::name(number),
        _ => String::new(),
    }
}

/// Who sent the signal that ended the main process. None when it exited by itself, or when that signal was not seen.
pub(super) fn killed_by(
    death: &Death,
    node: &Node<'_>,
    recording: &Recording,
    exited: &Exited,
) -> Option<KilledBy> {
    if exited.status.signal == 0 {
        return None;
    }
    let fatal = recording.signals.iter().rev().find(|signal| {
        signal.target_tgid == exited.tgid
            && signal.signal == exited.status.signal
            && signal.result == 0
            && signal.time <= death.time
    })?;
    Some(sender(death, node, fatal))
}

fn sender(death: &Death, node: &Node<'_>, raw: &decode::Signal) -> KilledBy {
    let kind = sender_kind(death, node, raw);
    match kind {
        // The current task is then a bystander: the one whose allocation failed, or the process itself.
        SenderKind::Kernel | SenderKind::OomKiller => KilledBy { kind, pid: 0, comm: String::new() },
        _ => KilledBy { kind, pid: raw.sender_tgid, comm: text(&raw.sender_comm) },
    }
}

fn sender_kind(death: &Death, node: &Node<'_>, raw: &decode::Signal) -> SenderKind {
    let is_oom_kill = raw.signal == SIGKILL
        && raw.code == SI_KERNEL
        && death.oom.iter().any(|(time, victim)| {
            victim.tgid == raw.target_tgid
                && !victim.already_exiting
                && time.abs_diff(raw.time) < OOM_KILL_WINDOW
        });
    if is_oom_kill {
        SenderKind::OomKiller
    } else if raw.code > 0 {
        SenderKind::Kernel
    } else if raw.sender_container.unwrap_or(raw.sender_cgroup) == death.cgroup_id {
        SenderKind::SameContainer
    } else if raw.sender_tgid == node.agent_pid {
        SenderKind::Runtime
    } else if raw.sender_container.is_some() {
        // Whatever it is called: a container may call its programs anything, and its main process is a shim's child.
        SenderKind::Other
    } else if is_runtime(&raw.sender_comm) || is_runtime(&raw.sender_parent_comm) {
        SenderKind::Runtime
    } else {
        SenderKind::Other
    }
}

fn is_runtime(comm: &[u8]) -> bool {
    comm.starts_with(b"containerd-shim") || RUNTIMES.contains(&comm)
}

fn main_tgid(death: &Death) -> Option<u32> {
    match &death.end {
        super::End::Exited(exited) => Some(exited.tgid),
        super::End::NeverRan | super::End::Survived | super::End::RunsWell | super::End::Unseen => {
            death.execs.last().map(|(_, executed)| executed.tgid)
        }
    }
}
