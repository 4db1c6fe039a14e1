//! The compiler of the eBPF crate, and the object it makes.
//!
//! Debian 12's security suite ships a stable Rust with `core` already built for `bpfel-unknown-none`, so no nightly is needed
//! there. On other systems rustup's nightly builds `core` itself; that way is written, but nobody has run it yet.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{process, workspace};

/// The release of bpf-linker that is known to work; `0.13.x` is taken.
const BPF_LINKER: &str = "0.13";

/// The LLVM of Debian's rustc-web. bpf-linker reads that compiler's bitcode and has to be built against the same one.
const DEBIAN_LLVM: &str = "22";

/// Debian's `core` for eBPF, out of libstd-rust-web-dev-bpf.
const DEBIAN_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none";

/// Functions that LLVM moved out of line; aya takes every section for a program or a map and refuses the object.
const UNLIKELY_SECTION: &[u8] = b".text.unlikely.";

/// A compiler that emits eBPF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// `/usr/bin/rustc` from Debian's rustc-web.
    Debian,
    /// rustup's nightly with rust-src.
    Nightly,
}

impl Toolchain {
    /// The one that is installed; Debian's wins.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn detect() -> Result<Self> {
        if Path::new(DEBIAN_CORE).is_dir() && Path::new("/usr/bin/rustc").exists() {
            return Ok(Self::Debian);
        }
        if nightly_core().is_some_and(|source| source.is_dir()) {
            return Ok(Self::Nightly);
        }
        bail!("no compiler for eBPF is installed; run `cargo xtask setup --only build`")
    }

    /// Builds bpf-linker into the cache unless it is there.
    ///
    /// # Errors
    /// When LLVM's development files do not fit the compiler or the build fails.
    pub(crate) fn install_linker(self) -> Result<Installed> {
        let linker = workspace::cached_programs()?.join("bpf-linker");
        let version = process::answer(Command::new(&linker).arg("--version")).unwrap_or_default();
        if version.strip_prefix("bpf-linker ").is_some_and(|version| version.starts_with(BPF_LINKER)) {
            return Ok(Installed::Already(version));
        }
        let llvm = self.llvm_major()?;
        let prefix = self.llvm_prefix(&llvm)?;
        eprintln!("    building bpf-linker {BPF_LINKER} against LLVM {llvm} (about a minute on two cores)");
        let root = workspace::cache()?.join("tools");
        let mut install = Command::new("cargo");
        install
            .args(["install", "bpf-linker", "--version", &format!("~{BPF_LINKER}"), "--locked", "--force"])
            .args(["--no-default-features", "--features", &format!("llvm-{llvm}"), "--root"])
            .arg(&root)
            // A folder of its own: the workspace's target may be locked by the very cargo that runs us.
            .env("CARGO_TARGET_DIR", root.join("build"))
            // It works for a second a build; compiling it well would cost the newcomer a minute.
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
            .env("LLVM_PREFIX", &prefix)
            .env(format!("LLVM_SYS_{llvm}1_PREFIX"), &prefix);
        process::quiet("building bpf-linker", &mut install).context("cannot build bpf-linker")?;
        let _ = fs::remove_dir_all(root.join("build"));
        Ok(Installed::Now(format!("bpf-linker {BPF_LINKER}")))
    }

    fn llvm_major(self) -> Result<String> {
        let mut rustc = match self {
            Self::Debian => Command::new("/usr/bin/rustc"),
            Self::Nightly => nightly("rustc"),
        };
        let version =
            process::answer(rustc.arg("-vV")).context("the compiler for eBPF does not say its version")?;
        let major =
            llvm_in(&version).context("the compiler for eBPF does not say which LLVM it was built with")?;
        if self == Self::Debian && major != DEBIAN_LLVM {
            bail!(
                "Debian's rustc-web now uses LLVM {major}, and this setup installs LLVM {DEBIAN_LLVM}: \
                 change DEBIAN_LLVM in xtask/src/ebpf.rs and the package names in xtask/src/setup.rs"
            );
        }
        Ok(major)
    }

    fn llvm_prefix(self, major: &str) -> Result<String> {
        match self {
            Self::Debian => Ok(format!("/usr/lib/llvm-{major}")),
            Self::Nightly => ["llvm-config", "llvm-config-64"]
                .iter()
                .map(|program| format!("{program}-{major}"))
                .chain(["llvm-config".to_owned()])
                .filter(|program| {
                    process::answer(Command::new(program).arg("--version"))
                        .is_some_and(|version| version.split('.').next() == Some(major))
                })
                .find_map(|program| process::answer(Command::new(program).arg("--prefix")))
                .with_context(|| {
                    format!("bpf-linker needs the development files of LLVM {major} (llvm-config): install them with your system's packages")
                }),
        }
    }

    /// The command that compiles the eBPF crate.
    fn cargo(self) -> Result<Command> {
        let mut cargo = match self {
            Self::Debian => {
                let mut cargo = Command::new("cargo");
                // The compiler is a stable one; `core` for this target comes from the same package, and only the
                // switches that aya-ebpf uses are unstable.
                cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
                cargo.args(["build", "--release", "--target", "bpfel-unknown-none"]);
                cargo
            }
            Self::Nightly => {
                let mut cargo = nightly("cargo");
                cargo.args(["build", "--release", "--target", "bpfel-unknown-none", "-Z", "build-std=core"]);
                cargo
            }
        };
        cargo
            .current_dir(workspace::root().join("agent-ebpf"))
            .env("PATH", path_with(&workspace::cached_programs()?)?)
            .env("CARGO_TARGET_DIR", folder())
            // By default copies and zeroes of some bytes become calls of memcpy and memset, six instructions a byte.
            .env("RUSTFLAGS", "-C linker=bpf-linker -C target-cpu=v2 -C debuginfo=2 -C link-arg=--btf -C link-arg=--disable-expand-memcpy-in-order")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        Ok(cargo)
    }
}

