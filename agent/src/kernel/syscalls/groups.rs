//! The table of calls: what each names as its object, and which of its errors are worth a slot.

use lastwords_agent_common::rules::{class, object};
use nix::libc;
use syscalls::Sysno;

/// Calls that share a rule.
pub(super) struct CallGroup {
    pub(super) calls: &'static [Sysno],
    pub(super) object: u8,
    pub(super) class: u8,
    /// Errors that always say much.
    pub(super) telling: &'static [i32],
    /// Errors that are recorded in `class`.
    pub(super) others: &'static [i32],
}

pub(super) const REFUSED: &[i32] = &[libc::EPERM, libc::EACCES];
const MISSING: &[i32] = &[libc::ENOENT, libc::ENOTDIR, libc::EEXIST];
const PATH: &[i32] = &[
    libc::EPERM,
    libc::EACCES,
    libc::EROFS,
    libc::ENOSPC,
    libc::EDQUOT,
    libc::EMFILE,
    libc::ENFILE,
    libc::EIO,
    libc::ENOMEM,
    libc::ELOOP,
    libc::ENAMETOOLONG,
    libc::EISDIR,
    libc::EBUSY,
    libc::ENODEV,
    libc::ENXIO,
    libc::ETXTBSY,
    libc::ESTALE,
];
pub(super) const EXEC: &[i32] = &[
    libc::EPERM,
    libc::EACCES,
    libc::ENOEXEC,
    libc::E2BIG,
    libc::ENOMEM,
    libc::ELOOP,
    libc::ETXTBSY,
    libc::EAGAIN,
];
const WRITE: &[i32] = &[
    libc::EPERM,
    libc::EACCES,
    libc::ENOSPC,
    libc::EDQUOT,
    libc::EIO,
    libc::EROFS,
    libc::EFBIG,
    libc::ENOMEM,
];
const DESCRIPTORS: &[i32] =
    &[libc::EPERM, libc::EACCES, libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOSPC];
const CONNECT: &[i32] = &[
    libc::ECONNREFUSED,
    libc::ETIMEDOUT,
    libc::EHOSTUNREACH,
    libc::ENETUNREACH,
    libc::ENETDOWN,
    libc::ECONNRESET,
    libc::EADDRNOTAVAIL,
    libc::ENOENT,
    // No failure: the connection is remembered until it is known how it went.
    libc::EINPROGRESS,
];

