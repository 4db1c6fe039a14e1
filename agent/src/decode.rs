//! Bytes from the kernel → values. Pure and total: any bytes in, a value or a [`DecodeError`] out.
//!
//! Text stays as bytes here: what a container chose is escaped where it becomes evidence (`assemble.rs`), and paths are needed
//! raw to look the file up.

mod address;
mod dns;
mod listener;
mod place;
mod plain;
mod recorder;
mod wait;

pub use address::{SocketAddress, socket_address};
pub use dns::{DnsAnswer, DnsFate, DnsQuery, question};
pub(crate) use listener::listener;
pub use listener::{Bound, Listener, PortTaken, Transport, UnixListener};
pub use place::{Frame, Mapping, Place, place};
pub use plain::{Plain, bytes_of, from_bytes, zeroed};
pub use recorder::{ChildExit, Failure, Object, Opened, Recording, SI_KERNEL, Signal, recording};
pub use wait::{Blocked, BlockedCall, LockOutcome, LockTry, Waited};

use lastwords_agent_common::{
    limits::{ARGUMENT_BYTES, CWD_PARTS},
    record::{self, Header, kind},
};

/// A record from the ring buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// CLOCK_MONOTONIC in nanoseconds.
    pub time: u64,
    /// The container's own group.
    pub cgroup_id: u64,
    /// Slot of its recorder.
    pub recorder: u32,
    /// What happened.
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A container's group was made.
    Made {
        /// Below the root of the hierarchy.
        path: String,
    },
    /// It is being removed.
    Gone,
    /// The main process executed a program.
    Executed(Executed),
    /// The main process ended.
    Exited(Exited),
    /// The OOM killer chose a process.
    OomVictim(OomVictim),
    /// A path was refused just now.
    Refused(Refused),
    /// An address was taken just now.
    PortTaken(PortTaken),
    /// A lock is in the way of somebody just now.
    LockHeld(LockHeld),
}

/// See [`record::Executed`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// Process.
    pub tgid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// PID 1 of its namespace.
    pub namespace_init: bool,
    /// The container's first program.
    pub first: bool,
    /// A 32-bit program.
    pub compat: bool,
    /// Name after the exec.
    pub comm: Vec<u8>,
    /// The file as asked for.
    pub filename: Vec<u8>,
    /// argv.
    pub arguments: Vec<Vec<u8>>,
    /// More arguments existed.
    pub arguments_truncated: bool,
    /// Where; None when it could not be read whole.
    pub cwd: Option<Vec<u8>>,
}

/// See [`record::Exited`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exited {
    /// Process.
    pub tgid: u32,
    /// The thread that began the end; 0 when it was not seen.
    pub first_tid: u32,
    /// What that thread had waited for a processor, in nanoseconds; None when that is not known.
    pub waited: Option<u64>,
    /// How often its leader had written; None when that is not known.
    pub writes: Option<u64>,
    /// How it ended.
    pub status: Status,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Its soft limit RLIMIT_NPROC; None without one.
    pub processes: Option<u64>,
    /// RLIMIT_NOFILE.
    pub open_files: Option<u64>,
    /// Name of the leader.
    pub comm: Vec<u8>,
    /// Where; None when it could not be read whole.
    pub cwd: Option<Vec<u8>>,
}

/// How a process ended, as wait(2) tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// 0 to 255; 0 after a signal.
    pub code: i32,
    /// 0 without one.
    pub signal: i32,
    /// A core dump was asked for.
    pub core_dumped: bool,
}

impl Status {
    fn from_wait(status: u32) -> Self {
        let signal = (status & 0x7f).cast_signed();
        let code = if signal == 0 { (status >> 8 & 0xff).cast_signed() } else { 0 };
        Self { code, signal, core_dumped: signal != 0 && status & 0x80 != 0 }
    }
}

