//! A failed system call goes to the container's flight recorder, as the table by number says ([`SyscallRule`]).

use aya_ebpf::helpers;
use lastwords_agent_common::{
    limits::{NOTICES, PATH_BYTES},
    record::{Counter, FailureEntry, Recorder, Refused, kind},
    rules::{EADDRINUSE, SyscallRule, class, object},
};

use crate::{
    container::Container,
    emit::emit_for,
    kernel::{
        Address, call_number, current_task, is_compat, now, offset, read_comm, read_user_bytes,
        read_user_string, register,
    },
    maps::{SYSCALLS, count},
    probe::{listener, socket},
    recorder::{add, failure_slot, mark},
};

const EPERM: u32 = 1;
const EACCES: u32 = 13;
const EROFS: u32 = 30;
/// connect(2) without waiting; listed for nothing else.
const EINPROGRESS: u32 = 115;
/// Relative to the working directory (include/uapi/linux/fcntl.h).
const AT_FDCWD: i64 = -100;

/// A system call of the current task failed with `errno`.
#[inline(always)]
pub fn on_failure<const TYPED: bool>(registers: Address, errno: u32) {
    if is_compat::<TYPED>(registers) {
        compat_call_failed();
        return;
    }
    let number = call_number::<TYPED>(registers);
    let Some(rule) = SYSCALLS.get(number) else {
        return;
    };
    if !is_listed(rule, errno) {
        return;
    }
    let Some(container) = Container::of_current() else {
        return;
    };
    if errno == EINPROGRESS {
        let of = |place| register::<TYPED>(registers, place);
        let tgid = (helpers::bpf_get_current_pid_tgid() >> 32) as u32;
        socket::remember(tgid, of(&offset::REGS_0), of(&offset::REGS_1), of(&offset::REGS_2));
        return;
    }
    if let Some(recorder) = container.recorder() {
        record::<TYPED>(container, recorder, rule, registers, number, errno);
    }
}

/// What a 32-bit program's failed call was is not looked up, only that there was one.
#[inline(always)]
fn compat_call_failed() {
    if let Some(recorder) = Container::of_current().and_then(Container::recorder) {
        // SAFETY: a field of the container's recorder.
        unsafe { add(&raw mut (*recorder).compat_calls_failed, 1) };
    }
}

#[inline(always)]
fn is_listed(rule: &SyscallRule, errno: u32) -> bool {
    let errors = if errno < 64 { rule.errors_low } else { rule.errors_high };
    errno < 128 && errors & (1 << (errno & 63)) != 0
}

#[inline(always)]
fn is_telling(rule: &SyscallRule, errno: u32) -> bool {
    let bit = match errno {
        EADDRINUSE => 0,
        1..=63 => errno,
        _ => return false,
    };
    rule.telling & (1 << bit) != 0
}

#[inline(always)]
fn record<const TYPED: bool>(
    container: Container,
    recorder: *mut Recorder,
    rule: &SyscallRule,
    registers: Address,
    number: u32,
    errno: u32,
) {
    let telling = is_telling(rule, errno);
    // Decided before the ways part below, or the verifier would follow both from each of their ends.
    let is_told = core::hint::black_box(rule.told != 0 || telling && matches!(errno, EPERM | EACCES | EROFS));
    let Some(slot) = failure_slot(recorder, if telling { class::TELLING } else { rule.class }) else {
        return;
    };
    let first = register::<TYPED>(registers, &offset::REGS_0);
    let second = register::<TYPED>(registers, &offset::REGS_1);
    let third = register::<TYPED>(registers, &offset::REGS_2);
    let process = helpers::bpf_get_current_pid_tgid();
    let user = helpers::bpf_get_current_uid_gid();
    let time = now();
    let tgid = (process >> 32) as u32;
    let tid = process as u32;
    if errno == EADDRINUSE {
        listener::taken(container, recorder, time, process, [first, second, third]);
    }
    // SAFETY: a slot of the container's recorder.
    unsafe {
        (*slot).begin = mark(time, tid);
        (*slot).time = time;
        (*slot).tgid = tgid;
        (*slot).tid = tid;
        (*slot).uid = user as u32;
        (*slot).gid = (user >> 32) as u32;
        (*slot).syscall = number;
        (*slot).errno = errno;
        (*slot).arguments[0] = first;
        (*slot).arguments[1] = second;
        (*slot).arguments[2] = third;
        (*slot).object = u32::from(rule.object);
        read_comm(&raw mut (*slot).comm, current_task());
        let data = &raw mut (*slot).data;
        (*slot).length = match rule.object {
            object::PATH_0 => read_user_string::<PATH_BYTES>(data, first),
            object::PATH_1 => read_user_string::<PATH_BYTES>(data, second),
            object::PATH_2 => read_user_string::<PATH_BYTES>(data, third),
            object::SOCKET_ADDRESS => read_user_bytes::<PATH_BYTES, 127>(data, second, third),
            object::SOCKET_ADDRESS_4 => read_user_bytes::<PATH_BYTES, 127>(
                data,
                register::<TYPED>(registers, &offset::REGS_4),
                register::<TYPED>(registers, &offset::REGS_5),
            ),
            _ => 0,
        };
        if (*slot).length == 0 && rule.object != object::NONE {
            count(Counter::UnreadableStrings);
        }
        (*slot).end = mark(time, tid);
    }
    count(Counter::FailuresRecorded);
    if is_told {
        tell(container, recorder, rule.object, slot, first, tgid);
    }
}

/// Tells the agent of a refused path at once.
#[inline(always)]
fn tell(
    container: Container,
    recorder: *mut Recorder,
    kind_of_object: u8,
    slot: *mut FailureEntry,
    first: u64,
    tgid: u32,
) {
    let directory = match kind_of_object {
        object::PATH_0 | object::PATH_2 => AT_FDCWD,
        object::PATH_1 => i64::from(first as i32),
        _ => return,
    };
    // SAFETY: fields of the container's recorder.
    unsafe {
        if (*recorder).notices >= NOTICES {
            return;
        }
        (*recorder).notices += 1;
        emit_for::<Refused>(kind::REFUSED, container, |record| {
            (*record).tgid = tgid;
            (*record).length = (*slot).length;
            (*record).directory = directory;
            (*record).syscall = (*slot).syscall;
            (*record).errno = (*slot).errno;
            (*record).path = (*slot).data;
        });
    }
}
