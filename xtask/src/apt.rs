//! Debian packages: some installed on this machine, some only downloaded from another suite and unpacked.
//!
//! Another suite's index is read with lists, sources and status file of its own, so that nothing about this machine's
//! package management changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::architecture::Architecture;
use crate::process;

/// What `apt` verifies the other suites' signatures with; part of every Debian.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The version of Debian this machine runs ("12"), if it is a Debian.
pub(crate) fn debian_version() -> Option<String> {
    version_in(&fs::read_to_string("/etc/os-release").ok()?)
}

fn version_in(os_release: &str) -> Option<String> {
    let value = |key: &str| {
        os_release
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(|v| v.trim_matches('"'))
    };
    (value("ID") == Some("debian")).then(|| value("VERSION_ID").map(str::to_owned)).flatten()
}

/// Those of `packages` that are not installed.
///
/// # Errors
/// When the machine has no dpkg.
pub(crate) fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    // dpkg-query exits with 1 when it does not know one of the names; what it knows it prints all the same.
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${Package} ${db:Status-Status}\n"])
        .args(packages)
        .output()
        .context("cannot start dpkg-query: this machine has no Debian package management")?;
    let known = String::from_utf8_lossy(&output.stdout).into_owned();
    let installed: Vec<&str> = known.lines().filter_map(|line| line.strip_suffix(" installed")).collect();
    Ok(packages.iter().copied().filter(|package| !installed.contains(package)).collect())
}

/// The version of an installed package.
///
/// # Errors
/// When it is not installed.
pub(crate) fn installed_version(package: &str) -> Result<String> {
    process::answer(Command::new("dpkg-query").args(["--show", "--showformat", "${Version}", package]))
        .with_context(|| format!("the package {package} is not installed"))
}

/// Installs packages from the suites that this machine already uses.
///
/// # Errors
/// When this user is not root and has no sudo, or apt fails.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    run("reading the package lists", as_root("apt-get")?.args(["-q", "update"]))
        .context("cannot read the package lists: is the network there?")?;
    let mut apt = as_root("apt-get")?;
    // Through `env`, because sudo passes no variables on.
    apt.args(["-q", "install", "--yes", "--no-install-recommends"]).args(packages);
    run("installing", &mut apt).with_context(|| format!("cannot install {}", packages.join(" "))).map(drop)
}

/// What a package asks before it starts its service (invoke-rc.d(8)).
const SERVICE_POLICY: &str = "/usr/sbin/policy-rc.d";

/// Lets `install` install packages without any of their services being started. A policy that the machine already has is left as it
/// is when it forbids that too.
///
/// # Errors
/// When the machine has a policy that would start them, or `install` fails.
pub(crate) fn without_services<T>(install: impl FnOnce() -> Result<T>) -> Result<T> {
    /// "Action forbidden by policy."
    const FORBIDDEN: i32 = 101;
    let policy = Path::new(SERVICE_POLICY);
    if policy.exists() {
        let status = Command::new(policy).args(["any", "start"]).status();
        if status.ok().and_then(|status| status.code()) != Some(FORBIDDEN) {
            bail!("{SERVICE_POLICY} would let services start; installing the corpus' programs may not");
        }
        return install();
    }
    shell_as_root(&format!(
        "printf '#!/bin/sh\\nexit {FORBIDDEN}\\n' > {SERVICE_POLICY} && chmod 755 {SERVICE_POLICY}"
    ))?;
    let installed = install();
    shell_as_root(&format!("rm {SERVICE_POLICY}"))?;
    installed
}

fn shell_as_root(script: &str) -> Result<()> {
    let mut shell = as_root("sh")?;
    shell.args(["-c", script]);
    process::quiet("setting the policy for services", &mut shell).map(drop)
}

/// Runs apt; of all it says on failure the first complaint is the reason.
fn run(doing: &str, apt: &mut Command) -> Result<String> {
    process::quiet(doing, apt).map_err(|error| match complaint_in(&format!("{error:#}")) {
        Some(complaint) => anyhow!("apt says: {complaint}"),
        None => error,
    })
}

