//! The clock that batches are timed with. In a machine that counts, it shows instructions.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds. CLOCK_MONOTONIC_RAW is not slewed, so an emulated nanosecond stays an instruction.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC_RAW).map_or(Duration::ZERO, Duration::from);
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
