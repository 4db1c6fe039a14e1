//! The architectures that the agent runs on, by the names that others have for them.

use clap::ValueEnum;

/// What a node's processor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Architecture {
    /// What this machine is, and what the programs in target/release are for.
    #[value(name = "x86_64")]
    X86,
    /// Compiled by a cross compiler and run in an emulated machine.
    #[value(name = "aarch64")]
    Arm64,
}

impl Architecture {
    /// As the kernel's `uname -m` and `--arch` say.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// As Debian's packages say.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Self::X86 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}
