//! Owner, mode and kind of a file on which a call failed, as the container saw it. Paths are the container's and may be hostile:
//! they are resolved below the container's root by the kernel (`openat2`), so that no symbolic link leads out of it. Nothing is
//! opened for reading but a program that could not be executed, for what its first bytes name.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use lastwords_diagnosis::evidence::FileFacts;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};

use super::mounts::Mounts;
use super::program::{Program, own_machine};
use super::read::open_regular;
use crate::escape::escape;

/// The kernel's own limit for a path; longer ones cannot name a file.
const MAX_PATH_BYTES: usize = 4096;
/// `openat2` gives EAGAIN when something is renamed while it resolves `..`; after this many tries the file counts as not readable.
const MAX_TRIES: usize = 3;

/// User and groups, host's view.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// User id that file accesses are checked with.
    pub file_system_uid: u32,
    /// Group id that file accesses are checked with.
    pub file_system_gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// The root directory of a process, kept open. It can be asked after the process is gone; the namespace is kept too, because the
/// kernel takes a container's volumes off its root when the namespace ends. Two file descriptors; it keeps the container's mounts
/// in use, so drop it once the crash report is made.
#[derive(Debug)]
pub struct RootHandle {
    root: OwnedFd,
    _mount_namespace: Option<OwnedFd>,
}

impl RootHandle {
    /// Opens the root of the process whose procfs directory is `process`.
    ///
    /// # Errors
    /// When the process is gone, or may not be looked at.
    pub(super) fn open_in(process: &OwnedFd) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let namespace = openat(process, "ns/mnt", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok();
        Ok(Self { root: openat(process, "root", flags, Mode::empty())?, _mount_namespace: namespace })
    }

    /// Whether there is something at `path`, absolute as the container sees it. Blocks as [`RootHandle::facts`] does.
    #[must_use]
    pub fn has(&self, path: &Path) -> bool {
        path.is_absolute() && path.as_os_str().len() < MAX_PATH_BYTES && self.status(path).is_ok()
    }

    /// Looks at `path`, absolute as the container sees it. When `caller` is given and a directory on the way does not let it
    /// through, the facts are that directory's, for it is what refused the call. When the path does not exist they are those of
    /// its nearest parent that does. `None` for a relative or over-long path, and when nothing could be read.
    ///
    /// Blocks as long as the file system does (a dead NFS server), so call it where waiting does no harm.
    #[must_use]
    pub fn facts(&self, path: &Path, caller: Option<&Identity>, mounts: &Mounts) -> Option<FileFacts> {
        if !path.is_absolute() || path.as_os_str().len() >= MAX_PATH_BYTES {
            return None;
        }
        let parents = parents(path);
        if let Some(caller) = caller {
            for parent in &parents {
                let Ok(status) = self.status(parent) else {
                    break;
                };
                if !lets_through(&status, caller) {
                    return Some(facts(&status, parent, mounts));
                }
            }
        }
        let nearest_first = std::iter::once(path).chain(parents.iter().rev().map(PathBuf::as_path));
        for candidate in nearest_first {
            if let Ok(status) = self.status(candidate) {
                return Some(facts(&status, candidate, mounts));
            }
        }
        None
    }

    /// As [`RootHandle::facts`], for a program that could not be executed: with the interpreter that it names, whether that exists,
    /// and the machine that it is for.
    #[must_use]
    pub fn program_facts(
        &self,
        path: &Path,
        caller: Option<&Identity>,
        mounts: &Mounts,
    ) -> Option<FileFacts> {
        let mut facts = self.facts(path, caller, mounts)?;
        if facts.path != shown(path.as_os_str()) || facts.kind != "file" {
            return Some(facts);
        }
        let Some(file) = self.open(path, OFlag::empty()).ok().and_then(|file| open_regular(&file).ok())
        else {
            return Some(facts);
        };
        let program = Program::read(&file);
        if let Some(interpreter) = &program.interpreter {
            facts.interpreter = shown(interpreter.as_os_str());
            facts.interpreter_missing = interpreter.is_absolute()
                && matches!(
                    self.open(interpreter, OFlag::empty()),
                    Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP)
                );
        }
        if !program.machine.is_empty() {
            facts.machine = program.machine;
            own_machine().clone_into(&mut facts.node_machine);
        }
        Some(facts)
    }

    /// Opens a regular file for reading; `path` is absolute, as the container sees it.
    ///
    /// # Errors
    /// When there is none, or it is no regular file.
    pub(super) fn open_file(&self, path: &Path) -> io::Result<File> {
        open_regular(&self.open(path, OFlag::empty())?)
    }

    /// The status of the file that `path` names, or of the symbolic link itself when it leads nowhere.
    fn status(&self, path: &Path) -> nix::Result<FileStat> {
        let file = self.open(path, OFlag::empty()).or_else(|_| self.open(path, OFlag::O_NOFOLLOW))?;
        fstat(file)
    }

    fn open(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | flags)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let mut tried = openat2(&self.root, path, how);
        for _ in 1..MAX_TRIES {
            if !matches!(tried, Err(Errno::EAGAIN)) {
                break;
            }
            tried = openat2(&self.root, path, how);
        }
        tried
    }
}