/// Whether a step had anything to do.
pub(crate) enum Installed {
    /// It was there; which one.
    Already(String),
    /// It was put there; which one.
    Now(String),
}

/// Compiles the eBPF crate, and puts the agent's object where its build takes it from and the benchmarks' empty programs beside it.
///
/// # Errors
/// When there is no toolchain, the crate does not compile, or an object could not be loaded later.
pub(crate) fn compile() -> Result<PathBuf> {
    process::show(&mut Toolchain::detect()?.cargo()?)?;
    keep("empty", &empty_object())?;
    let object = object();
    keep("lastwords", &object)?;
    Ok(object)
}

fn keep(program: &str, object: &Path) -> Result<()> {
    let compiled = folder().join("bpfel-unknown-none/release").join(program);
    let bytes = fs::read(&compiled).with_context(|| format!("cargo left no {}", compiled.display()))?;
    if has_section(&bytes, UNLIKELY_SECTION) {
        bail!(
            "{} has a .text.unlikely section, which the loader refuses: a panic or a #[cold] function is reachable in agent-ebpf",
            compiled.display()
        );
    }
    // A copy with the same bytes would be newer, and cargo would build the agent again.
    if fs::read(object).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(parent) = object.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    fs::write(object, &bytes).with_context(|| format!("cannot write {}", object.display()))
}

/// Where the agent's build script finds the object, whatever CARGO_TARGET_DIR says.
pub(crate) fn object() -> PathBuf {
    workspace::root().join("target/bpf/lastwords.bpf.o")
}

/// The programs that do nothing, which the benchmarks attach.
pub(crate) fn empty_object() -> PathBuf {
    object().with_file_name("empty.bpf.o")
}

/// A target folder of its own, because two compilers in one would rebuild each other's work.
pub(crate) fn folder() -> PathBuf {
    workspace::target().join("ebpf")
}

/// Section names stand as text in the object's string table.
fn has_section(object: &[u8], name: &[u8]) -> bool {
    object.windows(name.len()).any(|window| window == name)
}

fn nightly(program: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", program]);
    command
}

fn nightly_core() -> Option<PathBuf> {
    let sysroot = process::answer(nightly("rustc").args(["--print", "sysroot"]))?;
    Some(Path::new(&sysroot).join("lib/rustlib/src/rust/library/core"))
}

/// Fetches rustup's nightly with the source of `core`. Written for systems other than Debian 12; not run yet.
///
/// # Errors
/// When there is no rustup or it fails.
pub(crate) fn install_nightly() -> Result<Installed> {
    if nightly_core().is_some_and(|source| source.is_dir()) {
        return Ok(Installed::Already("rustup nightly with rust-src".to_owned()));
    }
    let mut rustup = Command::new("rustup");
    rustup.args(["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"]);
    process::quiet("installing rustup's nightly", &mut rustup).context(
        "cannot install a nightly Rust; outside Debian 12 the eBPF crate needs one from rustup.rs",
    )?;
    Ok(Installed::Now("rustup nightly with rust-src".to_owned()))
}

fn llvm_in(version: &str) -> Option<String> {
    let version = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next().map(str::to_owned)
}

fn path_with(first: &Path) -> Result<OsString> {
    let rest = env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(first.to_owned()).chain(env::split_paths(&rest));
    env::join_paths(folders).with_context(|| format!("{} cannot stand in PATH", first.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compilers_llvm_is_read() {
        assert_eq!(llvm_in("rustc 1.96.0\nhost: x\nLLVM version: 22.1.8\n").as_deref(), Some("22"));
        assert_eq!(llvm_in("rustc 1.96.0\n"), None);
    }

    #[test]
    fn an_unlikely_section_is_found_and_others_are_not() {
        assert!(has_section(b"\0.text\0.text.unlikely.\0.maps\0", UNLIKELY_SECTION));
        assert!(!has_section(b"\0.text\0.maps\0", UNLIKELY_SECTION));
    }
}
