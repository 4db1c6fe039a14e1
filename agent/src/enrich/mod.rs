//! What the node still knows of a container that the kernel's record does not hold: its limits, its process as procfs showed it,
//! the files its calls failed on, and the end of its log. Every reader takes a root path and tolerates what is gone.

pub mod cgroup;
pub mod environment;
pub mod file_facts;
pub mod holder;
pub mod limits;
pub mod log_tail;
pub mod mounts;
pub mod options;
pub mod procfs;
pub mod sockets;
pub mod symbols;

mod module;
mod program;
mod read;
