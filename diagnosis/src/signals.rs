//! Signal numbers of Linux, as x86-64 and every architecture with the generic numbers (arm64, riscv) has them.

macro_rules! signals {
    ($($name:ident = $number:literal;)*) => {
        $(#[doc = concat!("Number of ", stringify!($name), ".")] pub const $name: i32 = $number;)*

        fn standard(number: i32) -> Option<&'static str> {
            match number {
                $($number => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

signals! {
    SIGHUP = 1;
    SIGINT = 2;
    SIGQUIT = 3;
    SIGILL = 4;
    SIGTRAP = 5;
    SIGABRT = 6;
    SIGBUS = 7;
    SIGFPE = 8;
    SIGKILL = 9;
    SIGUSR1 = 10;
    SIGSEGV = 11;
    SIGUSR2 = 12;
    SIGPIPE = 13;
    SIGALRM = 14;
    SIGTERM = 15;
    SIGSTKFLT = 16;
    SIGCHLD = 17;
    SIGCONT = 18;
    SIGSTOP = 19;
    SIGTSTP = 20;
    SIGTTIN = 21;
    SIGTTOU = 22;
    SIGURG = 23;
    SIGXCPU = 24;
    SIGXFSZ = 25;
    SIGVTALRM = 26;
    SIGPROF = 27;
    SIGWINCH = 28;
    SIGIO = 29;
    SIGPWR = 30;
    SIGSYS = 31;
}

/// First real-time signal as the kernel counts them; a C library keeps the first two for itself.
const FIRST_REAL_TIME: i32 = 32;
/// Last real-time signal.
const LAST_REAL_TIME: i32 = 64;

/// The name of a signal: `SIGKILL` for 9, `SIGRTMIN+2` for 34, `signal 99` where Linux has none, and nothing for 0 (no signal).
pub fn name(number: i32) -> String {
    match number {
        0 => String::new(),
        FIRST_REAL_TIME => "SIGRTMIN".to_owned(),
        number if (FIRST_REAL_TIME..=LAST_REAL_TIME).contains(&number) => {
            format!("SIGRTMIN+{}", number - FIRST_REAL_TIME)
        }
        _ => standard(number).map_or_else(|| format!("signal {number}"), str::to_owned),
    }
}

/// True for the signals by which the kernel answers a fault of the program itself, and by which programs end themselves.
pub fn is_fault(number: i32) -> bool {
    matches!(number, SIGSEGV | SIGBUS | SIGILL | SIGFPE | SIGTRAP | SIGABRT | SIGSYS)
}

/// The name of a fault's si_code (include/uapi/asm-generic/siginfo.h): `SEGV_MAPERR` for SIGSEGV's 1; empty where it has none, as for
/// what kill(2) sends.
pub fn code_name(signal: i32, code: i32) -> &'static str {
    const SI_KERNEL: i32 = 128;
    let names: &[&str] = match signal {
        _ if code == SI_KERNEL => return "SI_KERNEL",
        SIGILL => &[
            "ILL_ILLOPC",
            "ILL_ILLOPN",
            "ILL_ILLADR",
            "ILL_ILLTRP",
            "ILL_PRVOPC",
            "ILL_PRVREG",
            "ILL_COPROC",
            "ILL_BADSTK",
        ],
        SIGFPE => &[
            "FPE_INTDIV",
            "FPE_INTOVF",
            "FPE_FLTDIV",
            "FPE_FLTOVF",
            "FPE_FLTUND",
            "FPE_FLTRES",
            "FPE_FLTINV",
            "FPE_FLTSUB",
        ],
        SIGSEGV => &["SEGV_MAPERR", "SEGV_ACCERR", "SEGV_BNDERR", "SEGV_PKUERR"],
        SIGBUS => &["BUS_ADRALN", "BUS_ADRERR", "BUS_OBJERR", "BUS_MCEERR_AR", "BUS_MCEERR_AO"],
        SIGTRAP => &["TRAP_BRKPT", "TRAP_TRACE", "TRAP_BRANCH", "TRAP_HWBKPT", "TRAP_UNK", "TRAP_PERF"],
        SIGSYS => &["SYS_SECCOMP", "SYS_USER_DISPATCH"],
        _ => &[],
    };
    let place = usize::try_from(code).ok().and_then(|code| code.checked_sub(1));
    place.and_then(|place| names.get(place)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_names() {
        for (number, expected) in [
            (0, ""),
            (6, "SIGABRT"),
            (9, "SIGKILL"),
            (11, "SIGSEGV"),
            (15, "SIGTERM"),
            (31, "SIGSYS"),
            (32, "SIGRTMIN"),
            (34, "SIGRTMIN+2"),
            (65, "signal 65"),
            (-1, "signal -1"),
        ] {
            assert_eq!(name(number), expected);
        }
        assert_eq!(code_name(SIGSEGV, 1), "SEGV_MAPERR");
        assert_eq!(code_name(SIGSYS, 1), "SYS_SECCOMP");
        assert_eq!(code_name(SIGSEGV, 0), "");
        assert_eq!(code_name(SIGSEGV, -6), "");
        assert_eq!(SIGSYS, 31);
        assert_eq!(SIGTERM, 15);
    }
}
