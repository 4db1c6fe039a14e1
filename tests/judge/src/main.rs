//! Diagnoses recorded crashes anew: with a pod given as data, or with a part of the knowledge switched off.
//!
//! Each line of standard input is a request, each line of standard output its answer. `cargo xtask corpus` runs it.

mod pod;

use std::io::{BufRead as _, Write as _};

use anyhow::{Context as _, Result, anyhow};
use lastwords_diagnosis::verdict::Cause;
use lastwords_diagnosis::{Part, diagnose, diagnose_without};
use lastwords_proto::{convert, from_json, to_json, v1};
use serde::Deserialize;
use serde_json::{Value, json};

/// One question.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Comes back with the answer.
    name: String,
    /// A crash as `lastwords-agent try -o json` prints it; its own diagnosis is not looked at.
    crash: Value,
    /// The pod, where the case has one.
    #[serde(default)]
    pod: Option<pod::Pod>,
    /// `noise`, or a cause (`CAUSE_KILLED`) whose rule is switched off.
    #[serde(default)]
    without: Option<String>,
}

fn main() -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        let line = line.context("cannot read a request")?;
        let request: Request = serde_json::from_str(&line).context("this is no request")?;
        let diagnosis = judge(&request).with_context(|| request.name.clone())?;
        writeln!(std::io::stdout(), "{}", json!({ "name": request.name, "diagnosis": diagnosis }))?;
    }
    Ok(())
}

fn judge(request: &Request) -> Result<Value> {
    let crash: v1::Crash = from_json("Crash", &request.crash)?;
    let evidence = convert::crash_to_evidence(&crash);
    let pod = request.pod.as_ref().map(pod::Pod::context);
    let diagnosis = match request.without.as_deref() {
        None => diagnose(&evidence, pod.as_ref()),
        Some(part) => diagnose_without(part_called(part)?, &evidence, pod.as_ref()),
    };
    Ok(to_json("Diagnosis", &convert::diagnosis_to_wire(&diagnosis, 1))?)
}

fn part_called(name: &str) -> Result<Part> {
    if name == "noise" {
        return Ok(Part::Noise);
    }
    let is_called = |cause: &Cause| convert::cause(*cause).as_str_name() == name;
    let cause = Cause::ALL.into_iter().find(is_called).ok_or_else(|| anyhow!("there is no cause {name}"))?;
    Ok(Part::Rule(cause))
}
