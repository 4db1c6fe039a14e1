//! The tables that were found right, by the exact package of the kernel, and what may be worse than they say.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::table::{OPERATIONS, Row, Table};
use crate::workspace;

/// How much the ratio to the floor may grow.
const ROOM: f64 = 0.02;

/// Below so many instructions an empty program at the same hooks costs nothing, and no ratio to it says anything: there the whole
/// operation is compared.
const NO_FLOOR: i64 = 50;

/// Operations that take the same way through the kernel each time, to the instruction. The others (ports, pages and their tables are
/// picked anew) differ by a few in a thousand from boot to boot, as much as Lastwords adds: of them, too, the whole is compared.
const EXACT: [&str; 7] = [
    "getppid",
    "open_close",
    "open_close_young",
    "open_missing_inside",
    "open_missing_outside",
    "write",
    "sigterm",
];

/// How many instructions more an operation takes in one boot than in another, with Lastwords and with the floor, where that is two in a
/// hundred of what is added or more. An open that fails is unsteady whatever is attached; one that is noted as configuration took 39 more in
/// one boot of three.
const UNSTEADY: [(&str, i64, i64); 3] =
    [("open_missing_inside", 12, 12), ("open_missing_outside", 12, 12), ("open_close_young", 40, 0)];

/// What is held against which floor.
const PAIRS: [(&str, &str); 2] =
    [("lastwords-fexit", "empty-fexit"), ("lastwords-sys-exit", "empty-sys-exit")];

/// All golden tables.
#[derive(Debug, Default)]
pub(super) struct Golden(BTreeMap<String, BTreeMap<String, Row>>);

/// What became of the comparison.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// Ratios that were compared and are no worse.
    pub(crate) passed: usize,
    /// Ratios that are worse, a sentence each.
    pub(crate) worse: Vec<String>,
    /// What could not be compared, a sentence each.
    pub(crate) skipped: Vec<String>,
}

impl Judgement {
    /// All of it for a person.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        let passed = (self.passed > 0)
            .then(|| format!("{} ratios to the floor are no worse than the golden ones", self.passed));
        let worse = self.worse.iter().map(|line| format!("WORSE {line}"));
        let skipped = self.skipped.iter().map(|line| format!("SKIPPED {line}"));
        passed.into_iter().chain(worse).chain(skipped)
    }
}

impl Golden {
    /// Those in the repository.
    pub(super) fn read() -> Result<Self> {
        let text = fs::read_to_string(file()).with_context(|| format!("cannot read {}", file().display()))?;
        serde_json::from_str(&text).map(Self).with_context(|| format!("cannot read {}", file().display()))
    }

    /// Makes this table its kernel's golden one.
    pub(super) fn update(&mut self, table: &Table) -> Result<()> {
        self.0.insert(table.kernel.clone(), table.rows.clone());
        let mut text = serde_json::to_string_pretty(&self.0)?;
        text.push('\n');
        fs::write(file(), text).with_context(|| format!("cannot write {}", file().display()))
    }

    /// Compares ratios to the floor, which other machines and other builds of the same kernel have too.
    pub(super) fn judge(&self, table: &Table) -> Judgement {
        let mut judgement = Judgement::default();
        let Some(golden) = self.0.get(&table.kernel) else {
            judgement.skipped.push(format!(
                "golden table: there is none for kernel {}; when the fresh one is right, `cargo xtask bench overhead --update` keeps it",
                table.kernel
            ));
            return judgement;
        };
        for (attached, floor) in PAIRS {
            if !golden.contains_key(attached) {
                continue;
            }
            if let Some(reason) = table.skipped.get(attached).or_else(|| table.skipped.get(floor)) {
                judgement.worse.push(format!("{attached} could not be counted: {reason}"));
                continue;
            }
            for operation in OPERATIONS {
                let (Some(then), Some(now)) = (
                    ratio(
                        operation,
                        |attached| golden.get(attached)?.get(operation).copied(),
                        attached,
                        floor,
                    ),
                    ratio(operation, |attached| table.get(attached, operation), attached, floor),
                ) else {
                    continue;
                };
                let room = then * ROOM + room(operation, then, table.get(floor, operation));
                if now <= then + room {
                    judgement.passed += 1;
                } else {
                    judgement
                        .worse
                        .push(format!("{operation}: {attached} is {now:.3} × {floor}, golden is {then:.3}; if that is meant, `cargo xtask bench overhead --update`"));
                }
            }
        }
        judgement
    }
}

