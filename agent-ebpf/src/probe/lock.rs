//! A file that a process wants to lock is locked: `filelock:posix_lock_inode` (fcntl(2), POSIX and open file description locks) and
//! `filelock:flock_lock_inode` (flock(2)).
//!
//! Why these: they come inside the kernel's own look at the file's locks, with the result and while the lock that is in the way is
//! in the list, so its holder is named where nobody could find it later, also across PID namespaces and for open file description
//! locks, which /proc/locks shows without a process. Result 1 (FILE_LOCK_DEFERRED) starts a wait; a process that is killed while it
//! waits comes here no more. Arguments (inode, file_lock, result) are the same since Linux 4.8; the members' names changed in 6.9.
//! Cost: calls that lock or unlock only; one that gets its lock in a container that was never refused one about 250 instructions.
//!
//! Network file systems ask their server after the local look, which they mark FL_ACCESS; nobody on this node holds the lock that the
//! server then refuses. That comes with `filelock:fcntl_setlk`, which has the result of the whole call in the same form; flock(2) has
//! no such event, its result is the system call's.

use core::hint::black_box;

use aya_ebpf::helpers;
use lastwords_agent_common::{
    limits::{LOCK_NOTICE_PAUSE, LOCK_NOTICES, LOCKS, LOCKS_OF_FILE},
    record::{LockEntry, LockHeld, Recorder, kind, lock},
};

use crate::{
    container::Container,
    emit::emit_for,
    hook,
    kernel::{Address, argument, current_task, follow, now, offset, pointer, read, read_at, read_comm},
    process,
    recorder::{lock_slot, mark, ones_if_zero},
    working_directory,
};

/// include/linux/fs.h and include/linux/filelock.h.
const FILE_LOCK_DEFERRED: i32 = 1;
const EAGAIN: i32 = 11;
const EACCES: i32 = 13;
const EDEADLK: i32 = 35;
/// Asks whether it could be locked and locks nothing.
const FL_ACCESS: u32 = 8;
/// F_RDLCK is 0.
const F_WRLCK: u8 = 1;
const F_UNLCK: u8 = 2;

hook!("posix_lock_inode", posix_lock_inode, posix_lock_inode_raw, |arguments| on_lock::<false>(arguments));
hook!("flock_lock_inode", flock_lock_inode, flock_lock_inode_raw, |arguments| on_lock::<true>(arguments));

hook!("fcntl_setlk", fcntl_setlk, fcntl_setlk_raw, |arguments| {
    let errno = (argument(arguments, 2) as i32).wrapping_neg();
    let wanted = pointer(arguments, 1);
    if !matches!(errno, EAGAIN | EACCES) || wanted.is_null() {
        return;
    }
    let Some(container) = Container::of_current() else {
        return;
    };
    let Some(recorder) = container.recorder() else {
        return;
    };
    if !is_known(recorder, process::current() as u32, errno as u32) {
        record::<false, false>(
            container,
            recorder,
            pointer(arguments, 0),
            wanted,
            lock::REFUSED,
            black_box(errno as u32),
        );
    }
});

/// A lock that is wanted.
struct Wanted {
    inode: u64,
    device: u32,
    start: u64,
    end: u64,
    is_write: u32,
}

#[inline(always)]
fn on_lock<const FLOCK: bool>(arguments: *const u64) {
    let Some(container) = Container::of_current() else {
        return;
    };
    let Some(recorder) = container.recorder() else {
        return;
    };
    let wanted = pointer(arguments, 1);
    if wanted.is_null() {
        // Never: but newer verifiers know that some events of this kind have none.
        return;
    }
    let result = argument(arguments, 2) as i32;
    let is_question = read::<u32>(wanted, &offset::LOCK_FLAGS) & FL_ACCESS != 0;
    let state = match result {
        0 if is_question => lock::ASKED,
        0 => {
            // SAFETY: a field of the container's recorder.
            if unsafe { (*recorder).lock_head } != 0 {
                had(recorder, pointer(arguments, 0), wanted);
            }
            return;
        }
        FILE_LOCK_DEFERRED => lock::WAITING,
        result if result == -EAGAIN || result == -EDEADLK => lock::REFUSED,
        _ => return,
    };
    let errno = if state == lock::REFUSED { -result as u32 } else { 0 };
    record::<FLOCK, true>(
        container,
        recorder,
        pointer(arguments, 0),
        wanted,
        black_box(state),
        black_box(errno),
    );
}

