//! `cargo xtask test`: everything that has to pass, in one run, with a table of what took how long.
//!
//! Nothing is compiled twice without need: the release programs are built once and are what the live tests and the emulated
//! machines run; all tests of the workspace are compiled by one cargo call, so that cargo settles on one set of features, and
//! their programs are then run one by one.

mod executables;
mod outcome;

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use self::executables::Executable;
pub(crate) use self::outcome::Outcome;
use crate::build::Build;
use crate::fuzz::Fuzz;
use crate::setup::Setup;
use crate::{bench, chart, corpus, disk, image, process, table, tidy, vm, workspace};

/// The package whose tests need root, real eBPF and the release programs.
const LIVE_PACKAGE: &str = "lastwords-tests";

/// Bytes below which a run would only stop half way with "No space left on device": a warm one writes about this much.
const LEAST_DISK: u64 = 1 << 30;

/// Reasons that a test may give for skipping itself even where CI=true, each with why CI cannot have it.
const SKIPPED_EVEN_IN_CI: &[(&str, &str)] = &[
    ("fexit", "CI's own kernel refuses tracing programs; the emulated kernels load them"),
    ("golden table", "Debian's kernel may be newer than the last one that was counted and looked at"),
];

/// Run everything that has to pass: format, lints, laws, unit tests, live tests, the kernels in QEMU.
#[derive(Args)]
pub(crate) struct Test {
    /// Leave out the emulated machines.
    #[arg(long)]
    no_vm: bool,
    /// Leave out the tests that need root and real eBPF.
    #[arg(long)]
    no_live: bool,
}

/// A step that has run.
struct Step {
    name: &'static str,
    took: Duration,
    outcome: Outcome,
}

/// The steps so far.
#[derive(Default)]
struct Run {
    steps: Vec<Step>,
}

impl Test {
    /// Runs every step that can run, then says how each went; the count is the last line of all.
    pub(crate) fn run(self) -> ExitCode {
        let mut run = Run::default();
        let started = Instant::now();
        run.step("setup", || {
            // The folder may not be there yet; its disk is the workspace's unless somebody said otherwise.
            let target = workspace::target();
            disk::ask_for(LEAST_DISK, if target.exists() { &target } else { workspace::root() })?;
            as_outcome(Setup::everything().run())
        });
        if run.passed("setup") {
            run.step("build", || as_outcome(Build::with_benchmarks().compile()));
            run.step("format", format);
            run.step("clippy", || as_outcome(process::show(&mut clippy())));
            run.step("tidy", laws);
            run.step("chart", chart::check);
            let executables = run.compile_tests();
            run.step("unit tests", || {
                executables::run(executables.iter().filter(|one| one.package != LIVE_PACKAGE))
            });
            run.step("doc tests", executables::documentation);
            run.step("fuzz", || as_outcome(Fuzz::everyday().run()));
            if !run.passed("build") {
                run.leave_out("images", "the programs were not built");
                run.leave_out("live tests", "the programs were not built");
                run.leave_out("corpus", "the programs were not built");
                run.leave_out("overhead", "the programs were not built");
                run.leave_out("kernels in QEMU", "the programs were not built");
            } else {
                run.step("images", image::trial);
                self.on_kernels(&mut run, &executables);
            }
        }
        run.report(started.elapsed())
    }

    fn on_kernels(&self, run: &mut Run, executables: &[Executable]) {
        if self.no_live {
            run.leave_out("live tests", "--no-live");
            run.leave_out("corpus", "--no-live");
        } else {
            let live = executables.iter().filter(|one| one.package == LIVE_PACKAGE);
            run.step("live tests", || executables::run(live));
            run.step("corpus", || corpus::everyday().map(deaths));
        }
        if self.no_vm {
            run.leave_out("overhead", "--no-vm");
            run.leave_out("kernels in QEMU", "--no-vm");
        } else {
            run.step("overhead", || bench::gate().map(overhead));
            run.step("kernels in QEMU", || vm::everyday().map(|rows| kernels(&rows)));
        }
    }
}

impl Run {
    fn step(&mut self, name: &'static str, action: impl FnOnce() -> Result<Outcome>) {
        let room = disk::free(workspace::root()).map(|bytes| format!(" ({} free)", disk::gib(bytes)));
        eprintln!("\n== {name}{}", room.unwrap_or_default());
        let started = Instant::now();
        let outcome = action().unwrap_or_else(|error| Outcome::failure(format!("{name}: {error:#}")));
        for failure in &outcome.failures {
            eprintln!("FAILED {failure}");
        }
        self.steps.push(Step { name, took: started.elapsed(), outcome });
    }

