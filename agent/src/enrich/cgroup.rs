//! The control groups' own files: limits, use, and what the kernel counted, in cgroup v2 and in the hybrid layout, where the
//! controllers are v1 hierarchies beside an empty v2 one.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt};
use std::path::{Component, Path, PathBuf};

use super::read::read_at_most;
use crate::container::ContainerRef;

/// The largest of the files read here, `memory.events`, has about 150 bytes.
const FILE_LIMIT: u64 = 4096;
/// Bytes of `cgroup.procs` that are read: 8 000 processes.
const MEMBERS_LIMIT: u64 = 64 * 1024;
/// The id of the kernel's own root group: the first inode number of its file system (kernfs_create_root, fs/kernfs/dir.c).
const KERNEL_ROOT: u64 = 1;
/// Groups looked at when the containers that already run are listed: 1 000 containers with ten groups each. More are left out.
const MAX_GROUPS: usize = 10_000;
/// From this value on a v1 limit means "none": the kernel shows the largest multiple of the page size.
const V1_UNLIMITED: u64 = i64::MAX as u64 - 65_535;

/// The node's control groups.
#[derive(Debug, Clone)]
pub struct ControlGroups {
    root: PathBuf,
    layout: Layout,
    /// What the kernel's own paths have before `root`: nothing, except on a node that is a container itself (kind, k3d), where it is
    /// known once a container has been found by both.
    above: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    V2,
    /// `memory`, `pids` … are v1 hierarchies below the root, the v2 one is `unified`.
    Hybrid,
}

/// Memory of one group, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// `memory.max`; `None` without a limit or when it could not be read.
    pub limit: Option<u64>,
    /// `memory.current`.
    pub usage: Option<u64>,
    /// The highest use so far: `memory.peak`, from Linux 5.19 on.
    pub peak: Option<u64>,
    /// Processes of this very group that the OOM killer ended (`memory.events.local`, v1 `memory.oom_control`). A group kill counts
    /// its first victim twice.
    pub oom_kills: Option<u64>,
}

/// The file that tells what one group uses. It keeps the group from nothing: once that is removed, reading fails.
#[derive(Debug)]
pub struct MemoryUse(File);

impl MemoryUse {
    /// Bytes in use now; `None` when the group is gone.
    #[must_use]
    pub fn read(&self) -> Option<u64> {
        let mut text = [0; 32];
        let length = self.0.read_at(&mut text, 0).ok()?;
        std::str::from_utf8(text.get(..length)?).ok()?.trim().parse().ok()
    }
}

/// Processes of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Processes {
    /// `pids.max`; `None` without a limit or when it could not be read.
    pub limit: Option<u64>,
    /// `pids.current`.
    pub current: Option<u64>,
    /// How often a fork failed because of the limit.
    pub refused: Option<u64>,
}

