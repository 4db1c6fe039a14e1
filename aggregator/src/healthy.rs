//! What is remembered of runs that went well: with which template a container last did, and which calls fail in it all the same.
//!
//! Kept by namespace, owner and container, so that it outlives pods and restarts of this program. Pure: time is an argument, and what
//! has to be written is handed to the caller.

use std::collections::{BTreeMap, BTreeSet};

use lastwords_diagnosis::evidence::UnixNanos;
use lastwords_diagnosis::pod::{Change, ContainerState};
use serde::{Deserialize, Serialize};

use crate::pods::{Container, Known};
use crate::template::Template;

/// A container that has been ready and up for this long (nanoseconds) runs well.
pub const HEALTHY_AFTER: i64 = 60_000_000_000;
/// Containers remembered, some 4 KiB each: those of a large cluster. Beyond it the one seen longest ago is forgotten.
const MOST: usize = 20_000;
/// Templates of one container remembered: of a rollout and of the one that it replaces, and one more.
const MOST_TEMPLATES: usize = 3;
/// Images of one container whose failed calls are remembered.
const MOST_IMAGES: usize = 3;
/// Failed calls of one image remembered. A program makes some tens of them while it starts.
const MOST_FAILURES: usize = 512;
/// How often it is written that a container still runs well (nanoseconds).
const REFRESH: i64 = 3_600_000_000_000;

/// All that is remembered.
#[derive(Debug, Default)]
pub struct Healthy {
    by_key: BTreeMap<String, Remembered>,
    forgotten: u64,
}

/// Of one container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// When it was last seen to run well.
    seen_at: i64,
    /// The templates with which it did, with the first time; the latest last.
    templates: Vec<(i64, Template)>,
    /// By image: signatures of calls that failed while it ran well.
    failures: Vec<(String, BTreeSet<u64>)>,
}

/// Something to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToKeep {
    /// Where.
    pub key: String,
    /// What, or None to remove what is there.
    pub value: Option<String>,
}

/// What two aggregators remember of the same container, together.
pub fn merged(one: &str, other: &str) -> String {
    let (Ok(mut all), Ok(more)) =
        (serde_json::from_str::<Remembered>(one), serde_json::from_str::<Remembered>(other))
    else {
        return other.to_owned();
    };
    for (since, template) in more.templates {
        match all.templates.iter_mut().find(|(_, known)| *known == template) {
            Some((known, _)) if more.seen_at > all.seen_at => *known = since,
            Some(_) => {}
            None => all.templates.push((since, template)),
        }
    }
    all.templates.sort_by_key(|(since, _)| *since);
    trim(&mut all.templates, MOST_TEMPLATES);
    for (image, failures) in more.failures {
        match all.failures.iter_mut().find(|(known, _)| *known == image) {
            Some((_, known)) => {
                let news = failures.into_iter().filter(|it| !known.contains(it));
                let news: Vec<u64> = news.take(MOST_FAILURES.saturating_sub(known.len())).collect();
                known.extend(news);
            }
            None => all.failures.push((image, failures)),
        }
    }
    trim(&mut all.failures, MOST_IMAGES);
    all.seen_at = all.seen_at.max(more.seen_at);
    serde_json::to_string(&all).unwrap_or_else(|_| other.to_owned())
}

impl Healthy {
    /// From what was kept. What cannot be read any more is left out.
    pub fn from_kept(kept: Vec<(String, String)>) -> Self {
        let by_key =
            kept.into_iter().filter_map(|(key, value)| Some((key, serde_json::from_str(&value).ok()?)));
        Self { by_key: by_key.collect(), forgotten: 0 }
    }

    /// Containers forgotten because there were more than can be remembered.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Notes the template of a container if it runs well now.
    pub fn note_template(&mut self, known: &Known, container: &Container, now: UnixNanos) -> Vec<ToKeep> {
        let Some(since) = well_since(known, container, now) else { return Vec::new() };
        let key = key(known, container);
        let remembered = self.by_key.entry(key.clone()).or_default();
        let last = remembered.templates.last().map(|(_, template)| template);
        let is_news = last != Some(&*container.template);
        if !is_news && now.0.saturating_sub(remembered.seen_at) < REFRESH {
            return Vec::new();
        }
        remembered.seen_at = now.0;
        if is_news {
            remembered.templates.retain(|(_, template)| *template != *container.template);
            remembered.templates.push((since.0, Template::clone(&container.template)));
            remembered.templates.sort_by_key(|(since, _)| *since);
            trim(&mut remembered.templates, MOST_TEMPLATES);
        }
        self.keep(key)
    }

