//! Sockets that listen, addresses that were taken, and DNS queries.

use super::{Comm, Header};
use crate::limits::{ADDRESS_BYTES, BIND_BYTES, DNS_MESSAGE_BYTES};

/// An address was in use (EADDRINUSE): told at once so that the agent can look for its holder while that is there.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PortTaken {
    /// The header.
    pub header: Header,
    /// [`FailureEntry::time`] of the same call.
    pub failure_time: u64,
    /// The caller.
    pub tgid: u32,
    /// Its thread.
    pub tid: u32,
    /// Inode number of the socket's network namespace.
    pub net_namespace: u32,
    /// `sk_protocol`: 6 for TCP, 17 for UDP, 0 for a UNIX socket.
    pub protocol: u32,
    /// See [`socket_flag`].
    pub flags: u32,
    /// Bytes of `address` in use; 0 for listen(2), whose third argument is none.
    pub length: u32,
    /// A `struct sockaddr`, as passed to bind(2).
    pub address: [u8; BIND_BYTES],
    /// The one that the socket is bound to.
    pub bound: [u8; ADDRESS_BYTES],
    /// Zero.
    pub padding: u32,
}

/// Bits of the byte in `struct sock_common` that begins with `skc_reuse` (include/net/sock.h; both architectures are little endian).
pub mod socket_flag {
    /// `skc_reuseport`.
    pub const REUSE_PORT: u32 = 1 << 4;
    /// `skc_ipv6only`.
    pub const IPV6_ONLY: u32 = 1 << 5;
}

/// A TCP socket that listens: the value of the maps `LISTENERS` and `CLOSED_LISTENERS`, and a slot of a recorder.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Listener {
    /// When listen(2) was called.
    pub time: u64,
    /// When it was closed; 0 while it listens.
    pub closed: u64,
    /// The container's own group, or the group of a process in none that is watched.
    pub cgroup_id: u64,
    /// Which one of its container, counted from 0; its slot in the recorder is this number modulo their count.
    pub number: u64,
    /// The process that called listen(2).
    pub tgid: u32,
    /// Inode number of the socket's network namespace.
    pub net_namespace: u32,
    /// See [`socket_flag`].
    pub flags: u32,
    /// The bound address, a `struct sockaddr_in` or `sockaddr_in6`.
    pub address: [u8; ADDRESS_BYTES],
    /// Name of the calling thread.
    pub comm: Comm,
}

/// A UNIX socket that began to listen. Its end is not seen.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct UnixListener {
    /// When listen(2) was called; 0 in a slot that was never written.
    pub time: u64,
    /// The process that called it.
    pub tgid: u32,
    /// Bytes of `address` in use.
    pub length: u32,
    /// Name of the calling thread.
    pub comm: Comm,
    /// The bound address, a `struct sockaddr_un`.
    pub address: [u8; BIND_BYTES],
}

/// What became of a DNS query, [`DnsEntry::state`].
pub mod dns_state {
    /// The slot is free.
    pub const FREE: u32 = 0;
    /// No answer came yet.
    pub const WAITING: u32 = 1;
    /// An answer came that brought nothing.
    pub const ANSWERED: u32 = 2;
    /// An answer brought what was asked. Kept as long as no other query needs the slot, for those that are [`SUPPLANTED`].
    pub const RESOLVED: u32 = 3;
    /// As [`ANSWERED`], and then a name with the same first label was resolved: that may have been the same name with another search
    /// domain behind it, which only the whole names tell. Kept as one that is resolved.
    pub const SUPPLANTED: u32 = 4;
}

/// One DNS query in a recorder. A slot may be taken again when an answer brings what was asked.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct DnsEntry {
    /// When it was sent last.
    pub time: u64,
    /// When its answer came.
    pub answered: u64,
    /// Of the name, whatever the case of its letters.
    pub name_hash: u64,
    /// Of the name's first label: names that were made of one name and search domains share it.
    pub label_hash: u64,
    /// See [`dns_state`].
    pub state: u32,
    /// How often it was sent.
    pub sent: u32,
    /// Process.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// System call number of the call that sent it, or that brought the answer.
    pub syscall: u32,
    /// 6 for TCP, 17 for UDP.
    pub protocol: u32,
    /// Bytes 2 and 3 of the answer, its flags and response code; of one that did not fit into a datagram also while the query waits.
    pub response: u32,
    /// How many records answer the question.
    pub answers: u32,
    /// The error that the kernel brought instead of an answer; 0 without one.
    pub errno: u32,
    /// Bytes of `message` in use.
    pub length: u32,
    /// Name of the calling thread.
    pub comm: Comm,
    /// The name server, a `struct sockaddr_in` or `sockaddr_in6`.
    pub server: [u8; ADDRESS_BYTES],
    /// Zero.
    pub padding: u32,
    /// The query's first bytes.
    pub message: [u8; DNS_MESSAGE_BYTES],
}
