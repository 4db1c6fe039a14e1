//! `lastwords-agent run`: the DaemonSet's process, from its configuration to its last report.

use std::{path::Path, sync::Arc, time::Duration};

use lastwords_agent_common::limits::RECORDERS;
use lastwords_proto::v1::{AgentHello, EarlierRun};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

use crate::{
    check::kernel_release,
    config::Config,
    counters,
    enrich::{cgroup::ControlGroups, procfs::HostProc, symbols::Symbols},
    ingest::Ingest,
    kernel::{Kernel, verdict::WayIn},
    last_run::{self, LastRun},
    listeners::Listeners,
    look::Looker,
    memory::{MemoryCurves, NODE_INTERVAL},
    metrics,
    program::{ExitCode, complain},
    report::Reporter,
    ship::{self, HealthyRuns, ShipSettings},
    spool::Spool,
    telemetry,
    tracker::Tracker,
};

/// Deaths between the kernel's ring buffer and the reporter. Each holds at most 50 KiB; while it is full the ring buffer, which has
/// room for some 3 000 more, takes what comes.
const DEATHS: usize = 256;
/// Reads of log files and writes to the spool at once; tokio's own bound is 512. A burst of deaths waits its turn: the disk is no faster for
/// more of them, and each thread has its stack and its part of the heap.
const MOST_BLOCKING: usize = 32;
/// How long the last deaths may take to become reports once the agent is told to stop. With the time to deliver them this stays
/// below five seconds, a sixth of a pod's default grace period.
const LAST_REPORTS: Duration = Duration::from_millis(1500);

/// Runs until SIGTERM or SIGINT, with probes attached by `way_in` alone when one is given.
#[must_use]
pub fn run(file: Option<&Path>, way_in: Option<WayIn>) -> ExitCode {
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(error) => return fail(ExitCode::WrongConfiguration, error),
    };
    telemetry::start(config.log_level);
    let control_groups = match ControlGroups::open(&config.cgroup_root) {
        Ok(groups) => groups,
        Err(error) => return fail(ExitCode::NotPossibleHere, error),
    };
    if let Err(error) = control_groups.require_version_2() {
        return fail(ExitCode::NotPossibleHere, error);
    }
    let spool = match Spool::open(&config.spool_directory, config.spool_max_bytes) {
        Ok(spool) => Arc::new(spool),
        Err(error) => return fail(ExitCode::Failed, error),
    };
    let (last_run, earlier_run) = match LastRun::begin(&config.spool_directory) {
        Ok(begun) => begun,
        Err(error) => {
            let directory = config.spool_directory.display();
            return fail(ExitCode::Failed, format!("cannot use the spool directory {directory}: {error}"));
        }
    };
    if let Some(words) = earlier_run.as_ref().and_then(last_run::in_words) {
        tracing::warn!("{words}");
    }
    let pid_namespace = HostProc::new(&config.host_proc).pid_namespace();
    if pid_namespace != 0 {
        if !control_groups.shows_processes() {
            let problem = "this agent does not see the node's processes: it needs the host's PID namespace (hostPID: true)";
            return fail(ExitCode::NotPossibleHere, problem);
        }
        tracing::info!(
            "this node is a container itself: processes are told by their numbers in it (pid:[{pid_namespace}])"
        );
    }
    let kernel = match Kernel::load(pid_namespace, way_in) {
        Ok(kernel) => kernel,
        Err(error) => return fail(ExitCode::NotPossibleHere, error),
    };
    if let Some(missing) = kernel.missing().next() {
        return fail(ExitCode::NotPossibleHere, format!("crashes cannot be recorded here: probe {missing}"));
    }
    raise_descriptor_limit();
    // One thread is enough for what waits most of the time, and costs a node the least.
    let runtime = Builder::new_current_thread().max_blocking_threads(MOST_BLOCKING).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(ExitCode::Failed, format!("cannot start: {error}")),
    };
    match runtime.block_on(serve(config, control_groups, spool, kernel, (last_run, earlier_run))) {
        Ok(()) => ExitCode::Done,
        Err(error) => fail(ExitCode::Failed, error),
    }
}

