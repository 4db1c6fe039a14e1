//! How much the disk still takes, said before a build finds out half way.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Bytes in a GiB.
const GIB: f64 = 1_073_741_824.0;

/// Bytes that an unprivileged program may still write to the filesystem that holds `folder`, as `df` says.
///
/// # Errors
/// When `df` cannot be run or says no number.
pub(crate) fn free(folder: &Path) -> Result<u64> {
    let output = Command::new("df").args(["--output=avail", "--block-size=1"]).arg(folder).output();
    let output = output.context("cannot start df (Debian package coreutils)")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let number = said.lines().nth(1).map(str::trim).unwrap_or_default();
    number.parse().with_context(|| format!("df says {said:?} of {}", folder.display()))
}

/// Refuses to begin what cannot end.
///
/// # Errors
/// When less than `least` bytes are free where `folder` lies.
pub(crate) fn ask_for(least: u64, folder: &Path) -> Result<()> {
    let free = free(folder)?;
    if free < least {
        bail!(
            "{} lies on a disk with {} free, {} are needed; make room, or set CARGO_TARGET_DIR to a folder on another disk",
            folder.display(),
            gib(free),
            gib(least)
        );
    }
    Ok(())
}

/// "61.3 GiB"
pub(crate) fn gib(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let gib = bytes as f64 / GIB;
    format!("{gib:.1} GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_of_the_workspace_has_some_room_and_less_than_all_the_world() {
        let free = free(crate::workspace::root()).unwrap();
        assert!(free > 0 && free < 1 << 60, "{free}");
        assert!(ask_for(0, crate::workspace::root()).is_ok());
    }

    #[test]
    fn too_little_room_is_refused_with_both_numbers_and_a_way_out() {
        let error = ask_for(u64::MAX, crate::workspace::root()).unwrap_err().to_string();
        assert!(
            error.contains("GiB free, 17179869184.0 GiB are needed") && error.contains("CARGO_TARGET_DIR"),
            "{error}"
        );
    }
}
