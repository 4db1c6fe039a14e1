//! What the other failed calls say of one: which followed it, and which are as telling and about something else.

use super::{Call, thing};
use crate::noise::{self, Standing};
use crate::{errno, words};

/// So many calls that failed alike, of those that are kept, are a search.
const MANY: usize = 8;

/// Whether the same process failed with something else afterwards that may well end a program; and whether it did nothing but leave then,
/// which after this one it did not. One of many that failed alike is none of that: who looks for a file in so many places does without.
pub(super) fn followed(call: &Call<'_>, calls: &[Call<'_>]) -> (bool, bool) {
    let is_one_of_many = |other: &Call<'_>| {
        let alike = |one: &&Call<'_>| {
            one.failure.pid == other.failure.pid && one.failure.errno == other.failure.errno
        };
        other.failure.errno != call.failure.errno && calls.iter().filter(alike).count() >= MANY
    };
    let follows = |other: &&Call<'_>| {
        other.standing >= Standing::Plain
            && other.failure.pid == call.failure.pid
            && (other.by_clock_ms < call.by_clock_ms
                || (other.by_clock_ms <= call.by_clock_ms && other.index > call.index))
            && !is_same(thing(call.failure), thing(other.failure))
            && !is_one_of_many(other)
    };
    // Who may not write its log says so elsewhere, and goes on.
    let goes_on = !call.at_once || noise::is_log(&call.failure.path);
    let ends = |other: &Call<'_>| other.at_once && goes_on && other.by_dying();
    let followers = || calls.iter().filter(follows);
    (followers().next().is_some(), followers().any(ends))
}

/// True when it could not write into its log that another call had failed, and left: it is that one which it wanted to tell of.
pub(super) fn tells_of_another(call: &Call<'_>, calls: &[Call<'_>]) -> bool {
    let is_full = matches!(call.failure.errno, errno::ENOSPC | errno::EDQUOT | errno::EFBIG);
    let told_of = |other: &Call<'_>| {
        other.index < call.index
            && other.failure.pid == call.failure.pid
            && other.standing >= Standing::Plain
            && other.at_once
            && !noise::is_log(&other.failure.path)
    };
    is_full && call.at_once && noise::is_log(&call.failure.path) && calls.iter().any(told_of)
}

/// True when the same process later failed with what its command line names.
pub(super) fn came_to(call: &Call<'_>, other: &Call<'_>) -> bool {
    other.named && other.failure.pid == call.failure.pid && other.by_clock_ms < call.by_clock_ms
}

/// True when `other` is about as telling as `call`, and about something else.
pub(super) fn rivals(call: &Call<'_>, other: &Call<'_>) -> bool {
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
