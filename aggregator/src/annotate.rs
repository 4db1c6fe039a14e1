//! Which pods get the cause of their newest crash into their annotations, when, and in which words. Nothing is, unless it is asked for.
//!
//! Pure: crashes as they are judged and the time go in, what is to be written comes out. What is told, and in which words, is as in events
//! ([`crate::announce`]).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lastwords_proto::v1;
use prost_types::Timestamp;

use crate::announce::{self, Announcement, NEWS, SETTLE};
use crate::time;

/// The annotations. The policy of the chart (`deploy/chart/templates/annotations.yaml`) lets the aggregator change these and no others.
pub const KEYS: [&str; 6] = [
    "lastwords.dev/cause",
    "lastwords.dev/confidence",
    "lastwords.dev/container",
    "lastwords.dev/summary",
    "lastwords.dev/crash-id",
    "lastwords.dev/crashed-at",
];
/// One pod is written at most so often. Each time is an update for everybody who watches pods, and a container may crash each second; twice
/// a minute tells as much.
const PAUSE: Duration = Duration::from_secs(30);
/// Writes at once and then a second, all pods together: as events, in a bucket of their own.
const BURST: f64 = 25.0;
const PER_SECOND: f64 = 2.0;
/// Pods remembered, some 20 KiB each while they wait and some 200 bytes afterwards.
const MOST_PODS: usize = 2_048;
/// Of those, pods that wait to be written. The bucket takes that many in 20 minutes, and later than that nothing is news.
const MOST_WAITING: usize = 256;
/// How long to wait before a write that was not answered is tried again, and how often it is tried.
const AGAIN: Duration = Duration::from_secs(5);
const MOST_TRIES: u32 = 4;

/// Annotations by key; none is to be removed.
pub type Values = Vec<(&'static str, Option<String>)>;

/// What is to be written into the annotations of a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Annotation {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's UID: another pod of that name is left alone.
    pub uid: String,
    /// What they are to be.
    pub values: Values,
    waiting: Waiting,
}

