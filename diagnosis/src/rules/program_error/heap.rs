//! A runtime's own heap limit: no memory limit of the container, which looks the same to whoever reads "out of memory".

use super::super::Finding;
use crate::case::Case;
use crate::log;
use crate::verdict::{Cause, Confidence, EvidenceRef};

/// HotSpot ends itself with this code at an OutOfMemoryError when it was told to by [`EXIT_OPTION`] (since 8u92).
const EXIT_CODE: i32 = 3;
/// A program may end itself with 3 as well: hence never HIGH.
const EXIT_OPTION: &str = "-XX:+ExitOnOutOfMemoryError";
/// Where the limit stands.
const LIMITS: [&str; 2] = ["-Xmx", "-XX:MaxRAMPercentage="];

/// What runtimes say when a limit of their own is reached, and where it stands.
const SAID: [(&str, &str); 5] = [
    ("OutOfMemoryError: Java heap space", "-Xmx"),
    ("OutOfMemoryError: GC overhead limit exceeded", "-Xmx"),
    ("OutOfMemoryError: Metaspace", "-XX:MaxMetaspaceSize"),
    ("OutOfMemoryError: Direct buffer memory", "-XX:MaxDirectMemorySize"),
    ("PHP Fatal error:  Allowed memory size of", "memory_limit"),
];

/// A runtime ended its program because its heap was full.
pub(in crate::rules) fn full(case: &Case<'_>) -> Option<Finding> {
    asked_to_exit(case).or_else(|| told(case))
}

/// The last words of the log say so.
fn told(case: &Case<'_>) -> Option<Finding> {
    let code = case.exit_code().filter(|code| *code != 0)?;
    let (line, limit) = log::last_lines(case).find_map(|line| {
        SAID.iter().find(|(words, _)| line.text.contains(words)).map(|(_, limit)| (line, *limit))
    })?;
    let (who, ended) = case.ended_itself(code, "", None);
    Some(Finding {
        cause: Cause::ProgramError,
        confidence: Confidence::Medium,
        summary: format!(
            "{who} {ended}; a memory limit of its own runtime, {limit}, was reached and none of the container: {}",
            line.quoted()
        ),
        object: format!("exit code {code}"),
        remedy: format!("raise {limit}, or make the program use less"),
        evidence: vec![line.evidence, EvidenceRef::Exit],
    })
}

/// The JVM was told to leave with a code of its own for that.
fn asked_to_exit(case: &Case<'_>) -> Option<Finding> {
    if case.exit_code() != Some(EXIT_CODE) {
        return None;
    }
    let arguments = &case.evidence.process.as_ref()?.args;
    arguments.iter().find(|argument| argument.as_str() == EXIT_OPTION)?;
    let limit = arguments.iter().find(|argument| LIMITS.iter().any(|limit| argument.starts_with(limit)));
    let own = limit.map_or_else(|| "its own limit".to_owned(), |limit| format!("its own limit, {limit}"));
    let limit = limit.map_or("-Xmx", String::as_str);
    Some(Finding {
        cause: Cause::ProgramError,
        confidence: Confidence::Medium,
        summary: format!(
            "{} ended itself with exit code {EXIT_CODE}, as {EXIT_OPTION} has it do when its heap is full: {own}, was reached and no memory limit of the container",
            case.main_name()
        ),
        object: format!("exit code {EXIT_CODE}"),
        remedy: format!(
            "raise {limit} in {0}.args (or JAVA_TOOL_OPTIONS in {0}.env), or make the program use less",
            case.field()
        ),
        evidence: vec![EvidenceRef::Exit],
    })
}
