//! System calls: which failures are recorded, and where the registers are. The one place that knows an architecture.

mod groups;

use lastwords_agent_common::{
    limits::SYSCALLS,
    offsets::ABSENT,
    rules::{EADDRINUSE, MODE_BIT, SyscallRule, class, object, opens, success},
};
use nix::libc;
use syscalls::Sysno;

use self::groups::{
    BUSY, CARRYING, CallGroup, EXEC, GROUPS, LEGACY, RARE, REFUSED, WAITING, WITHOUT_REGISTERS,
};
use super::btf::KernelTypes;

/// Where `struct pt_regs` holds a system call's number and its arguments while the call ends: the program's global, the member, and the
/// bytes from its beginning.
#[cfg(target_arch = "x86_64")]
pub const REGISTERS: &[(&str, &str, u32)] = &[
    ("REGS_CALL", "pt_regs.orig_ax", 0),
    ("REGS_0", "pt_regs.di", 0),
    ("REGS_1", "pt_regs.si", 0),
    ("REGS_2", "pt_regs.dx", 0),
    ("REGS_3", "pt_regs.r10", 0),
    ("REGS_4", "pt_regs.r8", 0),
    ("REGS_5", "pt_regs.r9", 0),
    ("REGS_MODE", "pt_regs.cs", 0),
    ("REGS_CALL_AT_SIGNAL", "pt_regs.orig_ax", 0),
    ("REGS_RESULT", "pt_regs.ax", 0),
    ("REGS_NEXT", "pt_regs.ip", 0),
];
/// As on x86-64; argument 0 is `orig_x0`, as x0 holds the result by then.
#[cfg(target_arch = "aarch64")]
pub const REGISTERS: &[(&str, &str, u32)] = &[
    ("REGS_CALL", "pt_regs.syscallno", 0),
    ("REGS_0", "pt_regs.orig_x0", 0),
    ("REGS_1", "pt_regs.regs", 8),
    ("REGS_2", "pt_regs.regs", 16),
    ("REGS_3", "pt_regs.regs", 24),
    ("REGS_4", "pt_regs.regs", 32),
    ("REGS_5", "pt_regs.regs", 40),
    ("REGS_MODE", "pt_regs.pstate", 0),
    // x8: `syscallno` is forgotten before a signal is delivered.
    ("REGS_CALL_AT_SIGNAL", "pt_regs.regs", 64),
    ("REGS_RESULT", "pt_regs.regs", 0),
    ("REGS_NEXT", "pt_regs.pc", 0),
];

/// Where no architecture's registers are known, and nothing is loaded.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub const REGISTERS: &[(&str, &str, u32)] = &[];

/// What the bit [`MODE_BIT`] of `REGS_MODE` is for a 32-bit program, whose calls have other numbers. x86-64: in the selectors of the code
/// segments, __USER32_CS (0x23) against __USER_CS (0x33). arm64: PSR_MODE32_BIT.
///
/// [`MODE_BIT`]: lastwords_agent_common::rules::MODE_BIT
const COMPAT_MODE: u32 = if cfg!(target_arch = "aarch64") { MODE_BIT } else { 0 };

/// Where a task says while it executes a program, that this is a 32-bit one, and the bit that says so; [`ABSENT`] where a kernel keeps it elsewhere.
pub(super) fn compat(types: &KernelTypes) -> (u32, u32) {
    let (field, bit) = if cfg!(target_arch = "aarch64") {
        // TIF_32BIT, arch/arm64/include/asm/thread_info.h.
        ("task_struct.thread_info.flags", 1 << 22)
    } else {
        // TS_COMPAT, arch/x86/include/asm/thread_info.h.
        ("task_struct.thread_info.status", 2)
    };
    (types.offset(field).unwrap_or(ABSENT), bit)
}

/// `svc #0`: arm64 sets a call that is to start anew up for that before it delivers the signal that interrupted it, and by then only the
/// next instruction tells of it. x86-64 keeps the result until after.
const CALL_INSTRUCTION: u32 = if cfg!(target_arch = "aarch64") { 0xd400_0001 } else { 0 };

