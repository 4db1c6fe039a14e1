//! A lint is switched off only with a reason.

use super::Violation;
use super::tree::Tree;

pub(super) const REASON: &str = "allow-with-a-reason";

/// How each begins; `expect` is an `allow` that also says when it is no longer needed.
const OPENINGS: &[&str] = &["#[allow(", "#![allow(", "#[expect(", "#![expect("];

/// Attributes that switch a lint off and do not say why.
pub(super) fn without_reason(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.sources() {
        for opening in OPENINGS {
            for (start, _) in file.code.match_indices(opening) {
                let attribute = file.code.get(start..).unwrap_or_default();
                let attribute = attribute.split(']').next().unwrap_or_default();
                if !attribute.contains("reason") {
                    let line = file.code.get(..start).unwrap_or_default().lines().count().max(1);
                    let starts_line = file
                        .code
                        .get(..start)
                        .is_some_and(|before| before.is_empty() || before.ends_with('\n'));
                    let line = if starts_line && start > 0 { line + 1 } else { line };
                    let what = format!("{opening}…) without a reason");
                    violations.push(Violation { file: file.path.clone(), line, law: REASON, what });
                }
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::tree::tree_of;
    use super::*;

    #[test]
    fn an_allow_needs_a_reason_wherever_it_stands() {
        let tree = tree_of(&[(
            "a.rs",
            "#![allow(dead_code)]\n#[expect(\n    dead_code,\n    reason = \"used by x\"\n)]\nfn a() {}\n    #[allow(dead_code)]\n// #[allow(x)]\n#[allow(unused)]\n",
        )]);
        let lines: Vec<usize> = without_reason(&tree).iter().map(|violation| violation.line).collect();
        assert_eq!(
            lines.iter().copied().collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>(),
            [1, 7, 9]
        );
        assert_eq!(lines.len(), 3);
    }
}
