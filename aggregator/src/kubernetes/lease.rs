//! One of several aggregators leads: it holds a Lease (coordination.k8s.io/v1), as the cluster's own controllers do. The others take reports and
//! answer; the one that holds it judges anew, tells what only the API shows, and writes events.
//!
//! Whether a holder still lives is told by this process's own clock: the time since its last renewal was seen here. Clocks of nodes need not
//! agree. Whoever cannot renew in time lets go before anybody else may take it.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::shutdown::Stop;

/// A holder that has not renewed it for this long is gone. The times are those of Kubernetes's own controllers.
const LASTS: Duration = Duration::from_secs(15);
/// A holder that could not renew it for this long stops to lead.
const LETS_GO: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(2);
/// How long one call may take: a holder has to notice in time that it cannot renew.
const CALL: Duration = Duration::from_secs(4);

struct Candidate {
    leases: Api<Lease>,
    /// The Lease's, in the aggregator's own namespace.
    name: String,
    identity: String,
    /// The Lease as it was last seen, and since when it has been so.
    seen: Option<(Lease, Instant)>,
    renewed: Option<Instant>,
}

/// Contends for the Lease until told to stop, and says by `leading` whether this one holds it. Lets go of it at the end.
pub(super) async fn contend(client: Client, name: String, leading: watch::Sender<bool>, mut stop: Stop) {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "aggregator".to_owned());
    let mut candidate = Candidate {
        leases: Api::default_namespaced(client),
        name,
        // Two runs in one pod are two.
        identity: format!("{host}_{:016x}", crate::time::now().0),
        seen: None,
        renewed: None,
    };
    let (name, identity) = (candidate.name.clone(), candidate.identity.clone());
    let say = |holds: bool| {
        let changed = leading.send_if_modified(|before| std::mem::replace(before, holds) != holds);
        if changed {
            tracing::info!(leading = holds, identity, "the Lease {name}");
        }
    };
    let mut said = String::new();
    loop {
        let renewed = candidate.renewed;
        let outcome = letting_go(renewed, tokio::time::timeout(CALL, candidate.step()), &say).await;
        match outcome.unwrap_or_else(|_| Err(format!("no answer within {CALL:?}"))) {
            Ok(()) => said.clear(),
            Err(reason) if reason != said => {
                tracing::warn!(
                    "the Lease {} cannot be had: {reason} (the aggregator's service account needs get and update on it, and create where it is missing)",
                    candidate.name
                );
                said = reason;
            }
            Err(_) => {}
        }
        say(candidate.renewed.is_some_and(|at| at.elapsed() < LETS_GO));
        let pause = tokio::time::timeout(PAUSE, stop.requested());
        if letting_go(candidate.renewed, pause, &say).await.is_ok() {
            break;
        }
    }
    leading.send_replace(false);
    // Nobody has to wait for its end. When this fails they do.
    let _ = tokio::time::timeout(CALL, candidate.release()).await;
}

/// Waits for something, and says when the lead ends meanwhile.
async fn letting_go<T>(renewed: Option<Instant>, what: impl Future<Output = T>, say: impl Fn(bool)) -> T {
    let mut what = std::pin::pin!(what);
    if let Some(renewed) = renewed {
        tokio::select! {
            done = &mut what => return done,
            () = tokio::time::sleep_until(renewed + LETS_GO) => say(false),
        }
    }
    what.await
}

impl Candidate {
    async fn step(&mut self) -> Result<(), String> {
        let began = Instant::now();
        let in_words = |error: kube::Error| crate::causes(&error);
        let Some(lease) = self.leases.get_opt(&self.name).await.map_err(in_words)? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.spec(None)),
            };
            return self.written(self.leases.create(&PostParams::default(), &lease).await, began);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let is_ours = spec.holder_identity.as_deref() == Some(&self.identity);
        let is_free = spec.holder_identity.as_deref().unwrap_or_default().is_empty();
        let unchanged_since = match &self.seen {
            Some((seen, since)) if seen.spec == lease.spec => *since,
            _ => began,
        };
        let lasts = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let lasts = lasts.map_or(LASTS, Duration::from_secs);
        self.seen = Some((lease.clone(), unchanged_since));
        if !(is_ours || is_free || unchanged_since.elapsed() >= lasts) {
            self.renewed = None;
            return Ok(());
        }
        // With the version that was read: of two that take it at once one is refused.
        let lease = Lease { spec: Some(self.spec(Some(&spec))), ..lease };
        self.written(self.leases.replace(&self.name, &PostParams::default(), &lease).await, began)
    }

    fn written(&mut self, result: Result<Lease, kube::Error>, began: Instant) -> Result<(), String> {
        match result {
            Ok(_) => {
                self.renewed = Some(began);
                Ok(())
            }
            // Somebody else was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                self.renewed = None;
                Ok(())
            }
            Err(error) => Err(crate::causes(&error)),
        }
    }

    /// As it is when this one holds it from now on.
    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let held = before.filter(|before| before.holder_identity.as_deref() == Some(&self.identity));
        let transitions =
            before.map_or(0, |before| before.lease_transitions.unwrap_or(0) + i32::from(held.is_none()));
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LASTS.as_secs()).ok(),
            acquire_time: held.and_then(|held| held.acquire_time.clone()).or(Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    async fn release(&self) -> Result<(), kube::Error> {
        if self.renewed.is_none() {
            return Ok(());
        }
        let mut lease = self.leases.get(&self.name).await?;
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(&self.identity) {
            spec.holder_identity = None;
            self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn the_lead_ends_in_time_though_a_call_is_not_answered() {
        let long_ago = Instant::now().checked_sub(LETS_GO).unwrap();
        // It is answered only once the lead has ended.
        let (answer, answered) = oneshot::channel();
        let answer = Cell::new(Some(answer));
        let say = |holds| answer.take().unwrap().send(holds).unwrap();
        let call = letting_go(Some(long_ago), answered, say);
        assert!(!tokio::time::timeout(2 * LASTS, call).await.unwrap().unwrap());
        // Nothing is said of what is done in time, and of a lead that is none.
        letting_go(Some(Instant::now()), std::future::ready(()), |_| unreachable!()).await;
        letting_go(None, std::future::ready(()), |_| unreachable!()).await;
    }
}
