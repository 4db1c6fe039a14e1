//! The hooks, one a file.

mod capability;
mod cgroup;
pub mod dns;
mod exec;
mod exit;
mod io_uring;
pub mod listener;
mod oom;
mod packet;
mod signal;
pub mod socket;
mod startup;
mod syscall;
