//! What is told of containers that run well. It is told at best once: the aggregator forgets nothing that it needs by missing one.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use lastwords_proto::v1;
use tokio::sync::Notify;

use crate::counters;

/// Runs that wait for the aggregator at most, each with at most 2 KiB. A node starts fewer in the minutes that it may be away.
const MOST: usize = 256;

/// Runs that wait to be told.
#[derive(Debug, Default)]
pub struct HealthyRuns {
    waiting: Mutex<VecDeque<v1::HealthyRun>>,
    more: Notify,
}

impl HealthyRuns {
    /// Adds one. When there are too many the oldest goes.
    pub fn push(&self, run: v1::HealthyRun) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() == MOST {
            waiting.pop_front();
            counters::HEALTHY_RUNS_DROPPED.increment();
        }
        waiting.push_back(run);
        self.more.notify_one();
    }

    pub(super) fn pop(&self) -> Option<v1::HealthyRun> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Resolves when one was added.
    pub(super) async fn more(&self) {
        self.more.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let runs = HealthyRuns::default();
        for failure in 0..=MOST as u64 {
            runs.push(v1::HealthyRun { failures: vec![failure], ..v1::HealthyRun::default() });
        }
        assert_eq!(runs.pop().map(|run| run.failures), Some(vec![1]));
        assert_eq!(std::iter::from_fn(|| runs.pop()).count(), MOST - 1);
    }
}
