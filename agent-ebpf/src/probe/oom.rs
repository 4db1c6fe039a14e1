//! The OOM killer chooses a process: `oom:mark_victim`.
//!
//! Why this: it fires while the victim's memory is still whole, and the walk up its memory groups tells whose limit was hit on
//! cgroup v1 and v2 alike (the level that is full and whose own MEMCG_OOM count is not 0). The current task is the one whose
//! allocation failed. Argument 0 is a task since Linux 6.8 (and in what was backported);
//! where it is a pid (5.10) the agent does not attach this program and `signal.rs` tells of the victim.
//! A second witness where functions take programs is `oom_kill_process`, which comes first, in the same context: its
//! `struct oom_control` names the memory group whose limit it is (argument 0 on every kernel since 4.9; the function is static, and a
//! kernel may have inlined it).
//! Cost: nothing until somebody is killed.

use aya_ebpf::{EbpfContext as _, macros::fentry, programs::FEntryContext};
use lastwords_agent_common::{
    limits::{GROUP_NAME_BYTES, MEMORY_LEVELS},
    record::{MemoryLevel, OomVictim, kind},
};

use crate::{
    container::Container,
    emit::emit_for,
    hook,
    kernel::{Address, current_task, follow, now, offset, pointer, read, read_comm, read_string},
    maps::{OOM_ACCOUNT, OomAccount},
    process,
};

/// From the account to a victim (nanoseconds). A whole group is killed under one account, and the kernel prints a line for each, which a
/// serial console delays by ten milliseconds.
const ACCOUNT_HOLDS: u64 = 5_000_000_000;

hook!("mark_victim", mark_victim, mark_victim_raw, |arguments| {
    let task = pointer(arguments, 0);
    if let Some(container) = Container::of_task(task) {
        tell(container, task);
    }
});

#[fentry]
pub fn oom_kill_process(context: FEntryContext) -> u32 {
    let control = pointer(context.as_ptr().cast(), 0);
    let group = follow(control, &offset::OOM_CONTROL_MEMCG);
    let account = OomAccount { time: now(), owner: directory(group), tid: thread() };
    // It fails for an index beyond the one element only.
    let _ = OOM_ACCOUNT.set(0, account, 0);
    0
}

/// The current thread.
#[inline(always)]
fn thread() -> u64 {
    process::current() & 0xffff_ffff
}

/// The number of a memory group's directory; 0 for none.
#[inline(always)]
fn directory(group: Address) -> u64 {
    // mem_cgroup begins with its css (the agent checks that), so one address serves for both.
    read(follow(follow(group, &offset::CSS_CGROUP), &offset::CGROUP_KN), &offset::KERNFS_NODE_ID)
}

/// Tells of a victim: from `mark_victim`, or from the SIGKILL that comes a moment before it in the same function
/// (`__oom_kill_process`), with the same current task and the victim's memory as whole.
#[inline(always)]
pub fn tell(container: Container, task: Address) {
    emit_for::<OomVictim>(kind::OOM_VICTIM, container, |record| fill(record, task, container));
}

#[inline(always)]
fn fill(record: *mut OomVictim, task: Address, container: Container) {
    let signal = follow(task, &offset::TASK_SIGNAL);
    let memory = follow(task, &offset::TASK_MM);
    let allocating = current_task();
    let tgid: u32 = process::tgid(task);
    // SAFETY: fields of a reserved record.
    unsafe {
        (*record).tgid = tgid;
        (*record).allocating_tgid = process::tgid(allocating);
        (*record).is_main = u32::from(container.main_tgid() == tgid);
        (*record).oom_score_adj = i32::from(read::<i16>(signal, &offset::SIGNAL_OOM_SCORE_ADJ));
        read_comm(&raw mut (*record).comm, follow(task, &offset::TASK_GROUP_LEADER));
        read_comm(&raw mut (*record).allocating_comm, allocating);
        (*record).total_vm_pages = read(memory, &offset::MM_TOTAL_VM);
        // The order of MM_FILEPAGES, MM_ANONPAGES, MM_SWAPENTS, MM_SHMEMPAGES (include/linux/mm_types_task.h).
        (*record).file_pages = resident(memory, 0);
        (*record).anon_pages = resident(memory, 1);
        (*record).shmem_pages = resident(memory, 3);
        (*record).page_tables_bytes = read(memory, &offset::MM_PGTABLES);
        (*record).already_exiting = read::<u32>(task, &offset::TASK_EXIT_CODE);
        let (owner, known) = account();
        (*record).owner = owner;
        (*record).owner_known = known;
        (*record).level_count = walk(task, &raw mut (*record).levels);
    }
}

/// Whose limit it is by the kernel's own account, and whether that was seen.
#[inline(always)]
fn account() -> (u64, u64) {
    match OOM_ACCOUNT.get(0) {
        Some(account) => {
            let is_this = account.tid == thread() && now() - account.time < ACCOUNT_HOLDS;
            (account.owner, u64::from(is_this))
        }
        None => (0, 0),
    }
}

/// A resident-set counter in pages. A percpu counter's central part may lag behind and even be negative: then 0.
#[inline(always)]
fn resident(memory: Address, index: usize) -> u64 {
    let counter =
        memory.wrapping_add(index * offset::RSS_STRIDE.load() as usize + offset::RSS_COUNT.load() as usize);
    let value: i64 = read(counter, &offset::MM_RSS_STAT);
    if value < 0 { 0 } else { value as u64 }
}

/// Writes the memory groups from the task's own up; gives how many.
#[inline(always)]
fn walk(task: Address, levels: *mut [MemoryLevel; MEMORY_LEVELS]) -> u32 {
    let css_set = follow(task, &offset::TASK_CGROUPS);
    let index = offset::MEMORY_CGRP_ID.load() as usize;
    let mut group = follow(css_set.wrapping_add(index * 8), &offset::CSS_SET_SUBSYS);
    let mut count: u32 = 0;
    for level in 0..MEMORY_LEVELS {
        if group.is_null() {
            break;
        }
        let oom_events = group.wrapping_add(offset::MEMCG_OOM.load() as usize * 8);
        let node = follow(follow(group, &offset::CSS_CGROUP), &offset::CGROUP_KN);
        // SAFETY: `level` is below the array's size.
        unsafe {
            let entry = levels.cast::<MemoryLevel>().add(level);
            (*entry).usage_pages = read(group, &offset::MEM_CGROUP_USAGE);
            (*entry).limit_pages = read(group, &offset::MEM_CGROUP_MAX);
            (*entry).oom_events = read(oom_events, &offset::MEM_CGROUP_EVENTS_LOCAL);
            (*entry).id = read(node, &offset::KERNFS_NODE_ID);
            (*entry).oom_group = u64::from(read::<u8>(group, &offset::MEM_CGROUP_OOM_GROUP));
            read_string::<GROUP_NAME_BYTES>(&raw mut (*entry).name, follow(node, &offset::KERNFS_NODE_NAME));
        }
        count += 1;
        group = follow(group, &offset::CSS_PARENT);
    }
    count
}
