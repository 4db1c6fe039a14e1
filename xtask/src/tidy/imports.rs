//! Which words may stand in which files: the loader, the Kubernetes client, `unsafe`, the clock.

use super::Violation;
use super::source::words;
use super::tree::{File, Tree};

pub(super) const AYA: &str = "one-door-to-the-kernel";
pub(super) const KUBE: &str = "one-door-to-kubernetes";
pub(super) const UNSAFE: &str = "unsafe-in-few-places";
pub(super) const PURE: &str = "pure-and-total";

/// A path here is a file, or a folder when it ends in a slash.
/// The benchmarks' floor has to be loaded as the agent's programs are.
const AYA_HOMES: &[&str] =
    &["agent/src/kernel/", "agent/src/kernel.rs", "agent/src/ingest.rs", "bench/src/empty.rs"];

const KUBE_HOMES: &[&str] =
    &["aggregator/src/kubernetes/", "aggregator/src/kubernetes.rs", "cli/src/connect.rs"];

/// The kernel side, its loader, the decoder that turns bytes into records, and the faults of test programs, which are their purpose.
const UNSAFE_HOMES: &[&str] = &[
    "agent-ebpf/",
    "agent/src/kernel/",
    "agent/src/decode.rs",
    "agent/src/decode/",
    "tests/dies/src/faults.rs",
    "tests/guests/",
];

/// Bytes in, values out, time as an argument.
const PURE_HOMES: &[&str] = &[
    "agent/src/decode.rs",
    "agent/src/decode/",
    "agent/src/assemble.rs",
    "agent/src/assemble/",
    "aggregator/src/pair.rs",
    "aggregator/src/pair/",
    "aggregator/src/backoff.rs",
    "diagnosis/src/",
];

/// What a pure function has no use for.
const IMPURE: &[&[&str]] = &[
    &["SystemTime", "now"],
    &["Instant", "now"],
    &["std", "env"],
    &["std", "fs"],
    &["std", "process"],
    &["std", "thread"],
    &["TcpListener", "bind"],
    &["TcpStream", "connect"],
    &["UdpSocket", "bind"],
    &["tokio"],
];

/// Files outside the loader that import aya.
pub(super) fn aya(tree: &Tree) -> Vec<Violation> {
    outside(tree, AYA, AYA_HOMES, |file| mentions(file, &["aya"]))
}

/// Files outside the two doors that import kube.
pub(super) fn kube(tree: &Tree) -> Vec<Violation> {
    outside(tree, KUBE, KUBE_HOMES, |file| mentions(file, &["kube"]))
}

/// `unsafe` anywhere else.
pub(super) fn unsafe_code(tree: &Tree) -> Vec<Violation> {
    outside(tree, UNSAFE, UNSAFE_HOMES, |file| {
        words(&file.code)
            .filter(|(_, _, word, _)| *word == "unsafe")
            .map(|(line, ..)| (line, "unsafe".to_owned()))
            .collect()
    })
}

/// Clocks, files, sockets and threads in code that has to be pure.
pub(super) fn pure(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.sources().filter(|file| stands_in(file, PURE_HOMES)) {
        for path in IMPURE {
            for (line, what) in mentions(file, path) {
                let what = format!("{what} in code that has to be pure; take what it gives as an argument");
                violations.push(Violation { file: file.path.clone(), line, law: PURE, what });
            }
        }
    }
    violations
}

fn outside(
    tree: &Tree,
    law: &'static str,
    homes: &[&str],
    find: impl Fn(&File) -> Vec<(usize, String)>,
) -> Vec<Violation> {
    let strangers = tree.sources().filter(|file| !stands_in(file, homes));
    strangers
        .flat_map(|file| find(file).into_iter().map(move |(line, what)| (file, line, what)))
        .map(|(file, line, what)| {
            let what = format!("{what} outside {}", homes.join(", "));
            Violation { file: file.path.clone(), line, law, what }
        })
        .collect()
}

fn stands_in(file: &File, homes: &[&str]) -> bool {
    homes
        .iter()
        .any(|home| if home.ends_with('/') { file.path.starts_with(home) } else { file.path == *home })
}

/// Where the path is written: `a::b`, or `use a` for a path of one word. A field or a variable of that name does not count.
fn mentions(file: &File, path: &[&str]) -> Vec<(usize, String)> {
    let Some((first, others)) = path.split_first() else { return Vec::new() };
    words(&file.code)
        .filter(|(_, before, word, after)| {
            let names_crate = after.starts_with("::")
                || before.trim_end().ends_with("use")
                || before.ends_with("extern crate ");
            word == first && !before.ends_with('.') && names_crate && continues(after, others)
        })
        .map(|(line, ..)| (line, path.join("::")))
        .collect()
}

fn continues(after: &str, path: &[&str]) -> bool {
    let Some((next, others)) = path.split_first() else { return true };
    let Some(rest) = after.strip_prefix("::") else { return false };
    // `use std::{fs, io}` names std::fs as well.
    if let Some(group) = rest.strip_prefix('{') {
        return others.is_empty() && words(group).any(|(_, _, word, _)| word == *next);
    }
    rest.strip_prefix(next).is_some_and(|rest| {
        !rest.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_') && continues(rest, others)
    })
}

#[cfg(test)]
mod tests {
    use super::super::tree::tree_of;
    use super::*;

    #[test]
    fn aya_is_found_outside_its_home_only() {
        let tree = tree_of(&[
            ("agent/src/kernel/load.rs", "use aya::Ebpf;"),
            ("agent/src/ship.rs", "// aya::Ebpf\nlet x = \"aya::Ebpf\";\nfn f(x: aya::Ebpf) {}"),
            ("agent-ebpf/src/main.rs", "use aya_ebpf::maps::HashMap;"),
        ]);
        let found: Vec<String> = aya(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("agent/src/ship.rs:3: aya"), "{found:?}");
    }

    #[test]
    fn kube_is_found_but_not_a_field_of_that_name() {
        let tree = tree_of(&[
            ("aggregator/src/kubernetes/watch.rs", "use kube::Client;"),
            ("aggregator/src/api.rs", "use kube as k;\nlet a = args.kube;\n"),
            ("cli/src/connect.rs", "kube::Client::try_default()"),
            ("cli/src/main.rs", "kube::Client::try_default()"),
        ]);
        let found: Vec<_> =
            kube(&tree).into_iter().map(|violation| (violation.file, violation.line)).collect();
        assert_eq!(found, [("aggregator/src/api.rs".to_owned(), 1), ("cli/src/main.rs".to_owned(), 1)]);
    }

    #[test]
    fn unsafe_is_found_outside_the_kernel_side() {
        let tree = tree_of(&[
            ("agent/src/kernel/plain.rs", "unsafe impl Pod for X {}"),
            ("agent/src/ship.rs", "#[expect(unsafe_code, reason = \"x\")]\nfn f() { unsafe { g() } }"),
        ]);
        let found = unsafe_code(&tree);
        assert_eq!(found.iter().map(|violation| violation.line).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn clocks_and_files_are_found_in_pure_code_only() {
        let tree = tree_of(&[
            (
                "diagnosis/src/case.rs",
                "let t = std::time::Instant::now();\nuse std::{fmt, fs};\nuse std::fmt;",
            ),
            ("agent/src/spool/write.rs", "std::fs::write(a, b)"),
        ]);
        let found = pure(&tree);
        assert_eq!(found.iter().map(|violation| violation.line).collect::<Vec<_>>(), [1, 2]);
    }
}
