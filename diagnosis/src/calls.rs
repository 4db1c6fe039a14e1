//! Which failed call ended the program, if one did.
//!
//! Calls that cannot have (noise, those whose path later opened, those long before the end) are left out; the others are ordered by
//! [`Weight`], field by field, and the strongest is judged by [`Call::confidence`].

mod children;
mod done_without;
mod named;

use std::cmp::Ordering;

use children::{was_last_of_several, was_passed_up};
pub(crate) use done_without::between_tries_ms;
use done_without::worked_on;
use named::{error_told, named, said_aside};

use crate::case::Case;
use crate::evidence::Failure;
use crate::noise::{self, Noise, Standing};
use crate::signature::signature;
use crate::verdict::Confidence;
use crate::{errno, words};

/// A call that failed longer before the end than this (milliseconds) did not end the program: one-minute time-outs are the
/// longest that programs commonly wait before they give up.
const STALE_MS: f64 = 60_000.0;
/// Up to here (milliseconds) a program may still print, flush and tidy up after the call that ended it, also on a slow node.
const RECENT_MS: f64 = 10_000.0;
/// Within this (milliseconds) a program has logged what happened, closed what it had open and shut down. No such time here lies on a round
/// number: a timer of a second is over a little after it.
const FRESH_MS: f64 = 1_100.0;
/// Within this (milliseconds) an interpreter has printed its trace and left.
const PROMPT_MS: f64 = 75.0;
/// Up to here (milliseconds) nothing but the end of it can have followed, also on a busy node, when its command line or its log names it.
const CERTAIN_MS: f64 = 250.0;
/// The same for what nothing names: a program that does without it is at its next work sooner.
const CERTAIN_UNNAMED_MS: f64 = 100.0;
/// The same for a file that it may not use, or a connection that it lost: another one is taken at once.
const CERTAIN_REFUSED_MS: f64 = 60.0;
/// More tries than this are a loop that runs beside the work rather than tries until it gives up.
const MOST_TRIES: u64 = 12;
/// So many calls that failed alike, of those that are kept, are a search.
const MANY: usize = 8;
/// A shell goes on within this (milliseconds) of a child's end, or leaves.
const SHELL_MS: f64 = 50.0;
/// So many looks for the same file, so far apart (milliseconds), are a wait for it.
const LOOKS_OF_A_WAIT: u64 = 3;
const BETWEEN_LOOKS_MS: f64 = 20.0;
/// Within this (milliseconds), and within a tenth of its life, a program did nothing but leave.
const AT_ONCE_MS: f64 = 5.0;
/// The same for a program that could not load a part of itself.
const PLUG_IN_MS: f64 = 25.0;

/// A failed call that may have ended the program.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    /// Its index in the evidence.
    pub(crate) index: usize,
    pub(crate) failure: &'a Failure,
    pub(crate) weight: Weight,
    pub(crate) standing: Standing,
    /// Time from the call to the end of the process that made it, in milliseconds, without what its thread waited for a processor.
    pub(crate) gap_ms: f64,
    /// The same by the clock, as the times between tries are.
    by_clock_ms: f64,
    /// Nothing but leaving followed.
    pub(crate) at_once: bool,
    /// The process went on with its work afterwards: it read its configuration, listened, became another program.
    went_on: bool,
    /// It did without, for most of its life.
    worked_on: bool,
    /// The command line or the log names its path or address.
    pub(crate) named: bool,
    /// Other calls speak against it: as good as this one, and about something else.
    pub(crate) rivals: usize,
    /// The same process failed with something else afterwards, or its log says that it goes on, or it served while it tried again and
    /// again, or it connected to somebody else: it had not given up yet.
    followed: bool,
    /// One child after another failed with it, until the main process left instead of starting the next.
    tried_by_children: bool,
}

/// What makes one call more telling than another, most important first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Weight {
    /// Calls that only look, or that programs do without, come last.
    decisive: bool,
    freshness: Freshness,
    /// Rare errors of the process itself beat files that are not there, of which there are many.
    rare_and_own: bool,
    pub(crate) caller: Caller,
    rare: bool,
    /// The last one wins.
    gap_ms: f64,
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
enum Freshness {
    Old,
    Recent,
    Fresh,
    Prompt,
}

