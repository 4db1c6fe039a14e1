//! Somebody else ended the program.

use super::Finding;
use crate::case::Case;
use crate::evidence::{KilledBy, SenderKind, Signal, UnixNanos};
use crate::verdict::{Cause, Confidence, EvidenceRef};
use crate::{planned, signals, words};

/// A process that was asked to stop may take this long (milliseconds): the longest usual terminationGracePeriodSeconds.
const LONGEST_STOP_MS: f64 = 600_000.0;
/// The API's times are whole seconds of another clock than the node's.
const CLOCKS_APART_NANOS: i64 = 5_000_000_000;
/// SIGHUP asks most programs to read their configuration anew: one that leaves for it does so within this (milliseconds).
const HANGS_UP_MS: f64 = 1_000.0;
/// Signals by which programs are asked to stop.
const STOPPING: [i32; 4] = [signals::SIGTERM, signals::SIGINT, signals::SIGHUP, signals::SIGQUIT];

/// `lastwords-agent try --timeout` ended it.
pub(super) fn timed_out(case: &Case<'_>) -> Option<Finding> {
    if !case.evidence.timed_out {
        return None;
    }
    let after = case.life_ms().map_or_else(String::new, |life| format!(" after {}", words::span(life)));
    Some(Finding {
        cause: Cause::Killed,
        confidence: Confidence::High,
        summary: format!(
            "{} was still running{after}, when its --timeout was over, and was killed for that{}",
            case.main_name(),
            waiting(case)
        ),
        object: "SIGKILL from lastwords-agent (--timeout)".to_owned(),
        remedy: "give it more time with --timeout, or find out what it waits for".to_owned(),
        evidence: case.exit().map(|_| EvidenceRef::Exit).into_iter().collect(),
    })
}

/// The main process died of a signal that somebody else sent.
pub(super) fn by_signal(case: &Case<'_>) -> Option<Finding> {
    let number = case.fatal_signal()?;
    let sent = case.last_signal_to_main(number);
    let killer = killer(case);
    let name = signals::name(number);
    let stop = asked_to_stop(case);
    let mut evidence = vec![EvidenceRef::Exit];
    evidence.extend(sent.map(|(index, _)| EvidenceRef::Signal(index)));
    evidence.extend(stop.map(|(index, _)| EvidenceRef::Signal(index)));
    evidence.extend(case.evidence.blocked.as_ref().map(|_| EvidenceRef::Blocked));
    evidence.dedup();
    let before =
        stop.filter(|(_, signal)| signal.signal != number).map_or_else(String::new, |(_, signal)| {
            let ignored = if signal.delivered {
                "did not end"
            } else {
                "ignored it, having no handler for it as PID 1"
            };
            format!(
                "; {} before it had been asked to stop by {} and {ignored}",
                words::span(signal.before_death_ms),
                signals::name(signal.signal)
            )
        });
    let seen = killer.is_some_and(|by| by.kind != SenderKind::Unknown);
    let forced = number == signals::SIGKILL;
    Some(explained_by_plan(
        case,
        forced,
        Finding {
            cause: Cause::Killed,
            confidence: if seen { Confidence::High } else { Confidence::Medium },
            summary: format!(
                "{} was ended by {name} from {}{before}{}",
                case.main_name(),
                words::sender(killer),
                waiting(case)
            ),
            object: format!("{name} from {}", words::sender(killer)),
            remedy: remedy(case, killer),
            evidence,
        },
    ))
}

/// Asked to stop from outside, it left with a code other than 0.
pub(super) fn stopped(case: &Case<'_>) -> Option<Finding> {
    let code = case.exit_code().filter(|code| *code != 0)?;
    let (index, signal) = asked_to_stop(case).filter(|(_, signal)| signal.delivered)?;
    // With a code of its own it may have crashed while it stopped.
    let agrees = code == 128 + signal.signal;
    let mut evidence = vec![EvidenceRef::Signal(index), EvidenceRef::Exit];
    evidence.extend(case.evidence.blocked.as_ref().map(|_| EvidenceRef::Blocked));
    let finding = Finding {
        cause: Cause::Killed,
        confidence: if agrees { Confidence::High } else { Confidence::Medium },
        summary: format!(
            "{} was asked to stop by {} from {} and left {} later with exit code {code}{}",
            case.main_name(),
            signals::name(signal.signal),
            words::sender(signal.sender.as_ref()),
            words::span(signal.before_death_ms),
            waiting(case)
        ),
        object: format!("{} from {}", signals::name(signal.signal), words::sender(signal.sender.as_ref())),
        remedy: remedy(case, signal.sender.as_ref()),
        evidence,
    };
    let why = planned::reason(case).filter(|_| !agrees && from_runtime(signal.sender.as_ref()));
    match why {
        Some(why) => Some(Finding {
            summary: format!("{}; {}, but this is no exit code of a stop", finding.summary, why.words),
            remedy: format!(
                "see what fails while it stops: after {} a program leaves with 0 or {}",
                signals::name(signal.signal),
                128 + signal.signal
            ),
            ..finding
        }),
        None => Some(explained_by_plan(case, false, finding)),
    }
}

