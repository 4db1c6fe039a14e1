//! The list of the calls that may have ended the program: which are on it, and in which order.

use super::beside::{came_to, followed, rivals, tells_of_another};
use super::children::was_last_of_several;
use super::done_without::worked_on;
use super::named::{error_told, named, said_aside};
use super::tolerated::may_be_tolerated;
use super::weight::{Caller, Freshness, Weight, caller};
use super::{AT_ONCE_MS, Call};
use crate::case::Case;
use crate::evidence::Failure;
use crate::noise::{self, Noise, Standing};
use crate::signature::signature;
use crate::{errno, words};

/// A call that failed longer before the end than this (milliseconds) did not end the program: one-minute time-outs are the
/// longest that programs commonly wait before they give up.
const STALE_MS: f64 = 60_000.0;
/// A shell goes on within this (milliseconds) of a child's end, or leaves.
const SHELL_MS: f64 = 50.0;
/// The same for a program that could not load a part of itself.
const PLUG_IN_MS: f64 = 25.0;

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
    let telling: Vec<bool> = calls.iter().map(|call| tells_of_another(call, &calls)).collect();
    for (call, tells_of_another) in calls.iter_mut().zip(telling) {
        call.weight.decisive &= !tells_of_another;
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
    let gap_ms = (at_work_ms(case, failure) - ended_before_ms).max(0.0);
    let by_clock_ms = (failure.last_before_death_ms - ended_before_ms).max(0.0);
    if standing == Standing::Noise || gap_ms > STALE_MS {
        return None;
    }
    let freshness = Freshness::of(gap_ms);
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
        by_clock_ms,
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
        by_clock_ms,
        at_once,
        went_on,
        worked_on,
        named,
        rivals: 0,
        followed,
        tried_by_children,
        may_be_tolerated: may_be_tolerated(case, failure, caller, named),
    })
}

/// How long its thread was at work from the call to the death, in milliseconds. Where what it waited for a processor is not known (a name
/// server's answer is told by another way) it is no longer than after anything that the thread failed with before.
fn at_work_ms(case: &Case<'_>, failure: &Failure) -> f64 {
    let before = case.failures().map(|(_, other)| other).filter(|other| {
        other.tid == failure.tid
            && failure.tid != 0
            && other.last_before_death_ms >= failure.last_before_death_ms
    });
    before.map(Failure::at_work_before_death_ms).fold(failure.at_work_before_death_ms(), f64::min)
}
