//! Whether each part of the diagnosis is needed: the same crashes, judged with one part switched off.

use anyhow::{Context, Result};

use super::Death;
use super::outcome::Row;
use super::session::Judge;
use crate::{table, workspace};

/// The file that says what cannot be told stands behind all rules and is none. Of the others the Kubernetes API alone tells: no program
/// dies of them, and they are tested with the pods that show them.
const NOT_OF_DEATHS: [&str; 7] = [
    "unknown",
    "container_config_error",
    "container_create_error",
    "evicted",
    "image_pull_failed",
    "node_shutdown",
    "preempted",
];

/// What came of it.
pub(crate) struct Report {
    /// A table: the part, the rows that are right without it, the near-misses that are right without it.
    pub(crate) text: String,
    /// Without any of the parts fewer were right.
    pub(crate) all_missed: bool,
}

/// How many are right: of all, and of the near-misses.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Right {
    all: usize,
    near_misses: usize,
}

/// Judges the deaths without each rule file, then without the knowledge of noise.
///
/// # Errors
/// When a crash cannot be judged.
pub(crate) fn report(deaths: &[Death]) -> Result<Report> {
    let mut judge = Judge::start()?;
    let whole = right(&mut judge, deaths, None)?;
    let mut rows = vec![["switched off", "right", "near-misses", ""].map(str::to_owned).to_vec()];
    let mut all_missed = true;
    let mut row = |part: &str, right: Right, missed: bool| {
        all_missed &= missed;
        let verdict = if missed { "missed" } else { "NOT MISSED" };
        rows.push(vec![
            part.to_owned(),
            right.all.to_string(),
            right.near_misses.to_string(),
            verdict.to_owned(),
        ]);
    };
    for rule in rules()? {
        let without = right(&mut judge, deaths, Some(&format!("CAUSE_{}", rule.to_uppercase())))?;
        row(&rule, without, without.all < whole.all);
    }
    let without = right(&mut judge, deaths, Some("noise"))?;
    row("noise", without, without.near_misses < whole.near_misses);
    let text = format!(
        "with everything {} are right, {} near-misses among them\n{}",
        whole.all,
        whole.near_misses,
        table::render(&rows)
    );
    Ok(Report { text, all_missed })
}

fn right(judge: &mut Judge, deaths: &[Death], without: Option<&str>) -> Result<Right> {
    let mut right = Right { all: 0, near_misses: 0 };
    for Death { case, crash } in deaths {
        let row = Row::new(case, &judge.diagnosis(case, crash, without)?);
        right.all += usize::from(row.right);
        right.near_misses += usize::from(row.right && row.near_miss);
    }
    Ok(right)
}

/// The rule files by their names.
fn rules() -> Result<Vec<String>> {
    let folder = workspace::root().join("diagnosis/src/rules");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let name = |entry: std::fs::DirEntry| {
        Some(entry.file_name().to_str()?.strip_suffix(".rs")?.to_owned())
            .filter(|name| !NOT_OF_DEATHS.contains(&name.as_str()))
    };
    let mut rules: Vec<String> = entries.filter_map(Result::ok).filter_map(name).collect();
    rules.sort();
    Ok(rules)
}
