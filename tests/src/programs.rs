//! Starts the programs under test and the stand-ins around them, waits until they are ready, and stops them again.
//!
//! Everything is killed by PID and removed when it is dropped, also when a test panics.

use std::env;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// How long a program may take to get ready: two processors may be busy with a build at the same time.
const READY: Duration = Duration::from_secs(30);

/// How long a program may take to end after SIGTERM before it is killed. The programs promise five seconds; the
/// stand-in kubelet has up to two hundred containers to remove.
const END: Duration = Duration::from_secs(30);

/// A program that runs for as long as this lives.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    output: PathBuf,
}

impl Program {
    /// Starts a program; what it prints goes into `directory/NAME.log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut command: Command, name: &str, directory: &Path) -> anyhow::Result<Program> {
        let output = directory.join(format!("{name}.log"));
        let file = File::create(&output).with_context(|| format!("{} cannot be made", output.display()))?;
        let errors = file.try_clone()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("{} cannot be started", command.get_program().display()))?;
        Ok(Program { name: name.to_owned(), child, output })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        fs::read(&self.output).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Waits until it has printed a line that contains `text`, and returns that line.
    ///
    /// # Errors
    /// When it ends before, or does not say it in time; with all it has printed.
    pub fn wait_for_line(&mut self, text: &str) -> anyhow::Result<String> {
        let deadline = Instant::now() + READY;
        loop {
            let output = self.output();
            if let Some(line) = output.lines().find(|line| line.contains(text)) {
                return Ok(line.to_owned());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}) before it said {text:?}:\n{output}", self.name);
            }
            if Instant::now() > deadline {
                bail!("{} did not say {text:?} within {READY:?}:\n{output}", self.name);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until an aggregator is ready, and returns the address it listens on: started with port 0 it takes one that nobody else has.
    ///
    /// # Errors
    /// As [`Program::wait_for_line`].
    pub fn wait_for_address(&mut self) -> anyhow::Result<String> {
        let line = self.wait_for_line(" ready ")?;
        let address = line.split_whitespace().find_map(|word| word.strip_prefix("address="));
        address.map(str::to_owned).with_context(|| format!("{} names no address: {line}", self.name))
    }

    /// Asks it to end and waits; kills it when it does not. Returns how it ended and how long it took.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn stop(&mut self) -> anyhow::Result<(ExitStatus, Duration)> {
        let asked = Instant::now();
        self.signal(Signal::SIGTERM);
        while asked.elapsed() < END {
            if let Some(status) = self.child.try_wait()? {
                return Ok((status, asked.elapsed()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill();
        Ok((self.child.wait()?, asked.elapsed()))
    }

    /// Kills it at once, as a crash of its own would.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }

    fn signal(&mut self, signal: Signal) {
        // A child that has been waited for is no longer ours to signal.
        if let (Ok(None), Ok(pid)) = (self.child.try_wait(), i32::try_from(self.child.id())) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.stop();
        if std::thread::panicking() {
            eprintln!("---- {} ----\n{}", self.name, self.output());
        }
    }
}

/// A stand-in API server and a stand-in kubelet with a directory of their own.
#[derive(Debug)]
pub struct Node {
    // Dropped in this order: the kubelet needs the server for nothing at its end, but the directory must go last.
    kubelet: Program,
    server: Program,
    url: String,
    directory: TempDir,
}

/// The name of the stand-in node.
pub const NODE_NAME: &str = "node1";

impl Node {
    /// Starts both; `kubelet_arguments` are added to the kubelet's command line.
    ///
    /// # Errors
    /// When one of them does not get ready.
    pub fn start(kubelet_arguments: &[&str]) -> anyhow::Result<Node> {
        let directory = tempfile::Builder::new().prefix("lastwords-node-").tempdir()?;
        let path = directory.path();
        let logs = path.join("pods");
        let mut command = Command::new(stand_in("stand-in-api-server")?);
        command.arg("--kubeconfig").arg(path.join("kubeconfig")).arg("--pod-logs-dir").arg(&logs);
        let mut server = Program::start(command, "stand-in-api-server", path)?;
        let line = server.wait_for_line("listens on ")?;
        let url = line.rsplit(' ').next().unwrap_or_default().to_owned();
        let mut command = Command::new(stand_in("stand-in-kubelet")?);
        command.arg("--server").arg(&url).args(["--node-name", NODE_NAME]);
        command
            .arg("--state-dir")
            .arg(path.join("state"))
            .arg("--pod-logs-dir")
            .arg(&logs)
            .args(kubelet_arguments);
        let kubelet = Program::start(command, "stand-in-kubelet", path)?;
        Ok(Node { kubelet, server, url, directory })
    }

    /// The API server's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where everything of this node lies; other programs may put their files here too.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Leads to the API server.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory().join("kubeconfig")
    }

    /// Where the containers' logs are.
    pub fn pod_logs_directory(&self) -> PathBuf {
        self.directory().join("pods")
    }

    /// The stand-in kubelet.
    pub fn kubelet(&mut self) -> &mut Program {
        &mut self.kubelet
    }

    /// The stand-in API server.
    pub fn server(&mut self) -> &mut Program {
        &mut self.server
    }

    /// Removes what a killed kubelet of this node has left.
    ///
    /// # Errors
    /// When that fails.
    pub fn clean_up(&self) -> anyhow::Result<()> {
        let mut command = Command::new(stand_in("stand-in-kubelet")?);
        command.arg("--clean-up").arg("--state-dir").arg(self.directory().join("state"));
        let output = command.output()?;
        if !output.status.success() {
            bail!("the clean-up failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let stopped = self.kubelet.stop();
        // A kubelet that was killed, or died by itself, has left its containers.
        if !stopped.is_ok_and(|(status, _)| status.success())
            && let Err(error) = self.clean_up()
        {
            eprintln!("{error:#}");
        }
    }
}

/// A program of the release build: in `$LASTWORDS_BIN`, else in `target/release`.
///
/// # Errors
/// When it is not there; the sentence says how to build it.
pub fn release_program(name: &str) -> anyhow::Result<PathBuf> {
    let directory = match env::var_os("LASTWORDS_BIN") {
        Some(directory) => PathBuf::from(directory),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release"),
    };
    existing(directory.join(name)).with_context(|| format!("build {name} with `cargo xtask build`"))
}

/// A stand-in, built beside the program that asks (a test lies one directory deeper).
///
/// # Errors
/// When it is not there.
pub fn stand_in(name: &str) -> anyhow::Result<PathBuf> {
    let own = env::current_exe().context("this program does not know where it lies")?;
    let found =
        own.ancestors().skip(1).take(2).map(|directory| directory.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("build {name} with `cargo build -p lastwords-tests`"))
}

/// kubectl: `$LASTWORDS_KUBECTL`, else what `cargo xtask setup` unpacked. `None` when there is none.
pub fn kubectl() -> Option<PathBuf> {
    if let Some(named) = env::var_os("LASTWORDS_KUBECTL") {
        return Some(PathBuf::from(named));
    }
    if let Some(tools) = env::var_os("LASTWORDS_TOOLS") {
        return existing(PathBuf::from(tools).join("kubectl")).ok();
    }
    existing(cache()?.join("tools/bin/kubectl")).ok()
}

/// The folder of containerd, its shim and ctr, which `cargo xtask setup` brings. `None` when they are not there.
pub fn containerd() -> Option<PathBuf> {
    let folder = cache()?.join("tools/bin");
    ["containerd", "containerd-shim-runc-v2", "ctr"]
        .iter()
        .all(|name| folder.join(name).is_file())
        .then_some(folder)
}

/// The Python that has Helm's library, which `cargo xtask setup` brings. `None` when there is none.
pub fn helm() -> Option<PathBuf> {
    existing(cache()?.join("tools/helm/bin/python3")).ok()
}

/// Where `cargo xtask setup` puts what it brings.
fn cache() -> Option<PathBuf> {
    match env::var_os("LASTWORDS_CACHE") {
        Some(cache) => Some(PathBuf::from(cache)),
        None => Some(PathBuf::from(env::var_os("HOME")?).join(".cache/lastwords")),
    }
}

/// A port of the loopback that was free a moment ago.
///
/// # Errors
/// When there is none.
pub fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port of the loopback is free")?;
    Ok(listener.local_addr()?.port())
}

/// Why containers cannot be run here; `None` when they can.
pub fn containers_missing() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("containers need root");
    }
    if Command::new("runc").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        return Some("runc is not installed; `cargo xtask setup` installs it");
    }
    if !Path::new("/bin/busybox").exists() {
        return Some("busybox-static is not installed; `cargo xtask setup` installs it");
    }
    None
}

/// Whether containers can be run here and these programs were built; says `SKIPPED test: why` when not.
pub fn is_ready(test: &str, programs: &[&str]) -> bool {
    let missing = containers_missing()
        .map(str::to_owned)
        .or_else(|| programs.iter().find_map(|name| Some(format!("{:#}", release_program(name).err()?))));
    if let Some(reason) = &missing {
        println!("SKIPPED {test}: {reason}");
    }
    missing.is_none()
}

fn existing(path: PathBuf) -> anyhow::Result<PathBuf> {
    if path.is_file() { Ok(path) } else { bail!("{} is missing", path.display()) }
}
