//! Steps that make one call on a file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs as unix;
use std::os::unix::fs::PermissionsExt as _;

use nix::fcntl::{AtFlags, FallocateFlags, OFlag, OpenHow, fallocate, openat, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat};
use nix::sys::statfs::statfs;
use nix::sys::time::TimeSpec;
use nix::unistd::{AccessFlags, Gid, Uid, access, chdir, chroot, fchownat, truncate};

use crate::number;

const NO_TEXT: Option<&str> = None;

/// Bytes written at once by `fill`.
const CHUNK: usize = 64 * 1024;

pub(crate) fn step(words: &[&str]) -> io::Result<bool> {
    match words {
        ["open", path] => drop(File::open(path)?),
        ["open-write", path] => drop(OpenOptions::new().append(true).open(path)?),
        ["create", path] => drop(File::create(path)?),
        ["create-new", path] => drop(File::create_new(path)?),
        ["open-no-follow", path] => open_no_follow(path)?,
        ["open-in", folder, path] => open_in(folder, path)?,
        ["open2-in", folder, path] => open2_in(folder, path)?,
        // A name of its own in a directory that is there.
        ["open-long-name", folder] => drop(File::open(format!("{folder}/{}", "x".repeat(256)))?),
        ["open-many", path] => open_many(path)?,
        // Files that are not there, each another one.
        ["look-around", times] => look_around(number(times)?),
        ["mkdir", path] => fs::create_dir(path)?,
        ["rmdir", path] => fs::remove_dir(path)?,
        ["unlink", path] => fs::remove_file(path)?,
        ["rename", from, to] => fs::rename(from, to)?,
        ["link", from, to] => fs::hard_link(from, to)?,
        ["symlink", target, path] => unix::symlink(target, path)?,
        ["mknod", path] => mknod(*path, SFlag::S_IFREG, Mode::from_bits_truncate(0o600), 0)?,
        ["mknod-device", path] => {
            mknod(*path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o600), makedev(1, 3))?
        }
        ["truncate", path] => truncate(*path, 0)?,
        ["chmod", path, mode] => fs::set_permissions(path, fs::Permissions::from_mode(number(mode)?))?,
        ["chown", path, uid] => unix::chown(path, Some(number(uid)?), None)?,
        ["chown-in", folder, path, uid] => chown_in(folder, path, uid)?,
        ["touch", path] => touch(path)?,
        ["chdir", path] => chdir(*path)?,
        ["chroot", path] => chroot(*path)?,
        ["mount", path] => mount(Some("none"), *path, Some("tmpfs"), MsFlags::empty(), NO_TEXT)?,
        ["umount", path] => umount2(*path, MntFlags::empty())?,
        ["stat", path] => fs::metadata(path).map(|_| ())?,
        ["access", path] => access(*path, AccessFlags::R_OK)?,
        ["readlink", path] => drop(fs::read_link(path)?),
        ["statfs", path] => drop(statfs(*path)?),
        ["fill", path] => fill(path)?,
        ["allocate", path, bytes] => allocate(path, bytes)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn open_no_follow(path: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path).map(drop)
}

fn open_in(folder: &str, path: &str) -> io::Result<()> {
    Ok(openat(File::open(folder)?.as_fd(), path, OFlag::O_RDONLY, Mode::empty()).map(drop)?)
}

fn open2_in(folder: &str, path: &str) -> io::Result<()> {
    Ok(openat2(File::open(folder)?.as_fd(), path, OpenHow::new().flags(OFlag::O_RDONLY)).map(drop)?)
}

fn open_many(path: &str) -> io::Result<()> {
    let mut open = Vec::new();
    loop {
        open.push(File::open(path)?);
    }
}

pub(crate) fn look_around(times: u32) {
    for number in 0..times {
        // Not there: that is the point.
        let _ = File::open(format!("/usr/share/plugins/{number}.so"));
    }
}

fn chown_in(folder: &str, path: &str, uid: &str) -> io::Result<()> {
    let owner = (Some(Uid::from_raw(number(uid)?)), None::<Gid>);
    Ok(fchownat(File::open(folder)?.as_fd(), path, owner.0, owner.1, AtFlags::empty())?)
}

fn touch(path: &str) -> io::Result<()> {
    let now = TimeSpec::UTIME_NOW;
    Ok(utimensat(nix::fcntl::AT_FDCWD, path, &now, &now, UtimensatFlags::FollowSymlink)?)
}

fn fill(path: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    let chunk = vec![b'x'; CHUNK];
    loop {
        file.write_all(&chunk)?;
    }
}

fn allocate(path: &str, bytes: &str) -> io::Result<()> {
    Ok(fallocate(File::create(path)?.as_fd(), FallocateFlags::empty(), 0, number(bytes)?)?)
}
