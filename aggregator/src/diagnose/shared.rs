//! Several aggregators, one store: what the others wrote is told to those who watch here, and whoever leads follows it.

use lastwords_diagnosis::evidence::UnixNanos;

use super::stated::Grace;
use super::unsettled::Unsettled;
use super::{Change, Diagnoser, Stored};
use crate::store::Assessment;
use crate::{lock, time};

impl Diagnoser {
    /// From now on this aggregator judges anew, tells what only the API shows, and says it on pods. What the one before left undone
    /// is taken up.
    pub(super) async fn take_over(&self, grace: &mut Grace) -> Unsettled {
        self.remember_again().await;
        let mut unsettled = self.unsettled_at_start().await;
        let ids: Vec<String> = unsettled.by_id.keys().cloned().collect();
        for id in &ids {
            // Only what was not said yet is said; the store knows.
            if let Ok(Some(crash)) = self.store.get(id).await {
                self.announce(crash);
            }
        }
        let uids: Vec<String> = lock(&self.pods).all().map(|known| known.pod.uid.clone()).collect();
        for uid in uids {
            self.look_at(&uid, grace, &mut unsettled).await;
        }
        self.handle_ids(ids.into_iter().collect(), &mut unsettled).await;
        unsettled
    }

    /// Tells what other aggregators stored or judged since the last time; one that leads follows it too.
    pub(super) async fn catch_up(&self, leads: bool, grace: &mut Grace, unsettled: &mut Unsettled) {
        let ids = match self.store.news().await {
            Ok(ids) => ids,
            // Said by whatever else needs the store.
            Err(error) => return tracing::debug!("{error}"),
        };
        let mut stored = Vec::new();
        for id in ids {
            let Ok(Some(crash)) = self.store.get(&id).await else { continue };
            if leads && !unsettled.by_id.contains_key(&id) {
                crate::pair::note(&crash, &mut lock(&self.pods));
                self.announce(crash.clone());
                let of_crash = crash.container.clone().zip(crash.diagnosis.clone());
                stored.extend(of_crash.map(|(container, diagnosis)| {
                    let assessment = Assessment {
                        revision: diagnosis.revision,
                        container,
                        pod_state: crash.pod_state.clone(),
                        diagnosis,
                    };
                    Change::Stored(Box::new(Stored { id, assessment }))
                }));
            }
            self.tell_watchers(crash);
        }
        if !stored.is_empty() {
            self.handle(stored, grace, unsettled).await;
        }
    }

    /// What the others remember of runs that went well.
    pub(super) async fn remember_with_others(&self, last: &mut UnixNanos, now: UnixNanos) {
        /// Nanoseconds between two looks: what a container does without is learned after a minute of its life.
        const EVERY: i64 = 60_000_000_000;
        if self.store.is_shared() && now.0.saturating_sub(last.0) >= EVERY {
            *last = time::now();
            self.remember_again().await;
        }
    }
}
