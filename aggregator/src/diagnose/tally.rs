//! What was judged, counted.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use lastwords_proto::v1;

use crate::lock;

/// By cause and confidence, both by the names of the wire.
type Counts = BTreeMap<(&'static str, &'static str), u64>;

/// What crashes were judged to be since the start, here.
#[derive(Debug, Default)]
pub struct Tally {
    first: Mutex<Counts>,
    newer: Mutex<Counts>,
}

impl Tally {
    pub(super) fn note(&self, diagnosis: &v1::Diagnosis) {
        let counts = if diagnosis.revision <= 1 { &self.first } else { &self.newer };
        let key = (diagnosis.cause().as_str_name(), diagnosis.confidence().as_str_name());
        *lock(counts).entry(key).or_default() += 1;
    }

    /// Crashes by their first diagnosis.
    pub fn first(&self) -> Vec<((&'static str, &'static str), u64)> {
        lock(&self.first).clone().into_iter().collect()
    }

    /// Newer diagnoses.
    pub fn newer(&self) -> Vec<((&'static str, &'static str), u64)> {
        lock(&self.newer).clone().into_iter().collect()
    }
}

/// What was made anew, and what was not.
#[derive(Debug, Default)]
pub struct Revisions {
    /// Newer diagnoses stored.
    pub made: AtomicU64,
    /// Crashes that were no longer followed because too many were unsettled.
    pub dropped: AtomicU64,
    /// Reports removed again, because the pod that they spoke of turned out to be on another node than their agent.
    pub of_other_nodes: AtomicU64,
    /// Newer diagnoses that the store could not take.
    pub failed: AtomicU64,
    /// Times that a crash of another aggregator could not be read from the store; it is tried again.
    pub unread: AtomicU64,
}
