//! The ends of log files that a container wrote in its own writable layer: what an overlay keeps in its upper directory. Volumes are
//! not read, emptyDir included: what lies there may be another's.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use lastwords_diagnosis::evidence::{LogTail, UnixNanos};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

use super::{LogReader, read_end};
use crate::container::ContainerRef;
use crate::enrich::read::open_regular;
use crate::enrich::{mounts::Mounts, procfs::HostProc};
use crate::escape::escape;

/// Log files that are read of one container: as many as the kernel side keeps.
const MOST_FILES: usize = 4;
/// A file's times are those of the last clock tick, at most 10 ms ago.
const TICK: i64 = 20_000_000;

/// Where a container's own writes go, kept open from its first program on. One descriptor.
#[derive(Debug)]
pub struct WritableLayer {
    directory: OwnedFd,
    resolve: ResolveFlag,
}

impl WritableLayer {
    /// Of the container with these mounts. None when its root is no overlay, or its upper directory is not to be found from here.
    #[must_use]
    pub fn of_container(processes: &HostProc, mounts: &Mounts) -> Option<Self> {
        let upper = mounts.of(Path::new("/"))?.upper.as_deref()?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let how = OpenHow::new()
            .flags(flags)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        // The path is the host's, as its first process sees it; where that may not be looked at, as this one does.
        let directory = [processes.host_root().as_path(), Path::new("/")].into_iter().find_map(|root| {
            let root = open(root, flags, Mode::empty()).ok()?;
            openat2(root, upper, how).ok()
        })?;
        let resolve = ResolveFlag::RESOLVE_NO_XDEV;
        Some(Self { directory, resolve })
    }

    /// This machine's own files, where a tried command writes.
    #[must_use]
    pub fn of_this_machine() -> Option<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open("/", flags, Mode::empty()).ok()?;
        Some(Self { directory, resolve: ResolveFlag::empty() })
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(self.resolve | ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        open_regular(&openat2(&self.directory, path, how)?)
    }
}

/// What the log files told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogFiles {
    /// Their ends, redacted and escaped, in the order in which they were asked for.
    pub tails: Vec<LogTail>,
    /// Why some could not be read, for `losses.unreadable`.
    pub unreadable: Vec<String>,
}

impl LogReader {
    /// Whether log files of this container may be read: the same policy as for its log. Where that depends on the namespace and the
    /// namespace is not known, they may not.
    #[must_use]
    pub fn may_read_files_of(&self, container: &ContainerRef) -> bool {
        if container.pod_uid.is_empty() || self.config.disabled_namespaces.is_empty() {
            return self.config.enabled;
        }
        let pod = super::find::pod_folder(&self.pods, &container.pod_uid);
        pod.is_some_and(|pod| self.may_read(&pod.namespace))
    }

    /// The ends of the files at these absolute paths that were written since `since`; what is not in the layer is left out. Ask
    /// [`LogReader::may_read_files_of`] first.
    #[must_use]
    pub fn files(&self, layer: &WritableLayer, paths: &[Vec<u8>], since: UnixNanos) -> LogFiles {
        let mut found = LogFiles::default();
        for path in paths.iter().take(MOST_FILES) {
            let shown = escape(path, 1024);
            match self.file(layer, Path::new(OsStr::from_bytes(path)), since) {
                Ok(Some(tail)) => found.tails.push(LogTail { source: shown, ..tail }),
                Ok(None) => {}
                // On a volume, or a link in the image that leads elsewhere: to the standard error, mostly.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.raw_os_error() == Some(Errno::EXDEV as i32) => {}
                Err(error) => found.unreadable.push(format!("log file {shown}: {error}")),
            }
        }
        found
    }

