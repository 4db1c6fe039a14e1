//! What this agent handled and what it had to drop, as counters with stable names. They count from the start of the process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One counter.
#[derive(Debug)]
pub struct Counter {
    /// Stable name, snake case.
    pub name: &'static str,
    /// One sentence for people.
    pub help: &'static str,
    value: AtomicU64,
}

impl Counter {
    const fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, help, value: AtomicU64::new(0) }
    }

    /// Counts one more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Counts `count` more.
    pub fn add(&self, count: u64) {
        self.value.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes over a count that the kernel side keeps.
    pub fn set(&self, count: u64) {
        self.value.store(count, Ordering::Relaxed);
    }

    /// The count so far.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// Containers that are watched now. Not among [`ALL`]: it goes down again.
pub static CONTAINERS_WATCHED: Counter =
    Counter::new("containers_watched", "Containers that are watched now.");

macro_rules! counters {
    ($($(#[doc = $help:literal])+ $constant:ident $name:literal;)+) => {
        $(
            $(#[doc = $help])+
            pub static $constant: Counter = Counter::new($name, concat!($($help),+).trim_ascii());
        )+
        /// Every counter, in the order data passes them.
        pub static ALL: &[&Counter] = &[$(&$constant),+];
    };
}

counters! {
    /// Records of containers' lives that the kernel side made; those received and those dropped add up to it.
    RING_RECORDS_MADE "ring_records_made";
    /// Records taken from the kernel's ring buffer.
    RING_RECORDS "ring_records";
    /// Records the kernel could not put into the ring buffer because it was full.
    RING_RECORDS_DROPPED "ring_records_dropped";
    /// Containers that got no flight recorder because all were in use.
    RECORDERS_EXHAUSTED "recorders_exhausted";
    /// Control groups inside containers that could not be remembered because there were too many.
    GROUPS_EXHAUSTED "groups_exhausted";
    /// Failed calls that the kernel side recorded.
    FAILURES_RECORDED "failures_recorded";
    /// Paths and addresses of failed calls that could not be read from the program's memory.
    UNREADABLE_STRINGS "unreadable_strings";
    /// Listening sockets of the node that could not be remembered because there were too many.
    LISTENERS_EXHAUSTED "listeners_exhausted";
    /// Records whose form was not understood; a kernel object and an agent of different versions would do that.
    DECODE_ERRORS "decode_errors";
    /// Programs of a main process that were not kept because it executed too many.
    EXECS_DROPPED "execs_dropped";
    /// OOM kills of one container that were not kept because there were too many.
    OOM_KILLS_DROPPED "oom_kills_dropped";
    /// Places of faults that newer faults on this node replaced before they were read.
    FAULT_PLACES_LOST "fault_places_lost";
    /// Containers that run well of which it was told what they do without.
    HEALTHY_RUNS_SENT "healthy_runs_sent";
    /// Such containers of which it was not told, because the aggregator was away for too long.
    HEALTHY_RUNS_DROPPED "healthy_runs_dropped";
    /// Flight recorders that the kernel would not take back.
    RECORDERS_LOST "recorders_lost";
    /// Containers whose end was not seen because its record was dropped with a full ring buffer; each is reported all the same.
    ENDS_UNSEEN "ends_unseen";
    /// Ends of a program called pause that were not reported: it may have been a sandbox or a container, and it ended as a sandbox does.
    SANDBOX_ENDS_UNCLEAR "sandbox_ends_unclear";
    /// Containers whose memory was not looked at before their death because there were too many.
    MEMORY_NOT_SAMPLED "memory_not_sampled";
    /// Looks at a process or file that were not made because too many were waiting.
    LOOKS_DROPPED "looks_dropped";
    /// Reports that did not wait any longer for a look at a file.
    LOOKS_LATE "looks_late";
    /// Faults that were reported without the names of functions because looking those up took too long.
    SYMBOLS_LATE "symbols_late";
    /// Command lines whose options were not looked for in their program because that took too long, or the file was too large.
    OPTIONS_NOT_LOOKED_FOR "options_not_looked_for";
    /// Looks for a log that found several containers of the pod that could have written it.
    LOG_AMBIGUOUS "log_ambiguous";
    /// Crash reports taken into the spool.
    REPORTS_SPOOLED "reports_spooled";
    /// Reports dropped, oldest first, because the spool had reached spool_max_bytes.
    SPOOL_DROPPED_FULL "spool_dropped_full";
    /// Reports dropped, oldest first, because the disk was full and the queue in memory was full too.
    SPOOL_DROPPED_MEMORY "spool_dropped_memory";
    /// Reports dropped because a single one was larger than the spool takes.
    SPOOL_DROPPED_TOO_LARGE "spool_dropped_too_large";
    /// Reports dropped because what stood on the disk did not match its checksum any more.
    SPOOL_DROPPED_CORRUPT "spool_dropped_corrupt";
    /// Bytes cut off the end of spool files at start, left by a stop in the middle of a write.
    SPOOL_TORN_BYTES "spool_torn_bytes";
    /// Writes to the spool that failed, most often because the disk was full.
    SPOOL_WRITE_ERRORS "spool_write_errors";
    /// Reports sent to the aggregator, repeats included.
    REPORTS_SENT "reports_sent";
    /// Reports that the aggregator stored.
    REPORTS_STORED "reports_stored";
    /// Reports that the aggregator rejected for good.
    REPORTS_REJECTED "reports_rejected";
    /// Reports that the aggregator asked to have again later.
    REPORTS_RETRIED "reports_retried";
    /// Connections to the aggregator that failed or broke.
    CONNECTIONS_FAILED "connections_failed";
}

/// The counters that are not 0, as `name=value` with spaces between them, for the log. Empty when all are 0.
#[must_use]
pub fn summary() -> String {
    let counted = ALL.iter().filter(|counter| counter.value() > 0);
    counted.map(|counter| format!("{}={}", counter.name, counter.value())).collect::<Vec<_>>().join(" ")
}

/// Logs [`summary`] at debug level every ten minutes, for as long as it is polled.
pub async fn log_regularly() {
    let mut ticks = tokio::time::interval(Duration::from_secs(600));
    // The first tick comes at once, when nothing has happened yet.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        tracing::debug!("counted so far: {}", summary());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_own_name_and_a_sentence() {
        let mut names: Vec<_> = ALL.iter().map(|counter| counter.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for counter in ALL {
            assert!(counter.help.ends_with('.'), "{}", counter.name);
            assert!(counter.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
        }
    }

    #[test]
    fn the_summary_names_what_was_counted() {
        LOG_AMBIGUOUS.add(2);
        assert!(summary().split(' ').any(|part| part.starts_with("log_ambiguous=")), "{}", summary());
    }
}
