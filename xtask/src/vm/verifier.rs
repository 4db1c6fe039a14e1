//! How many instructions the verifier walks through for each program, by the exact kernel package: a golden table. A program that
//! suddenly costs it twice as much is near a limit on some other kernel, and takes that much longer to load.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

use super::outcome::{Row, Verdict};
use crate::workspace;

/// Another version of the compiler moves the counts by a few in a hundred; what is worth a look moves them by more than ten.
const ROOM: f64 = 0.1;

/// Instructions by program (`hook way-in`), by kernel package.
type Table = BTreeMap<String, BTreeMap<String, u64>>;

fn file() -> std::path::PathBuf {
    workspace::root().join("xtask/src/vm/verifier.json")
}

fn read() -> Result<Table> {
    let file = file();
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("cannot read {}", file.display()))
}

/// Takes the counts of these rows into the table.
///
/// # Errors
/// When it cannot be read or written.
pub(super) fn update(rows: &[Row]) -> Result<()> {
    let mut table = read()?;
    for row in rows.iter().filter(|row| !row.instructions.is_empty()) {
        table.entry(key(row)).or_default().extend(row.instructions.clone());
    }
    let file = file();
    let text = serde_json::to_string_pretty(&table).context("cannot write JSON")?;
    fs::write(&file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
}

/// Holds each row against the table, as one more case of it.
///
/// # Errors
/// When the table cannot be read.
pub(super) fn judge(rows: &mut [Row]) -> Result<()> {
    let table = read()?;
    for row in rows.iter_mut().filter(|row| !row.instructions.is_empty()) {
        row.cases.push(("verifier".to_owned(), verdict(&table, row)));
    }
    Ok(())
}

fn verdict(table: &Table, row: &Row) -> Verdict {
    let known = table.get(&key(row));
    let (mut faults, mut fresh) = (Vec::new(), Vec::new());
    for (program, &count) in &row.instructions {
        match known.and_then(|known| known.get(program)) {
            Some(&golden) if is_near(golden, count) => {}
            Some(golden) => faults.push(format!("{program} {count} instead of {golden}")),
            None => fresh.push(format!("{program} {count}")),
        }
    }
    let update = "`cargo xtask vm --update-goldens` takes them";
    if !faults.is_empty() {
        return Verdict::Wrong(format!("instructions walked through: {}; {update}", faults.join(", ")));
    }
    if fresh.is_empty() {
        return Verdict::Right;
    }
    Verdict::LeftOut(format!("no golden counts for {}; {update}: {}", key(row), fresh.join(", ")))
}

fn key(row: &Row) -> String {
    format!("{} {}", row.package, row.architecture)
}

#[expect(clippy::cast_precision_loss, reason = "the verifier gives up at a million")]
fn is_near(golden: u64, count: u64) -> bool {
    (count as f64 - golden as f64).abs() <= golden as f64 * ROOM
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(count: u64) -> Row {
        let skipped = Row::skipped(("6.1", "x86_64"), "6.1.1-1", "sys-exit", String::new());
        Row { instructions: BTreeMap::from([("exec tp_btf".to_owned(), count)]), ..skipped }
    }

    fn table(count: u64) -> Table {
        BTreeMap::from([(key(&row(0)), row(count).instructions)])
    }

    #[test]
    fn a_tenth_more_or_less_is_the_same() {
        for (count, right) in [(1000, true), (1100, true), (900, true), (1101, false), (899, false)] {
            assert_eq!(verdict(&table(1000), &row(count)) == Verdict::Right, right, "{count}");
        }
    }

    #[test]
    fn a_kernel_without_a_golden_is_told_and_is_no_fault() {
        let Verdict::LeftOut(told) = verdict(&Table::new(), &row(1000)) else { panic!("it is left out") };
        assert!(told.contains("6.1.1-1 x86_64") && told.contains("exec tp_btf 1000"), "{told}");
    }
}
