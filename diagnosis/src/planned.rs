//! Ends that whoever runs the pod wanted: they are no crashes, and what they say of the program is not held against it.

use crate::case::Case;
use crate::evidence::SenderKind;
use crate::pod::{RestartRule, Stop};
use crate::rules::killed;
use crate::verdict::{Cause, EvidenceRef};
use crate::words;

/// What the kubelet says as it stops a container whose spec was changed while it ran, and what that means. Events of probes have other words.
const CHANGED: [(&str, &str); 2] = [
    ("definition changed", "its definition in the running pod was changed, for example its image"),
    (
        "resize requires restart",
        "its resources were changed in the running pod, and its resizePolicy asks for a restart then",
    ),
];
/// Exit codes that programs, shells and runtimes use for failures of their own accord: a rule that names one of them retries a failure, while
/// another code was chosen by whoever wrote program and rule.
const OF_FAILURES: [std::ops::RangeInclusive<i32>; 2] = [1..=2, 126..=255];

/// Why the kubelet stopped a container with which nothing was wrong.
pub(crate) struct Reason {
    /// For the end of a sentence: `its pod was being deleted`.
    pub(crate) words: String,
    /// The event that tells it, where one does.
    pub(crate) event: Option<EvidenceRef>,
}

/// Why this container was stopped by the runtime though nothing was wrong with it. None when it was not, or nothing tells why.
pub(crate) fn stop(case: &Case<'_>) -> Option<Reason> {
    let pod = case.pod.filter(|_| stopped_by_the_runtime(case))?;
    let event = pod.probe_events.iter().enumerate().rev().find_map(|(index, event)| {
        let (_, means) = CHANGED.iter().find(|(said, _)| event.message.contains(said))?;
        (event.reason == "Killing").then_some((index, *means))
    });
    if let Some((index, means)) = event {
        return Some(Reason { words: means.to_owned(), event: Some(EvidenceRef::ProbeEvent(index)) });
    }
    let words = match pod.stop.as_ref()? {
        Stop::PodDeleted => "its pod was being deleted".to_owned(),
        Stop::PodDone => "the pod's own containers were done, which ends its sidecars".to_owned(),
        Stop::AllRestarted { by } if by.is_empty() => {
            "a restart rule of the pod restarted all its containers".to_owned()
        }
        Stop::AllRestarted { by } => format!(
            "the end of the container {} made a restart rule restart all containers of the pod",
            words::one_line(by)
        ),
    };
    Some(Reason { words, event: None })
}

/// The rule of the container's own that takes this exit code for a reason to start it again, with its place in the list.
pub(crate) fn rule<'a>(case: &Case<'a>, code: i32) -> Option<(usize, &'a RestartRule)> {
    let rules = &case.pod?.container.restart_rules;
    let (index, rule) = rules.iter().enumerate().find(|(_, rule)| rule.holds(code))?;
    let chosen = code != 0 && !rule.not_in && !OF_FAILURES.iter().any(|codes| codes.contains(&code));
    chosen.then_some((index, rule))
}

/// True for an end that was wanted, given the cause that was found for it.
pub(crate) fn is(case: &Case<'_>, cause: Cause) -> bool {
    match cause {
        Cause::Killed => stop(case).is_some(),
        Cause::Completed => {
            let code = case.exit_code().or_else(|| Some(case.pod?.container.terminated.as_ref()?.exit_code));
            stop(case).is_some() || code.is_some_and(|code| rule(case, code).is_some())
        }
        // A drain, an autoscaler: whoever asks for it is told by a PodDisruptionBudget where it hurts.
        Cause::Evicted => case.pod.is_some_and(|pod| pod.disruption.reason == "EvictionByEvictionAPI"),
        _ => false,
    }
}

fn stopped_by_the_runtime(case: &Case<'_>) -> bool {
    let from_runtime =
        |by: Option<&crate::evidence::KilledBy>| by.is_some_and(|by| by.kind == SenderKind::Runtime);
    let asked = killed::asked_to_stop(case).is_some_and(|(_, signal)| from_runtime(signal.sender.as_ref()));
    let killed = case.exit().is_some_and(|exit| exit.signal != 0 && from_runtime(exit.killed_by.as_ref()));
    let unseen = case.evidence.losses.agent_started_later && case.evidence.signals.is_empty();
    asked || killed || unseen
}
