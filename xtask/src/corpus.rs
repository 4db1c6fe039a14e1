//! `cargo xtask corpus`: deaths of real programs made silent, and what Lastwords says of each against what is true.

mod case;
mod mutations;
mod outcome;
mod scratch;
mod session;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use self::case::Case;
pub(crate) use self::outcome::Outcome;
use self::outcome::Row;
use self::scratch::Scratch;
use self::session::{Judge, Kernel};
use crate::output::Output;
use crate::setup::Setup;
use crate::{process, workspace};

/// Let real programs die and hold the verdicts against what is true.
#[derive(Args)]
pub(crate) struct Corpus {
    /// Only the cases whose name contains this.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Take the cases of this folder instead of tests/corpus/deaths: a set that nobody tuned the rules with.
    #[arg(long, value_name = "FOLDER")]
    cases: Option<PathBuf>,
    /// Run all of it so often; a case whose verdict is not the same each time is told.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Keep every processor busy meanwhile.
    #[arg(long)]
    busy: bool,
    /// Judge the same crashes with each rule, and then the knowledge of noise, switched off: the corpus has to fall.
    #[arg(long)]
    mutations: bool,
    /// Judge the crashes that the last run recorded, without running anything.
    #[arg(long, conflicts_with_all = ["repeat", "busy"])]
    again: bool,
    /// How to print the outcome.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// A case, in its folder, and the report of its death.
struct Death {
    case: Case,
    crash: Value,
}

impl Corpus {
    /// Runs the cases and prints what came of them.
    ///
    /// # Errors
    /// When too few are right, one is wrong at HIGH, or a part that was switched off is not missed.
    pub(crate) fn run(self) -> Result<()> {
        let (outcome, deaths) = self.outcome()?;
        match self.output {
            Output::Text => print!("{}", outcome.text()),
            Output::Json => {
                for skipped in &outcome.skipped {
                    eprintln!("SKIPPED {skipped}");
                }
                println!("{:#}", outcome.json());
            }
        }
        if self.mutations {
            let report = mutations::report(&deaths)?;
            match self.output {
                Output::Text => print!("\n{}", report.text),
                Output::Json => eprint!("{}", report.text),
            }
            if !report.all_missed {
                bail!("not every part that was switched off was missed");
            }
        }
        if !outcome.is_good() {
            bail!("the corpus is not what it has to be");
        }
        Ok(())
    }

    fn outcome(&self) -> Result<(Outcome, Vec<Death>)> {
        let cases = case::cases(self.cases.as_deref(), self.only.as_deref())?;
        let mut judge = Judge::start()?;
        let mut outcome = Outcome::default();
        let mut deaths = Vec::new();
        let _busy = self.busy.then(Busy::start);
        for _ in 0..self.repeat {
            let (run, skipped) = if self.again { recorded(&cases)? } else { die(&cases)? };
            outcome.skipped = skipped;
            for Death { case, crash } in &run {
                let diagnosis = judge.diagnosis(case, crash, None)?;
                outcome.rows.push(Row::new(case, &diagnosis));
            }
            deaths = run;
        }
        Ok((outcome, deaths))
    }
}

/// All cases, once, after bringing their programs.
///
/// # Errors
/// When the agent cannot be started, or a case cannot be prepared.
pub(crate) fn everyday() -> Result<Outcome> {
    Setup::for_corpus().run()?;
    let corpus = Corpus {
        only: None,
        cases: None,
        repeat: 1,
        busy: false,
        mutations: false,
        again: false,
        output: Output::Text,
    };
    let (outcome, _) = corpus.outcome()?;
    print!("{}", outcome.text());
    Ok(outcome)
}

/// Where the crashes of the last run are kept, and what the commands printed.
fn records() -> Result<PathBuf> {
    let folder = workspace::target().join("corpus");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Lets every case die that can here; the others with the reason.
fn die(cases: &[Case]) -> Result<(Vec<Death>, Vec<String>)> {
    let records = records()?;
    let mut kernel = Kernel::watch(&records.join("output.log"))?;
    let (mut deaths, mut skipped) = (Vec::new(), Vec::new());
    let started = Instant::now();
    for case in cases {
        if let Some(missing) = case.needs.iter().find(|program| !is_there(program)) {
            skipped.push(format!(
                "{}: there is no {missing}; `cargo xtask setup --corpus` brings it",
                case.name
            ));
            continue;
        }
        let folder = std::env::temp_dir().join(format!("corpus-{}/{}", std::process::id(), case.name));
        let case = case.within(&folder);
        let began = Instant::now();
        let _scratch = Scratch::make(&case, folder)?;
        let crash = kernel.crash_of(&case)?;
        if began.elapsed().as_secs() >= 5 {
            eprintln!("corpus: {} took {:.1} s", case.name, began.elapsed().as_secs_f32());
        }
        let record = serde_json::json!({ "dir": case_folder(&case), "crash": crash });
        let file = records.join(format!("{}.json", case.name));
        fs::write(&file, format!("{record:#}\n"))
            .with_context(|| format!("cannot write {}", file.display()))?;
        deaths.push(Death { case, crash });
    }
    let _ = fs::remove_dir(std::env::temp_dir().join(format!("corpus-{}", std::process::id())));
    eprintln!("corpus: {} cases in {:.0} s", deaths.len(), started.elapsed().as_secs_f32());
    Ok((deaths, skipped))
}

/// The folder in which a case died.
fn case_folder(case: &Case) -> String {
    std::env::temp_dir().join(format!("corpus-{}/{}", std::process::id(), case.name)).display().to_string()
}

/// The deaths that the last run recorded.
fn recorded(cases: &[Case]) -> Result<(Vec<Death>, Vec<String>)> {
    let records = records()?;
    let (mut deaths, mut skipped) = (Vec::new(), Vec::new());
    for case in cases {
        let Ok(text) = fs::read_to_string(records.join(format!("{}.json", case.name))) else {
            skipped.push(format!("{}: no crash of it was recorded here", case.name));
            continue;
        };
        let mut record: Value = serde_json::from_str(&text).context("cannot read a recorded crash")?;
        let folder = record.get("dir").and_then(Value::as_str).unwrap_or_default();
        let case = case.within(folder.as_ref());
        deaths.push(Death { case, crash: record.get_mut("crash").map(Value::take).unwrap_or_default() });
    }
    Ok((deaths, skipped))
}

/// Whether the machine has this program, by its path or where programs are.
fn is_there(program: &str) -> bool {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let script = "command -v \"$0\" > /dev/null";
    process::answer(Command::new("sh").args(["-c", script, program]).env("PATH", path)).is_some()
}

/// A loop of ours on every processor, until this is dropped.
struct Busy {
    over: Arc<AtomicBool>,
    loops: Vec<thread::JoinHandle<()>>,
}

impl Busy {
    fn start() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let spin = |_| {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        let loops = (0..processors).map(spin).collect();
        Self { over, loops }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for one in self.loops.drain(..) {
            let _ = one.join();
        }
    }
}
