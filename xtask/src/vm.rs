//! `cargo xtask vm`: Debian's kernels in QEMU without KVM, and in each a suite of deaths to explain by each way into the kernel.

mod boot;
mod initrd;
mod outcome;
mod pattern;
mod suite;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::json;

use self::boot::Boot;
use self::initrd::Files;
pub(crate) use self::outcome::{Row, Verdict};
use self::suite::{Case, Requests};
use crate::build::Build;
use crate::kernels::{self, Series};
use crate::setup::Setup;
use crate::workspace;

/// What `--kernel` calls this machine's own.
const HOST: &str = "host";

/// The case that the kernels which are not run every day have to get right every day all the same.
const SMOKE: &str = "permission-denied";

/// Boot Debian's kernels in QEMU (no KVM needed) and run a suite of deaths in each.
#[derive(Args)]
pub(crate) struct Vm {
    /// A kernel series: 5.10, 6.1, 6.12 or newest, or `host` for this machine's own; may be given several times. Default: the
    /// four series.
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

/// What runs the suite.
#[derive(Clone, Copy)]
enum Machine {
    Emulated(&'static Series),
    Host,
}

impl Machine {
    fn named(name: &str) -> Result<Self> {
        if name == HOST { Ok(Self::Host) } else { kernels::series(name).map(Self::Emulated) }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Emulated(series) => series.name,
            Self::Host => HOST,
        }
    }
}

impl Vm {
    /// Builds, boots and judges.
    pub(crate) fn run(self) -> Result<()> {
        let whole = self.kernels.is_empty();
        let machines: Vec<Machine> = if whole {
            kernels::SERIES.iter().map(Machine::Emulated).collect()
        } else {
            self.kernels.iter().map(|name| Machine::named(name)).collect::<Result<_>>()?
        };
        let cases = suite::cases(self.only.as_deref())?;
        if !self.no_build {
            Setup::everything().run()?;
            Build::everything().compile()?;
        }
        let asked: Vec<(Machine, &[Case])> =
            machines.iter().map(|machine| (*machine, cases.as_slice())).collect();
        let rows = run(&asked)?;
        match self.output {
            Output::Json => {
                println!("{}", json!({ "kernels": rows.iter().map(Row::json).collect::<Vec<_>>() }))
            }
            Output::Text => print!("{}", outcome::shown(&rows)),
        }
        judge(&rows, whole)
    }
}

/// Whether it is what it should be. A whole run has to have run on every kernel, by one way in at least.
fn judge(rows: &[Row], whole: bool) -> Result<()> {
    let failed: usize = rows.iter().map(Row::failed).sum();
    if failed > 0 {
        let ran: usize = rows.iter().map(Row::ran).sum();
        bail!("{failed} of {ran} deaths were not explained as they should be");
    }
    let ran = |kernel: &str| rows.iter().any(|row| row.kernel == kernel && row.ran() > 0);
    let missing: Vec<&str> =
        kernels::SERIES.iter().map(|series| series.name).filter(|name| !ran(name)).collect();
    if whole && !missing.is_empty() {
        bail!("a whole run has every kernel; nothing ran on {}", missing.join(", "));
    }
    if rows.iter().all(|row| row.ran() == 0) {
        bail!("nothing ran");
    }
    Ok(())
}

/// The whole suite on the everyday kernels and on this machine's own, one case on the others, for `cargo xtask test`.
pub(crate) fn everyday() -> Result<Vec<Row>> {
    let all = suite::cases(None)?;
    let smoke: Vec<Case> = all.iter().filter(|case| case.name == SMOKE).cloned().collect();
    let cases = |series: &Series| if series.everyday { all.as_slice() } else { smoke.as_slice() };
    let mut asked: Vec<(Machine, &[Case])> =
        kernels::SERIES.iter().map(|series| (Machine::Emulated(series), cases(series))).collect();
    asked.push((Machine::Host, all.as_slice()));
    let rows = run(&asked)?;
    eprint!("{}", outcome::shown(&rows));
    Ok(rows)
}

/// Runs the cases on each machine, as many at once as there are processors: each keeps one busy. This machine's own kernel comes
/// last and alone: a crash report waits a fixed time for what has to be looked at.
fn run(asked: &[(Machine, &[Case])]) -> Result<Vec<Row>> {
    let files = Files::of_the_suite()?;
    let emulated: Vec<_> = asked
        .iter()
        .enumerate()
        .filter(|(_, (machine, _))| matches!(machine, Machine::Emulated(_)))
        .collect();
    let at_once = thread::available_parallelism().map_or(1, std::num::NonZero::get).min(emulated.len());
    let waiting = Mutex::new(emulated);
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some((place, (machine, cases))) =
                    waiting.lock().ok().and_then(|mut waiting| waiting.pop())
                {
                    let rows = run_on(*machine, cases, &files);
                    if let Ok(mut done) = done.lock() {
                        done.push((place, rows));
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    for (place, (machine, cases)) in asked.iter().enumerate() {
        if matches!(machine, Machine::Host) {
            done.push((place, run_on(*machine, cases, &files)));
        }
    }
    done.sort_by_key(|(place, _)| *place);
    let rows: Vec<Vec<Row>> = done.into_iter().map(|(_, rows)| rows).collect::<Result<_>>()?;
    Ok(rows.into_iter().flatten().collect())
}

fn run_on(machine: Machine, cases: &[Case], files: &Files) -> Result<Vec<Row>> {
    let name = machine.name();
    let folder = workspace::target().join("vm");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let archive = folder.join(format!("{name}.cpio"));
    let mut own = Files::default();
    own.add_suite(&Requests::new(cases, name));
    let each = |part: &str, line: &str| {
        let Some((case, answer)) = outcome::answer(line) else { return };
        let judged = cases.iter().find(|one| one.name == case).map(|one| one.fault(&answer));
        let verdict = if judged == Some(None) { "right" } else { "WRONG" };
        let milliseconds = answer.get("milliseconds").and_then(serde_json::Value::as_u64).unwrap_or_default();
        eprintln!("  {name} {part}: {case} {verdict} ({milliseconds} ms)");
    };
    let (package, Boot { parts, stopped }) = match machine {
        Machine::Emulated(series) => {
            let kernel = match kernels::cached(series)?.map_or_else(|| kernels::fetch(series), Ok) {
                Ok(kernel) => kernel,
                Err(error) => return Ok(not_to_be_had(name, &format!("{error:#}"))),
            };
            own.add_boot(&kernel)?;
            files.write_with(&own, &archive)?;
            eprintln!("vm: booting {} ({} cases)", kernel.version, cases.len());
            let boot = boot::boot(&kernel, &archive, cases.len(), each)?;
            (kernel.version, boot)
        }
        Machine::Host => {
            files.write_with(&own, &archive)?;
            eprintln!("vm: this machine's own kernel ({} cases)", cases.len());
            (release()?, on_host(&folder, &archive, cases.len(), each)?)
        }
    };
    Ok(outcome::rows(name, &package, cases, &parts, stopped.as_deref()))
}

fn not_to_be_had(kernel: &str, reason: &str) -> Vec<Row> {
    suite::ROWS.iter().map(|way_in| Row::skipped(kernel, "", way_in, reason.to_owned())).collect()
}

fn release() -> Result<String> {
    let release =
        fs::read_to_string("/proc/sys/kernel/osrelease").context("cannot read the kernel's release")?;
    Ok(release.trim().to_owned())
}

/// The same archive as an emulated machine's, unpacked into a root of its own.
fn on_host(folder: &Path, archive: &Path, cases: usize, each: impl FnMut(&str, &str)) -> Result<Boot> {
    let root = folder.join("host-root");
    fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
    let limit = boot::limit(cases);
    let mut command = Command::new("timeout");
    command
        .args(["--foreground", "--kill-after=5", &limit.as_secs().to_string()])
        .args(["unshare", "--mount", "--net", "sh", "-c", include_str!("vm/host.sh"), "host.sh"])
        .arg(&root)
        .arg(archive);
    boot::listen(&mut command, "this machine", limit, each).context("cannot run unshare")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kernel: &str, verdict: Verdict) -> Row {
        let cases = vec![("a".to_owned(), verdict)];
        Row { cases, skipped: None, ..Row::skipped(kernel, "1", "sys-exit", String::new()) }
    }

    #[test]
    fn a_whole_run_has_every_kernel() {
        let three = ["5.10", "6.1", "6.12"].map(|kernel| row(kernel, Verdict::Right));
        assert!(judge(&three, false).is_ok());
        let error = judge(&three, true).map_err(|error| error.to_string());
        assert!(error.as_ref().is_err_and(|error| error.contains("newest")), "{error:?}");
    }

    #[test]
    fn a_wrong_case_fails_the_run_and_so_does_running_none() {
        assert!(judge(&[row("6.1", Verdict::Wrong("x".to_owned()))], false).is_err());
        assert!(judge(&[row("6.1", Verdict::LeftOut("x".to_owned()))], false).is_err());
        assert!(judge(&not_to_be_had("6.1", "no network"), false).is_err());
    }

    #[test]
    fn the_smoke_case_exists() {
        let cases = suite::cases(Some(SMOKE)).expect("there is one");
        assert!(cases.iter().any(|case| case.name == SMOKE));
    }
}
