//! The pod of a case, as far as a diagnosis looks at it.

use lastwords_diagnosis::PodContext;
use lastwords_diagnosis::pod::{Change, ChangeKind, ContainerContext, Mount, ProbeEvent, Variable};
use serde::Deserialize;

/// Where the case's container stands in its pod.
const CONTAINER: &str = "spec.containers[0]";

/// What a case says of its pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Pod {
    mounts: Vec<VolumeMount>,
    variables: Vec<OfEnvironment>,
    probes: Vec<Probe>,
    events: Vec<Event>,
    changes: Vec<Difference>,
    read_only_root_filesystem: bool,
    run_as_user: Option<i64>,
    memory_limit: String,
    restart_policy: String,
    deleted: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct VolumeMount {
    path: String,
    volume: String,
    /// For example `configmap app-settings`.
    source: String,
    #[serde(default)]
    read_only: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfEnvironment {
    name: String,
    #[serde(default)]
    value: String,
    /// For example `configmap app-settings, key DB_HOST`.
    #[serde(default)]
    source: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Probe {
    /// `liveness`, `startup` or `readiness`.
    kind: String,
    /// For example `http-get :8081/healthz`.
    action: String,
    #[serde(default)]
    port: u16,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    reason: String,
    message: String,
    count: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    /// `argument`, `variable`, `contents`, `image`; anything else is something else.
    kind: String,
    name: String,
    text: String,
}

impl Pod {
    pub(crate) fn context(&self) -> PodContext {
        let Self { mounts, variables, probes, events, changes, .. } = self.clone();
        PodContext {
            name: "pod".to_owned(),
            restart_policy: self.restart_policy.clone(),
            deleted: self.deleted,
            probe_events: events.into_iter().map(Event::context).collect(),
            changes: changes.into_iter().map(Difference::context).collect(),
            container: ContainerContext {
                name: "app".to_owned(),
                field_path: CONTAINER.to_owned(),
                memory_limit: self.memory_limit.clone(),
                run_as_user: self.run_as_user,
                read_only_root_filesystem: self.read_only_root_filesystem,
                mounts: mounts.into_iter().map(VolumeMount::context).collect(),
                variables: variables.into_iter().enumerate().map(OfEnvironment::context).collect(),
                probes: probes.into_iter().map(Probe::context).collect(),
                ..ContainerContext::default()
            },
            ..PodContext::default()
        }
    }
}

impl VolumeMount {
    fn context(self) -> Mount {
        let Self { path, volume, source, read_only } = self;
        Mount { path, volume, source, read_only }
    }
}

impl OfEnvironment {
    fn context((index, Self { name, value, source }): (usize, Self)) -> Variable {
        Variable { name, value, source, field_path: format!("{CONTAINER}.env[{index}]") }
    }
}

impl Probe {
    fn context(self) -> lastwords_diagnosis::pod::Probe {
        let Self { kind, action, port } = self;
        let field_path = format!("{CONTAINER}.{kind}Probe");
        lastwords_diagnosis::pod::Probe {
            kind,
            action,
            port,
            period_seconds: 10,
            timeout_seconds: 1,
            failure_threshold: 3,
            field_path,
            ..lastwords_diagnosis::pod::Probe::default()
        }
    }
}

impl Event {
    fn context(self) -> ProbeEvent {
        let Self { reason, message, count } = self;
        ProbeEvent { reason, message, count }
    }
}

impl Difference {
    fn context(self) -> Change {
        let Self { kind, name, text } = self;
        let kind = match kind.as_str() {
            "argument" => ChangeKind::Argument,
            "variable" => ChangeKind::Variable,
            "contents" => ChangeKind::Contents,
            "image" => ChangeKind::Image,
            _ => ChangeKind::Other,
        };
        Change { kind, name, text }
    }
}
