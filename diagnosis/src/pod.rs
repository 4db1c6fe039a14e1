//! What the Kubernetes API tells of the pod, as far as a diagnosis needs it. The aggregator's pairing makes it.

use crate::evidence::UnixNanos;

/// The pod and, in it, the container that died.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodContext {
    /// Name of the pod.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its UID.
    pub uid: String,
    /// The node it is bound to.
    pub node: String,
    /// The controller that owns it, for example `deployment/api`; empty for a bare pod.
    pub owner: String,
    /// `Pending`, `Running`, `Succeeded`, `Failed`, `Unknown`; empty when not known.
    pub phase: String,
    /// `status.reason`, for example `Evicted`; empty when there is none.
    pub reason: String,
    /// `status.message`; empty when there is none.
    pub message: String,
    /// Why it is to be deleted, where something other than a person or its controller wants that: condition `DisruptionTarget`.
    pub disruption: Disruption,
    /// `Always`, `OnFailure` or `Never`.
    pub restart_policy: String,
    /// True once the API no longer has the pod.
    pub deleted: bool,
    /// Why the kubelet had this run stopped though nothing was wrong with it; `None` where Kubernetes shows no such reason.
    pub stop: Option<Stop>,
    /// True when this run ended like the one before it, and so soon that the kubelet waits before the next start.
    pub repeats: bool,
    /// `spec.resources.limits.memory`, the limit that all its containers share, as the user wrote it; empty without one.
    pub memory_limit: String,
    /// What the kubelet said of the container's probes during this run, as in `pod_state.probe_events`.
    pub probe_events: Vec<ProbeEvent>,
    /// How the pod's template differs from the last one that was healthy, as in `pod_state.changed_since_last_good`.
    pub changes: Vec<Change>,
    /// Signatures ([`crate::signature`]) of failed calls that runs of the same image made while they went well.
    pub harmless: Vec<u64>,
    /// Containers on the same node that hold what this one wanted, by the ids that the evidence names.
    pub neighbours: Vec<Neighbour>,
    /// The container that died.
    pub container: ContainerContext,
}

impl PodContext {
    /// The field that has the kubelet start the container again whenever it is done, for example `spec.restartPolicy`.
    pub fn always_restarted_by(&self) -> Option<String> {
        let container = &self.container;
        let path = &container.field_path;
        match container.restart_policy.as_str() {
            "Always" => Some(format!("{path}.restartPolicy")),
            "" if path.starts_with("spec.initContainers") || path.starts_with("spec.ephemeralContainers") => {
                None
            }
            "" if self.restart_policy == "Always" => Some("spec.restartPolicy".to_owned()),
            _ => None,
        }
    }
}

/// The pod's condition `DisruptionTarget`; empty without one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Disruption {
    /// For example `PreemptionByScheduler`, `EvictionByEvictionAPI`, `TerminationByKubelet`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// When that was asked for: `lastTransitionTime`; 0 when it is not known.
    pub since: UnixNanos,
}

/// Why the kubelet stops a container with which nothing is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Somebody, or the pod's controller, had asked for the pod's deletion.
    PodDeleted,
    /// The pod's own containers had done their work, which ends its sidecars.
    PodDone,
    /// Another container ended so that a restart rule restarts them all (`RestartAllContainers`, Kubernetes 1.35).
    AllRestarted {
        /// That container; empty when it is not known.
        by: String,
    },
}

/// One of `restartPolicyRules` (Kubernetes 1.34) that lists exit codes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestartRule {
    /// `Restart` or `RestartAllContainers`.
    pub action: String,
    /// True for the operator `NotIn`: it holds for all codes but those.
    pub not_in: bool,
    /// The exit codes.
    pub codes: Vec<i32>,
}

impl RestartRule {
    /// True when it holds for this exit code.
    pub fn holds(&self, code: i32) -> bool {
        self.codes.contains(&code) != self.not_in
    }
}

/// A container that the evidence names by its id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Neighbour {
    /// 64 hexadecimal digits.
    pub container_id: String,
    /// Its name.
    pub container: String,
    /// Its pod.
    pub pod: String,
    /// That pod's namespace.
    pub namespace: String,
    /// True when it is a container of the same pod.
    pub same_pod: bool,
}

/// An event of the kubelet on a probe.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProbeEvent {
    /// `Unhealthy` or `Killing`.
    pub reason: String,
    /// For example `Container app failed liveness probe, will be restarted`.
    pub message: String,
    /// How often.
    pub count: u32,
}

/// One difference between two pod templates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// What it is of.
    pub kind: ChangeKind,
    /// The thing's name: that of a variable, the argument as it is now, the path of a mount; empty where there is one of the kind.
    pub name: String,
    /// For people, without values of variables: `spec.containers[0].env[DB_HOST]: value changed`.
    pub text: String,
}

