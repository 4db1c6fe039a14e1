//! The process that becomes the tried command: PID 1 of the new PID namespace. It sets itself up and executes the command, once.
//!
//! It joins the control group last, so that nothing of the set-up is charged to the command or recorded as its failure.

use std::{
    ffi::{CString, OsString},
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{
        fd::AsFd as _,
        unix::{ffi::OsStrExt as _, net::UnixStream},
    },
    path::PathBuf,
};

use caps::{CapSet, Capability, CapsHashSet};
use nix::{
    sched::{CloneFlags, unshare},
    sys::{prctl, signal::Signal},
    unistd::{Gid, Uid, User, dup2_stdin, execve, setgroups, setresgid, setresuid, setsid},
};
use serde::{Deserialize, Serialize};

use super::{control_group::ControlGroup, loopback, mounts, path, seccomp};
use crate::{
    args::{Network, TryArguments},
    program::{ExitCode, complain},
};

/// What the process is to become, from `try` to its child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Spec {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    uid: Option<u32>,
    gid: Option<u32>,
    drop_capabilities: Vec<String>,
    read_only: bool,
    own_network: bool,
    seccomp: Option<seccomp::Profile>,
    joins: Vec<PathBuf>,
}

impl Spec {
    /// The environment that the command gets.
    pub(super) fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// Checks all that can be checked before anything is started.
    pub(super) fn new(arguments: &TryArguments) -> Result<Self, String> {
        let program = arguments.command.first().map(|command| path::resolve(command)).unwrap_or_default();
        let seccomp = arguments.seccomp.as_deref().map(seccomp::Profile::read).transpose()?;
        capabilities(&arguments.cap_drop)?;
        Ok(Self {
            program,
            arguments: arguments.command.clone(),
            environment: environment(arguments),
            uid: arguments.user.map(|user| user.uid),
            gid: arguments.user.map(|user| user.gid),
            drop_capabilities: arguments.cap_drop.clone(),
            read_only: arguments.read_only,
            own_network: arguments.network == Network::None,
            seccomp,
            joins: Vec::new(),
        })
    }

    pub(super) fn with_group(mut self, group: &ControlGroup) -> Self {
        self.joins = group.joins();
        self
    }
}

/// The environment that every tried command gets, and what `--env` adds or replaces.
fn environment(arguments: &TryArguments) -> Vec<(String, String)> {
    let uid = arguments.user.map_or(0, |user| user.uid);
    let entry = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let home = entry.map_or_else(|| "/".to_owned(), |user| user.dir.display().to_string());
    let mut environment = vec![("PATH".to_owned(), path::PATH.to_owned()), ("HOME".to_owned(), home)];
    for (key, value) in &arguments.environment {
        environment.retain(|(there, _)| there != key);
        environment.push((key.clone(), value.clone()));
    }
    environment
}

/// The process started by `try`: does not return when all goes well.
#[must_use]
pub fn become_command() -> ExitCode {
    let Ok(parent) = io::stdin().as_fd().try_clone_to_owned() else { return ExitCode::Failed };
    let mut parent = UnixStream::from(parent);
    match set_up(&mut parent) {
        Ok(()) => {}
        Err(problem) => {
            // Without a parent there is nobody to tell: somebody started this by hand.
            if parent.write_all(problem.as_bytes()).is_err() {
                complain("try-child is started by `lastwords-agent try` alone");
            }
        }
    }
    ExitCode::Failed
}

