//! `cargo xtask vm`: Debian's kernels in QEMU without KVM, and in each a suite of deaths to explain by each way into the kernel.

pub(crate) mod boot;
mod guests;
pub(crate) mod initrd;
mod machine_code;
mod outcome;
pub(crate) mod pattern;
mod suite;
mod verifier;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;

use self::boot::Boot;
use self::initrd::Files;
pub(crate) use self::outcome::{Row, Verdict};
use self::suite::{Case, Requests};
use crate::architecture::Architecture;
use crate::build::Build;
use crate::kernels::{self, Series};
use crate::output::Output;
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
    /// four series, for aarch64 6.1 and 6.12.
    #[arg(long = "kernel", value_name = "SERIES")]
    kernels: Vec<String>,
    /// What the emulated processors are; may be given several times.
    #[arg(long = "arch", value_enum, value_name = "ARCHITECTURE", default_value = "x86_64")]
    architectures: Vec<Architecture>,
    /// Only this way in: `fexit` or `sys-exit`. Default: both.
    #[arg(long, value_name = "WAY", value_parser = clap::builder::PossibleValuesParser::new(suite::ROWS))]
    way_in: Option<String>,
    /// Only the cases whose name contains this.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Take the programs in target/release and target/aarch64 as they are.
    #[arg(long)]
    no_build: bool,
    /// Take the verifier's instruction counts of this run for the right ones (xtask/src/vm/verifier.json).
    #[arg(long)]
    update_goldens: bool,
    /// How to print the outcome.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// How many wrong cases of a machine are asked again. An emulated processor stands still in the middle of a death whenever its host
/// has other things to do, and some hundred deaths were one by luck; more than these are none.
const ASKED_AGAIN: usize = 4;

/// How many cases of a whole run may be right only when asked again.
const UNSTEADY: usize = 4;

/// What is asked of one machine.
#[derive(Clone, Copy)]
struct Asked<'a> {
    machine: Machine,
    cases: &'a [Case],
    ways_in: &'a [&'static str],
}

/// What runs the suite.
#[derive(Clone, Copy)]
enum Machine {
    Emulated(&'static Series, Architecture),
    Host,
}

impl Machine {
    fn named(name: &str, architecture: Architecture) -> Result<Self> {
        match name {
            HOST => Ok(Self::Host),
            name => kernels::series(name).map(|series| Self::Emulated(series, architecture)),
        }
    }

    /// What a whole run has on an architecture.
    fn whole(architecture: Architecture) -> impl Iterator<Item = Self> {
        let all = architecture == Architecture::X86;
        let series = kernels::SERIES.iter().filter(move |series| all || series.everyday);
        series.map(move |series| Self::Emulated(series, architecture))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Emulated(series, _) => series.name,
            Self::Host => HOST,
        }
    }

    fn architecture(self) -> &'static str {
        match self {
            Self::Emulated(_, architecture) => architecture.name(),
            Self::Host => std::env::consts::ARCH,
        }
    }

    /// Whose programs it runs.
    fn programs(self) -> Architecture {
        match self {
            Self::Emulated(_, architecture) => architecture,
            Self::Host => Architecture::X86,
        }
    }
}

impl Vm {
    /// Builds, boots and judges.
    pub(crate) fn run(self) -> Result<()> {
        let whole = self.kernels.is_empty();
        let mut machines: Vec<Machine> = Vec::new();
        for &architecture in &self.architectures {
            match whole {
                true => machines.extend(Machine::whole(architecture)),
                false => {
                    for name in &self.kernels {
                        machines.push(Machine::named(name, architecture)?);
                    }
                }
            }
        }
        let cases = suite::cases(self.only.as_deref())?;
        if !self.no_build {
            Setup::everything().run()?;
            for &architecture in &self.architectures {
                Setup::for_architecture(architecture).map_or(Ok(()), Setup::run)?;
                Build::for_architecture(architecture).compile()?;
            }
        }
        let wanted = |way_in: &&&'static str| self.way_in.as_ref().is_none_or(|wanted| wanted == **way_in);
        let ways_in: Vec<&'static str> = suite::ROWS.iter().filter(wanted).copied().collect();
        let ask = |machine: &Machine| Asked { machine: *machine, cases: &cases, ways_in: &ways_in };
        let asked: Vec<Asked<'_>> = machines.iter().map(ask).collect();
        let mut rows = run(&asked)?;
        if self.update_goldens {
            verifier::update(&rows)?;
        }
        verifier::judge(&mut rows)?;
        match self.output {
            Output::Json => {
                println!("{}", json!({ "kernels": rows.iter().map(Row::json).collect::<Vec<_>>() }))
            }
            Output::Text => print!("{}", outcome::shown(&rows)),
        }
        judge(&rows, if whole { &machines } else { &[] })
    }
}

