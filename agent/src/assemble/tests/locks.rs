use super::*;
use crate::decode::{Blocked, BlockedCall, LockOutcome, LockTry, SocketAddress, Waited};
use crate::enrich::holder::FoundHolder;

const HOLDER: u32 = 7;

fn tried(outcome: LockOutcome) -> LockTry {
    LockTry {
        time: 2_900_000,
        first: 2_000_000,
        had: None,
        count: 3,
        outcome,
        tgid: MAIN,
        tid: MAIN,
        uid: 4242,
        gid: 4242,
        comm: b"cat".to_vec(),
        is_flock: false,
        holder: Some(HOLDER),
        searched: true,
        path: Some(b"/data/app.db".to_vec()),
    }
}

fn stop(signal: i32, call: Option<(u32, Waited)>) -> Option<Blocked> {
    let call = call.map(|(syscall, object)| BlockedCall { syscall, object });
    Some(Blocked { time: 2_950_000, signal, tid: MAIN, comm: b"cat".to_vec(), call })
}

fn number(call: ::syscalls::Sysno) -> u32 {
    u32::try_from(call.id()).unwrap()
}

fn with(recording: Recording) -> Evidence {
    let mut death = death(Status { code: 1, ..Status::default() });
    let path = format!("/kubepods/burstable/pod{POD}/{}", "ab".repeat(32));
    let container = ContainerRef::from_cgroup_path(&path);
    let found = FoundHolder { pid: HOLDER, comm: b"post\x1bgres".to_vec(), container };
    death.looked.holders = vec![(HOLDER, found)];
    death.recording = Some(recording);
    evidence(&death)
}

fn with_lock(lock: LockTry) -> Evidence {
    with(Recording { locks: vec![lock], ..Recording::default() })
}

#[test]
fn a_refused_lock_names_its_file_and_its_holder() {
    let failure = with_lock(tried(LockOutcome::Refused(11))).failures.remove(0);
    assert_eq!((failure.syscall.as_str(), failure.errno, failure.count), ("fcntl", 11, 3));
    assert_eq!((failure.path.as_str(), failure.later_succeeded), ("/data/app.db", false));
    assert!((failure.first_before_death_ms - 1.0).abs() < 1e-9);
    assert!((failure.last_before_death_ms - 0.1).abs() < 1e-9);
    assert!(failure.by_dying_thread && failure.holder_looked_for);
    let holder = failure.holder.unwrap();
    assert_eq!((holder.pid, holder.comm.as_str()), (HOLDER, "post\\x1bgres"));
    assert_eq!((holder.container_id, holder.pod_uid.as_str()), ("ab".repeat(32), POD));
    assert!(!holder.same_container);
}

#[test]
fn a_holder_that_nobody_could_look_at_is_a_pid() {
    let mut death = death(Status { code: 1, ..Status::default() });
    death.recording =
        Some(Recording { locks: vec![tried(LockOutcome::Refused(11))], ..Recording::default() });
    let holder = evidence(&death).failures.remove(0).holder.unwrap();
    assert_eq!((holder.pid, holder.comm.as_str(), holder.container_id.as_str()), (HOLDER, "", ""));
}

#[test]
fn a_lock_without_a_holder_here_says_whether_one_was_looked_for() {
    let of = |searched| {
        let lock = LockTry { holder: None, searched, ..tried(LockOutcome::Refused(11)) };
        let failure = with_lock(lock).failures.remove(0);
        (failure.holder, failure.holder_looked_for)
    };
    assert_eq!(of(true), (None, true), "a file server refused it");
    assert_eq!(of(false), (None, false));
}

#[test]
fn a_lock_that_was_had_later_says_so() {
    let had = LockTry { had: Some(2_950_000), ..tried(LockOutcome::Refused(11)) };
    assert!(with_lock(had).failures.remove(0).later_succeeded);
}

#[test]
fn waits_and_questions_are_no_failures() {
    assert!(with_lock(tried(LockOutcome::Waiting)).failures.is_empty());
    assert!(with_lock(tried(LockOutcome::Asked)).failures.is_empty());
}

