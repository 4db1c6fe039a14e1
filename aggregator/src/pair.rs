//! Brings a crash and what is known of the pods together, whichever came first: by container id, else by pod UID.
//!
//! Pure: the same crash and the same pods always give the same answer.

use lastwords_diagnosis::PodContext;
use lastwords_diagnosis::evidence::UnixNanos;
use lastwords_diagnosis::pod::{ContainerState, Neighbour, Terminated};
use lastwords_proto::v1;

use crate::backoff::{BackOff, History, Run};
use crate::healthy::Healthy;
use crate::pods::{Container, Kind, Known, Pods, ProbeEvent};
use crate::{planned, time};

/// The kubelet's clock has whole seconds and its events are written a little after what they tell of.
const EVENT_SLACK_NANOS: i64 = 5_000_000_000;

/// Stands for the exit code of a run whose end nobody has told yet: some failure.
const UNKNOWN_CODE: i32 = 255;

/// Other containers named in one diagnosis at most.
const MAX_NEIGHBOURS: usize = 8;

/// A crash with its pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Paired {
    /// The crash's container, with the names that the agent did not know.
    pub container: v1::Container,
    /// What a diagnosis needs of the pod.
    pub context: PodContext,
    /// The pod's state as people want to see it.
    pub state: v1::PodState,
    /// True once the container was started again and its end is known: nothing that comes later concerns this crash.
    pub settled: bool,
}

/// How the container's status stands to one of its runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// The status speaks of this run.
    Present,
    /// It speaks of an earlier run: the agent was faster than the kubelet.
    NotYet,
    /// It speaks of a later run: the container was started again.
    Restarted,
}

/// Notes in `pods` that this crash's run ended, so that the wait after it can be computed before the kubelet says a word.
pub fn note(crash: &v1::Crash, pods: &mut Pods) {
    // What never ran has no id.
    let Some(reported) = crash.container.as_ref().filter(|container| !container.id.is_empty()) else {
        return;
    };
    let Some((known, container)) = find(reported, pods) else { return };
    let started_at = crash.process.as_ref().and_then(|process| process.started_at.as_ref());
    let started_at = started_at.and_then(time::from_wire).filter(|time| time.0 > 0);
    let ended_at = died_at(crash).filter(|_| !crash.container_survived);
    let name = container.context.name.clone();
    let restart_count = restart_count(reported, known.history(&name), died_at(crash));
    let uid = known.pod.uid.clone();
    let told = !crash.container_survived;
    let run = Run {
        container_id: reported.id.clone(),
        restart_count,
        started_at,
        ended_at,
        exit_code: crash.exit.as_ref().filter(|exit| exit.signal == 0 && told).map(|exit| exit.code),
        told,
        ..Run::default()
    };
    pods.observe_run(&uid, &name, run);
}

/// The pod and container of a crash, with the state the container is in. `before` is the state that was last stored with this
/// crash: once the container runs again, the wait that followed this crash is no longer to be read from the API, so it is kept.
/// None when no such pod is known, or it cannot be told which of its containers died.
pub fn pair(
    crash: &v1::Crash,
    before: Option<&v1::PodState>,
    pods: &Pods,
    healthy: &Healthy,
) -> Option<Paired> {
    let reported = crash.container.as_ref()?;
    let (known, container) = find(reported, pods)?;
    let history = known.history(&container.context.name);
    let run = history.and_then(|history| history.run(&reported.id));
    let shown = shown(container, history, &reported.id);
    // Of a run long gone it cannot be told which events were its own.
    let events = match (run, shown) {
        (None, Shown::Restarted) => Vec::new(),
        _ => probe_events(known, container, run),
    };
    let survived = crash.container_survived;
    let changes = healthy.changes(known, container, died_at(crash).unwrap_or_default());
    let mut state = match (shown, before) {
        (Shown::Restarted, Some(before)) => v1::PodState {
            terminated: run
                .and_then(|run| run.terminated.as_ref())
                .map_or(before.terminated.clone(), in_words),
            pod_deleted: known.deleted_at.is_some(),
            // The kubelet may have told of a probe only now; and what it told once is forgotten after an hour.
            probe_events: if run.is_some() && !events.is_empty() {
                events.iter().map(|event| event.in_words()).collect()
            } else {
                before.probe_events.clone()
            },
            ..before.clone()
        },
        _ => state(known, container, run, shown, survived, pods),
    };
    state.changed_since_last_good = changes.iter().map(|change| change.text.clone()).collect();
    let terminated = run.and_then(|run| run.terminated.clone());
    let settled = shown == Shown::Restarted && (terminated.is_some() || survived);
    Some(Paired {
        container: named(reported, known, container, run),
        context: PodContext {
            probe_events: events.into_iter().map(ProbeEvent::context).collect(),
            changes,
            harmless: healthy.failures(known, container),
            repeats: history.zip(run).is_some_and(|(history, run)| repeats(known, history, run, pods)),
            stop: died_at(crash).and_then(|at| planned::stop(known, container, at)),
            neighbours: neighbours(crash, known, pods),
            ..context(known, container, terminated)
        },
        state,
        settled,
    })
}