pub(super) const GROUPS: &[CallGroup] = &[
    // EPERM is its way to say that a file cannot be waited for: every Go program asks that of its regular files.
    CallGroup {
        calls: &[Sysno::epoll_ctl],
        object: object::NONE,
        class: class::LOOKING,
        telling: &[],
        others: &[],
    },
    CallGroup {
        calls: &[
            Sysno::openat,
            Sysno::openat2,
            Sysno::mkdirat,
            Sysno::unlinkat,
            Sysno::mknodat,
            Sysno::fchmodat,
            Sysno::fchownat,
            Sysno::renameat,
            Sysno::renameat2,
            Sysno::linkat,
            Sysno::utimensat,
        ],
        object: object::PATH_1,
        class: class::MISSING,
        telling: PATH,
        others: MISSING,
    },
    CallGroup {
        calls: &[
            Sysno::truncate,
            Sysno::chdir,
            Sysno::chroot,
            Sysno::setxattr,
            Sysno::umount2,
            Sysno::swapon,
        ],
        object: object::PATH_0,
        class: class::MISSING,
        telling: PATH,
        others: MISSING,
    },
    CallGroup {
        calls: &[Sysno::mount],
        object: object::PATH_1,
        class: class::MISSING,
        telling: PATH,
        others: MISSING,
    },
    CallGroup {
        calls: &[Sysno::symlinkat],
        object: object::PATH_2,
        class: class::MISSING,
        telling: PATH,
        others: MISSING,
    },
    CallGroup {
        calls: &[Sysno::execve],
        object: object::PATH_0,
        class: class::MISSING,
        telling: EXEC,
        others: MISSING,
    },
    CallGroup {
        calls: &[Sysno::execveat],
        object: object::PATH_1,
        class: class::MISSING,
        telling: EXEC,
        others: MISSING,
    },
    CallGroup {
        calls: &[Sysno::faccessat, Sysno::faccessat2, Sysno::readlinkat, Sysno::statx],
        object: object::PATH_1,
        class: class::LOOKING,
        telling: &[],
        others: &[libc::EPERM, libc::EACCES, libc::ENOENT, libc::ENOTDIR, libc::ELOOP, libc::EROFS],
    },
    CallGroup {
        calls: &[Sysno::statfs],
        object: object::PATH_0,
        class: class::LOOKING,
        telling: &[],
        others: &[libc::EPERM, libc::EACCES, libc::ENOENT, libc::ENOTDIR],
    },
    CallGroup {
        calls: &[
            Sysno::write,
            Sysno::pwrite64,
            Sysno::writev,
            Sysno::pwritev,
            Sysno::pwritev2,
            Sysno::fsync,
            Sysno::fdatasync,
            Sysno::fallocate,
            Sysno::ftruncate,
            Sysno::fchmod,
            Sysno::fchown,
            Sysno::fsetxattr,
        ],
        object: object::DESCRIPTOR,
        class: class::TELLING,
        telling: WRITE,
        others: &[],
    },
    CallGroup {
        calls: &[Sysno::copy_file_range],
        object: object::NONE,
        class: class::TELLING,
        telling: WRITE,
        others: &[],
    },
    CallGroup {
        calls: &[
            Sysno::pipe2,
            Sysno::epoll_create1,
            Sysno::eventfd2,
            Sysno::inotify_init1,
            Sysno::inotify_add_watch,
            Sysno::dup,
            Sysno::dup3,
            Sysno::timerfd_create,
            Sysno::memfd_create,
            Sysno::accept,
            Sysno::accept4,
            Sysno::socketpair,
        ],
        object: object::NONE,
        class: class::TELLING,
        telling: DESCRIPTORS,
        others: &[],
    },
    CallGroup {
        calls: &[
            Sysno::clone,
            Sysno::clone3,
            Sysno::mmap,
            Sysno::mremap,
            Sysno::mprotect,
            Sysno::mlock,
            Sysno::mlockall,
        ],
        object: object::NONE,
        class: class::TELLING,
        telling: &[libc::EPERM, libc::EACCES, libc::EAGAIN, libc::ENOMEM],
        others: &[],
    },
    CallGroup {
        // Its locks are told by their own tracepoints (agent-ebpf, probe/lock.rs).
        calls: &[Sysno::fcntl],
        object: object::NONE,
        class: class::TELLING,
        telling: &[libc::EACCES, libc::EPERM, libc::ENOLCK],
        others: &[],
    },
    CallGroup {
        // What the kernel's own look at the file's locks refuses is told there too; a file server refuses behind it.
        calls: &[Sysno::flock],
        object: object::LOCK,
        class: class::LOOKING,
        telling: &[libc::EACCES, libc::EPERM, libc::ENOLCK],
        others: &[libc::EAGAIN],
    },
    CallGroup {
        calls: &[Sysno::socket],
        object: object::NONE,
        class: class::NETWORK,
        telling: DESCRIPTORS,
        others: &[libc::EAFNOSUPPORT, libc::EPROTONOSUPPORT],
    },
    CallGroup {
        calls: &[Sysno::bind],
        object: object::SOCKET_ADDRESS,
        class: class::NETWORK,
        telling: &[libc::EPERM, libc::EACCES, libc::EADDRINUSE, libc::EROFS],
        others: &[libc::EADDRNOTAVAIL, libc::ENOENT, libc::ENOTDIR, libc::ENODEV],
    },
    CallGroup {
        calls: &[Sysno::listen],
        object: object::NONE,
        class: class::NETWORK,
        telling: &[libc::EPERM, libc::EACCES, libc::EADDRINUSE],
        others: &[],
    },
    CallGroup {
        calls: &[Sysno::connect],
        object: object::SOCKET_ADDRESS,
        class: class::NETWORK,
        telling: REFUSED,
        others: CONNECT,
    },
    CallGroup {
        calls: &[Sysno::sendto],
        object: object::SOCKET_ADDRESS_4,
        class: class::NETWORK,
        telling: REFUSED,
        others: CONNECT,
    },
];

/// Calls that are not hooked at their own function: busy programs make them all the time, and what they tell when they fail comes another
/// way (locks by their tracepoints, lost connections by agent-ebpf's probe/peer.rs) or says little.
pub(super) const BUSY: &[Sysno] = &[Sysno::epoll_ctl, Sysno::fcntl, Sysno::sendto];

/// Calls that take no argument, and therefore no registers: they have no function of this kind. C libraries use clone.
#[cfg(target_arch = "x86_64")]
pub(super) const WITHOUT_REGISTERS: &[Sysno] = &[Sysno::fork, Sysno::vfork];
#[cfg(not(target_arch = "x86_64"))]
pub(super) const WITHOUT_REGISTERS: &[Sysno] = &[];

