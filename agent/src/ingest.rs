//! Reads the kernel's ring buffer as records come, and hands on the deaths they make up.
//!
//! On a thread of its own that sleeps in poll(2): nothing else the agent does may keep it from reading, and a node where nothing
//! dies is never woken.

use std::{io, os::fd::AsFd as _, sync::Arc, thread::JoinHandle, time::Duration};

use aya::maps::{MapData, RingBuf};
use lastwords_agent_common::record::Counter;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::EventFd,
};
use tokio::sync::mpsc;

use crate::{assemble::Death, clock, counters, decode::decode, kernel::CounterMap, tracker::Tracker};

/// Milliseconds that the last records may take from their making to the reader at the end.
const SETTLING: u32 = 100;

/// The reading thread. Dropping it stops the thread after it has read what stands in the ring.
pub struct Ingest {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Ingest {
    /// Starts reading. Deaths go to `deaths`; while that is full the ring buffer takes what comes.
    ///
    /// # Errors
    /// When the system gives no descriptor or thread.
    pub fn start(
        mut records: RingBuf<MapData>,
        kernel: CounterMap,
        mut tracker: Tracker,
        deaths: mpsc::Sender<Death>,
    ) -> io::Result<Self> {
        let stop = Arc::new(EventFd::new()?);
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("ingest".to_owned()).spawn(move || {
            loop {
                counters::CONTAINERS_WATCHED.set(u64::try_from(tracker.watched()).unwrap_or(u64::MAX));
                let end = wait(&records, &stopped, tracker.due_in(clock::monotonic_now()));
                // All that is there is taken before anything is handed on: the next container's group may go within milliseconds.
                let mut completed = drain(&mut records, &mut tracker);
                take_over(&kernel);
                if end {
                    completed.extend(settle(&mut records, &mut tracker, &kernel));
                    completed.extend(tracker.held_back(u64::MAX));
                }
                let now = clock::monotonic_now();
                tracker.note_dropped(now, counters::RING_RECORDS_DROPPED.value(), &mut completed);
                completed.extend(tracker.tick(now));
                for death in completed {
                    if deaths.blocking_send(death).is_err() {
                        return;
                    }
                }
                if end {
                    return;
                }
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        // Writing fails only when the counter would overflow, and then it is readable anyway.
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that reads the kernel's records failed");
        }
    }
}

/// Waits for records, for the end (then true), or for the time that something is due.
fn wait(records: &RingBuf<MapData>, stop: &EventFd, due: Option<Duration>) -> bool {
    let timeout = due.map_or(PollTimeout::NONE, |due| PollTimeout::try_from(due).unwrap_or(PollTimeout::MAX));
    let mut sources =
        [PollFd::new(records.as_fd(), PollFlags::POLLIN), PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
    match poll(&mut sources, timeout) {
        Ok(_) | Err(Errno::EINTR) => sources.iter().skip(1).any(|stop| stop.any().unwrap_or(false)),
        Err(error) => {
            tracing::error!("waiting for the kernel's records failed: {error}; no more crashes are recorded");
            true
        }
    }
}

/// The kernel side's counts, for the log.
fn take_over(kernel: &CounterMap) {
    for (counter, shown) in [
        (Counter::RingFull, &counters::RING_RECORDS_DROPPED),
        (Counter::RingRecords, &counters::RING_RECORDS_MADE),
        (Counter::RecordersExhausted, &counters::RECORDERS_EXHAUSTED),
        (Counter::GroupsExhausted, &counters::GROUPS_EXHAUSTED),
        (Counter::FailuresRecorded, &counters::FAILURES_RECORDED),
        (Counter::UnreadableStrings, &counters::UNREADABLE_STRINGS),
        (Counter::ListenersExhausted, &counters::LISTENERS_EXHAUSTED),
    ] {
        shown.set(kernel.read(counter));
    }
}

/// Reads on until what was received and what was dropped are all that was made: a record may be on its way at this very moment.
fn settle(records: &mut RingBuf<MapData>, tracker: &mut Tracker, kernel: &CounterMap) -> Vec<Death> {
    let mut deaths = Vec::new();
    for _ in 0..SETTLING {
        let known = counters::RING_RECORDS.value() + counters::RING_RECORDS_DROPPED.value();
        if known == counters::RING_RECORDS_MADE.value() {
            return deaths;
        }
        std::thread::sleep(Duration::from_millis(1));
        deaths.extend(drain(records, tracker));
        take_over(kernel);
    }
    tracing::warn!("records were made faster than they could be counted at the end");
    deaths
}

fn drain(records: &mut RingBuf<MapData>, tracker: &mut Tracker) -> Vec<Death> {
    let mut deaths = Vec::new();
    while let Some(bytes) = records.next() {
        counters::RING_RECORDS.increment();
        match decode(&bytes) {
            Ok(record) => deaths.extend(tracker.take(record)),
            Err(error) => {
                counters::DECODE_ERRORS.increment();
                tracing::error!("{error}; the eBPF object and the agent are of different builds");
            }
        }
    }
    deaths
}
