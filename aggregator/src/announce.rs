//! Which crashes are said on their pods as events, when, and in which words: `kubectl describe pod` and `kubectl get events` show them then.
//!
//! Pure: crashes as they are judged and the time go in, what is to be written comes out.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lastwords_proto::v1;

/// How long a crash waits for its last judgement: the pod's status and the kubelet's events follow a death within a second or two, and
/// an event that names another cause a moment later would help nobody.
pub const SETTLE: Duration = Duration::from_secs(3);
/// Crashes that wait at most, some 20 KiB each. A storm of more is told by `lastwords list`.
const MOST_WAITING: usize = 256;
/// Crashes remembered as said, so that a newer judgement with the same cause is no second event: an hour of a busy cluster.
const MOST_SAID: usize = 4_096;
/// Events written at once and then a second, all pods together: as many as one kubelet may (its burst), so that a cluster in
/// trouble is not troubled by us.
const BURST: f64 = 25.0;
const PER_SECOND: f64 = 2.0;
/// A crash that arrives later than this after the death (an agent was cut off) is no news on the pod.
pub(crate) const NEWS: Duration = Duration::from_secs(600);
/// What the API takes of a note (events.k8s.io/v1).
pub(crate) const MOST_NOTE_BYTES: usize = 1_024;

/// An event to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Announcement {
    /// The crash.
    pub crash: Arc<v1::Crash>,
    /// Cause and object, by which it is told whether it was said before.
    pub said: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's UID.
    pub uid: String,
    /// The container's name.
    pub container: String,
    /// `OutOfMemory`, `PermissionDenied`, …
    pub reason: String,
    /// The sentence, what to do, and where there is more.
    pub note: String,
}

/// Crashes on their way to an event.
#[derive(Debug)]
pub struct Announcements {
    waiting: VecDeque<(Duration, Arc<v1::Crash>)>,
    said: HashMap<String, (i32, String)>,
    said_in_order: VecDeque<String>,
    allowance: f64,
    allowed_at: Duration,
    dropped: u64,
}

impl Default for Announcements {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            said: HashMap::new(),
            said_in_order: VecDeque::new(),
            allowance: BURST,
            allowed_at: Duration::ZERO,
            dropped: 0,
        }
    }
}

impl Announcements {
    /// A crash as it is judged now. `now` is the time since any fixed moment, `age` that since the death.
    pub fn heard(&mut self, crash: Arc<v1::Crash>, now: Duration, age: Duration) {
        if let Some((_, waiting)) = self.waiting.iter_mut().find(|(_, waiting)| waiting.id == crash.id) {
            *waiting = crash;
            return;
        }
        if age > NEWS {
            return;
        }
        if self.waiting.len() == MOST_WAITING {
            self.dropped += 1;
            return;
        }
        self.waiting.push_back((now + SETTLE, crash));
    }

    /// When there is something to write; None when nothing waits.
    pub fn next(&self) -> Option<Duration> {
        self.waiting.front().map(|(due, _)| *due)
    }

    /// What is to be written now.
    pub fn due(&mut self, now: Duration) -> Vec<Announcement> {
        let earned = now.saturating_sub(self.allowed_at).as_secs_f64() * PER_SECOND;
        self.allowance = (self.allowance + earned).min(BURST);
        self.allowed_at = now;
        let mut due = Vec::new();
        while self.waiting.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, crash)) = self.waiting.pop_front()
        {
            let Some(announcement) = announcement(&crash).filter(|_| self.is_new(&crash)) else { continue };
            if self.allowance < 1.0 {
                self.dropped += 1;
                continue;
            }
            self.allowance -= 1.0;
            due.push(announcement);
        }
        due
    }

    /// What was due could not be said for now: it is due again later, unless it was judged anew meanwhile.
    pub fn put_off(&mut self, announcement: Announcement, now: Duration, age: Duration) {
        let crash = announcement.crash;
        self.allowance = (self.allowance + 1.0).min(BURST);
        self.said.remove(&crash.id);
        self.said_in_order.retain(|id| *id != crash.id);
        if self.waiting.iter().any(|(_, waiting)| waiting.id == crash.id) {
            return;
        }
        self.dropped += u64::from(age > NEWS);
        self.heard(crash, now, age);
    }

    /// Crashes that were not said because too many came at once, or the store did not answer for too long.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn is_new(&mut self, crash: &v1::Crash) -> bool {
        let diagnosis = crash.diagnosis.clone().unwrap_or_default();
        let verdict = (diagnosis.cause, diagnosis.object);
        match self.said.insert(crash.id.clone(), verdict.clone()) {
            Some(before) => before != verdict,
            None => {
                self.said_in_order.push_back(crash.id.clone());
                if self.said_in_order.len() > MOST_SAID
                    && let Some(oldest) = self.said_in_order.pop_front()
                {
                    self.said.remove(&oldest);
                }
                true
            }
        }
    }
}