async fn serve(
    config: Config,
    control_groups: ControlGroups,
    spool: Arc<Spool>,
    kernel: Kernel,
    (last_run, earlier_run): (LastRun, Option<EarlierRun>),
) -> Result<(), String> {
    last_run.watches();
    for verdict in &kernel.verdicts {
        tracing::info!("probe {verdict}");
    }
    let hello = AgentHello {
        node: config.node_name.clone(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel_release: kernel_release(),
        probes: kernel.verdicts.iter().map(ToString::to_string).collect(),
        started_at: Some(std::time::SystemTime::now().into()),
        earlier_run,
        pod_uid: std::env::var("POD_UID").unwrap_or_default(),
    };
    let processes = HostProc::new(&config.host_proc);
    let looker = Looker::start(processes.clone(), control_groups.clone())
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    let symbols = Symbols::start().map_err(|error| format!("cannot start a thread: {error}"))?;
    let listeners = Listeners::new(kernel.listeners, processes.clone());
    let memory = MemoryCurves::start(control_groups.clone(), NODE_INTERVAL)
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    let mut tracker = Tracker::new(
        kernel.recorders,
        kernel.faults,
        kernel.groups,
        looker.clone(),
        control_groups,
        memory,
        listeners,
    )
    .with_healthy_after(config.healthy_after)
    .with_processes(processes.clone());
    tracker.adopt(&processes);
    tracing::info!("watching {} containers that were here before", tracker.watched());

    if let Some(listen) = config.metrics_listen {
        metrics::serve(listen, Arc::clone(&spool), &kernel.verdicts).await;
    }
    let (sender, deaths) = mpsc::channel(DEATHS);
    let ingest = Ingest::start(kernel.records, kernel.counters, tracker, sender)
        .map_err(|error| format!("cannot read the kernel's records: {error}"))?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(counters::log_regularly());
    let healthy = Arc::new(HealthyRuns::default());
    let settings = ShipSettings {
        authority: Some(config.aggregator_ca.clone()),
        token: config.aggregator_token.clone(),
        ..ShipSettings::new(&config.aggregator)
    };
    let shipping =
        tokio::spawn(ship::ship(Arc::clone(&spool), Arc::clone(&healthy), settings, hello, stopped));
    let mut reporting = tokio::spawn(Reporter::new(config, looker, symbols, spool, healthy).run(deaths));

    tokio::select! {
        told = told_to_stop() => told.map_err(|error| format!("cannot wait for signals: {error}"))?,
        // It ends with the thread that reads the kernel's records. Rather a new agent than one that lives and sees nothing.
        _ = &mut reporting => return Err("the reading of the kernel's records ended by itself".to_owned()),
        () = last_run.keep() => {}
    }
    tracing::info!("told to stop");
    // First what is still in the kernel, then what is made of it, then its delivery. Stopping waits for the thread's end, which
    // in turn may wait for the reporter: hence not here.
    let ingest = tokio::task::spawn_blocking(move || drop(ingest));
    let last = tokio::time::timeout(LAST_REPORTS, async {
        let _ = ingest.await;
        reporting.await
    });
    if last.await.is_err() {
        tracing::warn!("some deaths were not reported before the end");
    }
    last_run.stopped();
    // The receiver ends with its task.
    let _ = stop.send(true);
    let _ = shipping.await;
    let losses = counters::summary();
    tracing::info!("stopped; {}", if losses.is_empty() { "nothing happened" } else { &losses });
    Ok(())
}

/// Two descriptors are held for each container that runs (`enrich/file_facts.rs`), and a process usually begins with a limit of 1024.
/// Without permission to raise it the looks beyond it fail, and their files' owners are not known.
fn raise_descriptor_limit() {
    const WANTED: u64 = 4 * RECORDERS as u64;
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < WANTED
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, WANTED.min(hard), hard)
    {
        tracing::warn!("the limit of {soft} open files could not be raised: {error}");
    }
}

async fn told_to_stop() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn fail(code: ExitCode, sentence: impl std::fmt::Display) -> ExitCode {
    complain(sentence);
    code
}
