//! `stand-in-api-server`: see `lastwords_tests::api_server`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Parser;
use lastwords_tests::api_server::replay::Recording;
use lastwords_tests::api_server::{ApiServer, Options};
use tokio::signal::unix::{SignalKind, signal};

/// Stand-in for the Kubernetes API server, for tests: objects in memory behind plain HTTP.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen; port 0 takes a free one, which the first line on stdout tells.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Writes a kubeconfig that leads here.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Plays recorded watches (JSON lines, also gzip-compressed) into the store. May be given several times.
    #[arg(long, value_name = "FILE")]
    replay: Vec<PathBuf>,
    /// How much faster than recorded; "inf" plays all at once.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    replay_speed: f64,
    /// Moves the recorded times so that the recording ends now.
    #[arg(long)]
    replay_ends_now: bool,
    /// How many changes are remembered before an older version is 410 Gone.
    #[arg(long, default_value_t = lastwords_tests::api_server::store::DEFAULT_WINDOW, value_name = "CHANGES")]
    window: usize,
    /// Seconds between two bookmarks of a watch.
    #[arg(long, default_value_t = 60.0, value_name = "SECONDS")]
    bookmark_interval: f64,
    /// Leaves pods without a node where they are. Recorded pods are never bound.
    #[arg(long)]
    no_scheduler: bool,
    /// Where the stand-in kubelet writes the pods' logs, for `kubectl logs`.
    #[arg(long, value_name = "DIRECTORY")]
    pod_logs_dir: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stand-in-api-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut recording = Recording::read(&arguments.replay)?;
    let server = ApiServer::start(Options {
        listen: arguments.listen,
        window: arguments.window,
        bookmark_interval: Duration::try_from_secs_f64(arguments.bookmark_interval)?,
        schedule: !arguments.no_scheduler && recording.is_empty(),
        pod_logs_directory: arguments.pod_logs_dir,
        // Whoever reaches it may do everything.
        authorize: false,
    })
    .await?;
    if let Some(file) = &arguments.kubeconfig {
        server.write_kubeconfig(file)?;
    }
    println!("stand-in-api-server listens on {}", server.url());
    if arguments.replay_ends_now {
        recording.end_at(SystemTime::now());
    }
    let played = async {
        let changes = recording.len();
        recording.play(server.store(), arguments.replay_speed).await;
        if changes > 0 {
            println!("stand-in-api-server has replayed {changes} changes");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = played => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
