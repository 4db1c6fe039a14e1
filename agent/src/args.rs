//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    kernel::verdict::WayIn,
    quantity::{bytes, duration, processors},
};

/// Records why containers on this node die.
///
/// Exit codes: 0 done; 1 it failed while running; 2 wrong command line; 64 wrong configuration; 77 the kernel or the permissions
/// needed are not there.
#[derive(Debug, Parser)]
#[command(name = "lastwords-agent", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Record crashes on this node and report them to the aggregator (the DaemonSet's process)
    Run {
        /// Configuration file (TOML); every key has a default
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Take only this way into the kernel, for finding out what it costs; the usual one is the cheapest that the kernel takes
        #[arg(long, value_enum, value_name = "WAY")]
        way_in: Option<WayIn>,
    },
    /// Say whether crashes can be recorded on this node; exit 0 only if they can
    Check {
        /// Take only this way in, for finding out about a kernel that refuses the usual one
        #[arg(long, value_enum, value_name = "WAY")]
        way_in: Option<WayIn>,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Run one command as a container of its own and explain its death; no Kubernetes
    Try(Box<TryArguments>),
    /// Try one command after the other, each a JSON line on standard input, with the probes loaded once; for tests
    #[command(hide = true)]
    TryEach {
        /// Take only this way into the kernel
        #[arg(long, value_enum, value_name = "WAY")]
        way_in: Option<WayIn>,
    },
    /// The process whose death `check` looks for
    #[command(hide = true, name = "check-child")]
    CheckChild,
    /// The process that becomes the tried command; started by `try` alone
    #[command(hide = true, name = "try-child")]
    TryChild,
}

/// How to print a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// One JSON value on standard output
    Json,
}

/// What `try` needs to know.
#[derive(Debug, Args)]
pub struct TryArguments {
    /// Memory limit of its group, for example 20Mi
    #[arg(long, value_name = "QUANTITY", value_parser = bytes)]
    pub memory: Option<u64>,
    /// Processor time limit of its group, for example 100m (a tenth of one processor)
    #[arg(long, value_name = "QUANTITY", value_parser = processors)]
    pub cpu: Option<u64>,
    /// Most processes and threads
    #[arg(long, value_name = "N")]
    pub pids: Option<u64>,
    /// User id, and group id (the same number without one); no other groups
    #[arg(long, value_name = "UID[:GID]", value_parser = user)]
    pub user: Option<User>,
    /// Capabilities to take away: ALL or a name; may be repeated
    #[arg(long, value_name = "all|NAME")]
    pub cap_drop: Vec<String>,
    /// Make every mount read-only, /dev and /proc usable
    #[arg(long)]
    pub read_only: bool,
    /// Network: a namespace of its own with only loopback, or this machine's
    #[arg(long, value_enum, default_value_t = Network::None)]
    pub network: Network,
    /// Seccomp profile in the OCI format (JSON)
    #[arg(long, value_name = "FILE")]
    pub seccomp: Option<PathBuf>,
    /// Environment variable; may be repeated
    #[arg(long = "env", value_name = "KEY=VALUE", value_parser = variable)]
    pub environment: Vec<(String, String)>,
    /// Send SIGTERM after this time as a runtime would, then SIGKILL when --grace is over
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub stop_after: Option<Duration>,
    /// From SIGTERM to SIGKILL: Kubernetes' terminationGracePeriodSeconds, by default a third of it so that nobody waits long
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    pub grace: Duration,
    /// Kill it after this time and say so
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s")]
    pub timeout: Duration,
    /// Take only this way into the kernel, for finding out about one that refuses the usual way
    #[arg(long, value_enum, value_name = "WAY")]
    pub way_in: Option<WayIn>,
    /// How to print the explanation
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

/// Network of a tried command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Network {
    /// A namespace of its own with loopback up
    None,
    /// This machine's
    Host,
}

/// Whom a tried command runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

fn user(text: &str) -> Result<User, String> {
    let number = |part: &str| {
        part.parse::<u32>()
            .map_err(|_| format!("{part:?} is no user or group number; write for example 1000 or 1000:1000"))
    };
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    Ok(User { uid: number(uid)?, gid: number(gid)? })
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !text.contains('\0') => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err(format!("{text:?} is no KEY=VALUE")),
    }
}
