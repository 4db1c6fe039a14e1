//! Looks at processes and files while they are there: a process when its program is executed, a file when a call on it was refused.
//!
//! On a thread of its own, because a file system can block for ever (a dead NFS server) and the kernel's records must be read all
//! the same. A crash report waits for it no longer than [`PATIENCE`] and then goes without the facts.

use std::{
    collections::HashMap,
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use lastwords_agent_common::limits::RECORDERS;
use lastwords_diagnosis::evidence::FileFacts;

use crate::{
    container::ContainerRef,
    counters,
    decode::LockHeld,
    decode::PortTaken,
    enrich::{
        cgroup::ControlGroups,
        holder,
        limits::Limits,
        log_tail::WritableLayer,
        mounts::Mounts,
        procfs::{HostProc, ProcessFacts},
        sockets::{self, Search},
    },
    looked::{Looked, PortFacts, PortHolder},
};

/// Looks that may wait. 500 containers that start at once need one each, and up to eight refusals each come later; more are dropped
/// and counted.
const QUEUE: usize = 4096;
/// Holders of locks that are kept of one container; four files may be named in its report.
const HOLDERS: usize = 16;
/// How long a report waits for looks that are under way.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// What a file was wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be opened, changed or removed: its contents are nobody's business.
    Use,
    /// To be executed: its first bytes tell what else is needed for that.
    Execution,
}

enum Job {
    Executed { cgroup_id: u64, pid: u32, group: String },
    Refused { cgroup_id: u64, pid: u32, passed: Vec<u8>, path: PathBuf, purpose: Purpose },
    PortTaken { cgroup_id: u64, taken: PortTaken },
    LockHeld { cgroup_id: u64, held: LockHeld },
    Ended { cgroup_id: u64, missed: Vec<Vec<u8>>, reply: tokio::sync::oneshot::Sender<Looked> },
}

/// The thread that looks. It ends when this is dropped.
#[derive(Clone)]
pub struct Looker {
    jobs: SyncSender<Job>,
    progress: Arc<Progress>,
}

/// How far the thread is, so that reports do not wait for one that is stuck.
#[derive(Default)]
struct Progress {
    done: AtomicU64,
    /// `done` when a report last lost patience, and one more; 0 before.
    late_at: AtomicU64,
}

impl Progress {
    fn is_stuck(&self) -> bool {
        self.late_at.load(Ordering::Relaxed) == self.done.load(Ordering::Relaxed) + 1
    }

