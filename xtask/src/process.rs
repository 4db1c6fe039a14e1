//! Running other programs: silent ones with a sign of life, talkative ones as they are.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a silent program may run before a line says that it still does.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// How much of a failed program's output is shown; the reason is nearly always at the end.
const LINES_SHOWN_ON_FAILURE: usize = 20;

/// Runs a program that speaks for itself; its output is shown as it comes.
///
/// # Errors
/// When it cannot be started or does not end with exit code 0.
pub(crate) fn show(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| cannot_start(command))?;
    if !status.success() {
        bail!("`{}` failed ({status})", line(command));
    }
    Ok(())
}

/// Runs a program whose output matters only when it fails, and says every ten seconds that `doing` goes on.
///
/// # Errors
/// When it cannot be started or does not end with exit code 0; the last lines it wrote are part of the error.
pub(crate) fn quiet(doing: &str, command: &mut Command) -> Result<String> {
    let (mut reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    let errors = writer.try_clone().context("cannot make a pipe")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(errors)
        .spawn()
        .with_context(|| cannot_start(command))?;
    // The command keeps its copies of the pipe's writing end; the reader sees the end only once they are gone.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let (done, finished) = mpsc::channel();
    let collector = thread::spawn(move || {
        let mut output = Vec::new();
        let read = reader.read_to_end(&mut output);
        // The receiver outlives this thread: it waits for exactly this message.
        let _ = done.send(());
        read.map(|_| output)
    });
    let started = Instant::now();
    while finished.recv_timeout(SIGN_OF_LIFE) == Err(RecvTimeoutError::Timeout) {
        eprintln!("      … {doing} ({} s)", started.elapsed().as_secs());
    }
    let status = child.wait().with_context(|| format!("lost `{}`", line(command)))?;
    let output = match collector.join() {
        Ok(read) => read.with_context(|| format!("cannot read what `{}` says", line(command)))?,
        Err(_) => bail!("cannot read what `{}` says", line(command)),
    };
    let output = String::from_utf8_lossy(&output).into_owned();
    if !status.success() {
        bail!(
            "`{}` failed ({status}); it said:\n{}",
            line(command),
            last_lines(&output, LINES_SHOWN_ON_FAILURE)
        );
    }
    Ok(output)
}

/// Runs a short program and returns what it wrote to stdout, or nothing when it is not there or fails.
pub(crate) fn answer(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A command as a person would type it.
pub(crate) fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy().into_owned()));
    words.join(" ")
}

/// The end of a longer output, each line indented.
pub(crate) fn last_lines(output: &str, count: usize) -> String {
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    let first = lines.len().saturating_sub(count);
    lines.iter().skip(first).map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

fn cannot_start(command: &Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    format!("cannot start {program}; `cargo xtask setup` installs what is needed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_the_end_of_the_output() {
        let error = quiet("failing", Command::new("sh").args(["-c", "echo first; echo last >&2; exit 3"]));
        let error = format!("{:#}", error.expect_err("exit 3 is a failure"));
        assert!(error.contains("exit status: 3") && error.contains("last"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = show(&mut Command::new("/no/such/program")).expect_err("there is no such program");
        assert!(format!("{error:#}").contains("/no/such/program"));
        assert_eq!(answer(&mut Command::new("/no/such/program")), None);
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        assert_eq!(last_lines("a\n\nb\nc\n", 2), "    b\n    c");
    }
}
