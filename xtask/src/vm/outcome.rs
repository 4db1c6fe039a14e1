//! What the kernels made of the suite: rows of kernel and way in, as a table and as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::boot::Part;
use super::suite::{Case, ROWS};
use crate::architecture::Architecture;
use crate::table;

/// One kernel by one way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// The series, as `--kernel` takes it.
    pub(crate) kernel: &'static str,
    /// As `--arch` takes it.
    pub(crate) architecture: &'static str,
    /// The exact version of the package, once there was one.
    pub(crate) package: String,
    /// `fexit` or `sys-exit`.
    pub(crate) way_in: &'static str,
    /// Each case by name and what came of it.
    pub(crate) cases: Vec<(String, Verdict)>,
    /// Why nothing ran here.
    pub(crate) skipped: Option<String>,
    /// Instructions that the verifier walked through for each program, by its hook.
    pub(crate) instructions: BTreeMap<String, u64>,
}

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    /// What the report got wrong.
    Wrong(String),
    /// What the first report got wrong, where a second one of the same death was right.
    Unsteady(String),
    /// Why it is not asked here.
    LeftOut(String),
}

impl Row {
    /// A row that did not run.
    pub(crate) fn skipped(place: Place, package: &str, way_in: &'static str, reason: String) -> Self {
        let (kernel, architecture) = place;
        Self {
            kernel,
            architecture,
            package: package.to_owned(),
            way_in,
            cases: Vec::new(),
            skipped: Some(reason),
            instructions: BTreeMap::new(),
        }
    }

    /// How it is called in what is printed: the architecture only where it is not the usual one.
    pub(crate) fn title(&self) -> String {
        self.called(self.kernel)
    }

    fn called(&self, kernel: &str) -> String {
        match self.architecture == Architecture::X86.name() {
            true => format!("{kernel} {}", self.way_in),
            false => format!("{kernel} {} {}", self.architecture, self.way_in),
        }
    }

    /// How many cases ran.
    pub(crate) fn ran(&self) -> usize {
        self.cases.iter().filter(|(_, verdict)| !matches!(verdict, Verdict::LeftOut(_))).count()
    }

    /// How many of them were not explained as they should be.
    pub(crate) fn failed(&self) -> usize {
        self.cases.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Wrong(_))).count()
    }

    /// How many of them were explained as they should be only when asked again.
    pub(crate) fn unsteady(&self) -> usize {
        self.cases.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Unsteady(_))).count()
    }

    /// The names of those that were not.
    pub(crate) fn wrong(&self) -> impl Iterator<Item = &str> {
        let wrong = |(_, verdict): &&(String, Verdict)| matches!(verdict, Verdict::Wrong(_));
        self.cases.iter().filter(wrong).map(|(name, _)| name.as_str())
    }

    /// Takes over what came of the wrong ones when they were asked `again` on the same kernel by the same way in.
    pub(crate) fn settle(&mut self, again: &Self) {
        for (name, verdict) in &mut self.cases {
            let right = again.cases.iter().any(|(other, then)| other == name && *then == Verdict::Right);
            if let (Verdict::Wrong(fault), true) = (&verdict, right) {
                *verdict = Verdict::Unsteady(fault.clone());
            }
        }
    }

    /// This row as `-o json` prints it.
    pub(crate) fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .cases
            .iter()
            .map(|(name, verdict)| match verdict {
                Verdict::Right => json!({ "case": name, "fault": null, "left_out": null }),
                Verdict::Wrong(fault) => json!({ "case": name, "fault": fault, "left_out": null }),
                Verdict::Unsteady(fault) => {
                    json!({ "case": name, "fault": null, "first_fault": fault, "left_out": null })
                }
                Verdict::LeftOut(reason) => json!({ "case": name, "fault": null, "left_out": reason }),
            })
            .collect();
        json!({
            "kernel": self.kernel,
            "arch": self.architecture,
            "package": self.package,
            "way_in": self.way_in,
            "cases": self.ran(),
            "failed": self.failed(),
            "unsteady": self.unsteady(),
            "skipped": self.skipped,
            "instructions": self.instructions,
            "rows": rows,
        })
    }
}

