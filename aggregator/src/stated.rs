//! Failures that only the Kubernetes API shows: a container that cannot be made, an end that no agent reported, a pod sent away.
//!
//! Pure. The id of such a crash is made of the state alone, so that the same state is the same crash: seen again after a relist or a
//! restart of this program, it is known.

use lastwords_diagnosis::PodContext;
use lastwords_diagnosis::evidence::UnixNanos;
use lastwords_diagnosis::pod::{ContainerState, Terminated};
use lastwords_proto::v1;

use crate::backoff::Run;
use crate::diagnose::diagnosis;
use crate::pods::{Container, Known, Pods, ProbeEvent};
use crate::store::{Assessment, NewCrash};
use crate::{pair, planned, template, time};

/// An end longer ago than this (nanoseconds) is told no more: a day, for the API shows the last one of a container as long as its pod
/// lives, be that a year.
const MAX_AGE: i64 = 24 * 3_600_000_000_000;

/// A volume that cannot be mounted for so long (nanoseconds) is told: the kubelet has tried five times by then.
const NOT_MOUNTED_FOR: i64 = 15_000_000_000;

/// The kubelet tries again after two minutes at the latest. Of what it has said nothing for so long (nanoseconds) there is no more to be said.
const TRIED_AGAIN: i64 = 150_000_000_000;

/// True for a crash that was made here and not reported by an agent.
pub fn is_stated(id: &str) -> bool {
    // A node may have that name too; the ids of its reports have three parts.
    id.starts_with("kubernetes/") && id.split('/').count() == 4
}

/// True for one that tells of a state rather than of the end of a run.
pub fn is_state(report: &v1::Crash) -> bool {
    is_stated(&report.id) && report.container.as_ref().is_none_or(|container| container.id.is_empty())
}

/// The containers that wait for what they do not get.
pub fn waiting(known: &Known, pods: &Pods, now: UnixNanos) -> Vec<NewCrash> {
    let over = known.deleted_at.is_some() || matches!(known.pod.phase.as_str(), "Succeeded" | "Failed");
    let containers = known.pod.containers.iter().filter(|_| !over);
    containers
        .filter_map(|container| {
            let ContainerState::Waiting { reason, .. } = &container.context.state else { return None };
            let none_yet = reason.contains("Image")
                || reason == "RegistryUnavailable"
                || reason.starts_with("CreateContainer")
                || (reason.ends_with("Error") && container.id.is_empty() && never_ran(container));
            none_yet.then(|| of_container(known, container, pods, now)).flatten()
        })
        .chain(not_mounted(known, pods, now).filter(|_| !over))
        .collect()
}

/// A volume that cannot be mounted because of what is not there. It is the pod's: told once, of its first container that waits for it.
fn not_mounted(known: &Known, pods: &Pods, now: UnixNanos) -> Option<NewCrash> {
    let events = known.start_events.iter().rev().filter(|event| event.reason == "FailedMount");
    // What is made a moment after its pod is found at the kubelet's next try.
    let missing = |event: &&ProbeEvent| {
        event.last.0.saturating_sub(event.first.0) >= NOT_MOUNTED_FOR
            && now.0.saturating_sub(event.last.0) <= TRIED_AGAIN
            && event.message.contains("not found")
    };
    let event = events.take(1).find(missing)?;
    let mut container = known.pod.containers.iter().find(|container| waits_for_volumes(container))?.clone();
    container.context.state =
        ContainerState::Waiting { reason: event.reason.clone(), message: event.message.clone() };
    of_container(known, &container, pods, now)
}

fn waits_for_volumes(container: &Container) -> bool {
    let creating = |reason: &str| matches!(reason, "ContainerCreating" | "PodInitializing");
    matches!(&container.context.state, ContainerState::Waiting { reason, .. } if creating(reason))
        && container.id.is_empty()
        && never_ran(container)
}

fn never_ran(container: &Container) -> bool {
    container.context.terminated.is_none()
}

fn of_container(known: &Known, container: &Container, pods: &Pods, now: UnixNanos) -> Option<NewCrash> {
    let of_report = v1::Container {
        name: container.context.name.clone(),
        image: container.context.image.clone(),
        restart_count: container.context.restart_count,
        ..of_pod(known)
    };
    let state = v1::PodState {
        // That of the run before, if there was one.
        terminated: String::new(),
        attempts: attempts(known, container),
        ..pair::state_now(known, container, pods)
    };
    made(known, of_report, pair::context(known, container, None), state, now)
}

/// A pod that was sent away as a whole: evicted, preempted, or ended with its node.
pub fn whole_pod(known: &Known, now: UnixNanos) -> Option<NewCrash> {
    if known.pod.phase != "Failed" && !known.pod.disruption.reason.starts_with("Preemption") {
        return None;
    }
    let container = Container::default();
    let state = v1::PodState {
        phase: known.pod.phase.clone(),
        owner: known.pod.owner.clone(),
        message: known.pod.message.clone(),
        pod_deleted: known.deleted_at.is_some(),
        ..v1::PodState::default()
    };
    let made = made(known, of_pod(known), pair::context(known, &container, None), state, now)?;
    is_of_pod(made.assessment.diagnosis.cause()).then_some(made)
}

/// True for the causes that end a pod as a whole.
pub fn is_of_pod(cause: v1::Cause) -> bool {
    matches!(cause, v1::Cause::Evicted | v1::Cause::Preempted | v1::Cause::NodeShutdown)
}

