//! Whether the program went on with its work without what it had failed to get.

use std::ops::Range;

use super::Caller;
use crate::case::Case;
use crate::evidence::Failure;
use crate::{errno, noise};

/// Who does without a file goes on with its work for longer than this (milliseconds), and for this part of its life: on a busy node all
/// of it takes longer. Who leaves may first give its log a quarter of a second, or three tenths.
const MISSED_MS: f64 = 350.0;
const MOST: f64 = 0.6;
/// The same for one that is seen to go on: it read its configuration, or listened.
const MUCH: f64 = 0.4;
/// The same for a log: who may not write it says elsewhere what it has to say.
const LOG_REFUSED_MS: f64 = 150.0;
/// Between two tries of a loop beside the work, as parts of the time between them; near either end it may have given up.
const BESIDE: Range<f64> = 0.15..0.7;

/// True for what nothing names, was tried once and was followed by most of the program's life: the work that went on without it. Another
/// thread that tries again and again, and had tried in the middle between two tries, runs beside that work.
pub(super) fn worked_on(case: &Case<'_>, failure: &Failure, caller: Caller, went_on: bool) -> bool {
    let gap_ms = failure.last_before_death_ms;
    if failure.count > 1 {
        let between_ms = between_tries_ms(failure);
        let beside = between_ms * BESIDE.start..between_ms * BESIDE.end;
        return caller == Caller::SameProcess && failure.syscall == "connect" && beside.contains(&gap_ms);
    }
    let own = matches!(caller, Caller::DyingThread | Caller::SameProcess);
    let part = if went_on { MUCH } else { MOST };
    let most = case.program_ms().is_some_and(|life_ms| (life_ms * part..=life_ms).contains(&gap_ms));
    let absent = matches!(failure.errno, errno::ENOENT | errno::ENOTDIR) && failure.syscall != "connect";
    let refused = matches!(failure.errno, errno::EACCES | errno::EPERM | errno::EROFS);
    let is_log = refused && noise::is_log(&failure.path);
    let longest = if is_log { LOG_REFUSED_MS } else { MISSED_MS };
    // It serves there itself, and asked whether somebody does.
    let has_it = failure.errno == errno::EADDRINUSE
        && failure.holder.as_ref().is_some_and(|holder| holder.same_container && holder.pid == failure.pid);
    let of_file = (absent || refused) && !failure.path.is_empty() && !noise::executes(&failure.syscall);
    own && ((failure.at_work_before_death_ms() > longest && most && (of_file || has_it || went_on))
        || (is_log && went_on))
}

/// The mean time between the tries of a call, in milliseconds; 0 for a single one.
pub(crate) fn between_tries_ms(failure: &Failure) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a count of calls, for a mean time")]
    let tries = failure.count.saturating_sub(1) as f64;
    let first_to_last_ms = failure.first_before_death_ms - failure.last_before_death_ms;
    if tries > 0.0 { first_to_last_ms / tries } else { 0.0 }
}
