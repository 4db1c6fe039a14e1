//! What a diagnosis says.

/// Why a container died.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnosis {
    /// The cause.
    pub cause: Cause,
    /// Never [`Confidence::High`] for [`Cause::Unknown`].
    pub confidence: Confidence,
    /// One sentence for the person on call.
    pub summary: String,
    /// The thing itself, ready to paste.
    pub object: String,
    /// What to change.
    pub remedy: String,
    /// The evidence it rests on, best first.
    pub evidence: Vec<EvidenceRef>,
    /// Causes that were considered and lost, one line each.
    pub also_seen: Vec<String>,
    /// True for an end that whoever runs the pod wanted: its deletion, a restart that a rule or a change of the running pod asks for. Such
    /// an end is no crash.
    pub planned: bool,
}

/// How far the evidence carries the cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Confidence {
    /// Little speaks for it.
    #[default]
    Low,
    /// It fits; another explanation is possible.
    Medium,
    /// The evidence shows that this call, kill or limit ended the process.
    High,
}

/// One piece of evidence, by the field of [`crate::Evidence`] it stands in and its index there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvidenceRef {
    /// `exit`.
    Exit,
    /// `oom[n]`.
    Oom(usize),
    /// `failures[n]`.
    Failure(usize),
    /// `signals[n]`.
    Signal(usize),
    /// `child_exits[n]`.
    ChildExit(usize),
    /// `execs[n]`.
    Exec(usize),
    /// `fault`.
    Fault,
    /// `blocked`.
    Blocked,
    /// `opened_files[n]`.
    OpenedFile(usize),
    /// `listeners[n]`.
    Listener(usize),
    /// `log_tail`.
    LogTail,
    /// `log_files[n]`.
    LogFile(usize),
    /// `probe_events[n]` of the pod's state.
    ProbeEvent(usize),
    /// `changed_since_last_good[n]` of the pod's state.
    Change(usize),
}

/// The causes, as `lastwords.v1.Cause` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[expect(missing_docs, reason = "the names say it; docs/causes.md tells how each is known")]
pub enum Cause {
    #[default]
    Unknown,
    OutOfMemory,
    PermissionDenied,
    ReadOnlyFilesystem,
    FileNotFound,
    ExecFailed,
    PortInUse,
    FileLocked,
    ConnectionFailed,
    DnsFailed,
    IdentityUnavailable,
    ProbeFailed,
    InvalidArguments,
    InvalidConfiguration,
    InvalidEnvironment,
    ProgramError,
    DiskFull,
    ResourceLimit,
    SeccompDenied,
    Killed,
    Completed,
    ImagePullFailed,
    ContainerConfigError,
    ContainerCreateError,
    Evicted,
    Preempted,
    NodeShutdown,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 27] = [
        Self::Unknown,
        Self::OutOfMemory,
        Self::PermissionDenied,
        Self::ReadOnlyFilesystem,
        Self::FileNotFound,
        Self::ExecFailed,
        Self::PortInUse,
        Self::FileLocked,
        Self::ConnectionFailed,
        Self::DnsFailed,
        Self::IdentityUnavailable,
        Self::ProbeFailed,
        Self::InvalidArguments,
        Self::InvalidConfiguration,
        Self::InvalidEnvironment,
        Self::ProgramError,
        Self::DiskFull,
        Self::ResourceLimit,
        Self::SeccompDenied,
        Self::Killed,
        Self::Completed,
        Self::ImagePullFailed,
        Self::ContainerConfigError,
        Self::ContainerCreateError,
        Self::Evicted,
        Self::Preempted,
        Self::NodeShutdown,
    ];
}
