//! What can stand at the hooks: nothing, empty programs, Lastwords, others' tools. Each is a process that is started and watched until
//! it has nothing left to do.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::hooks::{Hook, Links};

/// A process that used no processor time for so long has attached what it wanted to.
const QUIET: Duration = Duration::from_secs(2);
/// The longest start: bpftrace compiles its script, which takes an emulated processor some 10 s.
const LONGEST_START: Duration = Duration::from_secs(120);
const LONGEST_END: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(100);

/// Where `cargo xtask` puts the empty programs, unless the environment says otherwise.
const EMPTY_OBJECT: &str = "/lib/empty.bpf.o";
const BPFTRACE_SCRIPT: &str = "/usr/sbin/opensnoop.bt";

/// Who watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Attached {
    /// Nobody.
    None,
    /// Empty programs where `lastwords-fexit` has its own.
    EmptyFexit,
    /// Lastwords at the end of each call's function.
    LastwordsFexit,
    /// Empty programs where `lastwords-sys-exit` has its own.
    EmptySysExit,
    /// Lastwords where all calls end.
    LastwordsSysExit,
    /// `opensnoop -x` of libbpf-tools: opens that fail.
    Opensnoop,
    /// exitsnoop of libbpf-tools.
    Exitsnoop,
    /// bpftrace's opensnoop.bt.
    Bpftrace,
}

impl Attached {
    /// Whether it is Lastwords.
    pub(crate) fn is_lastwords(self) -> bool {
        matches!(self, Self::LastwordsFexit | Self::LastwordsSysExit)
    }

    fn command(self) -> Result<Option<Command>> {
        let mut command = match self {
            Self::None => return Ok(None),
            Self::EmptyFexit => empty(Self::LastwordsFexit)?,
            Self::EmptySysExit => empty(Self::LastwordsSysExit)?,
            Self::LastwordsFexit => lastwords("fexit")?,
            Self::LastwordsSysExit => lastwords("tp_btf")?,
            Self::Opensnoop => {
                let mut command = Command::new("opensnoop");
                command.arg("-x");
                command
            }
            Self::Exitsnoop => Command::new("exitsnoop"),
            Self::Bpftrace => {
                let mut command = Command::new("bpftrace");
                command.arg(BPFTRACE_SCRIPT);
                command
            }
        };
        // The output of what is watched costs nothing that is counted.
        command.stdout(Stdio::null());
        Ok(Some(command))
    }

    /// Where the hooks of this one are kept for the empty programs.
    fn hooks_file(self) -> PathBuf {
        std::env::temp_dir().join(format!("lastwords-bench-{self:?}.hooks"))
    }
}

fn empty(like: Attached) -> Result<Command> {
    let hooks = like.hooks_file();
    ensure!(
        hooks.exists(),
        "the hooks are Lastwords', and it did not attach by this way, or the kernel does not tell where (Linux 6.4 does)"
    );
    let object = std::env::var_os("LASTWORDS_EMPTY_OBJECT").unwrap_or_else(|| EMPTY_OBJECT.into());
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("hold").arg(object).arg(hooks).stdin(Stdio::piped());
    Ok(command)
}

fn lastwords(way_in: &str) -> Result<Command> {
    let folder = std::env::temp_dir().join("lastwords-bench-agent");
    fs::create_dir_all(&folder)?;
    let configuration = folder.join("agent.toml");
    let root = if PathBuf::from("/sys/fs/cgroup/cgroup.controllers").exists() { "" } else { "/unified" };
    fs::write(
        &configuration,
        // Nobody takes the reports: port 1.
        format!(
            "node_name = \"bench\"\naggregator = \"http://127.0.0.1:1\"\nspool_directory = {:?}\ncgroup_root = \"/sys/fs/cgroup{root}\"\n",
            folder.join("spool")
        ),
    )?;
    let mut command = Command::new("lastwords-agent");
    command.args(["run", "--way-in", way_in, "--config"]).arg(configuration);
    Ok(command)
}

/// Something that stands at its hooks until it is dropped.
pub(crate) struct Watching {
    attached: Attached,
    process: Option<Child>,
    said: PathBuf,
}

