//! Debian's kernels for the tests in QEMU: downloaded, never installed, each kept under its exact package version.
//!
//! A folder `CACHE/kernels/SERIES/VERSION` (`CACHE/aarch64/kernels/…` for another architecture) holds `vmlinuz` and the few
//! modules that are not built in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt::{Found, OtherSuite};
use crate::architecture::Architecture;
use crate::{process, workspace};

/// What containers need and the cloud kernels do not have built in.
const MODULES: &[&str] = &["overlay"];

/// A kernel series and where Debian has it.
pub(crate) struct Series {
    /// What `--kernel` takes.
    pub(crate) name: &'static str,
    /// The suites that carry it, tried in order.
    suites: &'static [&'static str],
    /// How the version of the right package begins: a suite moves on, a series does not.
    version_prefix: &'static str,
    /// Whether `setup` fetches it and `test` runs it; the others come when `vm` asks for them.
    pub(crate) everyday: bool,
}

/// Every series that `vm` knows, oldest first.
pub(crate) const SERIES: &[Series] = &[
    Series { name: "5.10", suites: &["bullseye"], version_prefix: "5.10.", everyday: false },
    Series {
        name: "6.1",
        suites: &["bookworm-security", "bookworm"],
        version_prefix: "6.1.",
        everyday: true,
    },
    Series {
        name: "6.12",
        suites: &["bookworm-backports", "trixie"],
        version_prefix: "6.12.",
        everyday: true,
    },
    // Whatever Debian unstable carries today.
    Series { name: "newest", suites: &["unstable"], version_prefix: "", everyday: false },
];

/// A kernel in the cache.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// What it runs on.
    pub(crate) architecture: Architecture,
    /// The exact version of the package it came out of.
    pub(crate) version: String,
    folder: PathBuf,
}

impl Kernel {
    /// What QEMU boots.
    pub(crate) fn image(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// Its modules, in the order they have to be loaded.
    pub(crate) fn modules(&self) -> Vec<PathBuf> {
        MODULES
            .iter()
            .map(|name| self.folder.join(format!("{name}.ko")))
            .filter(|path| path.exists())
            .collect()
    }
}

/// Those that `setup` fetches and `test` runs.
pub(crate) fn everyday() -> impl Iterator<Item = &'static Series> {
    SERIES.iter().filter(|series| series.everyday)
}

/// The series of that name.
///
/// # Errors
/// When there is none.
pub(crate) fn series(name: &str) -> Result<&'static Series> {
    let known = || SERIES.iter().map(|series| series.name).collect::<Vec<_>>().join(", ");
    SERIES
        .iter()
        .find(|series| series.name == name)
        .with_context(|| format!("no kernel {name}; known are {}", known()))
}

/// The package that always depends on the newest cloud kernel of its suite.
fn meta_package(architecture: Architecture) -> String {
    format!("linux-image-cloud-{}", architecture.debian())
}

fn folder(architecture: Architecture) -> Result<PathBuf> {
    Ok(workspace::cache_of(architecture)?.join("kernels"))
}

/// The kernel of that series in the cache, if it was fetched before.
pub(crate) fn cached(series: &'static Series, architecture: Architecture) -> Result<Option<Kernel>> {
    let folder = folder(architecture)?.join(series.name);
    let Ok(entries) = fs::read_dir(&folder) else { return Ok(None) };
    let newest = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join("vmlinuz").exists())
        .max_by_key(|entry| entry.metadata().and_then(|metadata| metadata.modified()).ok());
    Ok(newest.map(|entry| Kernel {
        architecture,
        version: entry.file_name().to_string_lossy().into_owned(),
        folder: entry.path(),
    }))
}

/// Downloads the newest kernel of the series into the cache.
///
/// # Errors
/// When none of its suites can be read or carries it; every reason is named.
pub(crate) fn fetch(series: &'static Series, architecture: Architecture) -> Result<Kernel> {
    let mut reasons = Vec::new();
    for suite in series.suites {
        match fetch_from(series, suite, architecture) {
            Ok(kernel) => return Ok(kernel),
            Err(error) => reasons.push(format!("{error:#}")),
        }
    }
    bail!("cannot have kernel {}: {}", series.name, reasons.join("; "))
}

fn fetch_from(series: &'static Series, suite: &str, architecture: Architecture) -> Result<Kernel> {
    let kernels = folder(architecture)?;
    let source = OtherSuite::open(suite, architecture, &workspace::cache()?.join("apt"))?;
    let meta = source.look_up(&meta_package(architecture))?;
    if !meta.version.starts_with(series.version_prefix) {
        bail!("Debian {suite} now carries {}", meta.version);
    }
    let unpacked = kernels.join(format!(".unpacking-{}", series.name));
    let folder = kernels.join(series.name).join(&meta.version);
    let kept = unpack(&source, &meta, &unpacked).and_then(|()| keep(&unpacked, &folder));
    let _ = fs::remove_dir_all(&unpacked);
    kept.map(|()| Kernel { architecture, version: meta.version, folder })
}

fn unpack(source: &OtherSuite, meta: &Found, into: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(into);
    image_packages(source, &meta.depends)?
        .iter()
        .try_for_each(|package| source.unpack(package, &meta.version, into))
}

fn keep(unpacked: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for module in MODULES {
        keep_module(unpacked, module, folder)?;
    }
    // The image comes last: its presence says that the folder is complete. It lies in boot or beside the modules.
    let image = find(unpacked, "vmlinuz").context("the package holds no vmlinuz")?;
    fs::rename(&image, folder.join("vmlinuz")).with_context(|| format!("cannot keep {}", image.display()))
}

/// The packages that hold the image and the modules: one until Linux 6.12, three since Debian split them.
fn image_packages(source: &OtherSuite, meta_depends: &[String]) -> Result<Vec<String>> {
    let Some(image) = meta_depends.iter().find(|name| name.starts_with("linux-image-")) else {
        bail!("the newest cloud kernel's package depends on no linux-image-*");
    };
    let parts = source.look_up(image)?.depends;
    let parts = parts
        .into_iter()
        .filter(|name| name.starts_with("linux-binary-") || name.starts_with("linux-modules-"));
    Ok(std::iter::once(image.clone()).chain(parts).collect())
}

/// Copies a module out of the unpacked package, uncompressed: busybox's insmod takes no xz.
fn keep_module(unpacked: &Path, module: &str, folder: &Path) -> Result<()> {
    let Some(file) = find(unpacked, &format!("{module}.ko")) else { return Ok(()) };
    let mut kept = folder.join(format!("{module}.ko"));
    if file.extension().is_some_and(|extension| extension == "xz") {
        kept.as_mut_os_string().push(".xz");
    }
    fs::copy(&file, &kept).with_context(|| format!("cannot keep {}", file.display()))?;
    if kept.extension().is_some_and(|extension| extension == "xz") {
        process::quiet(
            "unpacking a module",
            Command::new("xz").args(["--decompress", "--force"]).arg(&kept),
        )?;
    }
    Ok(())
}

/// The first file below `folder` whose name begins with `prefix`.
fn find(folder: &Path, prefix: &str) -> Option<PathBuf> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.path()).collect();
    entries.sort();
    entries.into_iter().find_map(|path| {
        if path.is_dir() && !path.is_symlink() {
            return find(&path, prefix);
        }
        path.file_name()?.to_str()?.starts_with(prefix).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_series_names_the_known_ones() {
        let error = series("2.6").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("6.12") && error.contains("newest"), "{error}");
        assert_eq!(series("6.1").map(|series| series.name).ok(), Some("6.1"));
    }
}
