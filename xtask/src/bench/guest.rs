//! One boot in which everything is attached, one after the other, and counted.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::peers;
use super::table::{Row, Table};
use crate::architecture::Architecture;
use crate::kernels::{self, Series};
use crate::vm::boot::{self, Part};
use crate::vm::initrd::Files;
use crate::{ebpf, workspace};

/// How long the host waits for one row. An idle host takes 5 to 20 s.
const TIME_PER_ROW: Duration = Duration::from_secs(120);

/// What is counted for: the goldens are this architecture's.
const ARCHITECTURE: Architecture = Architecture::X86;

/// What batches are run by, at a real-time priority.
const CHRT: &str = "/usr/bin/chrt";

/// With nothing attached once more, when everything has come and gone.
const NONE_AGAIN: &str = "none-again";

const ORDER: [&str; 8] = [
    "none",
    "lastwords-sys-exit",
    "empty-sys-exit",
    "lastwords-fexit",
    "empty-fexit",
    "opensnoop",
    "exitsnoop",
    "bpftrace",
];

/// What `lastwords-bench count` prints.
#[derive(Debug, Deserialize)]
struct Counted {
    #[serde(default)]
    operations: Row,
    skipped: Option<String>,
}

/// Boots the kernel and counts with each of `wanted` attached, and with nothing.
pub(super) fn count(series: &'static Series, wanted: &[&str]) -> Result<Table> {
    let kernel =
        kernels::cached(series, ARCHITECTURE)?.map_or_else(|| kernels::fetch(series, ARCHITECTURE), Ok)?;
    let mut files = Files::of_the_suite(ARCHITECTURE)?;
    let program = workspace::programs().join("lastwords-bench");
    if !program.exists() {
        bail!("{} is not there; leave out --no-build", program.display());
    }
    files.program(&program)?;
    files.program(Path::new(CHRT))?;
    files.copy(&ebpf::empty_object(), Path::new("lib/empty.bpf.o"))?;

    let mut skipped = BTreeMap::new();
    let mut script = include_str!("run.sh").to_owned();
    let order = order(wanted);
    for attached in &order {
        match peers::carry(attached, &mut files)? {
            Some(reason) => {
                skipped.insert((*attached).to_owned(), reason);
            }
            None => script.push_str(&format!("part {attached} lastwords-bench count {attached}\n")),
        }
    }
    script.push_str(&format!("part {NONE_AGAIN} lastwords-bench count none\necho '@@lastwords finished'\n"));
    files.file(Path::new("suite/run.sh"), 0o755, script.into_bytes());

    let folder = workspace::target().join("vm");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let archive = folder.join(format!("{}-bench.cpio", series.name));
    let mut own = Files::default();
    own.add_boot(&kernel)?;
    files.write_with(&own, &archive)?;
    eprintln!("bench: booting {}", kernel.version);
    let started = Instant::now();
    let rows = u32::try_from(order.len()).unwrap_or(u32::MAX);
    let boot = boot::boot_counting(&kernel, &archive, TIME_PER_ROW * (rows + 1), |name, line| {
        if line.starts_with('{') {
            eprintln!("  {name} ({:.1} s)", started.elapsed().as_secs_f32());
        }
    })?;
    let mut absolute = BTreeMap::new();
    for part in boot.parts {
        match counted(&part) {
            Ok(row) => {
                absolute.insert(part.name, row);
            }
            Err(reason) => {
                skipped.insert(part.name, format!("{reason:#}"));
            }
        }
    }
    if let Some(reason) = boot.stopped {
        if !absolute.contains_key("none") {
            bail!(reason);
        }
        eprintln!("bench: {reason}");
        for attached in order.iter().filter(|one| !absolute.contains_key(**one)) {
            skipped
                .entry((*attached).to_owned())
                .or_insert_with(|| "the machine stopped before or in it".to_owned());
        }
    }
    if let Some(reason) = skipped.get("none") {
        bail!("nothing to compare with: {reason}");
    }
    if let (Some(first), Some(last)) = (absolute.get("none"), absolute.get(NONE_AGAIN)) {
        say_drift(first, last);
    }
    absolute.remove(NONE_AGAIN);
    Ok(Table::new(kernel.version, absolute, skipped))
}

/// The floor needs to know where Lastwords stands, so it comes after it; everything comes after nothing.
fn order<'a>(wanted: &[&'a str]) -> Vec<&'a str> {
    let is_wanted = |name: &str| {
        name == "none"
            || wanted.contains(&name)
            || name
                .strip_prefix("lastwords-")
                .is_some_and(|way| wanted.contains(&format!("empty-{way}").as_str()))
    };
    ORDER.into_iter().filter(|name| is_wanted(name)).collect()
}

/// A machine that is not at the end what it was at the beginning counts nothing.
fn say_drift(first: &Row, last: &Row) {
    for (operation, before) in first {
        let after = last.get(operation).copied().unwrap_or_default();
        if (after - before).abs() * 200 > *before {
            eprintln!(
                "bench: {operation} took {before} instructions at the beginning and {after} at the end, with nothing attached"
            );
        }
    }
}

fn counted(part: &Part) -> Result<Row> {
    let line = part.stdout.lines().rev().find(|line| line.starts_with('{'));
    let Some(line) = line else {
        let code = part.exit_code.map_or("no exit code".to_owned(), |code| format!("exit code {code}"));
        bail!("it ended with {code}: {}", part.stderr.trim());
    };
    let counted: Counted = serde_json::from_str(line).with_context(|| format!("cannot read {line}"))?;
    match counted.skipped {
        Some(reason) => bail!(reason),
        None => Ok(counted.operations),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_comes_after_what_it_is_the_floor_of() {
        assert_eq!(order(&["empty-fexit"]), ["none", "lastwords-fexit", "empty-fexit"]);
        assert_eq!(order(&["lastwords-sys-exit", "bpftrace"]), ["none", "lastwords-sys-exit", "bpftrace"]);
        assert_eq!(order(&["none"]), ["none"]);
    }

    #[test]
    fn a_row_is_read_and_a_reason_is_an_error() {
        let part = |stdout: &str| Part { stdout: stdout.to_owned(), ..Part::default() };
        let row = counted(&part("noise\n{\"attached\":\"none\",\"operations\":{\"getppid\":338}}\n"));
        assert_eq!(row.ok().and_then(|row| row.get("getppid").copied()), Some(338));
        let reason = counted(&part("{\"attached\":\"x\",\"skipped\":\"refused\"}"));
        assert_eq!(reason.err().map(|error| error.to_string()).as_deref(), Some("refused"));
        assert!(counted(&part("")).is_err());
    }
}
