//! A process ends: `sched:sched_process_exit`.
//!
//! Why this: it fires for every thread while the task is still whole enough to tell its group's exit code, name and working
//! directory. The end that counts is the last thread's (`signal->live` has reached 0). The code is the group's where the group
//! was told to exit, else the leader's own (Linux before 5.16 sets no group code for a plain exit).
//! Two last threads may both see `live` at 0, which is counted down some steps before this hook: the agent takes the second record of one
//! process as a repeat, and out of it who called exit_group where the first came from a thread that overtook the caller.
//! Only argument 0 is touched: kernels before 6.18 have no other, and a raw tracepoint that reads beyond its arguments is refused.
//! Cost: a look-up for each thread of the node that ends.

use core::hint::black_box;

use lastwords_agent_common::record::{Exited, kind};

use crate::{
    container::Container,
    emit::emit_for,
    hook,
    kernel::{Address, follow, now, offset, pointer, read, read_comm, waited, writes},
    probe::signal::{SIGSYS, ended_by_filter},
    process,
    recorder::{child_exit_slot, mark},
    working_directory,
};

/// `signal->flags`: the whole group was told to exit (include/linux/sched/signal.h).
const SIGNAL_GROUP_EXIT: u32 = 4;

/// How far up it is looked for the main process. A process that a runtime started in the container has no more than its shim between itself
/// and the node's first process, or as much again on a node that is itself a container.
const ANCESTORS: u32 = 8;

/// `task->flags`: a signal ended this thread, the one that exit_group(2) gives the others among them (include/linux/sched.h).
const PF_SIGNALED: u32 = 0x400;

/// Bits of what wait(2) gives that hold the signal which ended a process.
const BY_SIGNAL: u32 = 0x7f;

/// Index of that limit, before RLIMIT_NOFILE (include/uapi/asm-generic/resource.h; the same on x86-64 and arm64).
const RLIMIT_NPROC: usize = 6;
/// `struct rlimit`: a soft limit and a hard one.
const LIMIT_BYTES: usize = 16;

hook!("sched_process_exit", sched_process_exit, sched_process_exit_raw, |arguments| {
    let Some(container) = Container::of_current() else {
        return;
    };
    let task = pointer(arguments, 0);
    let signal = follow(task, &offset::TASK_SIGNAL);
    let process = process::current();
    let (tgid, tid) = ((process >> 32) as u32, process as u32);
    let told_to_exit = read::<u32>(signal, &offset::SIGNAL_FLAGS) & SIGNAL_GROUP_EXIT != 0;
    let is_main = container.main_tgid() == tgid;
    let code: u32 = read(task, &offset::TASK_EXIT_CODE);
    let was_killed = read::<u32>(task, &offset::TASK_FLAGS) & PF_SIGNALED != 0;
    let told: u32 = read(signal, &offset::SIGNAL_GROUP_EXIT_CODE);
    // Whoever called exit_group may be overtaken by all the others on their way here, but it alone was not killed, and it leaves with the
    // group's code, as a thread that left by itself meanwhile does not; of two that call it the first counts. Where a signal ended them all
    // are killed, except one that its seccomp filter ended. One test at the end, or the verifier would follow what comes after it once for
    // each.
    let is_caller = !was_killed & (code == told);
    let by_signal = told & BY_SIGNAL != 0;
    let is_first = container.first_tid() == 0;
    if black_box(is_main & told_to_exit & (is_caller & (is_first | by_signal) | by_signal & is_first)) {
        container.set_first(tid, waited(task));
    }
    if u64::from(code & BY_SIGNAL) == SIGSYS && !was_killed {
        ended_by_filter(container, task, tgid, tid);
    }
    if read::<u32>(signal, &offset::SIGNAL_LIVE) != 0 {
        return;
    }
    let status: u32 = if told_to_exit {
        told
    } else {
        read(follow(task, &offset::TASK_GROUP_LEADER), &offset::TASK_EXIT_CODE)
    };
    // Most children end well: nothing more is read of them.
    if !is_main && status == 0 {
        return;
    }
    let leader = follow(task, &offset::TASK_GROUP_LEADER);
    if is_main {
        emit_for::<Exited>(kind::EXITED, container, |record| {
            let first = if told_to_exit { container.first() } else { (tid, waited(task)) };
            fill(record, task, leader, status, tgid, first)
        });
    } else {
        record_child(container, task, leader, status, process);
    }
});

#[inline(always)]
fn fill(record: *mut Exited, task: Address, leader: Address, status: u32, tgid: u32, first: (u32, u64)) {
    let credentials = follow(task, &offset::TASK_CRED);
    // SAFETY: fields of a reserved record.
    unsafe {
        (*record).tgid = tgid;
        (*record).first_tid = first.0;
        (*record).waited = first.1;
        (*record).writes = writes(leader);
        (*record).status = status;
        (*record).uid = read(credentials, &offset::CRED_UID);
        (*record).gid = read(credentials, &offset::CRED_GID);
        (*record).padding = 0;
        let limits = follow_limits(task);
        (*record).limits = [limits[0], limits[2]];
        read_comm(&raw mut (*record).comm, leader);
        working_directory::write(task, &raw mut (*record).cwd);
    }
}

/// The soft and hard limits of processes and open files, as they are now: a program can have set them itself.
#[inline(always)]
fn follow_limits(task: Address) -> [u64; 4] {
    let first = follow(task, &offset::TASK_SIGNAL).wrapping_add(RLIMIT_NPROC * LIMIT_BYTES);
    read(first, &offset::SIGNAL_LIMITS)
}

#[inline(always)]
fn record_child(container: Container, task: Address, leader: Address, status: u32, process: u64) {
    let Some(recorder) = container.recorder() else {
        return;
    };
    let time = now();
    let detached = is_detached(container.main_tgid(), leader);
    let parent = follow(follow(leader, &offset::TASK_REAL_PARENT), &offset::TASK_GROUP_LEADER);
    let slot = child_exit_slot(recorder);
    let tgid = (process >> 32) as u32;
    // SAFETY: a slot of the container's recorder.
    unsafe {
        (*slot).begin = mark(time, tgid);
        (*slot).time = time;
        (*slot).tgid = tgid;
        (*slot).status = status;
        read_comm(&raw mut (*slot).comm, leader);
        (*slot).detached = detached;
        (*slot).tid = process as u32;
        (*slot).parent = read(parent, &offset::TASK_TGID);
        (*slot).waited = waited(task);
        (*slot).writes = [writes(leader), writes(parent)];
        (*slot).end = mark(time, tgid);
    }
}

/// 1 when the way up from this process to the node's first one is known and the container's main process is not on it: it came of
/// `kubectl exec`, a probe's or a hook's command, or was left by its parent. The main process cannot wait for it, so it passes on no such end.
#[inline(always)]
fn is_detached(main: u32, leader: Address) -> u64 {
    let mut ancestor = leader;
    let (mut step, mut is_own, mut is_whole) = (0, main == 0, false);
    while step < ANCESTORS {
        ancestor = follow(ancestor, &offset::TASK_REAL_PARENT);
        let tgid: u32 = read(ancestor, &offset::TASK_TGID);
        // No branch on what is read.
        is_own |= tgid == main;
        is_whole |= tgid <= 1;
        step += 1;
    }
    u64::from(black_box(!is_own & is_whole))
}
