//! The crashes whose diagnosis may still change.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use lastwords_diagnosis::evidence::UnixNanos;

use super::{Stored, nanos};
use crate::store::Assessment;

/// Unsettled crashes at most, some 2 KiB each: a storm of 20 000 crashes within [`UNSETTLED_FOR`]. Beyond it the oldest keep the
/// diagnosis they have.
pub(super) const MAX_UNSETTLED: usize = 20_000;
/// How long a crash may stay unsettled: twice the longest back-off, and then some.
pub(super) const UNSETTLED_FOR: Duration = Duration::from_secs(15 * 60);

/// Crashes that may have to be judged anew, by all that their pod may be found by.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    pub(super) by_id: HashMap<String, Entry>,
    by_key: HashMap<String, HashSet<String>>,
    oldest_first: VecDeque<String>,
    /// Those that were to be judged anew when the store did not answer.
    pub(super) again: HashSet<String>,
    pub(super) dropped: u64,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) assessment: Assessment,
    keys: [String; 2],
    since: UnixNanos,
}

impl Unsettled {
    pub(super) fn add(&mut self, stored: Stored, since: UnixNanos) {
        let Stored { id, assessment } = stored;
        if self.by_id.contains_key(&id) {
            return;
        }
        let keys = [assessment.container.id.clone(), assessment.container.pod_uid.clone()];
        for key in keys.iter().filter(|key| !key.is_empty()) {
            self.by_key.entry(key.clone()).or_default().insert(id.clone());
        }
        self.by_id.insert(id.clone(), Entry { assessment, keys, since });
        self.oldest_first.push_back(id);
        while self.by_id.len() > MAX_UNSETTLED
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.dropped += u64::from(self.remove(&oldest));
        }
    }

    pub(super) fn of_pod(&self, keys: &[String]) -> Vec<String> {
        let mut ids: Vec<String> =
            keys.iter().filter_map(|key| self.by_key.get(key)).flatten().cloned().collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    pub(super) fn expire(&mut self, now: UnixNanos) {
        let limit = now.0.saturating_sub(nanos(UNSETTLED_FOR));
        self.oldest_first.retain(|id| self.by_id.contains_key(id));
        let old: Vec<String> =
            self.by_id.iter().filter(|(_, entry)| entry.since.0 < limit).map(|(id, _)| id.clone()).collect();
        for id in old {
            self.remove(&id);
        }
    }

    pub(super) fn remove(&mut self, id: &str) -> bool {
        let Some(entry) = self.by_id.remove(id) else { return false };
        for key in &entry.keys {
            if let Some(ids) = self.by_key.get_mut(key) {
                ids.remove(id);
                if ids.is_empty() {
                    self.by_key.remove(key);
                }
            }
        }
        true
    }
}
