//! Somebody the program needs did not answer, or left.

use super::{Finding, before_the_end, call_and_exit};
use crate::calls::Call;
use crate::case::Case;
use crate::evidence::Failure;
use crate::verdict::Cause;
use crate::{context, errno, noise, words};

pub(super) fn call(case: &Case<'_>, call: &Call<'_>) -> Option<Finding> {
    let failure = call.failure;
    let object = words::one_line(if failure.address.is_empty() { &failure.path } else { &failure.address });
    if failure.unanswered {
        return Some(unanswered(case, call, object));
    }
    let (what, why, remedy) = match noise::is_lost_connection(failure) {
        true => ("lost its connection to", lost(failure.errno), remedy_of_loss(failure.errno, &object)),
        false => ("could not connect to", unreachable(failure)?, remedy(failure.errno, &object)),
    };
    let often = if failure.count > 1 { format!(" ({} times)", failure.count) } else { String::new() };
    let next = match failure.later_connected.as_str() {
        "" => String::new(),
        next => format!("; but it connected to {} afterwards", words::one_line(next)),
    };
    Some(Finding {
        cause: Cause::ConnectionFailed,
        confidence: call.confidence(),
        summary: format!(
            "{} {what} {object}{}, {why}: {}{often} {}{next}",
            words::program(&failure.comm),
            context::from_variable(case, failure),
            words::failed(failure),
            before_the_end(case, call)
        ),
        remedy: format!("{remedy}{}", context::or_variable(case, failure)),
        object,
        evidence: call_and_exit(case, call),
    })
}

/// Nothing failed: it was connected, and waited in vain.
fn unanswered(case: &Case<'_>, call: &Call<'_>, object: String) -> Finding {
    let failure = call.failure;
    let (why, remedy) = match failure.errno {
        errno::ECONNRESET => (
            "which closed the connection without a word",
            format!(
                "see what took the connection at {object}: a proxy, sidecar or load balancer with nobody behind it, or a server that wants another protocol (TLS or none) or another client"
            ),
        ),
        _ => (
            "which took the connection and never sent anything; it gave up waiting and closed it",
            format!(
                "see whether the server behind {object} hangs or is overloaded (its own log, its threads), or wants another protocol (TLS or none); let the program wait longer, or try again instead of leaving"
            ),
        ),
    };
    let often = if failure.count > 1 { format!(" ({} times)", failure.count) } else { String::new() };
    Finding {
        cause: Cause::ConnectionFailed,
        confidence: call.confidence(),
        summary: format!(
            "{} got no answer from {object}{}, {why}{often} {}",
            words::program(&failure.comm),
            context::from_variable(case, failure),
            before_the_end(case, call)
        ),
        remedy: format!("{remedy}{}", context::or_variable(case, failure)),
        object,
        evidence: call_and_exit(case, call),
    }
}

/// Why there was no connection.
fn unreachable(failure: &Failure) -> Option<&'static str> {
    match failure.errno {
        errno::ECONNREFUSED => Some("nobody listens there"),
        errno::ETIMEDOUT => Some("no answer came"),
        errno::EHOSTUNREACH | errno::ENETUNREACH => Some("there is no route to it"),
        errno::ENOENT if failure.syscall == "connect" => Some("the socket does not exist"),
        _ => None,
    }
}

/// Why there is none any more.
fn lost(number: i32) -> &'static str {
    match number {
        errno::ECONNRESET => "which the other side reset",
        errno::EPIPE => "which the other side had closed",
        errno::ETIMEDOUT => "nothing came from the other side any more",
        _ => "there is no route to it any more",
    }
}

fn remedy(number: i32, object: &str) -> String {
    match number {
        errno::ECONNREFUSED => format!(
            "see that the server behind {object} runs and listens there (kubectl get endpointslices, kubectl get pods), and let the program retry instead of leaving"
        ),
        errno::ENOENT => format!(
            "start what serves {object} first, or mount the folder its socket lies in into this container"
        ),
        _ => format!(
            "see whether a NetworkPolicy, a firewall or a wrong address keeps the pod from {object}, and let the program retry instead of leaving"
        ),
    }
}

fn remedy_of_loss(number: i32, object: &str) -> String {
    match number {
        errno::ECONNRESET | errno::EPIPE => format!(
            "see why the server behind {object} ended the connection (whether it crashed or restarted, its idle time-out and its limit of connections, a proxy or load balancer on the way), and let the program connect again instead of leaving"
        ),
        _ => format!(
            "see whether the server behind {object} or its node went away, or a firewall or NAT on the way forgot the connection (keep-alives shorter than its time-out), and let the program connect again instead of leaving"
        ),
    }
}
