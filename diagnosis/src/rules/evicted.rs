//! The pod was sent away from its node: by the kubelet, which ran short of something; by a drain; or by a taint.

use super::{Finding, killed};
use crate::case::Case;
use crate::verdict::{Cause, Confidence};
use crate::words;

pub(super) fn with_its_pod(case: &Case<'_>) -> Option<Finding> {
    let pod = case.pod?;
    let told = if pod.reason == "Evicted" {
        by_the_kubelet(case, &pod.message)
    } else {
        let message = words::one_line(&pod.disruption.message);
        match pod.disruption.reason.as_str() {
            "EvictionByEvictionAPI" => (
                "eviction API".to_owned(),
                format!(
                    "the pod was evicted through the API, as kubectl drain and autoscalers do ({message})"
                ),
                "nothing is wrong with the program; a PodDisruptionBudget limits how many go at once"
                    .to_owned(),
            ),
            "DeletionByTaintManager" => (
                "node taint NoExecute".to_owned(),
                format!("the pod was sent away by a taint of its node ({message})"),
                "see why the node got the taint (kubectl describe node), or tolerate it in spec.tolerations"
                    .to_owned(),
            ),
            _ => return None,
        }
    };
    let (object, summary, remedy) = told;
    killed::with_its_pod(case, Cause::Evicted, Confidence::High, object, summary, remedy)
}

/// `The node was low on resource: memory. Threshold quantity: 100Mi, available: 96Mi. Container app was using 1Gi, request is 0, has larger
/// consumption of memory.`, `Pod ephemeral local storage usage exceeds the total limit of containers 1Gi.`
fn by_the_kubelet(case: &Case<'_>, message: &str) -> (String, String, String) {
    let after = |text: &str| message.split_once(text).map(|(_, rest)| rest);
    let low = after("low on resource: ")
        .map(|rest| rest.split(['.', ' ', ',']).next().unwrap_or_default())
        .or_else(|| after("had condition: [").and_then(|rest| rest.split([']', ' ']).next()));
    let object = match low {
        Some(resource) if !resource.is_empty() => words::one_line(resource),
        _ if message.contains("emptyDir") || message.contains("EmptyDir") => "emptyDir sizeLimit".to_owned(),
        _ if message.contains("ephemeral") => "ephemeral-storage".to_owned(),
        _ => "node".to_owned(),
    };
    let field = case.field();
    let remedy = match object.as_str() {
        "memory" | "MemoryPressure" => format!(
            "set {field}.resources.requests.memory to what it needs: pods above their request go first; or give the nodes more memory"
        ),
        "ephemeral-storage" | "nodefs" | "imagefs" | "inodes" | "DiskPressure" => format!(
            "write less to the container's own disk, set {field}.resources.requests and limits of ephemeral-storage, or use a volume"
        ),
        "emptyDir sizeLimit" => "write less to it, or raise spec.volumes[].emptyDir.sizeLimit".to_owned(),
        "pids" | "PIDPressure" => "see which pods start that many processes on the node".to_owned(),
        _ => "see what the node ran short of: kubectl describe node".to_owned(),
    };
    (object, format!("the kubelet evicted the pod: {}", words::one_line(message.trim())), remedy)
}
