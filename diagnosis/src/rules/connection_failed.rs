//! Somebody the program needs did not answer, or left.

use super::{Finding, before_the_end, call_and_exit};
use crate::calls::{Call, between_tries_ms};
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
        false => ("could not connect to", unreachable(failure)?, remedy(case, call, &object)),
    };
    let often = often(case, failure);
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
                "see whether the server behind {object} hangs or is overloaded (its own log, its threads), or wants another protocol (TLS or none); let the program wait longer{}",
                if call.was_tried_again() { "" } else { ", or try again instead of leaving" }
            ),
        ),
    };
    let often = often(case, failure);
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

/// ` (4 times)`: what was overwritten in the flight recorder may have been more of the same.
fn often(case: &Case<'_>, failure: &Failure) -> String {
    let least = if case.evidence.losses.failures_overwritten > 0 { "at least " } else { "" };
    if failure.count > 1 { format!(" ({least}{} times)", failure.count) } else { String::new() }
}

/// What the program is to do about a server that is not there yet: one that tried again needs no advice to do so.
fn again(call: &Call<'_>) -> String {
    /// Tries nearer to each other than this (milliseconds) wait for nobody.
    const PAUSE_MS: f64 = 100.0;
    if !call.was_tried_again() {
        return "let the program retry instead of leaving".to_owned();
    }
    let in_a_row = call.failure.count > 1 && between_tries_ms(call.failure) < PAUSE_MS;
    let pause = if in_a_row { "pause between its tries, and " } else { "" };
    // An init container cannot wait for what starts with the pod's other containers.
    let is_own = call.failure.address.is_empty() || is_own(&call.failure.address);
    let or_wait = ", or start it only when the server answers (an init container that waits for it)";
    format!("let the program {pause}go on trying for longer{}", if is_own { "" } else { or_wait })
}

fn remedy(case: &Case<'_>, call: &Call<'_>, object: &str) -> String {
    let failure = call.failure;
    let again = again(call);
    match failure.errno {
        errno::ECONNREFUSED if failure.address.is_empty() => {
            let shared = context::volume(case, &failure.path).map_or_else(
                || "the volume with its folder".to_owned(),
                |volume| format!("that volume ({volume})"),
            );
            format!(
                "see that the container that is to listen on the socket {object} runs and has made it anew (one of an earlier run stays behind when its server ends), that both containers mount {shared}, and that it starts first (an init container with restartPolicy Always and a startupProbe); {again}"
            )
        }
        errno::ECONNREFUSED if is_own(&failure.address) => format!(
            "see that what listens on {object} runs, in this container or in another one of this pod, and starts first; a server elsewhere has another address (that of its Service); {again}"
        ),
        errno::ECONNREFUSED => format!(
            "see that the server behind {object} runs and listens there (kubectl get endpointslices, kubectl get pods), and {again}"
        ),
        errno::ETIMEDOUT if is_own(&failure.address) => format!(
            "see whether what listens on {object}, in this pod itself, takes its connections at all: one whose queue is full answers nobody; {again}"
        ),
        errno::ENOENT => format!(
            "start what serves {object} first, or mount the folder its socket lies in into this container"
        ),
        _ => format!(
            "see whether a NetworkPolicy, a firewall or a wrong address keeps the pod from {object}, and {again}"
        ),
    }
}

/// True for an address that is the pod itself.
fn is_own(address: &str) -> bool {
    address.starts_with("127.") || address.starts_with("[::1]:")
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
