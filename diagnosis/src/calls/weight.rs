//! What makes one failed call more telling than another: how it stands to the end, and who made it.

use std::cmp::Ordering;

use super::children::was_passed_up;
use crate::case::Case;
use crate::evidence::Failure;
use crate::noise;

/// Up to here (milliseconds) a program may still print, flush and tidy up after the call that ended it, also on a slow node.
const RECENT_MS: f64 = 10_000.0;
/// Within this (milliseconds) a program has logged what happened, closed what it had open and shut down. No such time here lies on a round
/// number: a timer of a second is over a little after it.
const FRESH_MS: f64 = 1_100.0;
/// Within this (milliseconds) an interpreter has printed its trace and left.
const PROMPT_MS: f64 = 75.0;

/// What makes one call more telling than another, most important first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Weight {
    /// Calls that only look, or that programs do without, come last.
    pub(super) decisive: bool,
    pub(super) freshness: Freshness,
    /// Rare errors of the process itself beat files that are not there, of which there are many.
    pub(super) rare_and_own: bool,
    pub(crate) caller: Caller,
    pub(super) rare: bool,
    /// The last one wins.
    pub(super) by_clock_ms: f64,
}

/// Who made the call, seen from the end of the main process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Caller {
    /// Any other process of the container.
    Other,
    /// A child that ended abnormally just before the main process.
    ChildJustBefore,
    /// Another thread of the main process.
    SameProcess,
    /// A child whose exit status the main process passed on.
    PassedOn,
    /// The thread that began the end.
    DyingThread,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Freshness {
    Old,
    Recent,
    Fresh,
    Prompt,
}

impl Weight {
    pub(super) fn order(&self, other: &Self) -> Ordering {
        (self.decisive.cmp(&other.decisive))
            .then(self.freshness.cmp(&other.freshness))
            .then(self.rare_and_own.cmp(&other.rare_and_own))
            .then(self.caller.cmp(&other.caller))
            .then(self.rare.cmp(&other.rare))
            .then(other.by_clock_ms.total_cmp(&self.by_clock_ms))
    }
}

impl Freshness {
    /// How near to the end a call stands that failed so long (milliseconds) before it.
    pub(super) fn of(gap_ms: f64) -> Self {
        if gap_ms <= PROMPT_MS {
            Self::Prompt
        } else if gap_ms <= FRESH_MS {
            Self::Fresh
        } else if gap_ms <= RECENT_MS {
            Self::Recent
        } else {
            Self::Old
        }
    }
}

/// Who made the call, and how long before the main process that one ended (milliseconds).
pub(super) fn caller(case: &Case<'_>, failure: &Failure) -> (Caller, f64) {
    if failure.by_dying_thread {
        // Who then waited for a child and left with its code had not given up.
        let waited =
            case.passed_on().is_some_and(|(_, child)| child.before_death_ms < failure.last_before_death_ms);
        return (if waited { Caller::SameProcess } else { Caller::DyingThread }, 0.0);
    }
    // Before any program was executed there is no main process, only the one that tried to execute it.
    if case.never_executed() && noise::executes(&failure.syscall) {
        return (Caller::DyingThread, 0.0);
    }
    if failure.pid != 0 && failure.pid == case.main_pid() {
        let ended_it = is_of_a_main_method(case, failure);
        return (if ended_it { Caller::DyingThread } else { Caller::SameProcess }, 0.0);
    }
    if let Some((_, child)) = case.passed_on()
        && child.pid == failure.pid
    {
        return (Caller::PassedOn, child.before_death_ms);
    }
    match case.ended_just_before(failure.pid) {
        Some(child) if was_passed_up(case, child) => (Caller::PassedOn, child.before_death_ms),
        Some(child) => (Caller::ChildJustBefore, child.before_death_ms),
        None => (Caller::Other, 0.0),
    }
}

/// True for the thread that ran a Java program's main method when that method's end was the program's: the launcher's first thread waits
/// for that one, and for it alone, and leaves with what it returned (java_md.c of OpenJDK). The JVM names all its other threads; the end by
/// System.exit is made by a thread of its own.
fn is_of_a_main_method(case: &Case<'_>, failure: &Failure) -> bool {
    const LAUNCHER: &str = "java";
    let first_left = case.exit().is_some_and(|exit| exit.tid != 0 && exit.tid == case.main_pid());
    let is_java = case.evidence.process.as_ref().is_some_and(|process| process.comm == LAUNCHER);
    first_left && is_java && failure.comm == LAUNCHER && failure.tid != case.main_pid()
}
