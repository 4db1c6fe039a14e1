//! Names the cause of a container's death.
//!
//! One pure function, [`diagnose`]: evidence (and the pod's state where there is one) in, a [`Diagnosis`] out. No clock, no
//! input or output, nothing asynchronous; the same evidence always gives the same diagnosis.

pub mod evidence;
pub mod pod;
pub mod verdict;

pub use evidence::Evidence;
pub use pod::PodContext;
pub use verdict::{Cause, Confidence, Diagnosis, EvidenceRef};
