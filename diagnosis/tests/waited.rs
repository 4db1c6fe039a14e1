//! What a thread waited for a processor counts for nothing: on a busy node, or under a limit of processor time, what comes at once comes late.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::{Confidence, diagnose, errno};
use support::*;

fn confidence(failure: Failure, waited_for_processor_ms: f64) -> Confidence {
    let failure = Failure { waited_for_processor_ms, ..failure };
    diagnose(&with(exited(&["app", "--token=/run/token"], 4_000, 1), vec![failure]), None).confidence
}

#[test]
fn what_was_waited_is_no_time_in_which_something_else_was_done() {
    for (failure, waited, busy) in [
        (failed("openat", errno::EACCES, "/srv/secret", 400.0), 380.0, Confidence::High),
        (failed("openat", errno::ENOENT, "/run/token", 1_050.0), 1_000.0, Confidence::High),
        (failed("openat", errno::EACCES, "/srv/secret", 400.0), 100.0, Confidence::Medium),
    ] {
        let name = failure.path.clone();
        assert!(confidence(failure.clone(), 0.0) < Confidence::High, "{name}");
        assert_eq!(confidence(failure, waited), busy, "{name} {waited}");
    }
}

#[test]
fn a_number_that_cannot_be_is_taken_for_none() {
    let failure = failed("openat", errno::EACCES, "/srv/secret", 10.0);
    assert_eq!(confidence(failure.clone(), -500.0), Confidence::High);
    assert_eq!(confidence(failure, 1e9), Confidence::High);
}

#[test]
fn tries_are_timed_by_the_clock() {
    // Three tries 300 ms apart, of which the program waited 100 ms each, and then gave up when the next was due.
    let failure = Failure {
        syscall: "connect".into(),
        count: 3,
        first_before_death_ms: 900.0,
        ..failed_at("connect", errno::ECONNREFUSED, "10.0.0.9:5432/tcp", 300.0)
    };
    assert_eq!(confidence(failure, 100.0), Confidence::High);
}
