//! A flight recorder's slots → what happened, oldest first.

mod entry;

pub(super) use entry::place;
use entry::{child_exit, failure, file, signal};
use lastwords_agent_common::{
    limits::{
        CHILD_EXITS, CONTAINER_LISTENERS, LOCKS, LOOKING_FAILURES, MAIN_FAULTS, MAIN_SIGNALS,
        MISSING_FAILURES, NETWORK_FAILURES, OTHER_SIGNALS, READ_FILES, TELLING_FAILURES, UNIX_LISTENERS,
        WRITTEN_FILES,
    },
    record::Recorder,
};
use lastwords_diagnosis::evidence::Seccomp;

use super::{
    DnsQuery, Listener, Place, SocketAddress, Status, Transport, UnixListener,
    dns::dns_query,
    listener::{listener, unix_listener},
    wait::{self, Blocked, LockTry},
};

/// What a recorder held.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recording {
    /// Oldest first.
    pub failures: Vec<Failure>,
    /// Oldest first.
    pub signals: Vec<Signal>,
    /// Oldest first.
    pub child_exits: Vec<ChildExit>,
    /// TCP sockets that listen or listened, oldest first.
    pub listeners: Vec<Listener>,
    /// Older ones that newer ones replaced.
    pub listeners_overwritten: u64,
    /// UNIX sockets that listen or listened, oldest first.
    pub unix_listeners: Vec<UnixListener>,
    /// Files opened with success during the start-up, oldest first.
    pub opened: Vec<Opened>,
    /// Those of them that newer ones of their kind replaced.
    pub opened_overwritten: u64,
    /// DNS queries that brought nothing, oldest first.
    pub dns: Vec<DnsQuery>,
    /// Those that newer ones replaced.
    pub dns_overwritten: u64,
    /// Answers of name servers that were too long, and what was asked again over TCP was not seen.
    pub dns_truncated: u64,
    /// Files that could not be locked at once, by the time of the last try, oldest first.
    pub locks: Vec<LockTry>,
    /// What the main process was doing when the container was first told to stop.
    pub blocked: Option<Blocked>,
    /// The last capability that was asked for and refused.
    pub refused: Option<RefusedCapability>,
    /// Failures that newer ones of their class replaced.
    pub failures_overwritten: u64,
    /// Signals and child exits that newer ones replaced.
    pub signals_overwritten: u64,
    /// Entries that two processors wrote at once.
    pub torn: u64,
    /// Failed calls of 32-bit programs.
    pub compat_calls_failed: u64,
    /// Rings of io_uring that were made.
    pub io_urings: u64,
}

/// One failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// CLOCK_MONOTONIC.
    pub time: u64,
    /// Process.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// System call number.
    pub syscall: u32,
    /// Positive; 0 for a connection that was made after one to the same port had failed.
    pub errno: i32,
    /// Arguments 0 to 2.
    pub arguments: [u64; 3],
    /// The thread's name.
    pub comm: Vec<u8>,
    /// What it was about.
    pub object: Object,
    /// It failed after the call had returned.
    pub late: bool,
    /// No call failed: the connection was made, and nothing ever came on it.
    pub unanswered: bool,
    /// Its socket's; None when it had none, or it is not known.
    pub transport: Option<Transport>,
    /// The connection had been made, and is lost; what it was about is its peer.
    pub lost: bool,
    /// The directory that a relative path starts from, seen from the caller's root; None when it could not be read whole.
    pub directory: Option<Vec<u8>>,
    /// Effective capabilities of the caller, a bit each; for refused calls.
    pub capabilities: u64,
    /// The capability that was asked for in this call and refused.
    pub refused_capability: Option<u32>,
    /// What the thread had waited for a processor until then, in nanoseconds; None when that is not known.
    pub waited: Option<u64>,
    /// What is known of a filter's part in it.
    pub seccomp: Seccomp,
}

/// What a failed call was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// Nothing that is kept, or it could not be read.
    None,
    /// A path.
    Path {
        /// As passed.
        path: Vec<u8>,
        /// Where a relative one starts; AT_FDCWD for the working directory.
        directory: i32,
        /// It was longer than what is kept.
        truncated: bool,
    },
    /// An address.
    Address(SocketAddress),
}

