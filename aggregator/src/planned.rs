//! Which ends of runs whoever runs the pod wanted, as far as the API shows it. Whether the run was stopped at all, and by whom, is for the
//! agent's report to say. Pure.

use lastwords_diagnosis::evidence::UnixNanos;
use lastwords_diagnosis::pod::{ContainerState, Stop};

use crate::pair;
use crate::pods::{Container, Kind, Known, ProbeEvent};
use crate::store::Assessment;

/// The API's times are whole seconds of another clock than the node's (nanoseconds).
const SLACK: i64 = 5_000_000_000;
/// All containers of a pod are restarted within their grace period and this (nanoseconds), in which the kubelet comes to each of them.
const ALL_RESTARTED_WITHIN: i64 = 30_000_000_000;
/// The kubelet's words as it restarts a container whose spec was changed while it ran.
const OF_A_CHANGE: [&str; 2] = ["definition changed, will be restarted", "resize requires restart"];
const RESTART_ALL: &str = "RestartAllContainers";

/// Why the kubelet stopped a container that ended at that time, though nothing was wrong with it.
pub fn stop(known: &Known, container: &Container, ended_at: UnixNanos) -> Option<Stop> {
    if known.pod.deletion.is_some_and(|asked| is_after(ended_at, asked)) {
        return Some(Stop::PodDeleted);
    }
    restarted_with_all(known, container, ended_at)
        .or_else(|| (container.is_sidecar() && pod_was_done(known, ended_at)).then_some(Stop::PodDone))
}

/// True for an event of a restart that a change of the running pod asks for.
pub fn is_of_a_change(event: &ProbeEvent) -> bool {
    event.reason == "Killing" && tells_of_a_change(&event.message)
}

/// True for such an event's message.
pub fn tells_of_a_change(message: &str) -> bool {
    OF_A_CHANGE.iter().any(|said| message.contains(said))
}

/// Keeps what was known of a stop that was wanted where nothing tells of it any more, as after a restart of this program: the runs of the
/// pod's other containers are known no longer. What is now found to be something else is told as that.
pub fn keep(newer: &mut Assessment, last: &Assessment) {
    let (known, now) = (&last.diagnosis, &newer.diagnosis);
    if !known.planned || now.planned || (known.cause, &known.object) != (now.cause, &now.object) {
        return;
    }
    newer.diagnosis.clone_from(known);
    // The diagnosis may point to one of them.
    if let (Some(state), Some(before)) = (&mut newer.pod_state, &last.pod_state)
        && state.probe_events.is_empty()
    {
        state.probe_events.clone_from(&before.probe_events);
    }
}

fn restarted_with_all(known: &Known, container: &Container, ended_at: UnixNanos) -> Option<Stop> {
    let soon_after = |began: UnixNanos| {
        let within =
            known.pod.grace_seconds.saturating_mul(1_000_000_000).saturating_add(ALL_RESTARTED_WITHIN);
        is_after(ended_at, began) && ended_at.0.saturating_sub(began.0) <= within
    };
    let asks_for_all = |other: &&Container| {
        let rule = |code| other.context.restart_rules.iter().find(|rule| rule.holds(code));
        let runs = known.history(&other.context.name).map(|history| history.runs()).unwrap_or_default();
        runs.iter().any(|run| {
            run.ended_at.is_some_and(soon_after)
                && run.exit_code().and_then(rule).is_some_and(|rule| rule.action == RESTART_ALL)
        })
    };
    let others = known.pod.containers.iter().filter(|other| other.context.name != container.context.name);
    let by = others.filter(|other| !other.context.restart_rules.is_empty()).find(asks_for_all);
    match (by, known.all_restarted_at) {
        (Some(by), _) => Some(Stop::AllRestarted { by: by.context.name.clone() }),
        (None, Some(began)) if soon_after(began) => Some(Stop::AllRestarted { by: String::new() }),
        (None, _) => None,
    }
}

/// True when all containers of the pod that are no sidecars had ended for good before that.
fn pod_was_done(known: &Known, ended_at: UnixNanos) -> bool {
    let mut regular =
        known.pod.containers.iter().filter(|container| container.kind == Kind::Regular).peekable();
    regular.peek().is_some()
        && regular.all(|container| match &container.context.state {
            ContainerState::Terminated(ended) => {
                is_after(ended_at, ended.finished_at)
                    && !pair::is_restarted(known, container, ended.exit_code)
            }
            _ => false,
        })
}

fn is_after(ended_at: UnixNanos, began: UnixNanos) -> bool {
    ended_at.0.saturating_add(SLACK) >= began.0
}

#[cfg(test)]
#[path = "planned_tests.rs"]
mod tests;
