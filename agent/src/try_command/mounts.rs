//! The mounts of a tried command: this machine's, in a namespace of its own, with a /proc of its own.

use std::io;

use nix::mount::{MsFlags, mount};
use procfs::process::{MountInfo, Process};

const NONE: Option<&str> = None;

/// Makes the namespace's mounts private and puts the new PID namespace's procfs over /proc.
pub(super) fn prepare() -> io::Result<()> {
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, NONE)?;
    Ok(())
}

/// Makes every mount read-only but those at and below /dev and /proc, which programs write to as a matter of course.
pub(super) fn make_read_only() -> io::Result<()> {
    let mounts = Process::myself().and_then(|process| process.mountinfo()).map_err(io::Error::other)?;
    for mount in mounts {
        let is_spared = ["/dev", "/proc"].iter().any(|spared| mount.mount_point.starts_with(spared));
        // A mount that another one covers cannot be reached by its path, and need not be.
        if !is_spared && mount.mount_point.exists() {
            remount_read_only(&mount)?;
        }
    }
    Ok(())
}

fn remount_read_only(info: &MountInfo) -> io::Result<()> {
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    // A remount sets all flags anew: those that are there have to be said again.
    for option in info.mount_options.keys() {
        flags |= match option.as_str() {
            "nosuid" => MsFlags::MS_NOSUID,
            "nodev" => MsFlags::MS_NODEV,
            "noexec" => MsFlags::MS_NOEXEC,
            "noatime" => MsFlags::MS_NOATIME,
            "nodiratime" => MsFlags::MS_NODIRATIME,
            "relatime" => MsFlags::MS_RELATIME,
            _ => MsFlags::empty(),
        };
    }
    mount(NONE, &info.mount_point, NONE, flags, NONE)?;
    Ok(())
}
