//! The end of a dead container's log, from the files that the container runtime writes for the kubelet, and what their folder's
//! name tells of the pod: `<namespace>_<pod>_<uid>/<container>/<restarts>.log`.
//!
//! The runtime copies what a program wrote with a short delay. Read some tens of milliseconds after the death.

mod files;
mod find;
mod lines;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use lastwords_diagnosis::evidence::{LogTail, UnixNanos};

use crate::config::LogTailConfig;
use crate::container::ContainerRef;
use crate::counters;
use crate::escape::escape;
use crate::redact::Redactor;
pub use files::{LogFiles, WritableLayer};
use find::{Choice, LogFile};

/// Reads the logs of this node's containers.
#[derive(Debug, Clone)]
pub struct LogReader {
    pods: PathBuf,
    /// The kubelet's links `<pod>_<namespace>_<container>-<id>.log` to the pods' logs, in the folder beside theirs.
    links: PathBuf,
    config: LogTailConfig,
    redactor: Redactor,
}

/// Whose log.
#[derive(Debug, Clone, Copy)]
pub struct LogQuery<'a> {
    /// The container.
    pub container: &'a ContainerRef,
    /// Its name in the pod, where something else told it.
    pub container_name: Option<&'a str>,
    /// When its first program was executed; `None` when the agent did not see that.
    pub started_at: Option<UnixNanos>,
    /// When it died.
    pub died_at: UnixNanos,
}

/// What the log folder told. All empty when there is none.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogFindings {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod_name: String,
    /// The container's name; empty when it could not be told which container of the pod it is.
    pub container_name: String,
    /// Restarts before this run.
    pub restart_count: Option<i32>,
    /// The log's end, redacted and escaped; without lines when nothing was written.
    pub tail: Option<LogTail>,
    /// True when several containers of the pod could have written the log. The kubelet links a container's id to its log shortly
    /// after the start, so asking again half a second later may settle it.
    pub ambiguous: bool,
    /// Why there is no tail, for `losses.unreadable`.
    pub unreadable: Option<String>,
}

impl LogReader {
    /// A reader of the logs below `pods`, normally the host's `/var/log/pods`.
    #[must_use]
    pub fn new(pods: &Path, config: &LogTailConfig, redactor: &Redactor) -> Self {
        let links = pods.parent().unwrap_or(pods).join("containers");
        Self { pods: pods.to_owned(), links, config: config.clone(), redactor: redactor.clone() }
    }

    /// Finds and reads the end of a container's log. What it cannot find or read it says in [`LogFindings::unreadable`].
    #[must_use]
    pub fn read(&self, query: &LogQuery<'_>) -> LogFindings {
        let uid = &query.container.pod_uid;
        if uid.is_empty() {
            return LogFindings::default();
        }
        let Some(pod) = find::pod_folder(&self.pods, uid) else {
            return self.without_tail(
                LogFindings::default(),
                format!("log: no folder of pod {uid} in {}", self.pods.display()),
            );
        };
        let mut findings = LogFindings {
            namespace: name(&pod.namespace),
            pod_name: name(&pod.name),
            ..LogFindings::default()
        };
        match find::log_file(&self.pods, &self.links, &pod, query) {
            Choice::None => {
                self.without_tail(findings, format!("log: no file of container {}", query.container.id))
            }
            Choice::Several(names) => {
                counters::LOG_AMBIGUOUS.increment();
                findings.ambiguous = true;
                self.without_tail(findings, format!("log: ambiguous, it is one of {}", names.join(", ")))
            }
            Choice::One(log) => {
                findings.container_name = name(&log.container);
                findings.restart_count = Some(log.restarts);
                if !self.may_read(&findings.namespace) {
                    return findings;
                }
                match self.tail(log) {
                    Ok(tail) => LogFindings { tail: Some(tail), ..findings },
                    Err((name, error)) => {
                        self.without_tail(findings, format!("log: cannot read {name}: {error}"))
                    }
                }
            }
        }
    }

    fn may_read(&self, namespace: &str) -> bool {
        self.config.enabled && !self.config.disabled_namespaces.iter().any(|disabled| disabled == namespace)
    }

    /// Says why there is no tail, unless there would be none anyway.
    fn without_tail(&self, findings: LogFindings, reason: String) -> LogFindings {
        let wanted = self.may_read(&findings.namespace);
        LogFindings { unreadable: wanted.then(|| escape(reason.as_bytes(), 1024)), ..findings }
    }

    fn tail(&self, log: LogFile) -> Result<LogTail, (String, io::Error)> {
        let (bytes, from_start) =
            read_end(log.file, self.config.bytes).map_err(|error| (log.path.clone(), error))?;
        Ok(self.shown(&bytes, from_start, escape(log.path.as_bytes(), 1024)))
    }

    fn shown(&self, bytes: &[u8], from_start: bool, source: String) -> LogTail {
        let lines = lines::last_lines(bytes, from_start, self.config.lines);
        let lines = self.redactor.lines(&lines).into_iter().map(lines::cut).collect();
        LogTail { lines, bytes: bytes.len() as u64, source }
    }
}

/// A part of a file's name. A kubelet writes none that need escaping; a pod with the log folder as a host path could.
fn name(part: &str) -> String {
    escape(part.as_bytes(), 1024)
}

/// The last `limit` bytes of a file, and whether that is the whole of it.
fn read_end(mut file: File, limit: u64) -> io::Result<(Vec<u8>, bool)> {
    let length = file.metadata()?.len();
    let start = length.saturating_sub(limit);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok((bytes, start == 0))
}

#[cfg(test)]
mod tests;
