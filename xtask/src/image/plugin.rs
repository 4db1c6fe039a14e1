//! `kubectl lastwords` as krew installs it: an archive with the program, and the manifest that names it by its digest.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::layer::Layer;
use crate::{process, workspace};

/// What kubectl looks for in PATH.
const PROGRAM: &str = "kubectl-lastwords";

/// What was written.
pub(super) struct Plugin {
    /// The program and its licence, for krew to download.
    pub(super) archive: PathBuf,
    /// What `kubectl krew install --manifest` reads.
    pub(super) manifest: PathBuf,
}

/// Writes both.
///
/// # Errors
/// When the program is not there, or the files cannot be written.
pub(super) fn write(folder: &Path) -> Result<Plugin> {
    let version = env!("CARGO_PKG_VERSION");
    let name = format!("lastwords-{version}-linux-amd64.tar.gz");
    let mut layer = Layer::new();
    layer.program(PROGRAM, &workspace::programs().join("lastwords"))?;
    layer.file("LICENSE", &workspace::root().join("LICENSE"))?;
    let mut compressed = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    let archive = compressed.write_all(&layer.finish()?).and_then(|()| compressed.finish());
    let archive = archive.context("cannot compress the plugin")?;
    let manifest = serde_norway::to_string(&manifest(&name, &digest(&archive)))?;
    let plugin = Plugin { archive: folder.join(&name), manifest: folder.join("lastwords.yaml") };
    for (path, bytes) in [(&plugin.archive, archive), (&plugin.manifest, manifest.into_bytes())] {
        fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(plugin)
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As krew's index has it (krew.googlecontainertools.github.com/v1alpha2).
fn manifest(archive: &str, digest: &str) -> Value {
    let (repository, version) = (env!("CARGO_PKG_REPOSITORY"), env!("CARGO_PKG_VERSION"));
    let files = [PROGRAM, "LICENSE"].map(|name| json!({"from": name, "to": "."}));
    json!({
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "lastwords"},
        "spec": {
            "version": format!("v{version}"),
            "homepage": repository,
            "shortDescription": "Say why a container died when its log is empty",
            "description": "Explains crashes of containers by what the kernel saw at that moment: the call that failed, the kill, the \
                            limit; with the back-off and the field of the pod's spec to change.\n",
            "caveats": "Needs Lastwords in the cluster (its Helm chart), and on this machine Linux with glibc.\n",
            "platforms": [{
                "selector": {"matchLabels": {"os": "linux", "arch": "amd64"}},
                "uri": format!("{repository}/releases/download/v{version}/{archive}"),
                "sha256": digest,
                "bin": PROGRAM,
                "files": files,
            }],
        },
    })
}

impl Plugin {
    /// Does what krew does: holds the archive against the manifest, unpacks what that names, and lets the real kubectl find it in PATH.
    /// False without a kubectl.
    ///
    /// # Errors
    /// When something is not as the manifest says, or kubectl does not run it.
    pub(super) fn try_out(&self, folder: &Path) -> Result<bool> {
        let manifest: Value = serde_norway::from_str(&fs::read_to_string(&self.manifest)?)?;
        let platform = &manifest["spec"]["platforms"][0];
        let said = process::quiet("sha256sum", Command::new("sha256sum").arg(&self.archive))?;
        let archive = self.archive.file_name().unwrap_or_default().to_string_lossy();
        if !said.starts_with(platform["sha256"].as_str().unwrap_or("none"))
            || !platform["uri"].as_str().is_some_and(|uri| uri.ends_with(&format!("/{archive}")))
        {
            bail!("{} is not the archive that {} names", archive, self.manifest.display());
        }
        let kubectl = workspace::cached_programs()?.join("kubectl");
        if !kubectl.exists() {
            return Ok(false);
        }
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let tried = self.run(platform, &kubectl, folder);
        // What is left of it in the folder for temporary files harms nobody.
        let _ = fs::remove_dir_all(folder);
        tried.map(|()| true)
    }

    fn run(&self, platform: &Value, kubectl: &Path, folder: &Path) -> Result<()> {
        let mut tar = Command::new("tar");
        tar.arg("-xzf").arg(&self.archive).arg("-C").arg(folder);
        tar.args(platform["files"].as_array().into_iter().flatten().filter_map(|file| file["from"].as_str()));
        process::quiet("unpacking the plugin", &mut tar)?;
        if !folder.join(platform["bin"].as_str().unwrap_or("none")).exists() {
            bail!("the archive does not have the program that its manifest names");
        }
        let mut path = OsString::from(folder);
        path.push(":");
        path.push(env::var_os("PATH").unwrap_or_default());
        let ask = |arguments: &[&str]| {
            let mut command = Command::new(kubectl);
            command.args(arguments).env("PATH", &path).env("HOME", folder);
            process::quiet(&format!("kubectl {}", arguments.join(" ")), &mut command)
        };
        let version = ask(&["lastwords", "--version"])?;
        if version.split_whitespace().last() != Some(env!("CARGO_PKG_VERSION")) {
            bail!("kubectl lastwords --version says {version:?}");
        }
        let help = ask(&["lastwords", "explain", "--help"])?;
        if !help.contains("Usage: kubectl lastwords explain") {
            bail!("kubectl lastwords explain --help says {help:?}");
        }
        Ok(())
    }
}
