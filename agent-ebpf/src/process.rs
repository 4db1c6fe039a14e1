//! Which process and thread a task is, by the numbers that the agent finds in its procfs.
//!
//! Those are the kernel's own, except on a node that is itself a container (kind, k3d): that has a PID namespace, in which every
//! process of the node has another number. What lies outside of it has none there, and is 0 here.

use aya_ebpf::{Global, helpers};
use lastwords_agent_common::offsets::ABSENT;

use crate::{
    kernel::{Address, current_task, follow, offset, read},
    recorder::ones_if_zero,
};

/// The inode number of the PID namespace that the agent's procfs shows; 0 for the kernel's initial one.
#[unsafe(no_mangle)]
pub static PID_NAMESPACE: Global<u32> = Global::new(ABSENT);

/// `struct upid` is { int nr; struct pid_namespace *ns; } on every 64-bit kernel.
const UPID_BYTES: usize = 16;
/// Where in it the namespace stands.
const UPID_NAMESPACE: usize = 8;
/// How deep the agent's namespace may lie: a node in a container in a container. The kernel allows 32.
const DEEPEST: usize = 3;

/// Whether the numbers are the kernel's own.
#[inline(always)]
pub fn is_initial_namespace() -> bool {
    PID_NAMESPACE.load() == 0
}

/// The current process in the upper half and its thread in the lower one, as `bpf_get_current_pid_tgid` gives them.
#[inline(always)]
pub fn current() -> u64 {
    if is_initial_namespace() {
        return helpers::bpf_get_current_pid_tgid();
    }
    let task = current_task();
    u64::from(number(follow(task, &offset::TASK_GROUP_LEADER))) << 32 | u64::from(number(task))
}

/// The process that a task belongs to.
#[inline(always)]
pub fn tgid(task: Address) -> u32 {
    if is_initial_namespace() {
        return read(task, &offset::TASK_TGID);
    }
    number(follow(task, &offset::TASK_GROUP_LEADER))
}

/// The thread that a task is.
#[inline(always)]
pub fn tid(task: Address) -> u32 {
    if is_initial_namespace() {
        return read(task, &offset::TASK_PID);
    }
    number(task)
}

/// Whether the task is PID 1 of a PID namespace other than the initial one.
#[inline(always)]
pub fn is_namespace_init(task: Address) -> bool {
    let pid = follow(task, &offset::TASK_THREAD_PID);
    let level: u32 = read(pid, &offset::PID_LEVEL);
    let number: u32 = read(pid.wrapping_add(level as usize * UPID_BYTES), &offset::PID_NUMBERS);
    level > 0 && number == 1
}

/// A task's number in the agent's namespace. A function of its own: in the one of `sys_exit` that records failures it was too much for
/// Linux 6.1, which took the program and then recorded nothing. Without branches: each would double what the verifier follows.
#[inline(never)]
fn number(task: Address) -> u32 {
    let pid = follow(task, &offset::TASK_THREAD_PID);
    let level: u32 = read(pid, &offset::PID_LEVEL);
    let mut found = 0;
    for depth in 1..=DEEPEST {
        let place = pid.wrapping_add(depth * UPID_BYTES);
        let namespace = follow(place.wrapping_add(UPID_NAMESPACE), &offset::PID_NUMBERS);
        let inode: u32 = read(namespace, &offset::PID_NAMESPACE_INUM);
        // Behind the last number stands another object.
        let is_there =
            core::hint::black_box(u64::from(level).wrapping_sub(depth as u64) >> 63).wrapping_sub(1);
        let is_ours = is_there & ones_if_zero(u64::from(inode ^ PID_NAMESPACE.load()));
        found |= u64::from(read::<u32>(place, &offset::PID_NUMBERS)) & is_ours;
    }
    found as u32
}
