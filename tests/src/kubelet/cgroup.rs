//! The groups of pods, in every hierarchy that is mounted: v1 controllers, a v2 tree beside them, or v2 alone.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a group may stay busy after its processes were killed.
const REMOVAL_TIME: Duration = Duration::from_secs(5);

/// The hierarchies of this machine.
#[derive(Debug, Clone)]
pub(super) struct Hierarchies {
    roots: Vec<PathBuf>,
    memory: PathBuf,
    unified: bool,
}

/// A pod's group. It is recorded before it is made and only recorded ones are removed, so nobody else's can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PodGroup {
    /// `kubepods/burstable/pod<UID>`, without a leading slash.
    path: PathBuf,
}

impl PodGroup {
    /// Where the kubelet (cgroupfs driver) puts a pod of this QoS class.
    pub(super) fn of_pod(qos: &str, uid: &str) -> PodGroup {
        let class = match qos {
            "Guaranteed" => PathBuf::from("kubepods"),
            other => Path::new("kubepods").join(other.to_lowercase()),
        };
        PodGroup { path: class.join(format!("pod{uid}")) }
    }

    /// The path of a container's group as runc wants it: from the cgroup root, with a leading slash.
    pub(super) fn of_container(&self, id: &str) -> String {
        format!("/{}/{id}", self.path.display())
    }

    /// The form in which it is recorded.
    pub(super) fn record(&self) -> String {
        self.path.display().to_string()
    }

    /// Reads a record back; `None` when it names no pod's group.
    pub(super) fn from_record(record: &str) -> Option<PodGroup> {
        let path = PathBuf::from(record.trim());
        let name = path.file_name()?.to_str()?;
        let plain = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        (plain && path.starts_with("kubepods") && name.starts_with("pod")).then_some(PodGroup { path })
    }
}

impl Hierarchies {
    /// Finds what is mounted below `root`, normally `/sys/fs/cgroup`.
    ///
    /// # Errors
    /// When neither v2 nor a v1 memory controller is there.
    pub(super) fn find(root: &Path) -> anyhow::Result<Hierarchies> {
        if root.join("cgroup.controllers").exists() {
            return Ok(Hierarchies { roots: vec![root.to_owned()], memory: root.to_owned(), unified: true });
        }
        let memory = root.join("memory");
        if !memory.join("memory.limit_in_bytes").exists() {
            bail!("neither cgroup v2 nor a v1 memory controller is mounted at {}", root.display());
        }
        let entries = fs::read_dir(root).with_context(|| format!("{} cannot be read", root.display()))?;
        let roots = entries
            .filter_map(Result::ok)
            // Links such as cpuacct -> cpu,cpuacct would name a hierarchy twice.
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .filter(|path| path.join("cgroup.procs").exists())
            .collect();
        Ok(Hierarchies { roots, memory, unified: false })
    }

    /// True on cgroup v2 alone.
    pub(super) fn is_unified(&self) -> bool {
        self.unified
    }

    /// Makes a pod's group everywhere, with its memory limit in bytes.
    ///
    /// # Errors
    /// When the group exists already (it is somebody else's then) or cannot be made.
    pub(super) fn make(&self, group: &PodGroup, memory: Option<u64>) -> anyhow::Result<()> {
        for (made, root) in self.roots.iter().enumerate() {
            if let Err(error) = self.make_in(root, &group.path) {
                // Only what was made here goes again: the one that failed may be somebody else's.
                for root in self.roots.iter().take(made) {
                    let _ = fs::remove_dir(root.join(&group.path));
                }
                let full = root.join(&group.path);
                return Err(error).with_context(|| format!("the group {} cannot be made", full.display()));
            }
        }
        if let Some(limit) = memory {
            let file = if self.unified { "memory.max" } else { "memory.limit_in_bytes" };
            let file = self.memory.join(&group.path).join(file);
            fs::write(&file, limit.to_string())
                .with_context(|| format!("{} cannot be written", file.display()))?;
        }
        Ok(())
    }

    fn make_in(&self, root: &Path, path: &Path) -> io::Result<()> {
        let full = root.join(path);
        let parent = full.parent().unwrap_or(root);
        // Another node on this machine may remove the emptied class between our two steps.
        for _ in 0..20 {
            fs::create_dir_all(parent)?;
            if self.unified {
                enable_controllers(root, parent);
            }
            match fs::create_dir(&full) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                made => return made,
            }
        }
        Err(io::Error::new(ErrorKind::NotFound, "its parent disappears again and again"))
    }

    /// Processes of a container that the kernel killed for want of memory, since its group was made.
    pub(super) fn oom_kills(&self, group: &PodGroup, id: &str) -> u64 {
        let file = if self.unified { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.memory.join(&group.path).join(id).join(file)).unwrap_or_default();
        text.lines()
            .find_map(|line| line.strip_prefix("oom_kill "))
            .and_then(|count| count.parse().ok())
            .unwrap_or(0)
    }

    /// Removes a pod's group with all in it, killing what still runs there, and the emptied groups above it.
    ///
    /// # Errors
    /// When something of it is still busy after five seconds.
    pub(super) fn remove(&self, group: &PodGroup) -> anyhow::Result<()> {
        let deadline = std::time::Instant::now() + REMOVAL_TIME;
        for root in &self.roots {
            let full = root.join(&group.path);
            loop {
                match remove_tree(&full) {
                    Ok(()) => break,
                    Err(error) if std::time::Instant::now() > deadline => {
                        return Err(error)
                            .with_context(|| format!("the group {} cannot be removed", full.display()));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(20)),
                }
            }
            // Groups that others still use refuse to go, as they should.
            for parent in group.path.ancestors().skip(1).take_while(|parent| !parent.as_os_str().is_empty()) {
                if fs::remove_dir(root.join(parent)).is_err() {
                    break;
                }
            }
        }
        Ok(())
    }
}

fn remove_tree(group: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(group) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries.filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0) {
        // Gone in the meantime is as good as killed.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// On v2 a controller must be handed down level by level; one that is missing here is missing for good.
fn enable_controllers(root: &Path, parent: &Path) {
    let mut level = root.to_owned();
    let below = parent.strip_prefix(root).unwrap_or(Path::new(""));
    for part in std::iter::once(None).chain(below.components().map(Some)) {
        if let Some(part) = part {
            level.push(part);
        }
        for controller in ["memory", "pids", "cpu"] {
            let _ = fs::write(level.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_can_only_name_a_pod_below_kubepods() {
        let record = "kubepods/burstable/pod835d2b9d-605e-4925-9a48-f9e7424bc518";
        assert_eq!(PodGroup::from_record(record).unwrap().record(), record);
        for foreign in
            ["kubepods/burstable", "kubepods", "/kubepods/podx", "kubepods/../podx", "system.slice/podx", ""]
        {
            assert_eq!(PodGroup::from_record(foreign), None, "{foreign}");
        }
    }
}
