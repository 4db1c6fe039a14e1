//! What the kernel side counts.

/// Counters of the kernel side, an index into the per-CPU map `COUNTERS`.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Life-cycle records dropped because the ring buffer was full.
    RingFull = 0,
    /// Containers that got no recorder.
    RecordersExhausted = 1,
    /// Control groups that could not be remembered.
    GroupsExhausted = 2,
    /// Failures recorded.
    FailuresRecorded = 3,
    /// Strings that could not be read from the program's memory.
    UnreadableStrings = 4,
    /// Life-cycle records, those that were dropped included: what the agent received and what was dropped add up to it.
    RingRecords = 5,
    /// Listening sockets that could not be remembered.
    ListenersExhausted = 6,
}

/// How many [`Counter`]s there are.
pub const COUNTERS: u32 = 7;
