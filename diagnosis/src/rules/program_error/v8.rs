//! V8's own heap limit: it aborts there, which looks like a failed check of the program's.

use crate::case::Case;
use crate::verdict::EvidenceRef;
use crate::{context, log, signals, words};

/// What V8 says before it aborts, whichever limit it was.
const SAID: &str = "JavaScript heap out of memory";
/// The options that set the limit, in MiB; V8 takes `_` for `-`.
const OPTIONS: [&str; 2] = ["--max-old-space-size", "--max-heap-size"];
/// The variable that node takes options from.
const VARIABLE: &str = "NODE_OPTIONS";
/// The newest sample of the memory tells how full the heap was when it is at most this old (milliseconds).
const FRESH_MS: f64 = 2_500.0;
/// A heap that is full is most of what its process holds; of a container that held less than this part of the limit it was not.
const PART: u64 = 2;

/// What is to be added to the sentence about the abort, and what to do about it.
pub(super) struct HeapLimit {
    pub(super) why: String,
    pub(super) remedy: String,
    pub(super) evidence: Option<EvidenceRef>,
}

/// An option that sets the limit.
struct SetLimit {
    /// `--max-old-space-size=32`.
    option: String,
    mebibytes: u64,
    /// Where it stands.
    place: String,
}

/// Why a process of this name, the main one or a child, aborted with this signal: its log says that the heap was full, or its limit was set
/// by somebody, which is likely too low then.
pub(super) fn heap_limit(case: &Case<'_>, comm: &str, is_main: bool, signal: i32) -> Option<HeapLimit> {
    // node aborts; V8 without it traps on purpose.
    if !matches!(signal, signals::SIGABRT | signals::SIGTRAP | signals::SIGILL) {
        return None;
    }
    let of_node = is_main || comm.starts_with("node") || comm == "MainThread";
    let set = set_limit(case).filter(|_| of_node);
    let field = case.field();
    let raise = match &set {
        Some(SetLimit { option, place, .. }) => format!("raise {option} in {place}"),
        None => format!("raise {} (by {VARIABLE} in {field}.env)", OPTIONS[0]),
    };
    let raise = format!("{raise}, and {field}.resources.limits.memory with it, or make the program use less");
    let told = log::last_lines(case).find(|line| line.text.contains(SAID));
    if let Some(line) = told {
        let limit = set.map_or_else(String::new, |set| format!(", {},", set.option));
        return Some(HeapLimit {
            why: format!(
                "; V8's own heap limit{limit} was reached and no memory limit of the container: {}",
                line.quoted()
            ),
            remedy: raise,
            evidence: Some(line.evidence),
        });
    }
    let set = set.filter(|set| may_be_full(case, set.mebibytes))?;
    Some(HeapLimit {
        why: format!(
            "; likely V8's own heap limit, {}, was reached, at which it aborts, and no memory limit of the container",
            set.option
        ),
        remedy: format!(
            "{raise}; if its log tells of another reason for the abort, go back to the image that last ran well"
        ),
        evidence: None,
    })
}

/// The option that sets the limit, on the command line or in the variable.
fn set_limit(case: &Case<'_>) -> Option<SetLimit> {
    let arguments = case.evidence.process.iter().flat_map(|process| &process.args);
    let words: Vec<&str> = arguments.flat_map(|argument| argument.split_whitespace()).collect();
    let field = case.field();
    let by_arguments = option(&words).map(|(option, mebibytes)| SetLimit {
        option,
        mebibytes,
        place: format!("{field}.args (or {field}.command)"),
    });
    by_arguments.or_else(|| {
        let variables = &case.pod?.container.variables;
        let variable = variables.iter().rfind(|variable| variable.name == VARIABLE)?;
        let words: Vec<&str> = variable.value.split_whitespace().collect();
        let (option, mebibytes) = option(&words)?;
        Some(SetLimit {
            option,
            mebibytes,
            place: format!("the variable {}", context::described(case, VARIABLE).shown),
        })
    })
}

/// `--max-old-space-size=32`, or with the number in the next word.
fn option(words: &[&str]) -> Option<(String, u64)> {
    words.iter().enumerate().rev().find_map(|(at, word)| {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, value),
            None => (*word, words.get(at.saturating_add(1)).copied()?),
        };
        let is_limit = OPTIONS.contains(&name.replace('_', "-").as_str());
        let mebibytes = value.trim_matches(['"', '\'', ';']).parse().ok().filter(|_| is_limit)?;
        Some((words::one_line(&format!("{name}={mebibytes}")), mebibytes))
    })
}

/// False when the container's memory had been looked at right before, and was far from the limit.
fn may_be_full(case: &Case<'_>, mebibytes: u64) -> bool {
    let fresh = case.evidence.memory.iter().rfind(|sample| {
        case.before_end_ms(sample.time).is_some_and(|before_ms| (0.0..=FRESH_MS).contains(&before_ms))
    });
    fresh.is_none_or(|sample| sample.bytes >= mebibytes.saturating_mul(1 << 20) / PART)
}
