//! What procfs tells of a process. Most of it is gone microseconds after a death, so it is read when a container's program is
//! executed and kept until the container ends.

use std::io::{self, Cursor};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ::procfs::process::{LimitValue, Limits, Stat, Status};
use ::procfs::{FromBufRead, FromRead};
use nix::fcntl::{OFlag, open, readlinkat};
use nix::sys::stat::Mode;

use super::environment::{self, Environment};
use super::file_facts::{Identity, RootHandle};
use super::mounts::Mounts;
use super::read::{read_at_most, read_at_most_in};

/// `status` has about 1.5 KiB, and a line of at most 65 536 supplementary groups; those beyond this many bytes are left out.
const FILE_LIMIT: u64 = 64 * 1024;
/// A descriptor's position, flags and locks, a line each; those beyond this many bytes are left out.
const DESCRIPTOR_LIMIT: u64 = 4 * 1024;
/// A pod has some tens of mounts; the kernel allows 100 000 in a namespace. Those beyond this many bytes are left out.
const MOUNTS_LIMIT: u64 = 256 * 1024;

/// The host's procfs.
#[derive(Debug, Clone)]
pub struct HostProc {
    root: PathBuf,
}

/// A process as procfs showed it at one moment. What could not be read is `None` or empty.
#[derive(Debug, Default)]
pub struct ProcessFacts {
    /// The file it executes, as the container sees it.
    pub exe: Option<PathBuf>,
    /// Its working directory, as the container sees it.
    pub cwd: Option<PathBuf>,
    /// Its root directory, for looking at files after it is gone.
    pub root: Option<RootHandle>,
    /// Who it is.
    pub identity: Option<Identity>,
    /// Its pid in its own PID namespace: 1 for the namespace's init.
    pub namespace_pid: Option<u32>,
    /// When it was started, in nanoseconds of CLOCK_BOOTTIME, to the clock tick (10 ms).
    pub started_boot_time: Option<u64>,
    /// Its resource limits.
    pub limits: ResourceLimits,
    /// What is mounted in its namespace.
    pub mounts: Mounts,
}

/// Soft limits; `None` when unlimited or unknown. Bytes where nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResourceLimits {
    /// RLIMIT_NOFILE, file descriptors.
    pub open_files: Option<u64>,
    /// RLIMIT_NPROC, processes of the user.
    pub processes: Option<u64>,
    /// RLIMIT_FSIZE.
    pub file_size: Option<u64>,
    /// RLIMIT_AS.
    pub address_space: Option<u64>,
    /// RLIMIT_STACK.
    pub stack: Option<u64>,
    /// RLIMIT_MEMLOCK.
    pub locked_memory: Option<u64>,
    /// RLIMIT_CORE.
    pub core: Option<u64>,
}

impl HostProc {
    /// The procfs at `root`, normally the host's `/proc`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Reads what is known of the process `pid`; `None` when there is none. A process that ends meanwhile leaves some facts empty.
    #[must_use]
    pub fn facts(&self, pid: u32) -> Option<ProcessFacts> {
        // All reads go through one handle, so that they cannot mix two processes that had the same pid one after the other.
        let process = self.open(pid).ok()?;
        // First, because it is what a process on its way out loses first.
        let root = RootHandle::open_in(&process).ok();
        let root_link = link(&process, "root");
        let seen = |path: PathBuf| as_seen_from(root_link.as_deref(), path);
        let status =
            parse(&process, "status", FILE_LIMIT, |text| Status::from_buf_read(Cursor::new(text)).ok());
        let stat = parse(&process, "stat", FILE_LIMIT, |text| Stat::from_read(Cursor::new(text)).ok());
        let limits =
            parse(&process, "limits", FILE_LIMIT, |text| Limits::from_buf_read(Cursor::new(text)).ok());
        let mounts = read_at_most_in(&process, "mountinfo", MOUNTS_LIMIT).unwrap_or_default();
        Some(ProcessFacts {
            exe: link(&process, "exe").map(seen),
            cwd: link(&process, "cwd").map(seen),
            root,
            namespace_pid: status.as_ref().and_then(namespace_pid),
            identity: status.map(identity),
            started_boot_time: stat.map(|stat| ticks_to_nanoseconds(stat.starttime)),
            limits: limits.map(ResourceLimits::from).unwrap_or_default(),
            mounts: Mounts::parse(&mounts),
        })
    }

    /// The environment that a process was given; empty when it is gone or on its way out.
    #[must_use]
    pub fn environment(&self, pid: u32) -> Environment {
        let path = self.root.join(pid.to_string()).join("environ");
        read_at_most(&path, environment::LIMIT).map(|bytes| Environment::parse(&bytes)).unwrap_or_default()
    }

    /// How many processes and threads the node has, those that wait to be collected included: `2/345` in its loadavg.
    #[must_use]
    pub fn tasks(&self) -> Option<u64> {
        let loadavg = String::from_utf8(read_at_most(&self.root.join("loadavg"), FILE_LIMIT).ok()?).ok()?;
        loadavg.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
    }

