//! Files that were opened with success while the container started: which of them are worth telling, and which are logs.

use lastwords_diagnosis::{
    errno,
    evidence::{Failure, OpenedFile},
};
use nix::libc::AT_FDCWD;

use super::{
    Death,
    failures::{against, working_directory},
    is_of_run, milliseconds_before, text,
};
use crate::decode::{Opened, Recording};

/// Folders in which tools and runtimes read files that look like configuration, and that nobody wrote for this program.
const COMMON_FOLDERS: [&[u8]; 12] = [
    b"/node_modules/",
    b"/site-packages/",
    b"/dist-packages/",
    b"/share/zoneinfo",
    b"/share/locale",
    b"/share/fonts",
    b"/share/fontconfig",
    b"/share/mime",
    b"/.cache/",
    b"/.git/",
    b"/jre/",
    b"/jdk",
];

/// Words in which `log` means another thing.
const NO_LOGS: [&[u8]; 7] =
    [b"catalog", b"changelog", b"dialog", b"prolog", b"analog", b"binlog", b"lastlog"];

/// The files, oldest first by their last opening.
pub(super) fn files(death: &Death, recording: &Recording) -> Vec<OpenedFile> {
    of_interest(death, recording)
        .map(|(opened, resolved)| OpenedFile {
            path_unresolved: resolved.is_none(),
            path: text(&resolved.unwrap_or_else(|| opened.path.clone())),
            written: opened.written,
            pid: opened.tgid,
            comm: text(&opened.comm),
            before_death_ms: milliseconds_before(death.time, opened.time),
        })
        .collect()
}

/// Absolute paths of the logs that it wrote, the one opened last first.
#[must_use]
pub fn logs(death: &Death) -> Vec<Vec<u8>> {
    let Some(recording) = &death.recording else { return Vec::new() };
    let mut logs: Vec<Vec<u8>> = Vec::new();
    for (opened, resolved) in of_interest(death, recording).collect::<Vec<_>>().into_iter().rev() {
        if let Some(path) = resolved.filter(|path| opened.written && !logs.contains(path)) {
            logs.push(path);
        }
    }
    logs
}

/// A path that was missing, or refused, and opened later after all was no reason to end.
pub(super) fn mark_succeeded(failures: &mut [Failure], opened: &[OpenedFile]) {
    for failure in failures.iter_mut().filter(|failure| {
        matches!(failure.errno, errno::ENOENT | errno::EACCES | errno::EPERM | errno::EROFS)
            && !failure.path_unresolved
            && !failure.path.is_empty()
            // What is there to be opened may still not be executed.
            && !matches!(failure.syscall.as_str(), "execve" | "execveat")
    }) {
        failure.later_succeeded |= opened.iter().any(|file| {
            // One that was refused for writing may be read all the same.
            (file.written || failure.errno == errno::ENOENT)
                && !file.path_unresolved
                && file.path == failure.path
                && file.before_death_ms < failure.last_before_death_ms
        });
    }
}

fn of_interest<'a>(
    death: &'a Death,
    recording: &'a Recording,
) -> impl Iterator<Item = (&'a Opened, Option<Vec<u8>>)> {
    recording.opened.iter().filter(|opened| is_of_run(death, opened.time)).filter_map(|opened| {
        let cwd = if opened.directory == AT_FDCWD { working_directory(death, opened.tgid) } else { None };
        let resolved = against(&opened.path, cwd);
        let seen = resolved.as_deref().unwrap_or(&opened.path);
        let wanted = if opened.written { is_log(seen) } else { is_configuration(seen) };
        wanted.then_some((opened, resolved))
    })
}

fn is_configuration(path: &[u8]) -> bool {
    let in_a_library =
        [b"/lib/".as_slice(), b"/lib64/", b"/usr/lib/", b"/usr/local/lib/", b"/proc/", b"/sys/"];
    !in_a_library.iter().any(|folder| path.starts_with(folder))
        && !COMMON_FOLDERS.iter().any(|folder| contains(path, folder))
}

/// By its name, or by that of a folder it lies in. What is appended to and called otherwise (a database's journal, a shell's history)
/// may hold anything.
fn is_log(path: &[u8]) -> bool {
    let lower = path.to_ascii_lowercase();
    let (folders, name) = lower
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or((&[][..], &lower[..]), |slash| lower.split_at_checked(slash + 1).unwrap_or_default());
    let system = [b"/dev/".as_slice(), b"/proc/", b"/sys/"].iter().any(|folder| lower.starts_with(folder));
    let named = [b"log".as_slice(), b"error", b"trace", b"debug", b"audit", b"stdout", b"stderr"]
        .iter()
        .any(|word| contains(name, word))
        || [b".out".as_slice(), b".err", b".txt"].iter().any(|ending| name.ends_with(ending));
    let in_a_folder_of_logs = contains(folders, b"/log/") || contains(folders, b"/logs/");
    // Segments of a message queue's or a key-value store's journal are called 00000042.log.
    let segment = name
        .split(|byte| *byte == b'.')
        .next()
        .is_some_and(|stem| stem.len() >= 6 && stem.iter().all(u8::is_ascii_digit));
    !system && (named || in_a_folder_of_logs) && !segment && !NO_LOGS.iter().any(|word| contains(name, word))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_told_by_their_names() {
        for log in [
            "/var/log/nginx/error.log",
            "/var/log/nginx/access_log",
            "/app/logs/today",
            "/app/server.out",
            "/tmp/app.LOG",
            "/srv/errors.txt",
            "app.log",
            "/opt/tomcat/logs/catalina.2026-11-22.log",
        ] {
            assert!(is_log(log.as_bytes()), "{log}");
        }
        for other in [
            "/data/appendonly.aof",
            "/data/00000000000000000042.log",
            "/root/.bash_history",
            "/data/catalog",
            "/var/lib/mysql/binlog.000001",
            "/var/log/lastlog",
            "/dev/log",
            "/run/app.pid",
        ] {
            assert!(!is_log(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn configuration_is_not_what_libraries_bring() {
        assert!(is_configuration(b"/etc/nginx/nginx.conf"));
        assert!(is_configuration(b"config.yaml"));
        assert!(!is_configuration(b"/app/node_modules/a/config.json"));
        assert!(!is_configuration(b"/usr/lib/x/a.conf"));
    }
}
