//! What the main process waits in when it is told to stop: its registers at `signal:signal_generate`, else at `signal:signal_deliver`.
//!
//! Why these: a task that sleeps has the call's number and arguments in the registers at the top of its kernel stack, and a SIGTERM that
//! it ignores (a PID 1 without a handler) or that another thread takes leaves it asleep: then `signal_generate`, which has the sender's
//! context, can read them. A task that takes the signal itself has been woken by then, and whether it slept or was running is told
//! only by what its call gave: that is known in its own context, when the signal is delivered. Nothing is told of one that ran.
//! Arguments (sig, siginfo, k_sigaction) are the same on every kernel since 2.6.
//! Any signal also ends a wait for a lock (`lock.rs`), as the alarm of `flock -w` does.
//! Cost: every signal that is delivered pays a comparison, those that may end a process a look-up.

use aya_ebpf::Global;
use lastwords_agent_common::record::{BlockedEntry, Recorder, descriptor};

use crate::{
    container::Container,
    hook,
    kernel::{
        Address, argument, current_task, file_of, file_table, follow, follow_user, is_compat, now, offset,
        read, read_comm,
    },
    maps::{REGISTERS, SYSCALLS},
    probe::{
        lock,
        signal::{HARMLESS, REAL_TIME},
        socket::write_address,
    },
    process,
    recorder::mark,
    working_directory,
};

/// INT, QUIT, KILL, TERM: how runtimes end a container. nginx and others ask for QUIT.
const STOPPING: u64 = 1 << 2 | 1 << 3 | 1 << 9 | 1 << 15;
/// TASK_INTERRUPTIBLE and TASK_UNINTERRUPTIBLE (include/linux/sched.h).
const SLEEPING: u32 = 3;
/// A stop that came longer ago than this (nanoseconds) has nothing to do with the next one: the longest usual
/// terminationGracePeriodSeconds.
const FORGOTTEN: u64 = 600_000_000_000;
/// From the signal to its delivery to a task that was woken by it (nanoseconds); a loaded node may need some tens of milliseconds.
const WOKEN: u64 = 100_000_000;
/// What a call gives that a signal interrupted (include/linux/errno.h): ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND,
/// ERESTART_RESTARTBLOCK, EINTR.
const INTERRUPTED: [i64; 5] = [-512, -513, -514, -516, -4];
/// S_IFMT and S_IFSOCK (include/uapi/linux/stat.h).
const FILE_TYPE: u16 = 0o170_000;
const SOCKET: u16 = 0o140_000;

/// A signal was sent to the main process of a container.
#[inline(always)]
pub fn told(container: Container, recorder: *mut Recorder, task: Address, signal: u64) {
    let is_own = Container::of_current().is_some_and(|sender| sender.id() == container.id());
    if STOPPING & (1 << signal) == 0 || is_own {
        return;
    }
    let time = now();
    let leader = follow(task, &offset::TASK_GROUP_LEADER);
    let tid: u32 = process::tid(leader);
    // SAFETY: fields of the container's recorder.
    unsafe {
        let entry = &raw mut (*recorder).blocked;
        if (*entry).begin != 0 && time - (*entry).time < FORGOTTEN {
            return;
        }
        (*entry).begin = mark(time, tid);
        (*entry).time = time;
        (*entry).signal = signal as u32;
        (*entry).tid = tid;
        (*entry).waits = 0;
        read_comm(&raw mut (*entry).comm, leader);
        let registers = registers(leader);
        if read::<u32>(leader, &offset::TASK_STATE) & SLEEPING != 0 && !registers.is_null() {
            write(entry, leader, registers, &offset::REGS_CALL);
        }
        (*entry).end = mark(time, tid);
    }
}

