//! Data moves one way through the crates: kernel → agent → wire → aggregator → person. Dependencies follow it.

use serde_json::Value;

use super::Violation;
use super::tree::Tree;

pub(super) const DIRECTION: &str = "direction";

/// Which of our own crates each crate may use. What is not listed here does not belong to the workspace.
const OURS: &[(&str, &[&str])] = &[
    ("lastwords-agent-common", &[]),
    ("lastwords-agent-ebpf", &["lastwords-agent-common"]),
    ("lastwords-diagnosis", &[]),
    ("lastwords-metrics", &[]),
    ("lastwords-proto", &["lastwords-diagnosis"]),
    ("lastwords-render", &["lastwords-proto", "lastwords-diagnosis"]),
    (
        "lastwords-agent",
        &[
            "lastwords-agent-common",
            "lastwords-diagnosis",
            "lastwords-metrics",
            "lastwords-proto",
            "lastwords-render",
        ],
    ),
    ("lastwords-aggregator", &["lastwords-diagnosis", "lastwords-metrics", "lastwords-proto"]),
    ("lastwords-cli", &["lastwords-proto", "lastwords-render"]),
    (
        "lastwords-tests",
        &["lastwords-agent-common", "lastwords-diagnosis", "lastwords-proto", "lastwords-render"],
    ),
    ("lastwords-bench", &[]),
    ("dies", &[]),
    ("judge", &["lastwords-diagnosis", "lastwords-proto"]),
    ("xtask", &[]),
];

/// Crates that only some of ours may use: the kernel's loader stays in the agent and in what
/// measures it, the Kubernetes client out of it.
const FENCED: &[(&str, &[&str])] = &[
    ("aya", &["lastwords-agent", "lastwords-bench"]),
    ("aya-ebpf", &["lastwords-agent-ebpf"]),
    ("kube", &["lastwords-aggregator", "lastwords-cli"]),
    ("k8s-openapi", &["lastwords-aggregator", "lastwords-cli"]),
];

/// Crates that use nobody's: what they decide must depend on their arguments alone.
const ALONE: &[&str] = &["lastwords-diagnosis"];

/// Every dependency that points the wrong way, test and build dependencies included.
pub(super) fn direction(tree: &Tree, workspaces: &[Value]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in workspaces.iter().filter_map(|metadata| metadata.get("packages")?.as_array()).flatten() {
        let text =
            |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let name = text(package, "name");
        let manifest = manifest_of(tree, &text(package, "manifest_path"));
        let mut broken = |line: usize, what: String| {
            violations.push(Violation { file: manifest.clone(), line, law: DIRECTION, what });
        };
        let Some((_, may_use)) = OURS.iter().find(|(crate_name, _)| *crate_name == name) else {
            broken(
                1,
                format!("{name} has no place in the drawing; give it one in xtask/src/tidy/direction.rs"),
            );
            continue;
        };
        for dependency in package.get("dependencies").and_then(Value::as_array).into_iter().flatten() {
            let used = text(dependency, "name");
            let line = tree.file(&manifest).map_or(1, |file| line_of(&file.text, &used));
            let is_ours = OURS.iter().any(|(crate_name, _)| *crate_name == used);
            let only_for_tests = dependency.get("kind").and_then(Value::as_str) == Some("dev");
            if is_ours && !may_use.contains(&used.as_str()) {
                broken(line, format!("{name} depends on {used}, against the way data goes"));
            } else if let Some((_, allowed)) = FENCED.iter().find(|(fenced, _)| *fenced == used)
                && !allowed.contains(&name.as_str())
            {
                broken(line, format!("{name} depends on {used}; only {} may", allowed.join(" and ")));
            } else if ALONE.contains(&name.as_str()) && !only_for_tests {
                broken(line, format!("{name} depends on {used}; it may depend on nothing"));
            }
        }
    }
    violations
}

/// The manifest's path inside the tree; cargo knows it from the root of the file system.
fn manifest_of(tree: &Tree, absolute: &str) -> String {
    let mut below = absolute;
    while tree.file(below).is_none() {
        match below.trim_start_matches('/').split_once('/') {
            Some((_, rest)) => below = rest,
            None => return absolute.to_owned(),
        }
    }
    below.to_owned()
}

fn line_of(manifest: &str, dependency: &str) -> usize {
    let declares =
        |line: &str| line.strip_prefix(dependency).is_some_and(|rest| rest.starts_with([' ', '.', '=']));
    manifest.lines().position(declares).map_or(1, |position| position + 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tree::tree_of;
    use super::*;

    fn broken(name: &str, dependency: &str, kind: Option<&str>) -> Vec<String> {
        let manifest = format!("[package]\n\n[dependencies]\n{dependency}.workspace = true\n");
        let tree = tree_of(&[("part/Cargo.toml", &manifest)]);
        let metadata = json!({ "packages": [{
            "name": name,
            "manifest_path": "/home/me/lastwords/part/Cargo.toml",
            "dependencies": [{ "name": dependency, "kind": kind }],
        }]});
        direction(&tree, &[metadata]).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_drawing_is_allowed() {
        assert_eq!(broken("lastwords-proto", "lastwords-diagnosis", None), Vec::<String>::new());
        assert_eq!(broken("lastwords-agent", "aya", None), Vec::<String>::new());
        assert_eq!(broken("lastwords-diagnosis", "proptest", Some("dev")), Vec::<String>::new());
    }

    #[test]
    fn upstream_is_found_with_its_line() {
        let found = broken("lastwords-diagnosis", "lastwords-proto", None);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("part/Cargo.toml:4: lastwords-diagnosis depends on lastwords-proto"),
            "{found:?}"
        );
        assert_eq!(broken("lastwords-agent-common", "lastwords-agent", Some("dev")).len(), 1);
    }

    #[test]
    fn fences_hold() {
        assert_eq!(broken("lastwords-agent", "kube", None).len(), 1);
        assert_eq!(broken("lastwords-aggregator", "aya", None).len(), 1);
        assert_eq!(broken("lastwords-diagnosis", "serde", None).len(), 1);
    }

    #[test]
    fn a_new_crate_needs_a_place() {
        assert_eq!(broken("lastwords-extra", "anyhow", None).len(), 1);
    }
}