/// See [`record::OomVictim`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OomVictim {
    /// The victim.
    pub tgid: u32,
    /// Its name.
    pub comm: Vec<u8>,
    /// Whether it is the main process.
    pub is_main: bool,
    /// Its `oom_score_adj`.
    pub oom_score_adj: i32,
    /// Whose allocation failed.
    pub allocating_tgid: u32,
    /// Its name.
    pub allocating_comm: Vec<u8>,
    /// Pages.
    pub total_vm_pages: u64,
    /// Pages.
    pub anon_pages: u64,
    /// Pages.
    pub file_pages: u64,
    /// Pages.
    pub shmem_pages: u64,
    /// Bytes.
    pub page_tables_bytes: u64,
    /// It was on its way out when it was marked: no kill.
    pub already_exiting: bool,
    /// It was by a SIGKILL.
    pub ends_by_sigkill: bool,
    /// The level whose limit it was by the kernel's own account, by its id, 0 for the node's memory; None when that was not seen.
    pub owner: Option<u64>,
    /// From its own group up.
    pub levels: Vec<MemoryLevel>,
}

/// See [`record::MemoryLevel`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryLevel {
    /// Pages.
    pub usage_pages: u64,
    /// Pages.
    pub limit_pages: u64,
    /// How often this level itself was out of memory.
    pub oom_events: u64,
    /// `memory.oom.group`.
    pub oom_group: bool,
    /// Number of its directory in the hierarchy of the memory controller.
    pub id: u64,
    /// Directory name.
    pub name: Vec<u8>,
}

/// See [`record::Refused`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The caller.
    pub tgid: u32,
    /// What a relative path starts from, seen from the caller's root; None when it is absolute or that could not be read.
    pub directory: Option<Vec<u8>>,
    /// System call number.
    pub syscall: u32,
    /// When the failure was recorded, CLOCK_MONOTONIC.
    pub failed_at: u64,
    /// The calling thread.
    pub tid: u32,
    /// Supplementary groups of the caller.
    pub groups: Vec<u32>,
    /// As passed.
    pub path: Vec<u8>,
}

/// See [`record::LockHeld`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockHeld {
    /// The process that took the lock.
    pub holder: u32,
    /// The file's file system.
    pub device: u32,
    /// The file.
    pub inode: u64,
}

/// The bytes are no record of this version's kernel side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than its kind.
    #[error("a kernel record of kind {kind} has {have} bytes instead of {want}")]
    Short {
        /// Its kind, 0 when even the header is cut.
        kind: u32,
        /// Its size.
        have: usize,
        /// The size it should have.
        want: usize,
    },
    /// Of no known kind.
    #[error("a kernel record has the unknown kind {0}")]
    UnknownKind(u32),
}

/// Decodes one record of the ring buffer.
///
/// # Errors
/// When the bytes are too short or of no known kind: kernel side and agent are of different builds.
pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    let header: Header = plain(bytes, 0)?;
    let event = match header.kind {
        kind::CGROUP_MADE => {
            let raw: record::CgroupMade = plain(bytes, header.kind)?;
            Event::Made { path: String::from_utf8_lossy(until_zero(&raw.path)).into_owned() }
        }
        kind::CGROUP_GONE => Event::Gone,
        kind::EXECUTED => Event::Executed(executed(&plain(bytes, header.kind)?)),
        kind::EXITED => Event::Exited(exited(&plain(bytes, header.kind)?)),
        kind::OOM_VICTIM => Event::OomVictim(oom_victim(&plain(bytes, header.kind)?)),
        kind::REFUSED => {
            let raw: record::Refused = plain(bytes, header.kind)?;
            let path = until_zero(&raw.path);
            let length = path.len().min(raw.length as usize);
            let path = path.get(..length).unwrap_or_default().to_vec();
            let groups = (raw.group_count as usize).min(raw.groups.len());
            Event::Refused(Refused {
                tgid: raw.tgid,
                directory: recorder::place(&raw.place).filter(|_| raw.has_place != 0),
                syscall: raw.syscall,
                failed_at: raw.failed_at,
                tid: raw.tid,
                groups: raw.groups.get(..groups).unwrap_or_default().to_vec(),
                path,
            })
        }
        kind::PORT_TAKEN => Event::PortTaken(listener::port_taken(&plain(bytes, header.kind)?)),
        kind::LOCK_HELD => {
            let raw: record::LockHeld = plain(bytes, header.kind)?;
            Event::LockHeld(LockHeld { holder: raw.holder, device: raw.device, inode: raw.inode })
        }
        unknown => return Err(DecodeError::UnknownKind(unknown)),
    };
    Ok(Record { time: header.time, cgroup_id: header.cgroup_id, recorder: header.recorder, event })
}

