//! Every record that crosses from the kernel side to the agent.
//!
//! Integers and byte arrays only, `#[repr(C)]`, no implicit padding (so that no kernel memory leaks through it), sizes asserted
//! on both sides. Times are `bpf_ktime_get_ns`: nanoseconds of CLOCK_MONOTONIC. Process ids are the initial PID namespace's.

mod counter;
mod network;
mod opened;
mod signals;
mod wait;

pub use counter::{COUNTERS, Counter};
pub use network::{DnsEntry, Listener, PortTaken, UnixListener, dns_state, socket_flag};
pub use opened::OpenedEntry;
pub use signals::{BuildIdEntry, ChildExitEntry, FaultEntry, MappingEntry, SignalEntry};
pub use wait::{BlockedEntry, LockEntry, LockHeld, descriptor, lock};

use crate::limits::{
    ARGUMENT_BYTES, CALLER_GROUPS, CGROUP_PATH_BYTES, CHILD_EXITS, CONTAINER_LISTENERS, CWD_PART_BYTES,
    CWD_PARTS, DNS_QUERIES, FAILURES, GROUP_NAME_BYTES, LOCKS, MEMORY_LEVELS, OPENED_FILES, PATH_BYTES,
    PLACE_BYTES, PLACES, SIGNALS, UNIX_LISTENERS,
};

/// `task_struct.comm`.
pub type Comm = [u8; 16];

/// Which record stands in the ring buffer, [`Header::kind`].
pub mod kind {
    /// [`super::CgroupMade`].
    pub const CGROUP_MADE: u32 = 1;
    /// [`super::CgroupGone`].
    pub const CGROUP_GONE: u32 = 2;
    /// [`super::Executed`].
    pub const EXECUTED: u32 = 3;
    /// [`super::Exited`].
    pub const EXITED: u32 = 4;
    /// [`super::OomVictim`].
    pub const OOM_VICTIM: u32 = 5;
    /// [`super::Refused`].
    pub const REFUSED: u32 = 6;
    /// [`super::PortTaken`].
    pub const PORT_TAKEN: u32 = 7;
    /// [`super::LockHeld`].
    pub const LOCK_HELD: u32 = 8;
}

/// First field of every record in the ring buffer.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// See [`kind`].
    pub kind: u32,
    /// Slot of the container's recorder, [`NO_RECORDER`] when it has none.
    pub recorder: u32,
    /// When.
    pub time: u64,
    /// The cgroup v2 id of the container's own group (of the outermost one when groups are nested).
    pub cgroup_id: u64,
}

/// How long a thread has been ready to run since it was made while no processor was free for it, or its group had used up its share
/// (`sched_info.run_delay`), in nanoseconds, or how often it has written (`ioac.syscw`): not known.
pub const NOT_KNOWN: u64 = u64::MAX;

/// [`Header::recorder`] of a container without one.
pub const NO_RECORDER: u32 = u32::MAX;

/// A control group was made whose name has 64 hexadecimal digits: a container, or its sandbox.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CgroupMade {
    /// The header.
    pub header: Header,
    /// Path below the root of the hierarchy, zero-terminated; cut when it fills the array.
    pub path: [u8; CGROUP_PATH_BYTES],
}

/// That group is being removed.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CgroupGone {
    /// The header.
    pub header: Header,
}

/// A working directory, innermost name first, each zero-terminated. The walk ends at the process's root.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct WorkingDirectory {
    /// How many of `parts` are in use.
    pub count: u32,
    /// 1 when the root was reached and every name fitted.
    pub complete: u32,
    /// The names.
    pub parts: [[u8; CWD_PART_BYTES]; CWD_PARTS],
}