/// The state of a container now, with the wait that it is in.
pub fn state_now(known: &Known, container: &Container, pods: &Pods) -> v1::PodState {
    let history = known.history(&container.context.name);
    let run = history.and_then(History::latest);
    let shown = run.map_or(Shown::Present, |run| shown(container, history, &run.container_id));
    state(known, container, run, shown, false, pods)
}

/// The pods that an agent speaks of: one, unless what it says does not fit together. The surest first.
pub fn pods_named<'a>(reported: &v1::Container, pods: &'a Pods) -> impl Iterator<Item = &'a Known> {
    let by_name = || {
        let unknown = reported.pod_uid.is_empty() && !reported.pod_name.is_empty();
        unknown.then(|| pods.by_name(&reported.namespace, &reported.pod_name)).flatten()
    };
    let named = [pods.by_container(&reported.id), pods.by_uid(&reported.pod_uid), by_name()];
    named.into_iter().flatten()
}

/// The pod and the container that an agent speaks of.
pub fn find<'a>(reported: &v1::Container, pods: &'a Pods) -> Option<(&'a Known, &'a Container)> {
    let known = pods_named(reported, pods).next()?;
    let the_only_one = || match known.pod.containers.as_slice() {
        [only] if reported.name.is_empty() => Some(only),
        _ => None,
    };
    let container = known
        .container_by_id(&reported.id)
        .or_else(|| known.container(&reported.name))
        .or_else(the_only_one)?;
    Some((known, container))
}

fn shown(container: &Container, history: Option<&History>, id: &str) -> Shown {
    if container.id == id {
        return Shown::Present;
    }
    match history.and_then(History::latest) {
        Some(latest) if latest.container_id != id => Shown::Restarted,
        _ => Shown::NotYet,
    }
}

/// Restarts before the run that a report is about: as the API counts them, else as the node's log files do, else counted from
/// the run that is known to come before it.
fn restart_count(reported: &v1::Container, history: Option<&History>, ended_at: Option<UnixNanos>) -> i32 {
    if let Some(run) = history.and_then(|history| history.run(&reported.id)) {
        return run.restart_count;
    }
    let runs = history.map(History::runs).unwrap_or_default();
    if reported.restart_count > 0 || runs.is_empty() {
        return reported.restart_count;
    }
    let began = |run: &Run| run.started_at.or(run.ended_at);
    match runs.iter().rev().find(|run| began(run) <= ended_at) {
        Some(before) => before.restart_count.saturating_add(1),
        None => runs.first().map_or(0, |after| after.restart_count.saturating_sub(1).max(0)),
    }
}

fn died_at(crash: &v1::Crash) -> Option<UnixNanos> {
    let exited_at = crash.process.as_ref().and_then(|process| process.exited_at.as_ref());
    time::from_wire(exited_at.or(crash.observed_at.as_ref())?)
}

