//! A made-up flight recorder: what a container did, and the slots that the kernel side would have left of it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use lastwords_agent::decode::{
    Blocked, ChildExit, Failure, Listener, LockTry, Object, Opened, Recording, Signal, SocketAddress,
    Transport, bytes_of, zeroed,
};
use lastwords_agent_common::limits::{
    CHILD_EXITS, CONTAINER_LISTENERS, LOCKS, LOOKING_FAILURES, MAIN_FAULTS, MAIN_SIGNALS, MISSING_FAILURES,
    NETWORK_FAILURES, OTHER_SIGNALS, PATH_BYTES, READ_FILES, TELLING_FAILURES, WRITTEN_FILES,
};
use lastwords_agent_common::record::{
    self, BlockedEntry, ChildExitEntry, FailureEntry, LockEntry, NOT_KNOWN, OpenedEntry, Recorder,
    SignalEntry,
};
use lastwords_agent_common::rules::object;
use lastwords_diagnosis::evidence::Seccomp;
use nix::libc::AT_FDCWD;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{comm, put, ring::status, sockets::listener, string, wait};

/// By the number that the kernel side writes.
const SECCOMP: [Seccomp; 5] =
    [Seccomp::Unknown, Seccomp::NoFilter, Seccomp::Undecided, Seccomp::Denied, Seccomp::NotByFilter];
const FAILURE_CLASSES: [usize; 4] = [TELLING_FAILURES, MISSING_FAILURES, NETWORK_FAILURES, LOOKING_FAILURES];
/// Slots, and whether they are for files opened for writing.
const KINDS_OF_OPENED: [(usize, bool); 2] = [(READ_FILES, false), (WRITTEN_FILES, true)];
const SIGNAL_CLASSES: [usize; 3] = [MAIN_SIGNALS, MAIN_FAULTS, OTHER_SIGNALS];

/// An entry as it stands in its slot, and what it says; None when two processors wrote it at once.
pub(super) type Entry<R, V> = (R, Option<V>);

/// A recorder's bytes and what they have to decode to.
pub(crate) fn recorder() -> BoxedStrategy<(Vec<u8>, Recording)> {
    let failures = FAILURE_CLASSES.map(|size| vec(failure(), 0..2 * size + 2));
    let signals = SIGNAL_CLASSES.map(|size| vec(signal(), 0..2 * size + 2));
    let listeners = vec(listener().prop_map(|(raw, value)| (raw, Some(value))), 0..2 * CONTAINER_LISTENERS);
    let opened = KINDS_OF_OPENED.map(|(size, written)| vec(opened(written), 0..2 * size + 2));
    let child_exits = vec(child_exit(), 0..2 * CHILD_EXITS);
    let waits = (vec(wait::lock_try(), 0..2 * LOCKS), wait::blocked());
    (failures, signals, child_exits, listeners, opened, waits).prop_map(written).boxed()
}

type Written = (
    [Vec<Entry<FailureEntry, Failure>>; 4],
    [Vec<Entry<SignalEntry, Signal>>; 3],
    Vec<Entry<ChildExitEntry, ChildExit>>,
    Vec<Entry<record::Listener, Listener>>,
    [Vec<Entry<OpenedEntry, Opened>>; 2],
    (Vec<Entry<LockEntry, LockTry>>, Entry<BlockedEntry, Blocked>),
);

