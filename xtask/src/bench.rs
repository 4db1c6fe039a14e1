//! `cargo xtask bench`: what it costs that somebody watches, as numbers that can be held against a limit.

mod golden;
mod guest;
mod native;
mod peers;
mod table;
mod targets;

use anyhow::Result;
use clap::{Args, Subcommand};

use self::golden::Golden;
pub(crate) use self::golden::Judgement;
use self::table::ATTACHED;
use crate::build::Build;
use crate::kernels;
use crate::output::Output;
use crate::setup::Setup;

/// The kernel that is counted on unless another is named, and that the gate runs on.
const KERNEL: &str = "6.12";

/// Count what it costs that somebody watches.
#[derive(Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Count instructions per operation in an emulated machine: bare, with empty programs, Lastwords, and others' tools.
    Overhead(Overhead),
}

#[derive(Args)]
struct Overhead {
    /// A kernel series: 5.10, 6.1, 6.12 or newest.
    #[arg(long, value_name = "SERIES", default_value = KERNEL)]
    kernel: String,
    /// Only these, and `none`; may be given several times.
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(ATTACHED))]
    attached: Vec<String>,
    /// On this machine's own kernel, in nanoseconds, with and without the agent by turns.
    #[arg(long)]
    native: bool,
    /// Write the table to the golden ones.
    #[arg(long, conflicts_with_all = ["native", "attached"])]
    update: bool,
    /// Take the programs as they are.
    #[arg(long)]
    no_build: bool,
    /// How to print the outcome.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl Bench {
    pub(crate) fn run(self) -> Result<()> {
        let What::Overhead(overhead) = self.what;
        overhead.run()
    }
}

impl Overhead {
    fn run(self) -> Result<()> {
        if !self.no_build {
            Setup::everything().run()?;
            Build::with_benchmarks().compile()?;
        }
        if self.native {
            let comparison = native::compare()?;
            match self.output {
                Output::Json => println!("{}", comparison.json()),
                Output::Text => print!("{}", comparison.shown()),
            }
            return Ok(());
        }
        let wanted: Vec<&str> = ATTACHED
            .into_iter()
            .filter(|name| self.attached.is_empty() || self.attached.iter().any(|one| one == name))
            .collect();
        let table = guest::count(kernels::series(&self.kernel)?, &wanted)?;
        match self.output {
            Output::Json => println!("{}", table.json()),
            Output::Text => {
                print!("{}", table.shown());
                println!("\n{}", targets::shown(&table));
            }
        }
        let mut golden = Golden::read()?;
        if self.update {
            golden.update(&table)?;
            eprintln!("bench: the table of {} is golden now", table.kernel);
            return Ok(());
        }
        let judgement = golden.judge(&table);
        for line in judgement.lines() {
            eprintln!("bench: {line}");
        }
        Ok(())
    }
}

/// What `cargo xtask test` holds the code to: the ratio of Lastwords to the floor, on the kernel that has a golden table.
///
/// # Errors
/// When nothing could be counted.
pub(crate) fn gate() -> Result<Judgement> {
    let own: Vec<&str> = ATTACHED.into_iter().filter(|name| !peers::is_peer(name)).collect();
    let table = guest::count(kernels::series(KERNEL)?, &own)?;
    eprint!("{}", table.shown());
    Ok(Golden::read()?.judge(&table))
}
