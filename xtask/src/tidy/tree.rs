//! The files that the laws look at.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::source;

/// A file of the checkout.
pub(super) struct File {
    /// From the workspace's root, with slashes.
    pub(super) path: String,
    /// As it is.
    pub(super) text: String,
    /// With comments and the contents of literals blanked, line by line the same.
    pub(super) code: String,
}

/// All Rust sources and manifests.
pub(super) struct Tree {
    files: Vec<File>,
}

impl Tree {
    /// Reads a checkout, without what cargo built and what is hidden.
    ///
    /// # Errors
    /// When a folder or a file cannot be read.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut files = Vec::new();
        collect(root, "", &mut files)?;
        Ok(Self::of(files))
    }

    /// A tree of these paths and texts.
    pub(super) fn of(files: Vec<(String, String)>) -> Self {
        let mut files: Vec<File> = files
            .into_iter()
            .map(|(path, text)| {
                let code = if path.ends_with(".rs") { source::blank(&text) } else { text.clone() };
                File { path, text, code }
            })
            .collect();
        files.sort_by(|one, other| one.path.cmp(&other.path));
        Self { files }
    }

    /// The Rust sources, by path.
    pub(super) fn sources(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    /// One file.
    pub(super) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }
}

fn collect(root: &Path, below: &str, files: &mut Vec<(String, String)>) -> Result<()> {
    let folder = root.join(below);
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        let kind = entry.file_type().with_context(|| format!("cannot read {path}"))?;
        if kind.is_dir() {
            collect(root, &path, files)?;
        } else if kind.is_file() && (path.ends_with(".rs") || path.ends_with("Cargo.toml")) {
            let text = fs::read_to_string(entry.path()).with_context(|| format!("cannot read {path}"))?;
            files.push((path, text));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) fn tree_of(files: &[(&str, &str)]) -> Tree {
    Tree::of(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
}
