//! Locks that could not be had, with their holders, and the call that the main process was waiting in when it was told to stop.

use lastwords_diagnosis::{
    errno,
    evidence::{BlockedCall, Failure, Holder},
};

use super::{Death, End, is_of_run, milliseconds_before, text};
use crate::{
    decode::{self, LockOutcome, LockTry, Recording, SocketAddress, Waited},
    kernel::syscalls,
};

/// SIGINT, SIGQUIT, SIGKILL, SIGTERM: what ends a wait because the process is to end.
const STOPPING: [i32; 4] = [2, 3, 9, 15];
/// From such a signal to the end of the wait that it interrupts (nanoseconds); a loaded node may need some tens of milliseconds.
const STOP_TO_INTERRUPT: u64 = 1_000_000_000;
/// IP protocol numbers.
const TCP: u32 = 6;
const UDP: u32 = 17;

/// Tries to lock a file that failed, oldest first: refused ones, and waits that a signal ended (an alarm, as `flock -w` sets one).
pub(super) fn failures(death: &Death, recording: &Recording) -> Vec<Failure> {
    recording
        .locks
        .iter()
        .filter(|lock| is_of_run(death, lock.time))
        .filter_map(|lock| {
            let errno = match lock.outcome {
                LockOutcome::Refused(errno) => errno,
                LockOutcome::Interrupted if !was_stopped(recording, lock) => errno::EINTR,
                LockOutcome::Interrupted | LockOutcome::Waiting | LockOutcome::Asked => return None,
            };
            Some(failure(death, lock, errno))
        })
        .collect()
}

fn failure(death: &Death, lock: &LockTry, errno: i32) -> Failure {
    let (holder, holder_looked_for) = holder(death, lock);
    Failure {
        syscall: name(lock),
        errno,
        path: path(lock),
        pid: lock.tgid,
        tid: lock.tid,
        comm: text(&lock.comm),
        uid: lock.uid,
        gid: lock.gid,
        count: if errno == errno::EINTR { 1 } else { lock.count },
        first_before_death_ms: milliseconds_before(death.time, lock.first),
        last_before_death_ms: milliseconds_before(death.time, lock.time),
        by_dying_thread: matches!(&death.end, End::Exited(exited) if exited.first_tid == lock.tid),
        later_succeeded: lock.had.is_some(),
        holder,
        holder_looked_for,
        ..Failure::default()
    }
}

/// Whether the process was told to end while it waited: then the wait did not fail, it was cut short.
fn was_stopped(recording: &Recording, lock: &LockTry) -> bool {
    recording.signals.iter().any(|signal| {
        signal.target_tgid == lock.tgid
            && STOPPING.contains(&signal.signal)
            && signal.result == 0
            && (signal.time..signal.time.saturating_add(STOP_TO_INTERRUPT)).contains(&lock.time)
    })
}

/// What the main process was waiting in when it was told to stop; a lock that another thread or process of the container was waiting
/// for tells more than that the main one waited for that one.
pub(super) fn blocked(death: &Death, recording: &Recording) -> Option<BlockedCall> {
    let End::Exited(exited) = &death.end else { return None };
    let stop = recording.blocked.as_ref().filter(|stop| is_of_run(death, stop.time))?;
    let awaited = |lock: &&LockTry| is_awaited(death, recording, lock, stop.time);
    let own = recording.locks.iter().rfind(|lock| lock.tid == stop.tid && awaited(lock));
    let of_call = stop.call.as_ref().filter(|_| own.is_none()).map(call);
    let lock = match &of_call {
        Some(call) if !call.path.is_empty() || !call.address.is_empty() => None,
        _ => own.or_else(|| recording.locks.iter().rfind(awaited)),
    };
    let told = BlockedCall {
        signal: stop.signal,
        before_death_ms: milliseconds_before(death.time, stop.time),
        ..BlockedCall::default()
    };
    match (lock, of_call) {
        (Some(lock), _) => {
            let (holder, holder_looked_for) = holder(death, lock);
            Some(BlockedCall {
                syscall: name(lock),
                pid: lock.tgid,
                tid: lock.tid,
                comm: text(&lock.comm),
                path: path(lock),
                holder,
                holder_looked_for,
                ..told
            })
        }
        (None, Some(Called { syscall, path, address })) => Some(BlockedCall {
            syscall,
            pid: exited.tgid,
            tid: stop.tid,
            comm: text(&stop.comm),
            path,
            address,
            ..told
        }),
        (None, None) => None,
    }
}

/// Whether a thread was waiting for this lock at that time, and its process had not ended.
fn is_awaited(death: &Death, recording: &Recording, lock: &LockTry, time: u64) -> bool {
    let waits = match lock.outcome {
        LockOutcome::Waiting => lock.time <= time && lock.had.is_none_or(|had| had > time),
        LockOutcome::Interrupted => (lock.first..=lock.time).contains(&time),
        LockOutcome::Refused(_) | LockOutcome::Asked => false,
    };
    let ended = recording.child_exits.iter().any(|child| child.tgid == lock.tgid && child.time <= time);
    waits && !ended && is_of_run(death, lock.first)
}

struct Called {
    syscall: String,
    path: String,
    address: String,
}

fn call(blocked: &decode::BlockedCall) -> Called {
    let syscall = syscalls::name(blocked.syscall);
    let (path, address) = match &blocked.object {
        Waited::Unknown => (String::new(), String::new()),
        Waited::File(path) => (text(path), String::new()),
        Waited::Socket { protocol, peer, own } => {
            // Who waits for a connection has no other end yet; a datagram socket may have none at all.
            (
                String::new(),
                peer.as_ref().or(own.as_ref()).map(|it| address(it, *protocol)).unwrap_or_default(),
            )
        }
    };
    Called { syscall, path, address }
}

fn address(address: &SocketAddress, protocol: u32) -> String {
    let SocketAddress::Internet(address) = address else { return String::new() };
    match protocol {
        TCP => format!("{address}/tcp"),
        UDP => format!("{address}/udp"),
        _ => address.to_string(),
    }
}

fn name(lock: &LockTry) -> String {
    if lock.is_flock { "flock" } else { "fcntl" }.to_owned()
}

fn path(lock: &LockTry) -> String {
    lock.path.as_deref().map(text).unwrap_or_default()
}

/// The holder, and whether there would be one if this node had one.
fn holder(death: &Death, lock: &LockTry) -> (Option<Holder>, bool) {
    let holder = lock.holder.map(|pid| {
        let found = death.looked.holders.iter().find(|(taker, _)| *taker == pid).map(|(_, found)| found);
        let container = found.and_then(|found| found.container.as_ref());
        Holder {
            pid: found.map_or(pid, |found| found.pid),
            comm: found.map(|found| text(&found.comm)).unwrap_or_default(),
            container_id: container.map(|it| it.id.clone()).unwrap_or_default(),
            pod_uid: container.map(|it| it.pod_uid.clone()).unwrap_or_default(),
            same_container: container.is_some_and(|it| it.id == death.container.id),
        }
    });
    (holder, lock.searched)
}
