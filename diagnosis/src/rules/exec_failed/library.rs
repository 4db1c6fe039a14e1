//! The dynamic loader could not find a shared library: it tried every folder it knows and left with 127.

use crate::case::Case;
use crate::evidence::Failure;
use crate::rules::Finding;
use crate::verdict::{Cause, Confidence, EvidenceRef};
use crate::{errno, noise, words};

/// What the loaders of glibc and musl exit with, as shells do for a missing command.
const LOADER_FAILED: i32 = 127;
/// The loader leaves at once; a slow node may make that this long (milliseconds).
const LOADER_GONE_MS: f64 = 250.0;
/// For sure it was the loader within this (milliseconds), of work.
const LOADER_SURE_MS: f64 = 25.0;
/// A program that came to anything at all has these.
const ALWAYS_THERE: [&str; 6] = ["libc.so", "libc.musl-", "ld-linux", "ld-musl-", "libpthread.so", "libm.so"];
/// The variable that names libraries to be loaded first: the loader does without one that is not there.
const PRELOAD: &str = "LD_PRELOAD";
/// The loader is the first thing that runs; a node that gives the container little time may make that this long (milliseconds).
/// What is looked for later is a plug-in, which its program can do without.
const LOADER_RUNS_MS: f64 = 2_000.0;

pub(in crate::rules) fn library(case: &Case<'_>) -> Option<Finding> {
    if case.exit_code() != Some(LOADER_FAILED) {
        return None;
    }
    let child = case.passed_on().map_or(0, |(_, child)| child.pid);
    let tried: Vec<(usize, &Failure)> = case
        .failures()
        .filter(|(_, failure)| failure.errno == errno::ENOENT && noise::is_library(&failure.path))
        .filter(|(_, failure)| !noise::only_looks(&failure.syscall) && !failure.later_succeeded)
        .filter(|(_, failure)| failure.by_dying_thread || (child != 0 && failure.pid == child))
        .filter(|(_, failure)| failure.at_work_before_death_ms() <= LOADER_GONE_MS)
        .filter(|(_, failure)| !failure.variables.iter().any(|variable| variable == PRELOAD))
        .collect();
    // What it looked for last is what it gave up on: earlier ones were found in another folder.
    let (_, last) = *tried.last()?;
    if last.by_dying_thread && !is_at_the_start(case, last) {
        return None;
    }
    let name = words::base_name(&last.path);
    if ALWAYS_THERE.iter().any(|library| name.starts_with(library)) || came_further(case, last) {
        return None;
    }
    let mut evidence: Vec<EvidenceRef> = tried
        .iter()
        .rev()
        .filter(|(_, failure)| words::base_name(&failure.path) == name)
        .map(|(index, _)| EvidenceRef::Failure(*index))
        .collect();
    let places = evidence.len();
    evidence.push(EvidenceRef::Exit);
    let object = words::one_line(name);
    let plural = if places == 1 { "" } else { "s" };
    Some(Finding {
        cause: Cause::ExecFailed,
        // Found in a later folder it would not have been looked for in the last one.
        confidence: if is_last_folder(&last.path) && last.at_work_before_death_ms() <= LOADER_SURE_MS {
            Confidence::High
        } else {
            Confidence::Medium
        },
        summary: format!(
            "the loader could not find {object} that {} needs: it looked in {places} place{plural} and left with exit code {LOADER_FAILED}",
            program(case, last)
        ),
        remedy: format!(
            "install the package that holds {object} in the image, or copy it into a folder that the loader looks into (/usr/lib, or one that LD_LIBRARY_PATH names); or link the program statically"
        ),
        object,
        evidence,
    })
}

/// Whether the same process failed with something else afterwards: the loader leaves when it does not find a library.
fn came_further(case: &Case<'_>, last: &Failure) -> bool {
    case.failures().any(|(_, failure)| {
        failure.pid == last.pid
            && failure.last_before_death_ms < last.last_before_death_ms
            && !noise::is_library(&failure.path)
    })
}

/// Whether this is in the folder that loaders look into last: glibc's (with its folders for 64 bits on some distributions), musl's.
fn is_last_folder(path: &str) -> bool {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    matches!(folder, "/usr/lib" | "/usr/lib64")
}

/// Whether the loader of the program that was executed last can have made the call.
fn is_at_the_start(case: &Case<'_>, failure: &Failure) -> bool {
    let executed = case.evidence.execs.last().and_then(|exec| case.before_end_ms(exec.time));
    executed.is_none_or(|executed| executed - failure.last_before_death_ms <= LOADER_RUNS_MS)
}

/// The file of the program that needs it, or its name where another process than the main one ran it.
fn program(case: &Case<'_>, failure: &Failure) -> String {
    let own = case.evidence.process.as_ref().filter(|process| process.pid == failure.pid);
    match own.map(|process| process.exe.as_str()) {
        Some(exe) if !exe.is_empty() => words::one_line(exe),
        _ => words::program(&failure.comm),
    }
}
