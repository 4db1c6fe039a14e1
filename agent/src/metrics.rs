//! What Prometheus is told of this agent: its counters as they are, and how much of what there is now.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use lastwords_metrics::Writer;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::counters::{self, Counter};
use crate::kernel::verdict::{State, Verdict};
use crate::spool::Spool;

/// Counters that are one metric, told apart by a label. Every other one is a metric of its own, by its own name.
const FAMILIES: [Family; 2] = [
    Family {
        name: "records_dropped",
        help: "Records from the kernel that were lost, by reason.",
        label: "reason",
        counters: &[
            ("ring_full", &counters::RING_RECORDS_DROPPED),
            ("not_understood", &counters::DECODE_ERRORS),
        ],
    },
    Family {
        name: "reports_dropped",
        help: "Crash reports that were lost, by reason.",
        label: "reason",
        counters: &[
            ("spool_full", &counters::SPOOL_DROPPED_FULL),
            ("memory_full", &counters::SPOOL_DROPPED_MEMORY),
            ("too_large", &counters::SPOOL_DROPPED_TOO_LARGE),
            ("corrupt", &counters::SPOOL_DROPPED_CORRUPT),
            ("rejected", &counters::REPORTS_REJECTED),
        ],
    },
];

struct Family {
    name: &'static str,
    help: &'static str,
    label: &'static str,
    counters: &'static [(&'static str, &'static Counter)],
}

#[derive(Debug)]
struct Agent {
    spool: Arc<Spool>,
    /// Probes by state and way in.
    probes: BTreeMap<(&'static str, String), u64>,
}

impl Agent {
    fn new(spool: Arc<Spool>, verdicts: &[Verdict]) -> Self {
        let mut probes = BTreeMap::new();
        for verdict in verdicts {
            let key = match &verdict.state {
                State::Active { way_in, .. } => ("active", way_in.to_string()),
                State::Unsupported(_) => ("unsupported", String::new()),
                State::Broken(_) => ("broken", String::new()),
            };
            *probes.entry(key).or_default() += 1;
        }
        Self { spool, probes }
    }
}

impl Collector for Agent {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer::new(encoder);
        let version = [("version", env!("CARGO_PKG_VERSION").to_owned())];
        writer.gauges("build_info", "The version of this agent.", [(version, 1)])?;
        writer.counter(
            "crashes",
            "Ends of containers and OOM kills that became a report in the spool.",
            counters::REPORTS_SPOOLED.value(),
        )?;
        for family in &FAMILIES {
            let values = family.counters.iter();
            let values = values.map(|(is, counter)| ([(family.label, (*is).to_owned())], counter.value()));
            writer.counters(family.name, family.help, values)?;
        }
        for counter in counters::ALL.iter().filter(|counter| !is_elsewhere(counter)) {
            writer.counter(counter.name, counter.help, counter.value())?;
        }
        let probes = self.probes.iter();
        writer.gauges(
            "probes",
            "Probes by what became of them and, where they are active, by their way into the kernel.",
            probes.map(|((state, way_in), count)| {
                ([("state", (*state).to_owned()), ("way_in", way_in.clone())], *count)
            }),
        )?;
        writer.gauge(
            "containers_watched",
            "Containers that are watched now.",
            counters::CONTAINERS_WATCHED.value(),
        )?;
        let pending = u64::try_from(self.spool.pending()).unwrap_or(u64::MAX);
        writer.gauge("spool_reports", "Crash reports that the aggregator has not acknowledged.", pending)?;
        writer.gauge("spool_bytes", "Bytes of the spool's files.", self.spool.bytes())
    }
}

/// Whether it is told under another name than its own.
fn is_elsewhere(counter: &Counter) -> bool {
    let in_families = FAMILIES.iter().flat_map(|family| family.counters).map(|(_, counter)| *counter);
    in_families.chain([&counters::REPORTS_SPOOLED]).any(|other| std::ptr::eq(other, counter))
}

/// Listens there and answers until the agent ends. An address that cannot be had is said and costs nothing else: what matters is that
/// crashes are recorded.
pub async fn serve(listen: SocketAddr, spool: Arc<Spool>, verdicts: &[Verdict]) {
    let listener = match TcpListener::bind(listen).await {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!("no metrics: cannot listen on {listen}: {error} (metrics_listen)");
            return;
        }
    };
    match listener.local_addr() {
        Ok(address) => tracing::info!("metrics on http://{address}/metrics"),
        Err(error) => tracing::debug!("the address of the metrics is not known: {error}"),
    }
    tokio::spawn(lastwords_metrics::serve(listener, Arc::new(registry(spool, verdicts))));
}

fn registry(spool: Arc<Spool>, verdicts: &[Verdict]) -> Registry {
    let mut registry = Registry::with_prefix("lastwords_agent");
    registry.register_collector(Box::new(Agent::new(spool, verdicts)));
    registry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::verdict::WayIn;

    #[test]
    fn every_counter_is_told_once_and_nothing_of_containers() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Arc::new(Spool::open(directory.path(), 1 << 20).unwrap());
        let verdict = |state| Verdict { probe: "exit", hook: "it", without: "all", required: true, state };
        let active = |way_in| {
            verdict(State::Active { way_in, refused: Vec::new(), instructions: 0, missing: Vec::new() })
        };
        let verdicts =
            [active(WayIn::Function), active(WayIn::Function), verdict(State::Broken("no".to_owned()))];
        counters::GROUPS_EXHAUSTED.add(7);
        let text = lastwords_metrics::text(&registry(spool, &verdicts)).unwrap();
        for counter in counters::ALL.iter().filter(|counter| !is_elsewhere(counter)) {
            assert_eq!(
                text.matches(&format!("\nlastwords_agent_{}_total ", counter.name)).count(),
                1,
                "{text}"
            );
        }
        let elsewhere = counters::ALL.iter().filter(|counter| is_elsewhere(counter)).count();
        let told = FAMILIES.iter().map(|family| family.counters.len()).sum::<usize>() + 1;
        assert_eq!(elsewhere, told, "each stands in one family");
        for line in [
            "lastwords_agent_groups_exhausted_total 7",
            "lastwords_agent_records_dropped_total{reason=\"ring_full\"} ",
            "lastwords_agent_probes{state=\"active\",way_in=\"fexit\"} 2",
            "lastwords_agent_probes{state=\"broken\",way_in=\"\"} 1",
            "lastwords_agent_spool_reports 0",
            "lastwords_agent_crashes_total ",
        ] {
            assert!(text.contains(line), "no {line} in {text}");
        }
    }
}
