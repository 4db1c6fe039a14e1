//! `stand-in-kubelet`: see `lastwords_tests::kubelet`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Parser;
use lastwords_tests::kubelet::{self, Options};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_child_subreaper;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Stand-in for the kubelet, for tests: runs the pods bound to its node with runc.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The (stand-in) API server, plain HTTP.
    #[arg(long, value_name = "URL", required_unless_present = "clean_up")]
    server: Option<String>,
    /// The node's name.
    #[arg(long, default_value = "node1", value_name = "NAME")]
    node_name: String,
    /// Images, bundles and runc's state; one kubelet at a time.
    #[arg(long, default_value = "/run/lastwords-stand-in-kubelet", value_name = "DIRECTORY")]
    state_dir: PathBuf,
    /// Where the containers' logs go.
    #[arg(long, default_value = "/var/log/pods", value_name = "DIRECTORY")]
    pod_logs_dir: PathBuf,
    /// Where the cgroup hierarchies are mounted.
    #[arg(long, default_value = "/sys/fs/cgroup", value_name = "DIRECTORY")]
    cgroup_root: PathBuf,
    /// The container runtime.
    #[arg(long, default_value = "runc", value_name = "PROGRAM")]
    runc: PathBuf,
    /// A further image: its name and the directory of its root file system. May be given several times.
    #[arg(long, value_name = "NAME=DIRECTORY", value_parser = image)]
    image: Vec<(String, PathBuf)>,
    /// A program of this machine to copy into the image localhost/busybox:1, with its libraries. Several times.
    #[arg(long, value_name = "FILE")]
    add_program: Vec<PathBuf>,
    /// The first wait of a crash loop, in seconds.
    #[arg(long, default_value = "10", value_name = "SECONDS", value_parser = seconds)]
    back_off_initial: Duration,
    /// Its longest wait, in seconds.
    #[arg(long, default_value = "300", value_name = "SECONDS", value_parser = seconds)]
    back_off_max: Duration,
    /// How often a waiting pod is looked at anyway, in seconds.
    #[arg(long, default_value = "60", value_name = "SECONDS", value_parser = seconds)]
    sync_period: Duration,
    /// How long it takes to notice a change, in seconds.
    #[arg(long, default_value = "1", value_name = "SECONDS", value_parser = seconds)]
    relist_period: Duration,
    /// Gives pods no sandbox: each container has namespaces of its own.
    #[arg(long)]
    no_sandbox: bool,
    /// Creates that many containers first and then starts them together.
    #[arg(long, default_value_t = 0, value_name = "CONTAINERS")]
    start_together: usize,
    /// Only removes what a killed stand-in kubelet with this --state-dir left behind.
    #[arg(long)]
    clean_up: bool,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stand-in-kubelet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let only_clean_up = arguments.clean_up;
    let options = options(arguments)?;
    own_mounts_and_orphans()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        if only_clean_up {
            return kubelet::clean_up(&options).await;
        }
        let (stop, stopped) = watch::channel(false);
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stop.send_replace(true);
        });
        kubelet::run(options, stopped).await
    })
}

/// A mount namespace of its own, so that no overlay outlives this process however it ends, and the parenthood of what
/// runc leaves running, so that exit codes come here. Both must be done before there are threads.
fn own_mounts_and_orphans() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace of its own is refused: run it as root")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .context("the mounts cannot be made private")?;
    set_child_subreaper(true).context("this process cannot become the subreaper of its containers")?;
    Ok(())
}

fn options(arguments: Arguments) -> anyhow::Result<Options> {
    // runc and its bundles need absolute paths.
    let absolute = |path: PathBuf| std::path::absolute(&path).with_context(|| format!("{}", path.display()));
    Ok(Options {
        server: arguments.server.unwrap_or_default(),
        node_name: arguments.node_name,
        state_directory: absolute(arguments.state_dir)?,
        pod_logs_directory: absolute(arguments.pod_logs_dir)?,
        cgroup_root: arguments.cgroup_root,
        runc: arguments.runc,
        images: arguments.image,
        programs: arguments.add_program,
        back_off_initial: arguments.back_off_initial,
        back_off_cap: arguments.back_off_max,
        sync_period: arguments.sync_period,
        relist_period: arguments.relist_period,
        sandbox: !arguments.no_sandbox,
        start_together: arguments.start_together,
    })
}

fn seconds(text: &str) -> anyhow::Result<Duration> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}

fn image(text: &str) -> anyhow::Result<(String, PathBuf)> {
    let (name, directory) = text.split_once('=').ok_or_else(|| anyhow!("{text:?} has no '='"))?;
    Ok((name.to_owned(), PathBuf::from(directory)))
}
