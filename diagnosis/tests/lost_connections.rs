//! Connections that had been made, and were lost.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::{Cause, diagnose, errno, signals};
use support::*;

const DATABASE: &str = "10.0.0.9:5432/tcp";

fn lost(syscall: &str, number: i32, ms: f64) -> Failure {
    failed_at(syscall, number, DATABASE, ms)
}

fn app(failures: Vec<Failure>) -> Evidence {
    with(exited(&["app"], 90_000, 1), failures)
}

#[test]
fn what_is_said_of_them() {
    for (failure, summary, remedy) in [
        (
            lost("recvfrom", errno::ECONNRESET, 3.0),
            "app lost its connection to 10.0.0.9:5432/tcp, which the other side reset: recvfrom failed with ECONNRESET (connection reset by peer) 3.0 ms before it ended with exit code 1",
            "see why the server behind 10.0.0.9:5432/tcp ended the connection (whether it crashed or restarted, its idle time-out and its limit of connections, a proxy or load balancer on the way), and let the program connect again instead of leaving",
        ),
        (
            Failure { count: 2, ..lost("sendto", errno::EPIPE, 3.0) },
            "app lost its connection to 10.0.0.9:5432/tcp, which the other side had closed: sendto failed with EPIPE (broken pipe) (2 times) 3.0 ms before it ended with exit code 1",
            "see why the server behind 10.0.0.9:5432/tcp ended the connection (whether it crashed or restarted, its idle time-out and its limit of connections, a proxy or load balancer on the way), and let the program connect again instead of leaving",
        ),
        (
            Failure { variables: vec!["DB_HOST".to_owned()], ..lost("read", errno::ETIMEDOUT, 3.0) },
            "app lost its connection to 10.0.0.9:5432/tcp (from the variable DB_HOST), nothing came from the other side any more: read failed with ETIMEDOUT (connection timed out) 3.0 ms before it ended with exit code 1",
            "see whether the server behind 10.0.0.9:5432/tcp or its node went away, or a firewall or NAT on the way forgot the connection (keep-alives shorter than its time-out), and let the program connect again instead of leaving; or correct the variable DB_HOST",
        ),
        (
            lost("read", errno::EHOSTUNREACH, 3.0),
            "app lost its connection to 10.0.0.9:5432/tcp, there is no route to it any more: read failed with EHOSTUNREACH (no route to host) 3.0 ms before it ended with exit code 1",
            "see whether the server behind 10.0.0.9:5432/tcp or its node went away, or a firewall or NAT on the way forgot the connection (keep-alives shorter than its time-out), and let the program connect again instead of leaving",
        ),
        (
            failed("write", errno::EPIPE, "/run/app.sock", 3.0),
            "app lost its connection to /run/app.sock, which the other side had closed: write failed with EPIPE (broken pipe) 3.0 ms before it ended with exit code 1",
            "see why the server behind /run/app.sock ended the connection (whether it crashed or restarted, its idle time-out and its limit of connections, a proxy or load balancer on the way), and let the program connect again instead of leaving",
        ),
    ] {
        let diagnosis = diagnose(&app(vec![failure]), None);
        assert_eq!((diagnosis.summary.as_str(), diagnosis.remedy.as_str()), (summary, remedy));
    }
}