impl ControlGroups {
    /// The groups below `root`, normally `/sys/fs/cgroup` of the host.
    ///
    /// # Errors
    /// When `root` holds neither cgroup v2 nor the hybrid layout.
    pub fn open(root: &Path) -> io::Result<Self> {
        let layout = if root.join("cgroup.controllers").exists() {
            Layout::V2
        } else if root.join("unified").is_dir() || root.join("memory").is_dir() {
            Layout::Hybrid
        } else {
            let problem =
                format!("{} is no cgroup mount: mount the host's /sys/fs/cgroup there", root.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, problem));
        };
        let mut groups = Self { root: root.to_owned(), layout, above: None };
        if groups.id("/") == Some(KERNEL_ROOT) {
            groups.above = Some(String::new());
        }
        Ok(groups)
    }

    /// The path below this root of the group with this id that the kernel calls `path`; `None` when it is another node's, beside which this
    /// one runs in the same kernel. There a group that is gone is nobody's until one of this node's has been found.
    pub fn from_kernel<'a>(&mut self, path: &'a str, id: u64) -> Option<&'a str> {
        if let Some(above) = &self.above {
            return path.strip_prefix(above.as_str()).filter(|path| path.starts_with('/'));
        }
        let mut starts = path.match_indices('/').map(|(start, _)| start);
        let start = starts.find(|start| path.get(*start..).is_some_and(|path| self.id(path) == Some(id)))?;
        let (above, path) = path.split_at_checked(start)?;
        tracing::info!("this node's control groups are those below {above}");
        self.above = Some(above.to_owned());
        Some(path)
    }

    /// Whether containers other than the reader's own show their processes to it. Without the node's PID namespace `cgroup.procs` has a 0
    /// for each. True where there are none.
    #[must_use]
    pub fn shows_processes(&self) -> bool {
        let own = std::process::id();
        let members =
            self.containers().into_iter().map(|(_, container)| self.members(&container.cgroup_path));
        let others: Vec<u32> = members.filter(|members| !members.contains(&own)).flatten().collect();
        others.is_empty() || others.iter().any(|pid| *pid != 0)
    }

    /// What `check` calls the layout.
    #[must_use]
    pub fn layout_name(&self) -> &'static str {
        match self.layout {
            Layout::V2 => "v2",
            Layout::Hybrid => "hybrid: v1 controllers beside v2",
        }
    }

    /// The v2 hierarchy is what identifies a container: every runtime makes its groups there too, if it is mounted.
    ///
    /// # Errors
    /// On a node with cgroup v1 alone.
    pub fn require_version_2(&self) -> io::Result<()> {
        if self.unified_root().is_dir() {
            return Ok(());
        }
        let problem = format!(
            "{} has cgroup v1 alone, by which containers cannot be told apart: boot with systemd.unified_cgroup_hierarchy=1",
            self.root.display()
        );
        Err(io::Error::new(io::ErrorKind::Unsupported, problem))
    }

    /// The directory of a controller's hierarchy.
    #[must_use]
    pub fn controller_root(&self, controller: &str) -> PathBuf {
        match self.layout {
            Layout::V2 => self.root.clone(),
            Layout::Hybrid => self.root.join(controller),
        }
    }

    /// Whether controllers are v1 hierarchies of their own.
    #[must_use]
    pub fn is_hybrid(&self) -> bool {
        self.layout == Layout::Hybrid
    }

    /// The root of the v2 hierarchy, whose paths and inode numbers identify groups.
    #[must_use]
    pub fn unified_root(&self) -> PathBuf {
        match self.layout {
            Layout::V2 => self.root.clone(),
            Layout::Hybrid => self.root.join("unified"),
        }
    }

    /// Memory of the group at `path` as the host's root sees it. What is gone or not readable is `None`.
    #[must_use]
    pub fn memory(&self, path: &str) -> Memory {
        let Some(group) = self.controller(path, "memory") else {
            return Memory::default();
        };
        match self.layout {
            Layout::V2 => Memory {
                limit: number(&group, "memory.max"),
                usage: number(&group, "memory.current"),
                peak: number(&group, "memory.peak"),
                oom_kills: keyed(&group, "memory.events.local", "oom_kill"),
            },
            Layout::Hybrid => Memory {
                limit: number(&group, "memory.limit_in_bytes").filter(|limit| *limit < V1_UNLIMITED),
                usage: number(&group, "memory.usage_in_bytes"),
                peak: number(&group, "memory.max_usage_in_bytes"),
                oom_kills: keyed(&group, "memory.oom_control", "oom_kill"),
            },
        }
    }

    /// `memory.max` of the group at `path` in bytes; `None` without a limit or when it is gone.
    #[must_use]
    pub fn memory_limit(&self, path: &str) -> Option<u64> {
        self.memory(path).limit
    }

    /// What the group at `path` uses, to be read again and again; `None` when it is gone.
    #[must_use]
    pub fn memory_use(&self, path: &str) -> Option<MemoryUse> {
        let file = match self.layout {
            Layout::V2 => "memory.current",
            Layout::Hybrid => "memory.usage_in_bytes",
        };
        File::open(self.controller(path, "memory")?.join(file)).ok().map(MemoryUse)
    }

    /// Process numbers of the group at `path`.
    #[must_use]
    pub fn processes(&self, path: &str) -> Processes {
        let Some(group) = self.controller(path, "pids") else {
            return Processes::default();
        };
        Processes {
            limit: number(&group, "pids.max"),
            current: number(&group, "pids.current"),
            refused: keyed(&group, "pids.events", "max"),
        }
    }

    /// The id that the kernel's programs see (the inode number in the v2 hierarchy) of the group at `path`; `None` when it is gone.
    #[must_use]
    pub fn id(&self, path: &str) -> Option<u64> {
        std::fs::metadata(below(&self.unified_root(), path)?).ok().map(|group| group.ino())
    }

    /// The containers that have a group now, with the ids of their groups.
    #[must_use]
    pub fn containers(&self) -> Vec<(u64, ContainerRef)> {
        let containers = self.groups_from("/").into_iter().filter_map(|(id, path)| {
            let container = ContainerRef::from_cgroup_path(&path)?;
            (container.cgroup_path == path).then_some((id, container))
        });
        containers.collect()
    }

    /// The groups that a container has made below its own at `path`, with their ids; those further up come first.
    #[must_use]
    pub fn nested(&self, path: &str) -> Vec<(u64, String)> {
        self.groups_from(path).into_iter().filter(|(_, nested)| nested != path).collect()
    }

    /// The group at `path` and all below it, with their ids, as far as [`MAX_GROUPS`] allows.
    fn groups_from(&self, path: &str) -> Vec<(u64, String)> {
        let root = self.unified_root();
        let mut found = Vec::new();
        let mut waiting: VecDeque<PathBuf> = below(&root, path).into_iter().collect();
        let mut looked_at = 0;
        while let Some(directory) = waiting.pop_front() {
            looked_at += 1;
            let path =
                directory.strip_prefix(&root).ok().and_then(Path::to_str).map(|path| format!("/{path}"));
            if let Some(path) = path
                && let Some(id) = self.id(&path)
            {
                found.push((id, path));
            }
            let room = MAX_GROUPS.saturating_sub(looked_at + waiting.len());
            let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
            let children = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            waiting.extend(children.take(room).map(|entry| entry.path()));
        }
        found
    }

    /// The processes of the group at `path`, by the reader's PID namespace; none when it is gone.
    #[must_use]
    pub fn members(&self, path: &str) -> Vec<u32> {
        let group = below(&self.unified_root(), path);
        let text = group.and_then(|group| read_at_most(&group.join("cgroup.procs"), MEMBERS_LIMIT).ok());
        let text = text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    fn controller(&self, path: &str, controller: &str) -> Option<PathBuf> {
        match self.layout {
            Layout::V2 => below(&self.root, path),
            Layout::Hybrid => below(&self.root.join(controller), path),
        }
    }
}

