//! A seccomp filter forbids a system call: it ends the process, or answers in the kernel's place.

use super::{Finding, before_the_end, call_and_exit, permission_denied};
use crate::calls::Call;
use crate::case::Case;
use crate::evidence::Seccomp;
use crate::verdict::{Cause, Confidence, EvidenceRef};
use crate::{signals, words};

/// si_code of what a filter forbade; other senders of SIGSYS have others.
const SYS_SECCOMP: i32 = 1;

/// Ended by the SIGSYS of a filter: the main process, or a child whose end it passed on.
pub(super) fn by_signal(case: &Case<'_>) -> Option<Finding> {
    let child = case.passed_on().filter(|(_, child)| child.signal == signals::SIGSYS);
    let (index, sent) = match child {
        Some((_, child)) => case.last_signal_to(child.pid, signals::SIGSYS),
        None if case.fatal_signal() == Some(signals::SIGSYS) => case.last_signal_to_main(signals::SIGSYS),
        None => None,
    }
    .filter(|(_, signal)| signal.code == SYS_SECCOMP)?;
    let who = child.map_or_else(|| case.main_name(), |(_, child)| words::process(&child.comm, child.pid));
    let (object, call) = match sent.syscall.as_str() {
        // 32-bit calls have other numbers.
        "" => ("a system call".to_owned(), "a system call whose name is not known".to_owned()),
        name => (words::one_line(name), words::one_line(name)),
    };
    let mut evidence = vec![EvidenceRef::Signal(index)];
    evidence.extend(child.map(|(index, _)| EvidenceRef::ChildExit(index)));
    evidence.push(EvidenceRef::Exit);
    Some(Finding {
        cause: Cause::SeccompDenied,
        confidence: Confidence::High,
        summary: format!(
            "{who} called {call}, which its seccomp filter forbids: the kernel ended it with SIGSYS"
        ),
        remedy: remedy(case, &object),
        object,
        evidence,
    })
}

/// A call that a filter answered with an error.
pub(super) fn call(case: &Case<'_>, call: &Call<'_>) -> Option<Finding> {
    let failure = call.failure;
    let has_it = permission_denied::needs_nothing_more(failure);
    let likely = failure.seccomp == Seccomp::Undecided
        && (has_it || permission_denied::is_refused_without_reason(failure));
    if failure.seccomp != Seccomp::Denied && !likely {
        return None;
    }
    let object = words::one_line(&failure.syscall);
    let on = [&failure.path, &failure.address, &failure.name].into_iter().find(|text| !text.is_empty());
    let on = on.map_or_else(String::new, |on| format!(" on {}", words::one_line(on)));
    Some(Finding {
        cause: Cause::SeccompDenied,
        confidence: if likely { call.confidence().min(Confidence::Medium) } else { call.confidence() },
        summary: format!(
            "{} (uid {}) called {object}{on}, which its seccomp filter {}refuses: {} {}",
            words::program(&failure.comm),
            failure.uid,
            match (likely, has_it) {
                (true, true) => "most likely (it has the capability for that) ",
                (true, false) => "most likely (it takes no capability) ",
                (false, _) => "",
            },
            words::failed(failure),
            before_the_end(case, call)
        ),
        remedy: remedy(case, &object),
        object,
        evidence: call_and_exit(case, call),
    })
}

fn remedy(case: &Case<'_>, call: &str) -> String {
    format!(
        "allow {call} in the profile that {}.securityContext.seccompProfile (or spec.securityContext.seccompProfile) names, or make the program do without it",
        case.field()
    )
}