/// si_code of what the kernel itself sends (include/uapi/asm-generic/siginfo.h); faults have other positive ones.
pub const SI_KERNEL: i32 = 0x80;

/// One signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// CLOCK_MONOTONIC.
    pub time: u64,
    /// Its number.
    pub signal: i32,
    /// si_code.
    pub code: i32,
    /// `trace_signal_generate`'s result: 0 delivered.
    pub result: u32,
    /// The process that was running.
    pub sender_tgid: u32,
    /// Its cgroup v2 id.
    pub sender_cgroup: u64,
    /// The container that this group is of, or lies in, by the container's own group; None when it runs in none that is known, and where
    /// nobody has looked.
    pub sender_container: Option<u64>,
    /// Its name.
    pub sender_comm: Vec<u8>,
    /// Its parent's name.
    pub sender_parent_comm: Vec<u8>,
    /// The target process.
    pub target_tgid: u32,
    /// The target's name.
    pub target_comm: Vec<u8>,
    /// si_addr of a fault.
    pub address: u64,
    /// The thread it was for.
    pub target_tid: u32,
    /// Number of the place where it was raised, 0 without one.
    pub place_number: u64,
    /// That place, once it has been looked up.
    pub place: Option<Place>,
}

/// One file opened with success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// When last, CLOCK_MONOTONIC.
    pub time: u64,
    /// Process.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// The thread's name.
    pub comm: Vec<u8>,
    /// Where a relative path starts; AT_FDCWD for the working directory.
    pub directory: i32,
    /// As passed.
    pub path: Vec<u8>,
    /// For writing.
    pub written: bool,
}

/// A capability that a thread was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedCapability {
    /// CLOCK_MONOTONIC.
    pub time: u64,
    /// The thread.
    pub tid: u32,
    /// Its number (include/uapi/linux/capability.h).
    pub capability: u32,
    /// Number of the system call in which it asked.
    pub syscall: u32,
}

/// One abnormal end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildExit {
    /// CLOCK_MONOTONIC.
    pub time: u64,
    /// Process.
    pub tgid: u32,
    /// Its name.
    pub comm: Vec<u8>,
    /// How it ended.
    pub status: Status,
    /// At its end none of its ancestors was the container's main process.
    pub detached: bool,
    /// Its last thread.
    pub tid: u32,
    /// What that thread had waited for a processor, in nanoseconds; None when that is not known.
    pub waited: Option<u64>,
    /// Its parent.
    pub parent: u32,
    /// How often its leader had written, and its parent's by then; None when that is not known.
    pub writes: [Option<u64>; 2],
}