impl Watching {
    /// Starts it and waits until it is attached and quiet.
    ///
    /// # Errors
    /// When it cannot run here; the reason is for people.
    pub(crate) fn start(attached: Attached) -> Result<Self> {
        let said = std::env::temp_dir().join(format!("lastwords-bench-{attached:?}.log"));
        let Some(mut command) = attached.command()? else {
            return Ok(Self { attached, process: None, said });
        };
        let process = command
            .stderr(File::create(&said)?)
            .spawn()
            .with_context(|| format!("{} cannot be started", command.get_program().to_string_lossy()))?;
        let mut this = Self { attached, process: Some(process), said };
        this.wait_until_quiet()?;
        this.check_hooks()?;
        Ok(this)
    }

    /// Ends it, and fails if it was Lastwords and recorded fewer failed calls than it should have: a cost of nothing is no result.
    pub(crate) fn end(mut self, failures: u64) -> Result<()> {
        self.stop();
        let text = fs::read_to_string(&self.said).unwrap_or_default();
        if !self.attached.is_lastwords() {
            return Ok(());
        }
        let recorded = text.split_whitespace().rev().find_map(|word| word.strip_prefix("failures_recorded="));
        let recorded: u64 = recorded.and_then(|number| number.parse().ok()).unwrap_or(0);
        ensure!(recorded >= failures, "it recorded {recorded} of {failures} failed calls");
        Ok(())
    }

    fn pid(&self) -> Option<Pid> {
        self.process.as_ref().and_then(|process| i32::try_from(process.id()).ok()).map(Pid::from_raw)
    }

    fn wait_until_quiet(&mut self) -> Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        let (mut used, mut quiet, mut waited) = (0, Duration::ZERO, Duration::ZERO);
        while quiet < QUIET {
            sleep(STEP);
            waited += STEP;
            if let Some(status) = self.ended()? {
                bail!("it ended with {status}: {}", self.last_said());
            }
            let now = state(pid).map_or(0, |(_, used)| used);
            quiet = if now == used { quiet + STEP } else { Duration::ZERO };
            used = now;
            ensure!(waited < LONGEST_START, "it is still busy after {} s", waited.as_secs());
        }
        Ok(())
    }

    /// Nothing that has no program in the kernel counts as attached.
    fn check_hooks(&self) -> Result<()> {
        let Some(process) = &self.process else { return Ok(()) };
        let folder = format!("/proc/{}/fdinfo", process.id());
        let mut texts =
            fs::read_dir(&folder)?.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
        ensure!(
            texts.any(|text| text.contains("prog_id:")),
            "it runs, and has no program in the kernel: {}",
            self.last_said()
        );
        if !self.attached.is_lastwords() {
            return Ok(());
        }
        let links = Links::of_process(process.id())?;
        let (by_function, by_tracepoint) = (links.has_exit(), links.has_tracepoint("sys_exit"));
        match self.attached {
            Attached::LastwordsFexit => ensure!(by_function && !by_tracepoint, "it did not attach by fexit"),
            _ => ensure!(by_tracepoint, "it did not attach at sys_exit"),
        }
        // Without them only the floor is not known.
        if let Ok(hooks) = links.hooks() {
            let lines: Vec<String> = hooks.iter().map(Hook::line).collect();
            fs::write(self.attached.hooks_file(), lines.join("\n"))?;
        }
        Ok(())
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.process.as_mut().map(Child::try_wait).transpose()?.flatten())
    }

    fn last_said(&self) -> String {
        let text = fs::read_to_string(&self.said).unwrap_or_default();
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines.iter().rev().take(3).rev().copied().collect::<Vec<_>>().join(" / ")
    }

    fn stop(&mut self) {
        let Some(pid) = self.pid() else { return };
        // It may have ended by itself; then these find nobody, and the wait below finds its end.
        let _ = kill(pid, Signal::SIGCONT);
        let _ = kill(pid, Signal::SIGTERM);
        let mut waited = Duration::ZERO;
        while matches!(self.ended(), Ok(None)) {
            if waited >= LONGEST_END {
                let _ = kill(pid, Signal::SIGKILL);
            }
            sleep(STEP);
            waited += STEP;
        }
        self.process = None;
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The process's state and the processor time it has used, in ticks, all threads together.
fn state(pid: Pid) -> Option<(char, u64)> {
    stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn stat(text: &str) -> Option<(char, u64)> {
    // The name may hold anything, its closing bracket is the last one.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
    Some((fields.first()?.chars().next()?, number(11)? + number(12)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_and_time_are_read_behind_the_name() {
        let text = "42 (a) T b) S 1 42 42 0 -1 4194560 10 0 0 0 7 5 0 0 20 0 1 0 100 0 0";
        assert_eq!(stat(text), Some(('S', 12)));
        assert_eq!(stat("42 (x"), None);
    }
}
