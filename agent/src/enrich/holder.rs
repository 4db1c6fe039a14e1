//! Who holds a lock: the process that the kernel names, or one that has the locked file open when that one has ended.

use std::time::{Duration, Instant};

use super::procfs::HostProc;
use crate::{container::ContainerRef, decode::LockHeld};

/// How long all descriptors of the node may be looked through for a lock whose taker has ended. A node with 10 000 descriptors
/// takes about 100 ms; on a larger one the holder may stay unknown.
const SEARCH: Duration = Duration::from_millis(250);

/// A process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundHolder {
    /// Host's view.
    pub pid: u32,
    /// At most 15 bytes, as the program chose it.
    pub comm: Vec<u8>,
    /// The container that it runs in.
    pub container: Option<ContainerRef>,
}

/// Looks at the holder of a lock. None when the process that took it has ended and no other one was found.
#[must_use]
pub fn of_lock(processes: &HostProc, held: &LockHeld) -> Option<FoundHolder> {
    found(processes, held.holder).or_else(|| {
        // flock(1) in a script: it takes the lock for the shell that started it, and ends.
        let lock = lock_in_fdinfo(held.device, held.inode);
        let deadline = Instant::now() + SEARCH;
        let mut others = processes.pids().take_while(|_| Instant::now() < deadline);
        let pid = others.find(|pid| processes.descriptors(*pid).any(|text| has_lock(&text, &lock)))?;
        found(processes, pid)
    })
}

fn found(processes: &HostProc, pid: u32) -> Option<FoundHolder> {
    let comm = processes.comm(pid)?;
    let container = processes.cgroup_path(pid).and_then(|path| ContainerRef::from_cgroup_path(&path));
    Some(FoundHolder { pid, comm, container })
}

/// How `/proc/<pid>/fdinfo` names the file of a lock (lock_get_status, fs/locks.c): ` fe:00:1234 `.
fn lock_in_fdinfo(device: u32, inode: u64) -> String {
    format!(" {:02x}:{:02x}:{inode} ", device >> 20, device & 0xf_ffff)
}

/// Whether a descriptor holds a lock on this file: `lock: 1: FLOCK  ADVISORY  WRITE 359 00:13:11691 0 EOF`. One that only waits
/// has no such line.
fn has_lock(fdinfo: &[u8], lock: &str) -> bool {
    let text = String::from_utf8_lossy(fdinfo);
    text.lines().any(|line| line.starts_with("lock:") && line.contains(lock))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;

    use super::*;

    #[test]
    fn a_lock_is_known_by_its_file() {
        let text =
            b"pos:\t0\nflags:\t02\nmnt_id:\t25\nlock:\t1: FLOCK  ADVISORY  WRITE 359 fe:00:11691 0 EOF\n";
        assert!(has_lock(text, &lock_in_fdinfo(0xfe << 20, 11_691)));
        assert!(!has_lock(text, &lock_in_fdinfo(0xfe << 20, 1_169)));
        assert!(!has_lock(text, &lock_in_fdinfo(0xfe << 20 | 1, 11_691)));
        assert!(!has_lock(b"pos:\t0\n", &lock_in_fdinfo(0, 0)));
    }

    #[test]
    fn the_holder_is_found_also_when_the_taker_has_ended() {
        let file = tempfile::tempfile().unwrap();
        let metadata = file.metadata().unwrap();
        let device = u32::try_from(
            nix::sys::stat::major(metadata.dev()) << 20 | nix::sys::stat::minor(metadata.dev()),
        )
        .unwrap();
        let _locked = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive)
            .map_err(|(_, error)| error)
            .unwrap();
        let processes = HostProc::new(Path::new("/proc"));
        let own =
            of_lock(&processes, &LockHeld { holder: std::process::id(), device, inode: metadata.ino() });
        assert_eq!(own.as_ref().map(|holder| holder.pid), Some(std::process::id()));
        // Beyond the highest pid there can be.
        let other = of_lock(&processes, &LockHeld { holder: 1 << 23, device, inode: metadata.ino() });
        assert_eq!(other, own);
        let nobody = of_lock(&processes, &LockHeld { holder: 1 << 23, device, inode: u64::MAX });
        assert_eq!(nobody, None);
    }
}
