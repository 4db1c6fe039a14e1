//! Faults on demand: what a client must live through with a real server, at the moment a test chooses.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::mpsc;

/// The body of `POST /stand-in/faults`, for example `{"fault": "watch-gone", "resource": "pods"}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// The next watches of a resource are told that their version is gone: inside the stream, as a real server does,
    /// or with `"http": true` as a plain 410.
    WatchGone {
        /// Plural name.
        resource: String,
        /// Answer with HTTP 410 instead of an ERROR event.
        #[serde(default)]
        http: bool,
        /// How many watches.
        #[serde(default = "one")]
        count: u32,
    },
    /// The next requests of a verb (`list`, `watch`, `get`, `create`, `patch` …) fail with an HTTP code.
    Fail {
        /// Plural name.
        resource: String,
        /// As discovery names it.
        verb: String,
        /// HTTP code.
        code: u16,
        /// How many requests.
        #[serde(default = "one")]
        count: u32,
    },
    /// All history is forgotten: every older version is 410 Gone from now on.
    Compact,
    /// All running watches end cleanly, as at their time-out.
    EndWatches,
    /// All connections break.
    DropConnections,
    /// All connections break and new ones are refused for a time.
    Refuse {
        /// How long.
        seconds: f64,
    },
}

fn one() -> u32 {
    1
}

/// What the accept loop is told.
#[derive(Debug)]
pub enum Line {
    /// Break all connections.
    Drop,
    /// Break them and refuse new ones for so long.
    Refuse(Duration),
}

/// The faults that wait for their request.
#[derive(Debug)]
pub struct Faults {
    waiting: Mutex<Vec<Fault>>,
    line: mpsc::UnboundedSender<Line>,
}

impl Faults {
    /// No faults; `line` leads to the accept loop.
    pub fn new(line: mpsc::UnboundedSender<Line>) -> Faults {
        Faults { waiting: Mutex::new(Vec::new()), line }
    }

    /// Keeps a fault for the request it is meant for.
    pub fn wait(&self, fault: Fault) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    /// Breaks connections now.
    pub fn line(&self, line: Line) {
        // The accept loop is gone only when the server is.
        let _ = self.line.send(line);
    }

    /// Takes one use of a waiting [`Fault::Fail`]: its code.
    pub fn failing(&self, plural: &str, verb: &str) -> Option<u16> {
        self.take(|fault| match fault {
            Fault::Fail { resource, verb: of, code, count } if resource == plural && of == verb => {
                Some((*code, count))
            }
            _ => None,
        })
    }

    /// Takes one use of a waiting [`Fault::WatchGone`]: whether it is to be told by HTTP.
    pub fn watch_gone(&self, plural: &str) -> Option<bool> {
        self.take(|fault| match fault {
            Fault::WatchGone { resource, http, count } if resource == plural => Some((*http, count)),
            _ => None,
        })
    }

    fn take<T>(&self, mut wanted: impl FnMut(&mut Fault) -> Option<(T, &mut u32)>) -> Option<T> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for at in 0..waiting.len() {
            let Some((found, count)) = waiting.get_mut(at).and_then(&mut wanted) else { continue };
            *count = count.saturating_sub(1);
            if *count == 0 {
                waiting.remove(at);
            }
            return Some(found);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_used_as_often_as_it_says_and_only_by_its_request() {
        let faults = Faults::new(mpsc::unbounded_channel().0);
        let fault = r#"{"fault": "fail", "resource": "pods", "verb": "list", "code": 503, "count": 2}"#;
        faults.wait(serde_json::from_str(fault).unwrap());
        assert_eq!(faults.failing("events", "list"), None);
        assert_eq!(faults.failing("pods", "watch"), None);
        assert_eq!(faults.failing("pods", "list"), Some(503));
        assert_eq!(faults.failing("pods", "list"), Some(503));
        assert_eq!(faults.failing("pods", "list"), None);
    }
}
