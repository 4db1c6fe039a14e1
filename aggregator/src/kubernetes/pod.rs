//! The part of a Pod that is read from the API, and its reduction to [`pods::Pod`]. Everything else is skipped while parsing,
//! which keeps a page of 500 pods small.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::Resource;
use lastwords_diagnosis::evidence::UnixNanos;
use lastwords_diagnosis::pod::{ContainerState, Disruption, Terminated};
use serde::Deserialize;

use super::container::{self, ContainerSpec, Resources, SecurityContext};
use super::volumes::Volume;
use crate::pods::{self, Kind};

/// A static pod's mirror carries here the hash that its node knows it by.
const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// Labels of a pod kept: twice what anybody puts there. By those beyond it cannot be found.
const MOST_LABELS: usize = 64;
/// Longest message taken from a status, in bytes: the kubelet cuts termination messages at 4096 itself.
const MAX_MESSAGE: usize = 4096;

/// A pod as the API gives it.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct KubernetesPod {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    node_name: String,
    runtime_class_name: String,
    restart_policy: String,
    termination_grace_period_seconds: Option<i64>,
    pub(super) security_context: Option<SecurityContext>,
    pub(super) resources: Option<Resources>,
    init_containers: Option<Vec<ContainerSpec>>,
    containers: Option<Vec<ContainerSpec>>,
    ephemeral_containers: Option<Vec<ContainerSpec>>,
    pub(super) volumes: Option<Vec<Volume>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: String,
    reason: String,
    message: String,
    conditions: Option<Vec<Condition>>,
    init_container_statuses: Option<Vec<ContainerStatus>>,
    container_statuses: Option<Vec<ContainerStatus>>,
    ephemeral_container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
    message: String,
    #[serde(rename = "lastTransitionTime")]
    since: Option<Time>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ContainerStatus {
    name: String,
    #[serde(rename = "containerID")]
    pub(super) container_id: Option<String>,
    pub(super) restart_count: i32,
    pub(super) ready: bool,
    pub(super) state: Option<State>,
    pub(super) last_state: Option<State>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct State {
    waiting: Option<Waiting>,
    running: Option<Running>,
    pub(super) terminated: Option<TerminatedState>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Waiting {
    reason: Option<String>,
    message: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Running {
    started_at: Option<Time>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TerminatedState {
    exit_code: i32,
    reason: Option<String>,
    message: Option<String>,
    started_at: Option<Time>,
    finished_at: Option<Time>,
    #[serde(rename = "containerID")]
    container_id: Option<String>,
}

impl Resource for KubernetesPod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> std::borrow::Cow<'_, str> {
        "Pod".into()
    }

    fn group((): &()) -> std::borrow::Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> std::borrow::Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> std::borrow::Cow<'_, str> {
        "pods".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl KubernetesPod {
    /// Its UID; empty when the API gave none.
    pub fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Reduced to what is kept.
    pub fn reduce(self) -> pods::Pod {
        let spec = &self.spec;
        let status = &self.status;
        let lists = [
            (Kind::Init, "initContainers", &spec.init_containers, &status.init_container_statuses),
            (Kind::Regular, "containers", &spec.containers, &status.container_statuses),
            (
                Kind::Ephemeral,
                "ephemeralContainers",
                &spec.ephemeral_containers,
                &status.ephemeral_container_statuses,
            ),
        ];
        let mut containers = Vec::new();
        for (kind, list, specs, statuses) in lists {
            for (index, container) in specs.iter().flatten().enumerate() {
                let status = statuses.iter().flatten().find(|status| status.name == container.name);
                containers.push(container::reduce(
                    spec,
                    container,
                    status,
                    kind,
                    format!("spec.{list}[{index}]"),
                ));
            }
        }
        let owner = self.owner();
        pods::Pod {
            uid: self.uid().to_owned(),
            manifest_hash: self.annotation(CONFIG_HASH),
            name: self.metadata.name.clone().unwrap_or_default(),
            namespace: self.metadata.namespace.clone().unwrap_or_default(),
            node: spec.node_name.clone(),
            runtime_class: spec.runtime_class_name.clone(),
            labels: self.labels(),
            controller: Some(self.controller()).filter(|it| *it != owner).unwrap_or_default(),
            owner,
            phase: status.phase.clone(),
            reason: status.reason.clone(),
            message: cut(status.message.clone()),
            disruption: status.disruption(),
            deletion: self.deletion(),
            restarting_all: status.condition("AllContainersRestarting").map(|it| nanos(it.since.as_ref())),
            // 30 is what the API server fills in.
            grace_seconds: spec.termination_grace_period_seconds.unwrap_or(30).max(0),
            restart_policy: spec.restart_policy.clone(),
            memory_limit: spec.resources.as_ref().map(Resources::memory_limit).unwrap_or_default(),
            containers,
        }
    }

    /// When its deletion was asked for: the API gives the time at which the grace period is over.
    fn deletion(&self) -> Option<UnixNanos> {
        let over = nanos(Some(self.metadata.deletion_timestamp.as_ref()?));
        let grace = self.metadata.deletion_grace_period_seconds.unwrap_or(0).max(0);
        Some(UnixNanos(over.0.saturating_sub(grace.saturating_mul(1_000_000_000))))
    }

    fn annotation(&self, key: &str) -> String {
        self.metadata.annotations.as_ref().and_then(|all| all.get(key)).cloned().unwrap_or_default()
    }

    fn labels(&self) -> Vec<(String, String)> {
        let labels = self.metadata.labels.iter().flatten().take(MOST_LABELS);
        labels.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    fn owner_reference(&self) -> Option<&OwnerReference> {
        let owners = self.metadata.owner_references.as_deref().unwrap_or_default();
        owners.iter().find(|owner| owner.controller == Some(true))
    }

    /// The controller itself, for example `replicaset/api-5d8`.
    fn controller(&self) -> String {
        let owner = self.owner_reference();
        owner.map_or_else(String::new, |owner| format!("{}/{}", owner.kind.to_lowercase(), owner.name))
    }

    /// The controller, for example `statefulset/db`; for a ReplicaSet that a Deployment made, the Deployment.
    fn owner(&self) -> String {
        let Some(owner) = self.owner_reference() else { return String::new() };
        let hash = self.metadata.labels.as_ref().and_then(|labels| labels.get("pod-template-hash"));
        let deployment = hash.and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
        match (owner.kind.as_str(), deployment) {
            ("ReplicaSet", Some(deployment)) => format!("deployment/{deployment}"),
            _ => self.controller(),
        }
    }
}

impl Status {
    /// The condition, if it is true.
    fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().flatten().find(|it| it.kind == kind && it.status == "True")
    }

    fn disruption(&self) -> Disruption {
        self.condition("DisruptionTarget").map_or_else(Disruption::default, |target| Disruption {
            reason: target.reason.clone(),
            message: cut(target.message.clone()),
            since: nanos(target.since.as_ref()),
        })
    }
}

pub(super) fn state(state: Option<&State>) -> ContainerState {
    match state {
        Some(State { waiting: Some(waiting), .. }) => ContainerState::Waiting {
            reason: waiting.reason.clone().unwrap_or_default(),
            message: cut(waiting.message.clone().unwrap_or_default()),
        },
        Some(State { running: Some(running), .. }) => {
            ContainerState::Running { started_at: nanos(running.started_at.as_ref()) }
        }
        Some(State { terminated: Some(ended), .. }) => ContainerState::Terminated(terminated(ended)),
        _ => ContainerState::Unknown,
    }
}

pub(super) fn terminated(ended: &TerminatedState) -> Terminated {
    Terminated {
        reason: ended.reason.clone().unwrap_or_default(),
        message: cut(ended.message.clone().unwrap_or_default()),
        exit_code: ended.exit_code,
        started_at: nanos(ended.started_at.as_ref()),
        finished_at: nanos(ended.finished_at.as_ref()),
        container_id: ended.container_id.as_deref().map(without_scheme).unwrap_or_default(),
    }
}

/// `containerd://3f…` without the runtime's name.
pub(super) fn without_scheme(id: &str) -> String {
    id.split_once("://").map_or(id, |(_, id)| id).to_owned()
}

/// Nanoseconds of a time of the API; 0 when absent.
pub(super) fn nanos(time: Option<&Time>) -> UnixNanos {
    UnixNanos(time.map_or(0, |time| i64::try_from(time.0.as_nanosecond()).unwrap_or(0)))
}

/// Cuts a message at [`MAX_MESSAGE`].
pub(super) fn cut(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message.truncate(end);
    }
    message
}
