//! Files stay short enough to be read in one sitting.

use super::Violation;
use super::tree::Tree;

pub(super) const LENGTH: &str = "short-files";

/// No file has more lines.
const MOST: usize = 500;

/// From here on `tidy` warns.
const MANY: usize = 400;

/// Files over the limit.
pub(super) fn too_long(tree: &Tree) -> Vec<Violation> {
    longer_than(tree, MOST, usize::MAX)
}

/// Files that are about to be.
pub(super) fn long(tree: &Tree) -> Vec<Violation> {
    longer_than(tree, MANY, MOST)
}

fn longer_than(tree: &Tree, lower: usize, upper: usize) -> Vec<Violation> {
    let counted = tree.sources().map(|file| (file, file.text.lines().count()));
    counted
        .filter(|(_, lines)| (lower + 1..=upper).contains(lines))
        .map(|(file, lines)| Violation {
            file: file.path.clone(),
            line: lines,
            law: LENGTH,
            what: format!("{lines} lines; the limit is {MOST}, split it by idea"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree::tree_of;
    use super::*;

    #[test]
    fn long_files_are_found() {
        let tree = tree_of(&[
            ("a.rs", &"\n".repeat(400)),
            ("b.rs", &"\n".repeat(401)),
            ("c.rs", &"\n".repeat(500)),
            ("d.rs", &"\n".repeat(501)),
        ]);
        let names =
            |violations: Vec<Violation>| violations.into_iter().map(|one| one.file).collect::<Vec<_>>();
        assert_eq!(names(too_long(&tree)), ["d.rs"]);
        assert_eq!(names(long(&tree)), ["b.rs", "c.rs"]);
    }
}
