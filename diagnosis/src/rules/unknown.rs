//! What was recorded does not show why.

use super::Finding;
use crate::case::Case;
use crate::verdict::{Cause, Confidence, EvidenceRef};
use crate::words;

/// A person reads these; the rest stays in the crash.
const MOST_CALLS: usize = 12;

pub(super) fn finding(case: &Case<'_>) -> Finding {
    let mut evidence: Vec<EvidenceRef> = case.exit().map(|_| EvidenceRef::Exit).into_iter().collect();
    evidence.extend(case.calls.iter().take(MOST_CALLS).map(|call| EvidenceRef::Failure(call.index)));
    evidence.extend((0..case.evidence.oom.len()).map(EvidenceRef::Oom));
    evidence.extend((0..case.evidence.child_exits.len()).rev().take(1).map(EvidenceRef::ChildExit));
    let (object, ended) = match case.exit() {
        Some(exit) => {
            let ending = words::ending(exit);
            (ending.clone(), format!("{} ended with {ending}", case.main_name()))
        }
        None => (code_by_kubernetes(case), told_by_kubernetes(case)),
    };
    let why_not = match (case.incomplete(), case.calls.len()) {
        (Some(why), _) => why.to_owned(),
        (None, 0) if case.only_kubernetes() => "no agent saw it, so why is not known".to_owned(),
        (None, 0) => "nothing was recorded that explains it".to_owned(),
        (None, 1) => "one call failed before, but nothing ties it to the end".to_owned(),
        (None, calls) => format!("{calls} calls failed before, but nothing ties one of them to the end"),
    };
    Finding {
        cause: Cause::Unknown,
        confidence: Confidence::Low,
        summary: format!("{ended}; {why_not}"),
        object,
        remedy: if case.only_kubernetes() {
            "see why no agent watched it: kubectl get pods -A -o wide shows on which nodes one runs; the next crash tells more once it does".to_owned()
        } else {
            "read the evidence below and the program's own documentation of its exit codes".to_owned()
        },
        evidence,
    }
}

fn code_by_kubernetes(case: &Case<'_>) -> String {
    let ended = case.pod.and_then(|pod| pod.container.terminated.as_ref()).filter(|_| case.only_kubernetes());
    ended.map_or_else(String::new, |ended| format!("exit code {}", ended.exit_code))
}

fn told_by_kubernetes(case: &Case<'_>) -> String {
    match case.pod.and_then(|pod| pod.container.terminated.as_ref()) {
        Some(terminated) => format!(
            "Kubernetes says {}, exit code {}",
            words::one_line(if terminated.reason.is_empty() { "terminated" } else { &terminated.reason }),
            terminated.exit_code
        ),
        None => "the end was not seen".to_owned(),
    }
}
