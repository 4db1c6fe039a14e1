//! Programs of our own for the machines' file systems, where busybox has no way to die as a case asks.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{process, workspace};

/// Compiles `tests/guests/faults.rs` for this machine: with frame pointers and a build id, as a crash report wants them, and with the
/// lines that its names can be held against.
///
/// # Errors
/// When it does not compile.
pub(super) fn faults() -> Result<PathBuf> {
    let folder = workspace::target().join("guests");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let program = folder.join("faults");
    let mut compiler = Command::new("rustc");
    compiler
        .args(["--edition", "2024", "-C", "opt-level=1", "-C", "panic=abort"])
        .args(["-C", "force-frame-pointers=yes", "-C", "debuginfo=line-tables-only"])
        .args(["-C", "link-arg=-Wl,--build-id=sha1", "-o"])
        .arg(&program)
        .arg(workspace::root().join("tests/guests/faults.rs"));
    process::quiet("compiling tests/guests/faults.rs", &mut compiler)?;
    Ok(program)
}
