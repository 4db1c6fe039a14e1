//! What became of each probe. A probe that cannot run is a verdict, not the end of the agent.

use std::fmt;

/// One probe and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What it watches, for example `exit`.
    pub probe: &'static str,
    /// The kernel's name of the hook.
    pub hook: &'static str,
    /// What is lost without it.
    pub without: &'static str,
    /// Without it no crash can be recorded at all.
    pub required: bool,
    /// How it runs, if it does.
    pub state: State,
}

/// How a probe runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is attached.
    Active {
        /// Which way in.
        way_in: WayIn,
        /// Why the ways before it were not taken.
        refused: Vec<String>,
        /// Instructions that the verifier walked through to accept the program (Linux 5.16); 0 when the kernel does not say.
        instructions: u32,
        /// What of the hook this kernel has not, for example one of the system calls.
        missing: Vec<String>,
    },
    /// This kernel has no such hook, or another form of it.
    Unsupported(String),
    /// Every way in was refused.
    Broken(String),
}

/// A way to run a program at a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WayIn {
    /// The function itself, at its beginning or end, through a trampoline (Linux 5.5; 6.4 on arm64): nothing else pays for it.
    #[value(name = "fexit")]
    Function,
    /// A BTF-typed raw tracepoint (Linux 5.5).
    #[value(name = "tp_btf")]
    TypedTracepoint,
    /// A raw tracepoint (Linux 4.17).
    #[value(name = "raw_tracepoint")]
    RawTracepoint,
}

impl fmt::Display for WayIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Function => "fexit",
            Self::TypedTracepoint => "tp_btf",
            Self::RawTracepoint => "raw_tracepoint",
        })
    }
}

impl Verdict {
    /// Whether the probe runs.
    #[must_use]
    pub fn is_active(&self) -> bool {
        matches!(self.state, State::Active { .. })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): ", self.probe, self.hook)?;
        match &self.state {
            State::Active { way_in, refused, missing, .. } => {
                write!(f, "active, {way_in}")?;
                let without = (!missing.is_empty()).then(|| format!("without {}", missing.join(", ")));
                let remarks: Vec<&str> = refused.iter().chain(&without).map(String::as_str).collect();
                if remarks.is_empty() { Ok(()) } else { write!(f, " ({})", remarks.join("; ")) }
            }
            State::Unsupported(reason) => write!(f, "unsupported, {reason}; without it: {}", self.without),
            State::Broken(reason) => write!(f, "broken, {reason}; without it: {}", self.without),
        }
    }
}
