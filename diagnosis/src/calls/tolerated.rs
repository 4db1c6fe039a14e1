//! What fits the end and may have been done without all the same: nothing that is recorded shows which.

use super::Caller;
use crate::case::Case;
use crate::evidence::{ChildExit, Failure, Process};
use crate::{noise, words};

/// True when the call is no more than a likely reason, however near to the end it failed: a cache or a collector of telemetry that did not answer,
/// what is done for the better, what a shell only asks for, or what a child failed with whose parent went on before it left with the same code.
pub(super) fn may_be_tolerated(case: &Case<'_>, failure: &Failure, caller: Caller, named: bool) -> bool {
    // That it is named says where it is to be done, not that it has to be.
    let for_the_better = noise::is_for_the_better(failure) && !is_its_only_work(case, failure);
    if for_the_better || is_asked_by_a_shell(case, failure) {
        return true;
    }
    if named {
        return false;
    }
    (noise::is_of_a_helper(failure) && !is_asked_for(case, failure))
        || (caller == Caller::PassedOn
            && case
                .ended_just_before(failure.pid)
                .is_some_and(|child| parent_went_on(child) || was_begun_on_the_way_out(case, child)))
}

/// True when the container was there for nothing else.
fn is_its_only_work(case: &Case<'_>, failure: &Failure) -> bool {
    made_by_main(case, failure)
        .is_some_and(|process| matches!(process.comm.as_str(), "chown" | "chgrp" | "chmod"))
}

/// True when a shell only looked whether something is there (`[ -f "$1" ] && . "$1"`).
fn is_asked_by_a_shell(case: &Case<'_>, failure: &Failure) -> bool {
    let is_shell = noise::is_shell(&failure.comm)
        || made_by_main(case, failure).is_some_and(|process| noise::is_shell(words::base_name(&process.exe)));
    is_shell && noise::only_looks(&failure.syscall)
}

/// The main process, where the call is its own.
fn made_by_main<'a>(case: &Case<'a>, failure: &Failure) -> Option<&'a Process> {
    case.evidence.process.as_ref().filter(|process| process.pid == failure.pid)
}

/// True when an argument has the address.
fn is_asked_for(case: &Case<'_>, failure: &Failure) -> bool {
    let address = failure.address.split('/').next().unwrap_or_default();
    case.evidence.process.iter().flat_map(|process| &process.args).any(|argument| argument.contains(address))
}

/// A parent that left later than this (milliseconds) did something else in between.
const RIGHT_AFTER_MS: f64 = 250.0;

/// A shell that does not tolerate a failed command says nothing more (`set -e`): one that wrote something went on, to a complaint about
/// this or about something else (`${KEY:?}`).
fn parent_went_on(child: &ChildExit) -> bool {
    child.before_death_ms > RIGHT_AFTER_MS || child.parent_wrote.is_some_and(|times| times > 0)
}

/// Another program of the same parent had left with that code before: what came after it may be a trap's, on the way out.
fn was_begun_on_the_way_out(case: &Case<'_>, child: &ChildExit) -> bool {
    /// A trap is run at once (milliseconds).
    const TRAPPED_MS: f64 = 100.0;
    case.evidence.child_exits.iter().any(|earlier| {
        let before_ms = earlier.before_death_ms - child.before_death_ms;
        earlier.parent_pid == child.parent_pid
            && child.parent_pid != 0
            && (earlier.code, earlier.signal) == (child.code, child.signal)
            && earlier.comm != child.comm
            && before_ms > 0.0
            && before_ms <= TRAPPED_MS
    })
}
