//! The Kubernetes API: pods and probe events are read, causes are written as events. The only place that knows `kube`.

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

pub use announce::Announced;
pub use auth::{Reviewer, Unanswered};
pub use connect::{Access, check_kubeconfig};
pub use events::KubernetesEvent;
pub use pod::KubernetesPod;
pub use security::{Security, secure};
pub use watch::{Announcing, Cluster, Listed, contend, follow};
