//! Takes what only the Kubernetes API shows: a failure before a run at once, an end only after the agents had their time to report it.
//! All in the one task that follows changes, so that a report and the API's word of the same end cannot pass each other unseen.

use std::collections::HashMap;
use std::time::Duration;

use lastwords_diagnosis::evidence::UnixNanos;
use lastwords_proto::v1;

use super::{Diagnoser, Standing, Stored, Unsettled, nanos};
use crate::store::{Assessment, Filter, Inserted, NewCrash, PageBounds, StoreError};
use crate::{lock, pair, stated, time};

/// An agent's clock and the kubelet's are one; what differs is what they call the end (nanoseconds).
const SAME_END: i64 = 120_000_000_000;
/// Crashes looked through for the one of a run: those of one container around its end.
const AROUND: PageBounds = PageBounds { crashes: 64, bytes: 4 << 20 };

/// Pods with ends that no agent has reported yet, and when to tell them all the same. As many as there are pods at most.
#[derive(Debug, Default)]
pub(super) struct Grace {
    due: HashMap<String, UnixNanos>,
}

impl Grace {
    /// When the next one is due.
    pub(super) fn next(&self) -> Option<UnixNanos> {
        self.due.values().min().copied()
    }

    fn take_due(&mut self, now: UnixNanos) -> Vec<String> {
        let due: Vec<String> =
            self.due.iter().filter(|(_, at)| **at <= now).map(|(uid, _)| uid.clone()).collect();
        for uid in &due {
            self.due.remove(uid);
        }
        due
    }
}

impl Diagnoser {
    /// What this pod's state shows now. The ids of crashes that have to be judged anew.
    pub(super) async fn look_at(
        &self,
        uid: &str,
        grace: &mut Grace,
        unsettled: &mut Unsettled,
    ) -> Vec<String> {
        let now = time::now();
        let waiting = {
            let pods = lock(&self.pods);
            let Some(known) = pods.by_uid(uid) else { return Vec::new() };
            if !stated::ended(known, now).is_empty() || stated::whole_pod(known, now).is_some() {
                let due = UnixNanos(now.0.saturating_add(nanos(self.wait_for_agents)));
                grace.due.entry(uid.to_owned()).or_insert(due);
            }
            stated::waiting(known, &pods, now)
        };
        let mut again = Vec::new();
        for crash in waiting {
            if unsettled.by_id.contains_key(&crash.id) {
                continue;
            }
            let id = crash.id.clone();
            if let Ok(Inserted::Known) = self.tell_stated(crash, unsettled).await {
                again.push(id);
            }
        }
        again
    }

    /// Tells the ends that no agent reported in time.
    pub(super) async fn tell_due(&self, grace: &mut Grace, unsettled: &mut Unsettled) {
        let now = time::now();
        for uid in grace.take_due(now) {
            let (ended, whole_pod) = {
                let pods = lock(&self.pods);
                let Some(known) = pods.by_uid(&uid) else { continue };
                (stated::ended(known, now), stated::whole_pod(known, now))
            };
            let mut later = false;
            for report in ended {
                // One that ended after the first still has its time.
                let ended_at = report.observed_at.as_ref().and_then(time::from_wire).unwrap_or(now);
                if ended_at.0.saturating_add(nanos(self.wait_for_agents)) > now.0 {
                    later = true;
                } else {
                    later |= self.tell_end(report, unsettled).await.is_err();
                }
            }
            if let Some(crash) = whole_pod {
                later |= self.tell_whole_pod(crash, unsettled).await.is_err();
            }
            if later {
                let again = self.wait_for_agents.max(Duration::from_secs(1));
                grace.due.insert(uid, UnixNanos(now.0.saturating_add(nanos(again))));
            }
        }
    }

    async fn tell_end(&self, report: v1::Crash, unsettled: &mut Unsettled) -> Result<(), StoreError> {
        let container = report.container.clone().unwrap_or_default();
        let of_run = |crash: &v1::Crash| {
            crash.container.as_ref().is_some_and(|it| it.id == container.id)
                && !crash.container_survived
                && self.standing(crash, &lock(&self.pods)) == Standing::Confirmed
        };
        let ended_at = report.observed_at.as_ref().and_then(time::from_wire).unwrap_or_default();
        if let Some(reported) = self.stored(&container, ended_at, of_run).await? {
            self.note(&reported);
            return Ok(());
        }
        let why = lock(&self.agents).why_unseen(&report.node, &container.pod_uid, ended_at);
        let losses = v1::Losses { unreadable: why.into_iter().collect(), ..v1::Losses::default() };
        let report = v1::Crash { losses: Some(losses), ..report };
        let (assessment, _) = self.assess(&report, None);
        self.tell_stated(NewCrash { id: report.id.clone(), report, assessment }, unsettled).await?;
        Ok(())
    }

