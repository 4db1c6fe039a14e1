//! What the kernel side sends, made up: any value, and the bytes that it crosses in. The property tests take both, the fuzzer begins
//! with the bytes.
#![allow(dead_code, reason = "each of the programs that share this uses a part of it")]

pub(crate) mod check;
pub(crate) mod damage;
pub(crate) mod recorder;
mod ring;
mod sockets;
mod wait;

use lastwords_agent::decode::{Event, Record, bytes_of};
use lastwords_agent_common::record::{Comm, Header, WorkingDirectory, kind};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

/// A record as it stands in the ring buffer, and what it says.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
    /// What they have to decode to.
    pub(crate) record: Record,
}

/// What makes up records of one kind.
pub(crate) type Source = fn() -> BoxedStrategy<Sent>;

/// Every kind of record that crosses in the ring buffer. A kind that the decoder knows and this list does not fails a test.
pub(crate) const KINDS: &[(u32, Source)] = &[
    (kind::CGROUP_MADE, ring::cgroup_made),
    (kind::CGROUP_GONE, ring::cgroup_gone),
    (kind::EXECUTED, ring::executed),
    (kind::EXITED, ring::exited),
    (kind::OOM_VICTIM, ring::oom_victim),
    (kind::REFUSED, ring::refused),
    (kind::PORT_TAKEN, sockets::port_taken),
    (kind::LOCK_HELD, ring::lock_held),
];

/// Valid inputs: `count` records of each kind and as many flight recorders, the same ones each time.
pub(crate) fn valid(count: usize) -> Vec<damage::Seed> {
    let mut runner = TestRunner::deterministic();
    let mut seeds = Vec::new();
    for (_, source) in KINDS {
        let source = source();
        let made = (0..count).filter_map(|_| source.new_tree(&mut runner).ok());
        seeds.extend(made.map(|made| (check::Target::Record, made.current().bytes)));
    }
    let source = recorder::recorder();
    let made = (0..count).filter_map(|_| source.new_tree(&mut runner).ok());
    seeds.extend(made.map(|made| (check::Target::Recorder, made.current().0)));
    seeds
}

/// A header of this kind.
fn header(kind: u32) -> impl Strategy<Value = Header> {
    (any::<u32>(), any::<u64>(), any::<u64>()).prop_map(move |(recorder, time, cgroup_id)| Header {
        kind,
        recorder,
        time,
        cgroup_id,
    })
}

/// The bytes of `raw` and what they say.
fn sent<T: lastwords_agent::decode::Plain>(raw: &T, header: Header, event: Event) -> Sent {
    let Header { recorder, time, cgroup_id, .. } = header;
    Sent { bytes: bytes_of(raw).to_vec(), record: Record { time, cgroup_id, recorder, event } }
}

/// Bytes without a zero, at most `most`: what a program can put into a string.
fn string(most: usize) -> impl Strategy<Value = Vec<u8>> {
    // Long ones are as likely as short ones, and the longest is where things are cut.
    prop_oneof![
        1 => Just(Vec::new()),
        4 => vec(1..=u8::MAX, 0..=most.min(24)),
        2 => "[a-z./-]{0,20}".prop_map(move |text| text.into_bytes().into_iter().take(most).collect()),
        1 => vec(1..=u8::MAX, 0..=most),
        1 => vec(1..=u8::MAX, most..=most),
    ]
}

/// A task's name: at most 15 bytes.
fn comm() -> impl Strategy<Value = Vec<u8>> {
    string(size_of::<Comm>() - 1)
}

/// A string into an array of zeroes.
fn put<const N: usize>(text: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array[..text.len()].copy_from_slice(text);
    array
}

/// A working directory that fits, or None.
fn directory() -> impl Strategy<Value = (WorkingDirectory, Option<Vec<u8>>)> {
    use lastwords_agent_common::limits::{CWD_PART_BYTES, CWD_PARTS};
    let name = string(CWD_PART_BYTES - 1).prop_map(|mut name| {
        name.iter_mut().filter(|byte| **byte == b'/').for_each(|byte| *byte = b'_');
        name
    });
    (vec(name, 0..=CWD_PARTS), prop::bool::weighted(0.8)).prop_map(|(names, complete)| {
        let mut raw: WorkingDirectory = lastwords_agent::decode::zeroed();
        raw.count = u32::try_from(names.len()).unwrap_or(u32::MAX);
        raw.complete = u32::from(complete);
        for (part, name) in raw.parts.iter_mut().zip(names.iter().rev()) {
            *part = put(name);
        }
        let mut path: Vec<u8> = names.iter().flat_map(|name| [b"/", name.as_slice()].concat()).collect();
        if path.is_empty() {
            path.push(b'/');
        }
        (raw, complete.then_some(path))
    })
}
