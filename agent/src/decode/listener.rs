//! Sockets that listen, and addresses that could not be had because another has them.

use std::net::{IpAddr, SocketAddr};

use lastwords_agent_common::record::{self, socket_flag};

use super::{SocketAddress, socket_address, until_zero};

/// An address that a socket is, or was to be, bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// The address; a v4-mapped one as IPv4.
    pub address: SocketAddr,
    /// An IPv6 socket that takes no IPv4 connections.
    pub ipv6_only: bool,
}

impl Bound {
    /// Whether one of the two is in the way of the other, in one network namespace and for one transport.
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        let (one, two) = (self.address.ip(), other.address.ip());
        let same_host = match (one, two) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
                one == two || one.is_unspecified() || two.is_unspecified()
            }
            // `::` takes every IPv4 address with it, unless it is told not to; another IPv6 address has nothing to do with IPv4.
            (IpAddr::V6(_), IpAddr::V4(_)) => one.is_unspecified() && !self.ipv6_only,
            (IpAddr::V4(_), IpAddr::V6(_)) => two.is_unspecified() && !other.ipv6_only,
        };
        self.address.port() == other.address.port() && same_host
    }
}

/// A TCP socket that listens or listened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// When listen(2) was called, CLOCK_MONOTONIC.
    pub time: u64,
    /// When it was closed.
    pub closed: Option<u64>,
    /// The container's own group, or another process's group.
    pub cgroup_id: u64,
    /// The process that called listen(2).
    pub tgid: u32,
    /// The thread's name.
    pub comm: Vec<u8>,
    /// Inode number of its network namespace.
    pub net_namespace: u32,
    /// Where.
    pub bound: Bound,
}

/// A UNIX socket that listens or listened: its end is not seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixListener {
    /// When listen(2) was called, CLOCK_MONOTONIC.
    pub time: u64,
    /// The process that called it.
    pub tgid: u32,
    /// The thread's name.
    pub comm: Vec<u8>,
    /// As passed to bind(2); an abstract one begins with `@`.
    pub path: Vec<u8>,
}

/// Which ports a socket takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP's.
    Tcp,
    /// UDP's.
    Udp,
    /// None: a UNIX socket, or a protocol that has none.
    Other,
}

/// See [`record::PortTaken`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortTaken {
    /// The time of the failed call, as its entry in the recorder has it.
    pub time: u64,
    /// The caller.
    pub tgid: u32,
    /// Its thread.
    pub tid: u32,
    /// Inode number of the socket's network namespace; 0 when it could not be read.
    pub net_namespace: u32,
    /// Of the socket.
    pub transport: Transport,
    /// What it asked for; None for a family that is not known.
    pub address: Option<SocketAddress>,
    /// An IPv6 socket that takes no IPv4 connections.
    pub ipv6_only: bool,
}

/// A slot of the recorder, or an element of the kernel's map; None for one that was never written and for other families.
pub(crate) fn listener(raw: &record::Listener) -> Option<Listener> {
    let SocketAddress::Internet(address) = socket_address(&raw.address)? else { return None };
    (raw.time != 0).then(|| Listener {
        time: raw.time,
        closed: (raw.closed != 0).then_some(raw.closed),
        cgroup_id: raw.cgroup_id,
        tgid: raw.tgid,
        comm: until_zero(&raw.comm).to_vec(),
        net_namespace: raw.net_namespace,
        bound: Bound { address, ipv6_only: raw.flags & socket_flag::IPV6_ONLY != 0 },
    })
}

/// A slot of the recorder; None for one that was never written, and for a socket that was bound to nothing.
pub(super) fn unix_listener(raw: &record::UnixListener) -> Option<UnixListener> {
    let address = raw.address.get(..raw.length as usize)?;
    let SocketAddress::Unix(path) = socket_address(address)? else { return None };
    (raw.time != 0 && !path.is_empty()).then(|| UnixListener {
        time: raw.time,
        tgid: raw.tgid,
        comm: until_zero(&raw.comm).to_vec(),
        path,
    })
}

pub(super) fn port_taken(raw: &record::PortTaken) -> PortTaken {
    let length = (raw.length as usize).min(raw.address.len());
    PortTaken {
        time: raw.failure_time,
        tgid: raw.tgid,
        tid: raw.tid,
        net_namespace: raw.net_namespace,
        transport: match raw.protocol {
            6 => Transport::Tcp,
            17 => Transport::Udp,
            _ => Transport::Other,
        },
        address: raw.address.get(..length).and_then(socket_address).or_else(|| socket_address(&raw.bound)),
        ipv6_only: raw.flags & socket_flag::IPV6_ONLY != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(address: &str, ipv6_only: bool) -> Bound {
        Bound { address: address.parse().unwrap(), ipv6_only }
    }

    #[test]
    fn addresses_conflict_as_the_kernel_sees_it() {
        for (one, two, conflict) in [
            ("0.0.0.0:80", "0.0.0.0:80", true),
            ("0.0.0.0:80", "0.0.0.0:81", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("[::]:80", "0.0.0.0:80", true),
            ("[::]:80", "10.0.0.1:80", true),
            ("[::1]:80", "0.0.0.0:80", false),
            ("[::1]:80", "[::]:80", true),
            ("[::1]:80", "[::2]:80", false),
        ] {
            assert_eq!(bound(one, false).conflicts(&bound(two, false)), conflict, "{one} {two}");
            assert_eq!(bound(two, false).conflicts(&bound(one, false)), conflict, "{two} {one}");
        }
        assert!(!bound("[::]:80", true).conflicts(&bound("0.0.0.0:80", false)), "IPV6_V6ONLY");
        assert!(bound("[::]:80", true).conflicts(&bound("[::]:80", false)));
    }

    #[test]
    fn a_unix_socket_is_told_by_its_path() {
        let mut raw = record::UnixListener { time: 5, tgid: 7, length: 13, comm: [0; 16], address: [0; 128] };
        raw.address[..13].copy_from_slice(b"\x01\0/run/a.sock");
        raw.comm[..3].copy_from_slice(b"app");
        let expected =
            UnixListener { time: 5, tgid: 7, comm: b"app".to_vec(), path: b"/run/a.sock".to_vec() };
        assert_eq!(unix_listener(&raw), Some(expected));
        raw.length = 129;
        assert_eq!(unix_listener(&raw), None, "more than there is");
        assert_eq!(unix_listener(&record::UnixListener { time: 0, length: 13, ..raw }), None);
        assert_eq!(unix_listener(&record::UnixListener { length: 0, ..raw }), None);
    }

    #[test]
    fn a_slot_that_was_never_written_is_no_listener() {
        assert_eq!(listener(&record::Listener::default()), None);
        let mut raw =
            record::Listener { time: 5, closed: 9, flags: socket_flag::IPV6_ONLY, ..Default::default() };
        raw.address[..8].copy_from_slice(&[2, 0, 0x1f, 0x90, 10, 0, 0, 9]);
        raw.comm[..5].copy_from_slice(b"nginx");
        let read = listener(&raw).unwrap();
        assert_eq!(read.bound, bound("10.0.0.9:8080", true));
        assert_eq!((read.time, read.closed, read.comm.as_slice()), (5, Some(9), &b"nginx"[..]));
        raw.time = 0;
        assert_eq!(listener(&raw), None);
    }
}
