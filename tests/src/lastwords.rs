//! Aggregator and agent of this build, with stores of their own.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::ops::Deref;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::programs::{NODE_NAME, Node, Program, kubectl, release_program};

/// Both, beside a stand-in node or alone.
#[derive(Debug)]
pub struct Lastwords {
    // Stopped first: what it has still to say is heard.
    agent: Program,
    aggregator: Aggregator,
}

impl Lastwords {
    /// Starts both on free ports, with stores of their own, and waits until crashes can be recorded.
    ///
    /// # Errors
    /// When one of them does not get ready; with all it has printed.
    pub fn start(node: &Node) -> anyhow::Result<Lastwords> {
        Self::start_configured(node, "")
    }

    /// As [`Lastwords::start`], with these lines in the agent's configuration too.
    ///
    /// # Errors
    /// As [`Lastwords::start`].
    pub fn start_configured(node: &Node, configuration: &str) -> anyhow::Result<Lastwords> {
        let kubeconfig = node.kubeconfig();
        let kubernetes = ["--kubeconfig".as_ref(), kubeconfig.as_os_str()];
        Self::start_with(&kubernetes, &node.pod_logs_directory(), configuration)
    }

    /// Starts both with no Kubernetes around them.
    ///
    /// # Errors
    /// As [`Lastwords::start`].
    pub fn alone() -> anyhow::Result<Lastwords> {
        Self::with_logs(Path::new("/nonexistent"))
    }

    /// As [`Lastwords::alone`], with the logs of the pods in this directory.
    ///
    /// # Errors
    /// As [`Lastwords::start`].
    pub fn with_logs(pod_logs: &Path) -> anyhow::Result<Lastwords> {
        Self::start_with(&["--no-kubernetes".as_ref()], pod_logs, "")
    }

    fn start_with(kubernetes: &[&OsStr], pod_logs: &Path, configuration: &str) -> anyhow::Result<Lastwords> {
        let aggregator = Aggregator::start_with(kubernetes)?;
        let agent = start_agent(pod_logs, &aggregator.server, aggregator.directory.path(), configuration)?;
        Ok(Lastwords { agent, aggregator })
    }

    /// The agent.
    pub fn agent(&mut self) -> &mut Program {
        &mut self.agent
    }

    /// The aggregator.
    pub fn aggregator(&mut self) -> &mut Program {
        &mut self.aggregator.program
    }
}

/// Questions go to the aggregator.
impl Deref for Lastwords {
    type Target = Aggregator;

    fn deref(&self) -> &Aggregator {
        &self.aggregator
    }
}

/// An aggregator, for an agent of the test's own.
#[derive(Debug)]
pub struct Aggregator {
    program: Program,
    server: String,
    directory: TempDir,
    // Let go of last.
    _watched: WatchedMachine,
}

impl Aggregator {
    /// Starts one with no Kubernetes around it, on a free port and with a store of its own.
    ///
    /// # Errors
    /// When it does not get ready; with all it has printed.
    pub fn alone() -> anyhow::Result<Aggregator> {
        Self::start_with(&["--no-kubernetes".as_ref()])
    }

    fn start_with(kubernetes: &[&OsStr]) -> anyhow::Result<Aggregator> {
        let watched = WatchedMachine::alone()?;
        let directory = tempfile::Builder::new().prefix("lastwords-test-").tempdir()?;
        let path = directory.path();
        let mut command = Command::new(release_program("lastwords-aggregator")?);
        command
            .args(["--listen", "127.0.0.1:0", "--store"])
            .arg(format!("sqlite:{}", path.join("crashes.db").display()))
            .args(kubernetes);
        let mut program = Program::start(command, "lastwords-aggregator", path)?;
        let server = format!("http://{}", program.wait_for_address()?);
        Ok(Aggregator { program, server, directory, _watched: watched })
    }

    /// Its address, for `lastwords --server` and an agent's configuration.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Runs `lastwords ARGUMENTS`.
    ///
    /// # Errors
    /// When it cannot be started; its exit code is the caller's to judge.
    pub fn ask(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let mut command = Command::new(release_program("lastwords")?);
        command.args(arguments).args(["--server", &self.server]);
        command.output().context("lastwords cannot be started")
    }

    /// Runs `lastwords ARGUMENTS -o json` and reads what it prints.
    ///
    /// # Errors
    /// When it fails or prints no JSON.
    pub fn ask_json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let output = self.ask(&[arguments, &["-o", "json"]].concat())?;
        if !output.status.success() {
            bail!("lastwords {arguments:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("lastwords {arguments:?} printed no JSON"))
    }
}

/// An agent tells of every container of the machine, so those of another test would be among them: one test at a time has an agent
/// and containers, whichever program it is in.
#[derive(Debug)]
pub struct WatchedMachine {
    // Unlocked when it is closed, by a test that is killed too.
    _locked: File,
}

impl WatchedMachine {
    /// Waits until no other test has it.
    ///
    /// # Errors
    /// When the file that stands for it cannot be locked.
    pub fn alone() -> anyhow::Result<WatchedMachine> {
        let path = env::temp_dir().join("lastwords-tests.lock");
        let file = File::options().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("{} cannot be made", path.display()))?;
        file.lock().with_context(|| format!("{} cannot be locked", path.display()))?;
        Ok(WatchedMachine { _locked: file })
    }
}

fn start_agent(
    pod_logs: &Path,
    server: &str,
    directory: &Path,
    configuration: &str,
) -> anyhow::Result<Program> {
    let config = directory.join("agent.toml");
    let text = format!(
        "node_name = {NODE_NAME:?}\naggregator = {server:?}\nspool_directory = {:?}\npod_logs_directory = {:?}\n{configuration}",
        directory.join("spool"),
        pod_logs,
    );
    fs::write(&config, text)?;
    let mut command = Command::new(release_program("lastwords-agent")?);
    command.arg("run").arg("--config").arg(config);
    let mut agent = Program::start(command, "lastwords-agent", directory)?;
    // Said once the probes are attached.
    agent.wait_for_line("watching ")?;
    Ok(agent)
}

/// `kubectl lastwords`, started by the real kubectl, which finds the plugin in `directory`; where there is no kubectl, what it would start.
///
/// # Errors
/// When `lastwords` is not built, or the directory cannot be written.
pub fn kubectl_lastwords(directory: &Path) -> anyhow::Result<Command> {
    let plugin = directory.join("kubectl-lastwords");
    if !plugin.exists() {
        fs::create_dir_all(directory)?;
        symlink(release_program("lastwords")?.canonicalize()?, &plugin)?;
    }
    let Some(kubectl) = kubectl() else { return Ok(Command::new(plugin)) };
    let mut path = directory.as_os_str().to_owned();
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());
    let mut command = Command::new(kubectl);
    command.arg("lastwords").env("PATH", path);
    Ok(command)
}
