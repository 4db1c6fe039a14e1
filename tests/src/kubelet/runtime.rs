//! runc, the reaper of what it leaves running, and the overlay that is a container's root.

use std::collections::HashMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, oneshot};

/// How many runc processes may work at once: more only wait for the same processors.
const PARALLEL: usize = 8;

/// The runtime, with its state below a directory of this node.
#[derive(Debug)]
pub(super) struct Runc {
    program: PathBuf,
    root: PathBuf,
    slots: Semaphore,
}

/// A failure in runc's own words.
pub(super) type RuncError = String;

impl Runc {
    /// Uses `program`, with its state in `root`.
    pub(super) fn new(program: PathBuf, root: PathBuf) -> Runc {
        Runc { program, root, slots: Semaphore::new(PARALLEL) }
    }

    /// Sets a container up to the point where only its own program is missing. Returns the host's PID of its init.
    ///
    /// # Errors
    /// runc's message, as containerd passes it on.
    pub(super) async fn create(
        &self,
        id: &str,
        bundle: &Path,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Result<i32, RuncError> {
        let pid_file = bundle.join("pid");
        let mut command = self.command(bundle);
        command.arg("create").arg("--bundle").arg(bundle).arg("--pid-file").arg(&pid_file).arg(id);
        command.stdout(stdout).stderr(stderr);
        self.run(command, bundle).await?;
        let pid = fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse().ok());
        pid.ok_or_else(|| format!("runc wrote no PID into {}", pid_file.display()))
    }

    /// Lets a created container execute its program.
    ///
    /// # Errors
    /// runc's message.
    pub(super) async fn start(&self, id: &str, bundle: &Path) -> Result<(), RuncError> {
        let mut command = self.command(bundle);
        command.arg("start").arg(id);
        self.run(command, bundle).await
    }

    /// Does what `runc start` does, without a process of runc: reads the byte that the waiting init writes into its
    /// FIFO and removes the FIFO. Two hundred processes of runc would take two processors several seconds.
    ///
    /// # Errors
    /// When the container does not wait for its start.
    pub(super) async fn release(&self, id: &str) -> Result<(), RuncError> {
        let fifo = self.root.join(id).join("exec.fifo");
        let read = tokio::task::spawn_blocking(move || {
            let byte = fs::read(&fifo)?;
            fs::remove_file(&fifo)?;
            std::io::Result::Ok(byte)
        });
        match read.await {
            Ok(Ok(byte)) if !byte.is_empty() => Ok(()),
            Ok(Ok(_)) => Err("cannot start an already running container".to_owned()),
            Ok(Err(error)) => Err(format!("cannot start the container: {error}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Sends a signal to a container's init.
    ///
    /// # Errors
    /// runc's message; also when it has ended.
    pub(super) async fn kill(&self, id: &str, bundle: &Path, signal: &str) -> Result<(), RuncError> {
        let mut command = self.command(bundle);
        command.arg("kill").arg(id).arg(signal);
        self.run(command, bundle).await
    }

    /// Removes a container with its group, whatever state it is in.
    ///
    /// # Errors
    /// runc's message.
    pub(super) async fn delete(&self, id: &str, bundle: &Path) -> Result<(), RuncError> {
        let mut command = self.command(bundle);
        command.arg("delete").arg("--force").arg(id);
        self.run(command, bundle).await
    }

    /// The containers it has state of.
    pub(super) fn known(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().filter_map(Result::ok);
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    fn command(&self, directory: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--root")
            .arg(&self.root)
            .arg("--log")
            .arg(directory.join("runc.log"))
            .args(["--log-format", "json"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    async fn run(&self, mut command: Command, directory: &Path) -> Result<(), RuncError> {
        // Never closed, so there is always a slot in the end.
        let slot = self.slots.acquire().await;
        let status = command.status().await;
        drop(slot);
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => {
                Err(last_error(&directory.join("runc.log")).unwrap_or_else(|| format!("runc: {status}")))
            }
            Err(error) => Err(format!(
                "{} cannot be run: {error}; `cargo xtask setup` installs runc",
                self.program.display()
            )),
        }
    }
}

/// The last error in runc's JSON log.
fn last_error(log: &Path) -> Option<String> {
    let text = fs::read_to_string(log).ok()?;
    let entries = text.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let last = entries.into_iter().find(|entry| entry["level"] == "error")?;
    last["msg"].as_str().map(str::to_owned)
}

/// Waits for processes that runc has left to this one (which must be their subreaper).
#[derive(Debug, Default)]
pub(super) struct Reaper {
    waiting: Mutex<HashMap<i32, oneshot::Sender<i32>>>,
}

impl Reaper {
    /// Told once the process has ended: its exit code, or 128 and the signal, as the kubelet sees it.
    pub(super) fn watch(&self, pid: i32) -> oneshot::Receiver<i32> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(pid, sender);
        self.sweep();
        receiver
    }

    /// Collects the dead for as long as it runs.
    pub(super) async fn run(&self) {
        let Ok(mut child) = signal(SignalKind::child()) else { return };
        loop {
            // The timer is for a SIGCHLD that tokio's own handling has merged with another.
            tokio::select! {
                _ = child.recv() => {}
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
            self.sweep();
        }
    }

    fn sweep(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let pids: Vec<i32> = waiting.keys().copied().collect();
        for pid in pids {
            let code = match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, code)) => code,
                Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
                Ok(_) => continue,
                // Somebody else has collected it; its code is lost, as containerd says with the same number.
                Err(_) => 255,
            };
            if let Some(sender) = waiting.remove(&pid) {
                let _ = sender.send(code);
            }
        }
    }
}

/// Mounts a container's own writable layer over an image. Returns the root.
///
/// # Errors
/// When a directory cannot be made or the kernel refuses the mount.
pub(super) fn mount_overlay(image: &Path, directory: &Path) -> std::io::Result<PathBuf> {
    let [root, upper, work] = ["rootfs", "upper", "work"].map(|name| directory.join(name));
    for made in [&root, &upper, &work] {
        fs::create_dir_all(made)?;
    }
    let options =
        format!("lowerdir={},upperdir={},workdir={}", image.display(), upper.display(), work.display());
    mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;
    Ok(root)
}

/// Unmounts it again; the layer itself stays.
pub(super) fn unmount_overlay(directory: &Path) {
    // Lazily: a process that was killed a moment ago may still hold it.
    let _ = umount2(&directory.join("rootfs"), MntFlags::MNT_DETACH);
}
