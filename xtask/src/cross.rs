//! Compiling the agent for arm64 on an x86-64 Debian with Debian's parts alone, nothing of them installed beside the compiler's own.
//!
//! The standard library comes out of the arm64 build of the package that the installed compiler's own came out of, unpacked into
//! the cache: a compiler takes only the one it was built with. The program is static, so that the emulated machine needs no libraries.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt::{self, OtherSuite};
use crate::architecture::Architecture;
use crate::ebpf::Installed;
use crate::{process, workspace};

/// What cargo calls a Linux on arm64 with glibc.
const TARGET: &str = "aarch64-unknown-linux-gnu";

/// The compiler and the package that its standard library is in.
const COMPILER: &str = "/usr/bin/rustc";
const COMPILER_PACKAGE: &str = "rustc-web";
const LIBRARY_PACKAGE: &str = "libstd-rust-web-dev";

/// The suite that has rustc-web, for each architecture in the same version.
const LIBRARY_SUITE: &str = "bookworm-security";

/// Where the compiler looks for standard libraries, below its prefix.
const LIBRARIES: &str = "lib/rustlib";

/// The suite that busybox is taken from; any would do.
const BUSYBOX_SUITE: &str = "bookworm";

/// The profile in the workspace's Cargo.toml.
const PROFILE: &str = "emulated";

/// Where the cross-built programs stand.
pub(crate) fn programs() -> PathBuf {
    folder().join(TARGET).join(PROFILE)
}

/// The busybox that emulated arm64 machines boot with.
pub(crate) fn busybox() -> Result<PathBuf> {
    Ok(workspace::cache_of(Architecture::Arm64)?.join("bin/busybox"))
}

/// A target folder of its own: another compiler's work lies in the usual one.
fn folder() -> PathBuf {
    workspace::target().join(Architecture::Arm64.name())
}

/// Puts arm64's standard library of the installed compiler beside its own, in a folder of ours that stands in for its prefix.
///
/// # Errors
/// When the compiler is not Debian's, or the archive no longer has its version.
pub(crate) fn install_library() -> Result<Installed> {
    let version = apt::installed_version(COMPILER_PACKAGE)?;
    let sysroot = sysroot(&version)?;
    if sysroot.exists() {
        return Ok(Installed::Already(version));
    }
    let cache = workspace::cache_of(Architecture::Arm64)?;
    let unpacked = cache.join(".unpacking-rust");
    let _ = fs::remove_dir_all(&unpacked);
    let suite = OtherSuite::open(LIBRARY_SUITE, Architecture::Arm64, &workspace::cache()?.join("apt"))?;
    suite.unpack(LIBRARY_PACKAGE, &version, &unpacked)?;

    let libraries = unpacked.join("usr").join(LIBRARIES);
    let own = Path::new("/usr").join(LIBRARIES);
    for entry in fs::read_dir(&own).with_context(|| format!("cannot read {}", own.display()))? {
        let entry = entry.with_context(|| format!("cannot read {}", own.display()))?;
        let beside = libraries.join(entry.file_name());
        if !beside.exists() {
            symlink(entry.path(), &beside).with_context(|| format!("cannot make {}", beside.display()))?;
        }
    }
    // Versions before this one fit no compiler any more.
    let rust = cache.join("rust");
    let _ = fs::remove_dir_all(&rust);
    fs::create_dir_all(&rust).with_context(|| format!("cannot make {}", rust.display()))?;
    fs::rename(unpacked.join("usr"), &sysroot)
        .with_context(|| format!("cannot make {}", sysroot.display()))?;
    let _ = fs::remove_dir_all(&unpacked);
    Ok(Installed::Now(version))
}

fn sysroot(version: &str) -> Result<PathBuf> {
    Ok(workspace::cache_of(Architecture::Arm64)?.join("rust").join(version))
}

/// Takes busybox out of its arm64 package.
///
/// # Errors
/// When the archive cannot be read.
pub(crate) fn install_busybox() -> Result<Installed> {
    let program = busybox()?;
    if program.exists() {
        return Ok(Installed::Already(program.display().to_string()));
    }
    let cache = workspace::cache()?;
    let suite = OtherSuite::open(BUSYBOX_SUITE, Architecture::Arm64, &cache.join("apt"))?;
    let version = suite.look_up("busybox-static")?.version;
    let unpacked = workspace::cache_of(Architecture::Arm64)?.join(".unpacking-busybox");
    suite.unpack("busybox-static", &version, &unpacked)?;
    if let Some(parent) = program.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    // Debian moved it from /bin to /usr/bin after bookworm.
    let places = ["usr/bin/busybox", "bin/busybox"].map(|place| unpacked.join(place));
    let Some(found) = places.iter().find(|place| place.exists()) else {
        bail!("busybox-static {version} holds no busybox");
    };
    fs::rename(found, &program).with_context(|| format!("cannot make {}", program.display()))?;
    let _ = fs::remove_dir_all(&unpacked);
    Ok(Installed::Now(version))
}

/// Compiles `package` with the eBPF object that is already there.
///
/// # Errors
/// When `setup --only arm64` has not run or the package does not compile.
pub(crate) fn compile(packages: &[&str]) -> Result<()> {
    let sysroot = sysroot(&apt::installed_version(COMPILER_PACKAGE)?)?;
    if !sysroot.exists() {
        bail!("no standard library for arm64 is there; run `cargo xtask setup --only arm64`");
    }
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(workspace::root())
        .args(["build", "--locked", "--target", TARGET, "--profile", PROFILE])
        .env("CARGO_TARGET_DIR", folder())
        .env("RUSTC", COMPILER)
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc")
        // Separated by a character that no path holds. With `--target` they do not reach what runs on this machine.
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!("--sysroot={}\u{1f}-Ctarget-feature=+crt-static", sysroot.display()),
        )
        .env_remove("RUSTFLAGS");
    for package in packages {
        cargo.args(["--package", package]);
    }
    process::show(&mut cargo)
}
