//! Sends the spool's reports to the aggregator, and forgets each once the aggregator has stored it.
//!
//! One stream at a time: a hello, then reports, oldest first, with a bounded number of them not yet acknowledged. When the stream
//! breaks, all that is not acknowledged is sent again on the next one.

mod back_off;
mod connect;
mod flow;
mod healthy;
mod heartbeat;
mod stream;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lastwords_proto::v1;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::counters;
use crate::spool::Spool;
use back_off::BackOff;
use stream::{Ended, Stream};

pub use healthy::HealthyRuns;

/// How often the spool is synced to the disk, and so what a power failure can cost.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Where to ship, and how patiently.
#[derive(Debug, Clone)]
pub struct ShipSettings {
    /// The aggregator's URL, `https://…` or `http://…`.
    pub aggregator: String,
    /// The file with the authority of its certificate, read anew for each connection. Default: none, which is enough for `http://`.
    pub authority: Option<PathBuf>,
    /// The file with the token to send, read anew for each stream: the kubelet replaces it. Default: none.
    pub token: Option<PathBuf>,
    /// The shortest wait before trying again after a failure. Default 1 s.
    pub shortest_wait: Duration,
    /// The longest wait before trying again. Default 30 s.
    pub longest_wait: Duration,
    /// How long a stream lasts at most before the next one is begun on a connection of its own. Default 45 min: agents spread again over
    /// aggregators that were replaced one after the other, and prove their node anew while the token of before still holds (an hour).
    pub renew_after: Duration,
    /// How long what is pending may still be sent after the shutdown signal. Default 3 s, of the 5 s that the agent has to stop.
    pub farewell: Duration,
}

impl ShipSettings {
    /// The defaults, for the aggregator at this URL.
    #[must_use]
    pub fn new(aggregator: &str) -> Self {
        Self {
            aggregator: aggregator.to_owned(),
            authority: None,
            token: None,
            shortest_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(30),
            renew_after: Duration::from_secs(45 * 60),
            farewell: Duration::from_secs(3),
        }
    }
}

/// Ships the reports of `spool` until `shutdown` becomes true (or its sender is gone), and then what is pending, as far as that
/// works at once. What remains stays in the spool. What is told of `healthy` runs goes between the reports. Also syncs the spool once a second.
pub async fn ship(
    spool: Arc<Spool>,
    healthy: Arc<HealthyRuns>,
    settings: ShipSettings,
    hello: v1::AgentHello,
    shutdown: watch::Receiver<bool>,
) {
    let farewell = farewell(shutdown.clone(), settings.farewell);
    tokio::select! {
        () = deliver(&spool, &healthy, &settings, &hello, shutdown) => {}
        () = keep_synced(Arc::clone(&spool)) => {}
        () = farewell => {}
    }
    let pending = spool.pending();
    if pending > 0 {
        tracing::info!(
            "{pending} crash reports are not yet delivered; they are kept in the spool for the next start"
        );
    }
}

/// Connects again and again. Returns after the shutdown signal, once nothing is pending or the aggregator is not there.
async fn deliver(
    spool: &Spool,
    healthy: &HealthyRuns,
    settings: &ShipSettings,
    hello: &v1::AgentHello,
    mut shutdown: watch::Receiver<bool>,
) {
    let back_off = BackOff::new(settings.shortest_wait, settings.longest_wait);
    let mut failures = 0;
    let mut reach = Reach::new(&settings.aggregator);
    loop {
        let stream = Stream { spool, healthy, settings, hello, back_off: &back_off };
        let settled = || {
            failures = 0;
            reach.is_back();
        };
        match stream.run(&mut shutdown, settled).await {
            Ended::Drained => return,
            Ended::Renewed => {
                failures = 0;
                continue;
            }
            Ended::Broken(reason) => {
                counters::CONNECTIONS_FAILED.increment();
                reach.is_lost(&reason, spool.pending());
            }
        }
        if is_down(&shutdown) {
            return;
        }
        tokio::select! {
            () = sleep(back_off.wait(failures)) => failures = failures.saturating_add(1),
            _ = shutdown.wait_for(|down| *down) => {}
        }
    }
}

async fn keep_synced(spool: Arc<Spool>) {
    let mut ticks = interval(SYNC_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let spool = Arc::clone(&spool);
        // Fails only when the runtime ends, and then the spool is synced as it is dropped.
        let _ = tokio::task::spawn_blocking(move || spool.sync()).await;
    }
}

async fn farewell(mut shutdown: watch::Receiver<bool>, patience: Duration) {
    // An error says that the sender is gone, which is a shutdown as well.
    let _ = shutdown.wait_for(|down| *down).await;
    sleep(patience).await;
}

fn is_down(shutdown: &watch::Receiver<bool>) -> bool {
    *shutdown.borrow() || shutdown.has_changed().is_err()
}

/// Says when the aggregator goes away and when it is back, once each.
struct Reach<'a> {
    aggregator: &'a str,
    state: ReachState,
}

#[derive(PartialEq, Eq)]
enum ReachState {
    Unknown,
    Reached,
    Lost,
}

impl<'a> Reach<'a> {
    fn new(aggregator: &'a str) -> Self {
        Self { aggregator, state: ReachState::Unknown }
    }

    fn is_back(&mut self) {
        match std::mem::replace(&mut self.state, ReachState::Reached) {
            ReachState::Unknown => tracing::info!("connected to the aggregator {}", self.aggregator),
            ReachState::Lost => tracing::info!("the aggregator {} is back", self.aggregator),
            ReachState::Reached => {}
        }
    }

    fn is_lost(&mut self, reason: &str, pending: usize) {
        if std::mem::replace(&mut self.state, ReachState::Lost) != ReachState::Lost {
            tracing::warn!(
                "cannot deliver to the aggregator {}: {reason}; crash reports are kept in the spool ({pending} now) until it is \
                 back: check that it runs and that this node reaches it",
                self.aggregator
            );
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;