/// `path` below `root`; `None` for a path that leads out of it, as the kernel shows a group outside the reader's own namespace.
fn below(root: &Path, path: &str) -> Option<PathBuf> {
    let relative = Path::new(path.trim_start_matches('/'));
    let stays = relative.components().all(|component| matches!(component, Component::Normal(_)));
    stays.then(|| root.join(relative))
}

/// A file that holds one number; `max` is none.
fn number(group: &Path, file: &str) -> Option<u64> {
    text(group, file)?.trim().parse().ok()
}

/// The number after `key` in a file of `key number` lines.
fn keyed(group: &Path, file: &str, key: &str) -> Option<u64> {
    let text = text(group, file)?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

fn text(group: &Path, file: &str) -> Option<String> {
    String::from_utf8(read_at_most(&group.join(file), FILE_LIMIT).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_in_a_container_knows_its_own_groups_and_no_others() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("cgroup.controllers"), "").unwrap();
        std::fs::create_dir_all(root.path().join("kubelet/kubepods/podx/c")).unwrap();
        let mut groups = ControlGroups::open(root.path()).unwrap();
        let id = groups.id("/kubelet/kubepods/podx/c").unwrap();
        // Gone before it could be found: nothing is known yet.
        assert_eq!(groups.from_kernel("/docker/other/kubelet/a", id + 1), None);
        let own = "/docker/this/kubelet/kubepods/podx/c";
        assert_eq!(groups.from_kernel(own, id), Some("/kubelet/kubepods/podx/c"));
        assert_eq!(groups.from_kernel("/docker/this/kubelet/gone", id + 1), Some("/kubelet/gone"));
        assert_eq!(groups.from_kernel("/docker/other/kubelet/a", id + 1), None);
        assert_eq!(groups.from_kernel("/docker/this2/kubelet/a", id + 1), None);
    }

    #[test]
    fn a_reader_without_the_nodes_processes_is_told_by_the_zeros() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("cgroup.controllers"), "").unwrap();
        let groups = ControlGroups::open(root.path()).unwrap();
        assert!(groups.shows_processes(), "there is none to show");
        let write = |id: char, members: &str| {
            let path = root.path().join(id.to_string().repeat(64));
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("cgroup.procs"), members).unwrap();
        };
        write('a', &format!("{}\n", std::process::id()));
        write('b', "0\n0\n");
        assert!(!groups.shows_processes());
        write('c', "7\n0\n");
        assert!(groups.shows_processes());
    }

    #[test]
    fn the_kernels_paths_are_the_nodes_where_it_is_no_container() {
        let mut groups = ControlGroups::open(Path::new("/sys/fs/cgroup")).unwrap();
        if groups.id("/") == Some(KERNEL_ROOT) {
            assert_eq!(groups.from_kernel("/kubepods/x", 7), Some("/kubepods/x"));
        }
    }

    const ID: &str = "3f8a1c5d7e9b0a2c4e6f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5";
    const POD: &str = "/kubepods/burstable/pod0c1f2a3b-4d5e-6f70-8192-a3b4c5d6e7f8";

    fn write(root: &Path, group: &str, files: &[(&str, &str)]) {
        let group = root.join(group.trim_start_matches('/'));
        std::fs::create_dir_all(&group).unwrap();
        for (name, content) in files {
            std::fs::write(group.join(name), content).unwrap();
        }
    }

    #[test]
    fn reads_version_two() {
        let root = tempfile::tempdir().unwrap();
        let path = format!("{POD}/{ID}");
        write(root.path(), "", &[("cgroup.controllers", "cpu memory pids\n")]);
        write(
            root.path(),
            &path,
            &[
                ("memory.max", "67108864\n"),
                ("memory.current", "67100672\n"),
                ("memory.peak", "67108864\n"),
                ("memory.events", "low 0\nhigh 0\nmax 9\noom 4\noom_kill 4\noom_group_kill 0\n"),
                ("memory.events.local", "low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 0\n"),
                ("pids.max", "100\n"),
                ("pids.current", "7\n"),
                ("pids.events", "max 3\n"),
            ],
        );
        write(root.path(), POD, &[("memory.max", "max\n"), ("memory.current", "1\n"), ("pids.max", "max\n")]);

        let groups = ControlGroups::open(root.path()).unwrap();
        let expected = Memory {
            limit: Some(67_108_864),
            usage: Some(67_100_672),
            peak: Some(67_108_864),
            oom_kills: Some(1),
        };
        assert_eq!(groups.memory(&path), expected);
        let expected = Processes { limit: Some(100), current: Some(7), refused: Some(3) };
        assert_eq!(groups.processes(&path), expected);
        assert_eq!(groups.memory_limit(POD), None);
        assert_eq!(groups.memory(POD).usage, Some(1));
        assert_eq!(groups.processes(POD).limit, None);
        assert_eq!(groups.memory("/gone"), Memory::default());
        assert_eq!(groups.id(&path), Some(std::fs::metadata(root.path().join(&path[1..])).unwrap().ino()));
    }

    #[test]
    fn reads_the_hybrid_layout() {
        let root = tempfile::tempdir().unwrap();
        let path = format!("{POD}/{ID}");
        write(root.path(), &format!("unified{path}"), &[("cgroup.procs", "")]);
        write(
            root.path(),
            &format!("memory{path}"),
            &[
                ("memory.limit_in_bytes", "20971520\n"),
                ("memory.usage_in_bytes", "20967424\n"),
                ("memory.max_usage_in_bytes", "20971520\n"),
                ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
            ],
        );
        write(root.path(), &format!("memory{POD}"), &[("memory.limit_in_bytes", "9223372036854771712\n")]);
        write(root.path(), &format!("pids{path}"), &[("pids.max", "max\n"), ("pids.current", "2\n")]);

        let groups = ControlGroups::open(root.path()).unwrap();
        let expected = Memory {
            limit: Some(20_971_520),
            usage: Some(20_967_424),
            peak: Some(20_971_520),
            oom_kills: Some(1),
        };
        assert_eq!(groups.memory(&path), expected);
        assert_eq!(groups.memory_limit(POD), None);
        assert_eq!(groups.processes(&path), Processes { limit: None, current: Some(2), refused: None });
        assert_eq!(groups.unified_root(), root.path().join("unified"));
    }

    #[test]
    fn lists_the_containers_that_run_already() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "", &[("cgroup.controllers", "")]);
        write(root.path(), &format!("{POD}/{ID}/init.scope"), &[]);
        write(root.path(), "/system.slice/sshd.service", &[]);

        let groups = ControlGroups::open(root.path()).unwrap();
        let containers = groups.containers();
        assert_eq!(containers.len(), 1);
        assert_eq!(containers[0].1.id, ID);
        assert_eq!(Some(containers[0].0), groups.id(&format!("{POD}/{ID}")));

        let path = format!("{POD}/{ID}/init.scope");
        assert_eq!(groups.nested(&containers[0].1.cgroup_path), [(groups.id(&path).unwrap(), path)]);
    }

    #[test]
    fn stays_below_the_root() {
        let outside = tempfile::tempdir().unwrap();
        write(outside.path(), "secret", &[("memory.max", "1\n")]);
        write(outside.path(), "root", &[("cgroup.controllers", "")]);
        let groups = ControlGroups::open(&outside.path().join("root")).unwrap();
        assert_eq!(groups.memory_limit("/../secret"), None);
        assert_eq!(groups.id("/.."), None);

        let empty = tempfile::tempdir().unwrap();
        let sentence = ControlGroups::open(empty.path()).unwrap_err().to_string();
        assert!(sentence.contains("no cgroup mount"), "{sentence}");
    }
}
