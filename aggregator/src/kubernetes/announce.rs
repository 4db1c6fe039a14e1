//! Writes the causes of crashes on their pods as events (events.k8s.io/v1; repeats become a series).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use lastwords_proto::v1;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::watch::Announcing;
use crate::announce::{Announcement, Announcements};
use crate::time;

/// Who says it, and owns what it writes.
pub(super) const CONTROLLER: &str = "lastwords.dev/aggregator";
/// How long one write may take.
pub(super) const WRITE: Duration = Duration::from_secs(10);

/// What became of the events.
#[derive(Debug, Default)]
pub struct Announced {
    /// Written, or counted up as a repeat.
    pub written: AtomicU64,
    /// Not written because too many came at once, or the store did not answer for too long.
    pub dropped: AtomicU64,
    /// Put off because the store did not answer whether another aggregator has said it.
    pub put_off: AtomicU64,
    /// Refused by the API, or not answered.
    pub failed: AtomicU64,
}

/// Says what is judged until the judge ends.
pub(super) async fn follow(client: Client, announcing: Announcing) {
    let Announcing { mut judged, counts, store, leading } = announcing;
    let instance = std::env::var("HOSTNAME").ok();
    let recorder = Recorder::new(client, Reporter { controller: CONTROLLER.to_owned(), instance });
    let mut announcements = Announcements::default();
    let mut lagged = 0;
    let (mut was_refused, mut store_was_away) = (false, false);
    let start = Instant::now();
    loop {
        let due = announcements.next().map(|at| start + at);
        tokio::select! {
            crash = judged.recv() => match crash {
                // Another aggregator says it.
                Ok(_) if !*leading.borrow() => {}
                Ok(crash) => {
                    let age = age(&crash);
                    announcements.heard(crash, start.elapsed(), age);
                }
                Err(RecvError::Lagged(missed)) => lagged += missed,
                Err(RecvError::Closed) => return,
            },
            () = reached(due) => {
                let mut due = announcements.due(start.elapsed()).into_iter();
                while let Some(announcement) = due.next() {
                    if !*leading.borrow() {
                        continue;
                    }
                    // Without the store's word the other one may have said it: rather later than twice.
                    match store.claim(&announcement.crash.id, &announcement.said).await {
                        Ok(true) => store_was_away = false,
                        Ok(false) => continue,
                        Err(error) => {
                            if !std::mem::replace(&mut store_was_away, true) {
                                tracing::warn!("events are put off: {error}");
                            }
                            for announcement in std::iter::once(announcement).chain(due.by_ref()) {
                                counts.put_off.fetch_add(1, Ordering::Relaxed);
                                let age = age(&announcement.crash);
                                announcements.put_off(announcement, start.elapsed(), age);
                            }
                            break;
                        }
                    }
                    match tokio::time::timeout(WRITE, write(&recorder, announcement)).await {
                        Ok(Ok(())) => {
                            was_refused = false;
                            counts.written.fetch_add(1, Ordering::Relaxed);
                        }
                        outcome => {
                            counts.failed.fetch_add(1, Ordering::Relaxed);
                            let reason = match outcome {
                                Ok(Err(error)) => error.to_string(),
                                _ => format!("no answer within {WRITE:?}"),
                            };
                            if !std::mem::replace(&mut was_refused, true) {
                                tracing::warn!(
                                    "an event could not be written: {reason} (the aggregator's service account needs create and patch on events.events.k8s.io)"
                                );
                            }
                        }
                    }
                }
            }
        }
        counts.dropped.store(announcements.dropped() + lagged, Ordering::Relaxed);
    }
}

async fn write(recorder: &Recorder, announcement: Announcement) -> Result<(), kube::Error> {
    let Announcement { namespace, pod, uid, container, reason, note, .. } = announcement;
    let event = Event {
        type_: EventType::Warning,
        reason,
        note: Some(note),
        action: "Explain".to_owned(),
        secondary: None,
    };
    let regarding = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(namespace),
        name: Some(pod),
        uid: Some(uid),
        // What happened to the pod as a whole has none.
        field_path: (!container.is_empty()).then(|| format!("spec.containers{{{container}}}")),
        ..ObjectReference::default()
    };
    recorder.publish(&event, &regarding).await
}

/// Resolves at that moment, or never.
pub(super) async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Time since the death.
pub(super) fn age(crash: &v1::Crash) -> Duration {
    let observed = crash.observed_at.as_ref().and_then(time::from_wire).map_or(0, |at| at.0);
    Duration::from_nanos(u64::try_from(time::now().0.saturating_sub(observed)).unwrap_or(0))
}
