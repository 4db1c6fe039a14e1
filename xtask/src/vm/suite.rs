//! The deaths that every kernel has to explain, as data (`deaths.json`), and the script that dies them.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

/// The name of the part that reports how the probes attached.
pub(crate) const PREFLIGHT: &str = "check";

/// One command that dies, and the verdict it deserves.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// What `--only` selects it by.
    pub(crate) name: String,
    /// Options of `lastwords-agent try`.
    #[serde(default)]
    options: Vec<String>,
    /// The command and its arguments.
    command: Vec<String>,
    /// The cause that has to be named.
    cause: String,
    /// The object that has to be named; any when absent.
    object: Option<String>,
    /// How the object has to begin, where the rest depends on the machine.
    object_begins: Option<String>,
    /// The confidence that has to be claimed; any when absent.
    confidence: Option<String>,
}

impl Case {
    /// What `lastwords-agent try -o json` got wrong about this death, if anything.
    pub(crate) fn fault(&self, exit_code: i32, printed: &str) -> Option<String> {
        if exit_code != 0 {
            return Some(format!("lastwords-agent ended with {exit_code}"));
        }
        let crash: Value = match serde_json::from_str(printed.trim()) {
            Ok(crash) => crash,
            Err(error) => return Some(format!("stdout is not one JSON value ({error})")),
        };
        let named = |field: &str| {
            crash
                .pointer(&format!("/diagnosis/{field}"))
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let (cause, object, confidence) = (named("cause"), named("object"), named("confidence"));
        let expected_object = self.object.as_ref().is_none_or(|expected| *expected == object)
            && self.object_begins.as_ref().is_none_or(|expected| object.starts_with(expected));
        let expected_confidence = self.confidence.as_ref().is_none_or(|expected| *expected == confidence);
        if cause == self.cause && expected_object && expected_confidence {
            return None;
        }
        let expected_object =
            self.object.as_ref().or(self.object_begins.as_ref()).map_or("any", String::as_str);
        let expected_confidence = self.confidence.as_deref().unwrap_or("any confidence");
        Some(format!(
            "expected {} of {expected_object} ({expected_confidence}), named {cause} of {object} ({confidence})",
            self.cause
        ))
    }

    fn line(&self) -> String {
        let mut words = vec!["part".to_owned(), quoted(&self.name)];
        words.extend(["lastwords-agent", "try", "-o", "json", "--timeout", "30s"].map(str::to_owned));
        words.extend(self.options.iter().map(|word| quoted(word)));
        words.push("--".to_owned());
        words.extend(self.command.iter().map(|word| quoted(word)));
        words.join(" ")
    }
}

/// The cases whose name contains `only`, or all.
///
/// # Errors
/// When none does, or the data cannot be read.
pub(crate) fn cases(only: Option<&str>) -> Result<Vec<Case>> {
    let all: Vec<Case> =
        serde_json::from_str(include_str!("deaths.json")).context("cannot read xtask/src/vm/deaths.json")?;
    let names = all.iter().map(|case| case.name.clone()).collect::<Vec<_>>().join(", ");
    let wanted = only.unwrap_or_default();
    let cases: Vec<Case> = all.into_iter().filter(|case| case.name.contains(wanted)).collect();
    if cases.is_empty() {
        bail!("no case is called {wanted}; there are {names}");
    }
    Ok(cases)
}

/// What the emulated machine runs as its first process.
pub(crate) fn script(cases: &[Case]) -> String {
    let mut script = include_str!("init.sh").to_owned();
    script.push_str(&format!("part {PREFLIGHT} lastwords-agent check -o json\n"));
    for case in cases {
        script.push_str(&case.line());
        script.push('\n');
    }
    script.push_str("finish\n");
    script
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str) -> Case {
        cases(Some(name)).expect("the case exists").remove(0)
    }

    #[test]
    fn a_part_of_the_suite_can_be_chosen() {
        assert!(cases(Some("oom")).expect("there are some").iter().all(|case| case.name.contains("oom")));
        assert!(cases(Some("no-such-case")).is_err());
    }

    #[test]
    fn the_right_verdict_has_no_fault() {
        let printed = r#"{"diagnosis":{"cause":"CAUSE_PERMISSION_DENIED","object":"/etc/service.key","confidence":"CONFIDENCE_HIGH"}}"#;
        assert_eq!(case("permission-denied").fault(0, printed), None);
    }

    #[test]
    fn a_wrong_cause_object_confidence_or_exit_code_is_a_fault() {
        let case = case("permission-denied");
        let right = r#"{"diagnosis":{"cause":"CAUSE_PERMISSION_DENIED","object":"/etc/service.key","confidence":"CONFIDENCE_HIGH"}}"#;
        for (from, to) in [("PERMISSION_DENIED", "UNKNOWN"), ("service.key", "other"), ("HIGH", "LOW")] {
            assert!(case.fault(0, &right.replace(from, to)).is_some(), "{to}");
        }
        assert!(case.fault(1, right).is_some());
        assert!(case.fault(0, "").is_some());
        assert!(case.fault(0, &format!("{right}\n{right}")).is_some(), "exactly one value");
    }

    #[test]
    fn an_object_may_begin_as_expected() {
        let printed =
            r#"{"diagnosis":{"cause":"CAUSE_PROGRAM_ERROR","object":"SIGSEGV at 0x0 in null-pointer+0x78"}}"#;
        assert_eq!(case("null-pointer").fault(0, printed), None);
        assert!(case("null-pointer").fault(0, &printed.replace("SIGSEGV", "SIGILL")).is_some());
    }

    #[test]
    fn words_reach_the_guest_unchanged() {
        let line = case("kill-segv-of-a-child").line();
        assert!(line.ends_with(r"-- 'sh' '-c' 'sh -c '\''kill -SEGV $$'\''; exit $?'"), "{line}");
    }
}
