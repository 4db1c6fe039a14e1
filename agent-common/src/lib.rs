//! The contract between the kernel side (`agent-ebpf`) and the node side (`agent`): every record that crosses, every kernel field
//! that is read, every capacity. Compiled for both, hence `no_std`, and knows neither of them.
#![no_std]

pub mod group_place;
pub mod limits;
pub mod names;
pub mod offsets;
pub mod record;
pub mod rules;