/// None for what is no trouble, for what nobody can tell, for pods that are gone, and for those that only an agent speaks of.
pub(crate) fn announcement(crash: &Arc<v1::Crash>) -> Option<Announcement> {
    let container = crash.container.as_ref()?;
    let diagnosis = crash.diagnosis.as_ref()?;
    let told = !diagnosis.planned && !matches!(diagnosis.cause(), v1::Cause::Unknown | v1::Cause::Completed);
    let gone = crash.pod_state.as_ref().is_none_or(|state| state.pod_deleted);
    let known =
        ![&container.namespace, &container.pod_name, &container.pod_uid].iter().any(|name| name.is_empty());
    (told && known && !gone).then(|| Announcement {
        crash: Arc::clone(crash),
        said: format!("{} {}", reason(diagnosis.cause()), diagnosis.object),
        namespace: container.namespace.clone(),
        pod: container.pod_name.clone(),
        uid: container.pod_uid.clone(),
        container: container.name.clone(),
        reason: reason(diagnosis.cause()),
        note: note(container, diagnosis),
    })
}

/// `CAUSE_OUT_OF_MEMORY` as events name reasons: `OutOfMemory`.
fn reason(cause: v1::Cause) -> String {
    let words = cause.as_str_name().trim_start_matches("CAUSE_").split('_');
    words
        .map(|word| {
            let (first, rest) = word.split_at(1.min(word.len()));
            format!("{first}{}", rest.to_ascii_lowercase())
        })
        .collect()
}

fn note(container: &v1::Container, diagnosis: &v1::Diagnosis) -> String {
    let of_container =
        if container.name.is_empty() { String::new() } else { format!(" -c {}", container.name) };
    let more = format!(
        " (confidence {}). All evidence: kubectl lastwords explain pod/{} -n {}{of_container}",
        confidence(diagnosis),
        container.pod_name,
        container.namespace
    );
    sentences(diagnosis, MOST_NOTE_BYTES.saturating_sub(more.len())) + &more
}

/// `high`, `medium` or `low`.
pub(crate) fn confidence(diagnosis: &v1::Diagnosis) -> String {
    diagnosis.confidence().as_str_name().trim_start_matches("CONFIDENCE_").to_ascii_lowercase()
}