/// What else the programs have to know of the architecture, by the names of their globals.
#[must_use]
pub fn numbers() -> [(&'static str, u32); 6] {
    let number = |call: Sysno| u32::try_from(call.id()).unwrap_or(u32::MAX);
    [
        ("CONNECT_NUMBER", number(Sysno::connect)),
        ("GETSOCKOPT_NUMBER", number(Sysno::getsockopt)),
        ("COMPAT_MODE", COMPAT_MODE),
        // x86-64 has functions of their own for them (__ia32_sys_*), arm64 only where the arguments differ.
        ("COMPAT_IN_FUNCTIONS", u32::from(cfg!(target_arch = "aarch64"))),
        ("OPEN_DIRECTORY", libc::O_DIRECTORY.cast_unsigned()),
        ("CALL_INSTRUCTION", CALL_INSTRUCTION),
    ]
}

/// What the success of each call may have to say, by number; the program's global has this name.
#[must_use]
pub fn successes() -> (&'static str, [u8; SYSCALLS as usize]) {
    let mut calls = [success::NONE; SYSCALLS as usize];
    let opening = (0..SYSCALLS as usize).filter_map(Sysno::new).filter(|call| opens(*call) != opens::NOTHING);
    for (call, kind) in [
        (Sysno::sendto, success::SENDTO),
        (Sysno::write, success::BUFFER),
        (Sysno::read, success::BUFFER),
        (Sysno::recvfrom, success::BUFFER),
        (Sysno::writev, success::WRITEV),
        (Sysno::sendmsg, success::MESSAGE),
        (Sysno::recvmsg, success::MESSAGE),
        (Sysno::sendmmsg, success::SENDMMSG),
        (Sysno::connect, success::CONNECT),
        (Sysno::bind, success::BIND),
        (Sysno::getsockopt, success::OPTION),
        (Sysno::listen, success::LISTEN),
    ]
    .into_iter()
    .chain(opening.map(|call| (call, success::OPEN)))
    {
        if let Some(place) = calls.get_mut(call.id() as usize) {
            *place = kind;
        }
    }
    ("SUCCESSES", calls)
}

/// The kernel's name of a system call, `syscall_<number>` when it is newer than this agent.
#[must_use]
pub fn name(number: u32) -> String {
    match Sysno::new(number as usize).map(|call| call.name()) {
        // What the C library calls it; the kernel's name is that of x86-64 on arm64 too (include/uapi/asm-generic/unistd.h).
        Some("fstatat") => "newfstatat".to_owned(),
        Some(name) => name.to_owned(),
        None => format!("syscall_{number}"),
    }
}

/// Whether a call executes a program.
#[must_use]
pub fn executes(number: u32) -> bool {
    matches!(Sysno::new(number as usize), Some(Sysno::execve | Sysno::execveat))
}

/// One system call's own function, and the program for its end.
pub(super) struct SystemCall {
    pub(super) function: String,
    /// The program for its end.
    pub(super) program: &'static str,
}

/// The functions of the calls whose failures are recorded, without those that a busy program makes all the time.
pub(super) fn functions() -> impl Iterator<Item = SystemCall> {
    let listed = GROUPS.iter().chain(LEGACY).flat_map(|group| group.calls);
    listed.chain(RARE).filter(|call| !BUSY.contains(call) && !WITHOUT_REGISTERS.contains(call)).map(|call| {
        SystemCall {
            function: function(*call),
            program: match *call {
                Sysno::getsockopt => "getsockopt",
                call if opens(call) != opens::NOTHING => "opening",
                _ => "system_call",
            },
        }
    })
}

/// Each call has a function that takes the registers, in a table by number (arch/x86/include/asm/syscall_wrapper.h and arm64's).
fn function(call: Sysno) -> String {
    let prefix = if cfg!(target_arch = "aarch64") { "__arm64_sys_" } else { "__x64_sys_" };
    let name = match call.name() {
        // Those whose first form was another (fs/stat.c, fs/namespace.c).
        "stat" => "newstat",
        "lstat" => "newlstat",
        "fstatat" => "newfstatat",
        // arch/arm64/kernel/sys.c has its own.
        "personality" if cfg!(target_arch = "aarch64") => "arm64_personality",
        "umount2" => "umount",
        name => name,
    };
    format!("{prefix}{name}")
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
    for (calls, carries) in [(WAITING, 0), (CARRYING, 1)] {
        for call in calls {
            if let Some(rule) = rules.get_mut(call.id() as usize) {
                *rule = SyscallRule { descriptor: 1, carries, ..*rule };
            }
        }
    }
    for group in GROUPS.iter().chain(LEGACY) {
        for call in group.calls {
            if let Some(rule) = rules.get_mut(call.id() as usize) {
                let SyscallRule { descriptor, carries, .. } = *rule;
                *rule = SyscallRule { opens: opens(*call), descriptor, carries, ..group.rule() };
            }
        }
    }
    rules
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
            ..SyscallRule::default()
        }
    }
}

fn opens(call: Sysno) -> u8 {
    match call.name() {
        "open" | "openat" => opens::FLAGS,
        "openat2" => opens::HOW,
        "creat" => opens::CREATES,
        _ => opens::NOTHING,
    }
}

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
    fn what_a_connection_carries_is_looked_at_and_hooked_nowhere_else() {
        for (calls, carries) in [(CARRYING, 1), (WAITING, 0)] {
            for call in calls {
                let rule = rule(*call);
                assert_eq!((rule.descriptor, rule.carries), (1, carries), "{call}");
            }
        }
        assert_eq!((rule(Sysno::openat).descriptor, rule(Sysno::openat).carries), (0, 0));
        let receives = functions().any(|call| {
            ["read", "recvfrom", "sendto"].map(|name| format!("__x64_sys_{name}")).contains(&call.function)
        });
        assert!(!receives, "every call that succeeds would pay for it");
    }

    #[test]
    fn names_are_the_kernels() {
        assert_eq!(name(u32::try_from(Sysno::openat.id()).unwrap()), "openat");
        assert_eq!(name(511), "syscall_511");
    }
}
