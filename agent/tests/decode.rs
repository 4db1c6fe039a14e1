//! What the kernel side writes is what the decoder reads, for every kind of record; and what ever broke it stays in the corpus.
#![allow(clippy::expect_used, reason = "a test stops at what it did not expect")]

mod records;

use std::path::Path;

use lastwords_agent::decode::{DecodeError, bytes_of, decode, from_bytes, recording};
use lastwords_agent_common::record::{Header, Recorder};
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner};

use records::check::{Target, check};
use records::damage::{Dice, damaged};
use records::{KINDS, recorder::recorder, valid};

/// More than there will ever be: numbers are given one after the other.
const MOST_KINDS: u32 = 1024;

/// The same cases each time: what they find, they find before a change is merged.
fn runner(cases: u32) -> TestRunner {
    let config = Config {
        cases,
        failure_persistence: None::<Box<FileFailurePersistence>>.map(|it| it as _),
        ..Config::default()
    };
    TestRunner::new_with_rng(config, proptest::test_runner::TestRng::deterministic_rng(Default::default()))
}

#[test]
fn every_kind_of_record_decodes_to_what_was_sent() {
    for (kind, source) in KINDS {
        let outcome = runner(256).run(&source(), |sent| {
            prop_assert_eq!(from_bytes::<Header>(&sent.bytes).map(|header| header.kind), Some(*kind));
            prop_assert_eq!(decode(&sent.bytes), Ok(sent.record));
            check(Target::Record, &sent.bytes, true);
            Ok::<(), TestCaseError>(())
        });
        outcome.unwrap_or_else(|error| panic!("kind {kind}: {error}"));
    }
}

#[test]
fn a_flight_recorder_decodes_to_what_was_recorded() {
    let outcome = runner(64).run(&recorder(), |(bytes, said)| {
        let raw: Recorder = from_bytes(&bytes).expect("a whole recorder");
        let mut read = recording(&raw);
        prop_assert_eq!(&mut read.failures, &mut said.failures.clone());
        prop_assert_eq!(read, said);
        check(Target::Recorder, &bytes, true);
        Ok::<(), TestCaseError>(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn no_kind_of_record_is_without_a_property() {
    for kind in 0..MOST_KINDS {
        let mut bytes = vec![0; 64 << 10];
        let header = Header { kind, ..Header::default() };
        bytes[..size_of::<Header>()].copy_from_slice(bytes_of(&header));
        let is_known = !matches!(decode(&bytes), Err(DecodeError::UnknownKind(_)));
        let is_tested = KINDS.iter().any(|(tested, _)| *tested == kind);
        assert_eq!(
            is_known, is_tested,
            "kind {kind}: the decoder knows it and agent/tests/records/mod.rs does not, or the other way round"
        );
    }
}

/// A short run of what `cargo xtask fuzz` does, here with overflows noticed.
#[test]
fn damaged_records_break_nothing() {
    let seeds = valid(16);
    for number in 0..3_000 {
        let (target, bytes) = damaged(&mut Dice::new(0, number), &seeds);
        check(target, &bytes, number % 64 == 0);
    }
}

#[test]
fn nothing_in_the_corpus_breaks_the_decoder() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/decode");
    let mut replayed = 0;
    for entry in corpus.read_dir().expect("tests/corpus/decode is there") {
        let file = entry.expect("a file of the corpus").path();
        let Some(target) = Target::of_file(&file) else { panic!("{} names no target", file.display()) };
        println!("{}", file.display());
        check(target, &std::fs::read(&file).expect("a readable file"), true);
        replayed += 1;
    }
    assert!(replayed >= 10, "only {replayed} files in {}", corpus.display());
}