/// The container's main process executed a program.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Executed {
    /// The header.
    pub header: Header,
    /// Process.
    pub tgid: u32,
    /// Real user id, initial user namespace.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// 1 when it is PID 1 of a PID namespace other than the initial one.
    pub namespace_init: u32,
    /// 1 for the container's first program.
    pub first: u32,
    /// Bytes of arguments there were; more than ARGUMENT_BYTES: cut.
    pub argument_bytes: u32,
    /// 1 for a 32-bit program.
    pub compat: u32,
    /// Zero.
    pub padding: u32,
    /// Name after the exec.
    pub comm: Comm,
    /// The file as asked for, zero-terminated.
    pub filename: [u8; PATH_BYTES],
    /// The arguments, each zero-terminated.
    pub arguments: [u8; ARGUMENT_BYTES],
    /// Where.
    pub cwd: WorkingDirectory,
}

/// The last thread of the container's main process ended.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Exited {
    /// The header.
    pub header: Header,
    /// Process.
    pub tgid: u32,
    /// The thread that began the end: the one that called exit_group, the first that left when a signal ended them all, the last one when
    /// nobody told the others to leave. 0 when its caller is yet to come: then it sends a second record.
    pub first_tid: u32,
    /// As wait(2) gives it: signal in bits 0 to 6, core dump in bit 7, exit code in bits 8 to 15.
    pub status: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Zero.
    pub padding: u32,
    /// What the thread that began the end had waited for a processor, see [`NOT_KNOWN`].
    pub waited: u64,
    /// How often its leader had written, see [`NOT_KNOWN`].
    pub writes: u64,
    /// Its soft limits RLIMIT_NPROC and RLIMIT_NOFILE; all ones without one.
    pub limits: [u64; 2],
    /// Name of the thread group's leader.
    pub comm: Comm,
    /// Where.
    pub cwd: WorkingDirectory,
}

/// One level of the memory hierarchy at an OOM kill, innermost first.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct MemoryLevel {
    /// `memory.usage` in pages.
    pub usage_pages: u64,
    /// `memory.max` in pages; huge when there is no limit.
    pub limit_pages: u64,
    /// `memory_events_local[MEMCG_OOM]`: how often this level itself was out of memory.
    pub oom_events: u64,
    /// 1 when `memory.oom.group` is set there.
    pub oom_group: u64,
    /// Number of its directory, in the hierarchy of the memory controller.
    pub id: u64,
    /// Directory name, zero-terminated.
    pub name: [u8; GROUP_NAME_BYTES],
}

/// The kernel chose a process of the container for an OOM kill.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct OomVictim {
    /// The header.
    pub header: Header,
    /// The victim.
    pub tgid: u32,
    /// The process whose allocation failed.
    pub allocating_tgid: u32,
    /// 1 when the victim is the container's main process.
    pub is_main: u32,
    /// `oom_score_adj` of the victim.
    pub oom_score_adj: i32,
    /// The victim's name.
    pub comm: Comm,
    /// The allocating thread's name.
    pub allocating_comm: Comm,
    /// `mm->total_vm` in pages.
    pub total_vm_pages: u64,
    /// Anonymous pages.
    pub anon_pages: u64,
    /// File pages.
    pub file_pages: u64,
    /// Shared memory pages.
    pub shmem_pages: u64,
    /// Page tables in bytes.
    pub page_tables_bytes: u64,
    /// Wait status of the victim if it was on its way out already when it was marked, else 0.
    pub already_exiting: u32,
    /// How many of `levels` are in use.
    pub level_count: u32,
    /// The level whose limit it was by the kernel's own account (struct oom_control), by its id; 0 for the node's memory.
    pub owner: u64,
    /// 1 when that account was seen.
    pub owner_known: u64,
    /// From the victim's own group up.
    pub levels: [MemoryLevel; MEMORY_LEVELS],
}

/// A call on a path was refused (EACCES, EPERM, EROFS), or an exec failed: told at once so that the agent can look at the file while
/// it is there.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Refused {
    /// The header.
    pub header: Header,
    /// The caller.
    pub tgid: u32,
    /// Bytes of `path` in use.
    pub length: u32,
    /// System call number of the node's architecture.
    pub syscall: u32,
    /// Error number, positive.
    pub errno: u32,
    /// The failure's own time and thread, as in its [`FailureEntry`].
    pub failed_at: u64,
    /// The calling thread.
    pub tid: u32,
    /// How many supplementary groups the caller has; more than are kept: cut.
    pub group_count: u32,
    /// Supplementary groups, initial user namespace.
    pub groups: [u32; CALLER_GROUPS],
    /// 1 when `place` was written.
    pub has_place: u32,
    /// Zero.
    pub padding: u32,
    /// What a relative path starts from.
    pub place: Place,
    /// The path as passed.
    pub path: [u8; PATH_BYTES],
}

