//! `cargo xtask vm`: Debian's kernels in QEMU without KVM, and in each a suite of deaths to explain.

mod boot;
mod initrd;
mod suite;

use std::fs;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use self::boot::{Boot, Part};
use self::initrd::Files;
use self::suite::Case;
use crate::build::Build;
use crate::kernels::{self, Series};
use crate::setup::Setup;
use crate::{table, workspace};

/// How much of a failed program's stderr is shown.
const STDERR_LINES: usize = 6;

/// Boot Debian's kernels in QEMU (no KVM needed) and run a suite of deaths in each.
#[derive(Args)]
pub(crate) struct Vm {
    /// A kernel series: 5.10, 6.1, 6.12 or newest; may be given several times. Default: 6.1 and 6.12.
    #[arg(long = "kernel", value_name = "SERIES")]
    kernels: Vec<String>,
    /// Only the cases whose name contains this.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Take the programs in target/release as they are.
    #[arg(long)]
    no_build: bool,
    /// How to print the outcome.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// What one kernel made of the suite.
pub(crate) struct Outcome {
    /// The series, as `--kernel` takes it.
    pub(crate) series: &'static str,
    /// The exact version of the package, once there was one.
    package: Option<String>,
    /// How the system call probes are attached, as `lastwords-agent check` says.
    way_in: Option<String>,
    /// Each case by name with its fault, if it has one.
    pub(crate) rows: Vec<(String, Option<String>)>,
    /// Why the kernel did not run at all.
    pub(crate) skipped: Option<String>,
}

impl Outcome {
    pub(crate) fn failed(&self) -> usize {
        self.rows.iter().filter(|(_, fault)| fault.is_some()).count()
    }

    fn skipped(series: &'static str, reason: String) -> Self {
        Self { series, package: None, way_in: None, rows: Vec::new(), skipped: Some(reason) }
    }

