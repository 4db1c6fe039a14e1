//! What is known of the cluster's pods: each as the API last showed it, the last runs of its containers, and its probe events.
//!
//! Pods that vanish are kept for a while, for reports that arrive late. Pure: the watch feeds it, time is an argument.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lastwords_diagnosis::evidence::UnixNanos;
use lastwords_diagnosis::pod::{ContainerContext, ContainerState, Disruption};

use crate::backoff::{History, Policy, Run, announced_wait};
use crate::template::Template;

/// Vanished pods kept at most. At about 7 KiB a pod this is 35 MiB; a rollout of a large cluster replaces fewer in ten minutes.
pub const MAX_DELETED: usize = 5_000;
/// Probe events kept for one pod: a container with three probes has six kinds, and the oldest tell least.
pub const MAX_PROBE_EVENTS: usize = 16;

/// One pod as the API last showed it, reduced to what pairing and answers need.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pod {
    /// Its UID.
    pub uid: String,
    /// The manifest's hash by which the node calls a static pod; empty for all others.
    pub manifest_hash: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The node it is bound to; empty until it is.
    pub node: String,
    /// `spec.runtimeClassName`.
    pub runtime_class: String,
    /// The controller that owns it, for example `deployment/api`.
    pub owner: String,
    /// The controller itself, for example `replicaset/api-5d8`; empty when it is [`Pod::owner`].
    pub controller: String,
    /// Its labels, by name.
    pub labels: Vec<(String, String)>,
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: String,
    /// `status.reason`.
    pub reason: String,
    /// `status.message`.
    pub message: String,
    /// The condition `DisruptionTarget`.
    pub disruption: Disruption,
    /// When its deletion was asked for.
    pub deletion: Option<UnixNanos>,
    /// Since when a restart rule restarts all its containers (condition `AllContainersRestarting`).
    pub restarting_all: Option<UnixNanos>,
    /// `spec.terminationGracePeriodSeconds`.
    pub grace_seconds: i64,
    /// `Always`, `OnFailure` or `Never`.
    pub restart_policy: String,
    /// `spec.resources.limits.memory`, which all its containers share.
    pub memory_limit: String,
    /// Init containers, containers, ephemeral containers, each in the order of the spec.
    pub containers: Vec<Container>,
}

/// One container of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Container {
    /// 64 hexadecimal digits of the run that the status speaks of; empty until it first ran.
    pub id: String,
    /// Which list of the spec it stands in.
    pub kind: Kind,
    /// What it is started with.
    pub template: Arc<Template>,
    /// Spec and status; `terminated` is the last termination before the present state.
    pub context: ContainerContext,
}

impl Container {
    /// True for an init container that is restarted like a container.
    pub fn is_sidecar(&self) -> bool {
        self.kind == Kind::Init && self.context.restart_policy == "Always"
    }
}

/// Which list of the spec a container stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// `spec.initContainers`.
    Init,
    /// `spec.containers`.
    #[default]
    Regular,
    /// `spec.ephemeralContainers`.
    Ephemeral,
}

/// One event that the kubelet wrote of a probe, or of a start that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeEvent {
    /// UID of the event; a repeat counts up in the same one.
    pub uid: String,
    /// UID of the pod.
    pub pod_uid: String,
    /// The container's name; empty when the event names none.
    pub container: String,
    /// `Unhealthy` or `Killing`; `Failed` or `FailedMount` for a start.
    pub reason: String,
    /// What the kubelet says.
    pub message: String,
    /// How often.
    pub count: u32,
    /// The first time.
    pub first: UnixNanos,
    /// The last time.
    pub last: UnixNanos,
}

impl ProbeEvent {
    /// One line.
    pub fn in_words(&self) -> String {
        match self.count {
            0 | 1 => format!("{}: {}", self.reason, self.message),
            count => format!("{}: {} ({count} times)", self.reason, self.message),
        }
    }

    /// As a diagnosis wants it.
    pub fn context(&self) -> lastwords_diagnosis::pod::ProbeEvent {
        lastwords_diagnosis::pod::ProbeEvent {
            reason: self.reason.clone(),
            message: self.message.clone(),
            count: self.count,
        }
    }
}

/// A pod and what was learned of it over time.
#[derive(Debug, Default)]
pub struct Known {
    /// The pod.
    pub pod: Pod,
    /// When the API no longer had it.
    pub deleted_at: Option<UnixNanos>,
    /// Its probe events, oldest first.
    pub probe_events: VecDeque<ProbeEvent>,
    /// Events of starts that failed, oldest first.
    pub start_events: VecDeque<ProbeEvent>,
    /// When a restart rule last began to restart all its containers.
    pub all_restarted_at: Option<UnixNanos>,
    histories: HashMap<String, History>,
    /// The node's cap on back-off, where this pod's messages show one.
    cap: Option<Duration>,
}