fn of_pod(known: &Known) -> v1::Container {
    v1::Container {
        pod_uid: known.pod.uid.clone(),
        pod_name: known.pod.name.clone(),
        namespace: known.pod.namespace.clone(),
        ..v1::Container::default()
    }
}

fn made(
    known: &Known,
    container: v1::Container,
    context: PodContext,
    pod_state: v1::PodState,
    now: UnixNanos,
) -> Option<NewCrash> {
    let mut report = v1::Crash {
        node: known.pod.node.clone(),
        observed_at: Some(time::to_wire(now)),
        container: Some(container.clone()),
        ..v1::Crash::default()
    };
    let diagnosis = diagnosis(&report, Some(&context), 1);
    let cause = diagnosis.cause();
    if cause == v1::Cause::Unknown {
        return None;
    }
    let cause = cause.as_str_name().trim_start_matches("CAUSE_").to_ascii_lowercase();
    let what = format!("{}-{cause}-{:016x}", container.restart_count, template::digest(&diagnosis.object));
    let id = id(&container.pod_uid, &container.name, &what);
    report.id.clone_from(&id);
    let assessment = Assessment { revision: 1, container, pod_state: Some(pod_state), diagnosis };
    Some(NewCrash { id, report, assessment })
}

/// The ends of runs that no agent reported, oldest first, each with its id in the report.
pub fn ended(known: &Known, now: UnixNanos) -> Vec<v1::Crash> {
    let mut ends: Vec<v1::Crash> = known
        .histories()
        .filter_map(|(name, history)| Some((known.container(name)?, history)))
        .flat_map(|(container, history)| history.runs().iter().map(move |run| (container, run)))
        .filter_map(|(container, run)| end(known, container, run, now))
        .collect();
    ends.sort_by_key(|crash| crash.observed_at.as_ref().map(|at| (at.seconds, at.nanos)));
    ends
}

fn end(known: &Known, container: &Container, run: &Run, now: UnixNanos) -> Option<v1::Crash> {
    let ended = run.terminated.as_ref().filter(|_| !run.told && !run.container_id.is_empty())?;
    let age = now.0.saturating_sub(ended.finished_at.0);
    if ended.finished_at.0 <= 0 || age > MAX_AGE || is_planned(known, container, run, ended) {
        return None;
    }
    Some(v1::Crash {
        id: id(&known.pod.uid, &container.context.name, &run.container_id),
        node: known.pod.node.clone(),
        observed_at: Some(time::to_wire(ended.finished_at)),
        container: Some(v1::Container {
            id: run.container_id.clone(),
            name: container.context.name.clone(),
            image: container.context.image.clone(),
            restart_count: run.restart_count,
            ..of_pod(known)
        }),
        ..v1::Crash::default()
    })
}

/// Done and not started again, or stopped with its pod: no agent has to have seen that for it to be no crash.
fn is_planned(known: &Known, container: &Container, run: &Run, ended: &Terminated) -> bool {
    let done = ended.exit_code == 0 && !pair::is_restarted(known, container, 0);
    let wanted = planned::stop(known, container, ended.finished_at).is_some()
        || pair::probe_events(known, container, Some(run)).into_iter().any(planned::is_of_a_change);
    done || (wanted && ended.looks_stopped() && known.pod.disruption.reason.is_empty())
}

/// The id of what the API shows of a run of a container.
pub fn id_of_end(known: &Known, container: &str, container_id: &str) -> String {
    id(&known.pod.uid, container, container_id)
}

fn id(pod_uid: &str, container: &str, what: &str) -> String {
    format!("kubernetes/{pod_uid}/{container}/{what}")
}

/// How often the kubelet tried what the container waits for, by its events.
fn attempts(known: &Known, container: &Container) -> u32 {
    let ContainerState::Waiting { reason, .. } = &container.context.state else { return 0 };
    // Each pull that failed has an event of its own beside those of the wait; what is not pulled has only the latter.
    let pulled = matches!(reason.as_str(), "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable");
    let counts = |message: &str| {
        let message = message.strip_prefix("(combined from similar events): ").unwrap_or(message);
        match (message.strip_prefix("Error: "), pulled) {
            (None, pulled) => pulled && message.starts_with("Failed to pull image"),
            (Some(_), true) => false,
            (Some(error), false) => !matches!(error, "ErrImagePull" | "ImagePullBackOff"),
        }
    };
    let events = known.start_events.iter().filter(|event| event.container == container.context.name);
    events
        .filter(|event| counts(&event.message))
        .fold(0, |sum: u32, event| sum.saturating_add(event.count.max(1)))
}

/// True when the newer one says something that the older one does not. The waits between attempts and the ids in the runtime's words
/// come and go; that it was tried again is worth saying each time the number has doubled.
pub fn is_news(newer: &Assessment, older: &Assessment) -> bool {
    let attempts = |of: &Assessment| of.pod_state.as_ref().map_or(0, |state| state.attempts);
    let gone = |of: &Assessment| of.pod_state.as_ref().is_some_and(|state| state.pod_deleted);
    let told =
        |of: &Assessment| (of.diagnosis.cause, of.diagnosis.object.clone(), of.diagnosis.remedy.clone());
    told(newer) != told(older)
        || gone(newer) != gone(older)
        || attempts(newer) >= attempts(older).saturating_mul(2).max(1)
}

#[cfg(test)]
#[path = "stated_tests.rs"]
pub(crate) mod tests;
