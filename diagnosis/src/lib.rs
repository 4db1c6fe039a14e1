//! Names the cause of a container's death.
//!
//! One pure function, [`diagnose`]: evidence (and the pod's state where there is one) in, a [`Diagnosis`] out. No clock, no
//! input or output, nothing asynchronous; the same evidence always gives the same diagnosis.

pub mod errno;
pub mod evidence;
pub mod pod;
pub mod signals;
pub mod verdict;

pub use evidence::Evidence;
pub use pod::PodContext;
pub use verdict::{Cause, Confidence, Diagnosis, EvidenceRef};

/// Why this container died, with the pod's state where it is known.
pub fn diagnose(evidence: &Evidence, _pod: Option<&PodContext>) -> Diagnosis {
    let ended_by_itself = evidence.exit.as_ref().is_some_and(|exit| exit.signal == 0 && exit.code == 0);
    if ended_by_itself {
        return Diagnosis {
            cause: Cause::Completed,
            confidence: Confidence::High,
            summary: "the main process ended by itself with exit code 0".to_owned(),
            object: "exit code 0".to_owned(),
            evidence: vec![EvidenceRef::Exit],
            ..Diagnosis::default()
        };
    }
    Diagnosis {
        summary: "what was recorded does not show why the container ended".to_owned(),
        ..Diagnosis::default()
    }
}