impl Annotation {
    /// The crash that it tells of.
    pub fn crash(&self) -> &v1::Crash {
        &self.waiting.crash
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Waiting {
    crash: Arc<v1::Crash>,
    due: Duration,
    /// Since when something waits on this pod.
    since: Duration,
    tries: u32,
}

#[derive(Debug, Default)]
struct Pod {
    /// When the newest of its crashes was observed (nanoseconds since 1970): what the pod shows is never of an older one.
    newest: i64,
    waiting: Option<Waiting>,
    written: Option<Written>,
}

/// What was written last, and when.
#[derive(Debug)]
struct Written {
    at: Duration,
    crash: String,
    values: Values,
}

/// Pods on their way to an annotation.
#[derive(Debug)]
pub struct Annotations {
    pods: HashMap<String, Pod>,
    in_order: VecDeque<String>,
    allowance: f64,
    allowed_at: Duration,
    superseded: u64,
    dropped: u64,
}

impl Default for Annotations {
    fn default() -> Self {
        Self {
            pods: HashMap::new(),
            in_order: VecDeque::new(),
            allowance: BURST,
            allowed_at: Duration::ZERO,
            superseded: 0,
            dropped: 0,
        }
    }
}

impl Annotations {
    /// A crash as it is judged now. `now` is the time since any fixed moment, `age` that since the death.
    pub fn heard(&mut self, crash: Arc<v1::Crash>, now: Duration, age: Duration) {
        let Some(uid) = crash.container.as_ref().map(|container| container.pod_uid.clone()) else { return };
        let is_told = announce::announcement(&crash).is_some();
        // What is not told is of interest where it was told before, or is about to be.
        if age > NEWS || !(is_told || self.pods.get(&uid).is_some_and(|pod| pod.speaks_of(&crash.id))) {
            return;
        }
        let waits = self.pods.values().filter(|pod| pod.waiting.is_some()).count();
        if !self.pods.contains_key(&uid) {
            self.in_order.push_back(uid.clone());
        }
        let pod = self.pods.entry(uid).or_default();
        let observed = crash.observed_at.as_ref().and_then(time::from_wire).map_or(0, |at| at.0);
        if observed < pod.newest {
            self.superseded += 1;
            return;
        }
        pod.newest = observed;
        if pod.waiting.is_none() && waits >= MOST_WAITING {
            self.dropped += 1;
        } else {
            self.superseded += u64::from(pod.waiting.as_ref().is_some_and(|it| it.crash.id != crash.id));
            let since = pod.waiting.as_ref().map_or(now, |waiting| waiting.since);
            let pause_ends = pod.written.as_ref().map_or(Duration::ZERO, |written| written.at + PAUSE);
            // However many come, one of them is written.
            let due = (now + SETTLE).min(since + PAUSE).max(pause_ends);
            pod.waiting = Some(Waiting { crash, due, since, tries: 0 });
        }
        self.forget_some();
    }

    /// When there is something to write; None when nothing waits.
    pub fn next(&self) -> Option<Duration> {
        let due =
            self.pods.values().filter_map(|pod| pod.waiting.as_ref()).map(|waiting| waiting.due).min()?;
        let lacks = (1.0 - self.allowance).max(0.0);
        Some(due.max(self.allowed_at + Duration::from_secs_f64(lacks / PER_SECOND)))
    }

    /// What is to be written now: the one that waits longest.
    pub fn due(&mut self, now: Duration) -> Option<Annotation> {
        let earned = now.saturating_sub(self.allowed_at).as_secs_f64() * PER_SECOND;
        self.allowance = (self.allowance + earned).min(BURST);
        self.allowed_at = now;
        loop {
            // A thousandth less than one: what is earned in a time that was computed for one may be that much short.
            if self.allowance < 0.999 {
                return None;
            }
            let waiting =
                |pod: &Pod| pod.waiting.as_ref().map(|waiting| waiting.due).filter(|due| *due <= now);
            let due = self.pods.iter().filter_map(|(uid, pod)| Some((waiting(pod)?, uid))).min();
            let uid = due.map(|(_, uid)| uid.clone())?;
            let pod = self.pods.get_mut(&uid)?;
            let waiting = pod.waiting.take()?;
            let Some(annotation) = annotation(waiting, pod.written.as_ref()) else { continue };
            let crash = annotation.waiting.crash.id.clone();
            pod.written = Some(Written { at: now, crash, values: annotation.values.clone() });
            self.allowance -= 1.0;
            return Some(annotation);
        }
    }

    /// It was not written, and may be later: it is due again, unless a newer one is or it was tried often enough.
    pub fn put_off(&mut self, annotation: Annotation, now: Duration, age: Duration) {
        let Some(pod) = self.pods.get_mut(&annotation.uid) else {
            self.dropped += 1;
            return;
        };
        // What stands there now nobody knows, but whether it is this one's if anybody's.
        if let Some(written) = &mut pod.written {
            written.values.clear();
        }
        if pod.waiting.is_some() {
            self.superseded += 1;
        } else if annotation.waiting.tries + 1 >= MOST_TRIES || age > NEWS {
            self.dropped += 1;
        } else {
            let tries = annotation.waiting.tries + 1;
            pod.waiting = Some(Waiting { due: now + AGAIN, tries, ..annotation.waiting });
        }
    }

    /// Crashes of which nothing was written because a newer one of the pod came first.
    pub fn superseded(&self) -> u64 {
        self.superseded
    }

    /// Crashes of which nothing was written because too many waited, or the API did not take it for too long.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Those go that were heard of first and wait for nothing.
    fn forget_some(&mut self) {
        let mut looked_at = self.in_order.len();
        while self.pods.len() > MOST_PODS && looked_at > 0 {
            looked_at -= 1;
            let Some(oldest) = self.in_order.pop_front() else { return };
            if self.pods.get(&oldest).is_some_and(|pod| pod.waiting.is_some()) {
                self.in_order.push_back(oldest);
            } else {
                self.pods.remove(&oldest);
            }
        }
    }
}

impl Pod {
    fn speaks_of(&self, id: &str) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.crash.id == id)
            || self.written.as_ref().is_some_and(|written| written.crash == id)
    }
}

/// None when there is nothing new to say. What was said of a crash that turns out to be none is taken back.
fn annotation(waiting: Waiting, written: Option<&Written>) -> Option<Annotation> {
    let crash = &Arc::clone(&waiting.crash);
    let container = crash.container.as_ref()?;
    let values = match announce::announcement(crash) {
        Some(said) => values(crash, said),
        // Nobody looks at a pod that is gone.
        None if crash.pod_state.as_ref().is_none_or(|state| state.pod_deleted) => return None,
        None if written.is_some_and(|written| written.crash == crash.id) => Default::default(),
        None => return None,
    };
    let values: Values = KEYS.into_iter().zip(values).collect();
    (written.is_none_or(|written| written.values != values)).then(|| Annotation {
        namespace: container.namespace.clone(),
        pod: container.pod_name.clone(),
        uid: container.pod_uid.clone(),
        values,
        waiting,
    })
}

/// In the order of [`KEYS`].
fn values(crash: &v1::Crash, said: Announcement) -> [Option<String>; KEYS.len()] {
    let diagnosis = crash.diagnosis.clone().unwrap_or_default();
    // To the second, as Kubernetes writes times.
    let at = crash.observed_at.map(|at| Timestamp { nanos: 0, ..at }.to_string());
    [
        said.reason,
        announce::confidence(&diagnosis),
        said.container,
        announce::sentences(&diagnosis, announce::MOST_NOTE_BYTES),
        crash.id.clone(),
        at.unwrap_or_default(),
    ]
    .map(|text| Some(text).filter(|text| !text.is_empty()))
}

#[cfg(test)]
#[path = "annotate_tests.rs"]
mod tests;
