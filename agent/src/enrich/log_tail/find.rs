//! Finds the log file of a container. The file's path does not carry the container's id, so this is decided by what does, or by
//! the order in which a kubelet does things, and left open where neither settles it.

use std::fs::{File, read_dir, read_link};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lastwords_diagnosis::evidence::UnixNanos;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

use super::LogQuery;

/// Entries looked at in a folder. A node has at most some hundred pods and containers; the rest is not looked at.
const MAX_ENTRIES: usize = 8192;
/// A log file is created when its container is; the container's program runs well within this time.
const LONGEST_START: Duration = Duration::from_secs(10);
/// Two logs created this close to the start of the container cannot be told apart by the order of events.
const INDISTINCT: Duration = Duration::from_millis(20);

/// The folder of a pod's logs.
pub(super) struct PodFolder {
    directory: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

/// The log of one run of one container, open.
pub(super) struct LogFile {
    pub(super) container: String,
    pub(super) restarts: i32,
    /// Below the folder of all pods' logs.
    pub(super) path: String,
    pub(super) file: File,
    created: Option<SystemTime>,
    modified: SystemTime,
}

/// What could be found.
pub(super) enum Choice {
    None,
    One(LogFile),
    /// Names of containers whose log it could be.
    Several(Vec<String>),
}

/// The folder `<namespace>_<name>_<uid>`. Neither a namespace nor a pod's name can hold an underscore.
pub(super) fn pod_folder(pods: &Path, uid: &str) -> Option<PodFolder> {
    names_in(pods).find_map(|directory| {
        let (namespace, name) = directory.strip_suffix(uid)?.strip_suffix('_')?.split_once('_')?;
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Some(PodFolder { directory, namespace, name })
    })
}

/// The log of the run that died.
pub(super) fn log_file(pods: &Path, links: &Path, pod: &PodFolder, query: &LogQuery<'_>) -> Choice {
    let newest = |container: String| newest_log(pods, pod, container, query.died_at);
    if let Some(name) = query.container_name {
        return newest(name.to_owned()).map_or(Choice::None, Choice::One);
    }
    if let Some(log) = linked_log(pods, links, pod, &query.container.id) {
        return Choice::One(log);
    }
    let mut logs: Vec<LogFile> = names_in(&pods.join(&pod.directory)).filter_map(newest).collect();
    if logs.len() > 1
        && let Some(started) = query.started_at.map(system_time)
    {
        logs.retain(|log| log.could_be_of_a_start_at(started));
        logs = last_created_before(logs, started);
    }
    match logs.pop() {
        None => Choice::None,
        Some(log) if logs.is_empty() => Choice::One(log),
        Some(log) => {
            let mut names: Vec<String> = logs.into_iter().map(|log| log.container).collect();
            names.push(log.container);
            names.sort();
            Choice::Several(names)
        }
    }
}

impl LogFile {
    fn could_be_of_a_start_at(&self, started: SystemTime) -> bool {
        self.created.unwrap_or(self.modified).max(self.modified) + LONGEST_START >= started
    }
}

/// A kubelet starts the containers of a pod one after the other, and each one's log is created just before its start: the log is
/// the last one created before the start, if the file system tells, and none other was created about then.
fn last_created_before(logs: Vec<LogFile>, started: SystemTime) -> Vec<LogFile> {
    let created = |log: &LogFile| log.created.unwrap_or(UNIX_EPOCH);
    let own = logs
        .iter()
        .map(created)
        .filter(|created| *created <= started && *created + LONGEST_START >= started)
        .max();
    let Some(own) = own.filter(|_| logs.iter().all(|log| log.created.is_some())) else {
        return logs;
    };
    let is_close = |log: &LogFile| {
        distance(created(log), started) < INDISTINCT || distance(created(log), own) < INDISTINCT
    };
    if logs.iter().filter(|log| is_close(log)).count() > 1 {
        return logs;
    }
    logs.into_iter().filter(|log| created(log) == own).collect()
}

fn distance(a: SystemTime, b: SystemTime) -> Duration {
    a.duration_since(b).or_else(|_| b.duration_since(a)).unwrap_or_default()
}

/// The log to which the kubelet's link for this very container leads.
fn linked_log(pods: &Path, links: &Path, pod: &PodFolder, id: &str) -> Option<LogFile> {
    let ending = format!("-{id}.log");
    let link = names_in(links).find(|name| name.ends_with(&ending))?;
    let target = read_link(links.join(link)).ok()?;
    // Only the names matter: the folder may be mounted elsewhere here.
    let mut parts = target.components().rev().map(|part| part.as_os_str().to_str());
    let (file, container, directory) = (parts.next()??, parts.next()??, parts.next()??);
    (directory == pod.directory).then(|| open_log(pods, pod, container, restarts(file)?)).flatten()
}

/// The log of a container's last run that began before `died_at`; a restart may already have made the next one.
fn newest_log(pods: &Path, pod: &PodFolder, container: String, died_at: UnixNanos) -> Option<LogFile> {
    let mut runs: Vec<i32> =
        names_in(&pods.join(&pod.directory).join(&container)).filter_map(|name| restarts(&name)).collect();
    runs.sort_unstable();
    let died = system_time(died_at);
    let mut logs = runs.into_iter().rev().take(3).filter_map(|run| open_log(pods, pod, &container, run));
    logs.find(|log| log.created.is_none_or(|created| created <= died))
}

/// Opens a log without following any symbolic link: whoever can write into the log folder (a pod with it as a host path) could
/// else have any file of the node reported as a log.
fn open_log(pods: &Path, pod: &PodFolder, container: &str, restarts: i32) -> Option<LogFile> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(pods, flags, Mode::empty()).ok()?;
    let path = format!("{}/{container}/{restarts}.log", pod.directory);
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let file = File::from(openat2(root, path.as_str(), how).ok()?);
    let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let modified = metadata.modified().ok()?;
    let container = container.to_owned();
    Some(LogFile { container, restarts, path, file, created: metadata.created().ok(), modified })
}

/// 3 of `3.log`; rotated ones have more behind it.
fn restarts(file: &str) -> Option<i32> {
    file.strip_suffix(".log")?.parse().ok().filter(|restarts| *restarts >= 0)
}

fn names_in(directory: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = read_dir(directory).into_iter().flatten().flatten().take(MAX_ENTRIES);
    entries.filter_map(|entry| String::from_utf8(entry.file_name().as_bytes().to_vec()).ok())
}

fn system_time(time: UnixNanos) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(u64::try_from(time.0).unwrap_or(0))
}
