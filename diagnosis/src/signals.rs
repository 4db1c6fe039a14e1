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
        assert_eq!(SIGSYS, 31);
        assert_eq!(SIGTERM, 15);
    }
}