hook!("signal_deliver", signal_deliver, signal_deliver_raw, |arguments| {
    let signal = argument(arguments, 0) & 0xffff_ffff;
    if signal == 0 || signal >= REAL_TIME || HARMLESS & (1 << signal) != 0 {
        return;
    }
    let Some(recorder) = Container::of_current().and_then(Container::recorder) else {
        return;
    };
    let tid = process::current() as u32;
    lock::interrupted(recorder, tid);
    if STOPPING & (1 << signal) == 0 {
        return;
    }
    let task = current_task();
    let registers = registers(task);
    // SAFETY: fields of the container's recorder.
    unsafe {
        let entry = &raw mut (*recorder).blocked;
        let is_it = (*entry).begin != 0
            && (*entry).waits == 0
            && (*entry).tid == tid
            && now() - (*entry).time < WOKEN;
        if is_it && !registers.is_null() && is_interrupted(registers) {
            write(entry, task, registers, &offset::REGS_CALL_AT_SIGNAL);
        }
    }
});

/// Whether the call that has just ended was interrupted. Where the kernel has set it up to start anew already, and its result is
/// overwritten (arm64), the next instruction is the call's own.
#[inline(always)]
fn is_interrupted(registers: Address) -> bool {
    let result: i64 = read(registers, &offset::REGS_RESULT);
    let instruction = offset::CALL_INSTRUCTION.load();
    INTERRUPTED.contains(&result)
        || instruction != 0 && follow_user(read(registers, &offset::REGS_NEXT)) == instruction
}

/// Where a task's registers are while it is in the kernel; null when the agent could not find out.
#[inline(always)]
pub fn registers(task: Address) -> Address {
    match REGISTERS.get(0) {
        Some(distance) if *distance != 0 => {
            follow(task, &offset::TASK_STACK).wrapping_add(*distance as usize)
        }
        _ => core::ptr::null(),
    }
}

/// Writes the call and what its first argument is.
///
/// # Safety
/// `entry` must be that of a recorder.
#[inline(always)]
unsafe fn write(entry: *mut BlockedEntry, task: Address, registers: Address, number: &Global<u32>) {
    if is_compat::<false>(registers) {
        // Its numbers are others.
        return;
    }
    let number: u32 = read(registers, number);
    let Some(rule) = SYSCALLS.get(number) else {
        // No call: it was interrupted in its own code.
        return;
    };
    let first: u64 = read(registers, &offset::REGS_0);
    // SAFETY: by the caller.
    unsafe {
        (*entry).syscall = number;
        (*entry).arguments = [first, read(registers, &offset::REGS_1), read(registers, &offset::REGS_2)];
        (*entry).descriptor = descriptor::NONE;
        (*entry).waits = 1;
        if rule.descriptor != 0 {
            write_file(entry, task, first & 0xffff_ffff);
        }
    }
}

/// Writes what an open descriptor of `task` is.
///
/// # Safety
/// As [`write`].
#[inline(always)]
unsafe fn write_file(entry: *mut BlockedEntry, task: Address, descriptor: u64) {
    let table = file_table(task);
    let size: u32 = read(table, &offset::TABLE_SIZE);
    if descriptor >= u64::from(size) {
        return;
    }
    let file = file_of(table, descriptor as u32);
    let mode: u16 = read(follow(file, &offset::FILE_INODE), &offset::INODE_MODE);
    // SAFETY: by the caller.
    unsafe {
        if mode & FILE_TYPE == SOCKET {
            write_socket(entry, follow(follow(file, &offset::FILE_PRIVATE), &offset::SOCKET_SOCK));
        } else if mode != 0 {
            (*entry).descriptor = descriptor::FILE;
            working_directory::write_file(task, file, &raw mut (*entry).path);
        }
    }
}

/// Writes both ends of a socket; the family tells the agent when it is no internet one.
///
/// # Safety
/// As [`write`].
#[inline(always)]
unsafe fn write_socket(entry: *mut BlockedEntry, socket: Address) {
    let peer: u16 = read(socket, &offset::SOCK_PORT);
    let own: u16 = read(socket, &offset::SOCK_NUM);
    // SAFETY: by the caller.
    unsafe {
        (*entry).descriptor = descriptor::SOCKET;
        (*entry).protocol = u32::from(read::<u16>(socket, &offset::SOCK_PROTOCOL));
        let end = (&raw mut (*entry).peer).cast();
        write_address(socket, peer, &offset::SOCK_ADDRESS_4, &offset::SOCK_ADDRESS_6, end);
        let end = (&raw mut (*entry).own).cast();
        write_address(socket, own.to_be(), &offset::SOCK_BOUND_4, &offset::SOCK_BOUND_6, end);
    }
}
