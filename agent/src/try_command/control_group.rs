//! The control groups of a tried command: one directory in cgroup v2, and one in each v1 controller that carries a limit.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::enrich::cgroup::ControlGroups;

/// A group stays busy until the kernel has taken the last process out of it, a moment after its parent has seen it end.
const BUSY: Duration = Duration::from_secs(2);

/// The kernel's default length of the time that a limit of processor time is shared out for, which the kubelet uses too (microseconds).
const PERIOD: u64 = 100_000;

/// What the command may use.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Bytes.
    pub(super) memory: Option<u64>,
    /// Thousandths of a processor.
    pub(super) cpu: Option<u64>,
    /// Processes and threads.
    pub(super) pids: Option<u64>,
}

/// The command's groups. They are removed by [`ControlGroup::remove`], or as well as possible when this is dropped.
pub(super) struct ControlGroup {
    id: String,
    directories: Vec<PathBuf>,
}

/// A group could not be made.
#[derive(Debug)]
pub(super) struct GroupError {
    pub(super) doing: String,
    pub(super) source: io::Error,
}

impl GroupError {
    fn new(doing: String) -> impl FnOnce(io::Error) -> Self {
        |source| Self { doing, source }
    }
}

impl ControlGroup {
    /// Makes the groups; the one in cgroup v2, by which the kernel side knows the container, last.
    pub(super) fn make(limits: Limits) -> Result<Self, GroupError> {
        let Limits { memory, cpu, pids } = limits;
        let quota = cpu.map(|thousandths| thousandths.saturating_mul(PERIOD / 1_000));
        let root = Path::new(super::CGROUPS);
        let found = |error| GroupError { doing: "use the control groups".to_owned(), source: error };
        let groups = ControlGroups::open(root).map_err(found)?;
        groups.require_version_2().map_err(found)?;
        let id = random_id().map_err(GroupError::new("make a random number".to_owned()))?;
        let mut made = Self { directories: Vec::new(), id };
        if groups.is_hybrid() {
            if let Some(bytes) = memory {
                made.limited(&groups.controller_root("memory"), "memory.limit_in_bytes", bytes)?;
            }
            if let Some(microseconds) = quota {
                made.limited(&groups.controller_root("cpu"), "cpu.cfs_quota_us", microseconds)?;
            }
            if let Some(number) = pids {
                made.limited(&groups.controller_root("pids"), "pids.max", number)?;
            }
            made.directory(&groups.unified_root())?;
            return Ok(made);
        }
        for (controller, limit) in [("memory", memory), ("cpu", cpu), ("pids", pids)] {
            if limit.is_some() {
                enable(root, controller)?;
            }
        }
        let directory = made.directory(root)?;
        if let Some(bytes) = memory {
            write(&directory.join("memory.max"), bytes)?;
            // Without this the kernel would rather swap than say that the limit is hit. Not there when the kernel has no swap.
            let _ = fs::write(directory.join("memory.swap.max"), "0");
        }
        if let Some(microseconds) = quota {
            // A number alone leaves the period as it is.
            write(&directory.join("cpu.max"), microseconds)?;
        }
        if let Some(number) = pids {
            write(&directory.join("pids.max"), number)?;
        }
        Ok(made)
    }

    /// 64 hexadecimal digits.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The files that a process joins the groups by.
    pub(super) fn joins(&self) -> Vec<PathBuf> {
        self.directories.iter().map(|directory| directory.join("cgroup.procs")).collect()
    }

    /// Removes the groups. What is still in them is on its way out: waits for it.
    pub(super) fn remove(mut self) -> io::Result<()> {
        let until = Instant::now() + BUSY;
        while let Some(directory) = self.directories.pop() {
            loop {
                match fs::remove_dir(&directory) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < until => {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn directory(&mut self, parent: &Path) -> Result<PathBuf, GroupError> {
        let directory = parent.join(format!("lastwords-try-{}", self.id));
        fs::create_dir(&directory)
            .map_err(GroupError::new(format!("make the control group {}", directory.display())))?;
        self.directories.push(directory.clone());
        Ok(directory)
    }

    fn limited(&mut self, parent: &Path, file: &str, limit: u64) -> Result<(), GroupError> {
        let directory = self.directory(parent)?;
        write(&directory.join(file), limit)
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        for directory in &self.directories {
            // A group that is not empty stays; there is nobody to tell.
            let _ = fs::remove_dir(directory);
        }
    }
}

fn enable(root: &Path, controller: &str) -> Result<(), GroupError> {
    let file = root.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&file).unwrap_or_default();
    if enabled.split_whitespace().any(|name| name == controller) {
        return Ok(());
    }
    fs::write(&file, format!("+{controller}"))
        .map_err(GroupError::new(format!("enable the {controller} controller in {}", file.display())))
}

fn write(file: &Path, value: u64) -> Result<(), GroupError> {
    fs::write(file, value.to_string())
        .map_err(GroupError::new(format!("write {value} to {}", file.display())))
}

fn random_id() -> io::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