/// The case that every row has beside those of the suite: `lastwords-agent check`.
pub(crate) const CHECK: &str = "check";

/// A kernel series (or `host`) and an architecture, as `--kernel` and `--arch` take them.
pub(crate) type Place = (&'static str, &'static str);

/// The rows of one kernel, read off what its machine printed. `stopped` is why it did not come to its own end.
pub(crate) fn rows(
    place: Place,
    package: &str,
    cases: &[Case],
    parts: &[Part],
    stopped: Option<&str>,
) -> Vec<Row> {
    let part = |name: &str| parts.iter().rfind(|part| part.name == name);
    let row = |way_in: &&'static str| {
        let check = part(&format!("check-{way_in}"));
        let Some(suite) = part(way_in) else {
            let reason = match (check, stopped) {
                (Some(check), _) if check.exit_code.is_some() => refusal(check),
                (_, Some(reason)) => reason.to_owned(),
                _ => "the machine did not try it".to_owned(),
            };
            return Row::skipped(place, package, way_in, reason);
        };
        let answers = answers(suite);
        let verdict = |case: &Case| {
            if let Some(reason) = case.left_out(&[place.0, place.1, way_in]) {
                return Verdict::LeftOut(reason.to_owned());
            }
            match answers.get(&case.name) {
                Some(answer) => case.fault(answer).map_or(Verdict::Right, Verdict::Wrong),
                None => Verdict::Wrong(no_answer(suite, stopped)),
            }
        };
        let proof = check.and_then(proof).map(|verdict| (CHECK.to_owned(), verdict));
        Row {
            kernel: place.0,
            architecture: place.1,
            package: package.to_owned(),
            way_in,
            cases: cases.iter().map(|case| (case.name.clone(), verdict(case))).chain(proof).collect(),
            skipped: None,
            instructions: check.map(instructions).unwrap_or_default(),
        }
    };
    ROWS.iter().map(row).collect()
}

/// The answers of `try-each`, by case.
fn answers(suite: &Part) -> BTreeMap<String, Value> {
    suite.stdout.lines().filter_map(answer).collect()
}

/// One answer.
pub(crate) fn answer(line: &str) -> Option<(String, Value)> {
    let answer: Value = serde_json::from_str(line).ok()?;
    Some((answer.get("name")?.as_str()?.to_owned(), answer))
}

fn no_answer(suite: &Part, stopped: Option<&str>) -> String {
    let said = crate::process::last_lines(&suite.stderr, 6);
    match (suite.exit_code, stopped) {
        (None, Some(reason)) => reason.to_owned(),
        _ => format!("lastwords-agent did not answer; on stderr:\n{said}"),
    }
}

/// Why a way in is not to be had, from the agent's own report of it.
fn refusal(check: &Part) -> String {
    let Ok(report) = serde_json::from_str::<Value>(check.stdout.trim()) else {
        let said = check.stderr.lines().find(|line| !line.trim().is_empty());
        return format!("lastwords-agent: {}", said.unwrap_or("it said nothing").trim());
    };
    let probes = report.get("probes").and_then(Value::as_array).into_iter().flatten();
    let reasons = probes.filter_map(|probe| probe.get("reason")?.as_str());
    let problem = report.get("problem").and_then(Value::as_str);
    problem.into_iter().chain(reasons).next().unwrap_or("no probe is attached that way").to_owned()
}

/// Whether the agent saw a death of its own making, failed call and all: probes may load and record nothing. None where it was not asked.
fn proof(check: &Part) -> Option<Verdict> {
    let report: Value = serde_json::from_str(check.stdout.trim()).ok()?;
    let evidence = report.get("evidence").filter(|evidence| !evidence.is_null())?;
    let word = |name: &str| evidence.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(match word("verdict").as_str() {
        "flows" => Verdict::Right,
        "skipped" => Verdict::LeftOut(word("reason")),
        _ => Verdict::Wrong(format!("the probes run, and no evidence flows: {}", word("reason"))),
    })
}

