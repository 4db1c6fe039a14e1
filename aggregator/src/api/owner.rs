//! Why the pods of a controller, or those with certain labels, crashed: the pods that the API shows, and those that only their crashes
//! remember.

use std::cmp::Reverse;
use std::collections::HashSet;

use lastwords_proto::v1;
use prost::Message;
use tonic::Status;

use super::{PAGE_BYTES, Query, bounded, no_owner, or_default, pod_now, remembered, unavailable};
use crate::lock;
use crate::owners::Whose;
use crate::pods::{Known, Pods};
use crate::store::{Filter, PageBounds};

/// Pods in an answer at most; nobody reads more, and those that restarted most come first.
const MOST_PODS: usize = 50;
/// Crashes of each pod when the caller does not say, and at most.
const CRASHES_DEFAULT: u32 = 3;
const CRASHES_MAX: u32 = 20;
/// Crashes of the namespace looked through for pods that are gone, newest first.
const LOOKED_THROUGH: usize = 2_000;
/// Of those, at a time.
const AT_A_TIME: PageBounds = PageBounds { crashes: 500, bytes: 8 << 20 };

impl Query {
    pub(super) async fn owner(
        &self,
        request: v1::ExplainOwnerRequest,
    ) -> Result<v1::ExplainOwnerResponse, Status> {
        let v1::ExplainOwnerRequest { namespace, kind, name, selector, container, max_crashes } = request;
        let whose = match (kind.is_empty() || name.is_empty(), selector.is_empty()) {
            (false, true) => Whose::owner(&kind, &name),
            (true, false) => Whose::labels(&selector).map_err(Status::invalid_argument)?,
            _ => return Err(Status::invalid_argument("say either kind and name, or a selector")),
        };
        let namespace = or_default(&namespace).to_owned();
        let mut pods = now(&lock(&self.pods), &namespace, &whose, &container);
        pods.extend(self.gone(&namespace, &whose, &pods).await?);
        if pods.is_empty() {
            return Err(no_owner(&namespace, &kind, &name, &selector));
        }
        let mut left_out = pods.len().saturating_sub(MOST_PODS);
        pods.truncate(MOST_PODS);
        let most = bounded(max_crashes, CRASHES_DEFAULT, CRASHES_MAX);
        let mut explained: Vec<v1::ExplainPodResponse> = Vec::new();
        let mut bytes = 0;
        for pod in pods {
            let filter = Filter {
                namespace: namespace.clone(),
                pod_name: pod.name.clone(),
                container: container.clone(),
                include_completed: true,
                ..Filter::default()
            };
            let crashes = self.page(filter, most, None).await?.crashes;
            let of_pod = self.explained(pod, crashes);
            bytes += of_pod.encoded_len();
            if bytes > PAGE_BYTES && !explained.is_empty() {
                left_out += 1;
            } else {
                explained.push(of_pod);
            }
        }
        let last = |of: &v1::ExplainPodResponse| {
            of.crashes.first().and_then(|crash| crash.observed_at.as_ref()).map(|at| (at.seconds, at.nanos))
        };
        explained.sort_by_key(|of_pod| Reverse(last(of_pod)));
        Ok(v1::ExplainOwnerResponse {
            owner: whose.in_words(),
            pods: explained,
            pods_left_out: u32::try_from(left_out).unwrap_or(u32::MAX),
        })
    }

    /// The pods of crashes that the API shows no more. By labels none are found, for a crash keeps none.
    async fn gone(&self, namespace: &str, whose: &Whose, known: &[v1::Pod]) -> Result<Vec<v1::Pod>, Status> {
        let mut seen: HashSet<String> = known.iter().map(|pod| pod.name.clone()).collect();
        let mut gone = Vec::new();
        if matches!(whose, Whose::Labels(_)) {
            return Ok(gone);
        }
        let filter = Filter { namespace: namespace.to_owned(), include_completed: true, ..Filter::default() };
        let mut after = None;
        let mut looked_through = 0;
        loop {
            let page = self.store.list(filter.clone(), AT_A_TIME, after).await.map_err(unavailable)?;
            looked_through += page.crashes.len();
            for crash in &page.crashes {
                let owner = crash.pod_state.as_ref().map_or("", |state| state.owner.as_str());
                let pod = remembered(crash);
                if whose.is_owner(owner) && seen.insert(pod.name.clone()) {
                    gone.push(pod);
                }
            }
            after = page.next;
            if after.is_none() || looked_through >= LOOKED_THROUGH {
                return Ok(gone);
            }
        }
    }
}

/// Those that the API shows, or showed a short while ago; the ones that restarted most first.
fn now(pods: &Pods, namespace: &str, whose: &Whose, only: &str) -> Vec<v1::Pod> {
    let mut of_owner: Vec<&Known> =
        pods.all().filter(|known| known.pod.namespace == namespace && whose.has(&known.pod)).collect();
    let restarts = |known: &Known| -> i64 {
        known.pod.containers.iter().map(|container| i64::from(container.context.restart_count)).sum()
    };
    of_owner
        .sort_by_key(|known| (known.deleted_at.is_some(), Reverse(restarts(known)), known.pod.name.clone()));
    of_owner.into_iter().map(|known| pod_now(known, only, pods)).collect()
}
