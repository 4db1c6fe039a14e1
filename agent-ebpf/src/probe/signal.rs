//! Who sends a signal that may end a process: `signal:signal_generate`.
//!
//! Why this: the sender is the current task only here; si_pid is 0 or another number across PID namespaces. The container is the
//! target's, never the sender's. Arguments (sig, kernel_siginfo, task, group, result) are the same on every kernel since 4.x.
//! Where a fault or an abort() happened is taken here too (`fault.rs`): the process still stands at the instruction, and after its exit
//! nothing of its memory is left to look at.
//! Cost: every signal of the node pays a comparison, those that may kill a look-up (about 400 instructions), and one that will kill the
//! process by its own doing the reading of its stack.

use core::hint::black_box;

use lastwords_agent_common::record::SignalEntry;

use crate::{
    container::Container,
    fault, hook,
    kernel::{
        Address, argument, cgroup_node, current_task, follow, is_compat, now, offset, pointer, read,
        read_comm,
    },
    probe::{blocked, oom},
    process,
    recorder::{SignalClass, mark, signal_slot},
};

/// Signals whose default is to be ignored, to stop or to go on: CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH (the same
/// numbers on x86-64 and arm64). Go sends URG to itself all the time.
pub const HARMLESS: u64 = 1 << 17 | 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21 | 1 << 22 | 1 << 23 | 1 << 28;
/// ILL, TRAP, BUS, FPE, SEGV, SYS: raised by the kernel for what the process itself did.
const FAULTS: u64 = 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 11 | 1 << 31;
const SIGKILL: u64 = 9;
/// Those, and ABRT: what ends a process by its own doing, so that the place where it stood is the evidence.
const OWN_DOING: u64 = FAULTS | 1 << 6;
/// First of the real-time signals, which language runtimes use among themselves.
pub const REAL_TIME: u64 = 32;
/// SEND_SIG_PRIV, a siginfo pointer that is none: the kernel itself (include/linux/sched/signal.h).
const SEND_SIG_PRIV: u64 = 1;
/// A forbidden system call, and si_code of one that a filter forbade.
pub const SIGSYS: u64 = 31;
const SYS_SECCOMP: i32 = 1;
/// __AUDIT_ARCH_64BIT (include/uapi/linux/audit.h).
const FULL_WIDTH: u32 = 0x8000_0000;
/// si_code of what the kernel sends.
const SI_KERNEL: i32 = 0x80;

hook!("signal_generate", signal_generate, signal_generate_raw, |arguments| {
    let signal = argument(arguments, 0) & 0xffff_ffff;
    if signal == 0 || signal >= REAL_TIME || HARMLESS & (1 << signal) != 0 {
        return;
    }
    let task = pointer(arguments, 2);
    let Some(container) = Container::of_task(task) else {
        return;
    };
    if is_fault_of_the_dying(signal, task) {
        return;
    }
    let information = argument(arguments, 1);
    // Two senders of this signal in this form reach a container: the OOM killer, and the end of a PID namespace, which comes after the
    // exit of its main process and is then passed over.
    if offset::OOM_BY_SIGNAL.load() == 1 && signal == SIGKILL && information == SEND_SIG_PRIV {
        oom::tell(container, task);
    }
    let Some(recorder) = container.recorder() else {
        return;
    };
    let tgid: u32 = process::tgid(task);
    let tid: u32 = process::tid(task);
    // The target may be awake already: the sooner it is looked at the better.
    if container.main_tgid() == tgid && information != SEND_SIG_PRIV {
        blocked::told(container, recorder, task, signal);
    }
    let time = now();
    // Before the ways part below, or the verifier would follow this for each of them.
    let place = if OWN_DOING & (1 << signal) != 0 && raised_here(tgid) && !is_handled(task, signal) {
        fault::record(arguments, task, time, tid)
    } else {
        0
    };
    let (code, address) = match information {
        0 => (0, 0),
        SEND_SIG_PRIV => (SI_KERNEL, 0),
        information => code_and_address(information as Address, signal),
    };
    let class = if container.main_tgid() != tgid {
        SignalClass::ToOther
    } else if code > 0 && FAULTS & (1 << signal) != 0 {
        SignalClass::MainFault
    } else {
        SignalClass::ToMain
    };
    let result = argument(arguments, 4) as u32;
    let slot = signal_slot(recorder, class);
    // SAFETY: a slot of the container's recorder.
    unsafe {
        (*slot).begin = mark(time, tid);
        (*slot).time = time;
        (*slot).signal = signal as u32;
        (*slot).code = code;
        (*slot).result = result;
        (*slot).address = address;
        (*slot).place = place;
        (*slot).target_tgid = tgid;
        (*slot).target_tid = tid;
        read_comm(&raw mut (*slot).target_comm, task);
        write_sender(slot);
        (*slot).end = mark(time, tid);
    }
});