/// Writes everything, oldest first, one ring a class.
fn written(
    (failures, signals, child_exits, listeners, opened, (locks, blocked)): Written,
) -> (Vec<u8>, Recording) {
    let mut raw: Recorder = zeroed();
    // Any number: it goes through as it is.
    raw.compat_calls_failed = failures.iter().map(|class| class.len() as u64).sum();
    let mut read = Recording { compat_calls_failed: raw.compat_calls_failed, ..Recording::default() };
    // Each later than the one before, so that there is one right order.
    let mut time = 0;
    let mut slots = raw.failures.as_mut_slice();
    for ((size, entries), head) in FAILURE_CLASSES.into_iter().zip(failures).zip(&mut raw.failure_heads) {
        let (class, rest) = slots.split_at_mut(size);
        slots = rest;
        let (said, overwritten, torn) = ring(class, head, entries, &mut time, |entry, value, time| {
            entry.time = time;
            value.into_iter().for_each(|value| value.time = time);
        });
        read.failures.extend(said);
        read.failures_overwritten += overwritten;
        read.torn += torn;
    }
    let mut slots = raw.signals.as_mut_slice();
    for ((size, entries), head) in SIGNAL_CLASSES.into_iter().zip(signals).zip(&mut raw.signal_heads) {
        let (class, rest) = slots.split_at_mut(size);
        slots = rest;
        let (said, overwritten, torn) = ring(class, head, entries, &mut time, |entry, value, time| {
            entry.time = time;
            value.into_iter().for_each(|value| value.time = time);
        });
        read.signals.extend(said);
        read.signals_overwritten += overwritten;
        read.torn += torn;
    }
    let (said, overwritten, torn) =
        ring(&mut raw.child_exits, &mut raw.child_exit_head, child_exits, &mut time, |entry, value, time| {
            entry.time = time;
            value.into_iter().for_each(|value| value.time = time);
        });
    read.child_exits = said;
    read.signals_overwritten += overwritten;
    read.torn += torn;
    let (said, overwritten, _) =
        ring(&mut raw.listeners, &mut raw.listener_head, listeners, &mut time, |entry, value, time| {
            entry.time = time;
            value.into_iter().for_each(|value| value.time = time);
        });
    read.listeners = said;
    read.listeners_overwritten = overwritten;
    let mut slots = raw.opened.as_mut_slice();
    for (((size, _), entries), head) in KINDS_OF_OPENED.into_iter().zip(opened).zip(&mut raw.opened_heads) {
        let (kind, rest) = slots.split_at_mut(size);
        slots = rest;
        let (said, overwritten, torn) = ring(kind, head, entries, &mut time, |entry, value, time| {
            entry.time = time;
            value.into_iter().for_each(|value| value.time = time);
        });
        read.opened.extend(said);
        read.opened_overwritten += overwritten;
        read.torn += torn;
    }
    let (said, overwritten, torn) =
        ring(&mut raw.locks, &mut raw.lock_head, locks, &mut time, |entry, value, time| {
            entry.time = time;
            value.into_iter().for_each(|value| value.time = time);
        });
    read.locks = said;
    read.failures_overwritten += overwritten;
    read.torn += torn;
    (raw.blocked, read.blocked) = blocked;
    (bytes_of(&raw).to_vec(), read)
}

/// Writes the entries one after the other; gives what the last of them say, how many were overwritten and how many were torn.
fn ring<R: Copy, V>(
    slots: &mut [R],
    head: &mut u64,
    entries: Vec<Entry<R, V>>,
    time: &mut u64,
    set_time: impl Fn(&mut R, Option<&mut V>, u64),
) -> (Vec<V>, u64, u64) {
    let overwritten = entries.len().saturating_sub(slots.len());
    *head = entries.len() as u64;
    let mut said = Vec::new();
    let mut torn = 0;
    for (number, (mut entry, mut value)) in entries.into_iter().enumerate() {
        *time += 1;
        set_time(&mut entry, value.as_mut(), *time);
        slots[number % slots.len()] = entry;
        match value {
            _ if number < overwritten => {}
            Some(value) => said.push(value),
            None => torn += 1,
        }
    }
    (said, overwritten as u64, torn)
}

/// `begin` and `end`: the same, or of two writers. Never 0 in a slot that was written.
pub(super) fn marks() -> impl Strategy<Value = (u64, u64)> {
    (1_u64.., prop::bool::weighted(0.1))
        .prop_map(|(begin, torn)| (begin, if torn { begin ^ 1 } else { begin }))
}

/// How an object's kind, arguments, length and bytes stand in an entry.
type RawObject = (u8, [u64; 3], u32, [u8; PATH_BYTES]);

