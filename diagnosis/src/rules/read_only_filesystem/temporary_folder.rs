//! Where a runtime looks for a folder that it may write temporary files in, and finds none.
//!
//! It makes a file with a name of chance in one folder after the other, the last of them its working directory (python's `tempfile`). That
//! last name says nothing, and a volume mounted there would hide the program: what is missing is a folder for temporary files.

use super::super::{Finding, before_the_end, call_and_exit};
use crate::calls::Call;
use crate::case::Case;
use crate::evidence::Failure;
use crate::verdict::{Cause, EvidenceRef};
use crate::{errno, words};

/// The folder that every such search tries, and that is to be there.
const USUAL: &str = "/tmp";
/// Fewer folders than this are no search.
const FOLDERS: usize = 3;
/// Names of chance are at least this long, and of one length.
const LENGTH: usize = 6;
/// Nothing stands between one try and the next (milliseconds); on a busy node it may have to wait for a processor.
const SEARCH_MS: f64 = 50.0;

/// The call was the last of such a search, and no folder would do. `cause` is what the call alone would tell.
pub(in crate::rules) fn none(case: &Case<'_>, call: &Call<'_>, cause: Cause) -> Option<Finding> {
    let last = call.failure;
    let (_, name) = split(&last.path)?;
    let is_try = |failure: &Failure| {
        let before_ms = failure.last_before_death_ms - last.last_before_death_ms;
        failure.pid == last.pid
            && failure.tid == last.tid
            && failure.syscall == last.syscall
            && refuses(failure.errno)
            && (0.0..=SEARCH_MS).contains(&before_ms)
            && split(&failure.path).is_some_and(|(_, other)| is_by_chance(other, name))
    };
    let tries: Vec<(usize, &Failure)> = case.failures().filter(|(_, failure)| is_try(failure)).collect();
    let mut folders: Vec<&str> = Vec::new();
    for (folder, _) in tries.iter().filter_map(|(_, failure)| split(&failure.path)) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    let mut names: Vec<&str> = tries.iter().map(|(_, failure)| words::base_name(&failure.path)).collect();
    names.sort_unstable();
    names.dedup();
    // One name in several folders is a file that is looked for.
    let is_search = folders.len() >= FOLDERS && names.len() == tries.len() && folders.contains(&USUAL);
    if !is_search || !creates(&last.syscall) {
        return None;
    }
    // What the usual folder lacks is what is to be mended, whatever the last one lacks.
    let at_usual = tries.iter().find(|(_, failure)| split(&failure.path).is_some_and(|(at, _)| at == USUAL));
    let cause = match at_usual.map(|(_, failure)| failure.errno) {
        Some(errno::EROFS) => Cause::ReadOnlyFilesystem,
        Some(errno::EACCES | errno::EPERM) => Cause::PermissionDenied,
        _ => cause,
    };
    let mut evidence = call_and_exit(case, call);
    let others = tries.iter().rev().map(|(index, _)| *index).filter(|index| *index != call.index);
    evidence.extend(others.map(EvidenceRef::Failure));
    Some(Finding {
        cause,
        confidence: call.confidence(),
        summary: format!(
            "{} (uid {}) found no folder that it may write temporary files in: it tried {}, the last time {} {}",
            words::program(&last.comm),
            last.uid,
            words::one_line(&folders.join(", ")),
            words::failed(last),
            before_the_end(case, call)
        ),
        object: USUAL.to_owned(),
        remedy: format!(
            "mount an emptyDir at {USUAL} ({0}.volumeMounts), or let the variable TMPDIR in {0}.env name a folder that it may write",
            case.field()
        ),
        evidence,
    })
}

/// Folder and name.
fn split(path: &str) -> Option<(&str, &str)> {
    path.rsplit_once('/').map(|(folder, name)| (if folder.is_empty() { "/" } else { folder }, name))
}

/// True for a name without an ending, as long as that other one.
fn is_by_chance(name: &str, other: &str) -> bool {
    name.len() >= LENGTH && name.len() == other.len() && !name.contains('.')
}

/// True for the errors with which a folder cannot be written in, or is not there.
fn refuses(number: i32) -> bool {
    matches!(number, errno::EROFS | errno::EACCES | errno::EPERM | errno::ENOENT | errno::ENOTDIR)
}

/// True for calls that make a file or a folder.
fn creates(syscall: &str) -> bool {
    matches!(syscall, "open" | "openat" | "openat2" | "creat" | "mkdir" | "mkdirat")
}