    async fn tell_whole_pod(&self, crash: NewCrash, unsettled: &mut Unsettled) -> Result<(), StoreError> {
        if unsettled.by_id.contains_key(&crash.id) {
            return Ok(());
        }
        let told = |other: &v1::Crash| {
            let cause = other.diagnosis.as_ref().map_or(v1::Cause::Unknown, v1::Diagnosis::cause);
            stated::is_of_pod(cause)
                && other.container.as_ref().map(|it| &it.pod_uid) == Some(&crash.assessment.container.pod_uid)
        };
        if self.stored(&crash.assessment.container, UnixNanos(0), told).await?.is_none() {
            self.tell_stated(crash, unsettled).await?;
        }
        Ok(())
    }

    /// The crash of this container that is so, not long before `since` or after it.
    async fn stored(
        &self,
        container: &v1::Container,
        since: UnixNanos,
        is_so: impl Fn(&v1::Crash) -> bool,
    ) -> Result<Option<v1::Crash>, StoreError> {
        let filter = Filter {
            namespace: container.namespace.clone(),
            pod_name: container.pod_name.clone(),
            container: container.name.clone(),
            since: Some(UnixNanos(since.0.saturating_sub(SAME_END))),
            include_completed: true,
            ..Filter::default()
        };
        let mut after = None;
        loop {
            let page = self.store.list(filter.clone(), AROUND, after).await?;
            if let Some(found) = page.crashes.into_iter().find(&is_so) {
                return Ok(Some(found));
            }
            after = page.next;
            if after.is_none() {
                return Ok(None);
            }
        }
    }

    async fn tell_stated(&self, crash: NewCrash, unsettled: &mut Unsettled) -> Result<Inserted, StoreError> {
        let NewCrash { id, report, assessment } = crash.clone();
        let inserted = self.store.insert(crash).await?;
        let assessment = match inserted {
            Inserted::New => {
                self.tell(assessment.complete(&id, report));
                Some(assessment)
            }
            // From before a restart of this program, or a state that came back.
            Inserted::Known => self.store.get(&id).await?.and_then(assessment_of),
        };
        if let Some(assessment) = assessment {
            unsettled.add(Stored { id, assessment }, time::now());
        }
        Ok(inserted)
    }

    /// A report came for what the API's word was taken for: that is told no more.
    pub(super) async fn replaced_by(&self, stored: &Stored, unsettled: &mut Unsettled) {
        // Of a pod on another node, or of one that is not known, no agent's word replaces the API's.
        if stated::is_stated(&stored.id) || stored.assessment.pod_state.is_none() {
            return;
        }
        let container = &stored.assessment.container;
        let replaced = {
            let pods = lock(&self.pods);
            let Some((known, of_run)) = pair::find(container, &pods) else { return };
            let end = stated::id_of_end(known, &of_run.context.name, &container.id);
            let of_pod = stated::is_of_pod(stored.assessment.diagnosis.cause());
            let whole = stated::whole_pod(known, time::now()).filter(|_| of_pod).map(|crash| crash.id);
            std::iter::once(end).chain(whole).collect::<Vec<_>>()
        };
        for id in replaced {
            // Looked for first: nearly always there is none, and looking writes nothing.
            if let Ok(Some(_)) = self.store.get(&id).await
                && self.store.remove(&id).await.is_ok()
            {
                unsettled.remove(&id);
            }
        }
    }

    /// What is to be said now of a state that is not the end of a run, and whether that is final.
    pub(super) fn assess_state(&self, report: &v1::Crash, last: &Assessment) -> (Assessment, bool) {
        let Some(now) = self.state_again(report) else {
            return (last.clone(), true);
        };
        if !stated::is_news(&now, last) {
            return (last.clone(), false);
        }
        let mut newer = Assessment { revision: last.revision.saturating_add(1), ..now };
        newer.diagnosis.revision = newer.revision;
        (newer, false)
    }

    /// The same state as the API shows it now; None when it is over.
    pub(super) fn state_again(&self, report: &v1::Crash) -> Option<Assessment> {
        let uid = &report.container.as_ref()?.pod_uid;
        let pods = lock(&self.pods);
        let known = pods.by_uid(uid)?;
        let now = time::now();
        let states = stated::waiting(known, &pods, now).into_iter().chain(stated::whole_pod(known, now));
        states.into_iter().find(|state| state.id == report.id).map(|state| state.assessment)
    }
}

fn assessment_of(crash: v1::Crash) -> Option<Assessment> {
    let diagnosis = crash.diagnosis?;
    Some(Assessment {
        revision: diagnosis.revision,
        container: crash.container?,
        pod_state: crash.pod_state,
        diagnosis,
    })
}
