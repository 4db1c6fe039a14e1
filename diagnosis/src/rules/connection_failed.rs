//! Somebody the program needs did not answer.

use super::{Finding, before_the_end, call_and_exit};
use crate::calls::Call;
use crate::case::Case;
use crate::verdict::Cause;
use crate::{context, errno, words};

pub(super) fn call(case: &Case<'_>, call: &Call<'_>) -> Option<Finding> {
    let failure = call.failure;
    let unreachable = match failure.errno {
        errno::ECONNREFUSED => "nobody listens there",
        errno::ETIMEDOUT => "no answer came",
        errno::EHOSTUNREACH | errno::ENETUNREACH => "there is no route to it",
        errno::ENOENT if failure.syscall == "connect" => "the socket does not exist",
        _ => return None,
    };
    let object = words::one_line(if failure.address.is_empty() { &failure.path } else { &failure.address });
    let often = if failure.count > 1 { format!(" ({} times)", failure.count) } else { String::new() };
    let next = match failure.later_connected.as_str() {
        "" => String::new(),
        next => format!("; but it connected to {} afterwards", words::one_line(next)),
    };
    Some(Finding {
        cause: Cause::ConnectionFailed,
        confidence: call.confidence(),
        summary: format!(
            "{} could not connect to {object}{}, {unreachable}: {}{often} {}{next}",
            words::program(&failure.comm),
            context::from_variable(case, failure),
            words::failed(failure),
            before_the_end(case, call)
        ),
        remedy: format!("{}{}", remedy(failure.errno, &object), context::or_variable(case, failure)),
        object,
        evidence: call_and_exit(case, call),
    })
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
