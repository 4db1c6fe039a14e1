//! The Kubernetes API: pods and probe events, read only. The only place that knows `kube`.

mod connect;
mod container;
mod events;
mod pod;
mod probe;
mod volumes;
mod watch;

pub use connect::{Access, check_kubeconfig};
pub use events::KubernetesEvent;
pub use pod::KubernetesPod;
pub use watch::{Cluster, follow};
