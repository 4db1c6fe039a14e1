//! Counting what passed, failed and was skipped.

/// What came of a step or a test program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// How many tests passed.
    pub(crate) passed: usize,
    /// What failed, a line or more each.
    pub(crate) failures: Vec<String>,
    /// What was skipped and why.
    pub(crate) skipped: Vec<String>,
}

impl Outcome {
    pub(crate) fn failure(what: String) -> Self {
        Self { failures: vec![what], ..Self::default() }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failures.extend(other.failures.iter().cloned());
        self.skipped.extend(other.skipped.iter().cloned());
    }

    /// How many were skipped for a reason that is not among `excuses`.
    pub(crate) fn unexcused(&self, excuses: &[(&str, &str)]) -> usize {
        let excused = |reason: &String| excuses.iter().any(|(excuse, _)| reason.contains(excuse));
        self.skipped.iter().filter(|reason| !excused(reason)).count()
    }

    /// Reads what one of Rust's test programs printed with `--show-output`.
    ///
    /// A test that cannot run here prints a line `SKIPPED name: reason` and returns; Rust counts it as passed, we do not.
    pub(crate) fn of_output(package: &str, output: &str, succeeded: bool) -> Self {
        let mut outcome = Self::default();
        let mut failed = 0;
        let mut has_result = false;
        for line in output.lines() {
            if let Some(counts) = line.strip_prefix("test result: ") {
                has_result = true;
                outcome.passed += count(counts, " passed");
                failed += count(counts, " failed");
            } else if let Some(reason) = line.strip_prefix("SKIPPED") {
                outcome.skipped.push(reason.trim_start_matches([':', ' ']).to_owned());
            } else if let Some(test) =
                line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
            {
                outcome.failures.push(format!("{package}: {test}"));
            } else if let Some((test, reason)) = ignored(line) {
                outcome.skipped.push(format!("{test}: {reason}"));
            }
        }
        let skipped_by_itself = output.lines().filter(|line| line.starts_with("SKIPPED")).count();
        outcome.passed = outcome.passed.saturating_sub(skipped_by_itself);
        while outcome.failures.len() < failed {
            outcome.failures.push(format!("{package}: a test that did not give its name"));
        }
        if !succeeded && outcome.failures.is_empty() {
            let how = if has_result { "failed after its tests" } else { "ended without a result" };
            outcome.failures.push(format!("{package}: the test program {how}"));
        }
        outcome
    }
}

/// `test NAME ... ignored` and `test NAME ... ignored, REASON`.
fn ignored(line: &str) -> Option<(&str, &str)> {
    let (test, rest) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
    Some((test, rest.strip_prefix(", ").unwrap_or("ignored by default")))
}

/// The number in front of `label` in "ok. 12 passed; 1 failed; …".
fn count(counts: &str, label: &str) -> usize {
    let before = counts.split(label).next().unwrap_or_default();
    before.rsplit([' ', ';']).next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_failed_and_ignored_are_counted() {
        let output = "test a ... ok\ntest b ... FAILED\ntest c ... ignored, needs a cluster\n\ntest result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\n";
        let outcome = Outcome::of_output("p", output, false);
        assert_eq!(outcome.passed, 1);
        assert_eq!(outcome.failures, ["p: b"]);
        assert_eq!(outcome.skipped, ["c: needs a cluster"]);
    }

    #[test]
    fn a_test_that_skipped_itself_did_not_pass() {
        let output = "test a ... ok\ntest b ... ok\n\nsuccesses:\n\n---- b stdout ----\nSKIPPED b: no root\n\ntest result: ok. 2 passed; 0 failed; 0 ignored\n";
        let outcome = Outcome::of_output("p", output, true);
        assert_eq!((outcome.passed, outcome.skipped.as_slice()), (1, ["b: no root".to_owned()].as_slice()));
    }

    #[test]
    fn a_program_that_dies_has_failed() {
        assert_eq!(Outcome::of_output("p", "running 3 tests\n", false).failures.len(), 1);
        assert_eq!(Outcome::of_output("p", "test result: ok. 1 passed; 0 failed", false).failures.len(), 1);
        let counted = Outcome::of_output("p", "test result: FAILED. 0 passed; 2 failed", false);
        assert_eq!(counted.failures.len(), 2);
    }

    #[test]
    fn an_excuse_is_looked_for_in_the_reason() {
        let outcome =
            Outcome { skipped: vec!["a: no fexit here".into(), "b: no root".into()], ..Outcome::default() };
        assert_eq!(outcome.unexcused(&[("fexit", "")]), 1);
    }
}
