//! The maps, each with its capacity from `limits`.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray, Queue, RingBuf},
};
use lastwords_agent_common::{
    limits::{
        ADDRESS_BYTES, CLOSED_LISTENERS as CLOSED_LISTENER_COUNT, CONNECTIONS as CONNECTION_COUNT,
        DNS_SOCKETS as DNS_SOCKET_COUNT, FAULT_PLACES, GROUP_PLACES as GROUP_PLACE_COUNT,
        GROUPS as GROUP_COUNT, LISTENERS as LISTENER_COUNT, PATH_BYTES, RECORDERS as RECORDER_COUNT,
        RING_BYTES, SYSCALLS as SYSCALL_COUNT, UNDER_WAY as UNDER_WAY_COUNT,
    },
    record::{COUNTERS as COUNTER_COUNT, Comm, Counter, FaultEntry, Group, Listener, Recorder},
    rules::SyscallRule,
};

use crate::dns::SCRATCH_MESSAGE;

/// cgroup v2 id → container, for every group in or below a container.
#[map]
pub static GROUPS: HashMap<u64, Group> = HashMap::with_max_entries(GROUP_COUNT, 0);

/// Which groups are known, by their place: see [`lastwords_agent_common::group_place`]. The agent adds to it too, through shared memory.
#[map]
pub static GROUP_PLACES: Array<u64> = Array::with_max_entries(GROUP_PLACE_COUNT, BPF_F_MMAPABLE);

/// The flight recorders, by slot.
#[map]
pub static RECORDERS: Array<Recorder> = Array::with_max_entries(RECORDER_COUNT, 0);

/// Where faults happened, by their number modulo the size.
#[map]
pub static FAULTS: Array<FaultEntry> = Array::with_max_entries(FAULT_PLACES, 0);

/// How many there have been.
#[map]
pub static FAULTS_SEEN: Array<u64> = Array::with_max_entries(1, 0);

/// Slots that are free and zeroed. The agent fills it and gives slots back once it has read them, so a recorder can never be
/// taken over while it is being read.
#[map]
pub static FREE_RECORDERS: Queue<u32> = Queue::with_max_entries(RECORDER_COUNT, 0);

/// Life-cycle records.
#[map]
pub static RECORDS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// What to do with a failed call, by number.
#[map]
pub static SYSCALLS: Array<SyscallRule> = Array::with_max_entries(SYSCALL_COUNT, 0);

/// The programs that go on with a call that has ended, see `probe/syscall.rs`.
#[map]
pub static CONTINUED: ProgramArray = ProgramArray::with_max_entries(3, 0);

/// The same for calls that can be left out of a kernel.
#[map]
pub static CONTINUED_CONDITIONAL: ProgramArray = ProgramArray::with_max_entries(3, 0);

/// The OOM kill that is being made: there is one at a time, under the kernel's `oom_lock`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct OomAccount {
    /// When it began.
    pub time: u64,
    /// The directory of the memory group that is out of memory, 0 for the node.
    pub owner: u64,
    /// The thread whose allocation failed.
    pub tid: u64,
}

/// Its one element.
#[map]
pub static OOM_ACCOUNT: Array<OomAccount> = Array::with_max_entries(1, 0);

/// Bytes from the start of a kernel stack to the registers of the task while it is in the kernel; 0 when that is not known.
#[map]
pub static REGISTERS: Array<u64> = Array::with_max_entries(1, 0);

/// What was lost and how much was seen, see [`Counter`].
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_COUNT, 0);

/// Who called connect(2).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Caller {
    /// The container's own group.
    pub container: u64,
    /// Process.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// The thread's name.
    pub comm: Comm,
    /// When, CLOCK_MONOTONIC.
    pub began: u64,
    /// The peer's port, in network byte order: a socket at the address of one that is gone has another.
    pub port: u16,
    /// Zero.
    pub padding: u16,
    /// The error that ended the connection after it had been made; 0 before.
    pub lost: u32,
}

/// `struct sock *` → who connected it, from the first packet until it is closed without an error: its answer, and its reset, come in the
/// context of whatever runs then. So what is in here was made by connect(2) in a container, and what was accepted is not.
#[map]
pub static CONNECTIONS: LruHashMap<u64, Caller> = LruHashMap::with_max_entries(CONNECTION_COUNT, 0);

/// (process, descriptor) → the address that a connect(2) which did not wait was called with.
#[map]
pub static UNDER_WAY: LruHashMap<u64, [u8; ADDRESS_BYTES]> = LruHashMap::with_max_entries(UNDER_WAY_COUNT, 0);

/// `struct sock *` → a TCP socket that listens, of the whole node: a port's holder may be outside every container.
#[map]
pub static LISTENERS: HashMap<u64, Listener> = HashMap::with_max_entries(LISTENER_COUNT, 0);

/// `struct sock *` → one that listened until a moment ago.
#[map]
pub static CLOSED_LISTENERS: LruHashMap<u64, Listener> =
    LruHashMap::with_max_entries(CLOSED_LISTENER_COUNT, 0);

/// (process, descriptor) → the name server that a socket talks to.
#[map]
pub static DNS_SOCKETS: LruHashMap<u64, NameServer> = LruHashMap::with_max_entries(DNS_SOCKET_COUNT, 0);

/// A name server, as a socket knows it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct NameServer {
    /// A `struct sockaddr_in` or `sockaddr_in6`.
    pub address: [u8; ADDRESS_BYTES],
    /// 6 for TCP, 17 for UDP.
    pub protocol: u32,
}

/// Room for a DNS message that is being looked at.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DnsScratch {
    /// The slot that was found.
    pub found: u32,
    /// The message: its name, behind 12 bytes of header, begins at a multiple of eight.
    pub message: [u8; SCRATCH_MESSAGE],
    /// Where the message is, and how long: what was found out in several ways is read from here in one, for the verifier.
    pub place: [u64; 4],
}

/// One for each processor.
#[map]
pub static DNS_MESSAGE: PerCpuArray<DnsScratch> = PerCpuArray::with_max_entries(1, 0);

/// Bytes of [`NAME`], a power of two.
pub const NAME_BYTES: usize = 128;

/// Room for a group's name: the stack cannot be read at a place that is only known while running before Linux 5.12.
#[map]
pub static NAME: PerCpuArray<[u8; NAME_BYTES]> = PerCpuArray::with_max_entries(1, 0);

/// Bytes before a path in [`Opening`], so that the bytes before the end of a short one can be looked at.
pub const PATH_MARGIN: usize = 16;

/// A file that was opened, while it is not known yet whether that is kept.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Opening {
    /// The descriptor a relative path starts from.
    pub directory: u64,
    /// Where the program has the path.
    pub source: u64,
    /// As passed.
    pub flags: u64,
    /// What its name says, see `names::says`.
    pub said: u64,
    /// Zero.
    pub margin: [u8; PATH_MARGIN],
    /// The path.
    pub path: [u8; PATH_BYTES],
}

/// Room for one.
#[map]
pub static OPENING: PerCpuArray<Opening> = PerCpuArray::with_max_entries(1, 0);

/// Counts one.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: this CPU's own element. Atomic all the same, in one instruction: a tracepoint in an interrupt may count between the
        // load and the store of another one's.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(value, 1) };
    }
}
