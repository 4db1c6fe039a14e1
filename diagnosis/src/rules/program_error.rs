//! The program ended itself: by a fault, by a signal it raised, or with an exit code and nothing failed before it.

mod heap;
mod v8;

pub(super) use heap::full as heap_full;

use super::Finding;
use crate::calls::{self, Call};
use crate::case::Case;
use crate::evidence::{Failure, Fault, SenderKind, Signal};
use crate::pod::ChangeKind;
use crate::verdict::{Cause, Confidence, EvidenceRef};
use crate::{fault, signals, words};

/// A run shorter than this (milliseconds) ended while starting, where a wrong argument or setting is as likely as a bug.
const START_UP_MS: f64 = 10_000.0;
/// A fault that a handler turned into an exit code lies at most this long (milliseconds) before it: a trace is printed. A program that
/// lives longer went on with its work, as the JVM does after thousands of them.
const HANDLED_FAULT_MS: f64 = 20.0;
/// si_code of what the kernel sends without an address.
const SI_KERNEL: i32 = 128;

/// Signals that the kernel sends for what the program itself did: a closed pipe, its own timer.
const OWN_DOING: [i32; 4] = [signals::SIGPIPE, signals::SIGALRM, signals::SIGVTALRM, signals::SIGPROF];

/// The main process died of a signal that it or its own fault raised.
pub(super) fn fatal_signal(case: &Case<'_>) -> Option<Finding> {
    let fatal = case.fatal_signal()?;
    let number = case.raised_signal()?;
    let sent = case.last_signal_to_main(number).or_else(|| case.last_signal_to_main(fatal));
    let by_itself = raised_by_itself(case, sent.map(|(_, signal)| signal));
    let by_kernel = killer(case) == SenderKind::Kernel || sent.is_some_and(|(_, signal)| signal.code > 0);
    let own = by_itself || (by_kernel && (signals::is_fault(number) || OWN_DOING.contains(&number)));
    let sender_seen =
        sent.is_some_and(|(_, signal)| signal.sender.is_some()) || killer(case) != SenderKind::Unknown;
    let unseen = !sender_seen && signals::is_fault(number);
    if !own && !unseen {
        return None;
    }
    let mut evidence: Vec<EvidenceRef> =
        sent.map(|(index, _)| EvidenceRef::Signal(index)).into_iter().collect();
    evidence.push(EvidenceRef::Exit);
    let place = case.evidence.fault.as_ref().filter(|fault| fault.signal == number);
    evidence.extend(place.map(|_| EvidenceRef::Fault));
    let object = signal_at(number, sent.map(|(_, signal)| signal), place);
    let more = place.map_or_else(String::new, |place| fault::more(place, case.main_pid()));
    let peer = case.lost_connection().filter(|_| number == signals::SIGPIPE);
    evidence.extend(peer.map(|(index, _)| EvidenceRef::Failure(index)));
    let dumped =
        if case.exit().is_some_and(|exit| exit.core_dumped) { "; a core dump was written" } else { "" };
    let mut summary = match number {
        signals::SIGABRT => {
            format!("{} aborted itself ({object}){more}{dumped}", case.main_name())
        }
        number if signals::is_fault(number) => {
            format!("{} crashed with {object}{more}{dumped}", case.main_name())
        }
        signals::SIGPIPE => {
            let peer = peer.map_or_else(String::new, |(_, failure)| broken_pipe(failure));
            format!(
                "{} wrote to a pipe or socket that nobody reads any more (SIGPIPE){peer}",
                case.main_name()
            )
        }
        _ => format!("{} ended itself with {object}", case.main_name()),
    };
    if fatal != number {
        summary.push_str(&format!(
            "; as PID 1 it ignores that signal, so abort() ended it by a deliberate fault ({})",
            signals::name(fatal)
        ));
    }
    // An exception that nobody catches ends in abort(), too: of C++, .NET and others.
    let thrown = (number == signals::SIGABRT).then(|| threw_for(case)).flatten();
    if let Some(call) = thrown {
        let on = [&call.failure.path, &call.failure.address].into_iter().find(|thing| !thing.is_empty());
        summary.push_str(&format!(
            "; {} before, {}{}: that may be what it could not do without",
            words::span(call.failure.last_before_death_ms),
            words::failed(call.failure),
            on.map_or_else(String::new, |thing| format!(" on {}", words::one_line(thing)))
        ));
        evidence.push(EvidenceRef::Failure(call.index));
    }
    let comm = case.evidence.process.as_ref().map_or("", |process| process.comm.as_str());
    let heap = v8::heap_limit(case, comm, true, number);
    summary.push_str(heap.as_ref().map_or("", |heap| &heap.why));
    evidence.extend(heap.as_ref().and_then(|heap| heap.evidence));
    Some(Finding {
        cause: Cause::ProgramError,
        confidence: if unseen || thrown.is_some() { Confidence::Medium } else { Confidence::High },
        summary,
        object,
        remedy: heap.map_or_else(|| remedy(number), |heap| heap.remedy),
        evidence,
    })
}