impl Weight {
    fn order(&self, other: &Self) -> Ordering {
        (self.decisive.cmp(&other.decisive))
            .then(self.freshness.cmp(&other.freshness))
            .then(self.rare_and_own.cmp(&other.rare_and_own))
            .then(self.caller.cmp(&other.caller))
            .then(self.rare.cmp(&other.rare))
            .then(other.gap_ms.total_cmp(&self.gap_ms))
    }
}

impl Call<'_> {
    /// True when the thread that ended the process, or a child whose end was passed on, made the call.
    pub(crate) fn by_dying(&self) -> bool {
        self.weight.caller >= Caller::PassedOn
    }

    /// True when it stands near enough to the end to be offered as its reason at all.
    pub(crate) fn may_decide(&self) -> bool {
        let fresh = self.weight.freshness >= Freshness::Fresh;
        let related = self.weight.caller >= Caller::ChildJustBefore;
        match self.standing {
            Standing::Noise => false,
            _ if self.worked_on => false,
            // It connected to somebody else, and went on with that.
            _ if self.went_on && !self.failure.later_connected.is_empty() => false,
            // Work that came to nothing for the want of it would not have gone on.
            _ if self.went_on && self.standing < Standing::Rare => false,
            _ if noise::is_refused_lock(self.failure) && !fresh => false,
            // A pool loses connections every day, and makes others.
            _ if noise::is_lost_connection(self.failure) => {
                let recent = self.named && self.weight.freshness >= Freshness::Recent;
                related && !self.went_on && (fresh || recent)
            }
            Standing::Weak => {
                let path = &self.failure.path;
                let optional = noise::is_private(path)
                    || (noise::is_of_a_package(path) && !noise::is_plug_in(self.failure));
                let alone = self.at_once && self.rivals == 0 && !optional;
                // A JVM's main thread is not the one that ends it.
                let own = self.by_dying() || (self.named && self.weight.caller == Caller::SameProcess);
                own && ((fresh && (self.named || alone)) || self.waited_for())
            }
            Standing::Plain => {
                let recent = self.named && self.weight.freshness >= Freshness::Recent;
                related && (fresh || recent)
            }
            Standing::Rare => related || fresh,
        }
    }

    /// True for a call that fails rarely without reason and was made by a process that has to do with the end: while one such
    /// stands unexplained, "nothing failed before" cannot be said.
    pub(crate) fn leaves_doubt(&self) -> bool {
        self.weight.decisive && self.weight.caller >= Caller::ChildJustBefore && self.may_decide()
    }

    /// True for what the main process failed to get and, for most of its life, did without: not offered as the reason, but worth a word
    /// where there is no other.
    pub(crate) fn is_done_without(&self) -> bool {
        self.worked_on && self.weight.decisive && self.weight.caller >= Caller::SameProcess
    }

    /// True when a log line about something else does not make up for it.
    pub(crate) fn outweighs_words(&self) -> bool {
        self.named || (self.standing == Standing::Rare && !noise::is_lost_connection(self.failure))
    }

    /// How far this call carries the cause.
    pub(crate) fn confidence(&self) -> Confidence {
        let fresh = self.weight.freshness >= Freshness::Fresh;
        let own = self.weight.caller >= Caller::SameProcess;
        let near = self.weight.caller >= Caller::ChildJustBefore;
        let certain_ms = match self.named {
            true => CERTAIN_MS,
            false if self.failure.path.is_empty() && !noise::is_lost_connection(self.failure) => {
                CERTAIN_UNNAMED_MS
            }
            false => CERTAIN_REFUSED_MS,
        };
        let certain = (self.gap_ms <= certain_ms || (self.gave_up() && self.waited_out()))
            && !self.went_on
            && !self.followed
            && !noise::is_cache(&self.failure.path)
            && (self.named || self.at_once || !noise::is_log(&self.failure.path));
        match self.standing {
            Standing::Weak if self.waited_for() && noise::is_shell(&self.failure.comm) => Confidence::Medium,
            Standing::Weak if self.by_dying() => {
                match (self.named, self.gap_ms <= AT_ONCE_MS && self.rivals == 0) {
                    (true, true) => Confidence::High,
                    (true, false) | (false, true) => Confidence::Medium,
                    (false, false) => Confidence::Low,
                }
            }
            Standing::Plain if fresh && self.by_dying() => self.plain(),
            Standing::Plain if fresh && own && (self.named || self.rivals == 0) => Confidence::Medium,
            // Neither is a lock that somebody has, nor what was tried again until it was given up, a thing that was done without.
            Standing::Plain
                if fresh
                    && near
                    && self.rivals == 0
                    && (self.tried_by_children || self.failure.errno == errno::EEXIST) =>
            {
                Confidence::Medium
            }
            Standing::Rare if noise::is_lost_connection(self.failure) => self.lost(certain),
            Standing::Rare if certain && (self.by_dying() || (own && self.named)) => Confidence::High,
            Standing::Rare if fresh && near => Confidence::Medium,
            Standing::Rare if self.by_dying() && self.weight.freshness == Freshness::Recent => {
                Confidence::Medium
            }
            Standing::Noise | Standing::Weak | Standing::Plain | Standing::Rare => Confidence::Low,
        }
    }

    /// A connection that was lost ends a program that asks nothing else of anybody. One that is only found closed when something is sent
    /// (EPIPE) may have been found so on the way out, by a last word to the peer.
    fn lost(&self, certain: bool) -> Confidence {
        let fresh = self.weight.freshness >= Freshness::Fresh;
        let told_first = self.failure.errno != errno::EPIPE && self.rivals == 0;
        match (self.named, self.by_dying()) {
            (true, true) if certain => Confidence::High,
            (false, true) if certain && told_first => Confidence::High,
            (true, _) => Confidence::Medium,
            (false, _) if fresh => Confidence::Medium,
            (false, _) => Confidence::Low,
        }
    }

    /// True when its tries are few and it left when the next one was due. One that runs beside the work fails at any moment of it.
    fn waited_out(&self) -> bool {
        let connects = self.failure.syscall == "connect";
        !connects
            || (self.failure.count <= MOST_TRIES && self.by_clock_ms >= between_tries_ms(self.failure) * 0.7)
    }

    /// True when it was tried again and again, and the end came before, or when, the next try would have been due.
    fn gave_up(&self) -> bool {
        self.failure.count > 1 && self.by_clock_ms <= between_tries_ms(self.failure) * 1.5
    }

    /// True for a file that it looked for again and again until it left.
    fn waited_for(&self) -> bool {
        let Failure { count, first_before_death_ms, last_before_death_ms, .. } = self.failure;
        let apart = (first_before_death_ms - last_before_death_ms) >= BETWEEN_LOOKS_MS * 2.0;
        noise::only_looks(&self.failure.syscall)
            && *count >= LOOKS_OF_A_WAIT
            && apart
            && self.by_dying()
            && self.gave_up()
            && !self.followed
            && !noise::is_private(&self.failure.path)
    }

    /// A file that is not there may be one the program does without; it is shown to be the cause only when the command line or
    /// the log names it and nothing but leaving followed.
    fn plain(&self) -> Confidence {
        match (self.named, self.at_once, self.rivals) {
            (true, ..) if self.gap_ms <= CERTAIN_UNNAMED_MS => Confidence::High,
            // A lock file that is there already is rarely done without.
            (_, true, 0) if self.failure.errno == errno::EEXIST => Confidence::High,
            (true, ..) | (_, _, 0) | (_, true, 1..=2) => Confidence::Medium,
            _ => Confidence::Low,
        }
    }
}

