//! Every capacity of the kernel side, each with its reason and with what happens when it is full.

/// Containers with a recorder at the same time, sandboxes included. The kubelet's default is 110 pods a node; 512 leaves room for
/// two containers and a sandbox in each, and costs 512 × 40 KiB = 20 MiB. When all are in use a new container gets life-cycle
/// records only, its crash says `recorder_missing`, and [`crate::record::Counter::RecordersExhausted`] counts it.
pub const RECORDERS: u32 = 512;

/// Control groups known to belong to a container: the containers' own and groups nested in them (systemd, kind). Full: a nested
/// group's failures are not recorded and [`crate::record::Counter::GroupsExhausted`] counts it.
pub const GROUPS: u32 = 4096;

/// Places of groups, by their number modulo this: what is in no container is told by its place, without a look-up ([`crate::group_place`]).
/// Groups that share one cost the look-up; more than 255 of them would make some unknown, of 4096 that are spread over 16384 places. A
/// power of two; 128 KiB.
pub const GROUP_PLACES: u32 = 16384;

/// Bytes of the ring buffer for life-cycle records. 500 containers that start and die at once send about 4 records of at most
/// 1.7 KiB each; the reader drains it within milliseconds. Full: the record is dropped and
/// [`crate::record::Counter::RingFull`] counts it.
pub const RING_BYTES: u32 = 4 << 20;

/// Bytes of a path that are kept, the terminating zero included. Longer ones are cut and flagged.
pub const PATH_BYTES: usize = 256;

/// Bytes of a control group's path that are kept. The deepest seen (kind in docker with the systemd driver) has 290.
pub const CGROUP_PATH_BYTES: usize = 512;

/// Bytes of arguments that are kept at an exec.
pub const ARGUMENT_BYTES: usize = 512;

/// Directories of a working directory's path that are kept; deeper ones make it unresolved.
pub const CWD_PARTS: usize = 12;

/// Bytes of each of them; longer names make it unresolved.
pub const CWD_PART_BYTES: usize = 48;

/// Failures kept that say much whenever they come (EACCES, EPERM, EROFS, EADDRINUSE, ENOSPC …). A power of two, as all of these.
pub const TELLING_FAILURES: usize = 8;

/// Failures kept of paths that do not exist: loaders and locales make tens of them, so they have slots of their own.
pub const MISSING_FAILURES: usize = 16;

/// Failures kept of sockets: a retry loop repeats the same one.
pub const NETWORK_FAILURES: usize = 8;

/// Failures kept of calls that only look (stat, access, readlink). A JVM that asks for one native library looks at eight folders after
/// it has looked for its class path.
pub const LOOKING_FAILURES: usize = 16;

/// All of them. Older entries of the same class are overwritten by newer ones, and counted.
pub const FAILURES: usize = TELLING_FAILURES + MISSING_FAILURES + NETWORK_FAILURES + LOOKING_FAILURES;

/// Failures that have room for the directory or file that their descriptor or relative path starts from: the two classes in which files
/// are. Sockets and looks have none.
pub const PLACES: usize = TELLING_FAILURES + MISSING_FAILURES;

/// Bytes of such a place's names: 128, a power of two, behind which another name may begin, and room for that one. What is longer is
/// said to be unresolved.
pub const PLACE_BYTES: usize = 128 + PLACE_NAME_BYTES;

/// Names of a place that are followed; deeper ones are unresolved.
pub const PLACE_NAMES: usize = 16;

/// Bytes of one name in it.
pub const PLACE_NAME_BYTES: usize = 64;

/// Supplementary groups of a refused caller that are kept. Pods have a handful (fsGroup, supplementalGroups).
pub const CALLER_GROUPS: usize = 32;

/// Signals kept that were sent to the main process by kill(2) and the like.
pub const MAIN_SIGNALS: usize = 8;

/// Faults kept of the main process: a JVM handles thousands of SIGSEGV, the last ones tell.
pub const MAIN_FAULTS: usize = 4;

/// Signals kept that were sent to other processes of the container.
pub const OTHER_SIGNALS: usize = 4;

/// All of them.
pub const SIGNALS: usize = MAIN_SIGNALS + MAIN_FAULTS + OTHER_SIGNALS;

/// Places of faults that are kept for the whole node. Only a signal that nothing handles takes one, and the agent reads it milliseconds
/// later, with the death: 64 faults at the same moment have room, and cost 64 × 9 KiB. Full: the oldest is replaced, and its crash says
/// that the place of the fault is not known ([`crate::record::FaultEntry`]).
pub const FAULT_PLACES: u32 = 64;

/// Frames of a fault that are kept: the instruction and as many callers as a person reads.
pub const FAULT_FRAMES: usize = 16;

