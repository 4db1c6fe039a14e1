//! The rules of the diagnosis stand in the order of the usual list of reasons for a crash loop, each in a file of its own.

use super::Violation;
use super::tree::Tree;

pub(super) const ORDER: &str = "rules-in-order";

const LIST: &str = "diagnosis/src/rules.rs";
const FOLDER: &str = "diagnosis/src/rules/";

/// The list of reasons: its number, and the rules that know it. Rules that are not here stand behind, under no number.
const REASONS: &[(usize, &[&str])] = &[
    (1, &["invalid_configuration"]),
    (2, &["out_of_memory", "resource_limit", "disk_full"]),
    (3, &["port_in_use"]),
    (4, &["file_locked"]),
    (5, &["file_not_found", "exec_failed"]),
    (6, &["program_error"]),
    (7, &["invalid_arguments"]),
    (8, &["probe_failed"]),
    (9, &["permission_denied", "seccomp_denied"]),
    (10, &["read_only_filesystem"]),
    (11, &["connection_failed", "dns_failed"]),
    (12, &["invalid_environment"]),
    (13, &["identity_unavailable"]),
];

/// Behind every numbered reason.
const UNNUMBERED: usize = usize::MAX;

/// Rule files that the list leaves out, and lines of the list under the wrong number.
pub(super) fn order(tree: &Tree) -> Vec<Violation> {
    let Some(list) = tree.file(LIST) else { return Vec::new() };
    let broken =
        |file: &str, line: usize, what: String| Violation { file: file.to_owned(), line, law: ORDER, what };
    let mut violations = Vec::new();
    let mut listed = Vec::new();
    let mut heading = 0;
    for (number, line) in (1..).zip(list.text.lines()) {
        if let Some(comment) = line.strip_prefix("// ") {
            let next =
                comment.split_once('.').and_then(|(first, _)| first.parse().ok()).unwrap_or(UNNUMBERED);
            // Comments further down are no headings.
            if listed.len() < files(tree).count() {
                if next < heading {
                    violations.push(broken(LIST, number, format!("reason {next} stands behind a later one")));
                }
                heading = next;
            }
        } else if let Some(rule) = line.trim_start_matches("pub(crate) ").strip_prefix("mod ") {
            let rule = rule.trim_end_matches(';');
            let place = REASONS
                .iter()
                .find(|(_, rules)| rules.contains(&rule))
                .map_or(UNNUMBERED, |(place, _)| *place);
            if place != heading && rule != "tests" {
                let shown = if place == UNNUMBERED {
                    "behind the numbered reasons".to_owned()
                } else {
                    format!("under reason {place}")
                };
                violations.push(broken(LIST, number, format!("rule {rule} belongs {shown}")));
            }
            listed.push(rule.to_owned());
        }
    }
    for file in files(tree) {
        if !listed.contains(&file) {
            violations.push(broken(
                &format!("{FOLDER}{file}.rs"),
                1,
                format!("rule {file} is not listed in {LIST}"),
            ));
        }
    }
    violations
}

fn files(tree: &Tree) -> impl Iterator<Item = String> {
    tree.sources().filter_map(|file| {
        let name = file.path.strip_prefix(FOLDER)?.strip_suffix(".rs")?;
        (!name.contains('/')).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::super::tree::tree_of;
    use super::*;

    fn lines(list: &str) -> Vec<(String, usize)> {
        let tree = tree_of(&[
            (LIST, list),
            ("diagnosis/src/rules/out_of_memory.rs", ""),
            ("diagnosis/src/rules/program_error.rs", ""),
            ("diagnosis/src/rules/unknown.rs", ""),
        ]);
        order(&tree).into_iter().map(|violation| (violation.file, violation.line)).collect()
    }

    #[test]
    fn the_usual_order_is_fine() {
        let list = "// 2. Memory.\nmod out_of_memory;\n// 6. A bug.\nmod program_error;\n// The rest.\nmod unknown;\n\n// 1. No heading.\n";
        assert_eq!(lines(list), Vec::new());
    }

    #[test]
    fn a_wrong_order_is_found() {
        let list = "// 6. A bug.\nmod program_error;\n// 2. Memory.\nmod out_of_memory;\n// The rest.\nmod unknown;\n";
        assert_eq!(lines(list), [(LIST.to_owned(), 3)]);
    }

    #[test]
    fn a_rule_under_the_wrong_reason_is_found() {
        let list = "// 2. Memory.\nmod out_of_memory;\nmod program_error;\n// The rest.\nmod unknown;\n";
        assert_eq!(lines(list), [(LIST.to_owned(), 3)]);
    }

    #[test]
    fn a_rule_that_is_not_listed_is_found() {
        let list = "// 2. Memory.\nmod out_of_memory;\n// 6. A bug.\nmod program_error;\n";
        assert_eq!(lines(list), [("diagnosis/src/rules/unknown.rs".to_owned(), 1)]);
    }
}
