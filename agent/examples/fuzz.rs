//! Feeds the decoder with what no kernel would send: valid records, damaged. Started by `cargo xtask fuzz`.
//!
//! Every input is a function of the seed and the input's number, whatever the number of threads: the same run finds the same.
#![allow(
    clippy::expect_used,
    reason = "a tool for people who work on the decoder; it stops at what it did not expect"
)]

#[path = "../tests/records/mod.rs"]
mod records;

use std::cell::RefCell;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};

use records::check::{Target, check};
use records::damage::{Dice, Seed, damaged};

/// Valid inputs of each kind that are damaged, and as many recorders.
const VALID: usize = 64;
/// Inputs that a thread takes at a time.
const BLOCK: u64 = 1024;
/// One input in so many is followed up to the JSON that people get, which takes longer than all before it.
const SCREENS: u64 = 64;
/// Different crashes after which a run ends.
const ENOUGH: usize = 8;

/// Feed the decoder with damaged records.
#[derive(Parser)]
struct Arguments {
    /// How many inputs
    #[arg(long, default_value_t = 10_000_000)]
    inputs: u64,
    /// Where the chain of inputs begins
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// End after so many seconds even if inputs are left
    #[arg(long)]
    seconds: Option<u64>,
    /// Inputs to begin with, and where those that crash are kept
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/corpus/decode"))]
    corpus: PathBuf,
    /// Check these files alone
    #[arg(long, value_name = "FILE")]
    replay: Vec<PathBuf>,
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// An input that crashed.
struct Crash {
    number: u64,
    target: Target,
    bytes: Vec<u8>,
    /// Where and why.
    said: String,
}

thread_local! {
    /// What the last panic of this thread said.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !arguments.replay.is_empty() {
        for file in &arguments.replay {
            let target = Target::of_file(file).expect("record-…, recorder-… or address-…");
            check(target, &fs::read(file).expect("a readable file"), true);
            eprintln!("fuzz: {} is taken well", file.display());
        }
        return ExitCode::SUCCESS;
    }
    let seeds = seeds(&arguments.corpus);
    eprintln!("fuzz: {} inputs to begin with, {} to make of them", seeds.len(), arguments.inputs);
    let began = Instant::now();
    let (done, crashes) = run(&arguments, &seeds);
    let seconds = began.elapsed().as_secs_f64();
    for crash in &crashes {
        keep(&arguments.corpus, crash);
    }
    match arguments.output {
        Output::Text => {
            println!("{done} inputs, {} crashes, {seconds:.1} s, seed {}", crashes.len(), arguments.seed)
        }
        Output::Json => {
            let result = serde_json::json!({
                "inputs": done, "crashes": crashes.len(), "seconds": seconds, "seed": arguments.seed,
            });
            println!("{result}");
        }
    }
    if crashes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Valid inputs of every kind and the corpus, always in the same order.
fn seeds(corpus: &Path) -> Vec<Seed> {
    let mut seeds = records::valid(VALID);
    let mut files: Vec<PathBuf> =
        corpus.read_dir().expect("a corpus folder").filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    for file in files {
        let target = Target::of_file(&file).expect("record-…, recorder-… or address-…");
        seeds.push((target, fs::read(&file).expect("a readable file")));
    }
    seeds
}

/// Runs on every processor; gives how many inputs were checked and those that crashed.
fn run(arguments: &Arguments, seeds: &[Seed]) -> (u64, Vec<Crash>) {
    let (next, done, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let crashes = Mutex::new(Vec::new());
    let until = arguments.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let threads = thread::available_parallelism().map_or(2, usize::from);
    // Each is said once, with the file that brings it back.
    panic::set_hook(Box::new(|panic| SAID.replace(panic.to_string()).clear()));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let first = next.fetch_add(BLOCK, Ordering::Relaxed);
                        let last = (first + BLOCK).min(arguments.inputs);
                        if first >= last {
                            return;
                        }
                        for number in first..last {
                            if let Some(crash) = one(arguments.seed, number, seeds) {
                                let mut crashes = crashes.lock().expect("no thread panics with it");
                                if crashes.iter().all(|known: &Crash| known.said != crash.said) {
                                    crashes.push(crash);
                                }
                                stop.fetch_or(crashes.len() >= ENOUGH, Ordering::Relaxed);
                            }
                        }
                        done.fetch_add(last - first, Ordering::Relaxed);
                        if until.is_some_and(|until| Instant::now() >= until) {
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        let mut said = Instant::now();
        while !workers.iter().all(thread::ScopedJoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(50));
            if said.elapsed() >= Duration::from_secs(5) {
                said = Instant::now();
                eprintln!("fuzz: {} of {} inputs", done.load(Ordering::Relaxed), arguments.inputs);
            }
        }
    });
    let _ = panic::take_hook();
    (done.into_inner(), crashes.into_inner().expect("no thread panicked with it"))
}

/// Checks input `number`.
fn one(seed: u64, number: u64, seeds: &[Seed]) -> Option<Crash> {
    let mut dice = Dice::new(seed, number);
    let (target, bytes) = damaged(&mut dice, seeds);
    let checked =
        panic::catch_unwind(AssertUnwindSafe(|| check(target, &bytes, number.is_multiple_of(SCREENS))));
    checked.err().map(|_| Crash { number, target, bytes, said: SAID.take() })
}

/// Keeps an input that crashed in the corpus, and says what it does.
fn keep(corpus: &Path, Crash { number, target, bytes, said }: &Crash) {
    let kept = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    // Trailing zeroes say nothing in a recorder, which is always whole; elsewhere the length is part of the input.
    let bytes = if *target == Target::Recorder { &bytes[..kept] } else { bytes };
    let file = corpus.join(format!("{}-crash-{:08x}", target.name(), crc32fast::hash(bytes)));
    fs::write(&file, bytes).expect("a corpus folder that can be written");
    let file = file.display();
    eprintln!(
        "fuzz: input {number} crashed: {said}\nfuzz: kept as {file}; again with: cargo xtask fuzz --replay {file}"
    );
}
