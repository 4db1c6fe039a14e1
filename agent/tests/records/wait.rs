//! Made-up locks that could not be had, and calls that a stop found the main process in.

use lastwords_agent::decode::{Blocked, BlockedCall, LockOutcome, LockTry, SocketAddress, Waited, zeroed};
use lastwords_agent_common::record::{BlockedEntry, LockEntry, descriptor, lock};
use proptest::prelude::*;

use super::recorder::{Entry, marks, socket};
use super::{comm, directory, put};

pub(super) fn lock_try() -> impl Strategy<Value = Entry<LockEntry, LockTry>> {
    let ids = any::<[u32; 4]>();
    let outcome = prop_oneof![
        (1..=133_u32).prop_map(|errno| (lock::REFUSED, errno, LockOutcome::Refused(errno.cast_signed()))),
        Just((lock::WAITING, 0, LockOutcome::Waiting)),
        Just((lock::INTERRUPTED, 0, LockOutcome::Interrupted)),
        Just((lock::ASKED, 0, LockOutcome::Asked)),
    ];
    let tries = (any::<u64>(), any::<u64>(), any::<u64>());
    let file = (any::<u64>(), any::<u32>(), any::<[bool; 3]>(), any::<u32>(), directory());
    (marks(), ids, outcome, tries, file, comm()).prop_map(
        |((begin, end), [tgid, tid, uid, gid], (state, errno, outcome), (first, had, count), file, comm)| {
            let (inode, device, [is_flock, is_write, searched], holder, (raw_path, path)) = file;
            let entry = LockEntry {
                begin,
                first,
                had,
                inode,
                count,
                device,
                tgid,
                tid,
                uid,
                gid,
                holder,
                state,
                errno,
                is_flock: u32::from(is_flock),
                is_write: u32::from(is_write),
                searched: u32::from(searched),
                comm: put(&comm),
                path: raw_path,
                end,
                ..zeroed()
            };
            let value = LockTry {
                time: 0,
                first,
                had: (had != 0).then_some(had),
                count,
                outcome,
                tgid,
                tid,
                uid,
                gid,
                comm,
                is_flock,
                holder: (holder != 0).then_some(holder),
                searched,
                path,
            };
            (entry, (begin == end).then_some(value))
        },
    )
}

/// The bytes of an address as words, and what they say: nothing without a port, and nothing of a UNIX socket.
fn end_of_socket() -> impl Strategy<Value = ([u64; 4], Option<SocketAddress>)> {
    socket().prop_map(|(bytes, address)| {
        let mut whole = [0_u8; 32];
        let there = bytes.len().min(whole.len());
        whole[..there].copy_from_slice(&bytes[..there]);
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(whole.chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
        }
        let address = match &address {
            SocketAddress::Internet(internet) if internet.port() != 0 => Some(address),
            SocketAddress::Internet(_) | SocketAddress::Unix(_) => None,
        };
        (words, address)
    })
}

/// In half of the recorders nobody told the container to stop.
pub(super) fn blocked() -> impl Strategy<Value = Entry<BlockedEntry, Blocked>> {
    let call = (any::<bool>(), any::<u32>(), 0..3_u32, any::<u32>());
    let place = (directory(), end_of_socket(), end_of_socket());
    (any::<bool>(), marks(), any::<u64>(), (1..=64_u32, any::<u32>()), call, place, comm()).prop_map(
        |(told, (begin, end), time, (signal, tid), (waits, syscall, kind, protocol), place, comm)| {
            let ((raw_path, path), (raw_peer, peer), (raw_own, own)) = place;
            let entry = BlockedEntry {
                begin: if told { begin } else { 0 },
                time,
                signal,
                tid,
                waits: u32::from(waits),
                syscall,
                comm: put(&comm),
                descriptor: kind,
                protocol,
                peer: raw_peer,
                own: raw_own,
                path: raw_path,
                end,
                ..zeroed()
            };
            let object = match kind {
                descriptor::FILE => path.map_or(Waited::Unknown, Waited::File),
                descriptor::SOCKET => Waited::Socket { protocol, peer, own },
                _ => Waited::Unknown,
            };
            let call = waits.then_some(BlockedCall { syscall, object });
            let value = Blocked { time, signal: signal.cast_signed(), tid, comm, call };
            (entry, (told && begin == end).then_some(value))
        },
    )
}
