//! Ends that whoever runs the pod wanted: they are no crashes, and what they say of the program is not held against it.

use crate::case::Case;
use crate::pod::{RestartRule, Stop, Terminated};
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
///
/// 64 to 78 are those of sysexits.h, 101 is that of a Rust panic.
const OF_FAILURES: [std::ops::RangeInclusive<i32>; 4] = [1..=2, 64..=78, 101..=101, 126..=255];

/// Why the kubelet stopped a container with which nothing was wrong.
pub(crate) struct Reason {
    /// For the end of a sentence: `its pod was being deleted`.
    pub(crate) words: String,
    /// The event that tells it, where one does.
    pub(crate) event: Option<EvidenceRef>,
}

/// Why this container was stopped by the runtime though nothing was wrong with it. None when it was not, when it did not end as what is
/// stopped does, or when nothing tells why.
pub(crate) fn stop(case: &Case<'_>) -> Option<Reason> {
    ended_as_asked(case).then(|| reason(case))?
}

/// Why the kubelet had it stopped, however it ended then.
pub(crate) fn reason(case: &Case<'_>) -> Option<Reason> {
    let pod = case.pod?;
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
    // In a loop it does not do what its rule restarts it for.
    let rules = &case.pod.filter(|pod| !pod.repeats)?.container.restart_rules;
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
        Cause::Evicted => {
            let wanted = case.pod.is_some_and(|pod| pod.disruption.reason == "EvictionByEvictionAPI");
            wanted && (ended_as_asked(case) || told_as_stopped(case))
        }
        _ => false,
    }
}

/// True when the runtime stopped it and it ended as what is stopped does: by the runtime's own signal, with 0, or with that signal's code.
/// With any other end it failed while it was stopping, or by the hand of somebody else.
fn ended_as_asked(case: &Case<'_>) -> bool {
    let Some(exit) = case.exit() else { return false };
    if exit.signal != 0 {
        return killed::from_runtime(killed::killer(case)) || killed::is_unseen_stop(case);
    }
    let asked =
        killed::asked_to_stop(case).filter(|(_, signal)| killed::from_runtime(signal.sender.as_ref()));
    let agrees = asked.is_some_and(|(_, signal)| exit.code == 0 || exit.code == 128 + signal.signal);
    (agrees && !killed::is_of_a_child_killed_from_outside(case)) || killed::is_unseen_stop(case)
}

/// The same of an end that no agent saw.
fn told_as_stopped(case: &Case<'_>) -> bool {
    let ended = case.pod.and_then(|pod| pod.container.terminated.as_ref());
    case.only_kubernetes() && ended.is_some_and(Terminated::looks_stopped)
}
