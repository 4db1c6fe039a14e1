//! The deaths that every kernel has to explain, as data (`deaths/`), and the requests that die them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::pattern;
use crate::workspace;

/// How long `try` lets a command run before it kills it: the suite's commands end by themselves.
const TIME_LIMIT: &str = "25s";

/// The rows of the table for one kernel: how failed system calls are seen, at the end of each call's own function or where all of
/// them end.
pub(crate) const ROWS: &[&str] = &["fexit", "sys-exit"];

/// What every report has to say unless its case says otherwise: nothing was lost, and whose it is.
const DEFAULTS: &str = include_str!("defaults.json");

/// One command that dies, and what the report of it has to say.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// What `--only` selects it by.
    pub(crate) name: String,
    /// What is not plain from the rest, for people.
    #[serde(default, rename = "why")]
    _why: String,
    /// Options of `lastwords-agent try`.
    #[serde(default)]
    options: Vec<String>,
    /// The command and its arguments.
    command: Vec<String>,
    /// Lines of shell that root runs on the machine before the first case.
    #[serde(default)]
    pub(crate) before: Vec<String>,
    /// A pattern for the whole report; see `pattern`.
    expect: Map<String, Value>,
    /// A pattern for the list of what was reported while the container lived on.
    #[serde(default)]
    survived: Option<Value>,
    /// Where the case cannot be: a kernel series, a way in, `host` or an architecture, each with the reason.
    #[serde(default)]
    unless: BTreeMap<String, String>,
}

impl Case {
    /// Why it is left out in one of these places, if it is.
    pub(crate) fn left_out(&self, places: &[&str]) -> Option<&str> {
        places.iter().find_map(|place| self.unless.get(*place)).map(String::as_str)
    }

    /// The line of standard input that `lastwords-agent try-each` answers.
    pub(crate) fn request(&self) -> String {
        let mut arguments: Vec<&str> = Vec::new();
        if !self.options.iter().any(|option| option == "--timeout") {
            arguments.extend(["--timeout", TIME_LIMIT]);
        }
        arguments.extend(self.options.iter().map(String::as_str));
        arguments.push("--");
        arguments.extend(self.command.iter().map(String::as_str));
        json!({ "name": self.name, "arguments": arguments }).to_string()
    }

    /// What the agent's answer got wrong about this death, if anything.
    pub(crate) fn fault(&self, answer: &Value) -> Option<String> {
        if let Some(problem) = answer.get("problem") {
            return Some(format!("lastwords-agent says {problem}"));
        }
        let mut faults = pattern::faults(&self.whole_pattern(), answer.get("crash").unwrap_or(&Value::Null));
        let nothing = json!({ "exactly": [] });
        let survived = answer.get("survived").unwrap_or(&Value::Null);
        let wanted = self.survived.as_ref().unwrap_or(&nothing);
        faults.extend(pattern::faults(wanted, survived).iter().map(|fault| format!("survived{fault}")));
        if faults.is_empty() {
            return None;
        }
        let said = answer.pointer("/crash/diagnosis/summary").and_then(Value::as_str).unwrap_or_default();
        let tail = answer.pointer("/crash/log_tail/lines").filter(|lines| **lines != json!([]));
        let tail = tail.map(|lines| format!("\n    its output was {lines}")).unwrap_or_default();
        Some(format!("{}\n    it said: {said}{tail}", faults.join("\n    ")))
    }

    fn whole_pattern(&self) -> Value {
        let mut pattern = defaults();
        pattern.extend(self.expect.clone());
        Value::Object(pattern)
    }
}

fn defaults() -> Map<String, Value> {
    serde_json::from_str(DEFAULTS).unwrap_or_default()
}

/// What one machine is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Requests {
    /// A shell script that prepares the machine.
    pub(crate) before: String,
    /// For each row of the table the requests, a line each.
    pub(crate) of_rows: Vec<(&'static str, String)>,
}

impl Requests {
    /// The cases for a machine by each way in of `rows`, without those that are left out in one of its `places`.
    ///
    /// # Errors
    /// When the data cannot be read: what prepares the machine stands in all of it.
    pub(crate) fn new(cases: &[Case], rows: &[&'static str], places: &[&str]) -> Result<Self> {
        let before = all()?.into_iter().flat_map(|case| case.before).map(|line| format!("{line}\n"));
        let of_row = |row: &&'static str| {
            let left_out = |case: &Case| case.left_out(places).or(case.left_out(&[row])).is_some();
            let asked = cases.iter().filter(|case| !left_out(case));
            (*row, asked.map(|case| format!("{}\n", case.request())).collect())
        };
        Ok(Self { before: before.collect(), of_rows: rows.iter().map(of_row).collect() })
    }
}

