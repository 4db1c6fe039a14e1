//! The workspace's test programs: compiled by one cargo call, run one after the other.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::outcome::Outcome;
use crate::{process, workspace};

/// A test program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Executable {
    /// The package it tests.
    pub(crate) package: String,
    /// What in the package: a library, a program, a file of `tests/`.
    target: String,
    path: PathBuf,
    /// The package's folder, where cargo runs its tests too.
    folder: PathBuf,
}

/// Compiles every test of the workspace.
///
/// # Errors
/// When one does not compile; cargo has said why.
pub(crate) fn compile() -> Result<Vec<Executable>> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace::root()).args([
        "test",
        "--workspace",
        "--locked",
        "--no-run",
        "--message-format",
        "json-render-diagnostics",
    ]);
    let output = cargo.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the tests do not compile ({})", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(executable_in).collect())
}

/// One of cargo's messages, if it announces a test program.
fn executable_in(message: &str) -> Option<Executable> {
    let message: Value = serde_json::from_str(message).ok()?;
    let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
    if text("/reason")? != "compiler-artifact" || message.pointer("/profile/test")? != &Value::Bool(true) {
        return None;
    }
    let path = PathBuf::from(text("/executable")?);
    let folder = Path::new(text("/manifest_path")?).parent()?.to_owned();
    Some(Executable {
        package: package_in(text("/package_id")?),
        target: text("/target/name")?.to_owned(),
        path,
        folder,
    })
}

/// "path+file:///home/me/lastwords/agent#lastwords-agent@0.1.0"; the name is left out when the folder has it.
fn package_in(id: &str) -> String {
    let (folder, fragment) = id.rsplit_once('#').unwrap_or((id, id));
    match fragment.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => folder.rsplit('/').next().unwrap_or(folder).to_owned(),
    }
}

/// Runs test programs and adds up what they say.
///
/// # Errors
/// When one cannot be started.
pub(crate) fn run<'a>(executables: impl Iterator<Item = &'a Executable>) -> Result<Outcome> {
    let mut total = Outcome::default();
    for executable in executables {
        eprintln!("-- {} ({})", executable.package, executable.target);
        let mut command = Command::new(&executable.path);
        command
            .arg("--show-output")
            .current_dir(&executable.folder)
            .env("CARGO_MANIFEST_DIR", &executable.folder)
            // Where a test failed is in its message; the way there through the runtime is pages long.
            .env("RUST_BACKTRACE", "0")
            .env("LASTWORDS_BIN", workspace::programs())
            .env("LASTWORDS_TOOLS", workspace::cached_programs()?);
        total.add(&run_one(&executable.package, &mut command)?);
    }
    Ok(total)
}

/// Runs the examples in the documentation.
///
/// # Errors
/// When cargo cannot be started.
pub(crate) fn documentation() -> Result<Outcome> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace::root()).args(["test", "--workspace", "--locked", "--quiet", "--doc"]);
    run_one("documentation", &mut cargo)
}

fn run_one(package: &str, command: &mut Command) -> Result<Outcome> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", process::line(command)))?;
    let mut output = String::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = String::from_utf8_lossy(&line.context("cannot read what the tests say")?).into_owned();
            if is_news(&line) {
                eprintln!("{line}");
            }
            output.push_str(&line);
            output.push('\n');
        }
    }
    let status = child.wait().with_context(|| format!("lost `{}`", process::line(command)))?;
    if !status.success() {
        eprintln!("{output}");
    }
    Ok(Outcome::of_output(package, &output, status.success()))
}

/// What is shown at once; the whole output follows when something failed.
fn is_news(line: &str) -> bool {
    line.starts_with("test result: ") || line.starts_with("SKIPPED") || line.ends_with(" ... FAILED")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_program_is_announced() {
        let message = r#"{"reason":"compiler-artifact","package_id":"path+file:///l/tests#lastwords-tests@0.1.0","manifest_path":"/l/tests/Cargo.toml","target":{"kind":["test"],"name":"live"},"profile":{"test":true},"executable":"/l/target/debug/deps/live-1"}"#;
        let executable = executable_in(message).expect("all fields are there");
        assert_eq!((executable.package.as_str(), executable.target.as_str()), ("lastwords-tests", "live"));
        assert_eq!(executable.folder, Path::new("/l/tests"));
    }

    #[test]
    fn libraries_and_programs_that_are_no_tests_are_not() {
        let message = r#"{"reason":"compiler-artifact","package_id":"path+file:///l/cli#lastwords-cli@0.1.0","manifest_path":"/l/cli/Cargo.toml","target":{"name":"lastwords"},"profile":{"test":false},"executable":"/l/target/debug/lastwords"}"#;
        assert_eq!(executable_in(message), None);
        assert_eq!(executable_in("{\"reason\":\"build-finished\"}"), None);
    }

    #[test]
    fn a_package_is_named_by_its_folder_when_they_agree() {
        assert_eq!(package_in("path+file:///l/xtask#0.1.0"), "xtask");
        assert_eq!(package_in("path+file:///l/agent#lastwords-agent@0.1.0"), "lastwords-agent");
    }
}
