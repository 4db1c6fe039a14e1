//! A runtime's own heap limit: no memory limit of the container, which looks the same to whoever reads "out of memory".

use super::super::Finding;
use crate::case::Case;
use crate::verdict::{Cause, Confidence, EvidenceRef};

/// HotSpot ends itself with this code at an OutOfMemoryError when it was told to by [`EXIT_OPTION`] (since 8u92).
const EXIT_CODE: i32 = 3;
/// A program may end itself with 3 as well: hence never HIGH.
const EXIT_OPTION: &str = "-XX:+ExitOnOutOfMemoryError";
/// Where the limit stands.
const LIMITS: [&str; 2] = ["-Xmx", "-XX:MaxRAMPercentage="];

/// The JVM ended itself because its heap was full.
pub(in crate::rules) fn full(case: &Case<'_>) -> Option<Finding> {
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
