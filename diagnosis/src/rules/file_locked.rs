//! A file or database that somebody else has locked.

use super::killed::asked_to_stop;
use super::{Finding, before_the_end, call_and_exit};
use crate::calls::{Call, between_tries_ms};
use crate::case::Case;
use crate::evidence::{Exit, Failure, Holder};
use crate::verdict::{Cause, Confidence, EvidenceRef};
use crate::{context, errno, log, noise, planned, signals, startup, words};

/// A try to lock that failed, or a lock file that exists.
pub(super) fn call(case: &Case<'_>, call: &Call<'_>) -> Option<Finding> {
    let failure = call.failure;
    let is_lock_file = noise::is_lock_file(failure);
    if !is_lock_file && !noise::is_refused_lock(failure) {
        return None;
    }
    let object = object(&failure.path);
    let on = context::on_volume(case, &failure.path);
    let who = words::program(&failure.comm);
    let what = if is_lock_file {
        format!("{who} could not make its lock file {object}{on}, which is there already")
    } else if failure.errno == errno::EINTR {
        format!(
            "{who} waited for a lock on {object}{on}{} until a signal ended the wait",
            words::held(failure.holder.as_ref(), failure.holder_looked_for, ",")
        )
    } else {
        format!(
            "{who} could not lock {object}{on}{}",
            words::held(failure.holder.as_ref(), failure.holder_looked_for, "")
        )
    };
    Some(Finding {
        cause: Cause::FileLocked,
        confidence: confidence(call),
        summary: format!("{what}: {} {}", words::failed(failure), before_the_end(case, call)),
        remedy: if is_lock_file {
            left_behind(&object)
        } else {
            remedy(failure.holder.as_ref(), failure.holder_looked_for, &object)
        },
        object,
        evidence: call_and_exit(case, call),
    })
}

/// A shell that is not to overwrite files (`set -o noclobber`, the usual lock of a script) looks whether the file is there before it makes
/// it: no call fails, and its log names the file.
pub(super) fn told(case: &Case<'_>) -> Option<Finding> {
    const SAYS: &str = ": cannot overwrite existing file";
    let startup = startup::told(case)?;
    let (line, path) = log::last_lines(case).find_map(|line| {
        let (before, _) = line.text.split_once(SAYS)?;
        let path = before.rsplit(": ").next().filter(|path| noise::is_called_a_lock(path))?;
        Some((line, path))
    })?;
    let object = words::one_line(path);
    Some(Finding {
        cause: Cause::FileLocked,
        confidence: Confidence::Medium,
        summary: format!(
            "{}; its log says that its lock file {object}{} is there already: {}",
            startup.ended(case, ""),
            context::on_volume(case, path),
            line.quoted()
        ),
        remedy: left_behind(&object),
        object,
        evidence: vec![line.evidence, EvidenceRef::Exit],
    })
}

/// Told to stop, it was still waiting for a lock. That somebody stopped it is the other half of the story: the lock explains why it got
/// no further, and no more than that.
pub(super) fn waiting(case: &Case<'_>) -> Option<Finding> {
    let blocked = case.evidence.blocked.as_ref().filter(|blocked| noise::locks(&blocked.syscall))?;
    let exit = case.exit().filter(|exit| exit.signal != 0 || exit.code != 0)?;
    let told = case.last_signal_to_main(blocked.signal);
    let mut evidence = vec![EvidenceRef::Blocked, EvidenceRef::Exit];
    evidence.extend(told.map(|(index, _)| EvidenceRef::Signal(index)));
    let who = words::process(&blocked.comm, blocked.pid);
    let waiting = Waiting {
        path: &blocked.path,
        holder: blocked.holder.as_ref(),
        looked_for: blocked.holder_looked_for,
        told: (blocked.signal, blocked.before_death_ms),
    };
    Some(waiting.finding(case, exit, evidence, |object| format!("{who} was waiting for a lock on {object}")))
}

