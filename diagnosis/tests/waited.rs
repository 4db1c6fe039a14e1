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

#[test]
fn what_came_later_stays_later() {
    // The first waited for a processor afterwards; of the second it is not known.
    let index =
        Failure { waited_for_processor_ms: 17.0, ..failed("openat", errno::EROFS, "/srv/cache/index", 27.7) };
    let name = failed_at("connect", errno::ECONNREFUSED, "10.0.0.9:5432/tcp", 14.5);
    let said = diagnose(&with(exited(&["app"], 160, 1), vec![index, name]), None);
    assert_eq!(said.object, "10.0.0.9:5432/tcp");
}

#[test]
fn after_what_it_waited_for_nothing_waited_longer() {
    let optional = Failure {
        waited_for_processor_ms: 480.0,
        ..failed("newfstatat", errno::ENOENT, "/srv/app/optional", 500.0)
    };
    let refused = failed_at("connect", errno::ECONNREFUSED, "10.0.0.9:5432/tcp", 480.0);
    let said = diagnose(&with(exited(&["app"], 4_000, 1), vec![optional, refused]), None);
    assert_eq!((said.object.as_str(), said.confidence), ("10.0.0.9:5432/tcp", Confidence::High));
}

#[test]
fn a_module_is_named_without_its_last_ending_however_fast_the_end_came() {
    let looks = |ms: f64| {
        ["settings", "settings.js", "settings.json", "settings.node"]
            .map(|name| failed("statx", errno::ENOENT, &format!("/srv/{name}"), ms))
            .to_vec()
    };
    for ms in [2.0, 40.0] {
        let said = diagnose(&with(exited(&["node", "/srv/server.js"], 90, 1), looks(ms)), None);
        assert_eq!((said.object.as_str(), said.confidence), ("/srv/settings", Confidence::Medium), "{ms}");
    }
}

#[test]
fn a_runtime_that_waited_for_a_processor_left_at_once_all_the_same() {
    let named = |waited: f64| {
        let early = Failure {
            waited_for_processor_ms: waited,
            ..failed("access", errno::ENOENT, "/etc/ld.so.preload", 50.0)
        };
        let mut evidence = with(exited(&["node", "-e", "1"], 55, 9), vec![early]);
        if let Some(process) = &mut evidence.process {
            process.environment_names = vec!["NODE_OPTIONS".to_owned()];
        }
        diagnose(&evidence, None).object
    };
    assert_eq!(named(25.0), "NODE_OPTIONS");
    assert_eq!(named(0.0), "exit code 9");
}
