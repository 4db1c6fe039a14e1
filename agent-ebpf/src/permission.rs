//! Who was refused: the caller's capabilities and groups, its seccomp filter, and the capability that it lacked.

use lastwords_agent_common::{
    limits::CALLER_GROUPS,
    record::{FailureEntry, Recorder, seccomp},
};

use crate::kernel::{Address, follow, now, offset, read};

/// A capability that was refused longer ago than this (nanoseconds) was asked for in an earlier call of the same number.
const SAME_CALL: u64 = 1_000_000;
/// `task->seccomp.mode` (include/uapi/linux/seccomp.h): none, strict, a filter.
const NO_SECCOMP: u32 = 0;

/// Writes what is known of the caller to a failure's slot. `filter` is what a filter's presence means there.
#[inline(always)]
pub fn write(recorder: *mut Recorder, slot: *mut FailureEntry, task: Address, filter: u32) {
    let credentials = follow(task, &offset::TASK_CRED);
    // SAFETY: the container's recorder and a slot of it.
    unsafe {
        (*slot).capabilities = read(credentials, &offset::CRED_CAPABILITIES);
        let refused = (*recorder).refused_capability;
        let asked_in_this_call = refused.tid == (*slot).tid
            && refused.syscall == (*slot).syscall
            && (*slot).time.wrapping_sub(refused.time) < SAME_CALL;
        (*slot).refused_capability = if asked_in_this_call { refused.capability } else { 0 };
        (*slot).seccomp = match offset::TASK_SECCOMP_MODE.load() {
            lastwords_agent_common::offsets::ABSENT => seccomp::UNKNOWN,
            _ if read::<u32>(task, &offset::TASK_SECCOMP_MODE) == NO_SECCOMP => seccomp::NO_FILTER,
            _ if asked_in_this_call && filter != seccomp::DENIED => seccomp::PASSED,
            _ => filter,
        };
    }
}

/// Remembers that the current thread was refused a capability.
#[inline(always)]
pub fn refused(recorder: *mut Recorder, tid: u32, syscall: u32, capability: u32) {
    // SAFETY: a field of the container's recorder. Two threads may overwrite each other's; the failure compares the thread.
    unsafe {
        let refused = &raw mut (*recorder).refused_capability;
        (*refused).tid = 0;
        (*refused).time = now();
        (*refused).capability = capability + 1;
        (*refused).syscall = syscall;
        (*refused).tid = tid;
    }
}

/// Writes the supplementary groups of `task`; gives how many it has.
#[inline(always)]
pub fn write_groups(task: Address, destination: *mut [u32; CALLER_GROUPS]) -> u32 {
    let groups = follow(follow(task, &offset::TASK_CRED), &offset::CRED_GROUPS);
    // Beyond the last group stands something else: the agent takes as many as there are.
    // SAFETY: a field of a reserved record.
    unsafe { destination.write(read(groups, &offset::GROUPS_LIST)) };
    read(groups, &offset::GROUPS_COUNT)
}
