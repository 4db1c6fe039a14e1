//! What a container opened while it started.

use super::Comm;
use crate::limits::PATH_BYTES;

/// One file that was opened while the container started; `begin` and `end` as in [`super::FailureEntry`].
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct OpenedEntry {
    /// Time and thread folded into one number.
    pub begin: u64,
    /// When it was opened last.
    pub time: u64,
    /// Stands for its path; never 0 in a slot that was written.
    pub key: u64,
    /// Process.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// The descriptor a relative path starts from, AT_FDCWD for the working directory.
    pub directory: i32,
    /// Bytes of `path` in use, the terminating zero included.
    pub length: u32,
    /// Name of the calling thread.
    pub comm: Comm,
    /// The path as passed.
    pub path: [u8; PATH_BYTES],
    /// As `begin`, written last.
    pub end: u64,
}

const _: () = assert!(size_of::<OpenedEntry>() == 24 + 16 + 16 + 256 + 8);
