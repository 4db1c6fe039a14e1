//! Whose pods an agent may speak of: those that the Kubernetes API binds to the node that it proved.
//!
//! A report may come before its pod is known. It is kept then, told as not confirmed and said on no pod; it is removed and counted once
//! the API shows that the pod is another node's.

use std::sync::atomic::Ordering;

use lastwords_proto::v1;

use super::{Diagnoser, Judged};
use crate::pods::Pods;
use crate::{lock, pair, stated, time};

/// What the Kubernetes API says of an agent's word that a container is of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The pod is bound to the agent's node; or agents need not prove theirs, and nobody can tell.
    Confirmed,
    /// No such pod is known, or it is bound to no node yet.
    Unknown,
    /// The pod is on another node.
    Elsewhere,
}

impl Diagnoser {
    /// Whether an agent on `node` may speak of this container.
    pub fn standing_of(&self, container: &v1::Container, node: &str) -> Standing {
        self.standing_in(&lock(&self.pods), container, node)
    }

    /// The same of the container of a crash. What was once paired was confirmed then: a pod never changes its node, though another of
    /// its name may be elsewhere.
    pub(super) fn standing(&self, crash: &v1::Crash, pods: &Pods) -> Standing {
        match &crash.container {
            Some(container) if crash.pod_state.is_none() && !stated::is_stated(&crash.id) => {
                self.standing_in(pods, container, &crash.node)
            }
            _ => Standing::Confirmed,
        }
    }

    fn standing_in(&self, pods: &Pods, container: &v1::Container, node: &str) -> Standing {
        if !self.nodes_are_proven {
            return Standing::Confirmed;
        }
        let mut standing = Standing::Unknown;
        for known in pair::pods_named(container, pods) {
            match known.pod.node.as_str() {
                // Its binding is on its way.
                "" => return Standing::Unknown,
                bound if bound == node => standing = Standing::Confirmed,
                _ => return Standing::Elsewhere,
            }
        }
        standing
    }

    /// Notes the run of a crash with its pod, if the pod is its agent's to speak of.
    pub(super) fn note(&self, crash: &v1::Crash) {
        let mut pods = lock(&self.pods);
        if self.standing(crash, &pods) == Standing::Confirmed {
            pair::note(crash, &mut pods);
        }
    }

    /// Removes a report of another node's pod that was taken while the pod was not known.
    pub(super) async fn refuse_late(&self, id: &str, report: &v1::Crash) -> Judged {
        if let Err(error) = self.store.remove(id).await {
            self.revisions.failed.fetch_add(1, Ordering::Relaxed);
            tracing::debug!("{error}");
            return Judged::Later;
        }
        self.revisions.of_other_nodes.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(id, node = report.node, "report removed: its container is of a pod on another node");
        Judged::Settled
    }

    /// A crash as it is told: None when its pod is known to be another node's.
    pub(super) fn to_tell(&self, crash: v1::Crash, pods: &Pods) -> Option<v1::Crash> {
        let standing = self.standing(&crash, pods);
        let claims = crash
            .container
            .as_ref()
            .is_some_and(|container| !container.pod_uid.is_empty() || !container.pod_name.is_empty());
        (standing != Standing::Elsewhere).then(|| v1::Crash {
            cluster: self.cluster.clone(),
            pod_unconfirmed: claims && standing == Standing::Unknown,
            ..crash
        })
    }

    /// A stored crash with its pod's state as it is now rather than as it was when it was last judged. None when it is not to be told:
    /// its pod is another node's.
    pub fn present(&self, crash: v1::Crash) -> Option<v1::Crash> {
        let pods = lock(&self.pods);
        let crash = self.to_tell(crash, &pods)?;
        if crate::stated::is_state(&crash) {
            drop(pods);
            return Some(match self.state_again(&crash) {
                Some(now) => v1::Crash { pod_state: now.pod_state, ..crash },
                None => crash,
            });
        }
        let paired = match crash.pod_unconfirmed {
            true => None,
            false => pair::pair(&crash, crash.pod_state.as_ref(), &pods, &lock(&self.healthy)),
        };
        Some(match paired {
            Some(paired) => {
                v1::Crash { container: Some(paired.container), pod_state: Some(paired.state), ..crash }
            }
            None => crash,
        })
    }

    /// Notes what failed in a container that runs well. What comes before the API has shown its pod on this node is forgotten: the next
    /// run tells it again.
    pub async fn note_healthy(&self, run: &v1::HealthyRun, node: &str) {
        let Some(reported) = &run.container else { return };
        let _in_order = self.keeping.lock().await;
        let writes = {
            let pods = lock(&self.pods);
            if self.standing_in(&pods, reported, node) != Standing::Confirmed {
                return;
            }
            let Some((known, container)) = pair::find(reported, &pods) else { return };
            lock(&self.healthy).note_failures(known, container, &run.failures, time::now())
        };
        self.keep(writes).await;
    }
}
