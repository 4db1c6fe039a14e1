//! What the aggregator is told of the agent itself, so that a person sees by `lastwords nodes` whether a node is watched.

use std::time::{Duration, SystemTime};

use lastwords_proto::v1;

use crate::counters::{self, Counter};

/// How often: a person who asks sees a state of half a minute ago at most, and a thousand agents cost 33 small messages a second.
pub(super) const EVERY: Duration = Duration::from_secs(30);

/// The counters of what was lost or not seen.
const LOSSES: [&Counter; 17] = [
    &counters::RING_RECORDS_DROPPED,
    &counters::RECORDERS_EXHAUSTED,
    &counters::RECORDERS_LOST,
    &counters::GROUPS_EXHAUSTED,
    &counters::LISTENERS_EXHAUSTED,
    &counters::DECODE_ERRORS,
    &counters::EXECS_DROPPED,
    &counters::OOM_KILLS_DROPPED,
    &counters::FAULT_PLACES_LOST,
    &counters::ENDS_UNSEEN,
    &counters::LOOKS_DROPPED,
    &counters::SPOOL_DROPPED_FULL,
    &counters::SPOOL_DROPPED_MEMORY,
    &counters::SPOOL_DROPPED_TOO_LARGE,
    &counters::SPOOL_DROPPED_CORRUPT,
    &counters::SPOOL_WRITE_ERRORS,
    &counters::REPORTS_REJECTED,
];

pub(super) fn now(pending: usize) -> v1::Heartbeat {
    let losses = LOSSES.iter().filter(|counter| counter.value() > 0);
    v1::Heartbeat {
        sent_at: Some(SystemTime::now().into()),
        pending_reports: u64::try_from(pending).unwrap_or(u64::MAX),
        losses: losses
            .map(|counter| v1::Count { name: counter.name.to_owned(), value: counter.value() })
            .collect(),
    }
}