/// Whether it is what it should be. Something has to have run on each of `wanted`, by one way in at least.
fn judge(rows: &[Row], wanted: &[Machine]) -> Result<()> {
    let failed: usize = rows.iter().map(Row::failed).sum();
    if failed > 0 {
        let ran: usize = rows.iter().map(Row::ran).sum();
        bail!("{failed} of {ran} deaths were not explained as they should be");
    }
    if let Some(complaint) = too_unsteady(rows) {
        bail!("{complaint}");
    }
    let ran = |machine: &Machine| {
        rows.iter().any(|row| {
            row.kernel == machine.name() && row.architecture == machine.architecture() && row.ran() > 0
        })
    };
    let missing: Vec<String> = wanted
        .iter()
        .filter(|machine| !ran(machine))
        .map(|machine| format!("{} {}", machine.name(), machine.architecture()))
        .collect();
    if !missing.is_empty() {
        bail!("a whole run has every kernel; nothing ran on {}", missing.join(", "));
    }
    if rows.iter().all(|row| row.ran() == 0) {
        bail!("nothing ran");
    }
    Ok(())
}

/// What there is to say of a run in which too much was right only when asked again.
pub(crate) fn too_unsteady(rows: &[Row]) -> Option<String> {
    let unsteady: usize = rows.iter().map(Row::unsteady).sum();
    let complaint = || {
        format!("{unsteady} deaths were explained as they should be only when asked again; {UNSTEADY} may be")
    };
    (unsteady > UNSTEADY).then(complaint)
}

/// The whole suite on the everyday kernels and on this machine's own, one case on the others, for `cargo xtask test`.
pub(crate) fn everyday() -> Result<Vec<Row>> {
    let all = suite::cases(None)?;
    let smoke: Vec<Case> = all.iter().filter(|case| case.name == SMOKE).cloned().collect();
    let cases = |series: &Series| if series.everyday { all.as_slice() } else { smoke.as_slice() };
    let ask = |machine, cases| Asked { machine, cases, ways_in: suite::ROWS };
    let mut asked: Vec<Asked<'_>> = kernels::SERIES
        .iter()
        .map(|series| ask(Machine::Emulated(series, Architecture::X86), cases(series)))
        .collect();
    asked.push(ask(Machine::Host, &all));
    let mut rows = run(&asked)?;
    verifier::judge(&mut rows)?;
    eprint!("{}", outcome::shown(&rows));
    Ok(rows)
}