    fn json(&self) -> Value {
        let rows: Vec<Value> =
            self.rows.iter().map(|(name, fault)| json!({ "case": name, "fault": fault })).collect();
        json!({
            "kernel": self.series,
            "package": self.package,
            "way_in": self.way_in,
            "cases": self.rows.len(),
            "failed": self.failed(),
            "skipped": self.skipped,
            "rows": rows,
        })
    }
}

impl Vm {
    /// Builds, boots and judges.
    pub(crate) fn run(self) -> Result<()> {
        let everyday = || kernels::SERIES.iter().filter(|series| series.everyday).collect();
        let series: Vec<&Series> = if self.kernels.is_empty() {
            everyday()
        } else {
            self.kernels.iter().map(|name| kernels::series(name)).collect::<Result<_>>()?
        };
        let cases = suite::cases(self.only.as_deref())?;
        if !self.no_build {
            Setup::everything().run()?;
            Build::everything().compile()?;
        }
        let outcomes = run(&series, &cases)?;
        match self.output {
            Output::Json => {
                println!("{}", json!({ "kernels": outcomes.iter().map(Outcome::json).collect::<Vec<_>>() }))
            }
            Output::Text => print!("{}", shown(&outcomes, &cases)),
        }
        let failed: usize = outcomes.iter().map(Outcome::failed).sum();
        if failed > 0 {
            bail!(
                "{failed} of {} deaths were not explained as they should be",
                outcomes.iter().map(|o| o.rows.len()).sum::<usize>()
            );
        }
        Ok(())
    }
}

/// Runs the whole suite on the everyday kernels and prints the table, for `cargo xtask test`.
pub(crate) fn everyday() -> Result<Vec<Outcome>> {
    let series: Vec<&Series> = kernels::SERIES.iter().filter(|series| series.everyday).collect();
    let cases = suite::cases(None)?;
    let outcomes = run(&series, &cases)?;
    eprint!("{}", shown(&outcomes, &cases));
    Ok(outcomes)
}

/// Runs the cases on each kernel, as many machines at once as there are processors: each keeps one busy.
fn run(series: &[&'static Series], cases: &[Case]) -> Result<Vec<Outcome>> {
    let files = Files::of_the_suite()?;
    let at_once = thread::available_parallelism().map_or(1, std::num::NonZero::get).min(series.len());
    let waiting = Mutex::new(series.iter().copied().enumerate().collect::<Vec<_>>());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some((place, series)) = waiting.lock().ok().and_then(|mut waiting| waiting.pop()) {
                    let outcome = run_on(series, cases, &files);
                    if let Ok(mut done) = done.lock() {
                        done.push((place, outcome));
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

fn run_on(series: &'static Series, cases: &[Case], files: &Files) -> Result<Outcome> {
    let kernel = match kernels::cached(series)?.map_or_else(|| kernels::fetch(series), Ok) {
        Ok(kernel) => kernel,
        Err(error) => return Ok(Outcome::skipped(series.name, format!("{error:#}"))),
    };
    let folder = workspace::target().join("vm");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let archive = folder.join(format!("{}.cpio", series.name));
    files.write_for(&kernel, &suite::script(cases), &archive)?;
    eprintln!("vm: booting {} ({} cases)", kernel.version, cases.len());

    let name = series.name;
    let Boot { parts, stopped } = boot::boot(&kernel, &archive, cases.len(), |part| {
        let verdict = match cases.iter().find(|case| case.name == part.name).map(|case| judged(case, part)) {
            Some(Some(_)) => "WRONG",
            Some(None) => "right",
            None => "done",
        };
        eprintln!("  {name}: {} {verdict} ({:.1} s)", part.name, part.took.as_secs_f32());
    })?;
    let rows = cases.iter().map(|case| {
        let part = parts.iter().find(|part| part.name == case.name);
        let fault = match (part, &stopped) {
            (Some(part), _) => judged(case, part),
            (None, Some(reason)) => Some(reason.clone()),
            (None, None) => Some("the machine did not run it".to_owned()),
        };
        (case.name.clone(), fault)
    });
    Ok(Outcome {
        series: name,
        rows: rows.collect(),
        way_in: parts.iter().find(|part| part.name == suite::PREFLIGHT).and_then(way_in),
        package: Some(kernel.version),
        skipped: None,
    })
}

fn judged(case: &Case, part: &Part) -> Option<String> {
    let fault = case.fault(part.exit_code, &part.stdout)?;
    let said = crate::process::last_lines(&part.stderr, STDERR_LINES);
    Some(if said.is_empty() { fault } else { format!("{fault}; on stderr:\n{said}") })
}

/// How failed calls are seen: at the end of each system call's own function, or where all of them end.
fn way_in(check: &Part) -> Option<String> {
    let report: Value = serde_json::from_str(check.stdout.trim()).ok()?;
    let active = |probe: &&Value| probe.get("verdict").is_some_and(|verdict| verdict == "active");
    let probes: Vec<&Value> = report.get("probes")?.as_array()?.iter().filter(active).collect();
    let has = |field: &str, value: &str| {
        probes.iter().any(|probe| probe.get(field).is_some_and(|one| one == value))
    };
    if has("way_in", "fexit") {
        return Some("fexit".to_owned());
    }
    has("hook", "sys_exit").then(|| "sys-exit".to_owned())
}

/// A table kernel × case, then every fault in full; a boot that stopped has one fault, not one a case.
fn shown(outcomes: &[Outcome], cases: &[Case]) -> String {
    let heading = |outcome: &Outcome| match (&outcome.package, &outcome.way_in) {
        (Some(package), Some(way_in)) => format!("{package} ({way_in})"),
        (Some(package), None) => package.clone(),
        (None, _) => outcome.series.to_owned(),
    };
    let mut rows =
        vec![std::iter::once("case".to_owned()).chain(outcomes.iter().map(heading)).collect::<Vec<_>>()];
    for (place, case) in cases.iter().enumerate() {
        let verdicts = outcomes.iter().map(|outcome| match outcome.rows.get(place) {
            Some((_, None)) => "right".to_owned(),
            Some((_, Some(_))) => "WRONG".to_owned(),
            None => "skipped".to_owned(),
        });
        rows.push(std::iter::once(case.name.clone()).chain(verdicts).collect());
    }
    let mut text = table::render(&rows);
    for outcome in outcomes {
        if let Some(reason) = &outcome.skipped {
            text.push_str(&format!("SKIPPED kernel {}: {reason}\n", outcome.series));
        }
        let mut told: Vec<&String> = Vec::new();
        for (name, fault) in &outcome.rows {
            if let Some(fault) = fault.as_ref().filter(|fault| !told.contains(fault)) {
                text.push_str(&format!("{} {name}: {fault}\n", outcome.series));
                told.push(fault);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(report: &str) -> Option<String> {
        way_in(&Part { stdout: report.to_owned(), ..Part::default() })
    }

    #[test]
    fn the_way_in_is_that_of_the_probe_that_runs() {
        let sys_exit = r#"{"probes":[{"hook":"sys_exit","verdict":"active","way_in":"tp_btf"}]}"#;
        assert_eq!(way(sys_exit).as_deref(), Some("sys-exit"));
        assert_eq!(way(&sys_exit.replace("tp_btf", "fexit")).as_deref(), Some("fexit"));
        assert_eq!(way(&sys_exit.replace("active", "broken")), None);
        assert_eq!(way("not JSON"), None);
    }

    #[test]
    fn the_table_names_every_fault_and_every_skip() {
        let cases = suite::cases(Some("exit-3")).expect("the case exists");
        let ran = Outcome {
            series: "6.1",
            package: Some("6.1.192-2".to_owned()),
            way_in: Some("sys-exit".to_owned()),
            rows: vec![("exit-3".to_owned(), Some("named nothing".to_owned()))],
            skipped: None,
        };
        assert_eq!(ran.failed(), 1);
        assert_eq!(ran.json()["cases"], 1);
        let text = shown(&[ran, Outcome::skipped("6.12", "no network".to_owned())], &cases);
        for part in
            ["6.1.192-2 (sys-exit)", "WRONG", "6.1 exit-3: named nothing", "SKIPPED kernel 6.12: no network"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
