//! What became of the reports. Received = stored + duplicate + retry + rejected, by reason, once every stream has ended.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a report can never be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// It carries no crash.
    NoCrash,
    /// Its spool id or sequence is none.
    BadIdentity,
    /// Its node is not that of the stream's hello, or its pod is on another one than the agent's.
    OtherNode,
    /// It names no container, or no usable time of death, or numbers that are none.
    Malformed,
    /// It is larger than `ingest.max_report_bytes`.
    TooLarge,
}

impl Rejection {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 5] =
        [Self::NoCrash, Self::BadIdentity, Self::OtherNode, Self::Malformed, Self::TooLarge];

    /// The name under which it is counted.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoCrash => "no_crash",
            Self::BadIdentity => "bad_identity",
            Self::OtherNode => "other_node",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
        }
    }
}

/// Counts of reports since the start.
#[derive(Debug, Default)]
pub struct Reports {
    received: AtomicU64,
    stored: AtomicU64,
    duplicate: AtomicU64,
    retry: AtomicU64,
    rejected: [AtomicU64; Rejection::ALL.len()],
}

/// The counts at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Reports that arrived.
    pub received: u64,
    /// Stored as new crashes.
    pub stored: u64,
    /// Stored before, acknowledged again.
    pub duplicate: u64,
    /// Could not be stored; the agent was asked to send them again.
    pub retry: u64,
    /// Refused, in the order of [`Rejection::ALL`].
    pub rejected: [u64; Rejection::ALL.len()],
}

impl Reports {
    pub(crate) fn received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn stored(&self) {
        self.stored.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn duplicate(&self) {
        self.duplicate.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn retry(&self) {
        self.retry.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn rejected(&self, rejection: Rejection) {
        if let Some(counter) = self.rejected.get(rejection as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts now.
    pub fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            received: of(&self.received),
            stored: of(&self.stored),
            duplicate: of(&self.duplicate),
            retry: of(&self.retry),
            rejected: self.rejected.each_ref().map(of),
        }
    }
}

impl Counts {
    /// Reports whose end is counted; equal to `received` once every stream has ended.
    pub fn accounted(&self) -> u64 {
        self.stored + self.duplicate + self.retry + self.rejected.iter().sum::<u64>()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { received, stored, duplicate, retry, rejected } = self;
        write!(f, "received {received} = stored {stored} + duplicate {duplicate} + retry {retry}")?;
        for (reason, count) in Rejection::ALL.iter().zip(rejected) {
            write!(f, " + {} {count}", reason.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_is_counted_once() {
        let reports = Reports::default();
        for rejection in Rejection::ALL {
            reports.received();
            reports.rejected(rejection);
        }
        let ends = [Reports::stored, Reports::duplicate, Reports::retry];
        for end in ends {
            reports.received();
            end(&reports);
        }
        let counts = reports.counts();
        assert_eq!((counts.received, counts.accounted(), counts.rejected), (8, 8, [1; 5]));
        assert_eq!(
            counts.to_string(),
            "received 8 = stored 1 + duplicate 1 + retry 1 + no_crash 1 + bad_identity 1 + other_node 1 + malformed 1 + too_large 1"
        );
    }
}
