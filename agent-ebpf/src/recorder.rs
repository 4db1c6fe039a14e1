//! The flight recorder: rings of entries in a map element. No helper gives an exclusive slot on the oldest kernels in use, so two
//! processors may write one slot at once; `begin` and `end` then differ and the agent counts the entry as torn.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use lastwords_agent_common::{
    limits::{
        CHILD_EXITS, CONTAINER_LISTENERS, FAILURES, LOCKS, LOOKING_FAILURES, MAIN_FAULTS, MAIN_SIGNALS,
        MISSING_FAILURES, NETWORK_FAILURES, OPENED_FILES, OTHER_SIGNALS, READ_FILES, TELLING_FAILURES,
        UNIX_LISTENERS, WRITTEN_FILES,
    },
    record::{
        ChildExitEntry, FailureEntry, Listener, LockEntry, OpenedEntry, Recorder, SignalEntry, UnixListener,
    },
};

/// Which signals share slots.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SignalClass {
    /// Sent to the main process.
    ToMain = 0,
    /// A fault of the main process.
    MainFault = 1,
    /// Sent to another process of the container.
    ToOther = 2,
}

/// Takes the next number of a ring. An exact count even when two processors race: only the slot may be shared.
#[inline(always)]
pub fn next(head: *mut u64) -> u64 {
    // SAFETY: an aligned field of a map element. Two operations instead of one, because an atomic add that returns the old
    // value needs Linux 5.12.
    unsafe {
        let before = head.read_volatile();
        add(head, 1);
        before
    }
}

/// Counts, exactly even when two processors race.
///
/// # Safety
/// `counter` is an aligned field of a map element.
#[inline(always)]
pub unsafe fn add(counter: *mut u64, amount: u64) {
    // SAFETY: the caller's promise.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, amount) };
}

/// One byte for each class, in the order of `rules::class`: the slots before it, and its size less one. Looked up by shifting and not by
/// matching: four ways here would be four times everything that follows, for the verifier.
const BEFORE: u64 = (TELLING_FAILURES as u64) << 8
    | ((TELLING_FAILURES + MISSING_FAILURES) as u64) << 16
    | ((TELLING_FAILURES + MISSING_FAILURES + NETWORK_FAILURES) as u64) << 24;
const MASKS: u64 = (TELLING_FAILURES as u64 - 1)
    | (MISSING_FAILURES as u64 - 1) << 8
    | (NETWORK_FAILURES as u64 - 1) << 16
    | (LOOKING_FAILURES as u64 - 1) << 24;

/// The slot for the next failure of a class, and its index among all of them.
#[inline(always)]
pub fn failure_slot(recorder: *mut Recorder, failure_class: u8) -> Option<(*mut FailureEntry, usize)> {
    let class = core::hint::black_box(usize::from(failure_class)) & 3;
    // SAFETY: `class` is below the number of heads.
    let number = unsafe { next((&raw mut (*recorder).failure_heads).cast::<u64>().add(class)) };
    let of_class = |bytes: u64| bytes >> (class * 8) & 0xff;
    let index = core::hint::black_box(of_class(BEFORE) + (number & of_class(MASKS))) as usize;
    if index >= FAILURES {
        // Never: but only this tells the verifier.
        return None;
    }
    // SAFETY: `index` is below the number of slots.
    Some((unsafe { (&raw mut (*recorder).failures).cast::<FailureEntry>().add(index) }, index))
}

/// The slot of the network failure of this number; of those that are overwritten or not there yet, another one's.
#[inline(always)]
pub fn network_slot(recorder: *mut Recorder, number: u64) -> *mut FailureEntry {
    let place = core::hint::black_box(number as usize) & (NETWORK_FAILURES - 1);
    // SAFETY: the index is below the number of slots.
    unsafe {
        (&raw mut (*recorder).failures)
            .cast::<FailureEntry>()
            .add(TELLING_FAILURES + MISSING_FAILURES + place)
    }
}

/// The slot for the next signal of a class.
#[inline(always)]
pub fn signal_slot(recorder: *mut Recorder, signal_class: SignalClass) -> *mut SignalEntry {
    const FAULTS: usize = MAIN_SIGNALS;
    const OTHERS: usize = FAULTS + MAIN_FAULTS;
    // SAFETY: as in `failure_slot`.
    unsafe {
        let heads = (&raw mut (*recorder).signal_heads).cast::<u64>();
        let entries = (&raw mut (*recorder).signals).cast::<SignalEntry>();
        match signal_class {
            SignalClass::ToMain => entries.add(next(heads) as usize & (MAIN_SIGNALS - 1)),
            SignalClass::MainFault => entries.add(FAULTS + (next(heads.add(1)) as usize & (MAIN_FAULTS - 1))),
            SignalClass::ToOther => entries.add(OTHERS + (next(heads.add(2)) as usize & (OTHER_SIGNALS - 1))),
        }
    }
}

/// The slot for the next abnormal end of a process other than the main one.
#[inline(always)]
pub fn child_exit_slot(recorder: *mut Recorder) -> *mut ChildExitEntry {
    // SAFETY: as in `failure_slot`.
    unsafe {
        let head = &raw mut (*recorder).child_exit_head;
        (&raw mut (*recorder).child_exits)
            .cast::<ChildExitEntry>()
            .add(next(head) as usize & (CHILD_EXITS - 1))
    }
}

/// The number of the container's next listening socket.
#[inline(always)]
pub fn listener_number(recorder: *mut Recorder) -> u64 {
    // SAFETY: as in `failure_slot`.
    next(unsafe { &raw mut (*recorder).listener_head })
}

