//! The list of probes: what each watches, what is lost without it, and its ways in, the one that costs least first.

use super::verdict::WayIn;

/// One probe.
pub(super) struct Probe {
    /// What it watches.
    pub(super) name: &'static str,
    /// The kernel's name of the hook, whichever way in is taken.
    pub(super) hook: &'static str,
    /// What is lost without it.
    pub(super) without: &'static str,
    /// Without it no crash can be recorded at all.
    pub(super) required: bool,
    /// Tried in this order.
    pub(super) ways: &'static [Way],
}

/// One way in.
pub(super) struct Way {
    /// Its kind.
    pub(super) way_in: WayIn,
    /// The program in the eBPF object; `None` for [`At::SystemCalls`], where each function has its own.
    pub(super) program: Option<&'static str>,
    /// Where that is attached.
    pub(super) at: At,
}

/// Where a program is attached.
pub(super) enum At {
    /// A tracepoint.
    Tracepoint(&'static str),
    /// A tracepoint whose argument 0 must be a task: some kernels have another form of it (mark_victim on 5.10).
    TaskTracepoint(&'static str),
    /// The end (fexit) or the beginning (fentry) of a function.
    Function(&'static str),
    /// The same, where it has so many arguments: its result stands behind them.
    FunctionOf(&'static str, usize),
    /// The ends of the system calls' own functions, one after the other ([`super::syscalls::functions`]).
    SystemCalls,
}

impl At {
    /// The tracepoint, if it is one.
    pub(super) fn tracepoint(&self) -> Option<&'static str> {
        match self {
            Self::Tracepoint(event) | Self::TaskTracepoint(event) => Some(event),
            Self::Function(_) | Self::FunctionOf(..) | Self::SystemCalls => None,
        }
    }

    /// The function whose number of arguments matters, if there is one.
    pub(super) fn counted_function(&self) -> Option<&'static str> {
        match self {
            Self::FunctionOf(function, _) => Some(function),
            _ => None,
        }
    }
}

/// The two ways to a tracepoint.
macro_rules! tracepoint {
    ($at:ident $event:literal) => {
        &[
            Way { way_in: WayIn::TypedTracepoint, program: Some($event), at: At::$at($event) },
            Way { way_in: WayIn::RawTracepoint, program: Some(concat!($event, "_raw")), at: At::$at($event) },
        ]
    };
}

/// The one way to a function that is no system call.
macro_rules! function {
    ($function:literal) => {
        &[Way { way_in: WayIn::Function, program: Some($function), at: At::Function($function) }]
    };
}

/// Where what came by TCP is taken; it lost arguments in Linux 5.19 and 6.18.
pub(super) const TCP_RECEIVED: &str = "tcp_recvmsg";

/// One of the forms of [`TCP_RECEIVED`].
macro_rules! tcp_received {
    ($program:literal, $arguments:literal) => {
        Way { way_in: WayIn::Function, program: Some($program), at: At::FunctionOf(TCP_RECEIVED, $arguments) }
    };
}

/// All of them, in the order in which they are attached.
pub(super) const PROBES: &[Probe] = &[
    Probe {
        name: "containers",
        hook: "cgroup_mkdir",
        without: "no new container is noticed",
        required: true,
        ways: tracepoint!(Tracepoint "cgroup_mkdir"),
    },
    Probe {
        name: "containers gone",
        hook: "cgroup_rmdir",
        without: "recorders are not given back, and a container that never ran its program is not reported",
        required: true,
        ways: tracepoint!(Tracepoint "cgroup_rmdir"),
    },
    Probe {
        name: "exec",
        hook: "sched_process_exec",
        without: "the main process of a container is not known",
        required: true,
        ways: tracepoint!(TaskTracepoint "sched_process_exec"),
    },
    Probe {
        name: "exit",
        hook: "sched_process_exit",
        without: "no death is seen",
        required: true,
        ways: tracepoint!(TaskTracepoint "sched_process_exit"),
    },
    Probe {
        name: "signal",
        hook: "signal_generate",
        without: "who sent a fatal signal is not known",
        required: false,
        ways: tracepoint!(Tracepoint "signal_generate"),
    },
    Probe {
        name: "signal delivery",
        hook: "signal_deliver",
        without: "what a process was waiting in when a signal woke it is not known",
        required: false,
        ways: tracepoint!(Tracepoint "signal_deliver"),
    },
    Probe {
        name: "oom",
        hook: "mark_victim",
        without: "an OOM kill is taken from the SIGKILL that the kernel sends",
        required: false,
        ways: tracepoint!(TaskTracepoint "mark_victim"),
    },
    Probe {
        name: "oom, the kernel's own account",
        hook: "oom_kill_process",
        without: "whose memory limit was hit is told by the groups' use alone",
        required: false,
        ways: function!("oom_kill_process"),
    },
    Probe {
        name: "connections",
        hook: "inet_sock_set_state",
        without: "a connection that fails after connect(2) has returned is not known",
        required: false,
        ways: tracepoint!(Tracepoint "inet_sock_set_state"),
    },
    Probe {
        name: "capabilities",
        hook: "security_capable",
        without: "which capability was refused is not known",
        required: false,
        ways: &[
            Way {
                way_in: WayIn::Function,
                program: Some("security_capable"),
                at: At::Function("security_capable"),
            },
            Way {
                way_in: WayIn::TypedTracepoint,
                program: Some("cap_capable"),
                at: At::Tracepoint("cap_capable"),
            },
            Way {
                way_in: WayIn::RawTracepoint,
                program: Some("cap_capable_raw"),
                at: At::Tracepoint("cap_capable"),
            },
        ],
    },
    Probe {
        name: "io_uring",
        hook: "io_uring_create",
        without: "that a container uses io_uring, and hides its failures there, is not known",
        required: false,
        ways: tracepoint!(Tracepoint "io_uring_create"),
    },
    Probe {
        name: "DNS answers",
        hook: "skb_consume_udp",
        without: "DNS is seen where system calls are seen at sys_exit",
        required: false,
        ways: function!("skb_consume_udp"),
    },
    Probe {
        name: "DNS queries",
        hook: "ip_send_skb",
        without: "DNS is seen where system calls are seen at sys_exit",
        required: false,
        ways: function!("ip_send_skb"),
    },
    Probe {
        name: "DNS queries over IPv6",
        hook: "ip6_send_skb",
        without: "DNS is seen where system calls are seen at sys_exit",
        required: false,
        ways: function!("ip6_send_skb"),
    },
    Probe {
        name: "DNS queries over TCP",
        hook: "tcp_sendmsg",
        without: "DNS over TCP is seen where system calls are seen at sys_exit",
        required: false,
        ways: &[Way {
            way_in: WayIn::Function,
            program: Some("tcp_sendmsg"),
            at: At::FunctionOf("tcp_sendmsg", 3),
        }],
    },
    Probe {
        name: "DNS answers over TCP",
        hook: TCP_RECEIVED,
        without: "DNS over TCP is seen where system calls are seen at sys_exit",
        required: false,
        ways: &[
            tcp_received!("tcp_recvmsg_of_4", 4),
            tcp_received!("tcp_recvmsg_of_5", 5),
            tcp_received!("tcp_recvmsg_of_6", 6),
        ],
    },
    Probe {
        name: "lost connections",
        hook: "sk_stream_error",
        without: "a send that fails because its connection was lost is seen where system calls are seen at sys_exit",
        required: false,
        ways: &[Way {
            way_in: WayIn::Function,
            program: Some("sk_stream_error"),
            at: At::FunctionOf("sk_stream_error", 3),
        }],
    },
    Probe {
        name: "DNS servers that are not there",
        hook: "inet_sk_error_report",
        without: "a name server's closed port is told from one that does not answer where system calls are seen at sys_exit",
        required: false,
        ways: tracepoint!(Tracepoint "inet_sk_error_report"),
    },
    Probe {
        name: "UNIX sockets that listen",
        hook: "unix_listen",
        without: "UNIX sockets that listen are seen where system calls are seen at sys_exit",
        required: false,
        ways: function!("unix_listen"),
    },
    Probe {
        name: "locks (fcntl)",
        hook: "posix_lock_inode",
        without: "who holds a lock that fcntl(2) was refused is not known",
        required: false,
        ways: tracepoint!(Tracepoint "posix_lock_inode"),
    },
    Probe {
        name: "locks (flock)",
        hook: "flock_lock_inode",
        without: "who holds a lock that flock(2) was refused is not known",
        required: false,
        ways: tracepoint!(Tracepoint "flock_lock_inode"),
    },
    Probe {
        name: "locks of file servers",
        hook: "fcntl_setlk",
        without: "a lock that a file server refused is not known",
        required: false,
        ways: tracepoint!(Tracepoint "fcntl_setlk"),
    },
    Probe {
        name: "seccomp filters",
        hook: "__secure_computing",
        without: "what a filter refuses is seen where system calls are seen at sys_exit, but not that it was the filter",
        required: false,
        ways: &[
            Way {
                way_in: WayIn::Function,
                program: Some("secure_computing"),
                at: At::FunctionOf("__secure_computing", 1),
            },
            Way {
                way_in: WayIn::Function,
                program: Some("secure_computing_alone"),
                at: At::FunctionOf("__secure_computing", 0),
            },
        ],
    },
    Probe {
        name: "system calls",
        hook: "sys_exit",
        without: "failed file and socket calls are not known",
        required: false,
        ways: &[
            Way { way_in: WayIn::Function, program: None, at: At::SystemCalls },
            Way { way_in: WayIn::TypedTracepoint, program: Some("sys_exit"), at: At::Tracepoint("sys_exit") },
            Way {
                way_in: WayIn::RawTracepoint,
                program: Some("sys_exit_raw"),
                at: At::Tracepoint("sys_exit"),
            },
        ],
    },
];

impl Probe {
    /// The ways in that are tried: all, or those of the kind that was asked for. A probe on a tracepoint has no function to take
    /// instead.
    pub(super) fn ways(&self, only: Option<WayIn>) -> impl Iterator<Item = &Way> {
        let by_function = self.ways.iter().any(|way| way.way_in == WayIn::Function);
        self.ways.iter().filter(move |way| match only {
            None => true,
            Some(WayIn::Function) => way.way_in == WayIn::Function || !by_function,
            Some(only) => way.way_in == only,
        })
    }
}
