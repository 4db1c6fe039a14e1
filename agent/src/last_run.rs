//! Whether the run before this one was asked to stop, and until when it lived: what died between then and this start was seen by nobody.
//!
//! A file in the spool's directory says `running` or `stopped`; the time of its last change is when the agent was last alive. A kill, a
//! panic or a power failure leaves `running` behind.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use lastwords_diagnosis::evidence::UnixNanos;
use lastwords_proto::v1;

use crate::clock::{self, ClockOffsets};

/// How often it is noted that the agent lives, and so how exactly its end is known. Only the file's time changes, which the kernel writes
/// to the disk with whatever else it writes.
const EVERY: Duration = Duration::from_secs(5);

/// The two words have one length: replaced in place they need no room on a full disk.
const RUNNING: &[u8; 8] = b"running\n";
const STOPPED: &[u8; 8] = b"stopped\n";

/// The note of this run.
#[derive(Debug)]
pub struct LastRun {
    file: File,
}

impl LastRun {
    /// Reads what the run before left in `directory`.
    ///
    /// # Errors
    /// When the file cannot be made or read.
    pub fn begin(directory: &Path) -> io::Result<(Self, Option<v1::EarlierRun>)> {
        let mut file = crate::spool::open_own(&directory.join("run"))?;
        let mut word = Vec::new();
        // Whatever else it may hold is none of ours.
        io::Read::by_ref(&mut file).take(RUNNING.len() as u64).read_to_end(&mut word)?;
        let last_alive = file.metadata()?.modified()?;
        let earlier = match word.as_slice() {
            word if word == RUNNING => Some(false),
            word if word == STOPPED => Some(true),
            _ => None,
        };
        let earlier = earlier.map(|stopped| earlier_run(last_alive, stopped));
        Ok((Self { file }, earlier))
    }

    /// Notes that this run watches from now on. A start that comes to nothing leaves what was known before: nobody watched meanwhile.
    pub fn watches(&self) {
        if let Err(error) = self.write(RUNNING) {
            tracing::warn!("how long this agent lives is not noted: {error}");
        }
    }

    /// Notes again and again that the agent lives, for as long as it is polled.
    pub async fn keep(&self) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.file.set_modified(SystemTime::now()) {
                tracing::debug!("it was not noted that the agent lives: {error}");
            }
        }
    }

    /// Notes that it was asked to stop, and reads no more from now on.
    pub fn stopped(&self) {
        if let Err(error) = self.write(STOPPED) {
            tracing::debug!("it was not noted that the agent was asked to stop: {error}");
        }
    }

    fn write(&self, word: &[u8; 8]) -> io::Result<()> {
        self.file.write_all_at(word, 0)?;
        self.file.set_len(word.len() as u64)?;
        self.file.set_modified(SystemTime::now())
    }
}

fn earlier_run(last_alive: SystemTime, stopped: bool) -> v1::EarlierRun {
    // A clock that was set back would have it live in the future.
    let last_alive = last_alive.min(SystemTime::now());
    let since_epoch = last_alive.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let last_alive_at = UnixNanos(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX));
    let booted_at = ClockOffsets::measure().from_boot_time(0);
    v1::EarlierRun {
        last_alive: Some(last_alive.into()),
        stopped,
        node_restarted: last_alive_at < booted_at && booted_at <= clock::now(),
    }
}

/// What is to be said of it in the log; nothing when all went well.
#[must_use]
pub fn in_words(earlier: &v1::EarlierRun) -> Option<String> {
    let at = earlier.last_alive.as_ref()?;
    let how = match (earlier.stopped, earlier.node_restarted) {
        (true, _) => return None,
        (false, true) => "the node went down with the agent before",
        (false, false) => "the agent before ended without being asked to (killed, out of memory, or crashed)",
    };
    Some(format!("{how}: what died on this node from {at} until now was not seen"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_was_not_asked_to_stop_is_told_to_the_next_one() {
        let directory = tempfile::tempdir().unwrap();
        let (first, before) = LastRun::begin(directory.path()).unwrap();
        assert_eq!(before, None, "there was none");
        assert_eq!(LastRun::begin(directory.path()).unwrap().1, None, "nor did it watch yet");
        first.watches();
        let lived = SystemTime::now() - Duration::from_secs(100);
        first.file.set_modified(lived).unwrap();
        // Nothing is done at its end: that is what a kill leaves.
        drop(first);
        let (second, before) = LastRun::begin(directory.path()).unwrap();
        let before = before.unwrap();
        assert_eq!(before.last_alive, Some(lived.into()));
        assert!(!before.stopped);
        assert!(in_words(&before).is_some());
        assert_eq!(LastRun::begin(directory.path()).unwrap().1, Some(before), "the second one did not watch");
        second.watches();
        second.stopped();
        let (_, before) = LastRun::begin(directory.path()).unwrap();
        let before = before.unwrap();
        assert!(before.stopped && !before.node_restarted);
        assert_eq!(in_words(&before), None);
    }

    #[test]
    fn a_node_that_went_down_is_told_apart() {
        assert!(earlier_run(SystemTime::UNIX_EPOCH, false).node_restarted);
        assert!(!earlier_run(SystemTime::now() + Duration::from_secs(3_600), false).node_restarted);
    }

    #[test]
    fn what_is_none_of_ours_says_nothing() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("run"), "walking about").unwrap();
        let (run, before) = LastRun::begin(directory.path()).unwrap();
        assert_eq!(before, None);
        run.watches();
        assert_eq!(std::fs::read(directory.path().join("run")).unwrap(), RUNNING);
    }
}
