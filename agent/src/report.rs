//! A death → a crash report in the spool: assembled, completed with what the node's files still tell, stored.

use std::{sync::Arc, time::Duration};

use lastwords_diagnosis::evidence::{Evidence, UnixNanos};
use lastwords_diagnosis::signature::done_without;
use lastwords_proto::{convert, v1};
use tokio::{sync::mpsc, task::JoinSet, time::sleep};

use crate::{
    assemble::{self, Death, End, Node, assemble, written_logs},
    clock::{self, ClockOffsets},
    config::Config,
    enrich::{
        log_tail::{LogFiles, LogFindings, LogQuery, LogReader},
        options,
        symbols::Symbols,
    },
    look::Looker,
    page_bytes,
    ship::HealthyRuns,
    spool::Spool,
};

/// From a death to the reading of its log: the runtime still has to copy the last lines from its pipe to the file. A shim under load
/// took up to 100 ms.
const LOG_DELAY: Duration = Duration::from_millis(250);
/// When it could not be told which log is the container's, the kubelet's link to it settles that a moment later.
const AMBIGUOUS_DELAY: Duration = Duration::from_millis(500);
/// Reports that wait for their logs at the same time, each with at most 100 KiB; further deaths wait in their channel.
const UNDER_WAY: usize = 64;

/// What makes reports.
pub struct Reporter {
    config: Config,
    logs: LogReader,
    looker: Looker,
    symbols: Symbols,
    spool: Arc<Spool>,
    healthy: Arc<HealthyRuns>,
}

/// Why the log files of a container that wrote some are not told.
const NO_LAYER: &str =
    "log files: the container's writable layer was not found while it ran (no overlay, or it ended too soon)";

impl Reporter {
    /// Of this node.
    #[must_use]
    pub fn new(
        config: Config,
        looker: Looker,
        symbols: Symbols,
        spool: Arc<Spool>,
        healthy: Arc<HealthyRuns>,
    ) -> Self {
        let logs = LogReader::new(&config.pod_logs_directory, &config.log_tail, &config.redactor);
        Self { config, logs, looker, symbols, spool, healthy }
    }

    /// Reports every death until there are no more: the sender is gone.
    pub async fn run(self, mut deaths: mpsc::Receiver<Death>) {
        let reporter = Arc::new(self);
        let mut under_way = JoinSet::new();
        while let Some(death) = deaths.recv().await {
            if under_way.len() == UNDER_WAY {
                let _ = under_way.join_next().await;
            }
            let reporter = Arc::clone(&reporter);
            under_way.spawn(async move { reporter.report(death).await });
        }
        while under_way.join_next().await.is_some() {}
    }

    /// Tells what failed in a container that runs well.
    fn tell_healthy(&self, death: &Death) {
        let evidence = assemble(death, &self.node());
        let failures = done_without(&evidence, went_on_ms(self.config.healthy_after));
        let incomplete = evidence.losses.recorder_missing || evidence.losses.agent_started_later;
        if !failures.is_empty() && !incomplete {
            tracing::info!(
                "container {} runs well without {} calls that failed",
                short(&evidence.container.id),
                failures.len()
            );
            let container = convert::evidence_to_crash(&evidence).container;
            self.healthy.push(v1::HealthyRun { container, failures });
        }
    }

    async fn report(&self, mut death: Death) {
        if death.end == End::RunsWell {
            return self.tell_healthy(&death);
        }
        if death.end != End::Survived {
            death.looked = self.looker.ended(death.cgroup_id, assemble::missed(&death)).await;
            if let Some((query, root)) = assemble::options_query(&death).zip(death.looked.root.clone()) {
                death.looked.unknown_options = options::unknown(query, root).await;
            }
        }
        // At once: a runtime may remove the files with the container.
        let files = self.read_log_files(&death).await;
        let age = Duration::from_nanos(clock::monotonic_now().saturating_sub(death.time));
        sleep(LOG_DELAY.saturating_sub(age)).await;
        if let Some(query) = assemble::query(&mut death, page_bytes()) {
            death.symbols = self.symbols.name(query).await;
        }
        let mut evidence = assemble(&death, &self.node());
        evidence.log_files = files.tails;
        evidence.losses.unreadable.extend(files.unreadable);
        let mut findings = self.read_log(&death, &evidence).await;
        if findings.ambiguous {
            sleep(AMBIGUOUS_DELAY).await;
            findings = self.read_log(&death, &evidence).await;
        }
        add(&mut evidence, findings);
        let crash = convert::evidence_to_crash(&evidence);
        let spool = Arc::clone(&self.spool);
        let appended = tokio::task::spawn_blocking(move || spool.append(crash)).await;
        match appended {
            Ok(Some(sequence)) => tracing::info!(
                "container {} ended ({}), report {sequence}",
                short(&evidence.container.id),
                ending(&evidence)
            ),
            // Counted and said by the spool.
            Ok(None) => {}
            Err(error) => tracing::error!("a crash report was lost: {error}"),
        }
    }

    fn node(&self) -> Node<'_> {
        Node {
            name: &self.config.node_name,
            page_bytes: page_bytes(),
            redactor: &self.config.redactor,
            clock: ClockOffsets::measure(),
            agent_pid: std::process::id(),
        }
    }

    /// The ends of the log files that the container wrote in its own layer while it started.
    async fn read_log_files(&self, death: &Death) -> LogFiles {
        let paths = written_logs(death);
        let Some((started, _)) = death.execs.first().filter(|_| !paths.is_empty()) else {
            return LogFiles::default();
        };
        let layer = death.looked.writable.clone();
        let since = ClockOffsets::measure().from_monotonic(*started);
        let logs = self.logs.clone();
        let container = death.container.clone();
        let read = move || match layer {
            _ if !logs.may_read_files_of(&container) => LogFiles::default(),
            Some(layer) => logs.files(&layer, &paths, since),
            None => LogFiles { unreadable: vec![NO_LAYER.to_owned()], ..LogFiles::default() },
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_default()
    }

    async fn read_log(&self, death: &Death, evidence: &Evidence) -> LogFindings {
        let logs = self.logs.clone();
        let container = death.container.clone();
        let started_at = evidence.process.as_ref().map(|process| process.started_at);
        let started_at = started_at.filter(|time| *time != UnixNanos(0) && !death.adopted);
        let died_at = evidence.observed_at;
        let read =
            move || logs.read(&LogQuery { container: &container, container_name: None, started_at, died_at });
        tokio::task::spawn_blocking(read).await.unwrap_or_default()
    }
}

fn add(evidence: &mut Evidence, findings: LogFindings) {
    evidence.container.namespace = findings.namespace;
    evidence.container.pod_name = findings.pod_name;
    evidence.container.name = findings.container_name;
    evidence.container.restart_count = findings.restart_count.unwrap_or(0);
    evidence.log_tail = findings.tail;
    evidence.losses.unreadable.extend(findings.unreadable);
}

/// A program that went on for half the time after a call had failed does without it. One that tries again and again, and may give up
/// later, has failed more recently.
fn went_on_ms(healthy_after: Duration) -> f64 {
    healthy_after.as_secs_f64() * 1e3 / 2.0
}

/// As much of an id as people use.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn ending(evidence: &Evidence) -> String {
    match &evidence.exit {
        Some(exit) if exit.signal != 0 => format!("signal {}", exit.signal),
        Some(exit) => format!("exit code {}", exit.code),
        None if evidence.container_survived => "survived an OOM kill".to_owned(),
        None if evidence.process.is_some() => "its end was not seen".to_owned(),
        None => "it never ran".to_owned(),
    }
}