#[test]
fn only_a_reset_just_before_the_end_is_surely_the_reason() {
    let reset = |ms| lost("recvfrom", errno::ECONNRESET, ms);
    let on_another_thread = |failure: Failure| Failure { by_dying_thread: false, tid: MAIN + 1, ..failure };
    let of_another = |failure: Failure| Failure { pid: CHILD, ..on_another_thread(failure) };
    let told = |failure, line: &str| {
        let mut evidence = app(vec![failure]);
        evidence.log_tail = Some(LogTail { lines: vec![line.to_owned()], ..LogTail::default() });
        evidence
    };
    let line = "write tcp 10.0.0.4:48712->10.0.0.9:5432: write: broken pipe";
    let next = Failure { later_connected: "10.0.0.7:6379/tcp".to_owned(), ..reset(3.0) };
    check(vec![
        ("at once", app(vec![reset(50.0)]), "CONNECTION_FAILED HIGH 10.0.0.9:5432/tcp"),
        ("after some work", app(vec![reset(70.0)]), "CONNECTION_FAILED MEDIUM 10.0.0.9:5432/tcp"),
        (
            "found closed by a last word, perhaps",
            app(vec![lost("write", errno::EPIPE, 1.0)]),
            "CONNECTION_FAILED MEDIUM 10.0.0.9:5432/tcp",
        ),
        (
            "found closed, and the log says so",
            told(lost("write", errno::EPIPE, 1.0), line),
            "CONNECTION_FAILED HIGH 10.0.0.9:5432/tcp",
        ),
        (
            "on another thread",
            app(vec![on_another_thread(reset(3.0))]),
            "CONNECTION_FAILED MEDIUM 10.0.0.9:5432/tcp",
        ),
        ("then it connected to somebody else", app(vec![next]), "CONNECTION_FAILED MEDIUM 10.0.0.9:5432/tcp"),
        ("long before", app(vec![reset(2_000.0)]), "PROGRAM_ERROR MEDIUM exit code 1"),
        ("in another process", app(vec![of_another(reset(3.0))]), "PROGRAM_ERROR MEDIUM exit code 1"),
        (
            "made anew",
            app(vec![Failure { later_succeeded: true, ..reset(3.0) }]),
            "PROGRAM_ERROR MEDIUM exit code 1",
        ),
        (
            "and then not made anew",
            app(vec![reset(4.0), lost("connect", errno::ECONNREFUSED, 3.0)]),
            "CONNECTION_FAILED HIGH 10.0.0.9:5432/tcp",
        ),
        (
            "after a file that was refused",
            app(vec![failed("openat", errno::EACCES, "/data/out", 6.0), reset(4.0)]),
            "CONNECTION_FAILED MEDIUM 10.0.0.9:5432/tcp",
        ),
        (
            "and then refused a file",
            app(vec![reset(4.0), failed("openat", errno::EACCES, "/data/out", 3.0)]),
            "PERMISSION_DENIED HIGH /data/out",
        ),
        ("ended well", with(exited(&["app"], 90_000, 0), vec![reset(3.0)]), "COMPLETED HIGH exit code 0"),
    ]);
}

#[test]
fn a_broken_pipe_tells_whose() {
    let died = |failures| {
        let mut evidence = with(signalled(&["app"], 90_000, signals::SIGPIPE, None), failures);
        evidence.signals = vec![sent(signals::SIGPIPE, 0, by(SenderKind::SameContainer, "app", MAIN), 0.2)];
        evidence
    };
    let said = |failures| {
        let diagnosis = diagnose(&died(failures), None);
        (diagnosis.cause, diagnosis.summary, diagnosis.evidence.len())
    };
    let unsaid = "app wrote to a pipe or socket that nobody reads any more (SIGPIPE)";
    assert_eq!(
        said(vec![lost("write", errno::EPIPE, 0.3)]),
        (
            Cause::ProgramError,
            format!("{unsaid}: its connection to 10.0.0.9:5432/tcp, write failed with EPIPE (broken pipe)"),
            3
        )
    );
    assert_eq!(said(vec![lost("write", errno::EPIPE, 3_000.0)]), (Cause::ProgramError, unsaid.to_owned(), 2));
}

#[test]
fn what_the_program_did_after_it_or_says_itself_tells_more() {
    let app = || with(exited(&["app", "--prot=1"], 400, 1), vec![lost("recvfrom", errno::ECONNRESET, 40.0)]);
    let listened = |before_death_ms| {
        let listener =
            Listener { address: "0.0.0.0:80/tcp".into(), pid: MAIN, before_death_ms, ..Listener::default() };
        Evidence { listeners: vec![listener], ..app() }
    };
    check(vec![
        ("it had listened before", listened(60.0), "CONNECTION_FAILED HIGH 10.0.0.9:5432/tcp"),
        ("it listened then", listened(20.0), "PROGRAM_ERROR LOW exit code 1"),
        (
            "its log complains of something else",
            logged(app(), &["unknown flag: --prot"]),
            "INVALID_ARGUMENTS HIGH --prot=1",
        ),
        (
            "its log complains of nothing",
            logged(app(), &["starting with --prot"]),
            "CONNECTION_FAILED HIGH 10.0.0.9:5432/tcp",
        ),
    ]);
}