    /// The root directory of a process that lives.
    ///
    /// # Errors
    /// When the process is gone or may not be looked at.
    pub fn root_of(&self, pid: u32) -> io::Result<RootHandle> {
        RootHandle::open_in(&self.open(pid)?)
    }

    /// The inode number of the PID namespace whose numbers this procfs shows; 0 for the kernel's initial one, which has a fixed number
    /// (PROC_PID_INIT_INO, include/linux/proc_ns.h), and where it cannot be told.
    #[must_use]
    pub fn pid_namespace(&self) -> u32 {
        const INITIAL: u32 = 0xEFFF_FFFC;
        let link = std::fs::read_link(self.root.join("1/ns/pid")).unwrap_or_default();
        let inode =
            link.to_str().and_then(|link| link.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok());
        inode.filter(|inode| *inode != INITIAL).unwrap_or(0)
    }

    /// The root directory of the host's first process.
    #[must_use]
    pub fn host_root(&self) -> PathBuf {
        self.root.join("1/root")
    }

    /// Whether there is a process of that number.
    #[must_use]
    pub fn exists(&self, pid: u32) -> bool {
        self.root.join(pid.to_string()).exists()
    }

    /// What the kernel tells of each descriptor of a process, at most 4 KiB each; none when it is gone.
    pub fn descriptors(&self, pid: u32) -> impl Iterator<Item = Vec<u8>> + use<> {
        let directory = self.root.join(pid.to_string()).join("fdinfo");
        let entries = std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
        entries.filter_map(|entry| read_at_most(&entry.path(), DESCRIPTOR_LIMIT).ok())
    }

    /// The process's group in the v2 hierarchy, as the host sees it; `None` when the process is gone.
    #[must_use]
    pub fn cgroup_path(&self, pid: u32) -> Option<String> {
        let text = read_at_most(&self.root.join(pid.to_string()).join("cgroup"), FILE_LIMIT).ok()?;
        let text = String::from_utf8(text).ok()?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
        // A group that was removed while the process still lies in it.
        Some(path.strip_suffix(" (deleted)").unwrap_or(path).to_owned())
    }

    /// The process's arguments, at most `limit` bytes of them with the zero bytes between them, and whether there were more.
    /// `None` when the process is gone; empty for one that is ending.
    #[must_use]
    pub fn arguments(&self, pid: u32, limit: u64) -> Option<(Vec<Vec<u8>>, bool)> {
        let path = self.root.join(pid.to_string()).join("cmdline");
        let mut bytes = read_at_most(&path, limit.saturating_add(1)).ok()?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let truncated = bytes.len() > limit;
        bytes.truncate(limit);
        if bytes.last() == Some(&0) {
            bytes.pop();
        }
        let arguments = if bytes.is_empty() {
            Vec::new()
        } else {
            bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
        };
        Some((arguments, truncated))
    }

    /// The directory of one process.
    #[must_use]
    pub fn process(&self, pid: u32) -> PathBuf {
        self.root.join(pid.to_string())
    }

    /// Every process there is now.
    pub fn pids(&self) -> impl Iterator<Item = u32> {
        let entries = std::fs::read_dir(&self.root).into_iter().flatten();
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
    }

    /// The name of a process.
    #[must_use]
    pub fn comm(&self, pid: u32) -> Option<Vec<u8>> {
        let mut comm = read_at_most(&self.process(pid).join("comm"), 64).ok()?;
        comm.pop_if(|last| *last == b'\n');
        Some(comm)
    }

    /// What the OOM killer adds to a process's score, -1000 to 1000.
    #[must_use]
    pub fn oom_score_adj(&self, pid: u32) -> Option<i32> {
        let text = read_at_most(&self.process(pid).join("oom_score_adj"), 16).ok()?;
        std::str::from_utf8(&text).ok()?.trim_ascii().parse().ok()
    }

    /// Inode number of the network namespace of a process.
    #[must_use]
    pub fn net_namespace(&self, pid: u32) -> Option<u32> {
        let link = std::fs::read_link(self.process(pid).join("ns/net")).ok()?;
        link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
    }

    fn open(&self, pid: u32) -> io::Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(open(&self.root.join(pid.to_string()), flags, Mode::empty())?)
    }
}

fn link(process: &OwnedFd, name: &str) -> Option<PathBuf> {
    readlinkat(process, name).ok().map(PathBuf::from)
}

/// Reads a file and has it parsed. The name of a process, which it chooses itself, need not be UTF-8: it is made so first.
fn parse<T>(process: &OwnedFd, file: &str, limit: u64, parser: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
    let bytes = read_at_most_in(process, file, limit).ok()?;
    parser(String::from_utf8_lossy(&bytes).as_bytes())
}

