//! Containers with no runtime around them: a control group and a process, made in a millisecond. What the kernel side knows a container
//! by is all there: the group's name, and a first program in a mount namespace of its own.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};

use crate::api_server::random;
use crate::patience::PATIENCE;
use crate::programs::stand_in;

/// Where cgroup v2 is: the whole hierarchy, or beside the controllers of v1.
pub const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// 64 hexadecimal digits, as containerd names a container.
pub fn new_id() -> String {
    (0..4).map(|_| format!("{:016x}", random())).collect()
}

/// The control group of a container that is not there yet.
#[derive(Debug)]
pub struct Group {
    id: String,
    path: PathBuf,
}

impl Group {
    /// Makes one.
    ///
    /// # Errors
    /// When that fails.
    pub fn make() -> anyhow::Result<Self> {
        let id = new_id();
        let root = ROOTS.iter().map(Path::new).find(|root| root.join("cgroup.controllers").exists());
        let path = root.context("cgroup v2 is not mounted")?.join(&id);
        fs::create_dir(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self { id, path })
    }

    /// Makes one whose number differs from that of `other` by a multiple of `places`; `None` when the kernel gave none.
    ///
    /// # Errors
    /// When none can be made or removed.
    pub fn make_beside(other: &Group, places: u64) -> anyhow::Result<Option<Self>> {
        let place = other.number()? % places;
        // The kernel numbers a group and its files in order: each group is as far from the last one, unless another is made meanwhile.
        for _ in 0..2 * places {
            let group = Self::make()?;
            if group.number()? % places == place {
                return Ok(Some(group));
            }
            fs::remove_dir(&group.path)?;
        }
        Ok(None)
    }

    fn number(&self) -> io::Result<u64> {
        Ok(fs::metadata(&self.path)?.ino())
    }
}

/// A container. Dropping it ends it.
#[derive(Debug)]
pub struct Container {
    id: String,
    group: PathBuf,
    nested: Vec<PathBuf>,
    child: Child,
}

impl Container {
    /// Starts `command` as the main process of a container of its own. Its process id is known at once, because every program on the
    /// way to it executes the next one.
    ///
    /// # Errors
    /// When the group cannot be made or the process not be started.
    pub fn start(command: &[&str]) -> anyhow::Result<Self> {
        Self::start_in(Group::make()?, command)
    }

    /// As [`Container::start`], in this group.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start_in(group: Group, command: &[&str]) -> anyhow::Result<Self> {
        let Group { id, path: group } = group;
        let mut runtime = Command::new(stand_in("stand-in-container")?);
        runtime.arg(&group).args(command).stdin(Stdio::null()).stdout(Stdio::null());
        match runtime.spawn() {
            Ok(child) => Ok(Self { id, group, nested: Vec::new(), child }),
            Err(error) => {
                fs::remove_dir(&group)?;
                Err(error).context("stand-in-container cannot be started")
            }
        }
    }

    /// As the reports name it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its main process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes a group in its own and moves the main process there, as an init does that has groups of its own.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn nest(&mut self) -> io::Result<()> {
        let nested = self.group.join("init.scope");
        fs::create_dir(&nested)?;
        fs::write(nested.join("cgroup.procs"), self.pid().to_string())?;
        self.nested.push(nested);
        Ok(())
    }

    /// Waits for its main process and removes the group, as a runtime would. How the process ended, as the kernel tells its parent.
    ///
    /// # Errors
    /// When it does not end in time, or its group stays busy.
    pub fn wait(mut self) -> anyhow::Result<(String, ExitStatus)> {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                bail!("the container's process {} did not end within {PATIENCE:?}", self.pid());
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        };
        while let Err(error) = self.remove_groups() {
            if error.kind() != io::ErrorKind::ResourceBusy || Instant::now() > deadline {
                return Err(error).with_context(|| format!("{} cannot be removed", self.group.display()));
            }
            // What is left in it ends with its main process; only a PID namespace would see to that.
            self.kill();
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Ok((std::mem::take(&mut self.id), status))
    }

    fn remove_groups(&mut self) -> io::Result<()> {
        while let Some(nested) = self.nested.last() {
            fs::remove_dir(nested)?;
            self.nested.pop();
        }
        fs::remove_dir(&self.group)
    }

    /// Ends every process in the group.
    fn kill(&self) {
        // Gone, or older than Linux 5.14: then the group stays.
        let _ = fs::write(self.group.join("cgroup.kill"), "1");
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if self.id.is_empty() {
            return;
        }
        self.kill();
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.remove_groups();
    }
}