fn ratio(operation: &str, count: impl Fn(&str) -> Option<i64>, attached: &str, floor: &str) -> Option<f64> {
    let (bare, added, floor) = (count("none")?, count(attached)?, count(floor)?);
    let whole = if floor < NO_FLOOR || !EXACT.contains(&operation) { bare } else { 0 };
    Some(number(whole + added) / number(whole + floor))
}

/// How much of a ratio the unsteadiness of an operation may make, of both numbers in it.
fn room(operation: &str, ratio: f64, floor: Option<i64>) -> f64 {
    let unsteady = UNSTEADY.iter().find(|(unsteady, ..)| *unsteady == operation);
    match (unsteady, floor) {
        (Some((_, own, of_floor)), Some(floor)) if floor > *of_floor => {
            (number(*own) + ratio * number(*of_floor)) / number(floor)
        }
        _ => 0.0,
    }
}

/// Exact up to 2^53 instructions.
fn number(count: i64) -> f64 {
    count as f64
}

fn file() -> PathBuf {
    workspace::root().join("xtask/src/bench/golden.json")
}

#[cfg(test)]
mod tests {
    use super::super::table::table_of;
    use super::*;

    fn counts(open_close: i64, getppid: i64) -> Table {
        table_of(&[
            ("none", "open_close", 5395),
            ("empty-fexit", "open_close", 5395 + 188),
            ("lastwords-fexit", "open_close", 5395 + open_close),
            ("none", "getppid", 338),
            ("empty-fexit", "getppid", 338),
            ("lastwords-fexit", "getppid", 338 + getppid),
        ])
    }

    fn golden() -> Golden {
        let table = counts(198, 0);
        Golden(BTreeMap::from([(table.kernel, table.rows)]))
    }

    #[test]
    fn the_same_counts_pass_and_so_does_a_little_more() {
        assert_eq!(golden().judge(&counts(198, 0)).passed, 2);
        assert_eq!(golden().judge(&counts(201, 0)).passed, 2);
    }

    #[test]
    fn more_than_two_percent_is_worse() {
        let judgement = golden().judge(&counts(203, 0));
        assert_eq!(judgement.worse.len(), 1, "{judgement:?}");
        assert!(judgement.worse[0].starts_with("open_close: lastwords-fexit is 1.080"), "{judgement:?}");
    }

    #[test]
    fn what_is_unsteady_by_itself_has_room_for_that() {
        let counts = |floor: i64, added: i64| {
            table_of(&[
                ("none", "open_missing_inside", 6264),
                ("empty-sys-exit", "open_missing_inside", 6264 + floor),
                ("lastwords-sys-exit", "open_missing_inside", 6264 + added),
            ])
        };
        let golden = Golden(BTreeMap::from([(counts(0, 0).kernel, counts(147, 767).rows)]));
        assert_eq!(golden.judge(&counts(137, 763)).worse, Vec::<String>::new());
        assert_eq!(golden.judge(&counts(147, 767 + 100)).worse.len(), 1);
    }

    #[test]
    fn without_a_floor_the_whole_operation_is_compared() {
        assert_eq!(golden().judge(&counts(198, 6)).worse, Vec::<String>::new());
        assert_eq!(golden().judge(&counts(198, 8)).worse.len(), 1);
    }

    #[test]
    fn of_what_differs_from_boot_to_boot_the_whole_is_compared() {
        let process = |added: i64| {
            table_of(&[
                ("none", "process", 660_000),
                ("empty-fexit", "process", 664_000),
                ("lastwords-fexit", "process", 660_000 + added),
            ])
        };
        let golden = Golden(BTreeMap::from([(process(0).kernel, process(5_000).rows)]));
        assert_eq!(golden.judge(&process(9_000)).worse, Vec::<String>::new());
        assert_eq!(golden.judge(&process(20_000)).worse.len(), 1);
    }

    #[test]
    fn a_new_kernel_is_said_and_a_lost_way_in_is_worse() {
        let mut other = counts(198, 0);
        other.kernel = "7.2.13-1".to_owned();
        assert!(golden().judge(&other).skipped[0].contains("7.2.13-1"));

        let mut refused = table_of(&[("none", "getppid", 338)]);
        refused.skipped.insert("lastwords-fexit".to_owned(), "refused".to_owned());
        assert_eq!(golden().judge(&refused).worse, ["lastwords-fexit could not be counted: refused"]);
    }

    #[test]
    fn the_tables_in_the_repository_can_be_read() {
        Golden::read().expect("golden.json is one");
    }
}
