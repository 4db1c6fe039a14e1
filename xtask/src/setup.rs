//! `cargo xtask setup`: from a fresh Debian 12 with Rust to everything a build and the tests need.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::apt;
use crate::architecture::Architecture;
use crate::ebpf::{self, Installed, Toolchain};
use crate::unstable::{CONTAINERD, KUBECTL};
use crate::{chart, cross, kernels, process};

/// What compiles the programs: Debian's Rust with its eBPF target, the LLVM that bpf-linker is built against, and a C compiler
/// for the crates that bring C along (SQLite, ring). g++ brings the C++ library that LLVM links.
const BUILD_PACKAGES: &[&str] = &[
    "rustc-web",
    "libstd-rust-web-dev-bpf",
    "llvm-22-dev",
    "libpolly-22-dev",
    "libzstd-dev",
    "zlib1g-dev",
    "libxml2-dev",
    "gcc",
    "g++",
    "libc6-dev",
];

/// What the tests use: emulated machines, containers, and programs that die in them.
const TEST_PACKAGES: &[&str] = &[
    "qemu-system-x86",
    "runc",
    "busybox-static",
    "xz-utils",
    "jq",
    "iproute2",
    "procps",
    "python3-minimal",
    "python3-venv",
];

/// What compiles and runs arm64 programs on x86-64.
const ARM64_PACKAGES: &[&str] = &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "qemu-system-arm"];

/// What the benchmarks compare with: the tools that people would use today. No test needs them.
const BENCH_PACKAGES: &[&str] = &["libbpf-tools", "bpftrace"];

/// The programs that the corpus lets die. Those of them that are services are not started.
const CORPUS_PACKAGES: &[&str] = &[
    "apache2-bin",
    "beanstalkd",
    "caddy",
    "curl",
    "dnsmasq-base",
    "dumb-init",
    "etcd-server",
    "gunicorn",
    "haproxy",
    "iproute2",
    "lighttpd",
    "lua5.4",
    "mariadb-server-core",
    "memcached",
    "mosquitto",
    "nats-server",
    "nginx-light",
    "nodejs",
    "openjdk-17-jdk-headless",
    "openssh-server",
    "pgbouncer",
    "php8.2-cli",
    "php8.2-fpm",
    "openssl",
    "postgresql-15",
    "prometheus-node-exporter",
    "redis-server",
    "restic",
    "rsync",
    "rsyslog",
    "ruby",
    "socat",
    "sqlite3",
    "stunnel4",
    "supervisor",
    "tinyproxy-bin",
    "tini",
    "unbound",
    "vsftpd",
];

/// The version of Debian that all of this was tried on.
const DEBIAN: &str = "12";

/// Install what a build and the tests need; what is there already is left alone.
#[derive(Args)]
pub(crate) struct Setup {
    /// Only what the build needs, only what the tests need; or what arm64 needs or the benchmarks compare with, both left out otherwise.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Only the programs that `corpus` lets die: Debian packages, of which no service is started.
    #[arg(long, conflicts_with = "only")]
    corpus: bool,
}

/// A part of the set-up.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Compilers and libraries.
    Build,
    /// QEMU, runc, containerd, kernels, kubectl, rustfmt and clippy.
    Test,
    /// A cross compiler for arm64, its standard libraries, QEMU, kernels and busybox; what the build needs has to be there.
    Arm64,
    /// The tools that `bench` compares with.
    Bench,
}

impl Setup {
    /// Both parts, without a choice.
    pub(crate) fn everything() -> Self {
        Self { only: None, corpus: false }
    }

    /// Only the part that a build needs.
    pub(crate) fn for_build() -> Self {
        Self { only: Some(Part::Build), corpus: false }
    }

    /// Only the programs of the corpus.
    pub(crate) fn for_corpus() -> Self {
        Self { only: None, corpus: true }
    }

    /// What cross-building and emulating takes; nothing for this machine's own architecture beyond the usual.
    pub(crate) fn for_architecture(architecture: Architecture) -> Option<Self> {
        (architecture == Architecture::Arm64).then_some(Self { only: Some(Part::Arm64), corpus: false })
    }

    /// Goes through the steps in order; each says in one line what it did.
    pub(crate) fn run(self) -> Result<()> {
        let started = Instant::now();
        match self.only {
            None if self.corpus => {
                step("programs of the corpus", corpus)?;
            }
            Some(Part::Arm64) => arm64()?,
            Some(Part::Bench) => step("tools to compare with", || packages(BENCH_PACKAGES))?,
            part => this_machine(part != Some(Part::Test), part != Some(Part::Build))?,
        }
        eprintln!("setup: done in {:.1} s", started.elapsed().as_secs_f32());
        Ok(())
    }
}

