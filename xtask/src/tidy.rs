//! `cargo xtask tidy`: the laws of the code as code. Each violation is one line: file, line, what is wrong, and the law's name.
//!
//! To change a law, change its list here in `tidy/` in the same commit as the code that needs it, with the reason.

mod attributes;
mod direction;
mod imports;
mod limits;
mod rules;
mod size;
mod source;
mod tree;

use std::fmt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use self::tree::Tree;
use crate::{process, workspace};

/// Check the laws of the code: who may depend on whom, where unsafe may stand, how long a file may be.
#[derive(Args)]
pub(crate) struct Tidy {}

/// One place that breaks a law.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    file: String,
    line: usize,
    law: &'static str,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {} [{}]", self.file, self.line, self.what, self.law)
    }
}

type Law = fn(&Tree) -> Vec<Violation>;

/// The laws that are read off the sources; the direction of dependencies is read off cargo.
const LAWS: &[(&str, Law)] = &[
    (imports::AYA, imports::aya),
    (imports::KUBE, imports::kube),
    (imports::UNSAFE, imports::unsafe_code),
    (imports::PURE, imports::pure),
    (rules::ORDER, rules::order),
    (size::LENGTH, size::too_long),
    (attributes::REASON, attributes::without_reason),
    (limits::DOCUMENTED, limits::undocumented),
];

/// What the laws say of this tree.
pub(crate) struct Report {
    /// Each law with the number of places that break it.
    pub(crate) laws: Vec<(&'static str, usize)>,
    violations: Vec<Violation>,
    warnings: Vec<Violation>,
}

impl Tidy {
    /// Prints every violation; fails when there is one.
    pub(crate) fn run(self) -> Result<()> {
        let report = check()?;
        report.print();
        if !report.violations.is_empty() {
            bail!("{} places break a law of the code", report.violations.len());
        }
        Ok(())
    }
}

impl Report {
    pub(crate) fn print(&self) {
        for warning in &self.warnings {
            println!("warning: {warning}");
        }
        for violation in &self.violations {
            println!("{violation}");
        }
        println!("tidy: {} laws, {} violations", self.laws.len(), self.violations.len());
    }
}

/// Holds the checkout against every law.
///
/// # Errors
/// When the sources or cargo's metadata cannot be read.
pub(crate) fn check() -> Result<Report> {
    let tree = Tree::read(workspace::root())?;
    let mut violations =
        direction::direction(&tree, &[metadata("Cargo.toml")?, metadata("agent-ebpf/Cargo.toml")?]);
    let mut laws = vec![(direction::DIRECTION, violations.len())];
    for (name, law) in LAWS {
        let broken = law(&tree);
        laws.push((name, broken.len()));
        violations.extend(broken);
    }
    violations.sort();
    Ok(Report { laws, violations, warnings: size::long(&tree) })
}

fn metadata(manifest: &str) -> Result<Value> {
    let manifest = workspace::root().join(manifest);
    let mut cargo = Command::new("cargo");
    cargo
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"])
        .arg(&manifest);
    let text = process::answer(&mut cargo)
        .with_context(|| format!("`{}` failed; run it to see why", process::line(&cargo)))?;
    serde_json::from_str(&text).context("cannot read cargo's metadata")
}
