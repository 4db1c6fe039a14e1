//! What holds for whatever bytes come out of the kernel: no panic, nothing beyond its bound, and no text in the evidence that could
//! do something to a terminal.

use std::net::SocketAddr;
use std::path::Path;

use lastwords_agent::assemble::{Death, End, Node, assemble};
use lastwords_agent::clock::ClockOffsets;
use lastwords_agent::container::ContainerRef;
use lastwords_agent::decode::{
    self, DecodeError, Event, Executed, Exited, Object, Recording, SocketAddress, Status, decode, from_bytes,
    recording, socket_address,
};
use lastwords_agent::looked::{Looked, PortFacts};
use lastwords_agent::redact::Redactor;
use lastwords_agent_common::limits::{
    ARGUMENT_BYTES, BIND_BYTES, CGROUP_PATH_BYTES, CHILD_EXITS, CONTAINER_LISTENERS, CWD_PART_BYTES,
    CWD_PARTS, DNS_QUERIES, FAILURES, GROUP_NAME_BYTES, LOCKS, MEMORY_LEVELS, PATH_BYTES, SIGNALS,
};
use lastwords_agent_common::record::{Comm, Header, Recorder};
use lastwords_proto::{convert, to_json};
use serde_json::Value;

/// Longest text in the evidence, in bytes: four for each byte of the longest array, and as much again for what redaction adds.
const TEXT_BYTES: usize = 8 * 512;

/// What the bytes are taken for; the first word of a corpus file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A record of the ring buffer.
    Record,
    /// A flight recorder.
    Recorder,
    /// A `struct sockaddr`.
    Address,
}

impl Target {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Record, Self::Recorder, Self::Address];

    /// As files are named.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Recorder => "recorder",
            Self::Address => "address",
        }
    }

    /// What a corpus file is taken for: `record-…`, `recorder-…` or `address-…`.
    pub(crate) fn of_file(file: &Path) -> Option<Self> {
        let name = file.file_name()?.to_str()?;
        let (first, _) = name.split_once('-')?;
        Self::ALL.into_iter().find(|target| target.name() == first)
    }
}

/// Checks one input; panics when something does not hold. `screens` turns the evidence into JSON too, which takes longer than all else.
pub(crate) fn check(target: Target, bytes: &[u8], screens: bool) {
    match target {
        Target::Record => check_record(bytes, screens),
        Target::Recorder => check_recorder(bytes, screens),
        Target::Address => {
            socket_address(bytes).iter().for_each(|address| check_address(address, bytes.len()));
        }
    }
}

fn check_record(bytes: &[u8], screens: bool) {
    let record = match decode(bytes) {
        Ok(record) => record,
        Err(DecodeError::Short { have, want, .. }) => {
            assert!(have < want && have == bytes.len());
            return;
        }
        Err(DecodeError::UnknownKind(kind)) => {
            assert_eq!(from_bytes::<Header>(bytes).map(|header| header.kind), Some(kind));
            return;
        }
    };
    assert_eq!(decode(bytes).as_ref(), Ok(&record), "the same bytes say the same");
    let mut death = death();
    death.time = record.time;
    match record.event {
        Event::Made { path } => {
            assert!(path.len() < 3 * CGROUP_PATH_BYTES);
            let Some(container) = ContainerRef::from_cgroup_path(&path) else { return };
            assert_eq!(container.id.len(), 64);
            assert!(path.starts_with(&container.cgroup_path));
            death.container = container;
        }
        Event::Gone => death.end = End::NeverRan,
        Event::Executed(executed) => {
            check_executed(&executed);
            death.execs.push((record.time, executed));
        }
        Event::Exited(exited) => {
            check_name(&exited.comm);
            check_status(exited.status);
            check_directory(exited.cwd.as_deref());
            death.end = End::Exited(exited);
        }
        Event::OomVictim(victim) => {
            check_name(&victim.comm);
            check_name(&victim.allocating_comm);
            assert!(victim.levels.len() <= MEMORY_LEVELS);
            victim.levels.iter().for_each(|level| check_string(&level.name, GROUP_NAME_BYTES));
            death.oom.push((record.time, victim));
        }
        Event::LockHeld(_) => return,
        Event::Refused(refused) => {
            check_string(&refused.path, PATH_BYTES);
            return;
        }
        Event::PortTaken(taken) => {
            taken.address.iter().for_each(|address| check_address(address, BIND_BYTES));
            death.ports.push(PortFacts { taken, holder: None, looked_for: true });
        }
    }
    check_evidence(&death, screens);
}