/// The cases whose name contains `only`, or all, by file and then in their order.
///
/// # Errors
/// When there is none, or the data cannot be read.
pub(crate) fn cases(only: Option<&str>) -> Result<Vec<Case>> {
    let all = all()?;
    let wanted = only.unwrap_or_default();
    let names = all.iter().map(|case| case.name.clone()).collect::<Vec<_>>().join(", ");
    let cases: Vec<Case> = all.into_iter().filter(|case| case.name.contains(wanted)).collect();
    if cases.is_empty() {
        bail!("no case is called {wanted}; there are {names}");
    }
    Ok(cases)
}

fn all() -> Result<Vec<Case>> {
    let mut cases: Vec<Case> = Vec::new();
    for file in files()? {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let of_file: Vec<Case> =
            serde_json::from_str(&text).with_context(|| format!("cannot read {}", file.display()))?;
        cases.extend(of_file);
    }
    Ok(cases)
}

fn files() -> Result<Vec<PathBuf>> {
    let folder = workspace::root().join("xtask/src/vm/deaths");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn exit_3() -> Case {
        serde_json::from_value(json!({
            "name": "exit-3", "command": ["sh", "-c", "exit 3"], "expect": { "exit": { "code": 3 } }
        }))
        .expect("a case")
    }

    /// What a right report of the case says, made from its own pattern.
    fn answer(case: &Case) -> Value {
        json!({ "name": case.name, "crash": case.whole_pattern(), "survived": [] })
    }

    #[test]
    fn a_part_of_the_suite_can_be_chosen() {
        assert!(cases(Some("oom")).expect("there are some").iter().all(|case| case.name.contains("oom")));
        assert!(cases(Some("no-such-case")).is_err());
    }

    #[test]
    fn every_name_stands_once_and_has_no_blank() {
        let all = all().expect("the data can be read");
        let names: BTreeSet<&str> = all.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), all.len());
        assert!(names.iter().all(|name| !name.contains(char::is_whitespace)));
    }

    #[test]
    fn every_field_of_a_pattern_is_one_of_a_report() {
        let proto = include_str!("../../../proto/lastwords/v1/crash.proto");
        let known: BTreeSet<&str> = proto
            .lines()
            .filter_map(|line| line.split_once(" = ")?.0.split_whitespace().next_back())
            .chain(pattern::WORDS.iter().copied())
            .collect();
        let mut unknown = Vec::new();
        for case in all().expect("the data can be read") {
            let mut waiting = vec![case.whole_pattern()];
            while let Some(value) = waiting.pop() {
                match value {
                    Value::Object(fields) => {
                        let names = fields.keys().filter(|name| !known.contains(name.as_str()));
                        unknown.extend(names.map(|name| format!("{}: {name}", case.name)));
                        waiting.extend(fields.into_values());
                    }
                    Value::Array(elements) => waiting.extend(elements),
                    _ => {}
                }
            }
        }
        assert_eq!(unknown, Vec::<String>::new());
    }

    #[test]
    fn the_defaults_are_asked_of_every_report() {
        assert_eq!(defaults()["losses"]["torn_entries"], 0);
        let case = exit_3();
        let right = answer(&case);
        assert_eq!(case.fault(&right), None);
        let mut lossy = right.clone();
        lossy["crash"]["losses"]["torn_entries"] = json!(1);
        assert!(case.fault(&lossy).is_some_and(|fault| fault.contains("losses.torn_entries")));
        let mut wrong = right;
        wrong["crash"]["exit"]["code"] = json!(4);
        assert!(case.fault(&wrong).is_some_and(|fault| fault.contains("exit.code is 4 and not 3")));
    }

    #[test]
    fn a_problem_and_an_unexpected_report_are_faults() {
        let case = exit_3();
        assert!(case.fault(&json!({ "problem": "no record" })).is_some());
        let mut twice = answer(&case);
        twice["survived"] = json!([{}]);
        assert!(case.fault(&twice).is_some());
    }

    #[test]
    fn a_request_is_one_line_with_the_words_unchanged() {
        let case: Case = serde_json::from_value(json!({
            "name": "n", "options": ["--user", "1"], "command": ["sh", "-c", "a 'b'\n\"c\""], "expect": {}
        }))
        .expect("a case");
        let line = case.request();
        assert!(!line.contains('\n'));
        let request: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(
            request["arguments"],
            json!(["--timeout", TIME_LIMIT, "--user", "1", "--", "sh", "-c", "a 'b'\n\"c\""])
        );
    }

    #[test]
    fn a_case_is_left_out_with_a_reason() {
        let mut case = exit_3();
        case.unless.insert("5.10".to_owned(), "cannot".to_owned());
        assert_eq!(case.left_out(&["5.10", "fexit"]), Some("cannot"));
        assert_eq!(case.left_out(&["6.1", "fexit"]), None);
    }
}
