//! What came of the cases: rows, the matrix of causes, and JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::case::{Case, Confidence};
use crate::table;
use crate::vm::pattern;

/// What the whole corpus has to reach, in percent.
const ENOUGH: usize = 97;

/// What was said of one death.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) expected: String,
    expected_object: Value,
    pub(crate) named: String,
    pub(crate) object: String,
    pub(crate) confidence: Confidence,
    least: Confidence,
    summary: String,
    /// Cause and object are right, and it is as sure as it has to be.
    pub(crate) right: bool,
    /// Cause or object is wrong.
    misnamed: bool,
    pub(crate) near_miss: bool,
}

impl Row {
    /// Holds a diagnosis against what the case expects; `case` with its folder put in.
    pub(crate) fn new(case: &Case, diagnosis: &Value) -> Self {
        let text = |field: &str| diagnosis.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let cause = text("cause");
        let named = cause.strip_prefix("CAUSE_").unwrap_or(&cause).to_owned();
        let object = text("object");
        let confidence = Confidence::from_wire(&text("confidence")).unwrap_or(Confidence::Low);
        let right_object = pattern::faults(&case.object, &Value::from(object.as_str())).is_empty();
        let misnamed = named != case.cause || !right_object;
        Self {
            name: case.name.clone(),
            expected: case.cause.clone(),
            expected_object: case.object.clone(),
            right: !misnamed && confidence >= case.least,
            misnamed,
            named,
            object,
            confidence,
            least: case.least,
            summary: text("summary"),
            near_miss: case.tempting.is_some(),
        }
    }

    /// Wrong, and sure of it: the one thing that must never be.
    pub(crate) fn is_wrong_at_high(&self) -> bool {
        self.misnamed && self.confidence == Confidence::High
    }

    fn said(&self) -> String {
        format!(
            "{}: expected {} {} ({} or surer)\n    it said {} {} ({}): {}",
            self.name,
            self.expected,
            shown(&self.expected_object),
            self.least.name(),
            self.named,
            self.object,
            self.confidence.name(),
            self.summary
        )
    }
}

fn shown(object: &Value) -> String {
    object.as_str().map_or_else(|| object.to_string(), str::to_owned)
}

/// All rows of a run.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) rows: Vec<Row>,
    /// Cases that did not run, each with the reason.
    pub(crate) skipped: Vec<String>,
}

impl Outcome {
    pub(crate) fn right(&self) -> usize {
        self.rows.iter().filter(|row| row.right).count()
    }

    pub(crate) fn wrong_at_high(&self) -> usize {
        self.rows.iter().filter(|row| row.is_wrong_at_high()).count()
    }

    /// True when enough is right and nothing is wrong at HIGH.
    pub(crate) fn is_good(&self) -> bool {
        !self.rows.is_empty()
            && self.right() * 100 >= self.rows.len() * ENOUGH
            && self.wrong_at_high() == 0
            && self.unsteady().is_empty()
    }

    /// Cases that did not get the same verdict each time they ran.
    pub(crate) fn unsteady(&self) -> Vec<String> {
        let mut verdicts: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for row in &self.rows {
            // The folder's name is another each time; how sure it is may depend on how busy the machine is.
            let verdict = format!("{}, {}", row.named, if row.misnamed { "wrong" } else { "right" });
            verdicts.entry(&row.name).or_default().insert(verdict);
        }
        let several = verdicts.into_iter().filter(|(_, verdicts)| verdicts.len() > 1);
        several.map(|(name, verdicts)| format!("{name}: {}", Vec::from_iter(verdicts).join(" | "))).collect()
    }

