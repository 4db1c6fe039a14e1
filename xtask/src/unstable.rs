//! Programs that Debian 12 does not have, or not in the version that clusters run: taken from unstable, unpacked into the cache and
//! never installed. They run on Debian 12 as they are.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt::OtherSuite;
use crate::architecture::Architecture;
use crate::ebpf::Installed;
use crate::{process, workspace};

/// A package whose programs are kept.
pub(crate) struct Tool {
    /// The package; what the tests need is named after it.
    pub(crate) package: &'static str,
    /// Its programs, below `usr/bin`. The first is asked for its version, to see that it runs here.
    programs: &'static [&'static str],
    version: &'static [&'static str],
}

/// What people ask a cluster with.
pub(crate) const KUBECTL: Tool =
    Tool { package: "kubectl", programs: &["kubectl"], version: &["version", "--client"] };

/// The runtime that the images are tried with. Its shims call Debian 12's own runc: unstable's does not run there.
pub(crate) const CONTAINERD: Tool = Tool {
    package: "containerd",
    programs: &["containerd", "containerd-shim-runc-v2", "ctr"],
    version: &["--version"],
};

impl Tool {
    /// Downloads and unpacks it, unless it is there.
    ///
    /// # Errors
    /// When it cannot be had, or does not run here.
    pub(crate) fn install(&self) -> Result<Installed> {
        let cache = workspace::cache()?;
        let folder = workspace::cached_programs()?;
        let version_file = cache.join(format!("tools/{}.version", self.package));
        if self.programs.iter().all(|program| folder.join(program).exists()) {
            let version = fs::read_to_string(&version_file).unwrap_or_default();
            return Ok(Installed::Already(version.trim().to_owned()));
        }
        let unstable = OtherSuite::open("unstable", Architecture::X86, &cache.join("apt"))?;
        let version = unstable.look_up(self.package)?.version;
        let unpacked = cache.join(format!("tools/.unpacking-{}", self.package));
        unstable.unpack(self.package, &version, &unpacked)?;
        fs::create_dir_all(&folder).context("cannot make the folder for tools in the cache")?;
        fs::write(&version_file, &version)
            .with_context(|| format!("cannot write {}", version_file.display()))?;
        for program in self.programs {
            keep(&unpacked.join("usr/bin").join(program), &folder.join(program))?;
        }
        fs::remove_dir_all(&unpacked).with_context(|| format!("cannot remove {}", unpacked.display()))?;
        if self.runs(&folder).is_none() {
            bail!("{} {version} from Debian unstable does not run on this machine", self.package);
        }
        Ok(Installed::Now(version))
    }

    fn runs(&self, folder: &Path) -> Option<String> {
        let program = self.programs.first()?;
        process::answer(Command::new(folder.join(program)).args(self.version))
    }
}

fn keep(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("cannot move {} to {}", from.display(), to.display()))
}