/// The directories above `path`, from the root on.
fn parents(path: &Path) -> Vec<PathBuf> {
    let mut parents: Vec<PathBuf> = path.ancestors().skip(1).map(Path::to_owned).collect();
    parents.reverse();
    parents
}

/// Whether the permission bits let `caller` pass through a directory. Root passes everywhere; access control lists are not
/// considered, and show in the bits as the group's.
fn lets_through(status: &FileStat, caller: &Identity) -> bool {
    let is_directory = SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR;
    if !is_directory || caller.file_system_uid == 0 {
        return true;
    }
    let search = if status.st_uid == caller.file_system_uid {
        Mode::S_IXUSR
    } else if status.st_gid == caller.file_system_gid || caller.groups.contains(&status.st_gid) {
        Mode::S_IXGRP
    } else {
        Mode::S_IXOTH
    };
    Mode::from_bits_truncate(status.st_mode).contains(search)
}

fn facts(status: &FileStat, path: &Path, mounts: &Mounts) -> FileFacts {
    let kind = match SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFREG => "file",
        SFlag::S_IFDIR => "directory",
        SFlag::S_IFLNK => "symlink",
        SFlag::S_IFCHR | SFlag::S_IFBLK => "device",
        _ => "other",
    };
    let mount_point =
        mounts.of(&without_dots(path)).map(|mount| shown(mount.point.as_os_str())).unwrap_or_default();
    FileFacts {
        uid: status.st_uid,
        gid: status.st_gid,
        mode: status.st_mode & 0o7777,
        kind: kind.to_owned(),
        path: shown(path.as_os_str()),
        mount_point,
        ..FileFacts::default()
    }
}

/// `/a/../b` → `/b`, by the text alone; good enough to name a mount.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