/// One failed system call in a recorder. An entry counts only when `begin` equals `end` and is not 0: two processors that wrote it
/// at once leave them different.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct FailureEntry {
    /// Time and thread folded into one number.
    pub begin: u64,
    /// When.
    pub time: u64,
    /// Process.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// System call number of the node's architecture.
    pub syscall: u32,
    /// Error number, positive; 0 for a connection that was made after one had failed.
    pub errno: u32,
    /// Arguments 0 to 2.
    pub arguments: [u64; 3],
    /// Name of the calling thread.
    pub comm: Comm,
    /// Bytes of `data` in use; a path's terminating zero included.
    pub length: u32,
    /// What `data` holds, see [`crate::rules::object`].
    pub object: u32,
    /// Effective capabilities of the caller.
    pub capabilities: u64,
    /// The capability that was asked for in this call and refused, and one more; 0 when that was not seen.
    pub refused_capability: u32,
    /// See [`seccomp`].
    pub seccomp: u32,
    /// 1 when the place with this entry's index was written for it.
    pub has_place: u32,
    /// `sk_protocol` of the socket that was to have an address, or has lost its peer: 6 for TCP, 17 for UDP; 0 for other calls.
    pub protocol: u32,
    /// What the thread had waited for a processor until then, see [`NOT_KNOWN`].
    pub waited: u64,
    /// A path or a `struct sockaddr`, as passed.
    pub data: [u8; PATH_BYTES],
    /// As `begin`, written last.
    pub end: u64,
}

/// What [`FailureEntry::seccomp`] says of a filter.
pub mod seccomp {
    /// The kernel keeps none, or not where it was looked for.
    pub const UNKNOWN: u32 = 0;
    /// The caller has none.
    pub const NO_FILTER: u32 = 1;
    /// It has one, and the call may have ended there.
    pub const UNDECIDED: u32 = 2;
    /// The call ended there.
    pub const DENIED: u32 = 3;
    /// It has one that let the call through.
    pub const PASSED: u32 = 4;
}

/// The directory or file that a failed call's descriptor or relative path starts from.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Bytes of `names` in use.
    pub length: u32,
    /// 1 when the caller's root was reached and every name fitted.
    pub complete: u32,
    /// Names from the innermost to the root, each zero-terminated.
    pub names: [u8; PLACE_BYTES],
}

/// The capability that a thread asked for last and was refused.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RefusedCapability {
    /// When.
    pub time: u64,
    /// The thread.
    pub tid: u32,
    /// Its number (include/uapi/linux/capability.h), and one more.
    pub capability: u32,
    /// Number of the system call in which it asked.
    pub syscall: u32,
    /// Zero.
    pub padding: u32,
}