/// Runs the cases on each machine, as many at once as there are processors: each keeps one busy. This machine's own kernel comes
/// last and alone: a crash report waits a fixed time for what has to be looked at.
fn run(asked: &[Asked<'_>]) -> Result<Vec<Row>> {
    let mut files: Vec<(Architecture, Files)> = Vec::new();
    for architecture in asked.iter().map(|asked| asked.machine.programs()) {
        if files.iter().all(|(there, _)| *there != architecture) {
            files.push((architecture, Files::of_the_suite(architecture)?));
        }
    }
    let run_on = |asked: &Asked<'_>| match files.iter().find(|(of, _)| *of == asked.machine.programs()) {
        Some((_, files)) => run_steadily(asked, files),
        None => bail!("no programs for {}", asked.machine.architecture()),
    };
    let emulated: Vec<_> = asked
        .iter()
        .enumerate()
        .filter(|(_, asked)| matches!(asked.machine, Machine::Emulated(..)))
        .collect();
    let at_once = thread::available_parallelism().map_or(1, std::num::NonZero::get).min(emulated.len());
    let waiting = Mutex::new(emulated);
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some((place, asked)) = waiting.lock().ok().and_then(|mut waiting| waiting.pop()) {
                    let rows = run_on(asked);
                    if let Ok(mut done) = done.lock() {
                        done.push((place, rows));
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    for (place, asked) in asked.iter().enumerate() {
        if matches!(asked.machine, Machine::Host) {
            done.push((place, run_on(asked)));
        }
    }
    done.sort_by_key(|(place, _)| *place);
    let rows: Vec<Vec<Row>> = done.into_iter().map(|(_, rows)| rows).collect::<Result<_>>()?;
    Ok(rows.into_iter().flatten().collect())
}

/// As [`run_on`], and a few wrong cases once more, so that what luck did is told from what is wrong.
fn run_steadily(asked: &Asked<'_>, files: &Files) -> Result<Vec<Row>> {
    let mut rows = run_on(asked, files)?;
    let wrong = |case: &&Case| rows.iter().flat_map(Row::wrong).any(|name| name == case.name);
    let mut wrong: Vec<Case> = asked.cases.iter().filter(wrong).cloned().collect();
    if wrong.is_empty() && rows.iter().flat_map(Row::wrong).any(|name| name == outcome::CHECK) {
        wrong.extend(asked.cases.first().cloned());
    }
    if !wrong.is_empty() && wrong.len() <= ASKED_AGAIN {
        for again in run_on(&Asked { cases: &wrong, ..*asked }, files)? {
            rows.iter_mut().filter(|row| row.way_in == again.way_in).for_each(|row| row.settle(&again));
        }
    }
    Ok(rows)
}

fn run_on(asked: &Asked<'_>, files: &Files) -> Result<Vec<Row>> {
    let Asked { machine, cases, ways_in } = *asked;
    let (name, architecture) = (machine.name(), machine.architecture());
    let folder = workspace::target().join("vm");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let archive = folder.join(format!("{name}-{architecture}.cpio"));
    let mut own = Files::default();
    own.add_suite(&Requests::new(cases, ways_in, &[name, architecture])?);
    let each = |part: &str, line: &str| {
        let Some((case, answer)) = outcome::answer(line) else { return };
        let judged = cases.iter().find(|one| one.name == case).map(|one| one.fault(&answer));
        let verdict = if judged == Some(None) { "right" } else { "WRONG" };
        let milliseconds = answer.get("milliseconds").and_then(serde_json::Value::as_u64).unwrap_or_default();
        eprintln!("  {name} {architecture} {part}: {case} {verdict} ({milliseconds} ms)");
    };
    let (package, Boot { parts, stopped }) = match machine {
        Machine::Emulated(series, architecture) => {
            let cached = kernels::cached(series, architecture)?;
            let kernel = match cached.map_or_else(|| kernels::fetch(series, architecture), Ok) {
                Ok(kernel) => kernel,
                Err(error) => return Ok(not_to_be_had(asked, &format!("{error:#}"))),
            };
            own.add_boot(&kernel)?;
            files.write_with(&own, &archive)?;
            eprintln!("vm: booting {} {} ({} cases)", kernel.version, architecture.name(), cases.len());
            let boot = boot::boot(&kernel, &archive, cases.len(), each)?;
            (kernel.version, boot)
        }
        Machine::Host => {
            files.write_with(&own, &archive)?;
            eprintln!("vm: this machine's own kernel ({} cases)", cases.len());
            (release()?, on_host(&folder, &archive, cases.len(), each)?)
        }
    };
    let mut rows = outcome::rows((name, architecture), &package, cases, &parts, stopped.as_deref());
    rows.retain(|row| ways_in.contains(&row.way_in));
    Ok(rows)
}

fn not_to_be_had(asked: &Asked<'_>, reason: &str) -> Vec<Row> {
    let place = (asked.machine.name(), asked.machine.architecture());
    asked.ways_in.iter().map(|way_in| Row::skipped(place, "", way_in, reason.to_owned())).collect()
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

    fn row(kernel: &'static str, verdict: Verdict) -> Row {
        let cases = vec![("a".to_owned(), verdict)];
        Row { cases, skipped: None, ..Row::skipped((kernel, "x86_64"), "1", "sys-exit", String::new()) }
    }

    #[test]
    fn a_whole_run_has_every_kernel() {
        let three = ["5.10", "6.1", "6.12"].map(|kernel| row(kernel, Verdict::Right));
        assert!(judge(&three, &[]).is_ok());
        let whole: Vec<Machine> = Machine::whole(Architecture::X86).collect();
        let error = judge(&three, &whole).map_err(|error| error.to_string());
        assert!(error.as_ref().is_err_and(|error| error.ends_with("on newest x86_64")), "{error:?}");
        let arm: Vec<Machine> = Machine::whole(Architecture::Arm64).collect();
        let error = judge(&three, &arm).map_err(|error| error.to_string());
        assert!(error.as_ref().is_err_and(|error| error.ends_with("6.1 aarch64, 6.12 aarch64")), "{error:?}");
    }

    #[test]
    fn a_wrong_case_fails_the_run_and_so_does_running_none() {
        assert!(judge(&[row("6.1", Verdict::Wrong("x".to_owned()))], &[]).is_err());
        assert!(judge(&[row("6.1", Verdict::LeftOut("x".to_owned()))], &[]).is_err());
        let unsteady = vec![row("6.1", Verdict::Unsteady("x".to_owned())); UNSTEADY + 1];
        assert!(judge(&unsteady, &[]).is_err());
        assert!(judge(&unsteady[1..], &[]).is_ok());
        let machine = Machine::named("6.1", Architecture::X86).expect("it is known");
        let asked = Asked { machine, cases: &[], ways_in: suite::ROWS };
        assert!(judge(&not_to_be_had(&asked, "no network"), &[]).is_err());
    }

    #[test]
    fn the_smoke_case_exists() {
        let cases = suite::cases(Some(SMOKE)).expect("there is one");
        assert!(cases.iter().any(|case| case.name == SMOKE));
    }
}