fn path() -> impl Strategy<Value = (RawObject, Object)> {
    (any::<[u64; 3]>(), any::<i32>(), 0..3_u8, string(PATH_BYTES - 1)).prop_map(
        |(mut arguments, descriptor, which, path)| {
            let register = u64::from(descriptor.cast_unsigned());
            let (kind, directory) = match which {
                0 => (object::PATH_0, AT_FDCWD),
                1 => {
                    arguments[0] = register;
                    (object::PATH_1, descriptor)
                }
                _ => {
                    arguments[1] = register;
                    (object::PATH_2, descriptor)
                }
            };
            let length = u32::try_from(path.len() + 1).unwrap_or(u32::MAX);
            let data = put(&path);
            let truncated = path.len() == PATH_BYTES - 1;
            ((kind, arguments, length, data), Object::Path { path, directory, truncated })
        },
    )
}

/// The bytes of a `struct sockaddr` and the address.
pub(super) fn socket() -> impl Strategy<Value = (Vec<u8>, SocketAddress)> {
    let four = (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| {
        let bytes = [&2_u16.to_ne_bytes()[..], &port.to_be_bytes(), &ip, &[0; 8]].concat();
        (bytes, SocketAddress::Internet(SocketAddr::new(Ipv4Addr::from(ip).into(), port)))
    });
    let six = (any::<[u8; 16]>(), any::<u16>()).prop_map(|(ip, port)| {
        let bytes = [&10_u16.to_ne_bytes()[..], &port.to_be_bytes(), &[0; 4], &ip, &[0; 4]].concat();
        (bytes, SocketAddress::Internet(SocketAddr::new(Ipv6Addr::from(ip).to_canonical(), port)))
    });
    let named = string(107)
        .prop_map(|path| ([&1_u16.to_ne_bytes()[..], &path, b"\0"].concat(), SocketAddress::Unix(path)));
    let abstract_name = vec(any::<u8>(), 0..107).prop_map(|name| {
        ([&1_u16.to_ne_bytes()[..], b"\0", &name].concat(), SocketAddress::Unix([b"@", &name[..]].concat()))
    });
    prop_oneof![
        four,
        six,
        named.prop_filter("an empty path is an abstract one", |(bytes, _)| bytes.len() > 3),
        abstract_name
    ]
}

fn address() -> impl Strategy<Value = (RawObject, Object)> {
    let kinds = prop::sample::select(vec![
        object::SOCKET_ADDRESS,
        object::SOCKET_ADDRESS_4,
        object::LATE_ADDRESS,
        object::PEER,
    ]);
    (any::<[u64; 3]>(), kinds, socket()).prop_map(|(arguments, kind, (bytes, address))| {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        ((kind, arguments, length, put(&bytes)), Object::Address(address))
    })
}

/// No object, or one that could not be read.
fn nothing() -> impl Strategy<Value = (RawObject, Object)> {
    (any::<[u64; 3]>(), object::NONE..=object::LATE_ADDRESS)
        .prop_map(|(arguments, kind)| ((kind, arguments, 0, [0; PATH_BYTES]), Object::None))
}

/// What a thread had waited for a processor.
fn waited() -> impl Strategy<Value = Option<u64>> {
    prop::option::of(0..NOT_KNOWN)
}

fn failure() -> impl Strategy<Value = Entry<FailureEntry, Failure>> {
    let ids = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>());
    let call = (any::<u32>(), 1..=133_u32);
    let caller = (any::<u64>(), prop::option::of(0..64_u32), 0..SECCOMP.len(), waited());
    let protocol = prop::sample::select(vec![0, 1, 6, 17, 262]);
    let caller = (caller, protocol);
    (marks(), ids, call, comm(), caller, prop_oneof![path(), address(), nothing()]).prop_map(
        |((begin, end), (tgid, tid, uid, gid), (syscall, errno), comm, caller, (raw, object))| {
            let ((capabilities, refused_capability, seccomp, waited), protocol) = caller;
            let (kind, arguments, length, data) = raw;
            let entry = FailureEntry {
                begin,
                time: 0,
                tgid,
                tid,
                uid,
                gid,
                syscall,
                errno,
                arguments,
                comm: put(&comm),
                length,
                object: u32::from(kind),
                capabilities,
                refused_capability: refused_capability.map_or(0, |number| number + 1),
                seccomp: u32::try_from(seccomp).unwrap_or(u32::MAX),
                has_place: 0,
                protocol,
                waited: waited.unwrap_or(NOT_KNOWN),
                data,
                end,
            };
            let (errno, late, lost) =
                (errno.cast_signed(), kind == object::LATE_ADDRESS, kind == object::PEER);
            let transport = match protocol {
                6 | 262 => Some(Transport::Tcp),
                17 => Some(Transport::Udp),
                _ => None,
            };
            let failure = Failure {
                time: 0,
                tgid,
                tid,
                uid,
                gid,
                syscall,
                errno,
                arguments,
                comm,
                object,
                late,
                unanswered: late && arguments[0] == object::UNANSWERED,
                transport: transport.filter(|_| matches!(kind, object::SOCKET_ADDRESS | object::PEER)),
                lost,
                directory: None,
                capabilities,
                refused_capability,
                waited,
                seccomp: SECCOMP[seccomp],
            };
            (entry, (begin == end).then_some(failure))
        },
    )
}

