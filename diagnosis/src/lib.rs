//! Names the cause of a container's death.
//!
//! One pure function, [`diagnose`]: evidence (and the pod's state where there is one) in, a [`Diagnosis`] out. No clock, no
//! input or output, nothing asynchronous; the same evidence always gives the same diagnosis.
//!
//! How it goes: [`case`] orders the evidence (who ended the process, which failed calls stand near that end, see [`calls`] and
//! [`noise`]); [`rules`] holds one file a cause and the one list that says which of them wins; [`words`] and [`quantity`] make
//! the sentences.

mod calls;
mod case;
mod changed;
mod context;
pub mod errno;
pub mod evidence;
mod fault;
mod log;
mod memory;
mod noise;
mod planned;
pub mod pod;
mod quantity;
mod rules;
pub mod signals;
pub mod signature;
mod startup;
pub mod variables;
pub mod verdict;
mod words;

pub use evidence::Evidence;
use noise::Noise;
pub use pod::PodContext;
pub use quantity::{about, binary_quantity, parse_quantity};
pub use verdict::{Cause, Confidence, Diagnosis, EvidenceRef};
pub use words::{holder, span, waiting_in};

/// Why this container died, with the pod's state where it is known.
pub fn diagnose(evidence: &Evidence, pod: Option<&PodContext>) -> Diagnosis {
    rules::decide(&case::Case::new(evidence, pod, Noise::Known), None)
}

/// A part of the knowledge that goes into a diagnosis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The rule file of this cause.
    Rule(Cause),
    /// What is known of failed calls that healthy programs make: the tables of such calls, and that a thing which was found later was
    /// not missing.
    Noise,
}

/// The diagnosis that a [`Part`] switched off leaves. No program for users asks for it: tests show with it that each part is needed.
pub fn diagnose_without(part: Part, evidence: &Evidence, pod: Option<&PodContext>) -> Diagnosis {
    match part {
        Part::Rule(cause) => rules::decide(&case::Case::new(evidence, pod, Noise::Known), Some(cause)),
        Part::Noise => rules::decide(&case::Case::new(evidence, pod, Noise::Ignored), None),
    }
}
