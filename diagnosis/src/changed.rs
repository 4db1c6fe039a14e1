//! What was changed in the pod's template since it last ran well.
//!
//! A change explains an end only where nothing else does: a program that dies of what it was started with fails no call. A new image is a
//! new program, and then the rest may well be right.

use crate::case::Case;
use crate::pod::{Change, ChangeKind};
use crate::startup::{self, Startup};
use crate::verdict::{Confidence, EvidenceRef};
use crate::words;

/// One change of a kind, for an end that nothing else explains.
pub(crate) struct Blamed<'a> {
    pub(crate) startup: Startup,
    pub(crate) change: &'a Change,
    /// Medium when nothing else was changed.
    pub(crate) confidence: Confidence,
    /// The change, then the exit.
    pub(crate) evidence: Vec<EvidenceRef>,
}

/// The first change of this kind, when the program ended itself while starting, quietly, and its image is the one that ran well.
pub(crate) fn blamed<'a>(case: &Case<'a>, kind: ChangeKind) -> Option<Blamed<'a>> {
    let startup = startup::quiet(case)?;
    let changes = case.pod?.changes.as_slice();
    if changes.iter().any(|change| change.kind == ChangeKind::Image) {
        return None;
    }
    let (index, change) = changes.iter().enumerate().find(|(_, change)| change.kind == kind)?;
    // A renamed argument is two changes.
    let alone = changes.iter().all(|change| change.kind == kind) && changes.len() <= 2;
    Some(Blamed {
        startup,
        change,
        confidence: if alone { Confidence::Medium } else { Confidence::Low },
        evidence: vec![EvidenceRef::Change(index), EvidenceRef::Exit],
    })
}

impl Blamed<'_> {
    /// The sentence up to what was changed.
    pub(crate) fn sentence(&self, case: &Case<'_>) -> String {
        format!(
            "{}, and no call failed that would explain it; since it last ran well this was changed: {}",
            self.startup.ended(case, ""),
            words::one_line(&self.change.text)
        )
    }
}

/// The change of the variable of that name, with its place among the changes.
pub(crate) fn variable<'a>(case: &Case<'a>, name: &str) -> Option<(usize, &'a Change)> {
    let changes = case.pod?.changes.iter().enumerate();
    changes.into_iter().find(|(_, change)| change.kind == ChangeKind::Variable && change.name == name)
}
