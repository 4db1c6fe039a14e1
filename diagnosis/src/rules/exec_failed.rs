//! A program could not be started: it is missing, its interpreter or a library is, it is not executable, or it is of another format.

mod library;
mod never_started;
mod why;

pub(super) use library::library;
pub(super) use never_started::never_started;
use why::{reason, remedy, starter};

use super::{Finding, before_the_end, call_and_exit};
use crate::calls::{Call, Caller};
use crate::case::Case;
use crate::evidence::Failure;
use crate::verdict::{Cause, Confidence, EvidenceRef};
use crate::{errno, noise, words};

/// What shells exit with for a command that is not executable, and for one that they do not find.
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;
/// A search that failed with another code went through at least so many folders, and was the last that was done.
const WHOLE_PATH: usize = 4;
/// Within this (milliseconds) a program only says so and leaves.
const LEAVES_MS: f64 = 5.0;
/// A child that could not execute its program ends within this (milliseconds).
const CHILD_GONE_MS: f64 = 100.0;

/// A program that was already running could not execute another one.
pub(super) fn call(case: &Case<'_>, call: &Call<'_>) -> Option<Finding> {
    let failure = call.failure;
    if !noise::executes(&failure.syscall) {
        return None;
    }
    let object = searched_name(case, failure);
    let agrees = matches!(case.exit_code(), Some(NOT_EXECUTABLE | NOT_FOUND));
    // A child that exists only to execute something and ends when that fails.
    let child_ended = call.weight.caller == Caller::ChildJustBefore && call.gap_ms <= CHILD_GONE_MS;
    let confidence = match (agrees && call.by_dying(), child_ended) {
        (true, _) if call.may_be_tolerated => Confidence::Medium,
        (true, _) => Confidence::High,
        (false, true) => Confidence::Medium.max(call.confidence()),
        (false, false) => call.confidence(),
    };
    Some(Finding {
        cause: Cause::ExecFailed,
        confidence,
        summary: format!(
            "{} could not start {object}: {} {}",
            words::program(&failure.comm),
            reason(failure),
            before_the_end(case, call)
        ),
        remedy: remedy(case, failure, &object),
        object,
        evidence: call_and_exit(case, call),
    })
}

/// A shell looked for a command in every folder of PATH by asking for it, found it nowhere and left with 127. Others (make) leave with a
/// code of their own, and at once.
pub(super) fn command_not_found(case: &Case<'_>) -> Option<Finding> {
    let code = case.exit_code().filter(|code| *code != 0)?;
    let looks = || {
        case.failures().filter(|(_, failure)| {
            failure.errno == errno::ENOENT && noise::only_looks(&failure.syscall) && !failure.later_succeeded
        })
    };
    let places = |name: &str| looks().filter(|(_, failure)| words::base_name(&failure.path) == name).count();
    let (_, last) = looks()
        .filter(|(_, failure)| {
            // A pipeline's command is looked for by a child, which leaves with that code too; so does the shell of a program that
            // then leaves with a code of its own.
            let child = case.ended_just_before(failure.pid).is_some_and(|child| {
                child.code == NOT_FOUND && (code == NOT_FOUND || child.before_death_ms <= CHILD_GONE_MS)
            });
            failure.by_dying_thread || failure.pid == case.main_pid() || child
        })
        .rfind(|(_, failure)| {
            let name = words::base_name(&failure.path);
            noise::in_a_program_folder(&failure.path) && places(name) >= 2 && !case.ran(name)
        })?;
    let name = words::base_name(&last.path);
    let after = |failure: &Failure| failure.last_before_death_ms < last.last_before_death_ms;
    // A script that asks for a command and does without it goes on: to a program that cannot be started, or that was.
    let could_not_start = |failure: &Failure| noise::executes(&failure.syscall) && after(failure);
    if case.went_on_after(last) || case.failures().any(|(_, failure)| could_not_start(failure)) {
        return None;
    }
    if code != NOT_FOUND {
        let leaves_ms =
            case.ended_just_before(last.pid).map_or(0.0, |child| child.before_death_ms) + LEAVES_MS;
        let searched = places(name) >= WHOLE_PATH && last.at_work_before_death_ms() <= leaves_ms;
        if !searched
            || name.starts_with(&format!("{}-", case.main_name()))
            || case.failures().any(|(_, f)| after(f))
        {
            return None;
        }
    }
    let mut evidence: Vec<EvidenceRef> = looks()
        .filter(|(_, failure)| words::base_name(&failure.path) == name)
        .map(|(index, _)| EvidenceRef::Failure(index))
        .collect();
    let tried = evidence.len();
    evidence.push(EvidenceRef::Exit);
    let object = words::one_line(name);
    Some(Finding {
        cause: Cause::ExecFailed,
        confidence: if code == NOT_FOUND && !may_have_asked(case, last) {
            Confidence::High
        } else {
            Confidence::Medium
        },
        summary: format!(
            "{} found the command {object} in none of {tried} folders of its PATH and left with exit code {code}",
            words::program(&last.comm)
        ),
        remedy: match starter(case, last, &object) {
            Some(starter) => format!(
                "install {object} in the image, or correct its name, or give its full path, where {starter} starts it"
            ),
            None => format!(
                "install {object} in the image, correct its name, or give its full path in {}.command",
                case.field()
            ),
        },
        object,
        evidence,
    })
}

/// True when bash may only have asked for the command (`command -v`): for one that it is to run it makes a child first, which leaves with
/// 127; and it leaves with 127 itself for a variable that a script needs (`${KEY:?}`, with `-c`).
fn may_have_asked(case: &Case<'_>, last: &Failure) -> bool {
    let Some(process) = &case.evidence.process else { return false };
    let is_bash = [&process.exe, &process.comm].iter().any(|name| words::base_name(name) == "bash");
    let children = || case.evidence.child_exits.iter();
    let ran_it = children().any(|child| {
        child.code == NOT_FOUND && child.before_death_ms <= last.last_before_death_ms && !child.detached
    });
    is_bash && last.pid == process.pid && !ran_it
}

/// The path, or the bare name when it was looked for in several folders.
fn searched_name(case: &Case<'_>, failure: &Failure) -> String {
    let name = words::base_name(&failure.path);
    let elsewhere = case.failures().any(|(_, other)| {
        noise::executes(&other.syscall) && other.path != failure.path && words::base_name(&other.path) == name
    });
    words::one_line(if elsewhere { name } else { &failure.path })
}