/// The slot of the listening socket of that number.
#[inline(always)]
pub fn listener_slot(recorder: *mut Recorder, number: u64) -> *mut Listener {
    let index = core::hint::black_box(number as usize) & (CONTAINER_LISTENERS - 1);
    // SAFETY: `index` is below the number of slots.
    unsafe { (&raw mut (*recorder).listeners).cast::<Listener>().add(index) }
}

/// The slot for a UNIX socket that listens.
#[inline(always)]
pub fn unix_listener_slot(recorder: *mut Recorder) -> *mut UnixListener {
    // SAFETY: as in `failure_slot`; the mask keeps the index below the number of slots.
    unsafe {
        let head = &raw mut (*recorder).unix_listener_head;
        let index = core::hint::black_box(next(head) as usize) & (UNIX_LISTENERS - 1);
        (&raw mut (*recorder).unix_listeners).cast::<UnixListener>().add(index)
    }
}

/// The slot for a file that was opened during the start-up: the one that it has already, by its key, else the next of its kind.
#[inline(always)]
pub fn opened_slot(recorder: *mut Recorder, writes: bool, key: u64) -> Option<*mut OpenedEntry> {
    // Numbers and no branch: two ways here would be two walks for the verifier through all that follows.
    let kind = core::hint::black_box(usize::from(writes)) & 1;
    let before = kind * READ_FILES;
    let mask = READ_FILES - 1 - kind * (READ_FILES - WRITTEN_FILES);
    // SAFETY: every index is below the number of slots, and `kind` below the number of heads.
    unsafe {
        let entries = (&raw mut (*recorder).opened).cast::<OpenedEntry>();
        let head = (&raw mut (*recorder).opened_heads).cast::<u64>().add(kind);
        let mut place = 0;
        while place < READ_FILES {
            let index = core::hint::black_box(before + (place & mask));
            if index >= OPENED_FILES {
                return None;
            }
            if (*entries.add(index)).key == key {
                return Some(entries.add(index));
            }
            place += 1;
        }
        let index = core::hint::black_box(before + (next(head) as usize & mask));
        if index >= OPENED_FILES {
            return None;
        }
        Some(entries.add(index))
    }
}

/// The entry of this process for this file, and all ones; or the next one to be overwritten, and 0.
#[inline(always)]
pub fn lock_slot(
    recorder: *mut Recorder,
    inode: u64,
    device: u32,
    tgid: u32,
) -> Option<(*mut LockEntry, u64)> {
    // SAFETY: as in `failure_slot`; `index` is below the number of entries.
    unsafe {
        let entries = (&raw mut (*recorder).locks).cast::<LockEntry>();
        let head = (*recorder).lock_head;
        let (mut found, mut same) = (head & (LOCKS as u64 - 1), 0);
        for index in 0..LOCKS {
            let entry = entries.add(index);
            let other = (*entry).inode ^ inode | u64::from((*entry).device ^ device | (*entry).tgid ^ tgid);
            let is_it = ones_if_zero(other);
            found = found & !is_it | index as u64 & is_it;
            same |= is_it;
        }
        (*recorder).lock_head = head + same.wrapping_add(1);
        let found = core::hint::black_box(found) as usize;
        if found >= LOCKS {
            // Never: but only this tells the verifier.
            return None;
        }
        Some((entries.add(found), same))
    }
}

/// All bits set when `value` is 0, else none: a choice without a branch, which the verifier would follow both ways.
#[inline(always)]
pub fn ones_if_zero(value: u64) -> u64 {
    // LLVM would see a comparison in this, and make a branch of it.
    let negative = core::hint::black_box(value.wrapping_neg());
    core::hint::black_box((value | negative) >> 63).wrapping_sub(1)
}

/// Forgets everything recorded so far: entries count only below the heads.
#[inline(always)]
pub fn forget(recorder: *mut Recorder) {
    // SAFETY: fields of a map element.
    unsafe {
        (*recorder).failure_heads = [0; 4];
        (*recorder).signal_heads = [0; 3];
        (*recorder).child_exit_head = 0;
        (*recorder).notices = 0;
        (*recorder).compat_calls_failed = 0;
        (*recorder).listener_head = 0;
        (*recorder).unix_listener_head = 0;
        (*recorder).io_urings = 0;
        (*recorder).opened_heads = [0; 2];
        (*recorder).lock_head = 0;
        for index in 0..LOCKS {
            (*(&raw mut (*recorder).locks).cast::<LockEntry>().add(index)).inode = 0;
        }
        (*recorder).blocked.begin = 0;
    }
}

/// What `begin` and `end` of an entry are set to: never 0, and different for two processors at the same time.
#[inline(always)]
pub fn mark(time: u64, tid: u32) -> u64 {
    (time ^ (u64::from(tid) << 40)) | 1
}

const _: () = assert!(
    TELLING_FAILURES.is_power_of_two()
        && MISSING_FAILURES.is_power_of_two()
        && NETWORK_FAILURES.is_power_of_two()
        && LOOKING_FAILURES.is_power_of_two()
        && MAIN_SIGNALS.is_power_of_two()
        && MAIN_FAULTS.is_power_of_two()
        && OTHER_SIGNALS.is_power_of_two()
        && CHILD_EXITS.is_power_of_two()
        && CONTAINER_LISTENERS.is_power_of_two()
        && UNIX_LISTENERS.is_power_of_two()
        && READ_FILES.is_power_of_two()
        && WRITTEN_FILES.is_power_of_two()
        && WRITTEN_FILES <= READ_FILES
        && LOCKS.is_power_of_two()
);
