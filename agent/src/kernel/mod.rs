//! Everything between the agent and the kernel: finding the fields, loading and attaching the probes with a verdict for each, and
//! reading the flight recorders. With `ingest.rs` the only place that knows aya.

mod attach;
pub mod btf;
mod group_places;
mod load;
mod maps;
mod plain;
mod probes;
mod registers;
pub mod signals;
pub mod syscalls;
mod system_calls;
pub mod verdict;

pub use load::{Kernel, LoadError, Programs};
pub use maps::{CounterMap, FaultMap, GroupMap, ListenerMap, RecorderMap};