fn check_recorder(bytes: &[u8], screens: bool) {
    // A file of the corpus ends where only zeroes follow.
    let mut whole = vec![0; size_of::<Recorder>()];
    let there = bytes.len().min(whole.len());
    whole[..there].copy_from_slice(&bytes[..there]);
    let raw: Recorder = from_bytes(&whole).expect("there are enough bytes");
    let recording = recording(&raw);
    let Recording { failures, signals, child_exits, listeners, locks, torn, .. } = &recording;
    assert!(failures.len() <= FAILURES && signals.len() <= SIGNALS && child_exits.len() <= CHILD_EXITS);
    assert!(locks.len() <= LOCKS && locks.is_sorted_by_key(|lock| lock.time));
    // Every slot of every ring is shown or torn.
    assert!(usize::try_from(*torn).expect("few") <= size_of::<Recorder>() / size_of::<u64>());
    assert!(failures.is_sorted_by_key(|failure| failure.time));
    assert!(signals.is_sorted_by_key(|signal| signal.time));
    assert!(child_exits.is_sorted_by_key(|child| child.time));
    for failure in failures {
        check_name(&failure.comm);
        match &failure.object {
            Object::None => {}
            Object::Path { path, .. } => check_string(path, PATH_BYTES),
            Object::Address(address) => check_address(address, PATH_BYTES),
        }
    }
    for signal in signals {
        check_name(&signal.sender_comm);
        check_name(&signal.sender_parent_comm);
        check_name(&signal.target_comm);
    }
    assert!(listeners.len() <= CONTAINER_LISTENERS);
    assert!(listeners.is_sorted_by_key(|listener| listener.time));
    listeners.iter().for_each(|listener| check_name(&listener.comm));
    child_exits.iter().for_each(|child| {
        check_name(&child.comm);
        check_status(child.status);
    });
    for lock in locks {
        check_name(&lock.comm);
        check_directory(lock.path.as_deref());
    }
    if let Some(blocked) = &recording.blocked {
        check_name(&blocked.comm);
        if let Some(decode::BlockedCall { object: decode::Waited::File(path), .. }) = &blocked.call {
            check_directory(Some(path));
        }
    }
    let last = failures.last().map_or(0, |failure| failure.time);
    check_evidence(&Death { recording: Some(recording), time: last, ..death() }, screens);
}

fn check_executed(executed: &Executed) {
    check_name(&executed.comm);
    check_string(&executed.filename, PATH_BYTES);
    check_directory(executed.cwd.as_deref());
    let kept: usize = executed.arguments.iter().map(|argument| argument.len() + 1).sum();
    assert!(kept <= ARGUMENT_BYTES, "{kept} bytes of arguments");
    executed.arguments.iter().for_each(|argument| check_string(argument, ARGUMENT_BYTES));
}

/// A string that stood in an array of `room` bytes.
fn check_string(text: &[u8], room: usize) {
    assert!(text.len() <= room, "{} bytes out of {room}", text.len());
    assert!(!text.contains(&0), "a zero inside a string");
}

fn check_name(name: &[u8]) {
    check_string(name, size_of::<Comm>());
}

fn check_directory(directory: Option<&[u8]>) {
    if let Some(directory) = directory {
        check_string(directory, CWD_PARTS * (CWD_PART_BYTES + 1));
        assert!(directory.starts_with(b"/"));
    }
}

fn check_status(Status { code, signal, core_dumped }: Status) {
    assert!((0..=255).contains(&code) && (0..=127).contains(&signal));
    assert!(code == 0 || signal == 0);
    assert!(signal != 0 || !core_dumped);
}

fn check_address(address: &SocketAddress, room: usize) {
    match address {
        SocketAddress::Internet(SocketAddr::V6(address)) => {
            assert_eq!(address.ip().to_ipv4_mapped(), None, "people know it as IPv4");
        }
        SocketAddress::Internet(SocketAddr::V4(_)) => {}
        SocketAddress::Unix(path) => assert!(path.len() <= room),
    }
}

/// A death of which nothing is known but that a program ran.
fn death() -> Death {
    let path = format!("/kubepods/burstable/pod835d2b9d-605e-4925-9a48-f9e7424bc518/{}", "3f".repeat(32));
    Death {
        container: ContainerRef::from_cgroup_path(&path).expect("a container's path"),
        cgroup_id: 1,
        adopted: false,
        execs: Vec::new(),
        end: End::Exited(Exited {
            tgid: 1,
            first_tid: 1,
            waited: None,
            writes: None,
            status: Status::default(),
            uid: 0,
            gid: 0,
            processes: None,
            open_files: None,
            comm: Vec::new(),
            cwd: None,
        }),
        time: 0,
        oom: Vec::new(),
        memory: Vec::new(),
        ports: Vec::new(),
        early_listeners: Vec::new(),
        callers: Vec::new(),
        recording: Some(decode::Recording::default()),
        looked: Looked::default(),
        symbols: Vec::new(),
        ring_records_dropped: 0,
    }
}

fn check_evidence(death: &Death, screens: bool) {
    let redactor = Redactor::default();
    let node = Node {
        name: "node1",
        page_bytes: 4096,
        redactor: &redactor,
        clock: ClockOffsets::measure(),
        agent_pid: 1,
    };
    let evidence = assemble(death, &node);
    assert!(evidence.failures.len() <= FAILURES + DNS_QUERIES && evidence.signals.len() <= SIGNALS);
    assert_eq!(evidence.losses.recorder_missing, death.recording.is_none());
    if screens {
        // The wire has every text of the evidence, also one that is added later.
        let crash = convert::evidence_to_crash(&evidence);
        check_text(&to_json("Crash", &crash).expect("a crash is a message"));
    }
}

fn check_text(value: &Value) {
    match value {
        Value::String(text) => {
            assert!(text.len() <= TEXT_BYTES, "{} bytes of text", text.len());
            let harmful = |letter: char| {
                letter.is_control()
                    || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
            };
            assert!(!text.contains(harmful), "not escaped: {text:?}");
        }
        Value::Array(values) => values.iter().for_each(check_text),
        Value::Object(fields) => fields.values().for_each(check_text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
