//! What a thread waited for a processor between a failed call and its end.

use super::*;

const MILLISECOND: u64 = 1_000_000;

fn waited_ms(death: &Death) -> f64 {
    evidence(death).failures[0].waited_for_processor_ms
}

/// Fails 900 ms before the end.
fn throttled(before: Option<u64>, in_all: Option<u64>) -> Death {
    let mut death = death(Status { code: 1, ..Status::default() });
    death.time = 1_000 * MILLISECOND;
    death.end = End::Exited(Exited { waited: in_all, ..exited(Status { code: 1, ..Status::default() }) });
    let failure = Failure { waited: before, ..failure(100 * MILLISECOND, b"/app/secret.txt") };
    death.recording = Some(Recording { failures: vec![failure], ..Recording::default() });
    death
}

#[test]
fn of_the_thread_that_began_the_end_it_is_known() {
    for (before, in_all, expected) in [
        (Some(50), Some(850), 800.0),
        // Where it had waited before, and not since.
        (Some(50), Some(50), 0.0),
        (None, Some(850), 0.0),
        (Some(50), None, 0.0),
        // No longer than it lived on, and never less than nothing: numbers of two threads of one id.
        (Some(0), Some(5_000), 900.0),
        (Some(850), Some(50), 0.0),
    ] {
        let nanoseconds = |milliseconds: Option<u64>| milliseconds.map(|it| it * MILLISECOND);
        let death = throttled(nanoseconds(before), nanoseconds(in_all));
        assert!((waited_ms(&death) - expected).abs() < 0.001, "{before:?} {in_all:?}");
    }
}

#[test]
fn of_another_thread_it_is_not() {
    let mut death = throttled(Some(0), Some(800 * MILLISECOND));
    if let Some(recording) = &mut death.recording {
        recording.failures[0].tid = MAIN + 1;
    }
    assert!(waited_ms(&death) < 0.001);
}

#[test]
fn of_another_process_it_is_that_of_its_last_thread() {
    const CHILD: u32 = MAIN + 5;
    let mut death = throttled(Some(10 * MILLISECOND), Some(800 * MILLISECOND));
    let Some(recording) = &mut death.recording else { panic!() };
    recording.failures[0].tgid = CHILD;
    recording.failures[0].tid = CHILD;
    recording.child_exits.push(decode::ChildExit {
        time: 400 * MILLISECOND,
        tgid: CHILD,
        comm: b"app".to_vec(),
        status: Status { code: 1, ..Status::default() },
        detached: false,
        tid: CHILD,
        waited: Some(260 * MILLISECOND),
        parent: MAIN,
        writes: [Some(3), Some(4)],
    });
    assert!((waited_ms(&death) - 250.0).abs() < 0.001);
    if let Some(recording) = &mut death.recording {
        recording.child_exits[0].tid = CHILD + 1;
    }
    assert!(waited_ms(&death) < 0.001);
}