/// What happened and what to do, in so many bytes at most.
pub(crate) fn sentences(diagnosis: &v1::Diagnosis, room: usize) -> String {
    let mut said = diagnosis.summary.trim_end_matches('.').to_owned();
    if !diagnosis.remedy.is_empty() {
        said.push_str(". Fix: ");
        said.push_str(diagnosis.remedy.trim_end_matches('.'));
    }
    if said.len() > room {
        let end = said.floor_char_boundary(room.saturating_sub('…'.len_utf8()));
        said.truncate(end);
        said.push('…');
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Duration = Duration::from_secs(60);

    fn crash(id: &str, cause: v1::Cause, object: &str) -> Arc<v1::Crash> {
        Arc::new(v1::Crash {
            id: id.to_owned(),
            container: Some(v1::Container {
                namespace: "shop".to_owned(),
                pod_name: "api-7f9".to_owned(),
                pod_uid: "u".to_owned(),
                name: "app".to_owned(),
                ..v1::Container::default()
            }),
            pod_state: Some(v1::PodState::default()),
            diagnosis: Some(v1::Diagnosis {
                cause: cause.into(),
                confidence: v1::Confidence::High.into(),
                object: object.to_owned(),
                summary: "it held all of it".to_owned(),
                remedy: "raise the limit".to_owned(),
                ..v1::Diagnosis::default()
            }),
            ..v1::Crash::default()
        })
    }

    #[test]
    fn the_last_judgement_is_said_once_and_after_a_moment() {
        let mut announcements = Announcements::default();
        announcements.heard(crash("a", v1::Cause::Killed, "SIGKILL"), Duration::ZERO, Duration::ZERO);
        announcements.heard(
            crash("a", v1::Cause::OutOfMemory, "memory limit 20Mi"),
            Duration::ZERO,
            Duration::ZERO,
        );
        assert_eq!(announcements.due(Duration::from_secs(2)), []);
        let said = announcements.due(SETTLE);
        assert_eq!(said.len(), 1);
        assert_eq!(said[0].reason, "OutOfMemory");
        assert_eq!(
            said[0].note,
            "it held all of it. Fix: raise the limit (confidence high). All evidence: kubectl lastwords explain pod/api-7f9 -n shop -c app"
        );
        // The same verdict again is no news, another one is.
        announcements.heard(crash("a", v1::Cause::OutOfMemory, "memory limit 20Mi"), SETTLE, Duration::ZERO);
        assert_eq!(announcements.due(LATER), []);
        announcements.heard(
            crash("a", v1::Cause::OutOfMemory, "pod memory limit 20Mi"),
            LATER,
            Duration::ZERO,
        );
        assert_eq!(announcements.due(LATER + SETTLE).len(), 1);
    }

    #[test]
    fn what_is_no_trouble_unknown_or_old_is_not_said() {
        let mut announcements = Announcements::default();
        for (id, cause) in [("a", v1::Cause::Completed), ("b", v1::Cause::Unknown)] {
            announcements.heard(crash(id, cause, ""), Duration::ZERO, Duration::ZERO);
        }
        announcements.heard(crash("c", v1::Cause::Killed, ""), Duration::ZERO, Duration::from_secs(3_600));
        assert_eq!(announcements.due(LATER), []);
        assert_eq!(announcements.dropped(), 0);
    }

    #[test]
    fn a_pod_that_only_an_agent_speaks_of_gets_no_event() {
        let mut claimed = crash("a", v1::Cause::Killed, "").as_ref().clone();
        claimed.pod_state = None;
        let mut announcements = Announcements::default();
        announcements.heard(Arc::new(claimed), Duration::ZERO, Duration::ZERO);
        announcements.heard(crash("b", v1::Cause::Killed, ""), Duration::ZERO, Duration::ZERO);
        let said: Vec<String> =
            announcements.due(LATER).into_iter().map(|said| said.crash.id.clone()).collect();
        assert_eq!(said, ["b"]);
    }

    #[test]
    fn what_is_put_off_is_said_later_and_only_as_it_is_judged_then() {
        let mut announcements = Announcements::default();
        announcements.heard(crash("a", v1::Cause::Killed, "SIGKILL"), Duration::ZERO, Duration::ZERO);
        // However often: it takes nothing of what may be said.
        let mut now = SETTLE;
        for _ in 0..100 {
            let due = announcements.due(now);
            assert_eq!(due.len(), 1);
            announcements.put_off(due.into_iter().next().unwrap(), now, Duration::ZERO);
            assert_eq!(announcements.due(now), []);
            now += SETTLE;
        }
        let due = announcements.due(now).into_iter().next().unwrap();
        announcements.heard(crash("a", v1::Cause::OutOfMemory, "memory limit"), now, Duration::ZERO);
        announcements.put_off(due, now, Duration::ZERO);
        let said: Vec<String> =
            announcements.due(now + SETTLE).into_iter().map(|announcement| announcement.reason).collect();
        assert_eq!((said, announcements.dropped()), (vec!["OutOfMemory".to_owned()], 0));
        announcements.heard(crash("b", v1::Cause::Killed, ""), now, Duration::ZERO);
        let due = announcements.due(now + SETTLE).into_iter().next().unwrap();
        announcements.put_off(due, now + SETTLE, NEWS + SETTLE);
        assert_eq!((announcements.next(), announcements.dropped()), (None, 1));
    }

    #[test]
    fn a_storm_is_cut_and_counted() {
        let mut announcements = Announcements::default();
        for number in 0..300 {
            announcements.heard(
                crash(&number.to_string(), v1::Cause::Killed, ""),
                Duration::ZERO,
                Duration::ZERO,
            );
        }
        let said = announcements.due(SETTLE).len() as u64;
        assert_eq!((said, announcements.dropped()), (BURST as u64, 300 - BURST as u64));
    }

    #[test]
    fn a_long_sentence_is_cut_where_a_character_ends() {
        let mut long = crash("a", v1::Cause::Killed, "").as_ref().clone();
        long.diagnosis.as_mut().unwrap().summary = "ü".repeat(3_000);
        let mut announcements = Announcements::default();
        announcements.heard(Arc::new(long), Duration::ZERO, Duration::ZERO);
        let note = &announcements.due(SETTLE)[0].note;
        assert!(note.len() <= MOST_NOTE_BYTES && note.contains("…") && note.ends_with("-c app"), "{note}");
    }
}
