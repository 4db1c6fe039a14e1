//! Writes the cause of a pod's newest crash into its annotations, where that is asked for. A task of its own: events do not wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use lastwords_proto::v1;
use serde_json::{Map, Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use super::announce::{CONTROLLER, WRITE, age, reached};
use crate::annotate::{Annotation, Annotations};

/// What became of the annotations.
#[derive(Debug, Default)]
pub struct Annotated {
    /// Written, or taken back.
    pub written: AtomicU64,
    /// Left to a newer crash of the same pod.
    pub superseded: AtomicU64,
    /// The pod was gone, or another one had its name.
    pub gone: AtomicU64,
    /// Forbidden by the API: not tried again.
    pub refused: AtomicU64,
    /// Not answered, in conflict, or too many requests: tried again.
    pub failed: AtomicU64,
    /// Given up, because too many waited or it was tried often enough.
    pub dropped: AtomicU64,
}

/// Crashes to be written into annotations.
#[derive(Debug)]
pub struct Annotating {
    /// Crashes as they are judged.
    pub judged: broadcast::Receiver<Arc<v1::Crash>>,
    /// What became of them.
    pub counts: Arc<Annotated>,
    /// True while this aggregator is the one that writes.
    pub leading: watch::Receiver<bool>,
}

enum Outcome {
    Written,
    Gone,
    Refused(String),
    Failed(String),
}

/// Writes what is judged until the judge ends.
pub(super) async fn follow(client: Client, annotating: Annotating) {
    let Annotating { mut judged, counts, leading } = annotating;
    let mut annotations = Annotations::default();
    let mut lagged = 0;
    let mut said = String::new();
    let start = Instant::now();
    loop {
        let due = annotations.next().map(|at| start + at);
        tokio::select! {
            crash = judged.recv() => match crash {
                // Also while another one leads: which crash is a pod's newest has to be known when this one takes over.
                Ok(crash) => {
                    let age = age(&crash);
                    annotations.heard(crash, start.elapsed(), age);
                }
                Err(RecvError::Lagged(missed)) => lagged += missed,
                Err(RecvError::Closed) => return,
            },
            () = reached(due) => {
                // Each has the same values to write: what this one leaves to the leader is not lost.
                if let Some(annotation) = annotations.due(start.elapsed()).filter(|_| *leading.borrow()) {
                    let outcome = write(&client, &annotation).await;
                    let problem = match outcome {
                        Outcome::Written => {
                            count(&counts.written);
                            said.clear();
                            None
                        }
                        Outcome::Gone => {
                            count(&counts.gone);
                            None
                        }
                        Outcome::Refused(reason) => {
                            count(&counts.refused);
                            Some(format!("{reason} (the aggregator's service account needs patch on pods)"))
                        }
                        Outcome::Failed(reason) => {
                            count(&counts.failed);
                            let age = age(annotation.crash());
                            annotations.put_off(annotation, start.elapsed(), age);
                            Some(reason)
                        }
                    };
                    if let Some(reason) = problem.filter(|reason| *reason != said) {
                        tracing::warn!("a pod could not be annotated: {reason}");
                        said = reason;
                    }
                }
            }
        }
        counts.superseded.store(annotations.superseded(), Ordering::Relaxed);
        counts.dropped.store(annotations.dropped() + lagged, Ordering::Relaxed);
    }
}

async fn write(client: &Client, annotation: &Annotation) -> Outcome {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &annotation.namespace);
    // The owner of these fields (`metadata.managedFields`).
    let manager = PatchParams { field_manager: Some(CONTROLLER.to_owned()), ..PatchParams::default() };
    // A merge patch: one that is applied would make a pod that is not there. The UID keeps it from another pod of this name.
    let values: Map<String, Value> =
        annotation.values.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let patch = Patch::Merge(json!({"metadata": {"uid": annotation.uid, "annotations": values}}));
    // Of the answer nothing is wanted, so that only metadata is asked for.
    let written = pods.patch_metadata(&annotation.pod, &manager, &patch);
    match tokio::time::timeout(WRITE, written).await {
        Ok(Ok(_)) => Outcome::Written,
        Ok(Err(kube::Error::Api(status))) => match status.code {
            // 422: the UID is not that of the pod (or, which a pod's annotations cannot be, the values are refused).
            404 | 422 => Outcome::Gone,
            401 | 403 => Outcome::Refused(status.message.clone()),
            _ => Outcome::Failed(status.message.clone()),
        },
        Ok(Err(error)) => Outcome::Failed(crate::causes(&error)),
        Err(_) => Outcome::Failed(format!("no answer within {WRITE:?}")),
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