/// Told to stop, it was still trying a lock again and again, and had done so for most of its life: the same wait, by a program that polls.
/// A copy that stands by and is drained waits like this too, and nothing is wrong.
pub(super) fn polling(case: &Case<'_>) -> Option<Finding> {
    /// Fewer tries are no wait.
    const TRIES: u64 = 4;
    /// For this part of its life.
    const MOST: f64 = 0.6;
    let exit = case.exit().filter(|exit| exit.signal != 0 || exit.code != 0)?;
    let (signal_index, signal) = asked_to_stop(case).filter(|_| planned::reason(case).is_none())?;
    let stopped_ms = signal.before_death_ms;
    let life_ms = case.life_ms()?;
    let still_tried = |failure: &Failure| {
        let since_ms = failure.last_before_death_ms - stopped_ms;
        let due_ms = between_tries_ms(failure) * 2.0;
        failure.count >= TRIES
            && !failure.later_succeeded
            && since_ms <= due_ms
            && failure.first_before_death_ms - stopped_ms >= (life_ms - stopped_ms) * MOST
    };
    let mut failures = case.failures();
    let (index, failure) =
        failures.rfind(|(_, failure)| noise::is_refused_lock(failure) && still_tried(failure))?;
    let evidence = vec![EvidenceRef::Failure(index), EvidenceRef::Signal(signal_index), EvidenceRef::Exit];
    let who = words::process(&failure.comm, failure.pid);
    let waiting = Waiting {
        path: &failure.path,
        holder: failure.holder.as_ref(),
        looked_for: failure.holder_looked_for,
        told: (signal.signal, stopped_ms),
    };
    let tried = |object: &str| format!("{who} had tried to lock {object} {} times", failure.count);
    Some(waiting.finding(case, exit, evidence, tried))
}

/// A wait for a lock that a signal to stop came into.
struct Waiting<'a> {
    path: &'a str,
    holder: Option<&'a Holder>,
    looked_for: bool,
    /// The signal's number, and how long before the end it came, in milliseconds.
    told: (i32, f64),
}

impl Waiting<'_> {
    /// `what` says who waited for the object, and how.
    fn finding(
        &self,
        case: &Case<'_>,
        exit: &Exit,
        evidence: Vec<EvidenceRef>,
        what: impl FnOnce(&str) -> String,
    ) -> Finding {
        let object = object(self.path);
        let (signal, before_end_ms) = self.told;
        Finding {
            cause: Cause::FileLocked,
            confidence: Confidence::Medium,
            summary: format!(
                "{}{}{} when it was told to stop by {}; {} ended with {} {} later",
                what(&object),
                context::on_volume(case, self.path),
                words::held(self.holder, self.looked_for, ","),
                signals::name(signal),
                case.main_name(),
                words::ending(exit),
                words::span(before_end_ms)
            ),
            remedy: remedy(self.holder, self.looked_for, &object),
            object,
            evidence,
        }
    }
}

/// Programs try a lock and do something else when they cannot have it: with other failures beside it, it may have been one of those.
fn confidence(call: &Call<'_>) -> Confidence {
    let confidence = call.confidence();
    if (call.rivals > 0 && !call.named) || call.failure.path.is_empty() {
        confidence.min(Confidence::Medium)
    } else {
        confidence
    }
}

fn left_behind(object: &str) -> String {
    format!(
        "if no other instance runs, an earlier one that was killed left {object} behind: remove it before the program starts, or keep it out of volumes that outlive the container"
    )
}

fn object(path: &str) -> String {
    if path.is_empty() { "a file whose path is not known".to_owned() } else { words::one_line(path) }
}

fn remedy(holder: Option<&Holder>, looked_for: bool, object: &str) -> String {
    match holder {
        Some(holder) if holder.same_container => format!(
            "let one process of the container use {object} at a time: {} has it locked",
            words::process(&holder.comm, holder.pid)
        ),
        Some(holder) if !holder.pod_uid.is_empty() => format!(
            "let one pod use {object} at a time: with spec.strategy.type Recreate the old pod ends before the new one starts, with volumeClaimTemplates of a StatefulSet each has a volume of its own; the pod with the UID {} has it locked",
            words::one_line(&holder.pod_uid)
        ),
        Some(holder) => format!(
            "let one program use {object} at a time: end {}, or give each a file of its own",
            words::holder(holder)
        ),
        None if looked_for => format!(
            "whoever holds {object} runs on another node, or ran there and its lease on the file server has not ended: look for other pods that mount the same volume"
        ),
        None => format!(
            "find out who else uses {object}: other pods that mount the same volume, or another instance of the program"
        ),
    }
}
