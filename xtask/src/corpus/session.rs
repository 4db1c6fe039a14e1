//! Programs that answer a line of JSON with a line of JSON: `lastwords-agent try-each` and `judge`.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::case::Case;
use crate::workspace;

/// One such program.
struct Dialogue {
    program: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Dialogue {
    fn start(program: &'static str, arguments: &[&str], errors: Stdio) -> Result<Self> {
        let path = workspace::programs().join(program);
        let mut child = Command::new(&path)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start {}; `cargo xtask build` makes it", path.display()))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let output = BufReader::new(output.context("it has no standard output")?);
        Ok(Self { program, child, input, output })
    }

    fn ask(&mut self, request: &Value) -> Result<Value> {
        let program = self.program;
        let mut input = self.input.as_ref().context("it has no standard input")?;
        writeln!(input, "{request}").with_context(|| format!("{program} has ended"))?;
        let mut line = String::new();
        if self.output.read_line(&mut line).with_context(|| format!("cannot read what {program} says"))? == 0
        {
            bail!("{program} ended instead of answering");
        }
        serde_json::from_str(&line).with_context(|| format!("{program} answered {line}"))
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        // The end of its input is the end of its work.
        self.input = None;
        let _ = self.child.wait();
    }
}

/// The probes, loaded once for any number of cases.
pub(crate) struct Kernel(Dialogue);

impl Kernel {
    /// Loads them. What the commands print goes to the file `output`.
    ///
    /// # Errors
    /// When the agent cannot be started.
    pub(crate) fn watch(output: &Path) -> Result<Self> {
        let output = File::create(output).with_context(|| format!("cannot make {}", output.display()))?;
        Dialogue::start("lastwords-agent", &["try-each"], output.into()).map(Self)
    }

    /// Runs a case's command and gives the report of its death.
    ///
    /// # Errors
    /// When the agent ended, or could not try the command.
    pub(crate) fn crash_of(&mut self, case: &Case) -> Result<Value> {
        let request = json!({ "name": case.name, "arguments": case.arguments() });
        let mut answer = self.0.ask(&request)?;
        if let Some(problem) = answer.get("problem").and_then(Value::as_str) {
            bail!("{}: {problem}", case.name);
        }
        Ok(answer.get_mut("crash").map(Value::take).unwrap_or_default())
    }
}

/// What diagnoses recorded crashes anew.
pub(crate) struct Judge(Dialogue);

impl Judge {
    /// Starts it.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn start() -> Result<Self> {
        Dialogue::start("judge", &[], Stdio::inherit()).map(Self)
    }

    /// The diagnosis of a crash, with the case's pod; without the part of this name where one is given.
    ///
    /// # Errors
    /// When the crash cannot be read, or there is no such part.
    pub(crate) fn diagnosis(&mut self, case: &Case, crash: &Value, without: Option<&str>) -> Result<Value> {
        let request = json!({ "name": case.name, "crash": crash, "pod": case.pod, "without": without });
        let mut answer = self.0.ask(&request)?;
        Ok(answer.get_mut("diagnosis").map(Value::take).unwrap_or_default())
    }
}