#[inline(always)]
fn describe(inode: Address, wanted: Address) -> Wanted {
    Wanted {
        inode: read(inode, &offset::INODE_NUMBER),
        device: read(follow(inode, &offset::INODE_SUPER), &offset::SUPER_DEVICE),
        start: read(wanted, &offset::LOCK_START),
        end: read(wanted, &offset::LOCK_END),
        is_write: is_write(wanted),
    }
}

#[inline(always)]
fn is_write(lock: Address) -> u32 {
    u32::from(read::<u8>(lock, &offset::LOCK_TYPE) & F_WRLCK)
}

/// The container has a lock now: tries for the same bytes of the same file have succeeded.
#[inline(always)]
fn had(recorder: *mut Recorder, inode: Address, lock: Address) {
    if read::<u8>(lock, &offset::LOCK_TYPE) == F_UNLCK {
        return;
    }
    let has = describe(inode, lock);
    let time = now();
    for index in 0..LOCKS {
        // SAFETY: `index` is below the number of entries.
        unsafe {
            let entry = (&raw mut (*recorder).locks).cast::<LockEntry>().add(index);
            let covers = ones_if_zero((*entry).inode ^ has.inode)
                & ones_if_zero(u64::from((*entry).device ^ has.device))
                & ones_if_zero((*entry).had)
                & ones_if_not_above(has.start, (*entry).range_start)
                & ones_if_not_above((*entry).range_end, has.end)
                & ones_if_not_above(u64::from((*entry).is_write), u64::from(has.is_write));
            (*entry).had = (*entry).had & !covers | time & covers;
        }
    }
}

/// `SEARCHED`: the kernel's list of the file's locks is what decided, and not a file server or a FUSE daemon.
#[inline(always)]
fn record<const FLOCK: bool, const SEARCHED: bool>(
    container: Container,
    recorder: *mut Recorder,
    inode: Address,
    lock: Address,
    state: u32,
    errno: u32,
) {
    let wanted = describe(inode, lock);
    let process = process::current();
    let user = helpers::bpf_get_current_uid_gid();
    let (tgid, tid) = ((process >> 32) as u32, process as u32);
    let time = now();
    // The kernel's lists hold its own numbers, which are other processes' ones in another PID namespace.
    let (holder, searched) =
        if process::is_initial_namespace() { holder::<FLOCK>(inode, lock, &wanted) } else { (0, 0) };
    let Some((slot, same)) = lock_slot(recorder, wanted.inode, wanted.device, tgid) else {
        return;
    };
    // SAFETY: a slot of the container's recorder.
    unsafe {
        let goes_on = same & ones_if_zero((*slot).had);
        let known = (*slot).holder & same as u32;
        (*slot).begin = mark(time, tid);
        (*slot).first = (*slot).first & goes_on | time & !goes_on;
        (*slot).count = ((*slot).count & goes_on) + 1;
        (*slot).time = time;
        (*slot).had = 0;
        (*slot).inode = wanted.inode;
        (*slot).device = wanted.device;
        (*slot).range_start = wanted.start;
        (*slot).range_end = wanted.end;
        (*slot).is_write = wanted.is_write;
        (*slot).is_flock = u32::from(FLOCK);
        (*slot).tgid = tgid;
        (*slot).tid = tid;
        (*slot).uid = user as u32;
        (*slot).gid = (user >> 32) as u32;
        (*slot).holder = holder;
        (*slot).searched = if SEARCHED { searched } else { 0 };
        (*slot).state = state;
        (*slot).errno = errno;
        read_comm(&raw mut (*slot).comm, current_task());
        let file = follow(lock, &offset::LOCK_FILE);
        working_directory::write_file(current_task(), file, &raw mut (*slot).path);
        (*slot).end = mark(time, tid);
        if holder == 0 || holder == known {
            return;
        }
        let quiet = time - (*recorder).lock_noticed > LOCK_NOTICE_PAUSE;
        if (*recorder).lock_notices >= LOCK_NOTICES && !quiet {
            return;
        }
        (*recorder).lock_notices += 1;
        (*recorder).lock_noticed = time;
    }
    emit_for::<LockHeld>(kind::LOCK_HELD, container, |record| {
        // SAFETY: fields of a reserved record.
        unsafe {
            (*record).holder = holder;
            (*record).device = wanted.device;
            (*record).inode = wanted.inode;
        }
    });
}

