//! What it costs that somebody watches: operations counted with nothing attached, with empty programs, with Lastwords, and with the
//! tools that people use today. `cargo xtask bench overhead` runs it, in an emulated machine where a nanosecond is an instruction, or
//! on this machine against the clock.

mod attached;
mod clock;
mod container;
mod empty;
mod hooks;
mod measure;
mod nothing;
mod operations;

use std::path::PathBuf;

use anyhow::Result;
use attached::Attached;
use clap::{Parser, Subcommand};

/// The measuring side of `cargo xtask bench`.
#[derive(Parser)]
#[command(name = "lastwords-bench", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Attach one and count every operation; one line of JSON
    Count {
        /// What to attach
        #[arg(value_enum)]
        attached: Attached,
    },
    /// Time every operation with each of these attached, by turns; one line of JSON
    Compare {
        /// How many turns
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// What to attach
        #[arg(value_enum, required = true)]
        attached: Vec<Attached>,
    },
    /// Attach empty programs until standard input ends
    Hold {
        /// The eBPF object with the empty programs
        object: PathBuf,
        /// Where to attach them, a hook a line
        list: PathBuf,
    },
    /// Become the main process of the container whose group this is, then as `serve`
    Enter {
        /// The group's folder
        group: PathBuf,
    },
    /// Run the batches that standard input names and say how long each took
    Serve,
}

fn main() -> Result<()> {
    match Arguments::parse().verb {
        Verb::Count { attached } => println!("{}", measure::count(attached)?),
        Verb::Compare { rounds, attached } => println!("{}", measure::compare(&attached, rounds)?),
        Verb::Hold { object, list } => empty::hold(&object, &list)?,
        Verb::Enter { group } => container::enter(&group)?,
        Verb::Serve => container::serve()?,
    }
    Ok(())
}