/// The flight recorder of one container: an element of the map `RECORDERS`, which the agent reads once, after the death. The heads
/// count every entry ever written; the slot of entry `n` is `n` modulo the class's size.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Recorder {
    /// The container's cgroup v2 id.
    pub cgroup_id: u64,
    /// Failures written, by class.
    pub failure_heads: [u64; 4],
    /// Signals written: to the main process, its faults, to others.
    pub signal_heads: [u64; 3],
    /// Abnormal ends written.
    pub child_exit_head: u64,
    /// Refusals told at once.
    pub notices: u64,
    /// Failed calls of 32-bit programs, which are not decoded.
    pub compat_calls_failed: u64,
    /// TCP sockets that began to listen.
    pub listener_head: u64,
    /// Files that could not be locked, written.
    pub lock_head: u64,
    /// Holders of locks told at once.
    pub lock_notices: u64,
    /// When the last of them was.
    pub lock_noticed: u64,
    /// By class in the order of [`crate::rules::class`].
    pub failures: [FailureEntry; FAILURES],
    /// To the main process, its faults, to others.
    pub signals: [SignalEntry; SIGNALS],
    /// Abnormal ends.
    pub child_exits: [ChildExitEntry; CHILD_EXITS],
    /// TCP sockets that listen or listened.
    pub listeners: [Listener; CONTAINER_LISTENERS],
    /// UNIX sockets that began to listen, how many.
    pub unix_listener_head: u64,
    /// UNIX sockets that listen or listened.
    pub unix_listeners: [UnixListener; UNIX_LISTENERS],
    /// Where the failures of the first two classes started from, by their index.
    pub places: [Place; PLACES],
    /// For the failure that may come of it.
    pub refused_capability: RefusedCapability,
    /// Rings made by io_uring_setup, whose work passes through no system call.
    pub io_urings: u64,
    /// When its first program was executed; 0 before, and for a container that was there before the agent.
    pub started: u64,
    /// Files written that were opened while it started: for reading, for writing.
    pub opened_heads: [u64; 2],
    /// For reading, for writing.
    pub opened: [OpenedEntry; OPENED_FILES],
    /// DNS queries that took a slot from another that was still in use.
    pub dns_overwritten: u64,
    /// Answers that did not fit into a datagram, where what is asked again over TCP cannot be seen.
    pub dns_truncated: u64,
    /// DNS queries.
    pub dns: [DnsEntry; DNS_QUERIES],
    /// Files that could not be locked.
    pub locks: [LockEntry; LOCKS],
    /// What the main process did when it was told to stop.
    pub blocked: BlockedEntry,
}

/// What a control group belongs to, the value of the map `GROUPS`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Group {
    /// The container's own group.
    pub container: u64,
    /// Slot of its recorder, [`NO_RECORDER`] when it has none.
    pub recorder: u32,
    /// In the container's own group: the main process, 0 before it executed its first program.
    pub main_tgid: u32,
    /// In the container's own group: see [`Exited::first_tid`]; 0 before.
    pub first_tid: u32,
    /// Zero.
    pub padding: u32,
    /// In the container's own group: see [`Exited::waited`].
    pub first_waited: u64,
}

const _: () = {
    assert!(size_of::<Header>() == 24);
    assert!(size_of::<CgroupMade>() == 24 + 512);
    assert!(size_of::<WorkingDirectory>() == 8 + 12 * 48);
    assert!(size_of::<Executed>() == 24 + 32 + 16 + 256 + 512 + 584);
    assert!(size_of::<Exited>() == 24 + 24 + 16 + 16 + 16 + 584);
    assert!(size_of::<MemoryLevel>() == 136);
    assert!(size_of::<OomVictim>() == 24 + 16 + 32 + 40 + 8 + 16 + 6 * 136);
    assert!(size_of::<Refused>() == 24 + 16 + 16 + 128 + 8 + 200 + 256);
    assert!(size_of::<FailureEntry>() == 16 + 24 + 24 + 16 + 8 + 24 + 8 + 256 + 8);
    assert!(size_of::<Place>() == 200);
    assert!(size_of::<RefusedCapability>() == 24);
    assert!(size_of::<PortTaken>() == 24 + 8 + 24 + 128 + 32);
    assert!(size_of::<Listener>() == 32 + 12 + 28 + 16);
    assert!(size_of::<UnixListener>() == 32 + 128);
    assert!(size_of::<DnsEntry>() == 32 + 48 + 16 + 32 + 272);
    assert!(
        size_of::<Recorder>()
            == 8 + 32
                + 24
                + 16
                + 8
                + 8
                + 24
                + 48 * 384
                + 16 * 120
                + 8 * 88
                + 8 * 88
                + 8
                + 4 * 160
                + 24 * 200
                + 24
                + 8
                + 24
                + 12 * 320
                + 16
                + 16 * 400
                + 4 * 720
                + 736
    );
    assert!(size_of::<Group>() == 32);
};