fn shown(path: &OsStr) -> String {
    escape(path.as_bytes(), 4 * MAX_PATH_BYTES)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A container's root in a directory of its own, beside a file that is outside of it.
    fn container() -> (tempfile::TempDir, RootHandle) {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        std::fs::create_dir_all(root.join("data/closed/deep")).unwrap();
        std::fs::write(place.path().join("outside"), "secret").unwrap();
        std::fs::write(root.join("data/app.db"), "x").unwrap();
        set_mode(&root.join("data/app.db"), 0o640);
        std::fs::write(root.join("data/closed/deep/key"), "x").unwrap();
        set_mode(&root.join("data/closed"), 0o700);
        symlink("/data/app.db", root.join("link")).unwrap();
        symlink("../../../../outside", root.join("escape")).unwrap();
        symlink(place.path().join("outside"), root.join("absolute")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();

        let process = place.path().join("process");
        std::fs::create_dir(&process).unwrap();
        symlink(&root, process.join("root")).unwrap();
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let handle = RootHandle::open_in(&nix::fcntl::open(&process, flags, Mode::empty()).unwrap()).unwrap();
        (place, handle)
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn tells_owner_mode_and_kind() {
        let (_place, root) = container();
        let mounts = Mounts::parse(b"1 0 0:1 / / rw - overlay o rw\n2 1 0:2 / /data rw - ext4 d rw\n");
        let owner = nix::unistd::geteuid().as_raw();
        let facts = root.facts(Path::new("/data/app.db"), None, &mounts).unwrap();
        assert_eq!((facts.uid, facts.mode, facts.kind.as_str()), (owner, 0o640, "file"));
        assert_eq!((facts.path.as_str(), facts.mount_point.as_str()), ("/data/app.db", "/data"));

        // path asked, path looked at, kind
        let table = [
            ("/link", "/link", "file"),
            ("/data", "/data", "directory"),
            ("/data/", "/data/", "directory"),
            ("/data/missing/deeper", "/data", "directory"),
            ("/missing", "/", "directory"),
            ("/data/app.db/below", "/data/app.db", "file"),
            ("/loop", "/loop", "symlink"),
            ("/data/../data/./app.db", "/data/../data/./app.db", "file"),
        ];
        for (asked, looked_at, kind) in table {
            let facts = root.facts(Path::new(asked), None, &mounts).unwrap();
            assert_eq!((facts.path.as_str(), facts.kind.as_str()), (looked_at, kind), "{asked}");
        }
    }

    #[test]
    fn tells_what_a_program_needs() {
        let (place, root) = container();
        let script = place.path().join("root/run.sh");
        std::fs::write(&script, "#!/bin/nosuch\n").unwrap();
        let of = |path: &str| root.program_facts(Path::new(path), None, &Mounts::default()).unwrap();
        assert_eq!(
            (of("/run.sh").interpreter.as_str(), of("/run.sh").interpreter_missing),
            ("/bin/nosuch", true)
        );
        std::fs::write(&script, "#!/data/app.db\n").unwrap();
        assert_eq!(
            (of("/run.sh").interpreter.as_str(), of("/run.sh").interpreter_missing),
            ("/data/app.db", false)
        );
        // Outside of the container's root there is one: that does not count.
        std::fs::write(&script, format!("#!{}\n", place.path().join("outside").display())).unwrap();
        assert!(of("/run.sh").interpreter_missing);
        std::fs::copy("/proc/self/exe", &script).unwrap();
        assert_eq!(
            (of("/run.sh").machine, of("/run.sh").node_machine),
            (own_machine().into(), own_machine().into())
        );

        // Neither a file that was only refused nor a FIFO is opened.
        std::fs::write(&script, "#!/bin/nosuch\n").unwrap();
        assert_eq!(root.facts(Path::new("/run.sh"), None, &Mounts::default()).unwrap().interpreter, "");
        nix::unistd::mkfifo(&place.path().join("root/fifo"), Mode::S_IRWXU).unwrap();
        assert_eq!(of("/fifo").kind, "other");
        assert_eq!(of("/missing").interpreter, "");
    }

    #[test]
    fn no_link_leads_out_of_the_container() {
        let (place, root) = container();
        for path in ["/escape", "/absolute", "/../outside", "/magic/etc/passwd"] {
            let facts = root.facts(Path::new(path), None, &Mounts::default()).unwrap();
            assert_ne!(facts.kind, "file", "{path}");
        }
        // Replacing a directory by a link outward after the handle was opened changes nothing.
        std::fs::rename(place.path().join("root/data"), place.path().join("moved")).unwrap();
        symlink(place.path(), place.path().join("root/data")).unwrap();
        let facts = root.facts(Path::new("/data/outside"), None, &Mounts::default()).unwrap();
        assert_ne!(facts.kind, "file");
    }

    #[test]
    fn names_the_directory_that_refused_the_caller() {
        let (place, root) = container();
        let stranger = Identity { file_system_uid: 4242, file_system_gid: 4242, ..Identity::default() };
        let key = Path::new("/data/closed/deep/key");
        let looked_at = |caller: Option<&Identity>| root.facts(key, caller, &Mounts::default()).unwrap().path;
        assert_eq!(looked_at(Some(&stranger)), "/data/closed");
        assert_eq!(looked_at(Some(&Identity::default())), "/data/closed/deep/key");
        assert_eq!(looked_at(None), "/data/closed/deep/key");

        let group = nix::unistd::getegid().as_raw();
        set_mode(&place.path().join("root/data/closed"), 0o710);
        let member = Identity { groups: vec![group], ..stranger.clone() };
        assert_eq!(looked_at(Some(&member)), "/data/closed/deep/key");
        set_mode(&place.path().join("root/data/closed"), 0o701);
        assert_eq!(looked_at(Some(&member)), "/data/closed");
        assert_eq!(looked_at(Some(&stranger)), "/data/closed/deep/key");
    }

    #[test]
    fn hostile_paths_are_refused_or_shown_escaped() {
        let (place, root) = container();
        let long = format!("/{}", "a/".repeat(3000));
        for path in ["", "relative", "../x", long.as_str()] {
            assert_eq!(root.facts(Path::new(path), None, &Mounts::default()), None, "{path}");
        }
        let name = OsStr::from_bytes(b"bad\x1b\xff");
        std::fs::write(place.path().join("root").join(name), "").unwrap();
        let facts = root.facts(&Path::new("/").join(name), None, &Mounts::default()).unwrap();
        assert_eq!(facts.path, r"/bad\x1b\xff");
    }

    /// In a mount namespace of a process of its own, which is killed.
    #[test]
    fn a_volume_can_be_looked_at_after_the_container_is_gone() {
        use std::io::{BufRead, BufReader};
        use std::process::{Command, Stdio};

        let volume = tempfile::tempdir().unwrap();
        let script = format!(
            "mount -t tmpfs t {0} && : > {0}/app.db && echo ready && exec sleep 60",
            volume.path().display()
        );
        let child = Command::new("unshare")
            .args(["-m", "sh", "-c", &script])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = child else {
            eprintln!("skipped: there is no unshare");
            return;
        };
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.trim() != "ready" {
            eprintln!("skipped: a mount namespace needs root");
            child.wait().unwrap();
            return;
        }
        let facts = super::super::procfs::HostProc::new(Path::new("/proc")).facts(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();

        let file = volume.path().join("app.db");
        assert!(!file.exists(), "it is in the other namespace only");
        let seen = facts.root.unwrap().facts(&file, None, &facts.mounts).unwrap();
        assert_eq!((seen.kind.as_str(), Path::new(&seen.mount_point)), ("file", volume.path()));
    }
}