/// Names of a mapped file's path that are kept, from its own upwards: `/usr/lib/python3/dist-packages/numpy/core/x.so` has seven.
pub const FRAME_NAMES: usize = 8;

/// Bytes of each of them. A longer one is cut, and the file is then looked for by what stands before it.
pub const FRAME_NAME_BYTES: usize = 64;

/// Abnormal ends of other processes of the container that are kept.
pub const CHILD_EXITS: usize = 8;

/// How long after its first program was executed a container counts as starting, in nanoseconds. Programs read their configuration
/// within the first second; a JVM with a tenth of a processor takes some ten. Longer would make every open of the node pay for longer.
pub const START_UP: u64 = 10_000_000_000;

/// Configuration-like files kept that a container opened for reading while it started. The last ones tell, and programs read few.
pub const READ_FILES: usize = 8;

/// Log-like files kept that it opened for writing while it started: an access log, an error log and two more.
pub const WRITTEN_FILES: usize = 4;

/// All of them. Older entries of the same kind are overwritten by newer ones, and counted; a file that is opened again keeps its slot.
pub const OPENED_FILES: usize = READ_FILES + WRITTEN_FILES;

/// Files kept that a process of the container could not lock. A power of two. Programs lock a handful of files; older ones are
/// overwritten and counted with the failures.
pub const LOCKS: usize = 4;

/// Locks of one file that are looked at for the one in the way. A database with more readers at once is rare; beyond them the holder
/// is not known, and that is said.
pub const LOCKS_OF_FILE: usize = 16;

/// Holders of locks that one container has looked at without a pause; later ones come at most every [`LOCK_NOTICE_PAUSE`].
pub const LOCK_NOTICES: u64 = 16;

/// Nanoseconds between two looks after that: workers that fight for one lock change its holder thousands of times a second.
pub const LOCK_NOTICE_PAUSE: u64 = 100_000_000;

/// Levels of the memory control group's hierarchy that are walked at an OOM kill: container, pod, QoS class, kubepods, and two
/// more for nested set-ups.
pub const MEMORY_LEVELS: usize = 6;

/// Bytes of a control group's name that are kept at each of these levels (`cri-containerd-<64>.scope` has 85).
pub const GROUP_NAME_BYTES: usize = 96;

/// Refused calls (EACCES, EPERM, EROFS) and failed execs of one container that are told at once, so that the file's owner and mode
/// can be looked up while the container's root still exists. Later ones are only recorded.
pub const NOTICES: u64 = 16;

/// Connections of containers that are being made at the same time without waiting for them. Each element has 36 bytes. Full: the one that
/// was not looked at for longest is forgotten, and its failure is not recorded.
pub const UNDER_WAY: u32 = 4096;

/// TCP connections that containers have made, or are making, and that stand: 110 pods with pools of a hundred. Each element has 64 bytes.
/// Full: the one that was not looked at for longest is forgotten, and its failure or loss is not recorded.
pub const CONNECTIONS: u32 = 16384;

/// Bytes of the largest address kept of a connection, a `struct sockaddr_in6`.
pub const ADDRESS_BYTES: usize = 28;

/// TCP sockets of the node that listen at the same time, in containers or not: 110 pods of a few ports each, and the node's own. Each
/// element has 96 bytes. Full: a socket that begins to listen is not known as the holder of its port, and
/// [`crate::record::Counter::ListenersExhausted`] counts it.
pub const LISTENERS: u32 = 8192;

/// Those that have closed and are still remembered: one that held a port may end in the same moment as the one that was refused it, and
/// the agent asks some milliseconds later. Full: the oldest is forgotten.
pub const CLOSED_LISTENERS: u32 = 512;

/// Listening sockets kept of one container. A service has one to three; older ones are overwritten by newer ones, and counted.
pub const CONTAINER_LISTENERS: usize = 8;

/// Listening UNIX sockets kept of one container. Older ones are overwritten by newer ones, and counted.
pub const UNIX_LISTENERS: usize = 4;

/// Bytes kept of the address that a refused bind(2) was called with: `struct sockaddr_un` has 110.
pub const BIND_BYTES: usize = 128;

/// DNS queries kept of one container that got no answer yet, or none that helps. One name with four search domains, each asked for A and
/// AAAA, makes ten. Full: the oldest is overwritten, and counted.
pub const DNS_QUERIES: usize = 16;

/// Bytes kept of a DNS message: a header of 12, the longest name of 255, type and class (RFC 1035, 4.1).
pub const DNS_MESSAGE_BYTES: usize = 272;

/// Sockets of containers that are connected to a name server, or have sent to one. Each element has 48 bytes. Full: the one that was not
/// used for longest is forgotten, and its queries are not seen.
pub const DNS_SOCKETS: u32 = 4096;

/// System call numbers with a rule; the highest in use on x86-64 and arm64 are below 480.
pub const SYSCALLS: u32 = 512;
