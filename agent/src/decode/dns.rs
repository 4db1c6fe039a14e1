//! DNS queries that brought nothing.

use std::net::SocketAddr;

use lastwords_agent_common::record::{DnsEntry, dns_state};

use super::{SocketAddress, Transport, socket_address, until_zero};

/// Bytes before the first question (RFC 1035, 4.1.1).
const HEADER_BYTES: usize = 12;
/// Of an answer's flags: not all of it fitted (RFC 1035, 4.1.1).
const TRUNCATED: u32 = 0x0200;
/// Longest label, and longest name with the lengths of its labels (RFC 1035, 2.3.4).
const LABEL_BYTES: usize = 63;
const NAME_BYTES: usize = 255;

/// What is known of a query in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DnsFate {
    /// Nothing came of it.
    #[default]
    Failed,
    /// It was answered.
    Resolved,
    /// The name does not exist, and then one with the same first label was resolved.
    Supplanted,
}

/// See [`DnsEntry`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsQuery {
    /// When it was sent last, CLOCK_MONOTONIC.
    pub time: u64,
    /// What is known of it.
    pub fate: DnsFate,
    /// What came back; None when nothing did, or when it was resolved.
    pub answer: Option<DnsAnswer>,
    /// The error that the kernel brought instead of an answer; 0 without one.
    pub errno: i32,
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
    /// The call that sent it or brought the answer; None where the way into the kernel does not tell.
    pub syscall: Option<u32>,
    /// The thread's name.
    pub comm: Vec<u8>,
    /// UDP or TCP.
    pub transport: Transport,
    /// The name server.
    pub server: SocketAddr,
    /// The name asked.
    pub name: Vec<u8>,
    /// The type of record asked for, 1 for A (RFC 1035, 3.2.2).
    pub record_type: u16,
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DnsAnswer {
    /// When it came, CLOCK_MONOTONIC.
    pub time: u64,
    /// Its response code (RFC 1035, 4.1.1).
    pub code: u8,
}

/// A slot in use; None for a free one, and for one that holds no query: two processors may have written it at once.
pub(super) fn dns_query(raw: &DnsEntry) -> Option<DnsQuery> {
    let answer = match raw.state {
        // It was answered, but not as a whole, and what could be said over TCP was not asked for, nor was it seen.
        dns_state::WAITING if raw.response & TRUNCATED != 0 => return None,
        dns_state::WAITING | dns_state::RESOLVED => None,
        dns_state::ANSWERED | dns_state::SUPPLANTED => {
            Some(DnsAnswer { time: raw.answered, code: raw.response.to_le_bytes()[0] & 15 })
        }
        _ => return None,
    };
    let SocketAddress::Internet(server) = socket_address(&raw.server)? else { return None };
    let length = (raw.length as usize).min(raw.message.len());
    let (name, record_type) = question(raw.message.get(..length)?)?;
    Some(DnsQuery {
        time: raw.time,
        fate: match raw.state {
            dns_state::RESOLVED => DnsFate::Resolved,
            dns_state::SUPPLANTED => DnsFate::Supplanted,
            _ => DnsFate::Failed,
        },
        answer,
        errno: raw.errno.cast_signed(),
        sent: raw.sent,
        tgid: raw.tgid,
        tid: raw.tid,
        uid: raw.uid,
        gid: raw.gid,
        syscall: (raw.syscall != u32::MAX).then_some(raw.syscall),
        comm: until_zero(&raw.comm).to_vec(),
        transport: if raw.protocol == 6 { Transport::Tcp } else { Transport::Udp },
        server,
        name,
        record_type,
    })
}

/// The name and the type that a query asks for. Nothing is forgiven: the labels have to fit, to end, and to be no pointers, which a first
/// name cannot have. A dot or a backslash inside a label gets a backslash before it (RFC 4343, 2.1); the root is `.`.
#[must_use]
pub fn question(message: &[u8]) -> Option<(Vec<u8>, u16)> {
    let mut rest = message.get(HEADER_BYTES..)?;
    let mut name = Vec::new();
    let mut bytes = 1;
    loop {
        let (length, behind) = rest.split_first()?;
        let length = usize::from(*length);
        if length == 0 {
            rest = behind;
            break;
        }
        bytes += length + 1;
        if length > LABEL_BYTES || bytes > NAME_BYTES {
            return None;
        }
        let (label, behind) = behind.split_at_checked(length)?;
        if !name.is_empty() {
            name.push(b'.');
        }
        for byte in label {
            if matches!(byte, b'.' | b'\\') {
                name.push(b'\\');
            }
            name.push(*byte);
        }
        rest = behind;
    }
    if name.is_empty() {
        name.push(b'.');
    }
    let (record_type, class) = (rest.get(..2)?, rest.get(2..4)?);
    let record_type = u16::from_be_bytes(record_type.try_into().ok()?);
    // The class IN; another is none that a program looks for addresses in.
    (class == [0, 1]).then_some((name, record_type))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(name: &[u8], record_type: u16) -> Vec<u8> {
        [&[0; HEADER_BYTES][..], name, &record_type.to_be_bytes(), &[0, 1]].concat()
    }

    #[test]
    fn names_are_shown_as_people_write_them() {
        let asked = |name: &[u8]| question(&message(name, 28));
        assert_eq!(asked(b"\x02db\x04prod\x00"), Some((b"db.prod".to_vec(), 28)));
        assert_eq!(asked(b"\x00"), Some((b".".to_vec(), 28)));
        assert_eq!(asked(b"\x03a.b\x02c\\\x00"), Some((br"a\.b.c\\".to_vec(), 28)), "a dot inside a label");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let asked = |name: &[u8]| question(&message(name, 1));
        assert_eq!(asked(b"\xc0\x0c"), None, "a pointer to itself");
        assert_eq!(asked(b"\x40aaaa\x00"), None, "a label of another kind");
        assert_eq!(asked(b"\x3fabc"), None, "a label beyond the end");
        let long: Vec<u8> = [&[63][..], &[b'a'; 63]].concat();
        let longest = [&long[..], &long, &long, &[61], &[b'a'; 61], &[0]].concat();
        assert_eq!(longest.len(), NAME_BYTES);
        assert!(asked(&longest).is_some());
        assert_eq!(asked(&[&long[..], &long, &long, &long, &[0]].concat()), None, "257 bytes");
        let mut chaos = message(b"\x07version\x04bind\x00", 16);
        *chaos.last_mut().unwrap() = 3;
        assert_eq!(question(&chaos), None);
        for cut in 0..message(b"\x02db\x00", 1).len() {
            assert_eq!(question(&message(b"\x02db\x00", 1)[..cut]), None, "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn every_name_is_read_back(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=40), 0..6), record_type: u16) {
            let name: Vec<u8> = labels.iter().flat_map(|label| [&[label.len() as u8], label.as_slice()].concat()).chain([0]).collect();
            let shown: Vec<Vec<u8>> = labels.iter().map(|label| label.iter().flat_map(|byte| match byte {
                b'.' | b'\\' => vec![b'\\', *byte],
                byte => vec![*byte],
            }).collect()).collect();
            let shown = if shown.is_empty() { b".".to_vec() } else { shown.join(&b'.') };
            prop_assert_eq!(question(&message(&name, record_type)), Some((shown, record_type)));
        }

        #[test]
        fn any_bytes_are_a_name_that_fits_or_none(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some((name, _)) = question(&bytes) {
                prop_assert!(name.len() <= 2 * NAME_BYTES);
            }
        }
    }
}