/// A stop of which Kubernetes tells that it was wanted. `forced` when it took a SIGKILL.
fn explained_by_plan(case: &Case<'_>, forced: bool, finding: Finding) -> Finding {
    let Some(stop) = planned::stop(case) else { return finding };
    let mut evidence = finding.evidence;
    evidence.extend(stop.event);
    let remedy = if forced {
        "no crash; to stop in time it has to handle SIGTERM (as PID 1 it ignores what it has no handler for), or needs a longer spec.terminationGracePeriodSeconds"
    } else {
        "nothing is wrong"
    };
    Finding {
        summary: format!("{}; {}", finding.summary, stop.words),
        remedy: remedy.to_owned(),
        evidence,
        ..finding
    }
}

/// `timeout` ended the program that it was to run, and left with the code by which it says so.
pub(super) fn by_timeout(case: &Case<'_>) -> Option<Finding> {
    /// What coreutils' and busybox' `timeout` leave with.
    const TIMED_OUT: i32 = 124;
    /// And how soon after the signal, where the program does not ignore it (milliseconds).
    const RIGHT_AFTER_MS: f64 = 1_000.0;
    let process = case.evidence.process.as_ref().filter(|process| process.comm == "timeout")?;
    let (index, signal) = case.evidence.signals.iter().enumerate().rfind(|(_, signal)| {
        signal.target_pid != process.pid
            && signal.before_death_ms <= RIGHT_AFTER_MS
            && signal.sender.as_ref().is_some_and(|by| by.pid == process.pid)
    })?;
    if case.exit_code() != Some(TIMED_OUT) {
        return None;
    }
    let name = signals::name(signal.signal);
    let sender = words::sender(signal.sender.as_ref());
    Some(Finding {
        cause: Cause::Killed,
        confidence: Confidence::Medium,
        summary: format!(
            "the time that timeout was given was used up{}: it sent {name} to the program that it ran, and left with exit code {TIMED_OUT}",
            case.life_ms().map_or_else(String::new, |life| format!(" after {}", words::span(life)))
        ),
        object: format!("{name} from {sender}"),
        remedy: format!(
            "give timeout more time in {0}.command (or {0}.args), or see what the program waited for",
            case.field()
        ),
        evidence: vec![EvidenceRef::Signal(index), EvidenceRef::Exit],
    })
}

/// A child was killed by somebody, and the main process passed that on as exit code 128 + signal.
pub(super) fn child(case: &Case<'_>) -> Option<Finding> {
    let (index, child) = case.passed_on().filter(|(_, child)| child.signal != 0)?;
    let sent = case.last_signal_to(child.pid, child.signal);
    let sender = sent.and_then(|(_, signal)| signal.sender.as_ref());
    // The kernel sends a fault, and abort() what the program sends itself; but a watchdog, too, wants a core dump.
    let by_another = sent.is_some_and(|(_, signal)| signal.code <= 0)
        && sender.is_some_and(|by| by.pid != child.pid && by.kind != SenderKind::Unknown);
    // Nobody sends that one: it wrote into a pipe whose reader had left.
    if child.signal == signals::SIGPIPE || (signals::is_fault(child.signal) && !by_another) {
        return None;
    }
    // Who stops the others when one of them has ended is not the reason: that one is.
    let by_main = sender.is_some_and(|by| by.pid == case.main_pid());
    let stopped_ms = sent.map_or(0.0, |(_, signal)| signal.before_death_ms);
    if by_main && case.failed_before(child.pid, stopped_ms) {
        return None;
    }
    let name = signals::name(child.signal);
    let mut evidence = vec![EvidenceRef::ChildExit(index)];
    evidence.extend(sent.map(|(index, _)| EvidenceRef::Signal(index)));
    evidence.push(EvidenceRef::Exit);
    Some(Finding {
        cause: Cause::Killed,
        confidence: if sender.is_some() { Confidence::High } else { Confidence::Medium },
        summary: format!(
            "{} was ended by {name} from {}, and {} passed that on as exit code {}",
            words::process(&child.comm, child.pid),
            words::sender(sender),
            case.main_name(),
            case.exit_code().unwrap_or_default()
        ),
        object: format!("{name} from {}", words::sender(sender)),
        remedy: remedy(case, sender),
        evidence,
    })
}

