//! Where operations are run: a process in a container's group, which Lastwords takes for the container's main process, or one outside.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread::sleep,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;
use nix::sched::{CloneFlags, unshare};

use crate::operations::Operation;

/// Where cgroup v2 is: alone, or beside version 1.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/// How often the removal of a group is tried: its last process may not be gone from it yet.
const REMOVALS: u32 = 100;

/// What a batch is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// Instructions of a machine with one processor. Whoever reads what the programs in the kernel tell runs on it too, and must not run
    /// within a batch: what is counted is the kernel's part. So batches run at a real-time priority, and readers between them.
    Counted,
    /// The clock of a machine that others use as well.
    Timed,
}

/// The lowest of the real-time priorities is above everybody else.
const CHRT: [&str; 3] = ["chrt", "-f", "1"];

/// A process that runs what it is asked to.
pub(crate) struct Measured {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    group: Option<PathBuf>,
}

impl Measured {
    /// One in no container.
    pub(crate) fn outside(how: How) -> Result<Self> {
        Self::start(how, &["serve"], None)
    }

    /// The main process of a container that is made for it.
    pub(crate) fn inside(how: How) -> Result<Self> {
        let group = group()?;
        fs::create_dir(&group).with_context(|| format!("cannot make the group {}", group.display()))?;
        let path = group.to_string_lossy().into_owned();
        Self::start(how, &["enter", &path], Some(group))
    }

    fn start(how: How, arguments: &[&str], group: Option<PathBuf>) -> Result<Self> {
        let program = std::env::current_exe()?;
        let mut command = match how {
            How::Timed => Command::new(program),
            How::Counted => {
                let [chrt, options @ ..] = CHRT;
                let mut command = Command::new(chrt);
                command.args(options).arg(program);
                command
            }
        };
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the process to measure")?;
        let (requests, answers) = (child.stdin.take(), child.stdout.take());
        let answers = BufReader::new(answers.context("the process has no output")?);
        Ok(Self { child, requests, answers, group })
    }

    /// How long one batch took, in nanoseconds.
    pub(crate) fn batch(&mut self, operation: Operation) -> Result<u64> {
        let name = operation.name();
        let requests = self.requests.as_mut().context("the process was told to end")?;
        writeln!(requests, "{name}").context("the process ended")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        answer.trim().parse().with_context(|| format!("{name}: {}", answer.trim()))
    }
}

/// Tells the process to end, and removes its group.
impl Drop for Measured {
    fn drop(&mut self) {
        self.requests = None;
        // What it says at its end was said already.
        let _ = self.child.wait();
        let Some(group) = &self.group else { return };
        for _ in 0..REMOVALS {
            if fs::remove_dir(group).is_ok() {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        eprintln!("the group {} stays behind", group.display());
    }
}

/// A group named as runtimes name a container's: 64 hexadecimal digits.
fn group() -> Result<PathBuf> {
    let root = ROOTS.iter().map(Path::new).find(|root| root.join("cgroup.controllers").exists());
    let root = root.context("no cgroup v2 is mounted")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    Ok(root.join(format!("{:032x}{now:032x}", std::process::id())))
}

/// Enters the group and a mount namespace of its own, as a runtime does, and executes itself there.
pub(crate) fn enter(group: &Path) -> Result<()> {
    fs::write(group.join("cgroup.procs"), "0").context("cannot enter the group")?;
    unshare(CloneFlags::CLONE_NEWNS).context("cannot have a mount namespace")?;
    bail!(Command::new(std::env::current_exe()?).arg("serve").exec())
}

/// Runs what it is asked to until nobody asks any more.
pub(crate) fn serve() -> Result<()> {
    for line in std::io::stdin().lines() {
        let line = line?;
        match Operation::from_str(&line, false) {
            Ok(operation) => match operation.run(operation.batch()) {
                Ok(took) => println!("{took}"),
                Err(error) => println!("{error:#}"),
            },
            Err(_) => println!("no operation is called {line}"),
        }
    }
    Ok(())
}
