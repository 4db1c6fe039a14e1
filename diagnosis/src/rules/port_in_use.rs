//! The address that the program wants to listen on is taken.

use super::{Finding, before_the_end, call_and_exit};
use crate::calls::Call;
use crate::case::Case;
use crate::verdict::Cause;
use crate::{errno, words};

pub(super) fn call(case: &Case<'_>, call: &Call<'_>) -> Option<Finding> {
    let failure = call.failure;
    if failure.errno != errno::EADDRINUSE {
        return None;
    }
    let object = if failure.address.is_empty() { &failure.path } else { &failure.address };
    let object = words::one_line(object);
    let remedy = if failure.address.is_empty() {
        format!(
            "remove the stale socket {object} before the program starts, or give each program its own path"
        )
    } else {
        format!(
            "give one of the programs that listen on {object} another port: two containers of a pod share its ports (spec.containers[*].ports), and with spec.hostNetwork all pods of the node do"
        )
    };
    Some(Finding {
        cause: Cause::PortInUse,
        confidence: call.confidence(),
        summary: format!(
            "{} could not listen on {object}, which is taken: {} {}",
            words::program(&failure.comm),
            words::failed(failure),
            before_the_end(case, call)
        ),
        object,
        remedy,
        evidence: call_and_exit(case, call),
    })
}
