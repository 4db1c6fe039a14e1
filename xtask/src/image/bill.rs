//! What a program is made of, as a CycloneDX bill of materials: every crate that is linked into it, with version, licence and origin.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{process, workspace};

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

/// Writes the bill of this program.
///
/// # Errors
/// When cargo cannot resolve the workspace, or no package makes such a program.
pub(super) fn write(program: &str, path: &Path) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace::root()).args([
        "metadata",
        "--format-version=1",
        "--locked",
        "--filter-platform=x86_64-unknown-linux-gnu",
    ]);
    let metadata = process::answer(&mut cargo).context("cargo metadata fails")?;
    let metadata: Metadata =
        serde_json::from_str(&metadata).context("cargo metadata prints something else")?;
    let bill = bill(program, &metadata).with_context(|| format!("no package makes {program}"))?;
    fs::write(path, bill.to_string()).with_context(|| format!("cannot write {}", path.display()))
}

fn bill(program: &str, metadata: &Metadata) -> Option<Value> {
    let makes = |target: &Target| target.name == program && target.kind.iter().any(|kind| kind == "bin");
    let root = metadata.packages.iter().find(|package| package.targets.iter().any(makes))?;
    let linked = linked(&root.id, &metadata.resolve);
    let mut components: Vec<&Package> = metadata
        .packages
        .iter()
        .filter(|package| package.id != root.id && linked.contains(&package.id))
        .collect();
    components.sort_by_key(|package| (&package.name, &package.version));
    let components: Vec<Value> = components.into_iter().map(component).collect();
    let mut this = component(root);
    this["type"] = json!("application");
    Some(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": this},
        "components": components,
    }))
}

/// All that is reached without build scripts' and tests' own dependencies: those run here and are shipped nowhere.
fn linked<'a>(root: &'a str, resolve: &'a Resolve) -> BTreeSet<String> {
    let nodes: BTreeMap<&str, &Node> = resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let mut reached = BTreeSet::new();
    let mut open = vec![root];
    while let Some(id) = open.pop() {
        if !reached.insert(id.to_owned()) {
            continue;
        }
        let dependencies = nodes.get(id).into_iter().flat_map(|node| &node.deps);
        let shipped = |dependency: &&Dependency| dependency.dep_kinds.iter().any(|kind| kind.kind.is_none());
        open.extend(dependencies.filter(shipped).map(|dependency| dependency.pkg.as_str()));
    }
    reached
}

fn component(package: &Package) -> Value {
    let mut component = json!({
        "type": "library",
        "name": package.name,
        "version": package.version,
        "licenses": package.license.iter().map(|licence| json!({"expression": licence})).collect::<Vec<_>>(),
    });
    if package.source.is_some() {
        component["purl"] = json!(format!("pkg:cargo/{}@{}", package.name, package.version));
    }
    component
}
