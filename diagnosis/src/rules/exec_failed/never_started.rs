//! The container's own command could not be started.

use super::why::{reason, remedy};
use super::{Finding, searched_name};
use crate::case::Case;
use crate::verdict::{Cause, Confidence, EvidenceRef};
use crate::{errno, noise, words};

/// The container's own command: nothing was ever executed.
pub(in crate::rules) fn never_started(case: &Case<'_>) -> Option<Finding> {
    if !case.never_executed() {
        return None;
    }
    let refused = case.failures().rfind(|(_, failure)| noise::executes(&failure.syscall));
    match refused {
        Some((index, failure)) => {
            let object = searched_name(case, failure);
            let mut evidence = vec![EvidenceRef::Failure(index)];
            evidence.extend(case.exit().map(|_| EvidenceRef::Exit));
            Some(Finding {
                cause: Cause::ExecFailed,
                confidence: Confidence::High,
                summary: format!(
                    "the container's command {object} could not be started: {}",
                    reason(failure)
                ),
                remedy: remedy(case, failure, &object),
                object,
                evidence,
            })
        }
        None => told_by_the_runtime(case).or_else(|| looked_for(case)),
    }
}

/// The runtime gave up before it executed anything; Kubernetes has its message.
fn told_by_the_runtime(case: &Case<'_>) -> Option<Finding> {
    let terminated = case.pod?.container.terminated.as_ref()?;
    let said = &terminated.message;
    let quoted = said.split_once("exec: \"").and_then(|(_, rest)| rest.split_once('"'));
    let (object, why) = quoted?;
    if terminated.reason != "StartError" && !said.contains("executable file not found") {
        return None;
    }
    let object = words::one_line(object);
    Some(Finding {
        cause: Cause::ExecFailed,
        confidence: Confidence::High,
        summary: format!(
            "the container's command {object} could not be started, says its runtime{}",
            words::one_line(why.trim_end_matches(": unknown"))
        ),
        remedy: format!("correct {0}.command (or {0}.args), or put {object} into the image", case.field()),
        object,
        evidence: case.exit().map(|_| EvidenceRef::Exit).into_iter().collect(),
    })
}

/// The runtime asks for the command before it executes it, in each folder of PATH where it has no folder of its own, and gives up when it
/// is nowhere: that is the last thing it does (runc: `exec.LookPath` in libcontainer/standard_init_linux.go; crun: `find_executable`).
fn looked_for(case: &Case<'_>) -> Option<Finding> {
    if !case.runtime_gave_up() {
        return None;
    }
    let (_, last) = case.failures().next_back()?;
    let missing = matches!(last.errno, errno::ENOENT | errno::ENOTDIR | errno::EACCES);
    // Masked paths are looked for before (`/proc/kcore`), and no command lies in these.
    let of_the_kernel = ["/proc/", "/sys/", "/dev/"].iter().any(|folder| last.path.starts_with(folder));
    if !missing || of_the_kernel || !noise::only_looks(&last.syscall) {
        return None;
    }
    let name = words::base_name(&last.path);
    let places: Vec<usize> = case
        .failures()
        .filter(|(_, failure)| noise::only_looks(&failure.syscall) && words::base_name(&failure.path) == name)
        .map(|(index, _)| index)
        .collect();
    let object = words::one_line(if places.len() > 1 { name } else { &last.path });
    Some(Finding {
        cause: Cause::ExecFailed,
        confidence: Confidence::Medium,
        summary: format!(
            "the container's command {object} could not be started: its runtime looked for it, the last time by {}, and gave up",
            words::failed(last)
        ),
        remedy: format!("correct {0}.command (or {0}.args), or put {object} into the image", case.field()),
        object,
        evidence: places.into_iter().rev().map(EvidenceRef::Failure).collect(),
    })
}
