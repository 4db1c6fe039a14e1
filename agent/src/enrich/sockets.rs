//! Who holds an address, as procfs shows it: the sockets of a network namespace, and the process that has one of them open.
//!
//! For what the kernel side does not tell: sockets that listened before the agent ran, UDP and UNIX sockets, and ports that are in use
//! without a listener.

use std::{
    collections::{HashMap, HashSet},
    io::Cursor,
    path::Path,
};

use ::procfs::{
    FromBufRead, FromBufReadSI,
    net::{TcpNetEntries, TcpState, UdpNetEntries, UnixNetEntries},
};

use super::{procfs::HostProc, read::read_at_most};
use crate::decode::{Bound, Listener, SocketAddress, Transport};

/// Bytes of one table of sockets that are read: some 7 000 sockets. With more, a holder may not be found, and is said to be unknown.
const TABLE_LIMIT: u64 = 1024 * 1024;
/// Processes looked at for one search, on a node that has far more than the usual hundreds.
const MAX_PROCESSES: usize = 8192;
/// Descriptors looked at for one search; each costs about 2 µs, all of them half a second.
const MAX_DESCRIPTORS: usize = 262_144;

/// A process that has a socket open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Host's view.
    pub pid: u32,
    /// `/proc/PID/comm`.
    pub comm: Vec<u8>,
    /// The descriptor that was found.
    pub descriptor: String,
    /// Its group in the v2 hierarchy, as the host sees it.
    pub cgroup_path: String,
}

/// A socket that listened before the agent ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlyListener {
    /// Where, and since when it is known.
    pub listener: Listener,
    /// Inode number of the socket.
    pub inode: u64,
    /// Who has it open.
    pub owner: Owner,
}

/// What a search for a holder gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Search {
    /// This process has it.
    Held(Owner),
    /// It is in use and no process has it open: by a connection that is being closed, say.
    NoProcess,
    /// It could not be looked for.
    Unknown,
}

/// Looks through the sockets of the network namespace that one of `processes_there` is in.
#[must_use]
pub fn holder(
    processes: &HostProc,
    processes_there: &[u32],
    net_namespace: u32,
    transport: Transport,
    wanted: &SocketAddress,
    ipv6_only: bool,
) -> Search {
    let there = processes_there.iter().find(|pid| processes.net_namespace(**pid) == Some(net_namespace));
    let Some(there) = there else { return Search::Unknown };
    let net = processes.process(*there).join("net");
    let Some(inodes) = in_the_way(&net, transport, wanted, ipv6_only) else { return Search::Unknown };
    let open: HashSet<u64> = inodes.iter().copied().filter(|inode| *inode != 0).collect();
    if open.is_empty() {
        // A connection that is being closed belongs to no process; a path may be left over from one that ended long ago. But who held
        // a port that is free again is not known.
        let left_over = matches!(wanted, SocketAddress::Unix(_)) && processes.exists(*there);
        return if left_over || !inodes.is_empty() { Search::NoProcess } else { Search::Unknown };
    }
    let (owners, all) = owners(processes, processes_there, open.clone());
    match owners.into_values().min_by_key(|owner| owner.pid) {
        Some(owner) => Search::Held(owner),
        // Its process may have ended since the table was read.
        None if all
            && in_the_way(&net, transport, wanted, ipv6_only).is_some_and(|now| !now.is_disjoint(&open)) =>
        {
            Search::NoProcess
        }
        None => Search::Unknown,
    }
}

/// Inodes of the sockets that have the address, 0 for those that no process has; None when they cannot be read.
fn in_the_way(
    net: &Path,
    transport: Transport,
    wanted: &SocketAddress,
    ipv6_only: bool,
) -> Option<HashSet<u64>> {
    match (wanted, transport) {
        (SocketAddress::Internet(address), Transport::Tcp | Transport::Udp) => {
            let wanted = Bound { address: *address, ipv6_only };
            // What procfs does not tell, IPV6_V6ONLY, is taken to be off: two of the same port then still differ in their family.
            let mut all = internet(net, transport)?;
            all.retain(|socket| wanted.conflicts(&socket.bound));
            if all.iter().any(|socket| socket.listens) {
                // The others are connections to it.
                all.retain(|socket| socket.listens);
            }
            Some(all.iter().map(|socket| socket.inode).collect())
        }
        (SocketAddress::Unix(path), Transport::Other) => unix(net, path),
        _ => None,
    }
}