    /// Notes calls that failed in a container which has been up for a while.
    pub fn note_failures(
        &mut self,
        known: &Known,
        container: &Container,
        failures: &[u64],
        now: UnixNanos,
    ) -> Vec<ToKeep> {
        let key = key(known, container);
        let remembered = self.by_key.entry(key.clone()).or_default();
        let image = &container.context.image;
        let mut of_image = match remembered.failures.iter().position(|(known, _)| known == image) {
            Some(at) => remembered.failures.remove(at).1,
            None => BTreeSet::new(),
        };
        let before = of_image.len();
        let room = MOST_FAILURES.saturating_sub(before);
        let news: Vec<u64> =
            failures.iter().filter(|it| !of_image.contains(it)).take(room).copied().collect();
        of_image.extend(news);
        let is_news = of_image.len() > before || remembered.seen_at == 0;
        remembered.failures.push((image.clone(), of_image));
        trim(&mut remembered.failures, MOST_IMAGES);
        remembered.seen_at = now.0;
        if is_news { self.keep(key) } else { Vec::new() }
    }

    /// How a container's template differs from the last one that ran well before `ended_at`. None differ when it was this one.
    pub fn changes(&self, known: &Known, container: &Container, ended_at: UnixNanos) -> Vec<Change> {
        let Some(remembered) = self.by_key.get(&key(known, container)) else { return Vec::new() };
        let mut earlier = remembered.templates.iter().filter(|(since, _)| *since < ended_at.0);
        if earlier.clone().any(|(_, template)| *template == *container.template) {
            return Vec::new();
        }
        let last = earlier.next_back();
        last.map_or_else(Vec::new, |(_, template)| {
            container.template.changes_since(template, &container.context.field_path)
        })
    }

    /// Signatures of the calls that fail in this container also when it runs well.
    pub fn failures(&self, known: &Known, container: &Container) -> Vec<u64> {
        let of_container = self.by_key.get(&key(known, container)).into_iter().flat_map(|it| &it.failures);
        of_container
            .filter(|(image, _)| *image == container.context.image)
            .flat_map(|(_, signatures)| signatures.iter().copied())
            .collect()
    }

    /// What has to be written for this key, and for those that had to make room for it.
    fn keep(&mut self, key: String) -> Vec<ToKeep> {
        let value = self.by_key.get(&key).and_then(|remembered| serde_json::to_string(remembered).ok());
        let mut writes = vec![ToKeep { key, value }];
        while self.by_key.len() > MOST {
            let oldest = self.by_key.iter().min_by_key(|(_, remembered)| remembered.seen_at);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { break };
            self.by_key.remove(&oldest);
            self.forgotten += 1;
            writes.push(ToKeep { key: oldest, value: None });
        }
        writes
    }
}

/// Since when it has been ready and up, if it runs well now.
fn well_since(known: &Known, container: &Container, now: UnixNanos) -> Option<UnixNanos> {
    match &container.context.state {
        ContainerState::Running { started_at } if container.context.ready && known.deleted_at.is_none() => {
            let well = started_at.0.saturating_add(HEALTHY_AFTER);
            (started_at.0 > 0 && well <= now.0).then_some(UnixNanos(well))
        }
        _ => None,
    }
}

fn key(known: &Known, container: &Container) -> String {
    let pod = &known.pod;
    let owner = if pod.owner.is_empty() { format!("pod/{}", pod.name) } else { pod.owner.clone() };
    format!("{}/{owner}/{}", pod.namespace, container.context.name)
}

