//! `cargo xtask fuzz`: the decoder fed with damaged records, by `agent/examples/fuzz`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::{process, workspace};

/// What `cargo xtask test` runs: some ten seconds. The same inputs each time, so that a failure is the change's and not chance's.
const EVERYDAY: u64 = 500_000;

/// Feed the agent's decoder with damaged records; an input that crashes it is kept in tests/corpus/decode.
#[derive(Args)]
pub(crate) struct Fuzz {
    /// How many inputs.
    #[arg(long, default_value_t = 10_000_000)]
    inputs: u64,
    /// Another chain of inputs for each number.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// End after so many seconds even if inputs are left.
    #[arg(long)]
    seconds: Option<u64>,
    /// Check these files alone, which a run has kept.
    #[arg(long, value_name = "FILE")]
    replay: Vec<PathBuf>,
    /// How to print the result.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

impl Fuzz {
    /// What every run of the tests does.
    pub(crate) fn everyday() -> Self {
        Self { inputs: EVERYDAY, seed: 1, seconds: None, replay: Vec::new(), output: Output::Text }
    }

    /// Compiles the fuzzer and runs it.
    ///
    /// # Errors
    /// When an input crashed the decoder; the fuzzer has said which.
    pub(crate) fn run(self) -> Result<()> {
        let mut cargo = Command::new("cargo");
        // As people get it: ten million inputs take minutes, and hours without optimisation. What only a debug build notices (an
        // overflow) a shorter chain finds in agent/tests/decode.rs.
        cargo.args([
            "run",
            "--release",
            "--quiet",
            "--locked",
            "--package",
            "lastwords-agent",
            "--example",
            "fuzz",
        ]);
        cargo.args(["--manifest-path".into(), workspace::root().join("Cargo.toml")]);
        cargo.arg("--").args(["--inputs", &self.inputs.to_string(), "--seed", &self.seed.to_string()]);
        if let Some(seconds) = self.seconds {
            cargo.args(["--seconds", &seconds.to_string()]);
        }
        for file in &self.replay {
            cargo.arg("--replay").arg(file);
        }
        if matches!(self.output, Output::Json) {
            cargo.args(["--output", "json"]);
        }
        process::show(&mut cargo)
    }
}