/// The TCP sockets that listen now, in every network namespace that a process is in. `now` is their time, as theirs is not known.
#[must_use]
pub fn listening(processes: &HostProc, now: u64) -> Vec<EarlyListener> {
    let mut namespaces = HashMap::new();
    for pid in processes.pids().take(MAX_PROCESSES) {
        if let Some(namespace) = processes.net_namespace(pid) {
            namespaces.entry(namespace).or_insert(pid);
        }
    }
    let mut sockets = HashMap::new();
    for (namespace, pid) in namespaces {
        let all = internet(&processes.process(pid).join("net"), Transport::Tcp).unwrap_or_default();
        let listening = all.into_iter().filter(|socket| socket.listens && socket.inode != 0);
        sockets.extend(listening.map(|socket| (socket.inode, (namespace, socket.bound))));
    }
    let (owners, _) = owners(processes, &[], sockets.keys().copied().collect());
    let early = |(inode, owner): (u64, Owner)| {
        let (net_namespace, bound) = *sockets.get(&inode)?;
        let comm = owner.comm.clone();
        let listener =
            Listener { time: now, closed: None, cgroup_id: 0, tgid: owner.pid, comm, net_namespace, bound };
        Some(EarlyListener { listener, inode, owner })
    };
    owners.into_iter().filter_map(early).collect()
}

impl EarlyListener {
    /// Whether it is still open where it was found.
    #[must_use]
    pub fn is_open(&self, processes: &HostProc) -> bool {
        let descriptor = processes.process(self.owner.pid).join("fd").join(&self.owner.descriptor);
        socket_inode(&descriptor) == Some(self.inode)
    }
}

struct Socket {
    bound: Bound,
    inode: u64,
    listens: bool,
}

/// The TCP or UDP sockets of a namespace; None when they cannot be read whole. IPv6 need not be there.
fn internet(net: &Path, transport: Transport) -> Option<Vec<Socket>> {
    let bound = |address: std::net::SocketAddr| {
        let address = std::net::SocketAddr::new(address.ip().to_canonical(), address.port());
        Bound { address, ipv6_only: false }
    };
    let system = ::procfs::current_system_info();
    let mut sockets = Vec::new();
    for (name, required) in match transport {
        Transport::Tcp => [("tcp", true), ("tcp6", false)],
        _ => [("udp", true), ("udp6", false)],
    } {
        let text = match table(net, name) {
            Some(text) => text,
            None if required => return None,
            None => continue,
        };
        if transport == Transport::Tcp {
            let entries = TcpNetEntries::from_buf_read(Cursor::new(text), system).ok()?.0;
            sockets.extend(entries.into_iter().map(|entry| Socket {
                bound: bound(entry.local_address),
                inode: entry.inode,
                listens: entry.state == TcpState::Listen,
            }));
        } else {
            let entries = UdpNetEntries::from_buf_read(Cursor::new(text), system).ok()?.0;
            sockets.extend(entries.into_iter().map(|entry| Socket {
                bound: bound(entry.local_address),
                inode: entry.inode,
                listens: false,
            }));
        }
    }
    Some(sockets)
}

/// Inodes of the UNIX sockets bound to `path`; an abstract one begins with `@`, as procfs shows it too.
fn unix(net: &Path, path: &[u8]) -> Option<HashSet<u64>> {
    // Programs choose these names, which need not be UTF-8.
    let text = String::from_utf8_lossy(&table(net, "unix")?).into_owned();
    let entries = UnixNetEntries::from_buf_read(Cursor::new(text)).ok()?.0;
    let is_there = |entry: &::procfs::net::UnixNetEntry| {
        entry.path.as_ref().is_some_and(|bound| bound.as_os_str().as_encoded_bytes() == path)
    };
    Some(entries.iter().filter(|entry| is_there(entry)).map(|entry| entry.inode).collect())
}

fn table(net: &Path, name: &str) -> Option<Vec<u8>> {
    let text = read_at_most(&net.join(name), TABLE_LIMIT + 1).ok()?;
    (text.len() as u64 <= TABLE_LIMIT).then_some(text)
}