    fn file(&self, layer: &WritableLayer, path: &Path, since: UnixNanos) -> io::Result<Option<LogTail>> {
        let file = layer.open(path)?;
        let status = file.metadata()?;
        let modified = status.mtime().saturating_mul(1_000_000_000).saturating_add(status.mtime_nsec());
        if status.len() == 0 || modified.saturating_add(TICK) < since.0 {
            return Ok(None);
        }
        let (bytes, from_start) = read_end(file, self.config.bytes)?;
        // A database's journal, say.
        Ok((!bytes.contains(&0)).then(|| self.shown(&bytes, from_start, String::new())))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::config::LogTailConfig;
    use crate::redact::Redactor;

    fn reader(config: &LogTailConfig) -> LogReader {
        LogReader::new(Path::new("/nowhere/pods"), config, &Redactor::default())
    }

    fn layer(directory: &Path) -> WritableLayer {
        let mounts = format!(
            "1 0 0:1 / / rw - overlay o rw,lowerdir=/l,upperdir={},workdir=/w\n",
            directory.display()
        );
        WritableLayer::of_container(&HostProc::new(Path::new("/proc")), &Mounts::parse(mounts.as_bytes()))
            .unwrap()
    }

    fn read(layer: &WritableLayer, paths: &[&str]) -> LogFiles {
        let paths: Vec<Vec<u8>> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
        reader(&LogTailConfig::default()).files(layer, &paths, UnixNanos(0))
    }

    #[test]
    fn the_end_is_shown_redacted() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.path().join("var/log")).unwrap();
        let lines: String = (0..5000).map(|number| format!("line {number} of a long log\n")).collect();
        std::fs::write(place.path().join("var/log/app.log"), lines + "password=hunter2\nlast\x1b[31m\n")
            .unwrap();
        let found = read(&layer(place.path()), &["/var/log/app.log", "/var/log/missing.log"]);
        assert_eq!(found.unreadable, [""; 0]);
        let [tail] = &found.tails[..] else { panic!("{found:?}") };
        assert_eq!((tail.source.as_str(), tail.bytes, tail.lines.len()), ("/var/log/app.log", 65536, 50));
        assert_eq!(tail.lines[48..], ["password=<redacted>", "last"]);
    }

    #[test]
    fn only_what_lies_in_the_layer_is_read() {
        let place = tempfile::tempdir().unwrap();
        let upper = place.path().join("upper");
        std::fs::create_dir(&upper).unwrap();
        std::fs::write(place.path().join("secret.log"), "secret\n").unwrap();
        std::fs::write(upper.join("own.log"), "own\n").unwrap();
        std::fs::write(upper.join("binary.log"), "a\0b").unwrap();
        std::fs::write(upper.join("empty.log"), "").unwrap();
        symlink(place.path().join("secret.log"), upper.join("absolute.log")).unwrap();
        symlink("../secret.log", upper.join("relative.log")).unwrap();
        symlink("own.log", upper.join("current.log")).unwrap();
        symlink("/proc/self/root", upper.join("magic")).unwrap();
        nix::unistd::mkfifo(&upper.join("fifo.log"), Mode::S_IRWXU).unwrap();
        let layer = layer(&upper);
        let outside = place.path().join("secret.log").display().to_string();
        for none in
            ["/absolute.log", "/relative.log", "/../secret.log", "/binary.log", "/empty.log", &outside]
        {
            assert_eq!(read(&layer, &[none]).tails, [], "{none}");
        }
        assert_eq!(read(&layer, &[&format!("/magic{outside}")]).tails, []);
        assert_eq!(read(&layer, &["/fifo.log"]).unreadable.len(), 1);
        for own in ["/own.log", "/current.log", "/../own.log"] {
            assert_eq!(read(&layer, &[own]).tails[0].lines, ["own"], "{own}");
        }
        assert_eq!(read(&layer, &["/own.log"; 9]).tails.len(), MOST_FILES);

        let later = UnixNanos(crate::clock::now().0 + 1_000_000_000);
        let old = reader(&LogTailConfig::default()).files(&layer, &[b"/own.log".to_vec()], later);
        assert_eq!(old, LogFiles::default(), "it was not written in this run");
    }

    #[test]
    fn the_policy_is_the_logs_own() {
        let container = |pod_uid: &str| ContainerRef {
            runtime: "containerd",
            id: "3f".repeat(32),
            pod_uid: pod_uid.to_owned(),
            cgroup_path: "/kubepods/x".to_owned(),
        };
        let off = LogTailConfig { enabled: false, ..LogTailConfig::default() };
        assert!(!reader(&off).may_read_files_of(&container("uid")));
        assert!(reader(&LogTailConfig::default()).may_read_files_of(&container("uid")));
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("prod_api_uid-1")).unwrap();
        std::fs::create_dir(place.path().join("dev_api_uid-2")).unwrap();
        let some = LogTailConfig { disabled_namespaces: vec!["prod".to_owned()], ..LogTailConfig::default() };
        let reader = LogReader::new(place.path(), &some, &Redactor::default());
        assert!(!reader.may_read_files_of(&container("uid-1")));
        assert!(reader.may_read_files_of(&container("uid-2")));
        assert!(!reader.may_read_files_of(&container("uid-3")), "its namespace is not known");
    }
}
