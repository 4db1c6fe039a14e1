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
    /// `Always`, `OnFailure` or `Never`.
    pub restart_policy: String,
    /// True once the API no longer has the pod.
    pub deleted: bool,
    /// The container that died.
    pub container: ContainerContext,
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
