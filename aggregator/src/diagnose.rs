//! Names the cause of each crash: once when its report arrives, and again each time more is known of its pod.
//!
//! A crash stays *unsettled* until its container runs again and Kubernetes has told how the run ended; until then every change of
//! its pod has it judged anew. The store and the watchers get a new revision only when something came out differently.

mod shared;
mod standing;
mod stated;
mod tally;
mod unsettled;

use std::collections::{HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use lastwords_diagnosis::PodContext;
use lastwords_diagnosis::evidence::UnixNanos;
use lastwords_proto::{convert, v1};
use tokio::sync::{broadcast, mpsc, watch};

use crate::agents::Agents;
use crate::healthy::{Healthy, ToKeep};
use crate::pods::{Known, Pods};
use crate::shutdown::Stop;
use crate::store::{Assessment, Filter, Inserted, NewCrash, PageBounds, Store, StoreError};
use crate::{lock, pair, planned, time};
pub use standing::Standing;
use stated::Grace;
pub use tally::{Revisions, Tally};
use unsettled::{MAX_UNSETTLED, UNSETTLED_FOR, Unsettled};

/// Crashes a watcher may be behind; the wire contract names this number.
pub const WATCH_LAG: usize = 256;
/// Revisions of one crash at most. A crash that settles has five; more come from probe events that repeat.
const MAX_REVISIONS: u32 = 32;
/// How often old things are forgotten.
const TICK: Duration = Duration::from_secs(30);
/// How often it is looked what others that share the store have written.
const NEWS: Duration = Duration::from_secs(1);
/// Changes heard, and crashes judged anew, at a time: a quarter of what the store writes in one transaction.
const AT_ONCE: usize = 64;

/// Something that may change a diagnosis.
#[derive(Debug)]
pub enum Change {
    /// News of the pod of this UID.
    Pod(String),
    /// A crash was stored.
    Stored(Box<Stored>),
}

/// A crash that was stored.
#[derive(Debug)]
pub struct Stored {
    id: String,
    assessment: Assessment,
}

/// What came of judging a crash anew.
enum Judged {
    /// It may change again; with the newer assessment, if there is one.
    Open(Option<Box<Assessment>>),
    /// The store did not answer.
    Later,
    /// It is followed no longer.
    Settled,
}

/// Judges crashes.
#[derive(Debug)]
pub struct Diagnoser {
    pods: Arc<Mutex<Pods>>,
    /// Knows why no agent saw an end.
    agents: Arc<Mutex<Agents>>,
    store: Arc<dyn Store>,
    watchers: broadcast::Sender<Arc<v1::Crash>>,
    /// Crashes to be said on their pods, where this aggregator leads.
    announced: broadcast::Sender<Arc<v1::Crash>>,
    changes: mpsc::Sender<Change>,
    revisions: Revisions,
    judged: Tally,
    healthy: Mutex<Healthy>,
    /// Held from a change of `healthy` to its writing, so that what is written last is the newest.
    keeping: tokio::sync::Mutex<()>,
    /// How long an end that the API shows waits for the report of an agent that saw it.
    wait_for_agents: Duration,
    /// Goes with every crash that is told.
    cluster: String,
    /// Agents had to prove their node, so it is known whose pods they may speak of.
    nodes_are_proven: bool,
}

impl Diagnoser {
    /// Judges by what `pods` knows, keeps in `store`, and says to `changes` what [`follow`](Self::follow) has to hear.
    /// `nodes_are_proven` where agents have to prove their node.
    pub fn new(
        pods: Arc<Mutex<Pods>>,
        agents: Arc<Mutex<Agents>>,
        store: Arc<dyn Store>,
        changes: mpsc::Sender<Change>,
        wait_for_agents: Duration,
        cluster: String,
        nodes_are_proven: bool,
    ) -> Self {
        let (watchers, _) = broadcast::channel(WATCH_LAG);
        let (announced, _) = broadcast::channel(WATCH_LAG);
        Self {
            pods,
            agents,
            store,
            watchers,
            announced,
            changes,
            revisions: Revisions::default(),
            judged: Tally::default(),
            healthy: Mutex::default(),
            keeping: tokio::sync::Mutex::default(),
            wait_for_agents,
            cluster,
            nodes_are_proven,
        }
    }

    /// Judges a report, stores it, and tells the watchers.
    ///
    /// # Errors
    /// When the store cannot take it now.
    pub async fn take(&self, id: String, report: v1::Crash) -> Result<Inserted, StoreError> {
        let (assessment, _) = self.assess(&report, None);
        let crash = NewCrash { id: id.clone(), report: report.clone(), assessment: assessment.clone() };
        let inserted = self.store.insert(crash).await?;
        if inserted == Inserted::New {
            self.tell(assessment.complete(&id, report));
            let stored = Change::Stored(Box::new(Stored { id, assessment }));
            // An error means that the aggregator is stopping: the crash is stored, and taken up again at the next start.
            let _ = self.changes.send(stored).await;
        }
        Ok(inserted)
    }

    /// Crashes as they are stored and judged anew.
    pub fn watch(&self) -> broadcast::Receiver<Arc<v1::Crash>> {
        self.watchers.subscribe()
    }

    /// Crashes as they may have to be said on their pods.
    pub fn to_announce(&self) -> broadcast::Receiver<Arc<v1::Crash>> {
        self.announced.subscribe()
    }

    /// What was made anew since the start.
    pub fn revisions(&self) -> &Revisions {
        &self.revisions
    }

    /// What crashes were judged to be since the start.
    pub fn judged(&self) -> &Tally {
        &self.judged
    }

    /// Containers whose good runs were forgotten because there were too many.
    pub fn healthy_forgotten(&self) -> u64 {
        lock(&self.healthy).forgotten()
    }

    /// Judges crashes anew as their pods change, until told to stop; but only while this aggregator leads: of several that share a store
    /// one does so for all.
    pub async fn follow(
        &self,
        mut changes: mpsc::Receiver<Change>,
        keep_deleted: Duration,
        mut leading: watch::Receiver<bool>,
        mut stop: Stop,
    ) {
        let mut leads = *leading.borrow_and_update();
        let mut unsettled = if leads { self.unsettled_at_start().await } else { Unsettled::default() };
        let mut tick = tokio::time::interval(TICK);
        let mut news = tokio::time::interval(NEWS);
        let mut remembered_at = time::now();
        let mut may_change = true;
        let mut heard = Vec::new();
        let mut unread = VecDeque::new();
        let mut grace = Grace::default();
        let mut open = true;
        loop {
            tokio::select! {
                () = stop.requested() => return,
                changed = leading.changed(), if may_change => {
                    // An error means that who leads is settled for good.
                    may_change = changed.is_ok();
                    leads = *leading.borrow_and_update();
                    grace = Grace::default();
                    unsettled = if leads { self.take_over(&mut grace).await } else { Unsettled::default() };
                }
                _ = news.tick(), if self.store.is_shared() => {
                    self.catch_up(leads, &mut unread, &mut grace, &mut unsettled).await;
                }
                count = changes.recv_many(&mut heard, AT_ONCE), if open => match count {
                    0 => open = false,
                    // Whoever leads sees the same pods, and hears of the crashes by the store.
                    _ if !leads => heard.clear(),
                    _ => self.handle(std::mem::take(&mut heard), &mut grace, &mut unsettled).await,
                },
                () = until(grace.next()) => self.tell_due(&mut grace, &mut unsettled).await,
                _ = tick.tick() => {
                    let now = time::now();
                    lock(&self.pods).expire(now, keep_deleted);
                    unsettled.expire(now);
                    self.remember_with_others(&mut remembered_at, now).await;
                    if leads {
                        self.note_templates(None, now).await;
                        // The pod's last change may have been the one that the store missed.
                        self.handle_ids(std::mem::take(&mut unsettled.again), &mut unsettled).await;
                    }
                }
            }
        }
    }

    /// Judges anew all that these changes concern, side by side, so that the store writes it in one transaction.
    async fn handle(&self, changes: Vec<Change>, grace: &mut Grace, unsettled: &mut Unsettled) {
        let mut ids = HashSet::new();
        let changed = changes.iter().filter_map(|change| match change {
            Change::Pod(uid) => Some(uid.as_str()),
            Change::Stored(_) => None,
        });
        self.note_templates(Some(changed.collect()), time::now()).await;
        for change in changes {
            match change {
                Change::Stored(stored) => {
                    // The pod may have changed between the first judgement and this line.
                    ids.insert(stored.id.clone());
                    self.replaced_by(&stored, unsettled).await;
                    unsettled.add(*stored, time::now());
                }
                Change::Pod(uid) => {
                    ids.extend(unsettled.of_pod(&self.keys_of(&uid)));
                    ids.extend(self.look_at(&uid, grace, unsettled).await);
                }
            }
        }
        self.handle_ids(ids, unsettled).await;
    }

    async fn handle_ids(&self, ids: HashSet<String>, unsettled: &mut Unsettled) {
        let lasts = ids
            .into_iter()
            .filter_map(|id| unsettled.by_id.get(&id).map(|entry| (id, entry.assessment.clone())));
        let judged: Vec<(String, Judged)> = futures::stream::iter(lasts.collect::<Vec<_>>())
            .map(|(id, last)| async move {
                let judged = self.judge_anew(&id, last).await;
                (id, judged)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for (id, judged) in judged {
            match (judged, unsettled.by_id.get_mut(&id)) {
                (Judged::Open(Some(assessment)), Some(entry)) => entry.assessment = *assessment,
                (Judged::Settled, _) => drop(unsettled.remove(&id)),
                (Judged::Later, _) => drop(unsettled.again.insert(id)),
                _ => {}
            }
        }
        self.revisions.dropped.store(unsettled.dropped, Ordering::Relaxed);
    }

    async fn judge_anew(&self, id: &str, last: Assessment) -> Judged {
        let report = match self.store.get(id).await {
            Ok(Some(report)) => report,
            Ok(None) => return Judged::Settled,
            Err(_) => {
                self.revisions.failed.fetch_add(1, Ordering::Relaxed);
                return Judged::Later;
            }
        };
        if self.standing(&report, &lock(&self.pods)) == Standing::Elsewhere {
            return self.refuse_late(id, &report).await;
        }
        let (assessment, settled) = self.assess(&report, Some(&last));
        if assessment.revision == last.revision {
            return if settled { Judged::Settled } else { Judged::Open(None) };
        }
        if self.store.revise(id, assessment.clone()).await.is_err() {
            self.revisions.failed.fetch_add(1, Ordering::Relaxed);
            return Judged::Later;
        }
        self.revisions.made.fetch_add(1, Ordering::Relaxed);
        self.tell(assessment.complete(id, report));
        if settled || assessment.revision >= MAX_REVISIONS {
            Judged::Settled
        } else {
            Judged::Open(Some(Box::new(assessment)))
        }
    }

    fn tell(&self, crash: v1::Crash) {
        if let Some(diagnosis) = &crash.diagnosis {
            self.judged.note(diagnosis);
        }
        self.announce(crash.clone());
        self.tell_watchers(crash);
    }

    fn tell_watchers(&self, crash: v1::Crash) {
        let crash = self.to_tell(crash, &lock(&self.pods));
        if let Some(crash) = crash {
            // An error means that nobody watches.
            let _ = self.watchers.send(Arc::new(crash));
        }
    }

    fn announce(&self, crash: v1::Crash) {
        // An error means that nothing is said on pods.
        let _ = self.announced.send(Arc::new(crash));
    }

    /// What is to be said of a crash now, and whether that is final. The revision is that of `last` when nothing changed.
    fn assess(&self, report: &v1::Crash, last: Option<&Assessment>) -> (Assessment, bool) {
        if let Some(last) = last
            && crate::stated::is_state(report)
        {
            return self.assess_state(report, last);
        }
        let before = last.and_then(|last| last.pod_state.as_ref());
        let paired = {
            let mut pods = lock(&self.pods);
            if self.standing(report, &pods) == Standing::Confirmed {
                pair::note(report, &mut pods);
                pair::pair(report, before, &pods, &lock(&self.healthy))
            } else {
                None
            }
        };
        if let (None, Some(last)) = (&paired, last) {
            return (last.clone(), false);
        }
        let container = paired.as_ref().map(|paired| paired.container.clone()).or(report.container.clone());
        let settled = paired.as_ref().is_some_and(|paired| paired.settled);
        let (context, pod_state) = paired.map(|paired| (paired.context, paired.state)).unzip();
        let container = container.unwrap_or_default();
        let judged = v1::Crash { container: Some(container.clone()), ..report.clone() };
        let revision = last.map_or(1, |last| last.revision);
        let diagnosis = diagnosis(&judged, context.as_ref(), revision);
        let mut assessment = Assessment { revision, container, pod_state, diagnosis };
        if let Some(last) = last {
            planned::keep(&mut assessment, last);
        }
        if last.is_some_and(|last| *last != assessment) {
            assessment.revision = revision.saturating_add(1);
            assessment.diagnosis.revision = assessment.revision;
        }
        (assessment, settled)
    }

    /// Notes the templates of the containers that run well now, of all pods or of those with these UIDs.
    async fn note_templates(&self, uids: Option<Vec<&str>>, now: UnixNanos) {
        let _in_order = self.keeping.lock().await;
        let writes = {
            let (pods, mut healthy) = (lock(&self.pods), lock(&self.healthy));
            let known: Vec<&Known> = match uids {
                Some(uids) => uids.into_iter().filter_map(|uid| pods.by_uid(uid)).collect(),
                None => pods.all().collect(),
            };
            let containers =
                known.into_iter().flat_map(|known| known.pod.containers.iter().map(move |it| (known, it)));
            containers
                .flat_map(|(known, container)| healthy.note_template(known, container, now))
                .collect::<Vec<_>>()
        };
        self.keep(writes).await;
    }

    async fn keep(&self, writes: Vec<ToKeep>) {
        // What is not kept is noted again when it is next seen to have changed, or within the hour.
        if !writes.is_empty()
            && let Err(error) = self.store.keep(writes).await
        {
            tracing::warn!("what was seen of runs that went well is not kept: {error}");
        }
    }

    /// What is remembered of runs that went well, as the store has it: after a restart, and of others that share it.
    pub async fn remember_again(&self) {
        let _in_order = self.keeping.lock().await;
        match self.store.kept().await {
            Ok(kept) => *lock(&self.healthy) = Healthy::from_kept(kept),
            Err(error) => tracing::warn!("what was remembered of runs that went well is lost: {error}"),
        }
    }

    /// All that a crash of this pod may be known by.
    fn keys_of(&self, uid: &str) -> Vec<String> {
        let pods = lock(&self.pods);
        let Some(known) = pods.by_uid(uid) else { return vec![uid.to_owned()] };
        let own = [uid.to_owned(), known.pod.manifest_hash.clone()];
        own.into_iter().chain(known.container_ids().map(str::to_owned)).collect()
    }

    /// After a restart: the crashes that were unsettled, as far as their age allows.
    async fn unsettled_at_start(&self) -> Unsettled {
        let now = time::now();
        let mut unsettled = Unsettled::default();
        let since = UnixNanos(now.0.saturating_sub(nanos(UNSETTLED_FOR)));
        let filter = Filter { since: Some(since), include_completed: true, ..Filter::default() };
        let bounds = PageBounds { crashes: 500, bytes: 8 << 20 };
        let mut after = None;
        loop {
            let page = match self.store.list(filter.clone(), bounds, after).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!("crashes of the last minutes are not followed: {error}");
                    return unsettled;
                }
            };
            for crash in page.crashes {
                self.note(&crash);
                let observed = crash.observed_at.as_ref().and_then(time::from_wire).unwrap_or(now);
                let (Some(container), Some(diagnosis)) = (crash.container, crash.diagnosis) else { continue };
                let assessment = Assessment {
                    revision: diagnosis.revision,
                    container,
                    pod_state: crash.pod_state,
                    diagnosis,
                };
                unsettled.add(Stored { id: crash.id, assessment }, observed);
            }
            after = page.next;
            if after.is_none() || unsettled.by_id.len() >= MAX_UNSETTLED / 2 {
                return unsettled;
            }
        }
    }
}

/// A mistake in a rule must cost one diagnosis, and neither the report nor the stream it came by.
pub(crate) fn diagnosis(crash: &v1::Crash, context: Option<&PodContext>, revision: u32) -> v1::Diagnosis {
    let judge = || {
        let evidence = convert::crash_to_evidence(crash);
        convert::diagnosis_to_wire(&lastwords_diagnosis::diagnose(&evidence, context), revision)
    };
    catch_unwind(AssertUnwindSafe(judge)).unwrap_or_else(|_| {
        tracing::error!(
            id = crash.id,
            "a diagnosis rule failed on this crash: please report it with the crash as JSON"
        );
        v1::Diagnosis {
            cause: v1::Cause::Unknown.into(),
            confidence: v1::Confidence::Low.into(),
            summary: "The cause is not known because a diagnosis rule failed on this crash.".to_owned(),
            revision,
            ..v1::Diagnosis::default()
        }
    })
}

/// Resolves at that time of the clock, or never.
async fn until(due: Option<UnixNanos>) {
    match due {
        Some(due) => {
            let wait = due.0.saturating_sub(time::now().0);
            tokio::time::sleep(Duration::from_nanos(u64::try_from(wait).unwrap_or(0))).await;
        }
        None => std::future::pending().await,
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