/// The kernel shows paths from the root of the process's mount tree. For a process in a chroot of the host's tree its own root
/// has to be cut off.
fn as_seen_from(root: Option<&Path>, path: PathBuf) -> PathBuf {
    match root.filter(|root| *root != Path::new("/")).and_then(|root| path.strip_prefix(root).ok()) {
        Some(inside) => Path::new("/").join(inside),
        None => path,
    }
}

fn identity(status: Status) -> Identity {
    Identity {
        uid: status.ruid,
        gid: status.rgid,
        file_system_uid: status.fuid,
        file_system_gid: status.fgid,
        groups: status.groups,
    }
}

fn namespace_pid(status: &Status) -> Option<u32> {
    status.nspid.as_ref()?.last().and_then(|pid| u32::try_from(*pid).ok())
}

fn ticks_to_nanoseconds(ticks: u64) -> u64 {
    ticks.saturating_mul(1_000_000_000 / ::procfs::ticks_per_second().max(1))
}

impl From<Limits> for ResourceLimits {
    fn from(limits: Limits) -> Self {
        let value = |limit: LimitValue| match limit {
            LimitValue::Unlimited => None,
            LimitValue::Value(value) => Some(value),
        };
        Self {
            open_files: value(limits.max_open_files.soft_limit),
            processes: value(limits.max_processes.soft_limit),
            file_size: value(limits.max_file_size.soft_limit),
            address_space: value(limits.max_address_space.soft_limit),
            stack: value(limits.max_stack_size.soft_limit),
            locked_memory: value(limits.max_locked_memory.soft_limit),
            core: value(limits.max_core_file_size.soft_limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_very_process() {
        let proc = HostProc::new(Path::new("/proc"));
        let pid = std::process::id();
        let facts = proc.facts(pid).unwrap();
        assert_eq!(facts.exe, std::env::current_exe().ok());
        assert_eq!(facts.cwd, std::env::current_dir().ok());
        assert_eq!(facts.identity.map(|identity| identity.uid), Some(nix::unistd::getuid().as_raw()));
        assert!(facts.namespace_pid.is_some());
        assert!(facts.root.is_some());
        assert!(facts.limits.open_files.is_some_and(|limit| limit > 0));
        assert!(facts.mounts.of(Path::new("/proc/self")).is_some_and(|mount| mount.file_system == "proc"));
        let age = crate::clock::now().0
            - crate::clock::ClockOffsets::measure().from_boot_time(facts.started_boot_time.unwrap()).0;
        assert!((-1_000_000_000..3_600_000_000_000).contains(&age), "{age}");
        assert!(proc.cgroup_path(pid).is_some_and(|path| path.starts_with('/')));
        let namespace = std::fs::metadata("/proc/self/ns/pid").unwrap();
        let namespace = std::os::unix::fs::MetadataExt::ino(&namespace);
        assert!([namespace, 0].contains(&u64::from(proc.pid_namespace())), "{}", proc.pid_namespace());

        let (arguments, truncated) = proc.arguments(pid, 1 << 20).unwrap();
        assert_eq!(arguments.len(), std::env::args_os().count());
        assert!(!truncated);
        let (start, truncated) = proc.arguments(pid, 3).unwrap();
        assert_eq!((start[0].len(), truncated), (3, true));
    }

    #[test]
    fn tolerates_a_process_that_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let proc = HostProc::new(root.path());
        assert!(proc.facts(1).is_none());
        assert!(proc.arguments(1, 10).is_none());
        assert!(proc.cgroup_path(1).is_none());
        assert!(proc.root_of(1).is_err());

        std::fs::create_dir(root.path().join("7")).unwrap();
        let facts = proc.facts(7).unwrap();
        assert!(facts.exe.is_none() && facts.identity.is_none() && facts.root.is_none());
    }

    #[test]
    fn a_name_that_is_not_utf8_hides_nothing() {
        let root = tempfile::tempdir().unwrap();
        let own = std::fs::read("/proc/self/status").unwrap();
        let (_, rest) = own.split_at(own.iter().position(|byte| *byte == b'\n').unwrap());
        std::fs::create_dir(root.path().join("7")).unwrap();
        std::fs::write(root.path().join("7/status"), [b"Name:\t\xff\xfe".as_slice(), rest].concat()).unwrap();
        std::fs::write(root.path().join("7/cgroup"), "4:memory:/x\n0::/kubepods/podx (deleted)\n").unwrap();
        let proc = HostProc::new(root.path());
        assert!(proc.facts(7).unwrap().identity.is_some());
        assert_eq!(proc.cgroup_path(7).as_deref(), Some("/kubepods/podx"));
    }

    #[test]
    fn paths_in_a_chroot_lose_its_prefix() {
        let seen = |root, path| as_seen_from(Some(Path::new(root)), PathBuf::from(path));
        assert_eq!(seen("/", "/bin/app"), Path::new("/bin/app"));
        assert_eq!(seen("/srv/jail", "/srv/jail/bin/app"), Path::new("/bin/app"));
        assert_eq!(seen("/srv/jail", "/other"), Path::new("/other"));
    }
}
