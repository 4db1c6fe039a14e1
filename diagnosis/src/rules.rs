//! One file a cause, in the order of the usual list of reasons for a crash loop, and [`PRECEDENCE`]: which of them wins.
//!
//! To add a cause: a file here with one function, and that function's place in the list.

// 1. A wrong configuration.
mod invalid_configuration;
// 2. Out of memory, out of resources.
mod disk_full;
mod out_of_memory;
mod resource_limit;
// 3. Two programs, one port.
mod port_in_use;
// 4. A file that somebody else has locked.
mod file_locked;
// 5. A missing file, script or package.
mod exec_failed;
mod file_not_found;
// 6. A bug.
mod program_error;
// 7. A wrong or missing argument.
mod invalid_arguments;
// 8. A wrong probe.
mod probe_failed;
// 9. Not enough permission.
mod permission_denied;
mod seccomp_denied;
// 10. A read-only file system.
mod read_only_filesystem;
// 11. Connection trouble.
mod connection_failed;
mod dns_failed;
// 12. A wrong environment variable.
mod invalid_environment;
// 13. No identity.
mod identity_unavailable;
// What is no fault of the program, and what cannot be told.
mod completed;
pub(crate) mod killed;
mod unknown;
// What the Kubernetes API states by itself.
mod container_config_error;
mod container_create_error;
mod evicted;
mod image_pull_failed;
mod node_shutdown;
mod preempted;

use crate::calls::Call;
use crate::case::Case;
use crate::planned;
use crate::verdict::{Cause, Confidence, Diagnosis, EvidenceRef};

/// What a rule found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finding {
    pub(crate) cause: Cause,
    pub(crate) confidence: Confidence,
    pub(crate) summary: String,
    pub(crate) object: String,
    pub(crate) remedy: String,
    /// Best first.
    pub(crate) evidence: Vec<EvidenceRef>,
}

