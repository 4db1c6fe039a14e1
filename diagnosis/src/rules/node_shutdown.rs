//! The node was shut down, and its kubelet ended the pods first.

use super::{Finding, killed};
use crate::case::Case;
use crate::verdict::{Cause, Confidence};
use crate::words;

pub(super) fn with_its_pod(case: &Case<'_>) -> Option<Finding> {
    let pod = case.pod?;
    // The kubelet's words have changed from version to version; a node-pressure eviction has the same disruption reason and says Evicted.
    let by_reason = matches!(pod.reason.as_str(), "Terminated" | "NodeShutdown" | "Shutdown");
    let by_disruption = pod.reason != "Evicted" && pod.disruption.reason == "TerminationByKubelet";
    if !by_reason && !by_disruption {
        return None;
    }
    let message = if pod.message.is_empty() { &pod.disruption.message } else { &pod.message };
    let summary = format!("its node was shut down: {}", words::one_line(message));
    let remedy = "nothing is wrong with the program; a controller starts it on another node (a bare pod stays ended: delete it, or run it by a Deployment)";
    let object =
        if pod.node.is_empty() { "node".to_owned() } else { format!("node {}", words::one_line(&pod.node)) };
    killed::with_its_pod(case, Cause::NodeShutdown, Confidence::High, object, summary, remedy.to_owned())
}
