//! `cargo xtask build`: the eBPF object, then the programs that carry it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;

use crate::architecture::Architecture;
use crate::setup::Setup;
use crate::{cross, ebpf, process, workspace};

/// The packages whose programs people install.
const PACKAGES: &[&str] = &["lastwords-agent", "lastwords-aggregator", "lastwords-cli"];

/// What the tests run beside them.
const TEST_PACKAGES: &[&str] = &["dies", "judge"];

/// What measures them. Compiled in the same call as the others: for itself it would ask for fewer features of what they all stand on, and
/// so for a second build of that.
const BENCHMARK_PACKAGES: &[&str] = &["lastwords-bench"];

/// Those that run on nodes of another architecture, in the emulated machines.
const CROSS_BUILT_PACKAGES: &[&str] = &["lastwords-agent", "dies"];

/// Compile the eBPF object and the release programs into target/release.
#[derive(Args)]
pub(crate) struct Build {
    /// Only the eBPF object, target/bpf/lastwords.bpf.o.
    #[arg(long)]
    ebpf: bool,
    /// Compile for this architecture; for aarch64 only the agent, static, into target/aarch64.
    #[arg(long, value_enum, default_value_t = Architecture::X86)]
    arch: Architecture,
    #[arg(skip)]
    benchmarks: bool,
}

impl Build {
    /// Everything.
    pub(crate) fn everything() -> Self {
        Self::for_architecture(Architecture::X86)
    }

    /// Everything, and what measures it.
    pub(crate) fn with_benchmarks() -> Self {
        Self { benchmarks: true, ..Self::everything() }
    }

    /// Everything that is compiled for this architecture.
    pub(crate) fn for_architecture(arch: Architecture) -> Self {
        Self { ebpf: false, arch, benchmarks: false }
    }

    /// Installs what is missing, then compiles.
    pub(crate) fn run(self) -> Result<()> {
        Setup::for_build().run()?;
        if let Some(setup) = Setup::for_architecture(self.arch) {
            setup.run()?;
        }
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
        match self.arch {
            Architecture::X86 => compile_release(if self.benchmarks { BENCHMARK_PACKAGES } else { &[] })?,
            Architecture::Arm64 => cross::compile(CROSS_BUILT_PACKAGES)?,
        }
        eprintln!(
            "build: programs in {} ({:.1} s)",
            shown(&programs(self.arch)),
            started.elapsed().as_secs_f32()
        );
        Ok(())
    }
}

fn compile_release(more: &[&str]) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace::root()).args(["build", "--release", "--locked"]);
    for package in PACKAGES.iter().chain(TEST_PACKAGES).chain(more) {
        cargo.args(["--package", package]);
    }
    process::show(&mut cargo)?;
    name_as_plugin()
}

/// Where the programs for an architecture stand.
pub(crate) fn programs(architecture: Architecture) -> PathBuf {
    match architecture {
        Architecture::X86 => workspace::programs(),
        Architecture::Arm64 => cross::programs(),
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