fn complaint_in(said: &str) -> Option<String> {
    let complaint = said.lines().find_map(|line| line.trim_start().strip_prefix("E: "))?;
    Some(complaint.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A command that runs as root: itself when we are root, through sudo when not.
fn as_root(program: &str) -> Result<Command> {
    let is_root = process::answer(Command::new("id").arg("-u")).is_some_and(|id| id == "0");
    let mut command = if is_root {
        Command::new("env")
    } else if process::answer(Command::new("sudo").arg("--version")).is_some() {
        // One question for the password, on the terminal, before output is captured.
        process::show(Command::new("sudo").arg("--validate")).context(
            "installing packages takes root: run `cargo xtask setup` as root or as a user with sudo",
        )?;
        let mut sudo = Command::new("sudo");
        sudo.arg("env");
        sudo
    } else {
        bail!("installing packages takes root and there is no sudo: run `cargo xtask setup` as root");
    };
    command.args(["DEBIAN_FRONTEND=noninteractive", program]);
    Ok(command)
}

/// A suite of the Debian archive whose packages are downloaded and never installed.
pub(crate) struct OtherSuite {
    name: String,
    architecture: Architecture,
    folder: PathBuf,
}

impl OtherSuite {
    /// Reads the index of `suite` ("unstable", "bookworm-backports", "bookworm-security") for an architecture into `folder`.
    ///
    /// # Errors
    /// When the mirror does not have the suite or cannot be reached.
    pub(crate) fn open(suite: &str, architecture: Architecture, folder: &Path) -> Result<Self> {
        let folder = folder.join(format!("{suite}-{}", architecture.debian()));
        let this = Self { name: suite.to_owned(), architecture, folder };
        let _ = fs::remove_dir_all(&this.folder);
        for part in ["lists/partial", "archives/partial", "download"] {
            let part = this.folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
        }
        let source = format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror_of(suite));
        this.write("sources.list", &source)?;
        // With this machine's own status file, apt would show the installed version beside the suite's.
        this.write("status", "")?;
        let reading = format!("reading the index of Debian {suite}");
        run(&reading, this.tool("apt-get").args(["-q", "update", "--error-on=any"]))
            .with_context(|| format!("cannot read the package index of Debian {suite}"))?;
        Ok(this)
    }

    /// The version and the dependencies of the newest package of this name.
    ///
    /// # Errors
    /// When the suite has no such package.
    pub(crate) fn look_up(&self, package: &str) -> Result<Found> {
        let shown = process::answer(self.tool("apt-cache").args(["show", "--no-all-versions", package]));
        let shown = shown.with_context(|| format!("Debian {} has no package {package}", self.name))?;
        found_in(&shown).with_context(|| format!("cannot read what Debian {} says of {package}", self.name))
    }

    /// Downloads a package and unpacks it below `into`; nothing of it is run.
    ///
    /// # Errors
    /// When it cannot be downloaded or unpacked.
    pub(crate) fn unpack(&self, package: &str, version: &str, into: &Path) -> Result<()> {
        let downloads = self.folder.join("download");
        let downloading = format!("downloading {package} {version}");
        run(
            &downloading,
            self.tool("apt-get")
                .args(["-q", "download", &format!("{package}={version}")])
                .current_dir(&downloads),
        )
        .with_context(|| format!("cannot download {package} {version} from Debian {}", self.name))?;
        let archive = fs::read_dir(&downloads)
            .with_context(|| format!("cannot read {}", downloads.display()))?
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .find(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with(&format!("{package}_")))
            })
            .with_context(|| format!("apt-get left no {package}_*.deb in {}", downloads.display()))?;
        fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
        let unpacking = format!("unpacking {package}");
        process::quiet(&unpacking, Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(into))?;
        fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    fn tool(&self, program: &str) -> Command {
        let folder = self.folder.display();
        let mut command = Command::new(program);
        for option in [
            format!("Dir::Etc::sourcelist={folder}/sources.list"),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            format!("Dir::State::lists={folder}/lists"),
            format!("Dir::State::status={folder}/status"),
            format!("Dir::Cache={folder}"),
            // The _apt user cannot enter a folder below /root.
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Languages=none".to_owned(),
            format!("APT::Architecture={}", self.architecture.debian()),
            format!("APT::Architectures={}", self.architecture.debian()),
        ] {
            command.arg("-o").arg(option);
        }
        command
    }
}