fn instructions(check: &Part) -> BTreeMap<String, u64> {
    let report: Value = serde_json::from_str(check.stdout.trim()).unwrap_or_default();
    let probes = report.get("probes").and_then(Value::as_array).into_iter().flatten();
    let of = |probe: &Value| {
        let number = probe.get("verified_instructions")?.as_u64().filter(|number| *number > 0)?;
        let word = |name: &str| probe.get(name).and_then(Value::as_str);
        Some((format!("{} {}", word("hook")?, word("way_in")?), number))
    };
    probes.filter_map(of).collect()
}

/// A table case × kernel and way in, then every fault in full; one that many cases share is shown once a row.
pub(crate) fn shown(rows: &[Row]) -> String {
    let mut text = String::new();
    let run: Vec<&Row> = rows.iter().filter(|row| row.skipped.is_none()).collect();
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in run.iter().flat_map(|row| &row.cases) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let mut lines = vec![vec!["case".to_owned()]];
    lines[0].extend(run.iter().map(|row| row.called(&row.package)));
    for name in names {
        let mut line = vec![name.to_owned()];
        line.extend(run.iter().map(|row| {
            let verdict = row.cases.iter().find(|(case, _)| case == name).map(|(_, verdict)| verdict);
            match verdict {
                Some(Verdict::Right) => "right".to_owned(),
                Some(Verdict::Wrong(_)) => "WRONG".to_owned(),
                Some(Verdict::Unsteady(_)) => "unsteady".to_owned(),
                Some(Verdict::LeftOut(_)) => "left out".to_owned(),
                None => "-".to_owned(),
            }
        }));
        lines.push(line);
    }
    if !run.is_empty() {
        text.push_str(&table::render(&lines));
    }
    for row in rows {
        let title = row.title();
        if let Some(reason) = &row.skipped {
            text.push_str(&format!("SKIPPED {title}: {reason}\n"));
        }
        let mut told: Vec<&str> = Vec::new();
        for (name, verdict) in &row.cases {
            match verdict {
                Verdict::Wrong(fault) if !told.contains(&fault.as_str()) => {
                    text.push_str(&format!("{title} {name}: {fault}\n"));
                    told.push(fault);
                }
                Verdict::Unsteady(fault) => {
                    text.push_str(&format!("right only when asked again: {title} {name}: {fault}\n"));
                }
                Verdict::LeftOut(reason) => text.push_str(&format!("left out: {title} {name}: {reason}\n")),
                _ => {}
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::suite;

    const PLACE: Place = ("6.1", "aarch64");

    fn part(name: &str, stdout: &str, stderr: &str) -> Part {
        Part {
            name: name.to_owned(),
            stdout: stdout.to_owned(),
            stderr: stderr.to_owned(),
            exit_code: Some(0),
        }
    }

    fn cases() -> Vec<Case> {
        serde_json::from_value(json!([
            { "name": "a", "command": ["true"], "expect": { "exit": { "code": 0 } } },
            { "name": "b", "command": ["true"], "expect": {}, "unless": { "sys-exit": "cannot be seen" } },
        ]))
        .expect("cases")
    }

    #[test]
    fn a_way_in_that_is_not_to_be_had_is_a_skipped_row_with_the_reason() {
        let refused = part(
            "check-fexit",
            r#"{"probes": [{"hook": "sys_exit", "verdict": "broken", "reason": "fexit refused: EPERM"}]}"#,
            "",
        );
        let rows = rows(PLACE, "6.1.1-1", &cases(), &[refused], None);
        assert_eq!(rows[0].skipped.as_deref(), Some("fexit refused: EPERM"));
        assert_eq!(rows[0].json()["skipped"], "fexit refused: EPERM");
        assert_eq!(rows[1].skipped.as_deref(), Some("the machine did not try it"));
        let unknown = part("check-fexit", "", "error: invalid value 'fexit'\n");
        let rows = super::rows(PLACE, "6.1.1-1", &cases(), &[unknown], None);
        assert!(rows[0].skipped.as_deref().is_some_and(|reason| reason.contains("invalid value")));
    }

    #[test]
    fn a_row_counts_what_ran() {
        let check = part(
            "check-sys-exit",
            r#"{"probes": [{"hook": "sys_exit", "verdict": "active", "way_in": "tp_btf", "verified_instructions": 900}]}"#,
            "",
        );
        let suite = part("sys-exit", r#"{"name": "a", "problem": "no record"}"#, "");
        let rows = rows(PLACE, "6.1.1-1", &cases(), &[check, suite], None);
        let row = &rows[1];
        assert_eq!((row.ran(), row.failed(), row.cases.len()), (1, 1, 2));
        assert_eq!(row.instructions["sys_exit tp_btf"], 900);
        assert_eq!(row.json()["arch"], "aarch64");
        let text = shown(&rows);
        for wanted in [
            "6.1.1-1 aarch64 sys-exit",
            "WRONG",
            "no record",
            "left out: 6.1 aarch64 sys-exit b: cannot be seen",
        ] {
            assert!(text.contains(wanted), "{wanted} in {text}");
        }
    }

    #[test]
    fn probes_that_record_nothing_are_a_case_that_fails() {
        let suite = part("sys-exit", r#"{"name": "a", "problem": "no record"}"#, "");
        let judged = |evidence: &str| {
            let check = part("check-sys-exit", &format!(r#"{{"probes": [], "evidence": {evidence}}}"#), "");
            let row = rows(PLACE, "6.1.1-1", &cases(), &[check, suite.clone()], None).swap_remove(1);
            row.cases.into_iter().find(|(name, _)| name == CHECK).map(|(_, verdict)| verdict)
        };
        assert_eq!(judged(r#"{"verdict": "flows"}"#), Some(Verdict::Right));
        let missing = judged(r#"{"verdict": "missing", "reason": "no failed call"}"#);
        assert!(matches!(missing, Some(Verdict::Wrong(reason)) if reason.ends_with("no failed call")));
        assert_eq!(judged("null"), None);
    }

    #[test]
    fn what_is_right_when_asked_again_is_told_and_what_is_not_stays_wrong() {
        let suite = part("sys-exit", r#"{"name": "a", "problem": "no record"}"#, "");
        let mut row = rows(PLACE, "6.1.1-1", &cases(), &[suite], None).swap_remove(1);
        let mut again = row.clone();
        row.settle(&again);
        assert_eq!((row.failed(), row.unsteady()), (1, 0));
        assert_eq!(row.wrong().collect::<Vec<_>>(), ["a"]);
        again.cases[0].1 = Verdict::Right;
        row.settle(&again);
        assert_eq!((row.failed(), row.unsteady()), (0, 1));
        assert!(
            shown(&[row])
                .contains("right only when asked again: 6.1 aarch64 sys-exit a: lastwords-agent says")
        );
    }

    #[test]
    fn a_machine_that_stops_leaves_its_later_cases_wrong() {
        let mut suite = part("sys-exit", "", "");
        suite.exit_code = None;
        let rows = rows(PLACE, "6.1.1-1", &cases(), &[suite], Some("Kernel panic"));
        assert_eq!(rows[1].cases[0].1, Verdict::Wrong("Kernel panic".to_owned()));
        assert_eq!(rows[0].skipped.as_deref(), Some("Kernel panic"));
    }

    #[test]
    fn requests_leave_out_what_the_row_leaves_out() {
        let requests = suite::Requests::new(&cases(), ROWS, &["6.1"]).expect("the data can be read");
        let lines: Vec<usize> = requests.of_rows.iter().map(|(_, lines)| lines.lines().count()).collect();
        assert_eq!(lines, [2, 1]);
    }
}
