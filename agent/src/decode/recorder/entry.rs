//! One slot of a recorder → what it tells; a slot that was being written is torn, and tells nothing.

use lastwords_agent_common::{
    record::{self, ChildExitEntry, FailureEntry, OpenedEntry, SignalEntry, seccomp},
    rules::object,
};
use lastwords_diagnosis::evidence::Seccomp;
use nix::libc::AT_FDCWD;

use super::{ChildExit, Failure, Object, Opened, Signal};
use crate::decode::{Status, Transport, if_known, socket_address, until_zero};

/// Protocol numbers (include/uapi/linux/in.h).
const TCP: u32 = 6;
const UDP: u32 = 17;
const MPTCP: u32 = 262;

pub(super) fn failure(entry: &FailureEntry, at: Option<&record::Place>) -> Option<Failure> {
    if entry.begin == 0 || entry.begin != entry.end {
        return None;
    }
    let length = (entry.length as usize).min(entry.data.len());
    let data = entry.data.get(..length).unwrap_or_default();
    let path = |directory: i32| {
        if length == 0 {
            return Object::None;
        }
        let path = until_zero(data).to_vec();
        // A full array ends in the zero that the kernel put there in place of what followed.
        let truncated = length == entry.data.len();
        Object::Path { path, directory, truncated }
    };
    let kind = u8::try_from(entry.object).unwrap_or(object::NONE);
    let mut start = at.filter(|_| entry.has_place != 0).and_then(self::place);
    Some(Failure {
        time: entry.time,
        tgid: entry.tgid,
        tid: entry.tid,
        uid: entry.uid,
        gid: entry.gid,
        syscall: entry.syscall,
        errno: entry.errno.cast_signed(),
        arguments: entry.arguments,
        comm: until_zero(&entry.comm).to_vec(),
        object: match kind {
            object::PATH_0 => path(AT_FDCWD),
            object::PATH_1 => path(low_half(entry.arguments[0])),
            object::PATH_2 => path(low_half(entry.arguments[1])),
            object::SOCKET_ADDRESS | object::SOCKET_ADDRESS_4 | object::LATE_ADDRESS | object::PEER => {
                socket_address(data).map_or(Object::None, Object::Address)
            }
            object::DESCRIPTOR => match start.take() {
                Some(path) => Object::Path { path, directory: AT_FDCWD, truncated: false },
                None => Object::None,
            },
            _ => Object::None,
        },
        late: kind == object::LATE_ADDRESS,
        unanswered: kind == object::LATE_ADDRESS && entry.arguments[0] == object::UNANSWERED,
        transport: match (kind, entry.protocol) {
            (object::SOCKET_ADDRESS | object::PEER, TCP | MPTCP) => Some(Transport::Tcp),
            (object::SOCKET_ADDRESS | object::PEER, UDP) => Some(Transport::Udp),
            _ => None,
        },
        lost: kind == object::PEER,
        directory: start,
        capabilities: entry.capabilities,
        refused_capability: entry.refused_capability.checked_sub(1),
        waited: if_known(entry.waited),
        seccomp: match entry.seccomp {
            seccomp::NO_FILTER => Seccomp::NoFilter,
            seccomp::UNDECIDED => Seccomp::Undecided,
            seccomp::DENIED => Seccomp::Denied,
            seccomp::PASSED => Seccomp::NotByFilter,
            _ => Seccomp::Unknown,
        },
    })
}

/// A place's path, whose names stand from the innermost to the root.
pub(in crate::decode) fn place(place: &record::Place) -> Option<Vec<u8>> {
    let names = place.names.get(..place.length as usize).filter(|_| place.complete != 0)?;
    let Some(names) = names.strip_suffix(&[0]) else { return Some(b"/".to_vec()) };
    let mut path = Vec::new();
    for name in names.rsplit(|byte| *byte == 0) {
        if name.is_empty() || name.contains(&b'/') {
            // The root of one mount on the root of another: the kernel side steps over one in a round.
            return None;
        }
        path.push(b'/');
        path.extend_from_slice(name);
    }
    Some(path)
}

/// A descriptor is an `int` in a 64-bit register.
fn low_half(register: u64) -> i32 {
    let [a, b, c, d, ..] = register.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

pub(super) fn signal(entry: &SignalEntry) -> Option<Signal> {
    (entry.begin != 0 && entry.begin == entry.end).then(|| Signal {
        time: entry.time,
        signal: entry.signal.cast_signed(),
        code: entry.code,
        result: entry.result,
        sender_tgid: entry.sender_tgid,
        sender_cgroup: entry.sender_cgroup,
        sender_container: None,
        sender_comm: until_zero(&entry.sender_comm).to_vec(),
        sender_parent_comm: until_zero(&entry.sender_parent_comm).to_vec(),
        target_tgid: entry.target_tgid,
        target_comm: until_zero(&entry.target_comm).to_vec(),
        address: entry.address,
        target_tid: entry.target_tid,
        place_number: entry.place,
        place: None,
    })
}

pub(super) fn file(entry: &OpenedEntry, written: bool) -> Option<Opened> {
    let length = (entry.length as usize).min(entry.path.len());
    let path = until_zero(entry.path.get(..length).unwrap_or_default());
    (entry.begin != 0 && entry.begin == entry.end).then(|| Opened {
        time: entry.time,
        tgid: entry.tgid,
        tid: entry.tid,
        comm: until_zero(&entry.comm).to_vec(),
        directory: entry.directory,
        path: path.to_vec(),
        written,
    })
}

pub(super) fn child_exit(entry: &ChildExitEntry) -> Option<ChildExit> {
    (entry.begin != 0 && entry.begin == entry.end).then(|| ChildExit {
        time: entry.time,
        tgid: entry.tgid,
        comm: until_zero(&entry.comm).to_vec(),
        status: Status::from_wait(entry.status),
        detached: entry.detached != 0,
        tid: entry.tid,
        waited: if_known(entry.waited),
        parent: entry.parent,
        writes: entry.writes.map(if_known),
    })
}

#[cfg(test)]
mod place_tests {
    use super::*;

    fn path(raw: &[u8], complete: u32) -> Option<Vec<u8>> {
        let mut place: record::Place = crate::decode::zeroed();
        place.names[..raw.len()].copy_from_slice(raw);
        place.length = u32::try_from(raw.len()).unwrap();
        place.complete = complete;
        super::place(&place)
    }

    #[test]
    fn names_stand_from_the_innermost_to_the_root() {
        assert_eq!(path(b"app.db\0data\0", 1).as_deref(), Some(b"/data/app.db".as_slice()));
        assert_eq!(path(b"", 1).as_deref(), Some(b"/".as_slice()));
        assert_eq!(path(b"app.db\0data\0", 0), None, "the root was not reached");
        assert_eq!(path(b"/\0data\0", 1), None, "a root mounted on a root");
        assert_eq!(path(b"\0", 1), None);
    }
}
