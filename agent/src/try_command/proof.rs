//! Whether evidence flows: a small process of our own fails a call and dies, as a container of its own, and its crash has to come out of the
//! pipeline that a node has, with maps of the size that a node has.

use std::{
    fmt, fs,
    time::{Duration, Instant},
};

use lastwords_proto::v1::Crash;
use nix::sys::prctl;

use super::{TryError, session::Session};
use crate::{
    args::{Network, Output, TryArguments},
    kernel::{Kernel, verdict::Verdict},
    program::ExitCode,
};

/// What the process cannot open.
const MISSING: &str = "/lastwords-check/is-not-there";
/// How long it may take: its start, its end and its record are a matter of milliseconds, of seconds on an emulated processor.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flow {
    /// The crash came out, with all that the probes that run can see.
    Seen {
        /// From the start of the process to its crash.
        milliseconds: u128,
        /// What was seen, for people.
        what: String,
    },
    /// It could not be tried here: why.
    Skipped(String),
    /// It was tried, and this is missing.
    Missing(String),
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seen { milliseconds, what } => write!(f, "flows: {what}, in {milliseconds} ms"),
            Self::Skipped(reason) => write!(f, "SKIPPED, it could not be tried whether it flows: {reason}"),
            Self::Missing(what) => write!(f, "does not flow: {what}"),
        }
    }
}

/// Lets a process die, and looks for its crash.
#[must_use]
pub fn prove(kernel: Kernel) -> Flow {
    let verdicts = kernel.verdicts.clone();
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return Flow::Skipped(format!("cannot tell which program this is: {error}")),
    };
    let arguments = TryArguments {
        memory: None,
        cpu: None,
        pids: None,
        user: None,
        cap_drop: Vec::new(),
        read_only: false,
        network: Network::Host,
        seccomp: None,
        environment: Vec::new(),
        stop_after: None,
        grace: PATIENCE,
        timeout: PATIENCE,
        way_in: None,
        output: Output::Json,
        command: vec![program.into_os_string(), "check-child".into()],
    };
    let began = Instant::now();
    let explained = Session::of(kernel).and_then(|mut session| session.explain(&arguments));
    match explained {
        Ok(explained) => judge(&explained.crash, &verdicts, began.elapsed()),
        Err(error @ TryError::NoRecord(_)) => Flow::Missing(error.to_string()),
        // To make a container takes more than to record one: the agent's own rights on a node do not suffice.
        Err(error) => Flow::Skipped(error.to_string()),
    }
}

fn judge(crash: &Crash, verdicts: &[Verdict], took: Duration) -> Flow {
    let runs = |hook: &str| verdicts.iter().any(|verdict| verdict.hook == hook && verdict.is_active());
    let Some(exit) = crash.exit.as_ref().filter(|exit| exit.signal != 0) else {
        return Flow::Missing("the crash came out without the signal that ended the process".to_owned());
    };
    let call = crash.failures.iter().find(|failure| failure.path == MISSING);
    let sent = crash.signals.iter().any(|signal| signal.to_main && signal.signal == exit.signal);
    if runs("sys_exit") && call.is_none() {
        return Flow::Missing(format!("the crash came out without the failed opening of {MISSING}"));
    }
    if runs("signal_generate") && !sent {
        return Flow::Missing(format!("the crash came out without the sending of {}", exit.signal_name));
    }
    let call = call.map(|call| format!("{} of {} → {}, ", call.syscall, call.path, call.errno_name));
    let what = format!("{}the end by {}", call.unwrap_or_default(), exit.signal_name);
    Flow::Seen { milliseconds: took.as_millis(), what }
}

/// The process: it fails to open a file, and aborts. As PID 1 it ignores its SIGABRT, and `abort` ends it by a fault.
#[must_use]
pub fn die() -> ExitCode {
    // No core dump, nor a program that collects them.
    let _ = prctl::set_dumpable(false);
    if fs::File::open(MISSING).is_err() {
        std::process::abort();
    }
    ExitCode::Failed
}

#[cfg(test)]
mod tests {
    use lastwords_proto::v1::{Exit, Failure, Signal};

    use super::*;
    use crate::kernel::verdict::{State, WayIn};

    fn verdict(hook: &'static str, active: bool) -> Verdict {
        let state = State::Active {
            way_in: WayIn::TypedTracepoint,
            refused: Vec::new(),
            instructions: 0,
            missing: Vec::new(),
        };
        let refused = State::Unsupported("for a test".to_owned());
        Verdict {
            probe: hook,
            hook,
            without: "",
            required: false,
            state: if active { state } else { refused },
        }
    }

    fn crash(signal: bool, call: bool) -> Crash {
        let failure =
            Failure { path: MISSING.to_owned(), errno_name: "ENOENT".to_owned(), ..Failure::default() };
        Crash {
            exit: Some(Exit { signal: 11, signal_name: "SIGSEGV".to_owned(), ..Exit::default() }),
            signals: if signal {
                vec![Signal { signal: 11, to_main: true, ..Signal::default() }]
            } else {
                Vec::new()
            },
            failures: if call { vec![failure] } else { Vec::new() },
            ..Crash::default()
        }
    }

    #[test]
    fn what_a_probe_that_runs_does_not_bring_is_missing() {
        let all = [verdict("sys_exit", true), verdict("signal_generate", true)];
        let took = Duration::from_millis(7);
        assert!(matches!(judge(&crash(true, true), &all, took), Flow::Seen { milliseconds: 7, .. }));
        assert!(matches!(judge(&crash(true, false), &all, took), Flow::Missing(_)));
        assert!(matches!(judge(&crash(false, true), &all, took), Flow::Missing(_)));
        assert!(matches!(judge(&Crash::default(), &all, took), Flow::Missing(_)));
        let none = [verdict("sys_exit", false), verdict("signal_generate", false)];
        assert!(
            matches!(judge(&crash(false, false), &none, took), Flow::Seen { .. }),
            "nobody could see more"
        );
    }
}