fn signal() -> impl Strategy<Value = Entry<SignalEntry, Signal>> {
    let sender = (any::<u32>(), any::<u64>(), comm(), comm());
    let target = (any::<u32>(), any::<u32>(), comm());
    (marks(), 1..=64_u32, any::<i32>(), 0..=4_u32, sender, target, any::<[u64; 2]>()).prop_map(
        |((begin, end), number, code, result, sender, target, [address, place_number])| {
            let (target_tgid, target_tid, target_comm) = target;
            let (sender_tgid, sender_cgroup, sender_comm, sender_parent_comm) = sender;
            let entry = SignalEntry {
                begin,
                time: 0,
                signal: number,
                code,
                result,
                sender_tgid,
                sender_cgroup,
                sender_comm: put(&sender_comm),
                sender_parent_comm: put(&sender_parent_comm),
                target_tgid,
                target_tid,
                target_comm: put(&target_comm),
                address,
                place: place_number,
                end,
            };
            let signal = Signal {
                time: 0,
                signal: number.cast_signed(),
                code,
                result,
                sender_tgid,
                sender_cgroup,
                sender_container: None,
                sender_comm,
                sender_parent_comm,
                target_tgid,
                target_comm,
                address,
                target_tid,
                place_number,
                place: None,
            };
            (entry, (begin == end).then_some(signal))
        },
    )
}

fn opened(written: bool) -> impl Strategy<Value = Entry<OpenedEntry, Opened>> {
    (marks(), any::<[u32; 2]>(), any::<u64>(), any::<i32>(), comm(), string(PATH_BYTES - 1)).prop_map(
        move |((begin, end), [tgid, tid], key, directory, comm, path)| {
            let length = u32::try_from(path.len() + 1).unwrap_or(u32::MAX);
            let (raw_comm, raw_path) = (put(&comm), put(&path));
            let entry = OpenedEntry {
                begin,
                time: 0,
                key,
                tgid,
                tid,
                directory,
                length,
                comm: raw_comm,
                path: raw_path,
                end,
            };
            let said = Opened { time: 0, tgid, tid, comm, directory, path, written };
            (entry, (begin == end).then_some(said))
        },
    )
}

fn child_exit() -> impl Strategy<Value = Entry<ChildExitEntry, ChildExit>> {
    let ids = (any::<u32>(), any::<u32>());
    let ids = (ids, any::<u32>(), [waited(), waited()]);
    let all = (marks(), ids, status(), comm(), any::<bool>(), waited());
    all.prop_map(|((begin, end), ids, (raw, status), comm, detached, waited)| {
        let ((tgid, tid), parent, writes) = ids;
        let entry = ChildExitEntry {
            begin,
            time: 0,
            tgid,
            status: raw,
            comm: put(&comm),
            detached: u64::from(detached),
            tid,
            parent,
            waited: waited.unwrap_or(NOT_KNOWN),
            writes: writes.map(|writes| writes.unwrap_or(NOT_KNOWN)),
            end,
        };
        (
            entry,
            (begin == end).then_some(ChildExit {
                time: 0,
                tgid,
                comm,
                status,
                detached,
                tid,
                waited,
                parent,
                writes,
            }),
        )
    })
}
