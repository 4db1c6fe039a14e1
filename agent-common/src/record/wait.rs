//! What a process waits for: locks that were refused or waited for, and the call it was in when it was told to stop.

use super::{Comm, Header, WorkingDirectory};

/// What became of a try to lock a file, [`LockEntry::state`].
pub mod lock {
    /// Refused.
    pub const REFUSED: u32 = 1;
    /// The thread waits for it.
    pub const WAITING: u32 = 2;
    /// Nothing on this node speaks against it, and the file system asks somebody else (a network file system).
    pub const ASKED: u32 = 3;
    /// The thread waited for it until a signal came.
    pub const INTERRUPTED: u32 = 4;
}

/// One file that a process of the container could not lock at once; `begin` and `end` as in [`super::FailureEntry`]. Tries of one
/// process for one file share an entry: a program that tries again a hundred times pushes nothing else out.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct LockEntry {
    /// Time and thread folded into one number.
    pub begin: u64,
    /// Last try, or the moment that the wait was interrupted.
    pub time: u64,
    /// First try of those that `count` counts.
    pub first: u64,
    /// When the container had the lock after all, 0 when it never had.
    pub had: u64,
    /// The file.
    pub inode: u64,
    /// First byte of the range.
    pub range_start: u64,
    /// Last byte of the range.
    pub range_end: u64,
    /// Tries.
    pub count: u64,
    /// `s_dev` of the file's file system.
    pub device: u32,
    /// Process.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// The process that took the lock that is in the way, 0 when none was found.
    pub holder: u32,
    /// See [`lock`].
    pub state: u32,
    /// Error number, positive; 0 while it waits.
    pub errno: u32,
    /// 1 for flock(2), 0 for fcntl(2).
    pub is_flock: u32,
    /// 1 for a lock to write, 0 for one to read.
    pub is_write: u32,
    /// 1 when every lock on the file was looked at, or the one in the way was found.
    pub searched: u32,
    /// Zero.
    pub padding: u32,
    /// The thread's name.
    pub comm: Comm,
    /// The file's path.
    pub path: WorkingDirectory,
    /// As `begin`, written last.
    pub end: u64,
}

/// A process holds a lock that another one wanted: told at once, so that the agent can look at it while it is there.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct LockHeld {
    /// The header.
    pub header: Header,
    /// The process that took the lock. It may have ended, and another one may hold the open file.
    pub holder: u32,
    /// `s_dev` of the file's file system.
    pub device: u32,
    /// The file.
    pub inode: u64,
}

/// The system call that the main process's first thread was in when the container was told to stop for the first time; `begin` and
/// `end` as in [`super::FailureEntry`].
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct BlockedEntry {
    /// Time and thread folded into one number.
    pub begin: u64,
    /// When the signal came.
    pub time: u64,
    /// The signal.
    pub signal: u32,
    /// The thread, which is the process's first one.
    pub tid: u32,
    /// 1 when it waited; 0 when it ran, or while that is not known yet.
    pub waits: u32,
    /// System call number of the node's architecture.
    pub syscall: u32,
    /// Its arguments 0 to 2.
    pub arguments: [u64; 3],
    /// The thread's name.
    pub comm: Comm,
    /// What argument 0 was, see [`descriptor`].
    pub descriptor: u32,
    /// IP protocol of the socket.
    pub protocol: u32,
    /// The socket's peer, a `struct sockaddr_in` or `sockaddr_in6`.
    pub peer: [u64; 4],
    /// The socket's own address.
    pub own: [u64; 4],
    /// The file's path.
    pub path: WorkingDirectory,
    /// As `begin`, written last.
    pub end: u64,
}

/// [`BlockedEntry::descriptor`].
pub mod descriptor {
    /// The call has none, or it could not be read.
    pub const NONE: u32 = 0;
    /// A file with a path.
    pub const FILE: u32 = 1;
    /// A socket.
    pub const SOCKET: u32 = 2;
}

const _: () = {
    assert!(size_of::<LockEntry>() == 8 * 8 + 12 * 4 + 16 + 584 + 8);
    assert!(size_of::<LockHeld>() == 24 + 16);
    assert!(size_of::<BlockedEntry>() == 16 + 16 + 24 + 16 + 8 + 64 + 584 + 8);
};