/// Lists are large, out of date tomorrow and quick to fetch: they go once the suite has been asked.
impl Drop for OtherSuite {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What a suite says of a package.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its exact version.
    pub(crate) version: String,
    /// The names it depends on, without versions and alternatives.
    pub(crate) depends: Vec<String>,
}

fn found_in(shown: &str) -> Option<Found> {
    let field = |key: &str| shown.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
    let depends = field("Depends").unwrap_or_default();
    Some(Found {
        version: field("Version")?.to_owned(),
        depends: depends
            .split(", ")
            .filter_map(|one| one.split_whitespace().next())
            .map(str::to_owned)
            .collect(),
    })
}

/// The mirror that this machine already uses for a suite like this one, else Debian's own.
fn mirror_of(suite: &str) -> String {
    let targets =
        process::answer(Command::new("apt-get").args(["indextargets", "--format", "$(RELEASE) $(REPO_URI)"]));
    mirror_in(&targets.unwrap_or_default(), suite)
}

fn mirror_in(targets: &str, suite: &str) -> String {
    let security = suite.ends_with("-security");
    let used = targets.lines().filter_map(|line| line.split_once(' ')).find_map(|(release, uri)| {
        let archive =
            uri.trim_end_matches('/').ends_with(if security { "debian-security" } else { "debian" });
        (archive && release.ends_with("-security") == security).then(|| uri.to_owned())
    });
    let own = if security { "http://deb.debian.org/debian-security" } else { "http://deb.debian.org/debian" };
    used.unwrap_or_else(|| own.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_debian_has_a_debian_version() {
        assert_eq!(version_in("NAME=x\nID=debian\nVERSION_ID=\"12\"\n").as_deref(), Some("12"));
        assert_eq!(version_in("ID=ubuntu\nVERSION_ID=\"24.04\"\n"), None);
    }

    #[test]
    fn a_package_that_nobody_knows_is_missing() {
        if !Path::new("/usr/bin/dpkg-query").exists() {
            println!("SKIPPED a_package_that_nobody_knows_is_missing: this machine has no dpkg");
            return;
        }
        assert_eq!(
            missing(&["dpkg", "no-such-package-anywhere"]).expect("dpkg-query answers"),
            ["no-such-package-anywhere"]
        );
    }

    #[test]
    fn version_and_dependencies_are_read() {
        let shown = "Package: linux-image-cloud-amd64\nVersion: 6.12.95-1~bpo12+1\nDepends: linux-image-6.12.95+deb12-cloud-amd64 (= 6.12.95-1~bpo12+1), dracut | initramfs-tools\n";
        let found = found_in(shown).expect("all fields are there");
        assert_eq!(found.version, "6.12.95-1~bpo12+1");
        assert_eq!(found.depends, ["linux-image-6.12.95+deb12-cloud-amd64", "dracut"]);
        assert_eq!(found_in("Package: x\n"), None);
    }

    #[test]
    fn the_first_complaint_is_the_reason() {
        let said = "Ign:1 x\n    E: Failed to fetch http://m/InRelease  Temporary failure\n    E: Some index files failed\n";
        assert_eq!(
            complaint_in(said).as_deref(),
            Some("Failed to fetch http://m/InRelease Temporary failure")
        );
        assert_eq!(complaint_in("all is well"), None);
    }

    #[test]
    fn the_machines_own_mirror_is_preferred() {
        let targets = "bookworm-security http://mirror/debian-security/\nbookworm http://mirror/debian/\n";
        assert_eq!(mirror_in(targets, "unstable"), "http://mirror/debian/");
        assert_eq!(mirror_in(targets, "bookworm-security"), "http://mirror/debian-security/");
        assert_eq!(mirror_in("noble http://mirror/ubuntu/\n", "unstable"), "http://deb.debian.org/debian");
    }
}
