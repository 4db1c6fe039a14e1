//! The shared libraries of a program, as this machine's loader finds them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Paths of the libraries and of the loader, each where the program looks for it.
///
/// # Errors
/// When the loader lacks one, or the program is none.
pub(super) fn of(program: &Path) -> Result<Vec<String>> {
    let output = Command::new("ldd").arg(program).output().context("cannot start ldd")?;
    if !output.status.success() {
        bail!("ldd {}: {}", program.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    in_list(&String::from_utf8_lossy(&output.stdout))
        .with_context(|| format!("{} cannot be put into an image", program.display()))
}

/// `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, and the loader without an arrow. The vDSO is the kernel's.
fn in_list(list: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for line in list.lines().map(str::trim) {
        let (name, path) = line.split_once(" => ").unwrap_or((line, line));
        let path = path.split(" (").next().unwrap_or_default();
        if path.starts_with('/') {
            found.push(path.to_owned());
        } else if !name.starts_with("linux-vdso") {
            bail!("the library {name} is not on this machine");
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use super::*;

    #[test]
    fn libraries_and_the_loader_are_taken_and_the_kernels_own_is_not() {
        let list = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f)\n\t\
                    /lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            in_list(list).unwrap(),
            ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/ld-linux-x86-64.so.2"]
        );
        let error = in_list("\tlibbpf.so.1 => not found\n").unwrap_err();
        assert_eq!(error.to_string(), "the library libbpf.so.1 is not on this machine");
    }
}
