//! The file system of the emulated machine: busybox, our programs with their libraries, a few files, as a cpio archive.
//!
//! The archive is not compressed: the emulated processor would take longer to unpack it than the host takes to load it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::suite::Requests;
use super::{guests, machine_code};
use crate::architecture::Architecture;
use crate::kernels::Kernel;
use crate::{build, cross, process};

/// What the emulated machine runs; linked against the host's libraries, which come along, or static.
const PROGRAMS: &[&str] = &["lastwords-agent", "dies"];

/// Where the loader looks first, as in every image that is not very small. Without it each start is a search through folders.
const LOADER_CACHE: &str = "/etc/ld.so.cache";

/// Where Debian's busybox-static is on this machine.
const BUSYBOX: &str = "/bin/busybox";

const FOLDERS: &[&str] = &["bin", "dev", "etc", "modules", "proc", "root", "run", "sys", "tmp"];

/// A file system to be, by path without the leading slash.
#[derive(Default)]
pub(crate) struct Files {
    entries: BTreeMap<PathBuf, Entry>,
}

struct Entry {
    mode: u32,
    content: Vec<u8>,
}

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;

impl Files {
    /// What every kernel's machine holds.
    ///
    /// # Errors
    /// When busybox or one of our programs is not there.
    pub(crate) fn of_the_suite(architecture: Architecture) -> Result<Self> {
        let mut files = Self::default();
        for folder in FOLDERS {
            files.folder(Path::new(folder));
        }
        let busybox = match architecture {
            Architecture::X86 => PathBuf::from(BUSYBOX),
            Architecture::Arm64 => cross::busybox()?,
        };
        if !busybox.exists() {
            bail!("{} is not there; run `cargo xtask setup`", busybox.display());
        }
        files.copy(&busybox, Path::new("bin/busybox"))?;
        for program in PROGRAMS {
            let built = build::programs(architecture).join(program);
            if !built.exists() {
                let name = architecture.name();
                bail!("{} is not there; run `cargo xtask build --arch {name}`", built.display());
            }
            match architecture {
                Architecture::X86 => {
                    files.copy(Path::new(LOADER_CACHE), Path::new("etc/ld.so.cache"))?;
                    files.program(&built)?;
                }
                Architecture::Arm64 => files.copy(&built, &Path::new("bin").join(program))?,
            }
        }
        files.file(Path::new("bin/null-pointer"), 0o755, machine_code::null_pointer(architecture));
        if architecture == Architecture::X86 {
            files.program(&guests::faults()?)?;
        }
        files.file(Path::new("bin/of-32-bits"), 0o755, machine_code::of_32_bits(architecture));
        files.file(Path::new("etc/passwd"), 0o644, b"root:x:0:0:root:/root:/bin/sh\n".to_vec());
        files.file(Path::new("etc/group"), 0o644, b"root:x:0:\n".to_vec());
        files.file(Path::new("etc/hosts"), 0o644, b"127.0.0.1 localhost\n".to_vec());
        files.file(Path::new("etc/service.key"), 0o600, b"secret\n".to_vec());
        Ok(files)
    }

    /// Adds the suite: how it is run, and what for.
    pub(crate) fn add_suite(&mut self, suite: &Requests) {
        self.file(Path::new("suite/run.sh"), 0o755, include_bytes!("run.sh").to_vec());
        self.file(Path::new("suite/before.sh"), 0o755, suite.before.clone().into_bytes());
        for (row, requests) in &suite.of_rows {
            self.file(&Path::new("suite/requests").join(row), 0o644, requests.clone().into_bytes());
        }
    }

    /// Adds what an emulated machine needs to boot `kernel`.
    ///
    /// # Errors
    /// When a module cannot be read.
    pub(crate) fn add_boot(&mut self, kernel: &Kernel) -> Result<()> {
        for module in kernel.modules() {
            if let Some(name) = module.file_name() {
                self.copy(&module, &Path::new("modules").join(name))?;
            }
        }
        self.file(Path::new("init"), 0o755, include_bytes!("init.sh").to_vec());
        Ok(())
    }

