//! What children tell: a try that a script repeats by a program that it starts anew each time, an end that is passed up from one to the next.

use crate::case::Case;
use crate::evidence::ChildExit;

/// Fewer tries are none of a loop.
const TRIES: usize = 3;
/// The script left before the next try would have been due, with this much to spare: a loop that sleeps does not sleep to the millisecond.
const DUE: f64 = 1.5;

/// True when children of one name ended alike one after another, this one the last of all that ended abnormally, and the main process left
/// before, or when, it would have started the next. The flight recorder counts equal failures of several processes as one, under the
/// last: so it is the ends that are counted.
pub(super) fn was_last_of_several(case: &Case<'_>, last: &ChildExit) -> bool {
    let children = || case.evidence.child_exits.iter().filter(|child| !child.detached);
    let alike = |child: &&ChildExit| {
        child.comm == last.comm && child.code == last.code && child.signal == last.signal
    };
    let tries = children().filter(alike).count();
    let first_ms = children().filter(alike).map(|child| child.before_death_ms).fold(0.0, f64::max);
    #[expect(clippy::cast_precision_loss, reason = "a count of processes, for a mean time")]
    let between_ms = (first_ms - last.before_death_ms) / tries.saturating_sub(1).max(1) as f64;
    let is_last = children().all(|child| child.before_death_ms >= last.before_death_ms);
    tries >= TRIES && is_last && last.before_death_ms <= between_ms * DUE
}

/// True for a child that ended as the one whose end the main process passed on, right before that: the one in between passed it on as well.
pub(super) fn was_passed_up(case: &Case<'_>, child: &ChildExit) -> bool {
    /// Who passes on an end does nothing in between (milliseconds).
    const RIGHT_AFTER_MS: f64 = 50.0;
    case.passed_on().is_some_and(|(_, last)| {
        let before_ms = child.before_death_ms - last.before_death_ms;
        child.code == last.code && child.signal == last.signal && (0.0..=RIGHT_AFTER_MS).contains(&before_ms)
    })
}