fn this_machine(build: bool, test: bool) -> Result<()> {
    let on_debian = apt::debian_version().as_deref() == Some(DEBIAN);
    if on_debian {
        let wanted =
            [if build { BUILD_PACKAGES } else { &[] }, if test { TEST_PACKAGES } else { &[] }].concat();
        step("Debian packages", || packages(&wanted))?;
    } else {
        eprintln!(
            "setup: this is no Debian {DEBIAN}; taking rustup's nightly for eBPF (a way that nobody has run yet)"
        );
        if build {
            step("compiler for eBPF", ebpf::install_nightly)?;
        }
    }
    if build {
        step("bpf-linker", || Toolchain::detect()?.install_linker())?;
    }
    if test {
        step("rustfmt and clippy", rust_components)?;
        if on_debian {
            for tool in [KUBECTL, CONTAINERD] {
                step_if_possible(tool.package, || tool.install());
            }
        }
        step_if_possible("Helm's library and Kubernetes' schemas", chart::install);
        everyday_kernels(Architecture::X86);
    }
    Ok(())
}

fn arm64() -> Result<()> {
    if apt::debian_version().as_deref() != Some(DEBIAN) {
        bail!("compiling for arm64 takes the packages of Debian {DEBIAN}, and this is another system");
    }
    step("Debian packages", || packages(ARM64_PACKAGES))?;
    step("standard library for arm64", cross::install_library)?;
    step("busybox for arm64", cross::install_busybox)?;
    everyday_kernels(Architecture::Arm64);
    Ok(())
}

fn everyday_kernels(architecture: Architecture) {
    for series in kernels::everyday() {
        let what = format!("kernel {} for {}", series.name, architecture.name());
        step_if_possible(&what, || kernel(series, architecture));
    }
}

fn step(what: &str, action: impl FnOnce() -> Result<Installed>) -> Result<()> {
    let started = Instant::now();
    match action().with_context(|| format!("cannot set up {what}"))? {
        Installed::Already(which) => eprintln!("  {what}: already there ({which})"),
        Installed::Now(which) => {
            eprintln!("  {what}: installed {which} in {:.1} s", started.elapsed().as_secs_f32());
        }
    }
    Ok(())
}

/// For what only some tests need: without it they are skipped, and say so.
fn step_if_possible(what: &str, action: impl FnOnce() -> Result<Installed>) {
    if let Err(error) = step(what, action) {
        eprintln!("  {what}: NOT THERE, the tests that need it will be skipped: {error:#}");
    }
}

fn packages(wanted: &[&str]) -> Result<Installed> {
    let missing = apt::missing(wanted)?;
    if missing.is_empty() {
        return Ok(Installed::Already(format!("{} packages", wanted.len())));
    }
    eprintln!("    installing with apt-get: {}", missing.join(" "));
    apt::install(&missing)?;
    Ok(Installed::Now(missing.join(" ")))
}

fn corpus() -> Result<Installed> {
    match apt::missing(CORPUS_PACKAGES)?.is_empty() {
        true => packages(CORPUS_PACKAGES),
        false => apt::without_services(|| packages(CORPUS_PACKAGES)),
    }
}

/// rustfmt and clippy belong to the toolchain that runs cargo.
fn rust_components() -> Result<Installed> {
    let missing: Vec<&str> = [("rustfmt", "fmt"), ("clippy", "clippy")]
        .into_iter()
        .filter(|(_, verb)| process::answer(Command::new("cargo").args([verb, "--version"])).is_none())
        .map(|(component, _)| component)
        .collect();
    if missing.is_empty() {
        return Ok(Installed::Already("both".to_owned()));
    }
    let names = missing.join(" ");
    let mut rustup = Command::new("rustup");
    rustup.args(["component", "add"]).args(&missing);
    process::quiet("fetching them with rustup", &mut rustup).with_context(|| {
        format!("this toolchain has no {names}: run `rustup component add {names}`, or install them the way you installed Rust")
    })?;
    Ok(Installed::Now(names))
}

fn kernel(series: &'static kernels::Series, architecture: Architecture) -> Result<Installed> {
    if let Some(kernel) = kernels::cached(series, architecture)? {
        return Ok(Installed::Already(kernel.version));
    }
    Ok(Installed::Now(kernels::fetch(series, architecture)?.version))
}
