//! A failed system call goes to the container's flight recorder, as the table by number says ([`SyscallRule`]).

use lastwords_agent_common::{
    limits::{NOTICES, PATH_BYTES, PLACES},
    record::{self, Counter, FailureEntry, Recorder, Refused, kind, seccomp},
    rules::{EADDRINUSE, LOSSES, SyscallRule, class, object},
};

use crate::{
    container::Owned,
    kernel::{
        Address, call_number, copy, current_caller, current_task, is_compat, now, offset, read_user_bytes,
        read_user_string, register,
    },
    maps::{SYSCALLS, count},
    permission,
    place::Place,
    probe::{dns, listener, lock, peer, socket},
    process,
    recorder::{add, failure_slot, mark, ones_if_zero},
};

const EPERM: u64 = 1;
const EACCES: u64 = 13;
const EROFS: u64 = 30;
const ADDRESS_IN_USE: u64 = EADDRINUSE as u64;
/// connect(2) without waiting; listed for nothing else.
pub const EINPROGRESS: u64 = 115;
/// Relative to the working directory (include/uapi/linux/fcntl.h).
const AT_FDCWD: i32 = -100;

/// A system call of the current task failed with `errno`. `IN_FUNCTION` says that the call's own function gave it, and not a seccomp
/// filter before it.
#[inline(always)]
pub fn on_failure<const TYPED: bool, const IN_FUNCTION: bool>(registers: Address, errno: u64) {
    // First of all, for the many that are in none.
    let Some(owned) = Owned::of_current() else {
        return;
    };
    if (!IN_FUNCTION || offset::COMPAT_IN_FUNCTIONS.load() != 0) && is_compat::<TYPED>(registers) {
        // What it was is not looked up, only that there was one.
        // SAFETY: a field of the container's recorder.
        unsafe { add(&raw mut (*owned.recorder).compat_calls_failed, 1) };
        return;
    }
    let number = call_number::<TYPED>(registers);
    let Some(rule) = SYSCALLS.get(number) else {
        return;
    };
    if rule.carries != 0 && may_be_loss(errno) {
        let descriptor = register::<TYPED>(registers, &offset::REGS_0);
        if peer::lost::<IN_FUNCTION>(owned.recorder, descriptor, number, errno as u32) {
            return;
        }
    }
    if !is_listed(rule, errno) {
        return;
    }
    if rule.object == object::LOCK && lock::is_known(owned.recorder, process::current() as u32, errno as u32)
    {
        return;
    }
    let filter = if IN_FUNCTION { seccomp::PASSED } else { seccomp::UNDECIDED };
    record::<TYPED>(owned, rule, registers, number, errno, filter);
}

/// A system call of the current task ended with EINPROGRESS: is a connection being made, without waiting for it? A function of its own,
/// and not a part of [`on_failure`]: the stacks of both together would be more than there is.
#[inline(never)]
pub fn under_way<const TYPED: bool, const IN_FUNCTION: bool>(registers: Address) {
    let of = |place| register::<TYPED>(registers, place);
    if Owned::of_current().is_none()
        || ((!IN_FUNCTION || offset::COMPAT_IN_FUNCTIONS.load() != 0) && is_compat::<TYPED>(registers))
        || !SYSCALLS.get(call_number::<TYPED>(registers)).is_some_and(|rule| is_listed(rule, EINPROGRESS))
    {
        return;
    }
    let tgid = (process::current() >> 32) as u32;
    socket::remember(tgid, of(&offset::REGS_0), of(&offset::REGS_1), of(&offset::REGS_2));
    if !IN_FUNCTION {
        dns::connected(of(&offset::REGS_0), of(&offset::REGS_1), of(&offset::REGS_2));
    }
}

/// A seccomp filter answered a call of the current task with `errno`.
#[inline(always)]
pub fn on_refusal(registers: Address, errno: u64) {
    let Some(owned) = Owned::of_current() else {
        return;
    };
    if is_compat::<false>(registers) {
        // SAFETY: a field of the container's recorder.
        unsafe { add(&raw mut (*owned.recorder).compat_calls_failed, 1) };
        return;
    }
    let number = call_number::<false>(registers);
    if let Some(rule) = SYSCALLS.get(number)
        && is_listed(rule, errno)
    {
        record::<false>(owned, rule, registers, number, errno, seccomp::DENIED);
    }
}

/// As [`is_loss`](lastwords_agent_common::rules::is_loss), without a branch on the number: the verifier would learn something of it in each, and walk
/// all that follows once for each thing learned.
#[inline(always)]
fn may_be_loss(errno: u64) -> bool {
    let word = errno >> 6;
    let losses = LOSSES[0] & ones_if_zero(word) | LOSSES[1] & ones_if_zero(word ^ 1);
    losses >> (errno & 63) & 1 != 0
}

#[inline(always)]
fn is_listed(rule: &SyscallRule, errno: u64) -> bool {
    let errors = if errno < 64 { rule.errors_low } else { rule.errors_high };
    errno < 128 && errors & (1 << (errno & 63)) != 0
}

#[inline(always)]
fn is_telling(rule: &SyscallRule, errno: u64) -> bool {
    let bit = match errno {
        ADDRESS_IN_USE => 0,
        1..=63 => errno,
        _ => return false,
    };
    rule.telling & (1 << bit) != 0
}