impl Known {
    /// The runs of one of its containers.
    pub fn history(&self, container: &str) -> Option<&History> {
        self.histories.get(container)
    }

    /// Its containers that ran, by name, with their runs.
    pub fn histories(&self) -> impl Iterator<Item = (&str, &History)> {
        self.histories.iter().map(|(name, history)| (name.as_str(), history))
    }

    /// The container of that name.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.pod.containers.iter().find(|container| container.context.name == name)
    }

    /// The container that ran, or runs, under that container id.
    pub fn container_by_id(&self, id: &str) -> Option<&Container> {
        self.pod.containers.iter().find(|container| {
            container.id == id
                || self.history(&container.context.name).is_some_and(|runs| runs.run(id).is_some())
        })
    }

    /// All container ids that are known of it.
    pub fn container_ids(&self) -> impl Iterator<Item = &str> {
        self.histories.values().flat_map(History::runs).map(|run| run.container_id.as_str())
    }
}

/// All pods known.
#[derive(Debug, Default)]
pub struct Pods {
    policy: Policy,
    by_uid: HashMap<String, Known>,
    by_container: HashMap<String, String>,
    by_manifest: HashMap<String, String>,
    by_name: HashMap<(String, String), String>,
    deleted: VecDeque<(UnixNanos, String)>,
    caps: HashMap<String, Duration>,
    /// Those of all pods: what one controller made shares them.
    templates: HashSet<Arc<Template>>,
    forgotten_early: u64,
}

