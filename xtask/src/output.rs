//! How a verb prints what it was asked for.

use clap::ValueEnum;

/// The forms that `-o` takes.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// One JSON value on stdout.
    Json,
}
