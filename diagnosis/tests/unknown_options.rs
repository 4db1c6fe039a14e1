//! Which of several options a silent program did not know.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::{Cause, Confidence, diagnose};
use support::*;

const ETCD: [&str; 4] = ["etcd", "--data-dir", "/data", "--listen-clients-urls=http://127.0.0.1:2379"];

fn etcd(unknown: &[&str], life_ms: i64, code: i32) -> Evidence {
    let mut evidence = exited(&ETCD, life_ms, code);
    if let Some(process) = &mut evidence.process {
        process.unknown_options = unknown.iter().map(|option| (*option).to_owned()).collect();
    }
    evidence
}

#[test]
fn the_one_whose_name_is_nowhere_in_the_program_is_named() {
    for code in [1, 2] {
        let said = diagnose(&etcd(&["--listen-clients-urls"], 21, code), None);
        assert_eq!(
            (said.cause, said.object.as_str(), said.confidence),
            (Cause::InvalidArguments, ETCD[3], Confidence::Medium),
            "{code}"
        );
        assert!(said.summary.contains("a name that occurs nowhere in its program"), "{}", said.summary);
    }
}

#[test]
fn several_or_none_tell_nothing() {
    for unknown in [&["--data-dir", "--listen-clients-urls"][..], &[]] {
        let said = diagnose(&etcd(unknown, 21, 2), None);
        assert_eq!((said.cause, said.confidence), (Cause::InvalidArguments, Confidence::Low), "{unknown:?}");
    }
}

#[test]
fn one_that_is_not_on_the_command_line_is_none() {
    let said = diagnose(&etcd(&["--of-another"], 21, 2), None);
    assert_eq!(said.confidence, Confidence::Low);
}

#[test]
fn a_program_that_came_to_its_work_knew_them() {
    let mut evidence = etcd(&["--listen-clients-urls"], 9_000, 1);
    evidence.opened_files.push(OpenedFile {
        path: "/etc/etcd.yaml".into(),
        pid: MAIN,
        before_death_ms: 20.0,
        ..OpenedFile::default()
    });
    assert_ne!(diagnose(&evidence, None).cause, Cause::InvalidArguments);
}

#[test]
fn what_failed_decides_before_it() {
    let mut evidence = etcd(&["--listen-clients-urls"], 21, 1);
    evidence.failures.push(failed("openat", lastwords_diagnosis::errno::EACCES, "/data", 0.5));
    assert_eq!(diagnose(&evidence, None).cause, Cause::PermissionDenied);
}
