use lastwords_agent_common::{
    limits::{MISSING_FAILURES, PATH_BYTES, TELLING_FAILURES},
    record::{
        Executed as RawExecuted, Exited as RawExited, FailureEntry, Header, NO_RECORDER, Recorder,
        WorkingDirectory,
    },
    rules::object,
};

use super::*;

fn put(to: &mut [u8], text: &[u8]) {
    to[..text.len()].copy_from_slice(text);
}

fn header(kind: u32) -> Header {
    Header { kind, recorder: 7, time: 1_000, cgroup_id: 42 }
}

#[test]
fn an_exec_has_its_arguments_and_directory() {
    let mut raw: RawExecuted = zeroed();
    raw.header = header(kind::EXECUTED);
    raw.tgid = 12;
    raw.first = 1;
    put(&mut raw.comm, b"cat");
    put(&mut raw.filename, b"/bin/cat");
    put(&mut raw.arguments, b"cat\0-n\0\0x y\0");
    raw.argument_bytes = 12;
    raw.cwd.complete = 1;
    raw.cwd.count = 2;
    put(&mut raw.cwd.parts[0], b"lib");
    put(&mut raw.cwd.parts[1], b"var");
    let record = decode(bytes_of(&raw)).unwrap();
    assert_eq!((record.time, record.cgroup_id, record.recorder), (1_000, 42, 7));
    let Event::Executed(executed) = record.event else { panic!("{record:?}") };
    let arguments: Vec<&[u8]> = executed.arguments.iter().map(Vec::as_slice).collect();
    assert_eq!(arguments, [&b"cat"[..], b"-n", b"", b"x y"], "an empty argument is one");
    assert!(executed.first && !executed.arguments_truncated);
    assert_eq!(executed.cwd.as_deref(), Some(&b"/var/lib"[..]));

    raw.argument_bytes = 100_000;
    raw.cwd.complete = 0;
    let Event::Executed(executed) = decode(bytes_of(&raw)).unwrap().event else { panic!() };
    assert!(executed.arguments_truncated);
    assert_eq!(executed.cwd, None, "half a path is none");
}

#[test]
fn the_root_directory_has_no_parts() {
    let mut raw: WorkingDirectory = zeroed();
    raw.complete = 1;
    assert_eq!(working_directory(&raw).as_deref(), Some(&b"/"[..]));
}

#[test]
fn an_exit_has_the_code_or_the_signal() {
    let mut raw: RawExited = zeroed();
    raw.header = header(kind::EXITED);
    for (status, code, signal, core_dumped) in [
        (0x300, 3, 0, false),
        (9, 0, 9, false),
        (0x8b, 0, 11, true),
        (0, 0, 0, false),
        (0xff00, 255, 0, false),
    ] {
        raw.status = status;
        let Event::Exited(exited) = decode(bytes_of(&raw)).unwrap().event else { panic!() };
        assert_eq!(exited.status, Status { code, signal, core_dumped }, "{status:#x}");
    }
}

#[test]
fn cut_and_unknown_records_are_errors() {
    let mut raw: RawExited = zeroed();
    raw.header = header(kind::EXITED);
    let whole = bytes_of(&raw);
    for length in 0..whole.len() {
        assert!(matches!(decode(&whole[..length]), Err(DecodeError::Short { .. })), "{length}");
    }
    raw.header.kind = 99;
    assert_eq!(decode(bytes_of(&raw)), Err(DecodeError::UnknownKind(99)));
}

#[test]
fn any_bytes_decode_or_fail_and_never_panic() {
    // A cheap generator with a fixed seed: the same inputs each time.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..20_000_u32 {
        let mut input = vec![0_u8; 64 + (round as usize % 1600)];
        for byte in &mut input {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state.to_le_bytes()[0];
        }
        input[..4].copy_from_slice(&(round % 8).to_le_bytes());
        let _ = decode(&input);
    }
}

fn entry(time: u64, path: &[u8]) -> FailureEntry {
    let mut entry: FailureEntry = zeroed();
    entry.begin = time;
    entry.end = time;
    entry.time = time;
    entry.errno = 2;
    entry.object = u32::from(object::PATH_0);
    entry.length = u32::try_from(path.len()).unwrap() + 1;
    put(&mut entry.data, path);
    entry
}

#[test]
fn a_recorder_is_read_oldest_first_and_counts_what_was_overwritten() {
    let mut raw: Recorder = zeroed();
    // Three written to the telling class; twenty to the missing one, which has sixteen slots.
    raw.failure_heads = [3, 20, 0, 0];
    raw.failures[0] = entry(50, b"/a");
    raw.failures[1] = entry(10, b"/b");
    raw.failures[2] = entry(30, b"/torn");
    raw.failures[2].end = 31;
    for slot in 0..MISSING_FAILURES {
        raw.failures[TELLING_FAILURES + slot] = entry(100 + slot as u64, b"/c");
    }
    let read = recording(&raw);
    assert_eq!(read.failures.len(), 2 + MISSING_FAILURES);
    assert!(read.failures.is_sorted_by_key(|failure| failure.time));
    assert_eq!(read.failures_overwritten, 4);
    assert_eq!(read.torn, 1);
    let Object::Path { path, truncated, .. } = &read.failures[0].object else { panic!() };
    assert_eq!((path.as_slice(), *truncated), (&b"/b"[..], false));
}

#[test]
fn what_one_tick_of_a_coarse_clock_holds_is_in_the_order_of_its_slots() {
    const HEAD: u64 = 19;
    let mut raw: Recorder = zeroed();
    raw.failure_heads = [0, HEAD, 0, 0];
    for number in HEAD - MISSING_FAILURES as u64..HEAD {
        let slot = usize::try_from(number).unwrap() % MISSING_FAILURES;
        raw.failures[TELLING_FAILURES + slot] = entry(4_000_000, format!("/{number}").as_bytes());
    }
    let read = recording(&raw).failures;
    let paths = read.iter().map(|failure| match &failure.object {
        Object::Path { path, .. } => String::from_utf8(path.clone()).unwrap(),
        other => panic!("{other:?}"),
    });
    let written = (HEAD - MISSING_FAILURES as u64..HEAD).map(|number| format!("/{number}"));
    assert_eq!(paths.collect::<Vec<_>>(), written.collect::<Vec<_>>());
}

#[test]
fn a_path_that_fills_its_room_was_cut() {
    let mut raw: Recorder = zeroed();
    raw.failure_heads = [1, 0, 0, 0];
    raw.failures[0] = entry(1, &[b'x'; PATH_BYTES - 1]);
    let Object::Path { path, truncated, .. } = &recording(&raw).failures[0].object else { panic!() };
    assert_eq!((path.len(), *truncated), (PATH_BYTES - 1, true));
}

#[test]
fn an_unused_recorder_holds_nothing() {
    assert_eq!(recording(&zeroed()), Recording::default());
    assert_ne!(NO_RECORDER, 0);
}
