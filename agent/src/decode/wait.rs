//! What a recorder holds of waiting: files that could not be locked, and the call that a stop found the main process in.

use lastwords_agent_common::record::{BlockedEntry, LockEntry, descriptor, lock};

use super::{SocketAddress, socket_address, until_zero, working_directory};

/// The tries of one process to lock one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockTry {
    /// CLOCK_MONOTONIC of the last one, or of the moment that the wait was interrupted.
    pub time: u64,
    /// CLOCK_MONOTONIC of the first one.
    pub first: u64,
    /// CLOCK_MONOTONIC of the moment that the container had the lock after all.
    pub had: Option<u64>,
    /// How many.
    pub count: u64,
    /// What became of them.
    pub outcome: LockOutcome,
    /// Process.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// The thread's name.
    pub comm: Vec<u8>,
    /// flock(2), else fcntl(2).
    pub is_flock: bool,
    /// The process that took the lock that is in the way.
    pub holder: Option<u32>,
    /// The file's locks were looked at to the end, or to the one in the way.
    pub searched: bool,
    /// None when it could not be read whole.
    pub path: Option<Vec<u8>>,
}

/// What became of tries to lock a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockOutcome {
    /// Refused with this error, positive.
    Refused(i32),
    /// The thread was waiting still.
    Waiting,
    /// A signal interrupted the wait, which had begun at `LockTry::first`.
    Interrupted,
    /// The file system was asking somebody else, and no answer was seen that says no.
    Asked,
}

/// The call that the main process was waiting in when it was told to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// CLOCK_MONOTONIC of the signal.
    pub time: u64,
    /// The signal.
    pub signal: i32,
    /// The thread, which is the process's first one.
    pub tid: u32,
    /// The thread's name.
    pub comm: Vec<u8>,
    /// None when it was running.
    pub call: Option<BlockedCall>,
}

/// See [`Blocked`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockedCall {
    /// System call number.
    pub syscall: u32,
    /// What its first argument is.
    pub object: Waited,
}

/// What a call waits on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waited {
    /// Not known, or nothing that has a name.
    Unknown,
    /// A file with this path.
    File(Vec<u8>),
    /// A socket.
    Socket {
        /// IP protocol number.
        protocol: u32,
        /// The other end; None when it has none.
        peer: Option<SocketAddress>,
        /// This end.
        own: Option<SocketAddress>,
    },
}

pub(super) fn lock_try(entry: &LockEntry) -> Option<LockTry> {
    if entry.begin == 0 || entry.begin != entry.end {
        return None;
    }
    Some(LockTry {
        time: entry.time,
        first: entry.first,
        had: (entry.had != 0).then_some(entry.had),
        count: entry.count,
        outcome: match entry.state {
            lock::REFUSED => LockOutcome::Refused(entry.errno.cast_signed()),
            lock::WAITING => LockOutcome::Waiting,
            lock::INTERRUPTED => LockOutcome::Interrupted,
            _ => LockOutcome::Asked,
        },
        tgid: entry.tgid,
        tid: entry.tid,
        uid: entry.uid,
        gid: entry.gid,
        comm: until_zero(&entry.comm).to_vec(),
        is_flock: entry.is_flock != 0,
        holder: (entry.holder != 0).then_some(entry.holder),
        searched: entry.searched != 0,
        path: working_directory(&entry.path),
    })
}

/// None when nobody told the container to stop.
pub(super) fn blocked(entry: &BlockedEntry) -> Option<Blocked> {
    if entry.begin == 0 || entry.begin != entry.end {
        return None;
    }
    let call = (entry.waits != 0).then(|| BlockedCall { syscall: entry.syscall, object: waited(entry) });
    Some(Blocked {
        time: entry.time,
        signal: entry.signal.cast_signed(),
        tid: entry.tid,
        comm: until_zero(&entry.comm).to_vec(),
        call,
    })
}

fn waited(entry: &BlockedEntry) -> Waited {
    match entry.descriptor {
        descriptor::FILE => working_directory(&entry.path).map_or(Waited::Unknown, Waited::File),
        descriptor::SOCKET => Waited::Socket {
            protocol: entry.protocol,
            peer: internet(&entry.peer),
            own: internet(&entry.own),
        },
        _ => Waited::Unknown,
    }
}

/// None without a port: then the socket has no such end yet.
fn internet(words: &[u64; 4]) -> Option<SocketAddress> {
    let mut bytes = [0; 32];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    socket_address(&bytes).filter(|address| match address {
        SocketAddress::Internet(address) => address.port() != 0,
        // Nothing of it is kept.
        SocketAddress::Unix(_) => false,
    })
}