    /// What `-o json` prints.
    pub(crate) fn json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "name": row.name,
                "expected": row.expected,
                "named": row.named,
                "object": row.object,
                "confidence": row.confidence.name(),
                "right": row.right,
            })
        };
        json!({
            "cases": self.rows.len(),
            "right": self.right(),
            "wrong_at_high": self.wrong_at_high(),
            "rows": self.rows.iter().map(row).collect::<Vec<Value>>(),
        })
    }

    /// The matrix, the rows that are wrong with what was said, and the counts.
    pub(crate) fn text(&self) -> String {
        let mut text = self.matrix();
        text.push('\n');
        for row in self.rows.iter().filter(|row| !row.right) {
            text.push_str(&format!("WRONG {}\n", row.said()));
        }
        for unsteady in self.unsteady() {
            text.push_str(&format!("UNSTEADY {unsteady}\n"));
        }
        for skipped in &self.skipped {
            text.push_str(&format!("SKIPPED {skipped}\n"));
        }
        let misses = || self.rows.iter().filter(|row| row.near_miss);
        text.push_str(&format!(
            "{} of {} right ({:.1} %), {} wrong at HIGH; {} of {} near-misses; {} skipped\n",
            self.right(),
            self.rows.len(),
            percent(self.right(), self.rows.len()),
            self.wrong_at_high(),
            misses().filter(|row| row.right).count(),
            misses().count(),
            self.skipped.len()
        ));
        text
    }

    /// A row a cause that was expected; what was named instead stands behind the counts.
    fn matrix(&self) -> String {
        let mut causes: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
        for row in &self.rows {
            causes.entry(&row.expected).or_default().push(row);
        }
        let mut rows = vec![
            ["expected", "cases", "right", "HIGH", "MEDIUM", "LOW", "named"].map(str::to_owned).to_vec(),
        ];
        for (cause, of_cause) in causes {
            let count = |is: &dyn Fn(&Row) -> bool| of_cause.iter().filter(|row| is(row)).count().to_string();
            let mut named: BTreeMap<&str, usize> = BTreeMap::new();
            for row in &of_cause {
                *named.entry(&row.named).or_default() += 1;
            }
            let named: Vec<String> = named.iter().map(|(named, count)| format!("{named} {count}")).collect();
            rows.push(vec![
                cause.to_owned(),
                of_cause.len().to_string(),
                count(&|row| row.right),
                count(&|row| row.confidence == Confidence::High),
                count(&|row| row.confidence == Confidence::Medium),
                count(&|row| row.confidence == Confidence::Low),
                named.join(", "),
            ]);
        }
        table::render(&rows)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of cases, shown with one decimal")]
fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(object: &str, confidence: &str) -> Row {
        let text =
            "name = 'a'\ncommand = ['true']\ncause = 'FILE_NOT_FOUND'\nobject = '/etc/*'\nleast = 'MEDIUM'\n";
        let case: Case = toml::from_str(text).expect("a case");
        Row::new(
            &case,
            &json!({ "cause": "CAUSE_FILE_NOT_FOUND", "object": object, "confidence": confidence }),
        )
    }

    #[test]
    fn a_verdict_is_right_when_it_names_the_object_and_is_sure_enough() {
        assert!(row("/etc/a", "CONFIDENCE_HIGH").right);
        assert!(!row("/etc/a", "CONFIDENCE_LOW").right);
        assert!(!row("/etc/a", "CONFIDENCE_LOW").is_wrong_at_high());
        assert!(row("/srv/a", "CONFIDENCE_HIGH").is_wrong_at_high());
    }

    #[test]
    fn one_wrong_at_high_is_too_much() {
        let right = || row("/etc/a", "CONFIDENCE_HIGH");
        let mut outcome = Outcome { rows: (0..99).map(|_| right()).collect(), skipped: Vec::new() };
        assert!(outcome.is_good());
        outcome.rows.push(Row { name: "b".to_owned(), ..row("/srv/a", "CONFIDENCE_MEDIUM") });
        assert!(outcome.is_good());
        outcome.rows.push(Row { name: "c".to_owned(), ..row("/srv/a", "CONFIDENCE_HIGH") });
        assert!(!outcome.is_good());
    }

    #[test]
    fn a_case_that_depends_on_luck_is_told() {
        let rows = vec![row("/etc/a", "CONFIDENCE_HIGH"), row("/srv/a", "CONFIDENCE_MEDIUM")];
        let outcome = Outcome { rows, skipped: Vec::new() };
        assert_eq!(outcome.unsteady().len(), 1);
        assert!(!outcome.is_good());
    }
}