    fn leave_out(&mut self, name: &'static str, reason: &str) {
        let outcome = Outcome { skipped: vec![format!("{name}: {reason}")], ..Outcome::default() };
        self.steps.push(Step { name, took: Duration::ZERO, outcome });
    }

    fn passed(&self, name: &str) -> bool {
        self.steps.iter().any(|step| step.name == name && step.outcome.failures.is_empty())
    }

    fn compile_tests(&mut self) -> Vec<Executable> {
        let mut found = Vec::new();
        self.step("compile tests", || {
            found = executables::compile()?;
            Ok(Outcome::default())
        });
        found
    }

    fn report(&self, took: Duration) -> ExitCode {
        let mut rows = vec![["step", "seconds", "passed", "failed", "skipped"].map(str::to_owned).to_vec()];
        let mut total = Outcome::default();
        for Step { name, took, outcome } in &self.steps {
            let seconds = format!("{:.1}", took.as_secs_f32());
            let counts = [outcome.passed, outcome.failures.len(), outcome.skipped.len()];
            rows.push(
                [(*name).to_owned(), seconds]
                    .into_iter()
                    .chain(counts.map(|count| count.to_string()))
                    .collect(),
            );
            total.add(outcome);
        }
        println!("\n{}", table::render(&rows));
        for failure in &total.failures {
            println!("FAILED {}", failure.lines().next().unwrap_or_default());
        }
        for skipped in &total.skipped {
            println!("SKIPPED {skipped}");
        }
        let unexcused = if workspace::in_ci() { total.unexcused(SKIPPED_EVEN_IN_CI) } else { 0 };
        if unexcused > 0 {
            println!("CI has to run everything: {unexcused} of the skipped count as failed");
        }
        println!("{:.0} s in all", took.as_secs_f32());
        let (failed, skipped) = (total.failures.len() + unexcused, total.skipped.len() - unexcused);
        println!("{} passed, {failed} failed, {skipped} skipped", total.passed);
        if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

/// A step without tests of its own counts as one.
fn as_outcome(result: Result<()>) -> Result<Outcome> {
    result.map(|()| Outcome { passed: 1, ..Outcome::default() })
}

fn format() -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for manifest in ["Cargo.toml", "agent-ebpf/Cargo.toml"] {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(workspace::root()).args(["fmt", "--check", "--manifest-path", manifest]);
        if manifest == "Cargo.toml" {
            cargo.arg("--all");
        }
        match process::show(&mut cargo) {
            Ok(()) => outcome.passed += 1,
            Err(error) => outcome.failures.push(format!("{error:#}")),
        }
    }
    Ok(outcome)
}

fn clippy() -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace::root()).args([
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]);
    cargo
}

fn laws() -> Result<Outcome> {
    let report = tidy::check()?;
    report.print();
    let mut outcome = Outcome::default();
    for (law, broken) in report.laws {
        match broken {
            0 => outcome.passed += 1,
            _ => outcome.failures.push(format!("tidy: {law} is broken in {broken} places")),
        }
    }
    Ok(outcome)
}

fn overhead(judgement: bench::Judgement) -> Outcome {
    Outcome { passed: judgement.passed, failures: judgement.worse, skipped: judgement.skipped }
}

/// A few may be wrong as long as none is wrong at HIGH; what is wrong has been printed.
fn deaths(outcome: corpus::Outcome) -> Outcome {
    let failure = || {
        format!(
            "corpus: {} of {} right, {} wrong at HIGH",
            outcome.right(),
            outcome.rows.len(),
            outcome.wrong_at_high()
        )
    };
    let failures = if outcome.is_good() { Vec::new() } else { vec![failure()] };
    Outcome { passed: outcome.right(), failures, skipped: outcome.skipped }
}

fn kernels(rows: &[vm::Row]) -> Outcome {
    let mut total = Outcome { failures: vm::too_unsteady(rows).into_iter().collect(), ..Outcome::default() };
    for row in rows {
        let title = format!("kernel {}", row.title());
        for (case, verdict) in &row.cases {
            match verdict {
                vm::Verdict::Right => total.passed += 1,
                vm::Verdict::Unsteady(fault) => {
                    eprintln!("right only when asked again: {title} {case}: {fault}");
                    total.passed += 1;
                }
                vm::Verdict::Wrong(fault) => total.failures.push(format!("{title} {case}: {fault}")),
                // Decided in the data, with its reason: nothing that this machine lacks.
                vm::Verdict::LeftOut(_) => {}
            }
        }
        total.skipped.extend(row.skipped.iter().map(|reason| format!("{title}: {reason}")));
    }
    total
}