/// Reads a recorder.
#[must_use]
pub fn recording(recorder: &Recorder) -> Recording {
    let mut read = Recording {
        compat_calls_failed: recorder.compat_calls_failed,
        io_urings: recorder.io_urings,
        ..Recording::default()
    };
    let refused = &recorder.refused_capability;
    read.refused = refused.capability.checked_sub(1).filter(|_| refused.tid != 0).map(|capability| {
        RefusedCapability { time: refused.time, tid: refused.tid, capability, syscall: refused.syscall }
    });
    let mut failures = recorder.failures.as_slice();
    // Only the first classes have places.
    let mut places = recorder.places.as_slice();
    let sizes = [TELLING_FAILURES, MISSING_FAILURES, NETWORK_FAILURES, LOOKING_FAILURES];
    for (size, head) in sizes.into_iter().zip(recorder.failure_heads) {
        let (class, rest) = failures.split_at_checked(size).unwrap_or((failures, &[]));
        failures = rest;
        let (of_class, rest) = places.split_at_checked(size).unwrap_or((&[], &[]));
        places = rest;
        overwritten(&mut read.failures_overwritten, head, size);
        for (index, entry) in in_order(class, head) {
            match failure(entry, of_class.get(index)) {
                Some(failure) => read.failures.push(failure),
                None => read.torn += 1,
            }
        }
    }
    let mut signals = recorder.signals.as_slice();
    for (size, head) in [MAIN_SIGNALS, MAIN_FAULTS, OTHER_SIGNALS].into_iter().zip(recorder.signal_heads) {
        let (class, rest) = signals.split_at_checked(size).unwrap_or((signals, &[]));
        signals = rest;
        overwritten(&mut read.signals_overwritten, head, size);
        for entry in in_use(class, head) {
            match signal(entry) {
                Some(signal) => read.signals.push(signal),
                None => read.torn += 1,
            }
        }
    }
    overwritten(&mut read.signals_overwritten, recorder.child_exit_head, CHILD_EXITS);
    for entry in in_use(&recorder.child_exits, recorder.child_exit_head) {
        match child_exit(entry) {
            Some(child) => read.child_exits.push(child),
            None => read.torn += 1,
        }
    }
    let unix_overwritten = recorder.unix_listener_head.saturating_sub(UNIX_LISTENERS as u64);
    read.listeners_overwritten =
        recorder.listener_head.saturating_sub(CONTAINER_LISTENERS as u64).saturating_add(unix_overwritten);
    read.listeners = in_use(&recorder.listeners, recorder.listener_head).filter_map(listener).collect();
    read.listeners.sort_by_key(|listener| listener.time);
    let unix = in_use(&recorder.unix_listeners, recorder.unix_listener_head);
    read.unix_listeners = unix.filter_map(unix_listener).collect();
    read.unix_listeners.sort_by_key(|listener| listener.time);
    let mut opened = recorder.opened.as_slice();
    for ((size, head), written) in
        [READ_FILES, WRITTEN_FILES].into_iter().zip(recorder.opened_heads).zip([false, true])
    {
        let (kind, rest) = opened.split_at_checked(size).unwrap_or((opened, &[]));
        opened = rest;
        read.opened_overwritten = read.opened_overwritten.saturating_add(head.saturating_sub(size as u64));
        for entry in in_use(kind, head) {
            match file(entry, written) {
                Some(file) => read.opened.push(file),
                None => read.torn += 1,
            }
        }
    }
    read.opened.sort_by_key(|file| file.time);
    read.dns = recorder.dns.iter().filter_map(dns_query).collect();
    read.dns.sort_by_key(|query| query.time);
    read.dns_overwritten = recorder.dns_overwritten;
    read.dns_truncated = recorder.dns_truncated;
    overwritten(&mut read.failures_overwritten, recorder.lock_head, LOCKS);
    for entry in in_use(&recorder.locks, recorder.lock_head) {
        match wait::lock_try(entry) {
            Some(lock) => read.locks.push(lock),
            None => read.torn += 1,
        }
    }
    read.blocked = wait::blocked(&recorder.blocked);
    read.locks.sort_by_key(|lock| lock.time);
    read.failures.sort_by_key(|failure| failure.time);
    read.signals.sort_by_key(|signal| signal.time);
    read.child_exits.sort_by_key(|child| child.time);
    read
}

/// Adds what a ring of `size` slots lost after `head` entries.
fn overwritten(count: &mut u64, head: u64, size: usize) {
    *count = count.saturating_add(head.saturating_sub(size as u64));
}

/// The slots that were ever written, oldest first: sorting by time afterwards leaves those of one tick of a coarse clock as they came.
fn in_use<T>(class: &[T], head: u64) -> impl Iterator<Item = &T> {
    in_order(class, head).map(|(_, entry)| entry)
}

/// The same, each with the number of its slot.
fn in_order<T>(class: &[T], head: u64) -> impl Iterator<Item = (usize, &T)> {
    let written = usize::try_from(head).unwrap_or(usize::MAX).min(class.len());
    let oldest = if written < class.len() { 0 } else { index_of(head, class.len()) };
    let numbered = class.iter().enumerate();
    numbered.clone().skip(oldest).chain(numbered.take(oldest)).take(written)
}

/// The slot that the entry of this number goes to.
fn index_of(number: u64, slots: usize) -> usize {
    usize::try_from(number.checked_rem(slots as u64).unwrap_or_default()).unwrap_or_default()
}
