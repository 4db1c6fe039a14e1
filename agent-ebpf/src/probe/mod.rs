//! The hooks, one a file.

mod cgroup;
mod exec;
mod exit;
mod oom;
mod signal;
pub mod socket;
mod syscall;
