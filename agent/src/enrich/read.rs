//! Bounded reads of small files.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat};

/// Reads at most `limit` bytes from the beginning of a file.
pub(super) fn read_at_most(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_all(File::open(path)?, limit)
}

/// Opens for reading what `handle` (O_PATH) stands for, if that is a regular file: opening a FIFO could wait for ever, and opening a
/// device can do anything.
pub(super) fn open_regular(handle: &OwnedFd) -> io::Result<File> {
    let kind = SFlag::from_bits_truncate(fstat(handle)?.st_mode & SFlag::S_IFMT.bits());
    if kind != SFlag::S_IFREG {
        return Err(io::Error::other("it is no regular file"));
    }
    File::open(format!("/proc/self/fd/{}", handle.as_raw_fd()))
}

/// As [`read_at_most`], below an open directory.
pub(super) fn read_at_most_in(directory: impl AsFd, name: &str, limit: u64) -> io::Result<Vec<u8>> {
    let file = openat(directory, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    read_all(File::from(file), limit)
}

fn read_all(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}
