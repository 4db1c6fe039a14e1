//! `cargo xtask demo`: set-up, build, and three crashes explained.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;

use crate::build::Build;
use crate::setup::Setup;
use crate::{process, workspace};

/// Where cargo puts what it builds without --release: the stand-ins need no speed.
const STAND_INS: &str = "target/debug";

/// Show three real crashes explained: set-up, build, a node with stand-ins around real containers, and what Lastwords says.
#[derive(Args)]
pub(crate) struct Demo {}

impl Demo {
    /// Ends by itself and leaves nothing behind, also on Ctrl-C.
    pub(crate) fn run(self) -> Result<()> {
        Setup::everything().run()?;
        Build::everything().compile()?;
        let mut stand_ins = Command::new("cargo");
        stand_ins.current_dir(workspace::root()).args([
            "build",
            "--locked",
            "--package",
            "lastwords-tests",
            "--bins",
        ]);
        process::show(&mut stand_ins)?;
        let mut demo = Command::new(workspace::root().join(STAND_INS).join("demo"));
        demo.env("LASTWORDS_BIN", workspace::programs());
        // In place of this process, so that Ctrl-C reaches the one that cleans up and the shell waits for it.
        bail!("the demonstration cannot be started: {}", demo.exec())
    }
}