/// `: its connection to 10.0.0.9:5432/tcp, write failed with EPIPE (broken pipe)`.
fn broken_pipe(failure: &Failure) -> String {
    let object = if failure.address.is_empty() { &failure.path } else { &failure.address };
    format!(": its connection to {}, {}", words::one_line(object), words::failed(failure))
}

/// The call that failed right before the end, where one did that can be a reason.
fn threw_for<'a>(case: &'a Case<'_>) -> Option<&'a Call<'a>> {
    case.calls.iter().find(|call| call.failure.by_dying_thread && call.at_once && call.leaves_doubt())
}

/// The main process passed on that a child died of a fault: exit code 128 + signal.
pub(super) fn child_fault(case: &Case<'_>) -> Option<Finding> {
    let (index, child) = case.passed_on().filter(|(_, child)| signals::is_fault(child.signal))?;
    let sent = case.last_signal_to(child.pid, child.signal);
    let place = case.evidence.fault.as_ref().filter(|fault| fault.signal == child.signal);
    let object = signal_at(child.signal, sent.map(|(_, signal)| signal), place);
    let mut evidence = vec![EvidenceRef::ChildExit(index)];
    evidence.extend(sent.map(|(index, _)| EvidenceRef::Signal(index)));
    evidence.push(EvidenceRef::Exit);
    evidence.extend(place.map(|_| EvidenceRef::Fault));
    let heap = v8::heap_limit(case, &child.comm, false, child.signal);
    evidence.extend(heap.as_ref().and_then(|heap| heap.evidence));
    Some(Finding {
        cause: Cause::ProgramError,
        confidence: Confidence::High,
        summary: format!(
            "{} crashed with {object}{}, and {} passed that on as exit code {}{}",
            words::process(&child.comm, child.pid),
            place.map_or_else(String::new, |place| fault::more(place, child.pid)),
            case.main_name(),
            case.exit_code().unwrap_or_default(),
            heap.as_ref().map_or("", |heap| &heap.why)
        ),
        object,
        remedy: heap.map_or_else(|| remedy(child.signal), |heap| heap.remedy),
        evidence,
    })
}

/// A runtime's handler (Go's, the JVM's) turned a fault into an exit code.
pub(super) fn handled_fault(case: &Case<'_>) -> Option<Finding> {
    let code = case.exit_code().filter(|code| *code != 0)?;
    let (index, signal) = case.evidence.signals.iter().enumerate().rfind(|(_, signal)| {
        // One that was sent by kill(2), or that the kernel ignored for PID 1, is no fault of the program.
        signals::is_fault(signal.signal)
            && signal.code > 0
            && signal.delivered
            && signal.target_pid == case.main_pid()
            && signal.before_death_ms <= HANDLED_FAULT_MS
            && !is_a_test(case, signal)
    })?;
    let object = signal_at(signal.signal, Some(signal), None);
    Some(Finding {
        cause: Cause::ProgramError,
        confidence: Confidence::Medium,
        summary: format!(
            "{} got {object}, handled it itself and ended with exit code {code} {} later",
            case.main_name(),
            words::span(signal.before_death_ms)
        ),
        object,
        remedy: remedy(signal.signal),
        evidence: vec![EvidenceRef::Signal(index), EvidenceRef::Exit],
    })
}

/// A JVM reads from address 0 on purpose while it sets itself up, to see what the processor saves. What its program does with a null
/// faults at the place of a field, a little above.
fn is_a_test(case: &Case<'_>, signal: &Signal) -> bool {
    let is_java = case.evidence.process.as_ref().is_some_and(|process| process.comm == "java");
    is_java && signal.signal == signals::SIGSEGV && signal.fault_address == 0
}

