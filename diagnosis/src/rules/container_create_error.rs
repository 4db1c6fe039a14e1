//! The runtime could not make or start the container, for another reason than its command, which is `EXEC_FAILED`.

use super::Finding;
use crate::calls::thing;
use crate::case::Case;
use crate::verdict::{Cause, Confidence, EvidenceRef};
use crate::{errno, words};

/// Reasons for which a container waits that the runtime could not make (pkg/kubelet/kuberuntime/kuberuntime_container.go).
const WAITING: [&str; 4] =
    ["CreateContainerError", "RunContainerError", "PreCreateHookError", "PreStartHookError"];
/// Reasons of the end of a container that never ran: containerd's and dockershim's.
const NEVER_STARTED: [&str; 2] = ["StartError", "ContainerCannotRun"];
/// What a runtime meets while it sets a container up, and goes on: files that it makes or that the image may lack.
const IN_PASSING: [i32; 2] = [errno::ENOENT, errno::EEXIST];

/// The container waits: there is none yet.
pub(super) fn waiting(case: &Case<'_>) -> Option<Finding> {
    let (_, message) = case.waits_to_be_made().filter(|(reason, _)| WAITING.contains(reason))?;
    Some(finding(case, message, "make"))
}

/// There was one, and its program was never executed.
pub(super) fn never_started(case: &Case<'_>) -> Option<Finding> {
    if !case.never_executed() {
        return None;
    }
    let ended = case.pod.and_then(|pod| pod.container.terminated.as_ref());
    match ended.filter(|ended| NEVER_STARTED.contains(&ended.reason.as_str())) {
        Some(ended) => Some(finding(case, &ended.message, "start")),
        None => case.runtime_gave_up().then(|| gave_up(case)),
    }
}

/// Without the runtime's message: that it gave up is certain, and why is not.
fn gave_up(case: &Case<'_>) -> Finding {
    let last = case.failures().next_back().filter(|(_, failure)| !IN_PASSING.contains(&failure.errno));
    let tried =
        last.map(|(_, failure)| format!("; the last call that failed was {}", words::failed(failure)));
    Finding {
        cause: Cause::ContainerCreateError,
        confidence: if last.is_some() { Confidence::Medium } else { Confidence::Low },
        summary: format!(
            "the container runtime gave up before it executed the container's command{}",
            tried.unwrap_or_default()
        ),
        remedy: "read the runtime's message in the container's status (kubectl describe pod): a command that may not be executed, a mount or a working directory that does not fit are usual".to_owned(),
        object: last.map_or_else(|| "container runtime".to_owned(), |(_, failure)| words::one_line(thing(failure))),
        evidence: last.map(|(index, _)| EvidenceRef::Failure(index)).into_iter().collect(),
    }
}

fn finding(case: &Case<'_>, message: &str, what: &str) -> Finding {
    let said = without_ids(message);
    let last = last_of_the_chain(&said);
    let object = if last.is_empty() { "container runtime".to_owned() } else { words::one_line(last) };
    Finding {
        cause: Cause::ContainerCreateError,
        confidence: Confidence::High,
        summary: format!(
            "the container runtime could not {what} the container: {}",
            if said.is_empty() { "it does not say why".to_owned() } else { words::one_line(&said) }
        ),
        remedy: remedy(case, &said),
        object,
        evidence: case.exit().map(|_| EvidenceRef::Exit).into_iter().collect(),
    }
}

/// Runtimes put the id of each attempt into their messages; without it the same failure has the same words.
fn without_ids(message: &str) -> String {
    /// A container's id.
    const ID: usize = 64;
    let is_id = |word: &str| word.len() == ID && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let words = message.trim().trim_end_matches(": unknown").split(' ');
    let kept = words.filter(|word| !is_id(word.trim_matches(|quote| "\"':,".contains(quote))));
    kept.collect::<Vec<_>>().join(" ")
}

/// Go's errors are chains, the reason last: `failed to generate spec: no command specified`.
fn last_of_the_chain(message: &str) -> &str {
    message.rsplit(": ").find(|part| !part.trim().is_empty()).unwrap_or_default().trim()
}

fn remedy(case: &Case<'_>, message: &str) -> String {
    let field = case.field();
    let lower = message.to_ascii_lowercase();
    if lower.contains("no command specified") {
        format!("the image has neither ENTRYPOINT nor CMD: set {field}.command")
    } else if lower.contains("is already in use") || lower.contains("is reserved") {
        "a container of an earlier attempt still has the name: the kubelet tries again; if it lasts, look at the runtime on the node".to_owned()
    } else if lower.contains("mount") {
        format!("correct {field}.volumeMounts: the runtime cannot mount one of them")
    } else if lower.contains("cgroup") || lower.contains("memory") {
        format!("correct {field}.resources, or look at the node's cgroups")
    } else if lower.contains("user") || lower.contains("passwd") {
        format!("correct {field}.securityContext.runAsUser, or the USER of the image")
    } else {
        format!("read what the runtime says; it is about {field} or the image")
    }
}