/// Everything up to the exec. The error is one sentence; a failed exec is none: it is what is to be explained.
fn set_up(parent: &mut UnixStream) -> Result<(), String> {
    let mut spec = Vec::new();
    parent.read_to_end(&mut spec).map_err(|error| format!("cannot read what to do: {error}"))?;
    let spec: Spec =
        serde_json::from_slice(&spec).map_err(|error| format!("cannot read what to do: {error}"))?;
    let program = c_string(spec.program.as_bytes())?;
    let arguments: Vec<CString> =
        spec.arguments.iter().map(|argument| c_string(argument.as_bytes())).collect::<Result<_, _>>()?;
    let environment: Vec<CString> = spec
        .environment
        .iter()
        .map(|(key, value)| c_string(format!("{key}={value}").as_bytes()))
        .collect::<Result<_, _>>()?;

    prctl::set_pdeathsig(Signal::SIGKILL).map_err(cannot("ask to end with its parent"))?;
    // As a runtime does: `kill 0` in a script ends the container, and not who watches it.
    setsid().map_err(cannot("make a session of its own"))?;
    // Opened before the new mount namespace: a mount with a file open for writing cannot be made read-only.
    let joins = open_joins(&spec.joins)?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(cannot("make a mount namespace"))?;
    mounts::prepare().map_err(cannot("set up its mounts"))?;
    if spec.own_network {
        unshare(CloneFlags::CLONE_NEWNET).map_err(cannot("make a network namespace"))?;
        loopback::bring_up().map_err(cannot("bring loopback up"))?;
    }
    if spec.read_only {
        mounts::make_read_only().map_err(cannot("make the mounts read-only"))?;
    }
    let filter = spec.seccomp.as_ref().map(seccomp::Profile::compile).transpose()?;
    let nothing = File::open("/dev/null").map_err(cannot("open /dev/null"))?;
    dup2_stdin(&nothing).map_err(cannot("close its standard input"))?;
    for mut join in joins {
        join.write_all(b"0").map_err(cannot("join its control group"))?;
    }
    become_user(&spec)?;
    crate::kernel::signals::restore_broken_pipe().map_err(cannot("let a broken pipe end it"))?;
    if let Some(filter) = filter {
        filter.apply()?;
    }
    // From here on the command's own fate: the one call that is allowed to fail.
    let _ = execve(&program, &arguments, &environment);
    std::process::exit(127);
}

fn open_joins(joins: &[PathBuf]) -> Result<Vec<File>, String> {
    joins
        .iter()
        .map(|file| {
            OpenOptions::new().write(true).open(file).map_err(cannot(&format!("open {}", file.display())))
        })
        .collect()
}

fn become_user(spec: &Spec) -> Result<(), String> {
    let dropped = capabilities(&spec.drop_capabilities)?;
    for capability in &dropped {
        // A kernel may know fewer capabilities than this program.
        if caps::has_cap(None, CapSet::Bounding, *capability).unwrap_or(false) {
            caps::drop(None, CapSet::Bounding, *capability).map_err(cannot("drop a capability"))?;
        }
    }
    if let (Some(uid), Some(gid)) = (spec.uid, spec.gid) {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        setgroups(&[]).map_err(cannot("leave its groups"))?;
        setresgid(gid, gid, gid).map_err(cannot("change its group"))?;
        setresuid(uid, uid, uid).map_err(cannot("change its user"))?;
    }
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        let held = caps::read(None, set).map_err(cannot("read its capabilities"))?;
        let kept: CapsHashSet = held.difference(&dropped).copied().collect();
        if kept.len() < held.len() {
            caps::set(None, set, &kept).map_err(cannot("drop its capabilities"))?;
        }
    }
    Ok(())
}

/// The capabilities that `--cap-drop` names: `all`, or names with or without `CAP_`.
fn capabilities(names: &[String]) -> Result<CapsHashSet, String> {
    let mut found = CapsHashSet::new();
    for name in names {
        let upper = name.to_uppercase();
        if upper == "ALL" {
            found.extend(caps::all());
            continue;
        }
        let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        let capability: Capability = full.parse().map_err(|_| {
            format!("--cap-drop {name}: no such capability; write for example ALL or NET_BIND_SERVICE")
        })?;
        found.insert(capability);
    }
    Ok(found)
}

fn c_string(bytes: &[u8]) -> Result<CString, String> {
    CString::new(bytes).map_err(|_| "the command or an argument has a zero byte in it".to_owned())
}

fn cannot<E: std::fmt::Display>(doing: &str) -> impl FnOnce(E) -> String {
    let doing = doing.to_owned();
    move |error| format!("cannot {doing}: {error}")
}
