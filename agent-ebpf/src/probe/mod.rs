//! The hooks, one a file.

mod cgroup;
mod exec;
mod exit;
pub mod listener;
mod oom;
mod signal;
pub mod socket;
mod syscall;