fn named(reported: &v1::Container, known: &Known, container: &Container, run: Option<&Run>) -> v1::Container {
    let or = |own: &String, other: &String| if own.is_empty() { other.clone() } else { own.clone() };
    // Who may read it goes by these: an agent's word does not move a crash to another namespace.
    let is_static = reported.pod_uid == known.pod.manifest_hash && !reported.pod_uid.is_empty();
    v1::Container {
        pod_uid: if is_static { reported.pod_uid.clone() } else { known.pod.uid.clone() },
        pod_name: known.pod.name.clone(),
        namespace: known.pod.namespace.clone(),
        name: container.context.name.clone(),
        image: or(&reported.image, &container.context.image),
        restart_count: run.map_or(reported.restart_count, |run| run.restart_count),
        ..reported.clone()
    }
}

/// What a diagnosis needs of the pod and of a container of it.
pub(crate) fn context(known: &Known, container: &Container, terminated: Option<Terminated>) -> PodContext {
    let pod = &known.pod;
    let mut of_container = container.context.clone();
    of_container.terminated = terminated;
    PodContext {
        name: pod.name.clone(),
        namespace: pod.namespace.clone(),
        uid: pod.uid.clone(),
        node: pod.node.clone(),
        owner: pod.owner.clone(),
        phase: pod.phase.clone(),
        reason: pod.reason.clone(),
        message: pod.message.clone(),
        disruption: pod.disruption.clone(),
        restart_policy: pod.restart_policy.clone(),
        deleted: known.deleted_at.is_some(),
        memory_limit: pod.memory_limit.clone(),
        container: of_container,
        ..PodContext::default()
    }
}

fn state(
    known: &Known,
    container: &Container,
    run: Option<&Run>,
    shown: Shown,
    survived: bool,
    pods: &Pods,
) -> v1::PodState {
    let (waiting_reason, waiting_message) = match (&container.context.state, shown) {
        (ContainerState::Waiting { reason, message }, Shown::Present) => (reason.clone(), message.clone()),
        _ => Default::default(),
    };
    let terminated = run.and_then(|run| run.terminated.as_ref());
    let wait = match (run, shown, survived) {
        (Some(run), Shown::Present | Shown::NotYet, false) => {
            wait_after(known, container, run, &waiting_reason, pods)
        }
        _ => None,
    };
    v1::PodState {
        phase: known.pod.phase.clone(),
        back_off_seconds: wait.map_or(0, |(wait, _)| u32::try_from(wait.wait.as_secs()).unwrap_or(u32::MAX)),
        next_retry_at: wait.map(|(_, next)| time::to_wire(next)),
        back_off_level: wait.map_or(0, |(wait, _)| wait.level),
        back_off_computed: wait.is_some_and(|(wait, _)| wait.computed),
        // Of a run long gone it cannot be told which events were its own.
        probe_events: if run.is_none() && shown == Shown::Restarted {
            Vec::new()
        } else {
            probe_events(known, container, run).into_iter().map(ProbeEvent::in_words).collect()
        },
        owner: known.pod.owner.clone(),
        changed_since_last_good: Vec::new(),
        restart_count: container.context.restart_count,
        pod_deleted: known.deleted_at.is_some(),
        terminated: terminated.map_or_else(String::new, in_words),
        attempts: 0,
        message: match terminated {
            Some(terminated) if waiting_message.is_empty() => terminated.message.clone(),
            _ => waiting_message,
        },
        waiting_reason,
    }
}

/// The wait after a run, and its end. None when the kubelet will not start the container again, or does so at once.
fn wait_after(
    known: &Known,
    container: &Container,
    run: &Run,
    waiting_reason: &str,
    pods: &Pods,
) -> Option<(BackOff, UnixNanos)> {
    let over = known.deleted_at.is_some() || matches!(known.pod.phase.as_str(), "Succeeded" | "Failed");
    let being_started = is_about_the_next_start(waiting_reason);
    if over || being_started || !is_restarted(known, container, run.exit_code().unwrap_or(UNKNOWN_CODE)) {
        return None;
    }
    let history = known.history(&container.context.name)?;
    let wait = history.back_off_after(run.restart_count, &pods.policy_of(&known.pod.node))?;
    let nanos = i64::try_from(wait.wait.as_nanos()).ok()?;
    Some((wait, UnixNanos(run.ended_at?.0.checked_add(nanos)?)))
}

