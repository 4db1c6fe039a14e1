//! The demonstration: a node, three pods that crash without a log line, and what `lastwords explain` says of each.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use lastwords_tests::demo::{CASES, Case, PODS, pods, secret};
use lastwords_tests::http::Client;
use lastwords_tests::lastwords::Lastwords;
use lastwords_tests::programs::{Node, containers_missing};

/// Crashes of each pod that are waited for. After the first a kubelet starts it again at once, after the second it waits 10 s, after
/// the third 20 s: that is the crash loop people meet.
const CRASHES: usize = 3;
/// The third crash comes some 15 s after the first.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let stop = Arc::new(AtomicBool::new(false));
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()
    else {
        eprintln!("demo: the system gives no threads");
        return ExitCode::FAILURE;
    };
    let stopped = Arc::clone(&stop);
    runtime.spawn(async move {
        // Without a handler Ctrl-C would end this program before it has cleaned up.
        if tokio::signal::ctrl_c().await.is_ok() {
            stopped.store(true, Ordering::Relaxed);
        }
    });
    match demonstrate(&runtime, &stop) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demonstrate(runtime: &tokio::runtime::Runtime, stop: &AtomicBool) -> anyhow::Result<()> {
    if let Some(reason) = containers_missing() {
        bail!("{reason}");
    }
    eprintln!(
        "Starting a node: stand-ins for the Kubernetes API server and the kubelet, real containers by runc."
    );
    let node = Node::start(&[])?;
    eprintln!("Starting lastwords-aggregator and lastwords-agent.");
    let lastwords = Lastwords::start(&node)?;
    let client = Client::new(node.url())?;
    runtime.block_on(client.post("/api/v1/namespaces/default/secrets", &secret()))?;
    for (case, pod) in CASES.iter().zip(pods()) {
        eprintln!("Starting the pod {}: it {}.", case.name, case.story);
        runtime.block_on(client.post(PODS, &pod))?;
    }
    wait_for_crash_loops(&lastwords, stop)?;
    for Case { name, .. } in CASES {
        let log = log_bytes(&node, name)?;
        println!("\n$ kubectl logs --previous {name}\n({log} bytes)\n$ kubectl lastwords explain pod/{name}");
        let explained = lastwords.ask(&["explain", &format!("pod/{name}")])?;
        print!("{}", String::from_utf8_lossy(&explained.stdout));
    }
    eprintln!("\nStopping and removing everything.");
    Ok(())
}

/// Waits until every pod has crashed often enough and says how long it backs off.
fn wait_for_crash_loops(lastwords: &Lastwords, stop: &AtomicBool) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut said = String::new();
    loop {
        if stop.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        let progress: Vec<(usize, bool)> = CASES.iter().map(|case| progress(lastwords, case.name)).collect();
        let line = CASES.iter().zip(&progress).map(|(case, (crashes, _))| format!("{} {crashes}", case.name));
        let line = line.collect::<Vec<_>>().join(", ");
        if line != said {
            eprintln!("{:3.0} s  crashes so far: {line}", began.elapsed().as_secs_f32());
            said = line;
        }
        if progress.iter().all(|(crashes, waits)| *crashes >= CRASHES && *waits) {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            bail!("the pods did not come into a crash loop within {PATIENCE:?}");
        }
        sleep(Duration::from_millis(250));
    }
}

/// How many crashes of a pod are known, and whether its back-off is.
fn progress(lastwords: &Lastwords, pod: &str) -> (usize, bool) {
    // Until the first crash there is nothing to explain.
    let Ok(explained) = lastwords.ask_json(&["explain", &format!("pod/{pod}")]) else { return (0, false) };
    let crashes = explained["crashes"].as_array().map_or(0, Vec::len);
    let state = &explained["pod"]["containers"][0]["pod_state"];
    let waits = state["back_off_seconds"].as_u64() > Some(0) && state["next_retry_at"].is_string();
    (crashes, waits)
}

/// Bytes that the pod's programs wrote, over all its runs.
fn log_bytes(node: &Node, pod: &str) -> anyhow::Result<u64> {
    let pods = std::fs::read_dir(node.pod_logs_directory()).context("the pods' logs cannot be read")?;
    let folder = pods
        .filter_map(Result::ok)
        .find(|folder| folder.file_name().to_string_lossy().contains(&format!("_{pod}_")))
        .with_context(|| format!("no log folder of {pod}"))?;
    let logs = std::fs::read_dir(folder.path().join("app")).context("the container's logs cannot be read")?;
    Ok(logs.filter_map(Result::ok).filter_map(|log| log.metadata().ok()).map(|log| log.len()).sum())
}
