//! `lastwords-agent try`: one local command as a container of its own, and why it died. The same probes, recorder and assembly as
//! on a node; only the container and its log are made here.

mod child;
mod control_group;
mod each;
mod loopback;
mod mounts;
mod output;
mod path;
mod proof;
mod seccomp;
mod session;

use std::{
    fs::File,
    io::{IsTerminal as _, Read as _, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use lastwords_proto::{to_json, v1};
use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

pub use child::become_command;
pub use each::try_each;
pub use proof::{Flow, die, prove};

use self::{child::Spec, output::Output, session::Session};
use crate::{
    args::{Output as Format, TryArguments},
    program::{ExitCode, complain},
};

/// This machine's control groups.
const CGROUPS: &str = "/sys/fs/cgroup";
/// Where processes are looked at.
const PROC: &str = "/proc";
/// Why the command could not be tried.
#[derive(Debug, thiserror::Error)]
enum TryError {
    #[error(transparent)]
    Kernel(#[from] crate::kernel::LoadError),
    #[error("probe {0}")]
    Probe(String),
    #[error("cannot {doing}: {source}")]
    System { doing: String, source: std::io::Error },
    #[error("the command could not be set up: {0}")]
    SetUp(String),
    #[error("{0}")]
    Profile(String),
    #[error("the command ended ({0}) and the kernel's record of it did not come; nothing can be said of it")]
    NoRecord(ExitStatus),
}

impl TryError {
    fn system(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::System { doing, source }
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Kernel(_) | Self::Probe(_) => ExitCode::NotPossibleHere,
            _ => ExitCode::Failed,
        }
    }
}

/// Runs the command, explains its death on standard output.
#[must_use]
pub fn try_command(arguments: &TryArguments) -> ExitCode {
    crate::telemetry::start(tracing_subscriber::filter::LevelFilter::WARN);
    match Session::start(arguments.way_in).and_then(|mut session| session.explain(arguments)) {
        Ok(explained) => print(&explained.crash, arguments.output),
        Err(error) => {
            complain(&error);
            error.exit_code()
        }
    }
}

/// How the command went.
struct Ran {
    status: ExitStatus,
    output: Output,
    timed_out: bool,
}

/// Starts the command and waits for its end.
fn run(arguments: &TryArguments, spec: &Spec) -> Result<Ran, TryError> {
    let (started, pid) = channel();
    let (ended, end) = channel();
    let spec = spec.clone();
    // The thread that starts the child has to outlive it: the kernel ends the child with it (PR_SET_PDEATHSIG). And only what
    // this thread starts is to be in the new PID namespace.
    std::thread::Builder::new()
        .name("try".to_owned())
        .spawn(move || {
            let result = start(&spec).and_then(|(child, output)| {
                // Nobody listens when the other side failed meanwhile; the child ends by itself or by its time limit.
                let _ = started.send(child.id());
                finish(child, output)
            });
            let _ = ended.send(result);
        })
        .map_err(TryError::system("start a thread"))?;
    let pid = pid.recv();
    let began = Instant::now();
    let mut timed_out = false;
    let mut schedule = vec![(arguments.timeout, Step::TimeOut)];
    schedule.extend(arguments.stop_after.map(|after| (after, Step::Stop)));
    let (status, output) = loop {
        let next = take_earliest(&mut schedule);
        let result = match next {
            Some((after, _)) => end.recv_timeout(after.saturating_sub(began.elapsed())),
            None => end.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match (result, next, &pid) {
            (Ok(result), ..) => break result?,
            (Err(RecvTimeoutError::Timeout), Some((_, step)), Ok(pid)) => {
                timed_out |= step == Step::TimeOut;
                // It may have ended this very moment.
                let _ = kill(Pid::from_raw(pid.cast_signed()), step.signal());
                if step == Step::Stop {
                    // From when it was told, however late that was.
                    schedule.push((began.elapsed() + arguments.grace, Step::Kill));
                }
            }
            _ => return Err(TryError::SetUp("the thread that waits for it failed".to_owned())),
        }
    };
    Ok(Ran { status, output, timed_out })
}

/// What is done to a command that does not end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Stop,
    Kill,
    TimeOut,
}

impl Step {
    fn signal(self) -> Signal {
        match self {
            Self::Stop => Signal::SIGTERM,
            Self::Kill | Self::TimeOut => Signal::SIGKILL,
        }
    }
}

/// What is next, counted from the program's start.
fn take_earliest(schedule: &mut Vec<(Duration, Step)>) -> Option<(Duration, Step)> {
    let (place, _) = schedule.iter().enumerate().min_by_key(|(_, (after, _))| *after)?;
    Some(schedule.swap_remove(place))
}

fn start(spec: &Spec) -> Result<(Child, Output), TryError> {
    let failed = |doing: &str| TryError::system(doing.to_owned());
    let own = File::open("/proc/self/ns/pid").map_err(failed("open its PID namespace"))?;
    unshare(CloneFlags::CLONE_NEWPID).map_err(|errno| failed("make a PID namespace")(errno.into()))?;
    let (ours, theirs) = UnixStream::pair().map_err(failed("make a socket pair"))?;
    let mut child = Command::new("/proc/self/exe")
        .arg("try-child")
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed("start a process"))?;
    // Back again: a thread whose children go to another PID namespace cannot start threads (copy_process, kernel/fork.c).
    setns(own, CloneFlags::CLONE_NEWPID)
        .map_err(|errno| failed("return to its PID namespace")(errno.into()))?;
    let output = Output::collect(&mut child).map_err(failed("read the command's output"))?;
    match tell(ours, spec) {
        Ok(problem) if problem.is_empty() => Ok((child, output)),
        Ok(problem) => {
            finish(child, output)?;
            Err(TryError::SetUp(problem))
        }
        Err(error) => {
            finish(child, output)?;
            Err(failed("tell the process what to do")(error))
        }
    }
}

/// Hands the child what it is to become; gives what went wrong on the way there, nothing once it is under way.
fn tell(mut stream: UnixStream, spec: &Spec) -> std::io::Result<String> {
    stream.write_all(&serde_json::to_vec(spec)?)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut problem = String::new();
    stream.read_to_string(&mut problem)?;
    Ok(problem)
}

fn finish(mut child: Child, mut output: Output) -> Result<(ExitStatus, Output), TryError> {
    let status = child.wait().map_err(TryError::system("wait for the command"))?;
    output.finish();
    Ok((status, output))
}

/// Colours on a terminal only, and never where NO_COLOR is set (no-color.org).
fn is_colour_wanted() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn print(crash: &v1::Crash, format: Format) -> ExitCode {
    let text = match format {
        Format::Text => lastwords_render::crash_text(crash, is_colour_wanted()),
        Format::Json => match to_json("Crash", crash) {
            Ok(value) => format!("{value:#}\n"),
            Err(error) => {
                complain(error);
                return ExitCode::Failed;
            }
        },
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::Done,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::Done,
        Err(error) => {
            complain(format!("cannot write the explanation: {error}"));
            ExitCode::Failed
        }
    }
}
