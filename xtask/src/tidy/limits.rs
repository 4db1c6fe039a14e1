//! Every capacity has its reason where it is defined.

use super::Violation;
use super::tree::Tree;

pub(super) const DOCUMENTED: &str = "capacities-with-reasons";

const LIMITS: &str = "agent-common/src/limits.rs";

/// Public constants of the list of capacities that have no doc comment right above them.
pub(super) fn undocumented(tree: &Tree) -> Vec<Violation> {
    let Some(limits) = tree.file(LIMITS) else { return Vec::new() };
    let lines: Vec<&str> = limits.text.lines().map(str::trim).collect();
    let mut violations = Vec::new();
    for (position, line) in lines.iter().enumerate() {
        let Some(name) = line.strip_prefix("pub const ").filter(|rest| !rest.starts_with("fn ")) else {
            continue;
        };
        let above = lines.get(..position).unwrap_or_default();
        let first = above.iter().rev().find(|line| !line.starts_with("#["));
        if !first.is_some_and(|line| line.starts_with("///")) {
            let name = name.split(':').next().unwrap_or_default();
            violations.push(Violation {
                file: LIMITS.to_owned(),
                line: position + 1,
                law: DOCUMENTED,
                what: format!("{name} does not say why it has this value"),
            });
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::tree::tree_of;
    use super::*;

    #[test]
    fn a_capacity_without_a_reason_is_found() {
        let text = "/// Because.\n#[cfg(x)]\npub const A: u32 = 1;\n\npub const B: u32 = 2;\n// no doc\npub const C: u32 = 3;\npub const fn d() {}\n";
        let tree = tree_of(&[(LIMITS, text)]);
        let lines: Vec<usize> = undocumented(&tree).iter().map(|violation| violation.line).collect();
        assert_eq!(lines, [5, 7]);
    }
}
