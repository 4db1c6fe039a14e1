//! What was seen of one death. The agent makes it, the aggregator reads it back from its store; the meaning of each field, its
//! unit and what its absence says are documented once, in `proto/lastwords/v1/crash.proto`, whose messages have the same shape.
#![expect(missing_docs, reason = "field by field in crash.proto, which has the same shape")]

/// A moment, in nanoseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct UnixNanos(pub i64);

/// All that was seen of one death.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evidence {
    pub node: String,
    pub agent_version: String,
    pub observed_at: UnixNanos,
    pub container: Container,
    pub process: Option<Process>,
    pub exit: Option<Exit>,
    pub container_survived: bool,
    pub timed_out: bool,
    pub oom: Vec<OomKill>,
    pub failures: Vec<Failure>,
    pub signals: Vec<Signal>,
    pub execs: Vec<Exec>,
    pub child_exits: Vec<ChildExit>,
    pub memory: Vec<MemorySample>,
    pub log_tail: Option<LogTail>,
    pub listeners: Vec<Listener>,
    pub fault: Option<Fault>,
    pub blocked: Option<BlockedCall>,
    pub opened_files: Vec<OpenedFile>,
    pub log_files: Vec<LogTail>,
    pub losses: Losses,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Container {
    pub runtime: String,
    pub id: String,
    pub pod_uid: String,
    pub pod_name: String,
    pub namespace: String,
    pub name: String,
    pub image: String,
    pub restart_count: i32,
    pub cgroup_path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Process {
    pub pid: u32,
    pub comm: String,
    pub args: Vec<String>,
    pub args_truncated: bool,
    pub exe: String,
    pub uid: u32,
    pub gid: u32,
    pub cwd: String,
    pub started_at: UnixNanos,
    pub exited_at: UnixNanos,
    pub namespace_init: bool,
    pub environment_names: Vec<String>,
    pub unknown_options: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exit {
    pub code: i32,
    pub signal: i32,
    pub core_dumped: bool,
    pub killed_by: Option<KilledBy>,
    pub tid: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KilledBy {
    pub kind: SenderKind,
    pub pid: u32,
    pub comm: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SenderKind {
    #[default]
    Unknown,
    Kernel,
    OomKiller,
    Runtime,
    SameContainer,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OomKill {
    pub victim_pid: u32,
    pub victim_comm: String,
    pub victim_is_main: bool,
    pub total_vm_bytes: u64,
    pub anon_rss_bytes: u64,
    pub file_rss_bytes: u64,
    pub shmem_rss_bytes: u64,
    pub page_tables_bytes: u64,
    pub oom_score_adj: i32,
    pub scope: OomScope,
    pub limit_bytes: u64,
    pub usage_bytes: u64,
    pub allocating_pid: u32,
    pub allocating_comm: String,
    pub group_kill: bool,
    pub limit_confirmed: bool,
    pub time: UnixNanos,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OomScope {
    #[default]
    Unknown,
    Container,
    Pod,
    Node,
}

/// One kind of failed call. `syscall` is the kernel's name of it, `errno` positive; names of errors come from [`crate::errno`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Failure {
    pub syscall: String,
    pub errno: i32,
    pub path: String,
    pub path_truncated: bool,
    pub path_unresolved: bool,
    pub address: String,
    pub name: String,
    pub pid: u32,
    pub tid: u32,
    pub comm: String,
    pub uid: u32,
    pub gid: u32,
    pub count: u64,
    pub first_before_death_ms: f64,
    pub last_before_death_ms: f64,
    pub waited_for_processor_ms: f64,
    pub by_dying_thread: bool,
    pub later_succeeded: bool,
    pub file: Option<FileFacts>,
    pub mount: Option<Mount>,
    pub holder: Option<Holder>,
    pub holder_looked_for: bool,
    pub groups: Vec<u32>,
    pub capabilities: Vec<String>,
    pub capability: String,
    pub seccomp: Seccomp,
    pub dns: Option<DnsQuery>,
    pub variables: Vec<String>,
    pub later_connected: String,
    pub unanswered: bool,
}

impl Failure {
    /// Time from the last of them to the death in which its thread had a processor or wanted none, in milliseconds: how long somebody
    /// did something else. On a busy node, and under a limit of processor time, all the rest is waiting.
    #[must_use]
    pub fn at_work_before_death_ms(&self) -> f64 {
        (self.last_before_death_ms - self.waited_for_processor_ms.max(0.0)).max(0.0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    pub mount_point: String,
    pub file_system: String,
    pub read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holder {
    pub pid: u32,
    pub comm: String,
    pub container_id: String,
    pub pod_uid: String,
    pub same_container: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Seccomp {
    #[default]
    Unknown,
    NoFilter,
    Undecided,
    Denied,
    NotByFilter,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DnsQuery {
    pub outcome: DnsOutcome,
    pub response_code: u32,
    pub types: Vec<String>,
    pub transport: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DnsOutcome {
    #[default]
    Unknown,
    NxDomain,
    ServFail,
    Refused,
    NoAnswer,
    NoData,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileFacts {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub kind: String,
    pub path: String,
    pub mount_point: String,
    pub interpreter: String,
    pub interpreter_missing: bool,
    pub machine: String,
    pub node_machine: String,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Signal {
    pub signal: i32,
    pub code: i32,
    pub sender: Option<KilledBy>,
    pub target_pid: u32,
    pub target_comm: String,
    pub to_main: bool,
    pub delivered: bool,
    pub before_death_ms: f64,
    pub fault_address: u64,
    pub syscall: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fault {
    pub signal: i32,
    pub code: i32,
    pub address: u64,
    pub tid: u32,
    pub comm: String,
    pub frames: Vec<Frame>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frame {
    pub instruction: u64,
    pub module: String,
    pub build_id: String,
    pub offset: u64,
    pub symbol: String,
    pub symbol_offset: u64,
    pub file: String,
    pub line: u32,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockedCall {
    pub syscall: String,
    pub pid: u32,
    pub tid: u32,
    pub comm: String,
    pub path: String,
    pub address: String,
    pub signal: i32,
    pub before_death_ms: f64,
    pub holder: Option<Holder>,
    pub holder_looked_for: bool,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Listener {
    pub address: String,
    pub pid: u32,
    pub comm: String,
    pub before_death_ms: f64,
    pub closed: bool,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct OpenedFile {
    pub path: String,
    pub written: bool,
    pub pid: u32,
    pub comm: String,
    pub before_death_ms: f64,
    pub path_unresolved: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exec {
    pub path: String,
    pub args: Vec<String>,
    pub time: UnixNanos,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChildExit {
    pub pid: u32,
    pub comm: String,
    pub code: i32,
    pub signal: i32,
    pub before_death_ms: f64,
    pub detached: bool,
    /// Its parent; 0 when that is not known.
    pub parent_pid: u32,
    /// How often its parent wrote from then to its own end; None when that is not known.
    pub parent_wrote: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemorySample {
    pub time: UnixNanos,
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogTail {
    pub lines: Vec<String>,
    pub bytes: u64,
    pub source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Losses {
    pub failures_overwritten: u64,
    pub signals_overwritten: u64,
    pub torn_entries: u64,
    pub ring_records_dropped: u64,
    pub recorder_missing: bool,
    pub agent_started_later: bool,
    pub unreadable: Vec<String>,
    pub io_uring_used: bool,
    pub compat_calls_failed: u64,
    pub opened_files_overwritten: u64,
}