/// Who took the lock that is in the way, and whether all were looked at. Without branches: each would double what the verifier follows.
#[inline(always)]
fn holder<const FLOCK: bool>(inode: Address, lock: Address, wanted: &Wanted) -> (u32, u32) {
    let place = if FLOCK { &offset::LOCKS_FLOCK } else { &offset::LOCKS_POSIX };
    let locks = follow(inode, &offset::INODE_LOCKS).wrapping_add(place.load() as usize);
    let owner: u64 = read(lock, &offset::LOCK_OWNER);
    let (mut found, mut ended) = (0, 0);
    let mut node = next(locks);
    for _ in 0..LOCKS_OF_FILE {
        ended |= ones_if_zero(node as u64 ^ locks as u64);
        let other = node.wrapping_sub(offset::LOCK_LIST.load() as usize);
        let conflicts = !ended
            & ones_if_zero(found)
            & !ones_if_zero(read::<u64>(other, &offset::LOCK_OWNER) ^ owner)
            & !ones_if_zero(u64::from(is_write(other) | wanted.is_write))
            & ones_if_not_above(read(other, &offset::LOCK_START), wanted.end)
            & ones_if_not_above(wanted.start, read(other, &offset::LOCK_END));
        found |= u64::from(read::<u32>(other, &offset::LOCK_PID)) & conflicts;
        node = next(node);
    }
    ended |= !ones_if_zero(found);
    (found as u32, ended as u32 & 1)
}

/// `list_head.next`, its first member.
#[inline(always)]
fn next(node: Address) -> Address {
    read_at::<u64>(node) as Address
}

/// All bits set when `a` is not above `b`; both are file offsets, which never have the highest bit set.
#[inline(always)]
fn ones_if_not_above(a: u64, b: u64) -> u64 {
    let difference = black_box(b.wrapping_sub(a));
    black_box(difference >> 63).wrapping_sub(1)
}

/// A call that locks has failed: gives whether the tries of this thread that are recorded say so, after it has been put to one that
/// somebody else was asked about.
#[inline(always)]
pub fn is_known(recorder: *mut Recorder, tid: u32, errno: u32) -> bool {
    let mut known = 0;
    for index in 0..LOCKS {
        // SAFETY: `index` is below the number of entries.
        unsafe {
            let entry = (&raw mut (*recorder).locks).cast::<LockEntry>().add(index);
            let own = ones_if_zero(u64::from((*entry).tid ^ tid)) & ones_if_zero((*entry).had);
            let asked = own & ones_if_zero(u64::from((*entry).state ^ lock::ASKED));
            known |= own & ones_if_zero(u64::from((*entry).state ^ lock::REFUSED)) | asked;
            (*entry).state = (*entry).state & !asked as u32 | lock::REFUSED & asked as u32;
            (*entry).errno = (*entry).errno & !asked as u32 | errno & asked as u32;
        }
    }
    known != 0
}

/// A signal is delivered to a thread: if it waited for a lock, it waits no more.
#[inline(always)]
pub fn interrupted(recorder: *mut Recorder, tid: u32) {
    // SAFETY: a field of a recorder.
    if unsafe { (*recorder).lock_head } == 0 {
        return;
    }
    let time = now();
    for index in 0..LOCKS {
        // SAFETY: `index` is below the number of entries.
        unsafe {
            let entry = (&raw mut (*recorder).locks).cast::<LockEntry>().add(index);
            let waits = ones_if_zero(u64::from((*entry).tid ^ tid))
                & ones_if_zero(u64::from((*entry).state ^ lock::WAITING))
                & ones_if_zero((*entry).had);
            (*entry).state = (*entry).state & !waits as u32 | lock::INTERRUPTED & waits as u32;
            (*entry).time = (*entry).time & !waits | time & waits;
        }
    }
}
