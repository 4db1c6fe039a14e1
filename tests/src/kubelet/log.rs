//! The container's output in the CRI log format: `TIME stdout|stderr F|P TEXT`.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::Context;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::time;

/// Longer lines are cut into partial ones, as containerd does.
const LONGEST_LINE: usize = 16 * 1024;

/// The file of one run of a container, shared by its two streams.
#[derive(Debug, Clone)]
pub(super) struct LogFile(Arc<Mutex<File>>);

impl LogFile {
    /// Makes the file and the directories above it.
    ///
    /// # Errors
    /// When that fails.
    pub(super) fn create(path: &std::path::Path) -> anyhow::Result<LogFile> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("{} cannot be made", parent.display()))?;
        }
        let file =
            File::create(path).with_context(|| format!("the log {} cannot be made", path.display()))?;
        Ok(LogFile(Arc::new(Mutex::new(file))))
    }

    fn write(&self, stream: &str, tag: char, text: &[u8]) {
        let mut line = format!("{} {stream} {tag} ", time::nanoseconds(SystemTime::now())).into_bytes();
        line.extend_from_slice(text);
        line.push(b'\n');
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk must not stop the container; its log is then cut, as on a real node.
        let _ = file.write_all(&line);
    }
}

/// Copies one stream into the log until the last writer has closed it.
pub(super) async fn copy(stream: &'static str, pipe: OwnedFd, log: Option<LogFile>) {
    let Ok(mut pipe) = Receiver::from_owned_fd(pipe) else { return };
    let mut pending = Vec::new();
    let mut chunk = vec![0; LONGEST_LINE];
    while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
        let Some(log) = &log else { continue };
        pending.extend_from_slice(chunk.get(..read).unwrap_or_default());
        while let Some((tag, taken)) = next_line(&pending) {
            let line: Vec<u8> = pending.drain(..taken).collect();
            log.write(stream, tag, line.strip_suffix(b"\n").unwrap_or(&line));
        }
    }
    if let (Some(log), false) = (log, pending.is_empty()) {
        log.write(stream, 'P', &pending);
    }
}

/// Tag and length of the first line that can be written.
fn next_line(pending: &[u8]) -> Option<(char, usize)> {
    match pending.iter().take(LONGEST_LINE + 1).position(|byte| *byte == b'\n') {
        Some(end) => Some(('F', end + 1)),
        None if pending.len() >= LONGEST_LINE => Some(('P', LONGEST_LINE)),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_full_and_overlong_ones_partial() {
        assert_eq!(next_line(b"one\ntwo"), Some(('F', 4)));
        assert_eq!(next_line(b"two"), None);
        assert_eq!(next_line(&vec![b'x'; LONGEST_LINE + 5]), Some(('P', LONGEST_LINE)));
    }
}