/// What a change is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChangeKind {
    /// Anything else.
    #[default]
    Other,
    /// The image.
    Image,
    /// `command` or `args`.
    Argument,
    /// `env` or `envFrom`.
    Variable,
    /// `volumeMounts`, or what a volume is.
    Mount,
    /// The contents of a mounted ConfigMap or Secret.
    Contents,
    /// `resources`.
    Resources,
    /// `securityContext`.
    Security,
    /// A probe.
    Probe,
}

/// One container of a pod: what its spec asks for and what its status says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerContext {
    /// Its name.
    pub name: String,
    /// Where it stands in the pod, for remedies: `spec.containers[0]`, `spec.initContainers[1]`, `spec.ephemeralContainers[0]`.
    pub field_path: String,
    /// Its image as written in the spec.
    pub image: String,
    /// `resources.limits.memory` as the user wrote it, for example `64Mi`; empty without a limit.
    pub memory_limit: String,
    /// `securityContext.runAsUser` of the container, else of the pod.
    pub run_as_user: Option<i64>,
    /// `securityContext.readOnlyRootFilesystem`.
    pub read_only_root_filesystem: bool,
    /// Volume mounts.
    pub mounts: Vec<Mount>,
    /// `env`, in the order of the spec.
    pub variables: Vec<Variable>,
    /// Its probes.
    pub probes: Vec<Probe>,
    /// The container's own `restartPolicy`: `Always` for a sidecar; empty for most.
    pub restart_policy: String,
    /// Its `restartPolicyRules`, in order: the first that holds decides.
    pub restart_rules: Vec<RestartRule>,
    /// Restarts as Kubernetes counts them.
    pub restart_count: i32,
    /// True when it passes readiness.
    pub ready: bool,
    /// Its state now.
    pub state: ContainerState,
    /// The end of the run that this crash is about, as Kubernetes tells it.
    pub terminated: Option<Terminated>,
}

/// One volume mount.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    /// `mountPath`.
    pub path: String,
    /// The volume's name in the pod.
    pub volume: String,
    /// What the volume is, for people: `configmap app-settings`, `secret tls`, `emptyDir`, `persistentvolumeclaim data`.
    pub source: String,
    /// `readOnly`.
    pub read_only: bool,
}

/// One of `env`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// `value` as written; empty when it comes from elsewhere.
    pub value: String,
    /// Where it comes from, for people: `configmap app-settings, key DB_HOST`; empty for a value that stands in the spec.
    pub source: String,
    /// Where it stands: `spec.containers[0].env[3]`.
    pub field_path: String,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Probe {
    /// `liveness`, `startup` or `readiness`.
    pub kind: String,
    /// What it does: `http-get :8081/healthz`, `tcp-socket :5432`, `grpc :9090`, `exec [cat /tmp/healthy]`.
    pub action: String,
    /// The port it asks; 0 for exec, or for a name that no port of the container has.
    pub port: u16,
    /// `initialDelaySeconds`.
    pub initial_delay_seconds: u32,
    /// `periodSeconds`, 10 when not given.
    pub period_seconds: u32,
    /// `timeoutSeconds`, 1 when not given.
    pub timeout_seconds: u32,
    /// `failureThreshold`, 3 when not given.
    pub failure_threshold: u32,
    /// Where it stands: `spec.containers[0].livenessProbe`.
    pub field_path: String,
}

/// What a container does now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ContainerState {
    /// The API has not said.
    #[default]
    Unknown,
    /// `state.waiting`.
    Waiting {
        /// For example `CrashLoopBackOff`.
        reason: String,
        /// For example `back-off 10s restarting failed container=app pod=…`.
        message: String,
    },
    /// `state.running`.
    Running {
        /// Since when.
        started_at: UnixNanos,
    },
    /// `state.terminated`.
    Terminated(Terminated),
}

/// `state.terminated` or `lastState.terminated`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Terminated {
    /// For example `OOMKilled`, `Error`, `Completed`, `StartError`.
    pub reason: String,
    /// `message`; empty but for StartError and termination messages.
    pub message: String,
    /// 0 to 255; 128 + n after signal n.
    pub exit_code: i32,
    /// Start of the run.
    pub started_at: UnixNanos,
    /// End of the run.
    pub finished_at: UnixNanos,
    /// `containerd://<64 hex digits>` without the scheme.
    pub container_id: String,
}

impl Terminated {
    /// Exit codes of a container that is stopped: by itself, by SIGTERM, by SIGKILL.
    const STOPPED: [i32; 3] = [0, 143, 137];

    /// True for an end as that of a container that was stopped from outside; any other has a reason of its own.
    pub fn looks_stopped(&self) -> bool {
        self.reason != "OOMKilled" && Self::STOPPED.contains(&self.exit_code)
    }
}
