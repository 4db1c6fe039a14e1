//! The hooks, one a file.

mod capability;
mod cgroup;
mod exec;
mod exit;
mod io_uring;
pub mod listener;
mod oom;
mod signal;
pub mod socket;
mod startup;
mod syscall;