/// Leaves the last `most`.
fn trim<T>(list: &mut Vec<T>, most: usize) {
    let surplus = list.len().saturating_sub(most);
    list.drain(..surplus);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_353_365_000_000_000;

    fn known(owner: &str) -> Known {
        let mut known = Known::default();
        known.pod.namespace = "shop".into();
        known.pod.name = "api-1".into();
        known.pod.owner = owner.into();
        known
    }

    fn container(image: &str, up_seconds: i64) -> Container {
        let mut container = Container::default();
        std::sync::Arc::make_mut(&mut container.template).show("image", image);
        container.context.image = image.into();
        container.context.name = "app".into();
        container.context.field_path = "spec.containers[0]".into();
        container.context.ready = true;
        container.context.state =
            ContainerState::Running { started_at: UnixNanos(NOW - up_seconds * 1_000_000_000) };
        container
    }

    fn texts(healthy: &Healthy, known: &Known, container: &Container) -> Vec<String> {
        healthy.changes(known, container, UnixNanos(NOW)).into_iter().map(|change| change.text).collect()
    }

    #[test]
    fn what_changed_since_it_ran_well_survives_a_restart() {
        let (mut healthy, known) = (Healthy::default(), known("deployment/api"));
        assert_eq!(
            healthy.note_template(&known, &container("app:1", 30), UnixNanos(NOW)),
            [],
            "not long enough"
        );
        let kept = healthy.note_template(&known, &container("app:1", 90), UnixNanos(NOW));
        assert_eq!(kept[0].key, "shop/deployment/api/app");
        assert_eq!(healthy.note_template(&known, &container("app:1", 120), UnixNanos(NOW)), [], "no news");
        let kept = kept.into_iter().filter_map(|it| Some((it.key, it.value?))).collect();
        let healthy = Healthy::from_kept(kept);
        assert_eq!(
            texts(&healthy, &known, &container("app:2", 1)),
            ["spec.containers[0].image: app:1 → app:2"]
        );
        assert_eq!(texts(&healthy, &known, &container("app:1", 1)), [""; 0], "that one did run well");
        assert_eq!(texts(&healthy, &self::known("deployment/web"), &container("app:2", 1)), [""; 0]);
    }

    #[test]
    fn one_that_ran_well_only_later_is_not_the_last_good_one() {
        let (mut healthy, known) = (Healthy::default(), known(""));
        healthy.note_template(&known, &container("app:1", 9_000), UnixNanos(NOW));
        healthy.note_template(&known, &container("app:3", -100), UnixNanos(NOW + 200_000_000_000));
        let died = container("app:2", 1);
        assert_eq!(texts(&healthy, &known, &died), ["spec.containers[0].image: app:1 → app:2"]);
    }

    #[test]
    fn failed_calls_are_those_of_the_image() {
        let (mut healthy, known) = (Healthy::default(), known("daemonset/log"));
        let one = container("app:1", 90);
        assert_eq!(healthy.note_failures(&known, &one, &[3, 1, 3], UnixNanos(NOW)).len(), 1);
        assert_eq!(healthy.note_failures(&known, &one, &[1], UnixNanos(NOW)), []);
        assert_eq!(healthy.failures(&known, &one), [1, 3]);
        assert_eq!(healthy.failures(&known, &container("app:2", 90)), [0; 0]);
        let many: Vec<u64> = (0..2_000).collect();
        healthy.note_failures(&known, &one, &many, UnixNanos(NOW));
        assert_eq!(healthy.failures(&known, &one).len(), MOST_FAILURES);
    }

    #[test]
    fn what_two_learned_is_kept_together() {
        let known = known("deployment/api");
        let learned = |image: &str, failures: &[u64]| {
            let mut healthy = Healthy::default();
            healthy.note_template(&known, &container(image, 90), UnixNanos(NOW));
            healthy.note_failures(&known, &container(image, 90), failures, UnixNanos(NOW))[0]
                .value
                .clone()
                .unwrap()
        };
        let both =
            merged(&merged(&learned("app:1", &[1]), &learned("app:1", &[2, 1])), &learned("app:2", &[3]));
        let healthy = Healthy::from_kept(vec![("shop/deployment/api/app".to_owned(), both)]);
        assert_eq!(healthy.failures(&known, &container("app:1", 90)), [1, 2]);
        assert_eq!(healthy.failures(&known, &container("app:2", 90)), [3]);
        assert_eq!(texts(&healthy, &known, &container("app:2", 1)), [""; 0]);
        assert_eq!(texts(&healthy, &known, &container("app:1", 1)), [""; 0]);
        assert_eq!(merged("unreadable", "{}"), "{}");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut healthy = Healthy::default();
        for index in 0..=MOST {
            let at = UnixNanos(NOW + i64::try_from(index).unwrap());
            healthy.note_failures(&known(&format!("job/{index}")), &container("a", 1), &[1], at);
        }
        assert_eq!((healthy.by_key.len(), healthy.forgotten()), (MOST, 1));
        assert_eq!(healthy.failures(&known("job/0"), &container("a", 1)), [0; 0], "the oldest");
    }
}