impl Pods {
    /// None known yet.
    pub fn new(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// The pod of that UID; a static pod also by its manifest's hash, which is what its node calls it.
    pub fn by_uid(&self, uid: &str) -> Option<&Known> {
        self.by_uid.get(uid).or_else(|| self.by_uid.get(self.by_manifest.get(uid)?))
    }

    /// The pod in which that container ran.
    pub fn by_container(&self, id: &str) -> Option<&Known> {
        self.by_uid.get(self.by_container.get(id)?)
    }

    /// The pod of that name: the one that exists, else the one that vanished last.
    pub fn by_name(&self, namespace: &str, name: &str) -> Option<&Known> {
        self.by_uid.get(self.by_name.get(&(namespace.to_owned(), name.to_owned()))?)
    }

    /// All of them, also those that vanished a short while ago.
    pub fn all(&self) -> impl Iterator<Item = &Known> {
        self.by_uid.values()
    }

    /// Vanished pods that were forgotten before their time because there were more than [`MAX_DELETED`].
    pub fn forgotten_early(&self) -> u64 {
        self.forgotten_early
    }

    /// The back-off policy of a node: the assumed one, with the cap that the node's messages have shown.
    pub fn policy_of(&self, node: &str) -> Policy {
        let cap = self.caps.get(node).copied().unwrap_or(self.policy.cap);
        Policy { cap, ..self.policy }
    }

    /// Takes a pod as the API shows it now. True when that is news.
    pub fn apply(&mut self, mut pod: Pod) -> bool {
        for container in &mut pod.containers {
            match self.templates.get(&container.template) {
                Some(known) => container.template = Arc::clone(known),
                None => drop(self.templates.insert(Arc::clone(&container.template))),
            }
        }
        let uid = pod.uid.clone();
        let known = self.by_uid.entry(uid.clone()).or_default();
        if known.pod == pod && known.deleted_at.is_none() {
            return false;
        }
        known.deleted_at = None;
        known.all_restarted_at = pod.restarting_all.or(known.all_restarted_at);
        known.pod = pod;
        let mut forgotten = Vec::new();
        for container in &known.pod.containers {
            let history = known.histories.entry(container.context.name.clone()).or_default();
            for run in runs_shown(container) {
                self.by_container.insert(run.container_id.clone(), uid.clone());
                forgotten.extend(history.observe(run));
            }
            known.cap = history.cap_shown(&self.policy).or(known.cap);
        }
        for container_id in forgotten {
            self.by_container.remove(&container_id);
        }
        if let Some(cap) = known.cap {
            self.caps.insert(known.pod.node.clone(), cap);
        }
        if !known.pod.manifest_hash.is_empty() {
            self.by_manifest.insert(known.pod.manifest_hash.clone(), uid.clone());
        }
        self.by_name.insert((known.pod.namespace.clone(), known.pod.name.clone()), uid);
        true
    }

    /// Notes that the API no longer has a pod. True when that is news.
    pub fn delete(&mut self, uid: &str, now: UnixNanos) -> bool {
        match self.by_uid.get_mut(uid) {
            Some(known) if known.deleted_at.is_none() => known.deleted_at = Some(now),
            _ => return false,
        }
        self.deleted.push_back((now, uid.to_owned()));
        while self.deleted.len() > MAX_DELETED {
            if let Some((at, uid)) = self.deleted.pop_front() {
                self.forgotten_early += u64::from(self.forget(&uid, at));
            }
        }
        true
    }

    /// After a complete list: every pod that was not in it is gone, since some time after `contact`. Their UIDs.
    pub fn delete_all_but(
        &mut self,
        listed: &HashSet<String>,
        contact: UnixNanos,
        now: UnixNanos,
    ) -> Vec<String> {
        let gone: Vec<String> = self
            .by_uid
            .iter()
            .filter(|(uid, known)| known.deleted_at.is_none() && !listed.contains(*uid))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in &gone {
            if let Some(known) = self.by_uid.get_mut(uid) {
                known.pod.deletion.get_or_insert(contact);
            }
            self.delete(uid, now);
        }
        gone
    }

    /// Forgets the pods that vanished longer than `keep` ago.
    pub fn expire(&mut self, now: UnixNanos, keep: Duration) {
        self.templates.retain(|template| Arc::strong_count(template) > 1);
        let keep = i64::try_from(keep.as_nanos()).unwrap_or(i64::MAX);
        while let Some((at, uid)) = self.deleted.front().cloned() {
            if now.0.saturating_sub(at.0) < keep {
                break;
            }
            self.deleted.pop_front();
            self.forget(&uid, at);
        }
    }

    /// Takes an event of a probe or of a start. The UID of its pod when that is known and this is news.
    pub fn probe_event(&mut self, event: ProbeEvent) -> Option<String> {
        let known = self.by_uid.get_mut(&event.pod_uid)?;
        let uid = event.pod_uid.clone();
        let of_start = matches!(event.reason.as_str(), "Failed" | "FailedMount");
        let events = if of_start { &mut known.start_events } else { &mut known.probe_events };
        if let Some(same) = events.iter_mut().find(|same| same.uid == event.uid) {
            if *same == event {
                return None;
            }
            *same = event;
        } else {
            events.push_back(event);
            if events.len() > MAX_PROBE_EVENTS {
                events.pop_front();
            }
        }
        events.make_contiguous().sort_by_key(|event| event.last);
        Some(uid)
    }

    /// Takes a run whose end an agent reported, which the API may not show yet.
    pub fn observe_run(&mut self, pod_uid: &str, container: &str, run: Run) {
        let Some(known) = self.by_uid.get_mut(pod_uid) else { return };
        self.by_container.insert(run.container_id.clone(), pod_uid.to_owned());
        if let Some(oldest) = known.histories.entry(container.to_owned()).or_default().observe(run) {
            self.by_container.remove(&oldest);
        }
    }

    /// Forgets a pod that vanished at that time. False when it came back, or vanished again later.
    fn forget(&mut self, uid: &str, deleted_at: UnixNanos) -> bool {
        if self.by_uid.get(uid).is_none_or(|known| known.deleted_at != Some(deleted_at)) {
            return false;
        }
        let Some(known) = self.by_uid.remove(uid) else { return false };
        for container_id in known.container_ids() {
            self.by_container.remove(container_id);
        }
        let name = (known.pod.namespace.clone(), known.pod.name.clone());
        if self.by_name.get(&name).is_some_and(|newest| newest == uid) {
            self.by_name.remove(&name);
        }
        if self.by_manifest.get(&known.pod.manifest_hash).is_some_and(|newest| newest == uid) {
            self.by_manifest.remove(&known.pod.manifest_hash);
        }
        true
    }
}

/// The runs that a container's status speaks of: the one before and the present one.
fn runs_shown(container: &Container) -> Vec<Run> {
    let context = &container.context;
    let mut shown = Vec::new();
    if let Some(last) = &context.terminated
        && !last.container_id.is_empty()
    {
        let before = if last.container_id == container.id { 0 } else { 1 };
        shown.push(Run {
            container_id: last.container_id.clone(),
            restart_count: context.restart_count.saturating_sub(before),
            started_at: Some(last.started_at).filter(|time| time.0 > 0),
            ended_at: Some(last.finished_at),
            terminated: Some(last.clone()),
            ..Run::default()
        });
    }
    if container.id.is_empty() {
        return shown;
    }
    let mut present =
        Run { container_id: container.id.clone(), restart_count: context.restart_count, ..Run::default() };
    match &context.state {
        ContainerState::Running { started_at } => present.started_at = Some(*started_at),
        ContainerState::Terminated(terminated) => {
            present.started_at = Some(terminated.started_at).filter(|time| time.0 > 0);
            present.ended_at = Some(terminated.finished_at);
            present.terminated = Some(terminated.clone());
        }
        ContainerState::Waiting { message, .. } => present.announced = announced_wait(message),
        ContainerState::Unknown => {}
    }
    shown.push(present);
    shown
}

#[cfg(test)]
#[path = "pods_tests.rs"]
pub(crate) mod tests;
