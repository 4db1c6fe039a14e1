//! The command's standard output and error: passed on to standard error, their end kept as the log tail.

use std::{
    collections::VecDeque,
    io::{self, Read, Write as _},
    process::Child,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use lastwords_diagnosis::evidence::LogTail;

use crate::{escape::escape, redact::Redactor};

/// Bytes of output that are kept; the same as of a log file on a node.
const KEPT: usize = 64 * 1024;
/// Lines of it that are shown; the same as of a log file on a node.
const LINES: usize = 50;
/// Bytes of one line that are shown.
const LINE: usize = 1024;

/// Collects while the command runs.
pub(super) struct Output {
    kept: Arc<Mutex<VecDeque<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Output {
    /// Starts reading the child's pipes.
    pub(super) fn collect(child: &mut Child) -> io::Result<Self> {
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let mut readers = Vec::new();
        if let Some(pipe) = child.stdout.take() {
            readers.push(read(pipe, Arc::clone(&kept))?);
        }
        if let Some(pipe) = child.stderr.take() {
            readers.push(read(pipe, Arc::clone(&kept))?);
        }
        Ok(Self { kept, readers })
    }

    /// Waits until both pipes are closed. They are once the last process of the PID namespace is gone.
    pub(super) fn finish(&mut self) {
        for reader in self.readers.drain(..) {
            // A reader that panicked has nothing more to say.
            let _ = reader.join();
        }
    }

    /// The last lines.
    pub(super) fn tail(&self, redactor: &Redactor) -> LogTail {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = kept.iter().copied().collect();
        let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let lines: Vec<&[u8]> =
            if text.is_empty() { Vec::new() } else { text.split(|byte| *byte == b'\n').collect() };
        let last = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default();
        let shown: Vec<String> = last.iter().map(|line| escape(line, LINE)).collect();
        LogTail {
            lines: redactor.lines(&shown),
            bytes: bytes.len() as u64,
            source: "stdout and stderr".to_owned(),
        }
    }
}

fn read(mut pipe: impl Read + Send + 'static, kept: Arc<Mutex<VecDeque<u8>>>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("output".to_owned()).spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(length @ 1..) = pipe.read(&mut buffer) {
            let bytes = buffer.get(..length).unwrap_or_default();
            // The command must not fail because nobody reads our standard error.
            let _ = io::stderr().write_all(bytes);
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend(bytes);
            let surplus = kept.len().saturating_sub(KEPT);
            kept.drain(..surplus);
        }
    })
}