#[inline(always)]
fn code_and_address(information: Address, signal: u64) -> (i32, u64) {
    let code: i32 = read(information, &offset::SIGINFO_CODE);
    let is_fault = code > 0 && FAULTS & (1 << signal) != 0;
    let place = if signal == SIGSYS { &offset::SIGINFO_SYSCALL } else { &offset::SIGINFO_ADDRESS };
    (code, if is_fault { read(information, place) } else { 0 })
}

/// A thread leaves because a filter ended it: as the kernel does that without a signal (for one thread of several; for a whole process
/// up to Linux 5.15), what the signal would have said is written in its place.
#[inline(always)]
pub fn ended_by_filter(container: Container, task: Address, tgid: u32, tid: u32) {
    let registers = blocked::registers(task);
    let Some(recorder) = container.recorder().filter(|_| !registers.is_null()) else {
        return;
    };
    let time = now();
    let class = if container.main_tgid() == tgid { SignalClass::ToMain } else { SignalClass::ToOther };
    let width = if is_compat::<false>(registers) { 0 } else { FULL_WIDTH };
    let number: u32 = read(registers, &offset::REGS_CALL);
    let slot = signal_slot(recorder, class);
    // SAFETY: a slot of the container's recorder.
    unsafe {
        (*slot).begin = mark(time, tid);
        (*slot).time = time;
        (*slot).signal = SIGSYS as u32;
        (*slot).code = SYS_SECCOMP;
        (*slot).result = 0;
        (*slot).address = u64::from(width) << 32 | u64::from(number);
        (*slot).place = 0;
        (*slot).target_tgid = tgid;
        (*slot).target_tid = tid;
        read_comm(&raw mut (*slot).target_comm, task);
        write_sender(slot);
        (*slot).end = mark(time, tid);
    }
}

/// Whether the process that gets the signal is the one that runs: only its own stack can be read.
#[inline(always)]
fn raised_here(tgid: u32) -> bool {
    (process::current() >> 32) as u32 == tgid
}

/// Whether it is a fault of a thread that is being killed already. One that touches memory then is told of a fault that it never made:
/// the fault's handler gives up waiting for the memory map (mmap_read_lock_killable in lock_mm_and_find_vma, mm/memory.c, since
/// Linux 6.5 and 6.1.37) and the architecture's code takes that for an address that is not mapped. One test at the end, or the verifier
/// would follow what comes after it once for a fault and once for another signal.
#[inline(always)]
fn is_fault_of_the_dying(signal: u64, task: Address) -> bool {
    let pending: u64 = read(task, &offset::TASK_PENDING);
    black_box(pending >> (SIGKILL - 1) & FAULTS >> signal & 1) != 0
}

/// Whether the process does something else than to end. A handler gives itself up (SIG_DFL) before it raises the signal again, and
/// where the kernel forces a signal on a process that blocks or ignores it, it does so before it tells us (force_sig_info_to_task,
/// kernel/signal.c). So what runtimes handle by the thousand costs this one look.
#[inline(always)]
fn is_handled(task: Address, signal: u64) -> bool {
    let action = follow(task, &offset::TASK_SIGHAND)
        .wrapping_add(offset::SIGHAND_ACTION.load() as usize)
        .wrapping_add((signal as usize - 1) * offset::SIGACTION_STRIDE.load() as usize);
    read::<u64>(action, &offset::SIGACTION_HANDLER) != 0
}

#[inline(always)]
fn write_sender(slot: *mut SignalEntry) {
    let sender = current_task();
    // SAFETY: as in the hook.
    unsafe {
        (*slot).sender_tgid = (process::current() >> 32) as u32;
        (*slot).sender_cgroup = read(cgroup_node(sender), &offset::KERNFS_NODE_ID);
        read_comm(&raw mut (*slot).sender_comm, sender);
        read_comm(&raw mut (*slot).sender_parent_comm, follow(sender, &offset::TASK_REAL_PARENT));
    }
}
