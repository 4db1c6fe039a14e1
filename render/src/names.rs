//! Causes and confidences by name.

use lastwords_proto::v1::{Cause, Confidence};

/// `OUT_OF_MEMORY`.
pub fn cause_name(cause: Cause) -> &'static str {
    let name = cause.as_str_name();
    name.strip_prefix("CAUSE_").unwrap_or(name)
}

/// `out of memory`.
pub fn cause_words(cause: Cause) -> String {
    cause_name(cause).to_ascii_lowercase().replace('_', " ")
}

/// The cause that is meant by `out-of-memory`, `OUT_OF_MEMORY` or `CAUSE_OUT_OF_MEMORY`. `None` when there is none of that name.
pub fn cause_by_name(written: &str) -> Option<Cause> {
    let name = written.trim().to_ascii_uppercase().replace(['-', ' '], "_");
    let name = name.strip_prefix("CAUSE_").unwrap_or(&name);
    Cause::from_str_name(&format!("CAUSE_{name}"))
}

pub(crate) fn confidence_words(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Unspecified => "not judged",
        Confidence::Low => "low",
        Confidence::Medium => "medium",
        Confidence::High => "high",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_found_in_every_spelling() {
        for written in ["out-of-memory", "OUT_OF_MEMORY", "CAUSE_OUT_OF_MEMORY", "Out of memory"] {
            assert_eq!(cause_by_name(written), Some(Cause::OutOfMemory), "{written}");
        }
        assert_eq!(cause_by_name("unknown"), Some(Cause::Unknown));
        assert_eq!(cause_by_name("oom"), None);
        assert_eq!(cause_words(Cause::ReadOnlyFilesystem), "read only filesystem");
    }
}