    fn lost_patience(&self) {
        self.late_at.store(self.done.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

impl Looker {
    /// Starts it.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(processes: HostProc, groups: ControlGroups) -> io::Result<Self> {
        let (sender, jobs) = sync_channel(QUEUE);
        let progress = Arc::new(Progress::default());
        let own = Arc::clone(&progress);
        std::thread::Builder::new()
            .name("look".to_owned())
            .spawn(move || run(&processes, &groups, &jobs, &own))?;
        Ok(Self { jobs: sender, progress })
    }

    /// The main process of the container in the group at this path executed a program.
    pub fn executed(&self, cgroup_id: u64, pid: u32, group: &str) {
        self.send(Job::Executed { cgroup_id, pid, group: group.to_owned() });
    }

    /// A call on a path was refused. `path` is the absolute one, `passed` what the program passed.
    pub fn refused(&self, cgroup_id: u64, pid: u32, passed: Vec<u8>, path: &[u8], purpose: Purpose) {
        let path = Path::new(std::ffi::OsStr::from_bytes(path)).to_owned();
        self.send(Job::Refused { cgroup_id, pid, passed, path, purpose });
    }

    /// An address that none of the known listeners has could not be had.
    pub fn port_taken(&self, cgroup_id: u64, taken: PortTaken) {
        self.send(Job::PortTaken { cgroup_id, taken });
    }

    /// A lock is in the way of a process of the container.
    pub fn lock_held(&self, cgroup_id: u64, held: LockHeld) {
        self.send(Job::LockHeld { cgroup_id, held });
    }

    /// What was seen for a container that has ended, and which of the absolute paths that it missed are there now; forgets it.
    pub async fn ended(&self, cgroup_id: u64, missed: Vec<Vec<u8>>) -> Looked {
        let (reply, looked) = tokio::sync::oneshot::channel();
        self.send(Job::Ended { cgroup_id, missed, reply });
        if self.progress.is_stuck() {
            counters::LOOKS_LATE.increment();
            return Looked::default();
        }
        match tokio::time::timeout(PATIENCE, looked).await {
            Ok(Ok(looked)) => looked,
            Ok(Err(_)) | Err(_) => {
                self.progress.lost_patience();
                counters::LOOKS_LATE.increment();
                Looked::default()
            }
        }
    }

    fn send(&self, job: Job) {
        if self.jobs.try_send(job).is_err() {
            counters::LOOKS_DROPPED.increment();
        }
    }
}

/// What is known of one container.
#[derive(Default)]
struct Seen {
    pid: u32,
    process: ProcessFacts,
    looked: Looked,
}

fn run(processes: &HostProc, groups: &ControlGroups, jobs: &Receiver<Job>, progress: &Progress) {
    let mut containers: HashMap<u64, Seen> = HashMap::new();
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Executed { cgroup_id, pid, group } => {
                if containers.len() >= RECORDERS as usize {
                    // More than there can be: the end of some was dropped with a full queue. They hold descriptors.
                    containers.retain(|_, seen| processes.exists(seen.pid));
                }
                // The first thing that is lost, and all that can be had of a program that lives a millisecond.
                let environment = processes.environment(pid);
                if !environment.is_empty() {
                    containers.entry(cgroup_id).or_default().looked.environment = environment;
                }
                // One that is on its way out shows half: what an earlier program of the container showed is better.
                if let Some(process) = processes.facts(pid).filter(|process| process.root.is_some()) {
                    let seen = containers.entry(cgroup_id).or_default();
                    if seen.pid == 0 {
                        let layer = WritableLayer::of_container(processes, &process.mounts);
                        seen.looked.writable = layer.map(Arc::new);
                    }
                    seen.looked.limits =
                        Limits::of(groups, &group, &process.limits).after(&seen.looked.limits);
                    seen.looked.mounts = process.mounts.clone();
                    (seen.pid, seen.process) = (pid, process);
                } else if let pids @ Some(_) = Limits::of_group(groups, &group).pids {
                    // The group outlives its processes by a moment.
                    containers.entry(cgroup_id).or_default().looked.limits.pids = pids;
                }
            }
            Job::Refused { cgroup_id, pid, passed, path, purpose } => {
                let seen = containers.entry(cgroup_id).or_default();
                if let Some(facts) = look_at(processes, &seen.process, pid, &path, purpose) {
                    seen.looked.files.push((passed, facts));
                }
            }
            Job::PortTaken { cgroup_id, taken } => {
                // Any process of the network namespace will do, and the caller may be gone.
                let there = [taken.tgid].into_iter().chain(containers.values().map(|seen| seen.pid));
                let there: Vec<u32> = there.chain([std::process::id(), 1]).collect();
                containers.entry(cgroup_id).or_default().looked.ports.push(holder(processes, &there, taken));
            }
            Job::LockHeld { cgroup_id, held } => {
                if let Some(found) = holder::of_lock(processes, &held) {
                    let holders = &mut containers.entry(cgroup_id).or_default().looked.holders;
                    holders.retain(|(pid, _)| *pid != held.holder);
                    if holders.len() == HOLDERS {
                        holders.remove(0);
                    }
                    holders.push((held.holder, found));
                }
            }
            Job::Ended { cgroup_id, missed, reply } => {
                let looked = containers
                    .remove(&cgroup_id)
                    .map(|seen| Looked { root: seen.process.root.map(Arc::new), ..seen.looked });
                let mut looked = looked.unwrap_or_default();
                looked.look_for(missed);
                looked.limits.tasks_of_node = processes.tasks();
                // The one who asked may have lost patience.
                let _ = reply.send(looked);
            }
        }
        progress.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Through the caller's own root while it lives, else through the root that the main process had.
fn look_at(
    processes: &HostProc,
    main: &ProcessFacts,
    pid: u32,
    path: &Path,
    purpose: Purpose,
) -> Option<FileFacts> {
    let alive = processes.facts(pid).filter(|facts| facts.root.is_some() && facts.identity.is_some());
    let by = alive.as_ref().unwrap_or(main);
    let root = by.root.as_ref()?;
    // One that ends this moment shows no mounts any more.
    let mounts = if by.mounts == Mounts::default() { &main.mounts } else { &by.mounts };
    match purpose {
        Purpose::Use => root.facts(path, by.identity.as_ref(), mounts),
        Purpose::Execution => root.program_facts(path, by.identity.as_ref(), mounts),
    }
}

/// Who has an address, by procfs.
fn holder(processes: &HostProc, there: &[u32], taken: PortTaken) -> PortFacts {
    let found = match &taken.address {
        Some(address) => {
            sockets::holder(processes, there, taken.net_namespace, taken.transport, address, taken.ipv6_only)
        }
        None => Search::Unknown,
    };
    match found {
        Search::Held(owner) => {
            let container = ContainerRef::from_cgroup_path(&owner.cgroup_path);
            let holder = PortHolder { pid: owner.pid, comm: owner.comm, container };
            PortFacts { taken, holder: Some(holder), looked_for: true }
        }
        Search::NoProcess => PortFacts { taken, holder: None, looked_for: true },
        Search::Unknown => PortFacts { taken, holder: None, looked_for: false },
    }
}
