//! The pod had to make room for another one of higher priority.

use super::{Finding, killed};
use crate::case::Case;
use crate::verdict::{Cause, Confidence};
use crate::words;

pub(super) fn with_its_pod(case: &Case<'_>) -> Option<Finding> {
    let pod = case.pod?;
    // The kubelet's own way for critical pods, and the scheduler's (its first name is that of Kubernetes 1.25).
    let message = match (pod.reason.as_str(), pod.disruption.reason.as_str()) {
        ("Preempting", _) => &pod.message,
        (_, "PreemptionByScheduler" | "PreemptionByKubeScheduler") => &pod.disruption.message,
        _ => return None,
    };
    let summary =
        format!("the pod had to make room for one of higher priority: {}", words::one_line(message));
    let remedy = "give it a higher spec.priorityClassName, or the cluster more room".to_owned();
    killed::with_its_pod(case, Cause::Preempted, Confidence::High, "pod priority".to_owned(), summary, remedy)
}