/// What it failed on: a name, a path or an address.
pub(crate) fn thing(failure: &Failure) -> &str {
    if failure.dns.is_some() {
        return &failure.name;
    }
    [&failure.path, &failure.address, &failure.name]
        .into_iter()
        .find(|text| !text.is_empty())
        .map_or("", |text| text)
}

/// The calls that may have ended the program, strongest first.
pub(crate) fn strongest_first<'a>(case: &Case<'a>, noise: Noise) -> Vec<Call<'a>> {
    let is_over = |failure: &Failure| {
        failure.later_succeeded || was_found_elsewhere(case, failure) || case.overcame(failure)
    };
    let mut calls: Vec<Call<'a>> = case
        .failures()
        .filter(|(_, failure)| noise == Noise::Ignored || !(is_over(failure) || is_harmless(case, failure)))
        .filter_map(|(index, failure)| call(case, index, failure, noise.standing(failure)))
        .collect();
    // An allocator that may not have a place of its choice, or huge pages, takes another: what the program then came to is later.
    let outlived: Vec<usize> = calls
        .iter()
        .filter(|call| {
            noise::asks_for_memory(call.failure)
                && (call.went_on || calls.iter().any(|other| came_to(call, other)))
        })
        .map(|call| call.index)
        .collect();
    calls.retain(|call| !outlived.contains(&call.index));
    let followed: Vec<(bool, bool)> = calls.iter().map(|call| followed(call, &calls)).collect();
    for (call, (followed, by_the_end)) in calls.iter_mut().zip(followed) {
        call.followed |= followed;
        // Who cleans up after what the log tells fails with other things in doing so.
        let outdone = by_the_end && !error_told(case, call.failure);
        call.weight.rare &= !outdone;
        call.weight.rare_and_own &= !outdone;
    }
    // By a coarse clock several have one time: the last of them stands last.
    calls.sort_by(|one, other| other.weight.order(&one.weight).then(other.index.cmp(&one.index)));
    let rivals: Vec<usize> =
        calls.iter().map(|call| calls.iter().filter(|other| rivals(call, other)).count()).collect();
    for (call, rivals) in calls.iter_mut().zip(rivals) {
        call.rivals = rivals;
    }
    calls
}

