//! Conversions between what travels ([`crate::v1`]) and what is judged ([`lastwords_diagnosis`]).
//!
//! Every struct is taken apart field by field without `..`, so that a new field breaks the build here instead of being lost.
//! A time of 0 and an absent timestamp are the same: nothing died in 1970.

mod from_wire;
mod to_wire;

pub use from_wire::crash_to_evidence;
pub use to_wire::{diagnosis_to_wire, evidence_to_crash};
