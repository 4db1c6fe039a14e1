//! A server that took the connection and said nothing: no call fails.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::{Cause, Confidence, diagnose, errno};
use support::*;

fn unanswered(number: i32, ms: f64) -> Failure {
    Failure { unanswered: true, ..failed_at("connect", number, "10.0.0.9:5432/tcp", ms) }
}

fn app(failures: Vec<Failure>) -> Evidence {
    with(exited(&["app"], 9_000, 1), failures)
}

#[test]
fn what_is_said_of_it() {
    for (failure, summary, remedy) in [
        (
            unanswered(errno::ETIMEDOUT, 3.0),
            "app got no answer from 10.0.0.9:5432/tcp, which took the connection and never sent anything; it gave up waiting and closed it 3.0 ms before it ended with exit code 1",
            "see whether the server behind 10.0.0.9:5432/tcp hangs or is overloaded (its own log, its threads), or wants another protocol (TLS or none); let the program wait longer, or try again instead of leaving",
        ),
        (
            Failure { count: 3, variables: vec!["DB_HOST".into()], ..unanswered(errno::ECONNRESET, 3.0) },
            "app got no answer from 10.0.0.9:5432/tcp (from the variable DB_HOST), which closed the connection without a word (3 times) 3.0 ms before it ended with exit code 1",
            "see what took the connection at 10.0.0.9:5432/tcp: a proxy, sidecar or load balancer with nobody behind it, or a server that wants another protocol (TLS or none) or another client; or correct the variable DB_HOST",
        ),
    ] {
        let said = diagnose(&app(vec![failure]), None);
        assert_eq!((said.cause, said.confidence), (Cause::ConnectionFailed, Confidence::Medium));
        assert_eq!((said.summary.as_str(), said.remedy.as_str()), (summary, remedy));
    }
}

#[test]
fn it_is_the_reason_only_right_before_the_end() {
    let cause = |failure: Failure| diagnose(&app(vec![failure]), None).cause;
    assert_eq!(cause(unanswered(errno::ETIMEDOUT, 40.0)), Cause::ConnectionFailed);
    assert_eq!(cause(unanswered(errno::ETIMEDOUT, 5_000.0)), Cause::ProgramError);
    let answered = Failure { later_succeeded: true, ..unanswered(errno::ETIMEDOUT, 40.0) };
    assert_eq!(cause(answered), Cause::ProgramError);
}

#[test]
fn what_else_failed_then_is_as_likely() {
    let refused = failed("openat", errno::EACCES, "/run/secret", 1.0);
    let said = diagnose(&app(vec![unanswered(errno::ECONNRESET, 40.0), refused]), None);
    assert_eq!(said.cause, Cause::PermissionDenied);
}
