//! How the program ends.

/// What the program returns to whoever started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Done = 0,
    /// It failed while running; one sentence on standard error.
    Failed = 1,
    /// The configuration is wrong; every problem on standard error.
    WrongConfiguration = 64,
    /// The kernel, or the permissions needed, are not there.
    NotPossibleHere = 77,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// One sentence for whoever started the program.
pub fn complain(sentence: impl std::fmt::Display) {
    eprintln!("lastwords-agent: {sentence}");
}
