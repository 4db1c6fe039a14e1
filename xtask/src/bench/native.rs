//! On this machine's own kernel, against the clock: with nothing attached and with the agent, by turns, so that whatever else the
//! machine does falls on both.

use std::collections::BTreeMap;
use std::env;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use super::table::OPERATIONS;
use crate::{ebpf, process, table, workspace};

const TURNS: usize = 5;
const BARE: &str = "none";
/// The way in that this kernel refuses says so in its turns.
const WATCHED: [&str; 2] = ["lastwords-fexit", "lastwords-sys-exit"];

/// One turn of `lastwords-bench compare`.
#[derive(Debug, Deserialize)]
struct Turn {
    attached: String,
    #[serde(default)]
    operations: BTreeMap<String, f64>,
    skipped: Option<String>,
}

/// Nanoseconds bare, and how many times as long it takes when somebody watches.
pub(super) struct Comparison {
    kernel: String,
    bare: BTreeMap<String, f64>,
    ratios: BTreeMap<String, BTreeMap<String, f64>>,
    skipped: BTreeMap<String, String>,
}

/// Runs it; takes root.
pub(super) fn compare() -> Result<Comparison> {
    let program = workspace::programs().join("lastwords-bench");
    let paths = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(std::iter::once(workspace::programs()).chain(env::split_paths(&paths)))?;
    let mut command = Command::new(&program);
    command.args(["compare", "--rounds", &TURNS.to_string(), BARE]).args(WATCHED);
    command.env("PATH", path).env("LASTWORDS_EMPTY_OBJECT", ebpf::empty_object());
    let text =
        process::answer(&mut command).with_context(|| format!("`{}` failed", process::line(&command)))?;
    let turns: Vec<Turn> = serde_json::from_str(text.trim()).context("cannot read the turns")?;
    let kernel = process::answer(Command::new("uname").arg("-r")).unwrap_or_default();
    of_turns(kernel, &turns)
}

fn of_turns(kernel: String, turns: &[Turn]) -> Result<Comparison> {
    let times = |attached: &str, operation: &str| -> Vec<f64> {
        turns
            .iter()
            .filter(|turn| turn.attached == attached)
            .filter_map(|turn| turn.operations.get(operation).copied())
            .collect()
    };
    let mut comparison =
        Comparison { kernel, bare: BTreeMap::new(), ratios: BTreeMap::new(), skipped: BTreeMap::new() };
    for turn in turns {
        if let Some(reason) = &turn.skipped {
            if turn.attached == BARE {
                bail!("nothing to compare with: {reason}");
            }
            comparison.skipped.insert(turn.attached.clone(), reason.clone());
        }
    }
    for operation in OPERATIONS {
        let bare = times(BARE, operation);
        if let Some(median) = median(bare.clone()) {
            comparison.bare.insert(operation.to_owned(), median);
        }
        for attached in WATCHED {
            let watched = times(attached, operation);
            if watched.len() != bare.len() {
                continue;
            }
            let ratios = bare.iter().zip(&watched).map(|(bare, watched)| watched / bare).collect();
            if let Some(ratio) = median(ratios) {
                comparison.ratios.entry(attached.to_owned()).or_default().insert(operation.to_owned(), ratio);
            }
        }
    }
    Ok(comparison)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

impl Comparison {
    pub(super) fn json(&self) -> Value {
        let mut rows = Vec::new();
        for (attached, ratios) in &self.ratios {
            for (operation, ratio) in ratios {
                rows.push(json!({ "attached": attached, "operation": operation, "ratio": ratio }));
            }
        }
        for (operation, nanoseconds) in &self.bare {
            rows.push(json!({ "attached": BARE, "operation": operation, "nanoseconds": nanoseconds }));
        }
        let skipped: Vec<Value> = self
            .skipped
            .iter()
            .map(|(attached, reason)| json!({ "attached": attached, "reason": reason }))
            .collect();
        json!({ "kernel": self.kernel, "rows": rows, "skipped": skipped })
    }

    pub(super) fn shown(&self) -> String {
        let watched: Vec<&String> = self.ratios.keys().collect();
        let heading = ["operation", "ns bare"].into_iter().chain(watched.iter().map(|one| one.as_str()));
        let mut rows = vec![heading.map(str::to_owned).collect::<Vec<_>>()];
        for operation in OPERATIONS {
            let bare = self.bare.get(operation).map_or("-".to_owned(), |bare| format!("{bare:.0}"));
            let ratios = watched.iter().map(|one| {
                let ratio = self.ratios.get(*one).and_then(|ratios| ratios.get(operation));
                ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"))
            });
            rows.push([operation.to_owned(), bare].into_iter().chain(ratios).collect());
        }
        let mut text = format!("kernel {}: how many times as long, median of {TURNS} turns\n\n", self.kernel);
        text.push_str(&table::render(&rows));
        for (attached, reason) in &self.skipped {
            text.push_str(&format!("SKIPPED {attached}: {reason}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(attached: &str, time: f64) -> Turn {
        let operations = BTreeMap::from([("getppid".to_owned(), time)]);
        Turn { attached: attached.to_owned(), operations, skipped: None }
    }

    #[test]
    fn a_ratio_is_of_times_in_the_same_turn() {
        // The machine was twice as slow in the second turn.
        let sys_exit = "lastwords-sys-exit";
        let turns = [turn(BARE, 100.0), turn(sys_exit, 150.0), turn(BARE, 200.0), turn(sys_exit, 300.0)];
        let comparison = of_turns("6.18".to_owned(), &turns).expect("there is something to compare");
        assert_eq!(comparison.ratios[sys_exit]["getppid"], 1.5);
        assert!(comparison.shown().contains("1.50"));
    }

    #[test]
    fn what_could_not_run_is_said() {
        let refused = Turn {
            skipped: Some("refused".to_owned()),
            operations: BTreeMap::new(),
            ..turn("lastwords-fexit", 0.0)
        };
        let comparison =
            of_turns("6.18".to_owned(), &[turn(BARE, 100.0), refused]).expect("there is something");
        assert!(comparison.shown().contains("SKIPPED lastwords-fexit: refused"));
    }
}
