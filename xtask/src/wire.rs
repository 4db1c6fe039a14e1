//! `cargo xtask wire`: the wire of this version recorded in `proto/wire`, which the versions after it are held against.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::{process, workspace};

/// Record the wire of this version. Once a release, right after its tag; never to make a test pass.
#[derive(Args)]
pub(crate) struct Wire {}

impl Wire {
    /// Records, and holds the recording against the programs.
    ///
    /// # Errors
    /// When a test of the recording fails.
    pub(crate) fn run(self) -> Result<()> {
        for (package, record) in [("lastwords-proto", true), ("lastwords-aggregator", false)] {
            let mut cargo = Command::new("cargo");
            cargo.current_dir(workspace::root());
            cargo.args(["test", "--quiet", "--locked", "--package", package, "--test", "neighbours"]);
            if record {
                // One after the other: the first one writes what the others read.
                cargo.args(["--", "--test-threads=1"]).env("LASTWORDS_RECORD_WIRE", "1");
            }
            process::quiet(&format!("the wire, by {package}"), &mut cargo)?;
        }
        println!("proto/wire is the wire of this version: commit it");
        Ok(())
    }
}
