//! The node's agent: reads the kernel's record of a death, adds what the node still knows, and ships a crash report.

pub mod args;
pub mod assemble;
pub mod check;
pub mod clock;
pub mod config;
pub mod container;
pub mod counters;
pub mod decode;
pub mod enrich;
pub mod escape;
pub mod ingest;
pub mod kernel;
pub mod last_run;
pub mod listeners;
pub mod look;
pub mod looked;
pub mod memory;
pub mod metrics;
pub mod program;
pub mod quantity;
pub mod redact;
pub mod report;
pub mod run;
pub mod ship;
pub mod spool;
pub mod telemetry;
pub mod tracker;
pub mod try_command;

/// Bytes of a page of memory on this machine.
#[must_use]
pub fn page_bytes() -> u64 {
    let asked = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    asked.ok().flatten().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(4096)
}
