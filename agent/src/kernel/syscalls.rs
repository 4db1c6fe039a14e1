//! System calls: which failures are recorded, and where the registers are. The one place that knows an architecture.

use lastwords_agent_common::{
    limits::SYSCALLS,
    rules::{EADDRINUSE, SyscallRule, class, object},
};
use nix::libc;
use syscalls::Sysno;

/// Offsets in `struct pt_regs` at the end of a call, by the names of the program's globals. `pt_regs` is part of the kernel's
/// interface with debuggers and does not change.
#[must_use]
pub fn registers() -> Option<&'static [(&'static str, u32)]> {
    if cfg!(target_arch = "x86_64") {
        // arch/x86/include/asm/ptrace.h: orig_ax, di, si, dx, r8, r9.
        Some(&[
            ("REGS_NUMBER", 120),
            ("REGS_0", 112),
            ("REGS_1", 104),
            ("REGS_2", 96),
            ("REGS_4", 72),
            ("REGS_5", 64),
        ])
    } else if cfg!(target_arch = "aarch64") {
        // arch/arm64/include/asm/ptrace.h: syscallno after 31 registers, sp, pc, pstate and orig_x0. Argument 0 is orig_x0, as x0
        // holds the result by then.
        Some(&[
            ("REGS_NUMBER", 280),
            ("REGS_0", 272),
            ("REGS_1", 8),
            ("REGS_2", 16),
            ("REGS_4", 32),
            ("REGS_5", 40),
        ])
    } else {
        None
    }
}

/// The kernel's name of a system call, `syscall_<number>` when it is newer than this agent.
#[must_use]
pub fn name(number: u32) -> String {
    Sysno::new(number as usize).map_or_else(|| format!("syscall_{number}"), |call| call.name().to_owned())
}

/// The rule of every number from 0 on. A call that is not listed is recorded when it is refused (EPERM, EACCES, EROFS).
#[must_use]
pub fn rules() -> Vec<SyscallRule> {
    let refused = SyscallRule {
        errors_low: bits(REFUSED) | bits(&[libc::EROFS]),
        telling: bits(REFUSED) | bits(&[libc::EROFS]),
        object: object::NONE,
        class: class::TELLING,
        ..SyscallRule::default()
    };
    let mut rules = vec![refused; SYSCALLS as usize];
    for group in GROUPS.iter().chain(LEGACY) {
        for call in group.calls {
            if let Some(rule) = rules.get_mut(call.id() as usize) {
                *rule = group.rule();
            }
        }
    }
    rules
}

/// Calls that share a rule.
struct CallGroup {
    calls: &'static [Sysno],
    object: u8,
    class: u8,
    /// Errors that always say much.
    telling: &'static [i32],
    /// Errors that are recorded in `class`.
    others: &'static [i32],
}

impl CallGroup {
    fn rule(&self) -> SyscallRule {
        let mut telling = bits(self.telling);
        if self.telling.contains(&libc::EADDRINUSE) {
            telling |= 1;
        }
        SyscallRule {
            errors_low: bits(self.telling) | bits(self.others),
            errors_high: high_bits(self.telling) | high_bits(self.others),
            telling,
            object: self.object,
            class: self.class,
            told: u8::from(self.telling == EXEC),
            padding: [0; 5],
        }
    }
}

const REFUSED: &[i32] = &[libc::EPERM, libc::EACCES];
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
const EXEC: &[i32] = &[
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
];

const GROUPS: &[CallGroup] = &[
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
            Sysno::copy_file_range,
        ],
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
        calls: &[Sysno::flock, Sysno::fcntl],
        object: object::NONE,
        class: class::TELLING,
        telling: &[libc::EACCES, libc::EPERM, libc::EAGAIN, libc::ENOLCK],
        others: &[],
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

/// Calls that newer architectures do not have.
#[cfg(not(target_arch = "x86_64"))]
const LEGACY: &[CallGroup] = &[CallGroup {
    calls: &[Sysno::fstatat],
    object: object::PATH_1,
    class: class::LOOKING,
    telling: &[],
    others: &[libc::EPERM, libc::EACCES, libc::ENOENT, libc::ENOTDIR],
}];

/// Calls that newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const LEGACY: &[CallGroup] = &[
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
        calls: &[Sysno::rename, Sysno::link, Sysno::symlink],
        object: object::PATH_0,
        class: class::MISSING,
        telling: PATH,
        others: MISSING,
    },
    CallGroup {
        calls: &[Sysno::renameat],
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

fn bits(errors: &[i32]) -> u64 {
    errors.iter().filter(|errno| (0..64).contains(*errno)).fold(0, |bits, errno| bits | 1 << errno)
}

fn high_bits(errors: &[i32]) -> u64 {
    errors.iter().filter(|errno| (64..128).contains(*errno)).fold(0, |bits, errno| bits | 1 << (errno - 64))
}

const _: () = assert!(EADDRINUSE as i32 == libc::EADDRINUSE);

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(call: Sysno) -> SyscallRule {
        rules()[call.id() as usize]
    }

    #[test]
    fn a_refused_open_is_telling_and_a_missing_file_is_not() {
        let open = rule(Sysno::openat);
        assert_ne!(open.errors_low & 1 << libc::EACCES, 0);
        assert_ne!(open.telling & 1 << libc::EACCES, 0);
        assert_ne!(open.errors_low & 1 << libc::ENOENT, 0);
        assert_eq!(open.telling & 1 << libc::ENOENT, 0);
        assert_eq!(open.errors_low & 1 << libc::EAGAIN, 0, "a FIFO's EAGAIN is no failure");
    }

    #[test]
    fn errors_above_63_are_in_the_second_word() {
        let bind = rule(Sysno::bind);
        assert_ne!(bind.errors_high & 1 << (libc::EADDRINUSE - 64), 0);
        assert_eq!(bind.telling & 1, 1, "EADDRINUSE is telling");
        let connect = rule(Sysno::connect);
        assert_ne!(connect.errors_high & 1 << (libc::ECONNREFUSED - 64), 0);
        assert_eq!(connect.telling & 1, 0);
    }

    #[test]
    fn a_call_that_is_not_listed_is_recorded_when_refused() {
        let unlisted = rule(Sysno::keyctl);
        assert_eq!(unlisted.errors_low, 1 << libc::EPERM | 1 << libc::EACCES | 1 << libc::EROFS);
    }

    #[test]
    fn reading_is_never_recorded_for_want_of_data() {
        assert_eq!(rule(Sysno::read).errors_low & 1 << libc::EAGAIN, 0);
    }

    #[test]
    fn names_are_the_kernels() {
        assert_eq!(name(u32::try_from(Sysno::openat.id()).unwrap()), "openat");
        assert_eq!(name(511), "syscall_511");
    }
}
