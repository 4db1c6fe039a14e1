//! The pipeline of a node, started once: any number of commands can be tried in it, one after the other.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use lastwords_diagnosis::{Diagnosis, evidence::Evidence};
use lastwords_proto::{convert, v1};
use tokio::sync::mpsc;

use super::{
    CGROUPS, PROC, Ran, TryError,
    child::Spec,
    control_group::{ControlGroup, Limits},
    run,
};
use crate::{
    args::TryArguments,
    assemble::{self, Death, End, Node, assemble, written_logs},
    clock::ClockOffsets,
    config::{LogTailConfig, default_node_name},
    enrich::{
        cgroup::ControlGroups,
        environment::Environment,
        log_tail::{LogFiles, LogReader, WritableLayer},
        options,
        procfs::HostProc,
        symbols::Symbols,
    },
    ingest::Ingest,
    kernel::{Kernel, Programs, verdict::WayIn},
    listeners::Listeners,
    look::Looker,
    memory::{MemoryCurves, TRY_INTERVAL},
    page_bytes,
    redact::Redactor,
    tracker::Tracker,
};

/// From the command's end to its record. Milliseconds on a busy machine; after this it is an error.
const RECORD_WAIT: Duration = Duration::from_secs(5);
/// Deaths that may wait to be looked at: other containers of this machine die too.
const DEATHS: usize = 256;

/// The probes and everything behind them up to the deaths.
pub(super) struct Session {
    processes: HostProc,
    looker: Looker,
    symbols: Symbols,
    deaths: mpsc::Receiver<Death>,
    _ingest: Ingest,
    _programs: Programs,
}

/// What came of one command.
pub(super) struct Explained {
    /// Its death.
    pub(super) crash: v1::Crash,
    /// What was reported of it while it lived on: OOM kills of its children.
    pub(super) survived: Vec<v1::Crash>,
}

impl Session {
    /// Loads and attaches the probes, by `way_in` alone when one is given.
    pub(super) fn start(way_in: Option<WayIn>) -> Result<Self, TryError> {
        Self::of(Kernel::load(HostProc::new(PROC.as_ref()).pid_namespace(), way_in)?)
    }

    /// The same, with probes that are attached already.
    pub(super) fn of(kernel: Kernel) -> Result<Self, TryError> {
        if let Some(missing) = kernel.missing().next() {
            return Err(TryError::Probe(missing.to_string()));
        }
        let control_groups =
            ControlGroups::open(CGROUPS.as_ref()).map_err(TryError::system("use the control groups"))?;
        let processes = HostProc::new(PROC.as_ref());
        let looker = Looker::start(processes.clone(), control_groups.clone())
            .map_err(TryError::system("start a thread"))?;
        let symbols = Symbols::start().map_err(TryError::system("start a thread"))?;
        let listeners = Listeners::new(kernel.listeners, processes.clone());
        let memory = MemoryCurves::start(control_groups.clone(), TRY_INTERVAL)
            .map_err(TryError::system("start a thread"))?;
        let tracker = Tracker::new(
            kernel.recorders,
            kernel.faults,
            kernel.groups,
            looker.clone(),
            control_groups,
            memory,
            listeners,
        );
        let (sender, deaths) = mpsc::channel(DEATHS);
        let ingest = Ingest::start(kernel.records, kernel.counters, tracker, sender)
            .map_err(TryError::system("read the kernel's records"))?;
        Ok(Self { processes, looker, symbols, deaths, _ingest: ingest, _programs: kernel.programs })
    }

    /// Runs one command and explains its death.
    pub(super) fn explain(&mut self, arguments: &TryArguments) -> Result<Explained, TryError> {
        let spec = Spec::new(arguments).map_err(TryError::Profile)?;
        let TryArguments { memory, cpu, pids, .. } = *arguments;
        let group = ControlGroup::make(Limits { memory, cpu, pids })
            .map_err(|error| TryError::System { doing: error.doing, source: error.source })?;
        let spec = spec.with_group(&group);
        let ran = run(arguments, &spec);
        let id = group.id().to_owned();
        group.remove().map_err(TryError::system("remove the command's control group"))?;
        let ran = ran?;
        let (survived, mut death) = self.wait_for(&id).ok_or(TryError::NoRecord(ran.status))?;
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(TryError::system("wait for what was looked at"))?
            .block_on(self.look(&mut death, &spec));
        Ok(Explained {
            survived: survived.iter().map(|death| explained(death, None)).collect(),
            crash: explained(&death, Some(ran)),
        })
    }

    async fn look(&self, death: &mut Death, spec: &Spec) {
        death.looked = self.looker.ended(death.cgroup_id, assemble::missed(death)).await;
        // A command that ended before it was looked at had what it was given, and saw the files that are ours too.
        if death.looked.root.is_none() {
            death.looked.root = self.processes.root_of(std::process::id()).ok().map(Arc::new);
            death.looked.look_for(assemble::missed(death));
        }
        if death.looked.environment.is_empty() {
            death.looked.environment = Environment::given(spec.environment());
        }
        if let Some((query, root)) = assemble::options_query(death).zip(death.looked.root.clone()) {
            death.looked.unknown_options = options::unknown(query, root).await;
        }
        if let Some(query) = assemble::query(death, page_bytes()) {
            death.symbols = self.symbols.name(query).await;
        }
    }

    /// The death of the container `id`, and what was reported of it before. Others that die on this machine at the same time are
    /// passed over.
    fn wait_for(&mut self, id: &str) -> Option<(Vec<Death>, Death)> {
        let until = Instant::now() + RECORD_WAIT;
        let mut survived = Vec::new();
        loop {
            match self.deaths.try_recv() {
                Ok(death) if death.container.id != id || death.end == End::RunsWell => {}
                Ok(death) if death.end == End::Survived => survived.push(death),
                Ok(death) => return Some((survived, death)),
                Err(_) if Instant::now() >= until => return None,
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

fn explained(death: &Death, ran: Option<Ran>) -> v1::Crash {
    let evidence = evidence(death, ran);
    crash(&evidence, &lastwords_diagnosis::diagnose(&evidence, None))
}

fn evidence(death: &Death, ran: Option<Ran>) -> Evidence {
    let redactor = Redactor::default();
    let name = default_node_name();
    let node = Node {
        name: &name,
        page_bytes: page_bytes(),
        redactor: &redactor,
        clock: ClockOffsets::measure(),
        agent_pid: std::process::id(),
    };
    let mut evidence = assemble(death, &node);
    if let Some(ran) = ran {
        evidence.timed_out = ran.timed_out;
        evidence.log_tail = Some(ran.output.tail(&redactor));
        let files = log_files(death, node.clock, &redactor);
        evidence.log_files = files.tails;
        evidence.losses.unreadable.extend(files.unreadable);
    }
    evidence
}

/// The ends of the log files that it wrote among this machine's own files, by the policy that a node begins with.
fn log_files(death: &Death, clock: ClockOffsets, redactor: &Redactor) -> LogFiles {
    let Some(((started, _), layer)) = death.execs.first().zip(WritableLayer::of_this_machine()) else {
        return LogFiles::default();
    };
    let logs = LogReader::new(Path::new(""), &LogTailConfig::default(), redactor);
    logs.files(&layer, &written_logs(death), clock.from_monotonic(*started))
}

fn crash(evidence: &Evidence, diagnosis: &Diagnosis) -> v1::Crash {
    let mut crash = convert::evidence_to_crash(evidence);
    crash.id = "try".to_owned();
    crash.diagnosis = Some(convert::diagnosis_to_wire(diagnosis, 1));
    crash
}
