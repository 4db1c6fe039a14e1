//! A node to test on, without a cluster.
//!
//! [`api_server`] stands in for the Kubernetes API server and [`kubelet`] for the kubelet: the first keeps objects and
//! serves list, watch and tables over real HTTP, the second runs the containers of pods bound to its node with runc.
//! Neither is Kubernetes; each behaves as a recorded 1.36 cluster did in the points that Lastwords and kubectl rely on.
//! [`containers`] are containers with no runtime around them, for deaths by the hundred.
//! [`programs`] starts the release binaries around them for the tests of the whole path, [`lastwords`] aggregator and agent.

pub mod api_server;
pub mod containers;
pub mod demo;
pub mod http;
pub mod kubelet;
pub mod lastwords;
pub mod patience;
pub mod programs;
pub mod rendered;
pub mod time;