    /// Writes these files and `own`.
    ///
    /// # Errors
    /// When the archive cannot be written.
    pub(crate) fn write_with(&self, own: &Self, archive: &Path) -> Result<()> {
        let entries = self.entries.iter().chain(&own.entries);
        let mut bytes = Vec::new();
        for (number, (path, entry)) in (1_u32..).zip(entries) {
            append(&mut bytes, number, path, entry.mode, &entry.content);
        }
        append(&mut bytes, 0, Path::new("TRAILER!!!"), 0, &[]);
        fs::write(archive, bytes).with_context(|| format!("cannot write {}", archive.display()))
    }

    /// A program of this machine, in the emulated machine's path, with the libraries it needs.
    ///
    /// # Errors
    /// When it or a library cannot be read.
    pub(crate) fn program(&mut self, program: &Path) -> Result<()> {
        let name = program.file_name().with_context(|| format!("{} is no program", program.display()))?;
        self.copy(program, &Path::new("bin").join(name))?;
        for library in libraries(program)? {
            self.copy(&library, library.strip_prefix("/").unwrap_or(&library))?;
        }
        Ok(())
    }

    fn folder(&mut self, path: &Path) {
        for folder in path.ancestors().filter(|folder| !folder.as_os_str().is_empty()) {
            let entry = || Entry { mode: FOLDER | 0o755, content: Vec::new() };
            self.entries.entry(folder.to_owned()).or_insert_with(entry);
        }
    }

    pub(crate) fn file(&mut self, path: &Path, mode: u32, content: Vec<u8>) {
        if let Some(parent) = path.parent() {
            self.folder(parent);
        }
        self.entries.insert(path.to_owned(), Entry { mode: FILE | mode, content });
    }

    pub(crate) fn copy(&mut self, from: &Path, to: &Path) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        let metadata = fs::metadata(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.file(to, metadata.permissions().mode() & 0o777, content);
        Ok(())
    }
}

/// Appends one file in cpio's "newc" format: a header of hexadecimal numbers, the name, the content, each padded to 4 bytes.
fn append(archive: &mut Vec<u8>, number: u32, path: &Path, mode: u32, content: &[u8]) {
    let name = path.as_os_str().as_encoded_bytes();
    let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
    let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
    // inode, mode, uid, gid, links, mtime, size, device (2), device of a node (2), name's size, checksum
    let fields = [number, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
    archive.extend_from_slice(b"070701");
    for field in fields {
        archive.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    archive.extend_from_slice(name);
    archive.push(0);
    pad(archive);
    archive.extend_from_slice(content);
    pad(archive);
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

/// The shared libraries a program needs, its loader included.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let listed = process::answer(Command::new("ldd").arg(program))
        .with_context(|| format!("ldd cannot tell the libraries of {}", program.display()))?;
    Ok(libraries_in(&listed))
}

fn libraries_in(listed: &str) -> Vec<PathBuf> {
    let words = listed.lines().flat_map(|line| line.split_whitespace());
    words.filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_loader_are_found() {
        let listed = "\tlinux-vdso.so.1 (0x7ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f)\n\t/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        assert_eq!(
            libraries_in(listed),
            [Path::new("/lib/x86_64-linux-gnu/libc.so.6"), Path::new("/lib64/ld-linux-x86-64.so.2")]
        );
    }

    #[test]
    fn an_entry_is_padded_and_says_its_size() {
        let mut archive = Vec::new();
        append(&mut archive, 7, Path::new("bin/a"), FILE | 0o644, b"12345");
        assert_eq!(archive.len() % 4, 0);
        assert_eq!(&archive[..22], b"07070100000007000081a4");
        assert_eq!(&archive[54..62], b"00000005");
    }

    #[test]
    fn parents_come_before_their_files() {
        let mut files = Files::default();
        files.file(Path::new("lib/x86/libc.so"), 0o644, Vec::new());
        let paths: Vec<_> = files.entries.keys().map(|path| path.display().to_string()).collect();
        assert_eq!(paths, ["lib", "lib/x86", "lib/x86/libc.so"]);
    }
}