/// True when the kubelet waits after this run, and the one before is not known to have ended in another way.
fn repeats(known: &Known, history: &History, run: &Run, pods: &Pods) -> bool {
    let before =
        history.runs().iter().find(|other| other.restart_count.saturating_add(1) == run.restart_count);
    let code_before = before.and_then(Run::exit_code);
    history.back_off_after(run.restart_count, &pods.policy_of(&known.pod.node)).is_some()
        && code_before.is_none_or(|code| run.exit_code().is_none_or(|own| own == code))
}

/// True for the reasons of a wait that is over or has not begun: a start under way, or one that fails before there is a container.
/// `RunContainerError` is none of them: it is the end of a run, and a wait follows.
fn is_about_the_next_start(waiting_reason: &str) -> bool {
    matches!(waiting_reason, "ContainerCreating" | "PodInitializing")
        || waiting_reason.contains("Image")
        || waiting_reason.starts_with("CreateContainer")
}

/// True when the kubelet starts it again after an end with this exit code.
pub(crate) fn is_restarted(known: &Known, container: &Container, exit_code: i32) -> bool {
    let own = container.context.restart_policy.as_str();
    let policy = if own.is_empty() { known.pod.restart_policy.as_str() } else { own };
    if container.context.restart_rules.iter().any(|rule| rule.holds(exit_code)) {
        return true;
    }
    match (policy, container.kind) {
        _ if container.is_sidecar() => true,
        (_, Kind::Ephemeral) | ("Never", _) => false,
        ("OnFailure", _) | (_, Kind::Init) => exit_code != 0,
        (_, Kind::Regular) => true,
    }
}

/// For example "Error, exit code 1".
fn in_words(terminated: &Terminated) -> String {
    match terminated.reason.as_str() {
        "" => format!("exit code {}", terminated.exit_code),
        reason => format!("{reason}, exit code {}", terminated.exit_code),
    }
}

/// The probe events that fall into a run (all of them while none has ended). One of a change of the running pod explains a stop by itself,
/// so it has to come after the start of the run that it stopped, and not within the clocks' slack before it.
pub(crate) fn probe_events<'a>(
    known: &'a Known,
    container: &Container,
    run: Option<&Run>,
) -> Vec<&'a ProbeEvent> {
    let begin =
        run.and_then(|run| run.started_at).map_or(i64::MIN, |time| time.0.saturating_sub(EVENT_SLACK_NANOS));
    let end =
        run.and_then(|run| run.ended_at).map_or(i64::MAX, |time| time.0.saturating_add(EVENT_SLACK_NANOS));
    let of_container =
        |event: &&ProbeEvent| event.container.is_empty() || event.container == container.context.name;
    known
        .probe_events
        .iter()
        .filter(of_container)
        .filter(|event| {
            if planned::is_of_a_change(event) {
                // A repeat counts up in the same event: only its last time is sure to be of one run.
                return run.and_then(|run| run.started_at).is_some_and(|began| event.last > began)
                    && event.last.0 <= end;
            }
            event.last.0 >= begin && event.first.0 <= end
        })
        .collect()
}

/// Those containers that the report says hold what this one wanted, as far as their pods are known.
fn neighbours(crash: &v1::Crash, own: &Known, pods: &Pods) -> Vec<Neighbour> {
    let failed = crash.failures.iter().filter_map(|failure| failure.holder.as_ref());
    let blocked = crash.blocked.iter().filter_map(|blocked| blocked.holder.as_ref());
    let mut found: Vec<Neighbour> = Vec::new();
    for holder in failed.chain(blocked).filter(|holder| !holder.container_id.is_empty()) {
        let id = &holder.container_id;
        let Some(known) = pods.by_container(id) else { continue };
        let Some(container) = known.container_by_id(id) else { continue };
        if found.len() < MAX_NEIGHBOURS && found.iter().all(|other| other.container_id != *id) {
            found.push(Neighbour {
                container_id: id.clone(),
                container: container.context.name.clone(),
                pod: known.pod.name.clone(),
                namespace: known.pod.namespace.clone(),
                same_pod: known.pod.uid == own.pod.uid,
            });
        }
    }
    found
}

#[cfg(test)]
#[path = "pair_tests.rs"]
mod tests;
