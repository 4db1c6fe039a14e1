//! Where things are.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::architecture::Architecture;

/// The folder that holds the workspace's `Cargo.toml`.
pub(crate) fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// Where the programs stand that are run: what `cargo xtask build` made, or those in `$LASTWORDS_BIN` (debug programs compile
/// in seconds).
pub(crate) fn programs() -> PathBuf {
    match env::var_os("LASTWORDS_BIN") {
        Some(folder) => PathBuf::from(folder),
        None => target().join("release"),
    }
}

/// The tool cache: `$LASTWORDS_CACHE`, else `~/.cache/lastwords`. Safe to delete; `setup` fills it again.
pub(crate) fn cache() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("LASTWORDS_CACHE") {
        return std::path::absolute(&folder)
            .with_context(|| format!("LASTWORDS_CACHE={} is no usable path", folder.to_string_lossy()));
    }
    let home = env::var_os("HOME").context("neither LASTWORDS_CACHE nor HOME is set; set one of them")?;
    Ok(PathBuf::from(home).join(".cache/lastwords"))
}

/// The cache for what belongs to one architecture; this machine's own needs no folder of its own.
pub(crate) fn cache_of(architecture: Architecture) -> Result<PathBuf> {
    match architecture {
        Architecture::X86 => cache(),
        Architecture::Arm64 => Ok(cache()?.join(architecture.name())),
    }
}

/// Programs that `setup` built or unpacked for us (bpf-linker, kubectl).
pub(crate) fn cached_programs() -> Result<PathBuf> {
    Ok(cache()?.join("tools/bin"))
}

/// Whether a machine and not a person reads the outcome.
pub(crate) fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|value| value == "true" || value == "1")
}
