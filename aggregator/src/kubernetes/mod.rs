//! The Kubernetes API: pods and probe events are read, causes are written as events and, where asked for, annotations. The only place that knows `kube`.

mod annotate;
mod announce;
mod auth;
mod authority;
mod caller_certificates;
mod connect;
mod container;
mod events;
mod lease;
mod pod;
mod probe;
mod security;
mod volumes;
mod watch;

pub use annotate::{Annotated, Annotating};
pub use announce::Announced;
pub use auth::{Reviewer, Unanswered};
pub use connect::{Access, check_kubeconfig};
pub use events::KubernetesEvent;
pub use pod::KubernetesPod;
pub use security::{Security, secure};
pub use watch::{Announcing, Cluster, Listed, OnPods, contend, follow};