/// Calls without a rule of their own that are hooked all the same: what they change takes a capability, or is what seccomp profiles
/// refuse, and no program makes them often.
pub(super) const RARE: &[Sysno] = &[
    Sysno::getsockopt,
    Sysno::setsockopt,
    Sysno::ptrace,
    Sysno::personality,
    Sysno::setuid,
    Sysno::setgid,
    Sysno::setreuid,
    Sysno::setregid,
    Sysno::setresuid,
    Sysno::setresgid,
    Sysno::setfsuid,
    Sysno::setfsgid,
    Sysno::setgroups,
    Sysno::setpgid,
    Sysno::capset,
    Sysno::prctl,
    Sysno::kill,
    Sysno::tgkill,
    Sysno::unshare,
    Sysno::setns,
    Sysno::pivot_root,
    Sysno::sethostname,
    Sysno::setdomainname,
    Sysno::settimeofday,
    Sysno::clock_settime,
    Sysno::adjtimex,
    Sysno::clock_adjtime,
    Sysno::reboot,
    Sysno::syslog,
    Sysno::init_module,
    Sysno::finit_module,
    Sysno::delete_module,
    Sysno::kexec_load,
    Sysno::bpf,
    Sysno::perf_event_open,
    Sysno::userfaultfd,
    Sysno::keyctl,
    Sysno::add_key,
    Sysno::request_key,
    Sysno::open_by_handle_at,
    Sysno::process_vm_readv,
    Sysno::process_vm_writev,
    Sysno::sched_setscheduler,
    Sysno::sched_setattr,
    Sysno::sched_setaffinity,
    Sysno::setpriority,
    Sysno::setrlimit,
    Sysno::prlimit64,
    Sysno::ioprio_set,
    Sysno::mbind,
    Sysno::set_mempolicy,
    Sysno::lsetxattr,
    Sysno::removexattr,
    Sysno::quotactl,
    Sysno::acct,
    Sysno::swapoff,
    Sysno::fsopen,
    Sysno::open_tree,
    Sysno::move_mount,
    Sysno::fanotify_init,
    Sysno::io_uring_setup,
    Sysno::pidfd_open,
    Sysno::pidfd_getfd,
];

/// Calls that send or receive through the connection in argument 0, and may wait for it.
pub(super) const CARRYING: &[Sysno] = &[
    Sysno::read,
    Sysno::readv,
    Sysno::write,
    Sysno::writev,
    Sysno::recvfrom,
    Sysno::recvmsg,
    Sysno::recvmmsg,
    Sysno::sendto,
    Sysno::sendmsg,
    Sysno::sendmmsg,
    Sysno::sendfile,
    Sysno::splice,
];

/// Other calls that may wait for what the descriptor in argument 0 is: a file, a pipe, a socket.
pub(super) const WAITING: &[Sysno] = &[
    Sysno::pread64,
    Sysno::preadv,
    Sysno::pwrite64,
    Sysno::pwritev,
    Sysno::accept,
    Sysno::accept4,
    Sysno::connect,
    Sysno::fcntl,
    Sysno::flock,
    Sysno::fsync,
    Sysno::fdatasync,
    Sysno::fallocate,
    Sysno::ftruncate,
    Sysno::copy_file_range,
    Sysno::ioctl,
];

/// Calls that newer architectures do not have.
#[cfg(not(target_arch = "x86_64"))]
pub(super) const LEGACY: &[CallGroup] = &[CallGroup {
    calls: &[Sysno::fstatat],
    object: object::PATH_1,
    class: class::LOOKING,
    telling: &[],
    others: &[libc::EPERM, libc::EACCES, libc::ENOENT, libc::ENOTDIR],
}];

/// Calls that newer architectures do not have.
#[cfg(target_arch = "x86_64")]
pub(super) const LEGACY: &[CallGroup] = &[
    CallGroup {
        calls: &[
            Sysno::open,
            Sysno::creat,
            Sysno::mkdir,
            Sysno::rmdir,
            Sysno::unlink,
            Sysno::mknod,
            Sysno::chmod,
            Sysno::chown,
            Sysno::lchown,
        ],
        object: object::PATH_0,
        class: class::MISSING,
        telling: PATH,
        others: MISSING,
    },
    CallGroup {
        calls: &[Sysno::rename, Sysno::link],
        object: object::PATH_0,
        class: class::MISSING,
        telling: PATH,
        others: MISSING,
    },
    // The first argument of a symlink is what it points at, which need not exist.
    CallGroup {
        calls: &[Sysno::symlink],
        object: object::PATH_1,
        class: class::MISSING,
        telling: PATH,
        others: MISSING,
    },
    CallGroup {
        calls: &[Sysno::newfstatat],
        object: object::PATH_1,
        class: class::LOOKING,
        telling: &[],
        others: &[libc::EPERM, libc::EACCES, libc::ENOENT, libc::ENOTDIR],
    },
    CallGroup {
        calls: &[Sysno::stat, Sysno::lstat, Sysno::access, Sysno::readlink],
        object: object::PATH_0,
        class: class::LOOKING,
        telling: &[],
        others: &[libc::EPERM, libc::EACCES, libc::ENOENT, libc::ENOTDIR, libc::ELOOP, libc::EROFS],
    },
    CallGroup {
        calls: &[Sysno::fork, Sysno::vfork],
        object: object::NONE,
        class: class::TELLING,
        telling: &[libc::EPERM, libc::EAGAIN, libc::ENOMEM],
        others: &[],
    },
    CallGroup {
        calls: &[Sysno::dup2, Sysno::pipe, Sysno::epoll_create, Sysno::eventfd, Sysno::inotify_init],
        object: object::NONE,
        class: class::TELLING,
        telling: DESCRIPTORS,
        others: &[],
    },
];