/// A rule that looks at the whole death.
type WholeRule = fn(&Case<'_>) -> Option<Finding>;
/// A rule that knows one kind of failed call.
type CallRule = fn(&Case<'_>, &Call<'_>) -> Option<Finding>;

enum Step {
    /// This rule, if it finds something.
    Whole(WholeRule),
    /// The rule that knows the strongest failed call. Each kind of call has one rule, so their order says nothing.
    StrongestCall(&'static [CallRule]),
}

/// Which rule wins over which: the first that finds something. What ended the process beats what failed before it; among failed calls
/// the order is that of [`crate::calls`].
const PRECEDENCE: &[Step] = &[
    Step::Whole(out_of_memory::main_process),
    Step::Whole(killed::timed_out),
    Step::Whole(out_of_memory::child),
    Step::Whole(resource_limit::by_signal),
    Step::Whole(seccomp_denied::by_signal),
    // A stop from outside, by what the API states of it.
    Step::Whole(evicted::with_its_pod),
    Step::Whole(preempted::with_its_pod),
    Step::Whole(node_shutdown::with_its_pod),
    Step::Whole(probe_failed::stopped),
    Step::Whole(program_error::fatal_signal),
    Step::Whole(file_locked::waiting),
    Step::Whole(file_locked::polling),
    Step::Whole(killed::by_signal),
    Step::Whole(completed::by_itself),
    Step::Whole(exec_failed::never_started),
    Step::Whole(container_create_error::never_started),
    Step::Whole(container_create_error::waiting),
    Step::Whole(container_config_error::waiting),
    Step::Whole(image_pull_failed::waiting),
    Step::Whole(probe_failed::told),
    Step::Whole(completed::told),
    Step::Whole(killed::stopped),
    Step::Whole(killed::child),
    Step::Whole(killed::by_timeout),
    Step::Whole(program_error::child_fault),
    Step::Whole(exec_failed::command_not_found),
    Step::Whole(exec_failed::library),
    Step::Whole(file_not_found::told),
    // A log that names the thing, where no call failed that outweighs words.
    Step::Whole(file_locked::told),
    Step::Whole(invalid_arguments::told),
    Step::Whole(invalid_environment::told),
    Step::Whole(invalid_configuration::told),
    Step::StrongestCall(&[
        // These two know what the others would name by the call alone.
        identity_unavailable::call,
        invalid_environment::call,
        invalid_arguments::address,
        invalid_configuration::address,
        resource_limit::raise,
        dns_failed::call,
        seccomp_denied::call,
        exec_failed::call,
        permission_denied::call,
        read_only_filesystem::call,
        file_not_found::call,
        port_in_use::call,
        file_locked::call,
        connection_failed::call,
        disk_full::call,
        resource_limit::call,
    ]),
    Step::Whole(file_not_found::module),
    Step::Whole(file_not_found::packages),
    Step::Whole(program_error::handled_fault),
    Step::Whole(program_error::heap_full),
    // A rule names a code, and a failure may leave with the same one.
    Step::Whole(completed::by_rule),
    // What was changed since it last ran well tells more than what it was given.
    Step::Whole(invalid_arguments::changed),
    Step::Whole(invalid_environment::changed),
    Step::Whole(invalid_configuration::changed),
    Step::Whole(invalid_configuration::guessed),
    Step::Whole(invalid_environment::guessed),
    Step::Whole(invalid_arguments::guessed),
    Step::Whole(program_error::exit_code),
];

/// At most this many lines of causes that lost: more would not be read.
const MOST_ALSO_SEEN: usize = 5;

/// The diagnosis: the first finding in order of precedence, and what else would have been found. The rule of the cause `without` is
/// not asked.
pub(crate) fn decide(case: &Case<'_>, without: Option<Cause>) -> Diagnosis {
    let findings = PRECEDENCE.iter().flat_map(|step| step.findings(case));
    let mut findings = findings.filter(|finding| Some(finding.cause) != without);
    let winner = findings.next().unwrap_or_else(|| unknown::finding(case));
    let mut also_seen: Vec<String> = Vec::new();
    // Another reading of the same piece of evidence is no other explanation.
    let other = |finding: &Finding| {
        finding.object != winner.object
            && !finding.evidence.first().is_some_and(|best| winner.evidence.contains(best))
    };
    for loser in findings.filter(other) {
        let line = loser.line();
        if also_seen.len() < MOST_ALSO_SEEN && !also_seen.contains(&line) {
            also_seen.push(line);
        }
    }
    let Finding { cause, confidence, summary, object, remedy, evidence } = winner;
    // A cause that is not known cannot be shown by the evidence.
    let confidence = if cause == Cause::Unknown { confidence.min(Confidence::Medium) } else { confidence };
    let planned = planned::is(case, cause);
    Diagnosis { cause, confidence, summary, object, remedy, evidence, also_seen, planned }
}

impl Step {
    fn findings(&self, case: &Case<'_>) -> Vec<Finding> {
        match self {
            Self::Whole(rule) => rule(case).into_iter().collect(),
            Self::StrongestCall(rules) => case
                .calls
                .iter()
                .filter(|call| call.may_decide() && case.exit_code().is_none_or(|code| code != 0))
                .filter_map(|call| rules.iter().find_map(|rule| rule(case, call)))
                .take(MOST_ALSO_SEEN + 1)
                .collect(),
        }
    }
}

impl Finding {
    fn line(&self) -> String {
        format!("{}: {}", self.object, self.summary)
    }
}

/// The evidence of a failed call: the call itself, then the exit.
fn call_and_exit(case: &Case<'_>, call: &Call<'_>) -> Vec<EvidenceRef> {
    let mut evidence = vec![EvidenceRef::Failure(call.index)];
    if let Some((index, child)) = case.passed_on()
        && child.pid == call.failure.pid
    {
        evidence.push(EvidenceRef::ChildExit(index));
    }
    if case.exit().is_some() {
        evidence.push(EvidenceRef::Exit);
    }
    evidence
}

/// `0.4 ms before it ended with exit code 1`, the end of the sentence about a failed call.
fn before_the_end(case: &Case<'_>, call: &Call<'_>) -> String {
    let span = crate::words::span(call.by_clock_ms);
    match case.exit() {
        Some(exit) if call.by_dying() => {
            format!("{span} before it ended with {}", crate::words::ending(exit))
        }
        Some(exit) => format!("{span} before the container ended with {}", crate::words::ending(exit)),
        None => format!("{span} before the end"),
    }
}
