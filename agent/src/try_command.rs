//! `lastwords-agent try`: one local command as a container of its own, and why it died. The same probes, recorder and assembly as
//! on a node; only the container and its log are made here.

mod child;
mod control_group;
mod loopback;
mod mounts;
mod output;
mod path;
mod seccomp;

use std::{
    fs::File,
    io::{IsTerminal as _, Read as _, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use lastwords_diagnosis::{Diagnosis, evidence::Evidence};
use lastwords_proto::{convert, to_json, v1};
use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::sync::mpsc;

pub use child::become_command;

use self::{child::Spec, control_group::ControlGroup, output::Output};
use crate::{
    args::{Output as Format, TryArguments},
    assemble::{Death, End, Node, assemble},
    clock::ClockOffsets,
    config::default_node_name,
    enrich::{cgroup::ControlGroups, procfs::HostProc},
    ingest::Ingest,
    kernel::Kernel,
    look::Looker,
    page_bytes,
    program::{ExitCode, complain},
    redact::Redactor,
    tracker::Tracker,
};

/// From SIGTERM to SIGKILL after --stop-after. A third of Kubernetes' default, so that nobody waits long for an answer.
const GRACE: Duration = Duration::from_secs(10);
/// From the command's end to its record. Milliseconds on a busy machine; after this it is an error.
const RECORD_WAIT: Duration = Duration::from_secs(5);
/// This machine's control groups.
const CGROUPS: &str = "/sys/fs/cgroup";
/// Deaths that may wait to be looked at: other containers of this machine die too.
const DEATHS: usize = 256;

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
    match explain(arguments) {
        Ok(crash) => print(&crash, arguments.output),
        Err(error) => {
            complain(&error);
            error.exit_code()
        }
    }
}

fn explain(arguments: &TryArguments) -> Result<v1::Crash, TryError> {
    let spec = Spec::new(arguments).map_err(TryError::Profile)?;
    let kernel = Kernel::load(arguments.way_in)?;
    if let Some(missing) = kernel.missing().next() {
        return Err(TryError::Probe(missing.to_string()));
    }
    let control_groups =
        ControlGroups::open(CGROUPS.as_ref()).map_err(TryError::system("use the control groups"))?;
    let looker = Looker::start(HostProc::new("/proc".as_ref()), control_groups.clone())
        .map_err(TryError::system("start a thread"))?;
    let tracker = Tracker::new(kernel.recorders, kernel.groups, looker.clone(), control_groups);
    let (sender, mut deaths) = mpsc::channel(DEATHS);
    let ingest = Ingest::start(kernel.records, kernel.counters, tracker, sender)
        .map_err(TryError::system("read the kernel's records"))?;
    let group = ControlGroup::make(arguments.memory, arguments.pids)
        .map_err(|error| TryError::System { doing: error.doing, source: error.source })?;
    let ran = run(arguments, &spec.with_group(&group));
    let id = group.id().to_owned();
    group.remove().map_err(TryError::system("remove the command's control group"))?;
    let ran = ran?;
    let mut death = wait_for(&mut deaths, &id).ok_or(TryError::NoRecord(ran.status))?;
    death.looked = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(TryError::system("wait for what was looked at"))?
        .block_on(looker.ended(death.cgroup_id));
    drop(ingest);
    let evidence = evidence(&death, ran);
    Ok(crash(&evidence, &lastwords_diagnosis::diagnose(&evidence, None)))
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
    let began = Instant::now();
    let mut timed_out = false;
    let mut schedule = schedule(arguments).into_iter();
    let pid = pid.recv();
    let (status, output) = loop {
        let next = schedule.next();
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

/// What is done when, counted from the start.
fn schedule(arguments: &TryArguments) -> Vec<(Duration, Step)> {
    let mut schedule = vec![(arguments.timeout, Step::TimeOut)];
    if let Some(stop) = arguments.stop_after {
        schedule.extend([(stop, Step::Stop), (stop + GRACE, Step::Kill)]);
    }
    schedule.sort_by_key(|(after, _)| *after);
    schedule
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

/// The death of the container `id`. Others that die on this machine at the same time are passed over.
fn wait_for(deaths: &mut mpsc::Receiver<Death>, id: &str) -> Option<Death> {
    let until = Instant::now() + RECORD_WAIT;
    loop {
        match deaths.try_recv() {
            Ok(death) if death.container.id == id && death.end != End::Survived => return Some(death),
            Ok(_) => {}
            Err(_) if Instant::now() >= until => return None,
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn evidence(death: &Death, ran: Ran) -> Evidence {
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
    evidence.timed_out = ran.timed_out;
    evidence.log_tail = Some(ran.output.tail(&redactor));
    evidence
}

fn crash(evidence: &Evidence, diagnosis: &Diagnosis) -> v1::Crash {
    let mut crash = convert::evidence_to_crash(evidence);
    crash.id = "try".to_owned();
    crash.diagnosis = Some(convert::diagnosis_to_wire(diagnosis, 1));
    crash
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