#[test]
fn a_wait_that_an_alarm_ended_failed_and_one_that_a_stop_ended_did_not() {
    let alarm = signal(14, 128, GROUP, b"cat");
    let interrupted = |sent: Signal| {
        let locks = vec![tried(LockOutcome::Interrupted)];
        with(Recording { locks, signals: vec![sent], ..Recording::default() }).failures
    };
    let failure = interrupted(alarm.clone()).remove(0);
    assert_eq!((failure.errno, failure.count), (4, 1));
    assert!(interrupted(Signal { signal: 15, ..alarm }).is_empty());
}

#[test]
fn a_stop_tells_what_the_main_process_waited_for() {
    let socket = Waited::Socket {
        protocol: 6,
        peer: Some(SocketAddress::Internet("10.0.0.9:5432".parse().unwrap())),
        own: Some(SocketAddress::Internet("10.0.0.1:40000".parse().unwrap())),
    };
    let blocked = stop(15, Some((number(::syscalls::Sysno::connect), socket)));
    let blocked = with(Recording { blocked, ..Recording::default() }).blocked.unwrap();
    assert_eq!((blocked.syscall.as_str(), blocked.address.as_str()), ("connect", "10.0.0.9:5432/tcp"));
    assert_eq!((blocked.signal, blocked.pid, blocked.tid, blocked.comm.as_str()), (15, MAIN, MAIN, "cat"));
    assert!((blocked.before_death_ms - 0.05).abs() < 1e-9);

    let listening = Waited::Socket {
        protocol: 6,
        peer: None,
        own: Some(SocketAddress::Internet("[::]:8080".parse().unwrap())),
    };
    let blocked = stop(15, Some((number(::syscalls::Sysno::accept4), listening)));
    let blocked = with(Recording { blocked, ..Recording::default() }).blocked.unwrap();
    assert_eq!((blocked.syscall.as_str(), blocked.address.as_str()), ("accept4", "[::]:8080/tcp"));

    let running = Recording { blocked: stop(15, None), ..Recording::default() };
    assert_eq!(with(running).blocked, None, "it did not wait");
    assert_eq!(with(Recording::default()).blocked, None, "nobody told it to stop");
}

#[test]
fn a_lock_that_was_awaited_at_the_stop_is_what_it_waited_for() {
    let file = Waited::File(b"/data/app.db".to_vec());
    let in_fcntl = || stop(15, Some((number(::syscalls::Sysno::fcntl), file.clone())));
    let in_wait = || stop(15, Some((number(::syscalls::Sysno::wait4), Waited::Unknown)));
    let child = LockTry { tgid: MAIN + 1, tid: MAIN + 1, ..tried(LockOutcome::Waiting) };
    let of = |lock: LockTry, blocked| {
        let blocked = with(Recording { locks: vec![lock], blocked, ..Recording::default() }).blocked.unwrap();
        (blocked.syscall, blocked.tid, blocked.holder.map(|holder| holder.pid))
    };
    let held = ("fcntl".to_owned(), MAIN, Some(HOLDER));
    assert_eq!(of(tried(LockOutcome::Waiting), in_fcntl()), held);
    let cut_short = LockTry { time: 2_960_000, ..tried(LockOutcome::Interrupted) };
    assert_eq!(of(cut_short, in_fcntl()), held, "the stop itself ended the wait");
    assert_eq!(of(child.clone(), in_wait()), ("fcntl".to_owned(), MAIN + 1, Some(HOLDER)));

    let had = LockTry { had: Some(2_940_000), ..child.clone() };
    assert_eq!(of(had, in_wait()), ("wait4".to_owned(), MAIN, None), "it had the lock by then");
    let earlier = LockTry { time: 2_500_000, ..child };
    let earlier = LockTry { outcome: LockOutcome::Interrupted, ..earlier };
    assert_eq!(of(earlier, in_wait()), ("wait4".to_owned(), MAIN, None), "it had given up by then");
}
