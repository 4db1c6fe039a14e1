//! Exit code 0: the program said that it was done.

use super::{Finding, killed};
use crate::case::Case;
use crate::pod::PodContext;
use crate::verdict::{Cause, Confidence, EvidenceRef};
use crate::{planned, signals, words};

pub(super) fn by_itself(case: &Case<'_>) -> Option<Finding> {
    case.exit_code().filter(|code| *code == 0)?;
    let Some((index, signal)) = killed::asked_to_stop(case).filter(|(_, signal)| signal.delivered) else {
        let summary = format!("{} ended by itself with exit code 0", case.main_name());
        return Some(finding(case, Confidence::High, summary, vec![EvidenceRef::Exit]));
    };
    let evidence = vec![EvidenceRef::Exit, EvidenceRef::Signal(index)];
    let summary = format!(
        "{} was asked to stop by {} from {} and ended cleanly with exit code 0",
        case.main_name(),
        signals::name(signal.signal),
        words::sender(signal.sender.as_ref())
    );
    // It may have been done at that moment anyway.
    let mut found = finding(case, Confidence::Medium, summary.clone(), evidence);
    if let Some(stop) = planned::stop(case) {
        found.evidence.extend(stop.event);
        found.summary = format!("{summary}; {}", stop.words);
        found.remedy = "nothing is wrong".to_owned();
    } else {
        found.remedy = format!("it did as it was asked; {}", killed::remedy(case, signal.sender.as_ref()));
    }
    Some(found)
}

/// It ended with a code that its own restart rules list.
pub(super) fn by_rule(case: &Case<'_>) -> Option<Finding> {
    let told = || case.pod?.container.terminated.as_ref().filter(|_| case.only_kubernetes());
    let seen =
        case.exit_code().filter(|_| !killed::asked_to_stop(case).is_some_and(|(_, signal)| signal.delivered));
    let code = seen.or_else(|| told().map(|ended| ended.exit_code))?;
    let (index, rule) = planned::rule(case, code)?;
    let field = format!("{}.restartPolicyRules[{index}]", case.field());
    let restarts = match rule.action.as_str() {
        "RestartAllContainers" => "restarts all containers of the pod",
        _ => "restarts it",
    };
    Some(Finding {
        cause: Cause::Completed,
        confidence: if seen.is_some() { Confidence::High } else { Confidence::Medium },
        summary: format!(
            "{} ended by itself with exit code {code}, for which {field} {restarts}{}",
            case.main_name(),
            if seen.is_some() { "" } else { ", says Kubernetes; no agent saw it" }
        ),
        object: format!("exit code {code}"),
        remedy: format!("nothing is wrong, if {field} is meant so"),
        evidence: case.exit().map(|_| EvidenceRef::Exit).into_iter().collect(),
    })
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
    // Without Kubernetes nobody restarts what is done.
    // Nor of a pod that is being deleted.
    let restarts = case.pod.filter(|pod| !pod.deleted).and_then(PodContext::always_restarted_by);
    Finding {
        cause: Cause::Completed,
        confidence,
        summary: if restarts.is_some() {
            format!(
                "{summary}; with restartPolicy Always the kubelet starts it again, and waits longer each time"
            )
        } else {
            summary
        },
        object: "exit code 0".to_owned(),
        remedy: match restarts {
            // A sidecar.
            Some(field) if field != "spec.restartPolicy" => format!(
                "no crash, yet with {field} Always it is restarted and backs off: keep it in the foreground, or leave {field} out if it is to be done once"
            ),
            Some(field) => format!(
                "no crash, yet with {field} Always it is restarted and backs off: run it as a Job, or keep it in the foreground"
            ),
            None => "nothing is wrong; a program that should keep running has to stay in the foreground"
                .to_owned(),
        },
        evidence,
    }
}
