//! The hooks, one a file.

mod blocked;
mod capability;
mod cgroup;
pub mod dns;
mod exec;
mod exit;
mod io_uring;
pub mod listener;
pub mod lock;
mod oom;
mod packet;
pub mod peer;
mod registers;
mod seccomp;
mod signal;
pub mod socket;
mod socket_error;
mod startup;
mod stream;
mod syscall;
pub mod unix;