/// True when the same process later failed with what its command line names.
fn came_to(call: &Call<'_>, other: &Call<'_>) -> bool {
    other.named && other.failure.pid == call.failure.pid && other.gap_ms < call.gap_ms
}

/// Whether the same process failed with something else afterwards that may well end a program; and whether it did nothing but leave then,
/// which after this one it did not. One of many that failed alike is none of that: who looks for a file in so many places does without.
fn followed(call: &Call<'_>, calls: &[Call<'_>]) -> (bool, bool) {
    let is_one_of_many = |other: &Call<'_>| {
        let alike = |one: &&Call<'_>| {
            one.failure.pid == other.failure.pid && one.failure.errno == other.failure.errno
        };
        other.failure.errno != call.failure.errno && calls.iter().filter(alike).count() >= MANY
    };
    let follows = |other: &&Call<'_>| {
        other.standing >= Standing::Plain
            && other.failure.pid == call.failure.pid
            && (other.gap_ms < call.gap_ms || (other.gap_ms <= call.gap_ms && other.index > call.index))
            && !is_same(thing(call.failure), thing(other.failure))
            && !is_one_of_many(other)
    };
    // Who may not write its log says so elsewhere, and goes on.
    let goes_on = !call.at_once || noise::is_log(&call.failure.path);
    let ends = |other: &Call<'_>| other.at_once && goes_on && other.by_dying();
    let followers = || calls.iter().filter(follows);
    (followers().next().is_some(), followers().any(ends))
}

/// True for a call that runs of the same image also made while they went well.
fn is_harmless(case: &Case<'_>, failure: &Failure) -> bool {
    case.pod.is_some_and(|pod| !pod.harmless.is_empty() && pod.harmless.contains(&signature(failure)))
}

/// True for a folder of PATH in which a program was looked for by executing it, when it was found in another one.
fn was_found_elsewhere(case: &Case<'_>, failure: &Failure) -> bool {
    failure.errno == errno::ENOENT
        && noise::executes(&failure.syscall)
        && noise::in_a_program_folder(&failure.path)
        && case.ran(words::base_name(&failure.path))
}

