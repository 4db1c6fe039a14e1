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
    // Empty without Kubernetes, where nobody restarts what is done.
    let restarts = case.pod.is_some_and(|pod| pod.restart_policy == "Always");
    Some(Finding {
        cause: Cause::Completed,
        confidence: Confidence::High,
        summary,
        object: "exit code 0".to_owned(),
        remedy: if restarts {
            "no crash, yet with spec.restartPolicy Always it is restarted and backs off: run it as a Job, or keep it in the foreground".to_owned()
        } else {
            "nothing is wrong; a program that should keep running has to stay in the foreground".to_owned()
        },
        evidence,
    })
}
