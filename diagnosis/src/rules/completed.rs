//! Exit code 0: the program said that it was done.

use super::{Finding, killed};
use crate::case::Case;
use crate::verdict::{Cause, Confidence, EvidenceRef};
use crate::{signals, words};

pub(super) fn by_itself(case: &Case<'_>) -> Option<Finding> {
    case.exit_code().filter(|code| *code == 0)?;
    let mut evidence = vec![EvidenceRef::Exit];
    let summary = match killed::asked_to_stop(case) {
        Some((index, signal)) if signal.delivered => {
            evidence.push(EvidenceRef::Signal(index));
            format!(
                "{} was asked to stop by {} from {} and ended cleanly with exit code 0",
                case.main_name(),
                signals::name(signal.signal),
                words::sender(signal.sender.as_ref())
            )
        }
        _ => format!("{} ended by itself with exit code 0", case.main_name()),
    };
    Some(finding(case, Confidence::High, summary, evidence))
}

/// Only Kubernetes tells of it.
pub(super) fn told(case: &Case<'_>) -> Option<Finding> {
    let ended = case.pod?.container.terminated.as_ref().filter(|_| case.only_kubernetes())?;
    (ended.exit_code == 0).then(|| {
        let summary = "it ended with exit code 0, says Kubernetes; no agent saw it".to_owned();
        finding(case, Confidence::Medium, summary, Vec::new())
    })
}

fn finding(case: &Case<'_>, confidence: Confidence, summary: String, evidence: Vec<EvidenceRef>) -> Finding {
    // Empty without Kubernetes, where nobody restarts what is done.
    let restarts = case.pod.is_some_and(|pod| pod.restart_policy == "Always");
    Finding {
        cause: Cause::Completed,
        confidence,
        summary: if restarts {
            format!(
                "{summary}; with restartPolicy Always the kubelet starts it again, and waits longer each time"
            )
        } else {
            summary
        },
        object: "exit code 0".to_owned(),
        remedy: if restarts {
            "no crash, yet with spec.restartPolicy Always it is restarted and backs off: run it as a Job, or keep it in the foreground".to_owned()
        } else {
            "nothing is wrong; a program that should keep running has to stay in the foreground".to_owned()
        },
        evidence,
    }
}
