//! `cargo xtask build`: the eBPF object, then the programs that carry it.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;

use crate::setup::Setup;
use crate::{ebpf, process, workspace};

/// The packages whose programs people install.
const PACKAGES: &[&str] = &["lastwords-agent", "lastwords-aggregator", "lastwords-cli"];

/// Compile the eBPF object and the release programs into target/release.
#[derive(Args)]
pub(crate) struct Build {
    /// Only the eBPF object, target/bpf/lastwords.bpf.o.
    #[arg(long)]
    ebpf: bool,
}

impl Build {
    /// Everything.
    pub(crate) fn everything() -> Self {
        Self { ebpf: false }
    }

    /// Installs what is missing, then compiles.
    pub(crate) fn run(self) -> Result<()> {
        Setup::for_build().run()?;
        self.compile()
    }

    /// Compiles, trusting that `setup` has run.
    pub(crate) fn compile(self) -> Result<()> {
        let started = Instant::now();
        let object = ebpf::compile()?;
        eprintln!("build: {} ({:.1} s)", shown(&object), started.elapsed().as_secs_f32());
        if self.ebpf {
            return Ok(());
        }
        let started = Instant::now();
        let mut cargo = Command::new("cargo");
        cargo.current_dir(workspace::root()).args(["build", "--release", "--locked"]);
        for package in PACKAGES {
            cargo.args(["--package", package]);
        }
        process::show(&mut cargo)?;
        name_as_plugin()?;
        eprintln!(
            "build: programs in {} ({:.1} s)",
            shown(&workspace::programs()),
            started.elapsed().as_secs_f32()
        );
        Ok(())
    }
}

/// `kubectl lastwords` runs whatever is called kubectl-lastwords in PATH.
fn name_as_plugin() -> Result<()> {
    let plugin = workspace::programs().join("kubectl-lastwords");
    if plugin.is_symlink() {
        fs::remove_file(&plugin).with_context(|| format!("cannot replace {}", plugin.display()))?;
    }
    symlink("lastwords", &plugin).with_context(|| format!("cannot make {}", plugin.display()))
}

fn shown(path: &std::path::Path) -> String {
    path.strip_prefix(workspace::root()).unwrap_or(path).display().to_string()
}