fn executed(raw: &record::Executed) -> Executed {
    let there = (raw.argument_bytes as usize).min(ARGUMENT_BYTES - 1);
    let bytes = raw.arguments.get(..there).unwrap_or_default();
    let arguments_truncated = raw.argument_bytes as usize > there;
    // Without any there is not even the zero that ends one.
    let arguments = if bytes.is_empty() {
        Vec::new()
    } else {
        let bytes = if arguments_truncated { bytes } else { bytes.strip_suffix(&[0]).unwrap_or(bytes) };
        bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
    };
    Executed {
        tgid: raw.tgid,
        uid: raw.uid,
        gid: raw.gid,
        namespace_init: raw.namespace_init != 0,
        first: raw.first != 0,
        compat: raw.compat != 0,
        comm: until_zero(&raw.comm).to_vec(),
        filename: until_zero(&raw.filename).to_vec(),
        arguments,
        arguments_truncated,
        cwd: working_directory(&raw.cwd),
    }
}

fn exited(raw: &record::Exited) -> Exited {
    Exited {
        tgid: raw.tgid,
        first_tid: raw.first_tid,
        waited: if_known(raw.waited),
        writes: if_known(raw.writes),
        status: Status::from_wait(raw.status),
        uid: raw.uid,
        gid: raw.gid,
        processes: limit(raw.limits[0]),
        open_files: limit(raw.limits[1]),
        comm: until_zero(&raw.comm).to_vec(),
        cwd: working_directory(&raw.cwd),
    }
}

/// See [`record::NOT_KNOWN`].
fn if_known(raw: u64) -> Option<u64> {
    (raw != record::NOT_KNOWN).then_some(raw)
}

/// RLIM_INFINITY is all ones.
fn limit(raw: u64) -> Option<u64> {
    (raw != u64::MAX).then_some(raw)
}

fn oom_victim(raw: &record::OomVictim) -> OomVictim {
    let count = (raw.level_count as usize).min(raw.levels.len());
    OomVictim {
        tgid: raw.tgid,
        comm: until_zero(&raw.comm).to_vec(),
        is_main: raw.is_main != 0,
        oom_score_adj: raw.oom_score_adj,
        allocating_tgid: raw.allocating_tgid,
        allocating_comm: until_zero(&raw.allocating_comm).to_vec(),
        total_vm_pages: raw.total_vm_pages,
        anon_pages: raw.anon_pages,
        file_pages: raw.file_pages,
        shmem_pages: raw.shmem_pages,
        page_tables_bytes: raw.page_tables_bytes,
        already_exiting: raw.already_exiting != 0,
        ends_by_sigkill: Status::from_wait(raw.already_exiting).signal == 9,
        owner: (raw.owner_known != 0).then_some(raw.owner),
        levels: raw
            .levels
            .iter()
            .take(count)
            .map(|level| MemoryLevel {
                usage_pages: level.usage_pages,
                limit_pages: level.limit_pages,
                oom_events: level.oom_events,
                oom_group: level.oom_group != 0,
                id: level.id,
                name: until_zero(&level.name).to_vec(),
            })
            .collect(),
    }
}

fn working_directory(raw: &record::WorkingDirectory) -> Option<Vec<u8>> {
    let count = raw.count as usize;
    if raw.complete == 0 || count > CWD_PARTS {
        return None;
    }
    let mut path = Vec::new();
    for part in raw.parts.iter().take(count).rev().map(|part| until_zero(part)) {
        if part.contains(&b'/') {
            // The root of one mount on the root of another: the kernel side steps over one in a round.
            return None;
        }
        path.push(b'/');
        path.extend_from_slice(part);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    Some(path)
}

/// The bytes before the first zero.
fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Copies a record out of the ring.
fn plain<T: Plain>(bytes: &[u8], kind: u32) -> Result<T, DecodeError> {
    from_bytes(bytes).ok_or(DecodeError::Short { kind, have: bytes.len(), want: size_of::<T>() })
}

#[cfg(test)]
mod tests;
