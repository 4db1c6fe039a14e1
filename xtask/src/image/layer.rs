//! A file system layer: a tar archive that is the same for the same files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use tar::{Builder, EntryType, Header};

/// A layer that is being written.
pub(super) struct Layer {
    archive: Builder<Vec<u8>>,
    folders: BTreeSet<String>,
}

impl Layer {
    /// Nothing in it yet.
    pub(super) fn new() -> Self {
        Self { archive: Builder::new(Vec::new()), folders: BTreeSet::new() }
    }

    /// A program or a shared library.
    pub(super) fn program(&mut self, path: &str, file: &Path) -> Result<()> {
        self.add(path, 0o755, &read(file)?)
    }

    /// Any other file.
    pub(super) fn file(&mut self, path: &str, file: &Path) -> Result<()> {
        self.add(path, 0o644, &read(file)?)
    }

    /// A file of these words.
    pub(super) fn text(&mut self, path: &str, text: &str) -> Result<()> {
        self.add(path, 0o644, text.as_bytes())
    }

    /// A folder, and those above it.
    pub(super) fn folder(&mut self, path: &str, mode: u32) -> Result<()> {
        self.parents(path)?;
        if !self.folders.insert(path.to_owned()) {
            return Ok(());
        }
        let mut header = header(EntryType::Directory, mode, 0);
        self.archive
            .append_data(&mut header, format!("{path}/"), &[] as &[u8])
            .context("cannot write a folder")
    }

    /// The layer's bytes.
    pub(super) fn finish(self) -> Result<Vec<u8>> {
        self.archive.into_inner().context("cannot end the layer")
    }

    fn add(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.parents(path)?;
        let mut header = header(EntryType::Regular, mode, content.len() as u64);
        self.archive.append_data(&mut header, path, content).with_context(|| format!("cannot add {path}"))
    }

    fn parents(&mut self, path: &str) -> Result<()> {
        match path.rsplit_once('/') {
            Some((parent, _)) => self.folder(parent, 0o755),
            None => Ok(()),
        }
    }
}

/// Nothing of this machine: root's, from the beginning of time.
fn header(kind: EntryType, mode: u32, bytes: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(bytes);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}: run `cargo xtask build` first", file.display()))
}