fn call<'a>(case: &Case<'a>, index: usize, failure: &'a Failure, standing: Standing) -> Option<Call<'a>> {
    let (caller, ended_before_ms) = caller(case, failure);
    let gap_ms = (failure.at_work_before_death_ms() - ended_before_ms).max(0.0);
    if standing == Standing::Noise || gap_ms > STALE_MS {
        return None;
    }
    let freshness = if gap_ms <= PROMPT_MS {
        Freshness::Prompt
    } else if gap_ms <= FRESH_MS {
        Freshness::Fresh
    } else if gap_ms <= RECENT_MS {
        Freshness::Recent
    } else {
        Freshness::Old
    };
    // A cache that is missed leads to an end at once or not at all; so does a file that a shell's child did not find.
    if noise::is_cache(&failure.path) && freshness < Freshness::Prompt {
        return None;
    }
    let tried_by_children = caller == Caller::ChildJustBefore
        && case.ended_just_before(failure.pid).is_some_and(|child| was_last_of_several(case, child));
    // What a child was to become and was not is missed by the one that started it, however long that takes to leave.
    let became_nothing =
        noise::executes(&failure.syscall) && !noise::is_shell(&failure.comm) && gap_ms <= AT_ONCE_MS;
    let by_child_before = caller == Caller::ChildJustBefore && ended_before_ms > SHELL_MS;
    if standing == Standing::Plain && by_child_before && !tried_by_children && !became_nothing {
        return None;
    }
    let rare = standing == Standing::Rare;
    let waited = failure.by_dying_thread && caller == Caller::SameProcess;
    let weight = Weight {
        decisive: standing >= Standing::Plain,
        freshness,
        rare_and_own: rare && caller >= Caller::SameProcess && !waited,
        caller,
        rare,
        gap_ms,
    };
    let at_once = gap_ms <= AT_ONCE_MS && case.life_ms().is_none_or(|life| gap_ms <= life / 10.0);
    // A plug-in that a configuration names is opened once, and the complaint about it may take a moment.
    let at_once = at_once || (noise::is_plug_in(failure) && gap_ms <= PLUG_IN_MS);
    // That it is named says where it is to be, not that it has to be there.
    let named = named(case, failure) && !(noise::is_made_anew(&failure.path) && standing == Standing::Weak);
    let went_on = case.went_on_after(failure);
    // Who set a variable to a path wants it to be there.
    let wanted = named || (!failure.path.is_empty() && !failure.variables.is_empty());
    let worked_on = !wanted && worked_on(case, failure, caller, went_on);
    // A server that looks for a file now and then polls it.
    let polls = noise::only_looks(&failure.syscall) && case.serves(failure.pid);
    let followed = said_aside(case, failure)
        || case.served_meanwhile(failure)
        || polls
        || !failure.later_connected.is_empty();
    Some(Call {
        index,
        failure,
        weight,
        standing,
        gap_ms,
        by_clock_ms: (failure.last_before_death_ms - ended_before_ms).max(0.0),
        at_once,
        went_on,
        worked_on,
        named,
        rivals: 0,
        followed,
        tried_by_children,
    })
}

/// Who made the call, and how long before the main process that one ended (milliseconds).
fn caller(case: &Case<'_>, failure: &Failure) -> (Caller, f64) {
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
        return (Caller::SameProcess, 0.0);
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

/// True when `other` is about as telling as `call`, and about something else.
fn rivals(call: &Call<'_>, other: &Call<'_>) -> bool {
    call.index != other.index
        && other.standing >= call.standing
        && !(other.standing == Standing::Weak && looks_at_its_own(call, &other.failure.path))
        && other.weight.caller >= call.weight.caller
        && other.weight.freshness >= call.weight.freshness
        && !is_same(thing(call.failure), thing(other.failure))
}

/// True for what a program or its runtime looks for of itself, beside a call about something else.
fn looks_at_its_own(call: &Call<'_>, path: &str) -> bool {
    let of_runtime = |path: &str| noise::is_of_a_package(path) || path.starts_with("/usr/local/lib/");
    noise::is_private(path) || (of_runtime(path) && !of_runtime(&call.failure.path))
}

/// True for two names of one thing: in another folder, with another ending, or one within the other.
fn is_same(one: &str, other: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/') && outer.starts_with('/'))
    };
    words::base_name(one) == words::base_name(other)
        || words::stem(one) == words::stem(other)
        || within(one, other)
        || within(other, one)
}
