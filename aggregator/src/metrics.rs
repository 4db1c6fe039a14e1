//! What Prometheus is told of this aggregator: read at each scrape from where it is counted anyway.
//!
//! No name of a pod, a namespace, a node or a caller is a label: whoever may scrape need not be one who may read logs.

mod queries;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use lastwords_metrics::Writer;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::watch;

use crate::agents::Agents;
use crate::counters::{Rejection, Reports};
use crate::diagnose::Diagnoser;
use crate::gate::Gate;
use crate::kubernetes::{Annotated, Announced, Listed};
use crate::lock;
use crate::pods::Pods;
use crate::store::Store;

pub use queries::Queries;

/// Where everything is counted.
#[derive(Debug)]
pub struct Sources {
    /// Reports of agents.
    pub reports: Arc<Reports>,
    /// Crashes as they were judged.
    pub diagnoser: Arc<Diagnoser>,
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// The agents that are heard.
    pub agents: Arc<Mutex<Agents>>,
    /// The pods that are known.
    pub pods: Arc<Mutex<Pods>>,
    /// Lists of pods.
    pub listed: Arc<Listed>,
    /// Events on pods.
    pub announced: Arc<Announced>,
    /// Annotations of pods.
    pub annotated: Arc<Annotated>,
    /// Who was let in, where anybody is asked.
    pub gate: Option<Arc<Gate>>,
    /// Whether this one leads.
    pub leading: watch::Receiver<bool>,
}

impl Collector for Sources {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer::new(encoder);
        let version = [("version", env!("CARGO_PKG_VERSION").to_owned())];
        writer.gauges("build_info", "The version of this aggregator.", [(version, 1)])?;
        let leads = u64::from(*self.leading.borrow());
        writer.gauge("leader", "1 where this aggregator leads: judges anew and writes events.", leads)?;
        self.crashes(&mut writer)?;
        self.agents(&mut writer)?;
        self.kubernetes(&mut writer)?;
        self.kept(&mut writer)?;
        if let Some(gate) = &self.gate {
            let reviews = gate.counts().map(|(name, count)| ([("outcome", name.to_owned())], count));
            writer.counters("gate", "What was decided of who may report and read.", reviews)?;
        }
        Ok(())
    }
}

impl Sources {
    fn crashes(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let counts = self.reports.counts();
        writer.counter("reports_received", "Crash reports that arrived.", counts.received)?;
        let ends = [("stored", counts.stored), ("duplicate", counts.duplicate), ("retry", counts.retry)];
        let rejected = Rejection::ALL.iter().map(|reason| reason.name()).zip(counts.rejected);
        writer.counters(
            "reports",
            "Crash reports by what became of them: stored, known before, asked for again, or rejected and why.",
            ends.into_iter().chain(rejected).map(|(end, count)| ([("outcome", end.to_owned())], count)),
        )?;
        let labelled = |judged: Vec<((&'static str, &'static str), u64)>| {
            judged.into_iter().map(|((cause, confidence), count)| {
                ([("cause", cause.to_owned()), ("confidence", confidence.to_owned())], count)
            })
        };
        let judged = self.diagnoser.judged();
        writer.counters(
            "crashes",
            "Crashes stored, those that only the API showed included, by their first diagnosis.",
            labelled(judged.first()),
        )?;
        writer.counters(
            "crashes_judged_anew",
            "Newer diagnoses of crashes, made as more was known of their pods.",
            labelled(judged.newer()),
        )?;
        let revisions = self.diagnoser.revisions();
        let failed = value(&revisions.failed);
        writer.counter("revisions_failed", "Newer diagnoses that the store could not take.", failed)?;
        let help =
            "Reports removed again because their pod turned out to be on another node than their agent.";
        writer.counter("reports_of_other_nodes_removed", help, value(&revisions.of_other_nodes))?;
        let help = "Times that a crash of another aggregator could not be read from the store.";
        writer.counter("crashes_unread", help, value(&revisions.unread))?;
        let help = "Crashes that were no longer followed because too many were unsettled.";
        writer.counter("unsettled_dropped", help, value(&revisions.dropped))?;
        let help = "Containers whose good runs were forgotten because there were too many.";
        writer.counter("healthy_forgotten", help, self.diagnoser.healthy_forgotten())
    }

    fn agents(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let (connected, gone) = lock(&self.agents).heard_here();
        let states = [("connected", connected), ("gone", gone)];
        writer.gauges(
            "agents",
            "Agents that were heard here since the start, by whether they have a stream now.",
            states.map(|(state, agents)| ([("state", state.to_owned())], agents)),
        )
    }

    fn kubernetes(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let (there, gone, forgotten) = {
            let pods = lock(&self.pods);
            let there = pods.all().filter(|known| known.deleted_at.is_none()).count();
            (there, pods.all().count().saturating_sub(there), pods.forgotten_early())
        };
        let states = [("there", there), ("deleted", gone)];
        writer.gauges(
            "pods",
            "Pods that are known: those that are there, and those kept for late reports.",
            states.map(|(state, pods)| ([("state", state.to_owned())], pods as u64)),
        )?;
        let help = "Deleted pods that were forgotten before their time because there were too many.";
        writer.counter("pods_forgotten", help, forgotten)?;
        let lists = value(&self.listed.pods);
        let help =
            "Times that all pods were listed anew because the API had forgotten where the watch stood.";
        writer.counter("watch_relists", help, lists.saturating_sub(1))?;
        let Announced { written, dropped, put_off, failed } = &*self.announced;
        let ends = [("written", written), ("limited", dropped), ("put_off", put_off), ("failed", failed)];
        writer.counters(
            "events",
            "Events for pods by what became of them; limited: too many came at once.",
            ends.map(|(end, count)| ([("outcome", end.to_owned())], value(count))),
        )?;
        let Annotated { written, superseded, gone, refused, failed, dropped } = &*self.annotated;
        let ends = [("written", written), ("superseded", superseded), ("gone", gone)];
        let others = [("refused", refused), ("failed", failed), ("dropped", dropped)];
        writer.counters(
            "annotations",
            "Annotations of pods by what became of them, where they are asked for; superseded: by a newer crash.",
            ends.into_iter().chain(others).map(|(end, count)| ([("outcome", end.to_owned())], value(count))),
        )
    }

    fn kept(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let written = self.store.written();
        writer.counter("store_transactions", "Transactions of the store.", value(&written.transactions))?;
        writer.counter(
            "store_errors",
            "Times that the store could not do something.",
            value(&written.errors),
        )?;
        let removed = [("too_old", &written.removed_too_old), ("too_much", &written.removed_too_much)];
        writer.counters(
            "crashes_removed",
            "Crashes that were removed from the store, by which bound of the retention.",
            removed.map(|(reason, count)| ([("reason", reason.to_owned())], value(count))),
        )
    }
}

fn value(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// All of them.
pub fn registry(sources: Sources, queries: &Queries) -> Registry {
    let mut registry = Registry::with_prefix("lastwords_aggregator");
    registry.register_collector(Box::new(sources));
    registry.register_with_unit(
        "query_duration",
        "Time from a caller's question to its answer",
        Unit::Seconds,
        queries.family(),
    );
    registry
}