/// It left with a code, and no call of its that could explain it had failed. Only a complete record can say so.
pub(super) fn exit_code(case: &Case<'_>) -> Option<Finding> {
    let code = case.exit_code().filter(|code| *code != 0)?;
    let in_doubt = case.incomplete().is_some() || case.calls.iter().any(Call::leaves_doubt);
    if in_doubt || case.evidence.process.is_none() {
        return None;
    }
    let starting = case.life_ms().is_none_or(|life| life < START_UP_MS);
    let (confidence, doubt) = if starting {
        (Confidence::Low, "; so early, a wrong argument, variable or setting is as likely as a bug")
    } else {
        (Confidence::Medium, "")
    };
    let (who, ended) = case.ended_itself(code, "", case.life_ms());
    let code_word = format!("exit code {code}");
    let mut evidence = vec![EvidenceRef::Exit];
    let changes = case.pod.map(|pod| pod.changes.as_slice()).unwrap_or_default();
    let image = changes.iter().position(|change| change.kind == ChangeKind::Image);
    evidence.extend(image.map(EvidenceRef::Change));
    let image = image.and_then(|index| changes.get(index));
    let (confidence, doubt) = match image {
        Some(change) => (
            Confidence::Medium,
            format!("; since it last ran well its image was changed: {}", words::one_line(&change.text)),
        ),
        None => (confidence, doubt.to_owned()),
    };
    evidence.extend(case.passed_on().map(|(index, _)| EvidenceRef::ChildExit(index)));
    // What healthy programs rarely fail with tells more; else the last.
    let done_without = case.calls.iter().filter(|call| call.is_done_without());
    let without = done_without
        .min_by(|one, other| other.standing.cmp(&one.standing).then(one.gap_ms.total_cmp(&other.gap_ms)));
    evidence.extend(without.map(|call| EvidenceRef::Failure(call.index)));
    let without = without.map_or_else(String::new, |call| {
        let thing = words::one_line(calls::thing(call.failure));
        let span = words::span(call.by_clock_ms);
        format!("; {span} before that it had done without {thing}: {}", words::failed(call.failure))
    });
    Some(Finding {
        cause: Cause::ProgramError,
        confidence,
        summary: format!("{who} {ended}, and no call that failed before explains it{doubt}{without}"),
        object: code_word,
        remedy: format!(
            "look at what changed in the image, in {0}.command and {0}.args, in {0}.env and in the mounted configuration since it last ran well",
            case.field()
        ),
        evidence,
    })
}

fn killer(case: &Case<'_>) -> SenderKind {
    case.exit().and_then(|exit| exit.killed_by.as_ref()).map_or(SenderKind::Unknown, |by| by.kind)
}

fn raised_by_itself(case: &Case<'_>, sent: Option<&Signal>) -> bool {
    let main = case.main_pid();
    let recorded = sent.and_then(|signal| signal.sender.as_ref());
    let killer = case.exit().and_then(|exit| exit.killed_by.as_ref());
    recorded.or(killer).is_some_and(|by| main != 0 && by.pid == main)
}

/// `SIGSEGV at 0x0 in libfoo.so+0x1a2b`, as much of it as is known; only faults have an address.
fn signal_at(number: i32, sent: Option<&Signal>, place: Option<&Fault>) -> String {
    let has_address = matches!(
        number,
        signals::SIGSEGV | signals::SIGBUS | signals::SIGILL | signals::SIGFPE | signals::SIGTRAP
    );
    // The place tells the address even where the signal itself does not: a handler that could not be run.
    let told = place.map(|place| (place.code, place.address));
    let sent = sent.filter(|signal| signal.signal == number);
    let told = told.or_else(|| sent.map(|signal| (signal.code, signal.fault_address)));
    let mut object = signals::name(number);
    // SI_KERNEL: a general protection fault, for which the kernel knows no address.
    if let Some((_, address)) = told.filter(|(code, _)| has_address && *code > 0 && *code != SI_KERNEL) {
        object.push_str(&format!(" at {address:#x}"));
    }
    if let Some(frame) = place.and_then(fault::place) {
        object.push_str(&format!(" in {}", fault::module_and_offset(frame)));
    }
    object
}

fn remedy(number: i32) -> String {
    let what = match number {
        signals::SIGABRT => "the program's own check failed (assertion, uncaught exception, runtime abort)",
        signals::SIGILL => {
            "the program uses an instruction that this processor lacks, or trapped on purpose: compare the image's target with the node"
        }
        signals::SIGSYS => "a system call was forbidden: see securityContext.seccompProfile",
        signals::SIGPIPE => "let the program handle a closed pipe, or find out why the reader left",
        signals::SIGBUS => {
            return "a mapped file could not be read or filled: see whether /dev/shm (64Mi unless an emptyDir with medium Memory is mounted there) or the volume of that file is full, or the file was cut while it was mapped; else it is a bug in the program".to_owned();
        }
        _ => "this is a bug in the program or in a library it uses",
    };
    format!(
        "{what}; go back to the image that last ran well, and give its developers the signal and the address"
    )
}