#[inline(always)]
fn record<const TYPED: bool>(
    owned: Owned,
    rule: &SyscallRule,
    registers: Address,
    number: u32,
    errno: u64,
    filter: u32,
) {
    let recorder = owned.recorder;
    let telling = is_telling(rule, errno);
    let is_permission = matches!(errno, EPERM | EACCES);
    // Decided before the ways part below, or the verifier would follow both from each of their ends.
    let is_told = core::hint::black_box(rule.told != 0 || telling && (is_permission || errno == EROFS));
    let Some((slot, index)) = failure_slot(recorder, if telling { class::TELLING } else { rule.class })
    else {
        return;
    };
    let first = register::<TYPED>(registers, &offset::REGS_0);
    let second = register::<TYPED>(registers, &offset::REGS_1);
    let third = register::<TYPED>(registers, &offset::REGS_2);
    let process = process::current();
    let time = now();
    let tgid = (process >> 32) as u32;
    let tid = process as u32;
    if errno == ADDRESS_IN_USE {
        listener::taken(owned, time, process, [first, second, third]);
    }
    // SAFETY: a slot of the container's recorder.
    unsafe {
        (*slot).begin = mark(time, tid);
        (*slot).time = time;
        (*slot).tgid = tgid;
        (*slot).tid = tid;
        let user = current_caller(&raw mut (*slot).comm, &raw mut (*slot).waited);
        (*slot).uid = user as u32;
        (*slot).gid = (user >> 32) as u32;
        (*slot).syscall = number;
        (*slot).errno = errno as u32;
        (*slot).arguments[0] = first;
        (*slot).arguments[1] = second;
        (*slot).arguments[2] = third;
        (*slot).object = u32::from(rule.object);
        (*slot).capabilities = 0;
        (*slot).refused_capability = 0;
        (*slot).seccomp = if filter == seccomp::DENIED { filter } else { seccomp::UNKNOWN };
        (*slot).has_place = 0;
        (*slot).protocol = 0;
        if rule.object == object::SOCKET_ADDRESS {
            (*slot).protocol = listener::protocol_of(first);
        }
        if is_permission {
            permission::write(recorder, slot, current_task(), filter);
        }
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
        if (*slot).length == 0 && !matches!(rule.object, object::NONE | object::DESCRIPTOR | object::LOCK) {
            count(Counter::UnreadableStrings);
        }
        if starts_elsewhere(rule.object, data)
            && let Some(place) = place_of(recorder, index)
        {
            (*slot).has_place = 1;
            let task = current_task();
            let by_descriptor =
                core::hint::black_box(rule.object) != object::PATH_0 && first as i32 != AT_FDCWD;
            let start = Place::choose(
                by_descriptor && rule.object != object::PATH_2,
                Place::descriptor(task, first as u32),
                Place::working_directory(task),
            );
            start.write(Place::root(task), place);
        }
        (*slot).end = mark(time, tid);
    }
    count(Counter::FailuresRecorded);
    if is_told && matches!(rule.object, object::PATH_0 | object::PATH_1 | object::PATH_2) {
        tell(owned, slot, index);
    }
}

/// Whether the call's object is an open file, or a path that does not start from the root.
#[inline(always)]
fn starts_elsewhere(kind_of_object: u8, data: *const [u8; PATH_BYTES]) -> bool {
    // SAFETY: a field of a recorder's slot.
    let is_absolute = unsafe { data.cast::<u8>().read() } == b'/';
    match kind_of_object {
        object::PATH_0 | object::PATH_1 | object::PATH_2 => !is_absolute,
        object::DESCRIPTOR => true,
        _ => false,
    }
}

/// The place with the index of a failure, when its class has places.
#[inline(always)]
fn place_of(recorder: *mut Recorder, index: usize) -> Option<*mut record::Place> {
    // The verifier has to see the bound on the very register that is used.
    let index = core::hint::black_box(index);
    if index >= PLACES {
        return None;
    }
    // SAFETY: `index` is below the number of places.
    Some(unsafe { (&raw mut (*recorder).places).cast::<record::Place>().add(index) })
}

/// Tells the agent of a refused path at once.
#[inline(always)]
fn tell(owned: Owned, slot: *mut FailureEntry, index: usize) {
    let recorder = owned.recorder;
    // SAFETY: fields of the container's recorder.
    unsafe {
        if (*recorder).notices >= NOTICES {
            return;
        }
        (*recorder).notices += 1;
        owned.emit::<Refused>(kind::REFUSED, |record| {
            (*record).tgid = (*slot).tgid;
            (*record).length = (*slot).length;
            (*record).syscall = (*slot).syscall;
            (*record).errno = (*slot).errno;
            (*record).failed_at = (*slot).time;
            (*record).tid = (*slot).tid;
            (*record).group_count = permission::write_groups(current_task(), &raw mut (*record).groups);
            (*record).has_place = 0;
            (*record).padding = 0;
            if let Some(place) = place_of(recorder, index) {
                (*record).has_place = (*slot).has_place;
                copy(&raw mut (*record).place, place);
            }
            copy(&raw mut (*record).path, &raw const (*slot).data);
        });
    }
}