/// An end that the API explains by what was done to the whole pod. None when this container ended in another way.
pub(super) fn with_its_pod(
    case: &Case<'_>,
    cause: Cause,
    confidence: Confidence,
    object: String,
    summary: String,
    remedy: String,
) -> Option<Finding> {
    if ended_before(case, case.pod?.disruption.since) {
        return None;
    }
    if case.only_kubernetes() {
        return Some(Finding { cause, confidence, summary, object, remedy, evidence: Vec::new() });
    }
    let exit = case.exit()?;
    let stop = asked_to_stop(case).filter(|(_, signal)| from_runtime(signal.sender.as_ref()));
    let unseen = is_unseen_stop(case);
    if stop.is_none() && !from_runtime(exit.killed_by.as_ref()) && !unseen {
        return None;
    }
    let mut evidence = vec![EvidenceRef::Exit];
    evidence.extend(stop.map(|(index, _)| EvidenceRef::Signal(index)));
    Some(Finding {
        cause,
        confidence: if unseen { confidence.min(Confidence::Medium) } else { confidence },
        summary: format!("{summary}; {} ended with {}", case.main_name(), words::ending(exit)),
        object,
        remedy,
        evidence,
    })
}

/// True when the run was over before that was asked for.
fn ended_before(case: &Case<'_>, asked: UnixNanos) -> bool {
    let evidence = case.evidence;
    let exited = evidence.process.as_ref().map(|process| process.exited_at).filter(|time| time.0 > 0);
    let told = || case.pod?.container.terminated.as_ref().map(|ended| ended.finished_at);
    let ended = exited.or_else(told).unwrap_or(evidence.observed_at);
    ended.0 > 0 && ended.0.saturating_add(CLOCKS_APART_NANOS) < asked.0
}

/// True when nobody watched what could have stopped it, and it ended as what is stopped does.
pub(crate) fn is_unseen_stop(case: &Case<'_>) -> bool {
    let unseen = case.evidence.losses.agent_started_later && case.evidence.signals.is_empty();
    unseen
        && case.exit().is_some_and(|exit| match exit.signal {
            0 => matches!(exit.code, 0 | 143 | 137),
            signals::SIGTERM | signals::SIGKILL => {
                exit.killed_by.as_ref().is_none_or(|by| by.kind == SenderKind::Unknown)
            }
            _ => false,
        })
}

/// Who sent the signal that ended the main process.
pub(crate) fn killer<'a>(case: &Case<'a>) -> Option<&'a KilledBy> {
    let sent = || case.last_signal_to_main(case.fatal_signal()?)?.1.sender.as_ref();
    case.exit().and_then(|exit| exit.killed_by.as_ref()).or_else(sent)
}

/// True when what the main process passed on was the end of a child by somebody outside the container who is not the runtime.
pub(crate) fn is_of_a_child_killed_from_outside(case: &Case<'_>) -> bool {
    let sender = case
        .passed_on()
        .and_then(|(_, child)| case.last_signal_to(child.pid, child.signal))
        .and_then(|(_, signal)| signal.sender.as_ref());
    sender.is_some_and(|by| by.kind == SenderKind::Other)
}

/// True for the container runtime.
pub(crate) fn from_runtime(by: Option<&KilledBy>) -> bool {
    by.is_some_and(|by| by.kind == SenderKind::Runtime)
}

/// `; it was waiting in read on /run/in when it was told to stop`, where that is known.
pub(super) fn waiting(case: &Case<'_>) -> String {
    let Some(blocked) = &case.evidence.blocked else { return String::new() };
    let who = if blocked.pid == case.main_pid() {
        "it".to_owned()
    } else {
        words::process(&blocked.comm, blocked.pid)
    };
    format!("; {who} was {} when it was told to stop", words::waiting_in(blocked))
}

/// The last request to stop that came from another process.
pub(crate) fn asked_to_stop<'a>(case: &Case<'a>) -> Option<(usize, &'a Signal)> {
    case.evidence.signals.iter().enumerate().rfind(|(_, signal)| {
        let from_another = signal.sender.as_ref().is_some_and(|by| {
            matches!(by.kind, SenderKind::Runtime | SenderKind::SameContainer | SenderKind::Other)
                && by.pid != case.main_pid()
        });
        signal.to_main
            && STOPPING.contains(&signal.signal)
            && from_another
            && signal.before_death_ms
                <= if signal.signal == signals::SIGHUP { HANGS_UP_MS } else { LONGEST_STOP_MS }
    })
}

/// What to do about somebody who sends signals.
pub(super) fn remedy(case: &Case<'_>, killer: Option<&KilledBy>) -> String {
    match killer.map_or(SenderKind::Unknown, |by| by.kind) {
        SenderKind::Runtime => format!(
            "the container runtime stopped it from outside: see the pod's events for a failed probe, a drain or a deletion; if it needs longer to stop, let it handle SIGTERM or raise spec.terminationGracePeriodSeconds ({}.livenessProbe, if that is what failed)",
            case.field()
        ),
        SenderKind::SameContainer => "find out why that process of the same container sends this signal".to_owned(),
        SenderKind::Kernel => "the kernel ends every process of a PID namespace whose first process ended: look at that one's end".to_owned(),
        SenderKind::OomKiller | SenderKind::Other | SenderKind::Unknown => {
            "find out who on the node sends this signal: it came from outside the container".to_owned()
        }
    }
}