/// The processes that have these sockets open, and whether all processes were looked at. `first` are the likeliest.
fn owners(processes: &HostProc, first: &[u32], mut inodes: HashSet<u64>) -> (HashMap<u64, Owner>, bool) {
    let mut owners = HashMap::new();
    let mut descriptors = 0;
    for (count, pid) in first.iter().copied().chain(processes.pids()).enumerate() {
        if inodes.is_empty() {
            break;
        }
        if count == MAX_PROCESSES || descriptors >= MAX_DESCRIPTORS {
            return (owners, false);
        }
        let Ok(open) = std::fs::read_dir(processes.process(pid).join("fd")) else { continue };
        for entry in open.filter_map(Result::ok).take(MAX_DESCRIPTORS) {
            descriptors += 1;
            let Some(inode) = socket_inode(&entry.path()).filter(|inode| inodes.remove(inode)) else {
                continue;
            };
            let owner = Owner {
                pid,
                comm: processes.comm(pid).unwrap_or_default(),
                descriptor: entry.file_name().to_string_lossy().into_owned(),
                cgroup_path: processes.cgroup_path(pid).unwrap_or_default(),
            };
            owners.insert(inode, owner);
        }
    }
    (owners, true)
}

/// The number in `socket:[12345]`.
fn socket_inode(descriptor: &Path) -> Option<u64> {
    let target = std::fs::read_link(descriptor).ok()?;
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn own() -> (HostProc, u32, u32) {
        let processes = HostProc::new(Path::new("/proc"));
        let pid = std::process::id();
        let namespace = processes.net_namespace(pid).unwrap();
        (processes, pid, namespace)
    }

    fn search(transport: Transport, address: std::net::SocketAddr) -> Search {
        let (processes, pid, namespace) = own();
        holder(&processes, &[pid], namespace, transport, &SocketAddress::Internet(address), false)
    }

    #[test]
    fn the_holder_of_a_port_is_found() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut wanted = tcp.local_addr().unwrap();
        let Search::Held(owner) = search(Transport::Tcp, wanted) else { panic!("not found") };
        assert_eq!(owner.pid, std::process::id());
        assert!(!owner.comm.is_empty());
        wanted.set_ip("0.0.0.0".parse().unwrap());
        assert!(matches!(search(Transport::Tcp, wanted), Search::Held(_)), "0.0.0.0 overlaps");
        wanted.set_ip("127.0.0.7".parse().unwrap());
        assert_eq!(search(Transport::Tcp, wanted), Search::Unknown, "nobody has it by now");

        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(matches!(search(Transport::Udp, udp.local_addr().unwrap()), Search::Held(_)));
    }

    #[test]
    fn the_holder_of_a_unix_socket_is_found() {
        let (processes, pid, namespace) = own();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let of = |path: &Path| {
            let wanted = SocketAddress::Unix(path.as_os_str().as_encoded_bytes().to_vec());
            holder(&processes, &[pid], namespace, Transport::Other, &wanted, false)
        };
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(of(&path), Search::Held(owner) if owner.pid == pid));
        drop(listener);
        assert_eq!(of(&path), Search::NoProcess, "a stale path");
    }

    #[test]
    fn without_a_process_there_nothing_is_known() {
        let (processes, pid, namespace) = own();
        let wanted = SocketAddress::Internet("127.0.0.1:1".parse().unwrap());
        let of =
            |pids: &[u32], namespace| holder(&processes, pids, namespace, Transport::Tcp, &wanted, false);
        assert_eq!(of(&[], namespace), Search::Unknown);
        assert_eq!(of(&[pid], namespace + 1), Search::Unknown);
    }

    #[test]
    fn what_listens_already_is_found_until_it_closes() {
        let (processes, pid, namespace) = own();
        let tcp = TcpListener::bind("[::1]:0").or_else(|_| TcpListener::bind("127.0.0.1:0")).unwrap();
        let early = listening(&processes, 7);
        let found = early.iter().find(|it| it.listener.bound.address == tcp.local_addr().unwrap()).unwrap();
        assert_eq!((found.owner.pid, found.listener.net_namespace, found.listener.time), (pid, namespace, 7));
        assert!(found.is_open(&processes));
        drop(tcp);
        assert!(!found.is_open(&processes));
    }
}
