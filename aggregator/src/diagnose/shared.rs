//! Several aggregators, one store: what the others wrote is told to those who watch here, and whoever leads follows it.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use lastwords_diagnosis::evidence::UnixNanos;

use super::stated::Grace;
use super::unsettled::{MAX_UNSETTLED, Unsettled};
use super::{Change, Diagnoser, Stored};
use crate::store::{Assessment, Kind};
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

    /// Tells what other aggregators stored or judged since the last time; one that leads follows it too. `unread` has the ids that are told
    /// and could not be read yet: the store names each once.
    pub(super) async fn catch_up(
        &self,
        leads: bool,
        unread: &mut VecDeque<String>,
        grace: &mut Grace,
        unsettled: &mut Unsettled,
    ) {
        match self.store.news().await {
            Ok(ids) => unread.extend(ids),
            // Said by whatever else needs the store.
            Err(error) => return tracing::debug!("{error}"),
        }
        let mut stored = Vec::new();
        while let Some(id) = unread.pop_front() {
            let crash = match self.store.get(&id).await {
                Ok(Some(crash)) => crash,
                Ok(None) => continue,
                Err(error) => {
                    self.revisions.unread.fetch_add(1, Ordering::Relaxed);
                    // A row that cannot be read today cannot tomorrow.
                    if error.kind == Kind::Damaged {
                        tracing::warn!(
                            id,
                            "a crash that another aggregator stored is told to nobody: {error}"
                        );
                        continue;
                    }
                    tracing::debug!("{error}");
                    // Behind the others: it may be the only one.
                    unread.push_back(id);
                    break;
                }
            };
            if leads && !unsettled.by_id.contains_key(&id) {
                self.note(&crash);
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
        while unread.len() > MAX_UNSETTLED {
            unread.pop_front();
            unsettled.dropped += 1;
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use lastwords_proto::v1;
    use tokio::sync::mpsc;

    use super::*;
    use crate::backoff::Policy;
    use crate::healthy::ToKeep;
    use crate::pods::{Pod, Pods};
    use crate::store::{Cursor, Filter, Inserted, NewCrash, Page, PageBounds, Store, StoreError, Written};

    /// Has one piece of news, and fails the first time that it is read.
    #[derive(Debug)]
    struct FailsOnce {
        named: AtomicBool,
        failed: AtomicBool,
        written: Written,
    }

    #[tonic::async_trait]
    impl Store for FailsOnce {
        async fn insert(&self, _: NewCrash) -> Result<Inserted, StoreError> {
            unreachable!()
        }
        async fn revise(&self, _: &str, _: Assessment) -> Result<(), StoreError> {
            Ok(())
        }
        async fn remove(&self, _: &str) -> Result<(), StoreError> {
            unreachable!()
        }
        async fn get(&self, id: &str) -> Result<Option<v1::Crash>, StoreError> {
            if self.failed.swap(true, Ordering::Relaxed) {
                let container = Some(v1::Container { pod_uid: "u".to_owned(), ..v1::Container::default() });
                return Ok(Some(v1::Crash { id: id.to_owned(), container, ..v1::Crash::default() }));
            }
            Err(StoreError { kind: Kind::Failed, sentence: "the connection broke".to_owned() })
        }
        async fn list(&self, _: Filter, _: PageBounds, _: Option<Cursor>) -> Result<Page, StoreError> {
            unreachable!()
        }
        async fn namespaces(&self) -> Result<Vec<String>, StoreError> {
            unreachable!()
        }
        async fn keep(&self, _: Vec<ToKeep>) -> Result<(), StoreError> {
            unreachable!()
        }
        async fn kept(&self) -> Result<Vec<(String, String)>, StoreError> {
            unreachable!()
        }
        async fn news(&self) -> Result<Vec<String>, StoreError> {
            let named = self.named.swap(true, Ordering::Relaxed);
            Ok(if named { Vec::new() } else { vec!["node1/other/1".to_owned()] })
        }
        async fn close(&self) {}
        fn written(&self) -> &Written {
            &self.written
        }
    }

    fn diagnoser(pods: Pods) -> Diagnoser {
        let store = FailsOnce {
            named: AtomicBool::default(),
            failed: AtomicBool::default(),
            written: Written::default(),
        };
        let (changes, _heard) = mpsc::channel(1);
        let pods = Arc::new(Mutex::new(pods));
        let wait = Duration::from_secs(1);
        Diagnoser::new(pods, Arc::default(), Arc::new(store), changes, wait, String::new(), false)
    }

    #[tokio::test]
    async fn what_could_not_be_read_is_told_at_the_next_look() {
        let diagnoser = diagnoser(Pods::new(Policy::default()));
        let mut watched = diagnoser.watch();
        let (mut unread, mut grace, mut unsettled) =
            (VecDeque::new(), Grace::default(), Unsettled::default());
        diagnoser.catch_up(false, &mut unread, &mut grace, &mut unsettled).await;
        assert!(watched.try_recv().is_err());
        assert_eq!(diagnoser.revisions().unread.load(Ordering::Relaxed), 1);
        diagnoser.catch_up(false, &mut unread, &mut grace, &mut unsettled).await;
        assert_eq!(watched.try_recv().unwrap().id, "node1/other/1");
        assert!(unread.is_empty() && watched.try_recv().is_err());
    }

    #[tokio::test]
    async fn what_the_store_missed_is_judged_anew_later() {
        const ID: &str = "node1/own/1";
        let mut pods = Pods::new(Policy::default());
        pods.apply(Pod { uid: "u".to_owned(), containers: vec![Default::default()], ..Pod::default() });
        let diagnoser = diagnoser(pods);
        let container = v1::Container { pod_uid: "u".to_owned(), ..v1::Container::default() };
        let assessment =
            Assessment { revision: 1, container, pod_state: None, diagnosis: v1::Diagnosis::default() };
        let mut unsettled = Unsettled::default();
        unsettled.add(Stored { id: ID.to_owned(), assessment }, time::now());
        diagnoser.handle_ids([ID.to_owned()].into(), &mut unsettled).await;
        assert_eq!(diagnoser.revisions().made.load(Ordering::Relaxed), 0);
        assert!(unsettled.again.contains(ID));
        diagnoser.handle_ids(std::mem::take(&mut unsettled.again), &mut unsettled).await;
        assert_eq!(diagnoser.revisions().made.load(Ordering::Relaxed), 1);
        assert!(unsettled.again.is_empty());
    }
}
