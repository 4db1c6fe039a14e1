//! The kernel's clocks → the wall clock. Kernel records carry `bpf_ktime_get_ns` (CLOCK_MONOTONIC) or, as process start times do,
//! CLOCK_BOOTTIME, which also counts time asleep.

use lastwords_diagnosis::evidence::UnixNanos;
use nix::time::{ClockId, clock_gettime};

/// How far the wall clock is ahead of the kernel's clocks at one moment. Measure it when it is used and not once at start: a
/// wall clock that is stepped later then moves only what is recorded later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockOffsets {
    monotonic: i64,
    boot_time: i64,
}

impl ClockOffsets {
    /// Reads the clocks, one right after the other; the error is the time between two reads, well under a microsecond unless
    /// this thread is interrupted between them.
    #[must_use]
    pub fn measure() -> Self {
        let wall = nanoseconds(ClockId::CLOCK_REALTIME);
        Self {
            monotonic: wall.saturating_sub(nanoseconds(ClockId::CLOCK_MONOTONIC)),
            boot_time: wall.saturating_sub(nanoseconds(ClockId::CLOCK_BOOTTIME)),
        }
    }

    /// The wall-clock time of a CLOCK_MONOTONIC reading in nanoseconds, as `bpf_ktime_get_ns` gives it.
    #[must_use]
    pub fn from_monotonic(self, nanoseconds: u64) -> UnixNanos {
        UnixNanos(i64::try_from(nanoseconds).unwrap_or(i64::MAX).saturating_add(self.monotonic))
    }

    /// The wall-clock time of a CLOCK_BOOTTIME reading in nanoseconds, as `task_struct.start_boottime` holds it.
    #[must_use]
    pub fn from_boot_time(self, nanoseconds: u64) -> UnixNanos {
        UnixNanos(i64::try_from(nanoseconds).unwrap_or(i64::MAX).saturating_add(self.boot_time))
    }
}

/// The wall-clock time now.
#[must_use]
pub fn now() -> UnixNanos {
    UnixNanos(nanoseconds(ClockId::CLOCK_REALTIME))
}

/// CLOCK_MONOTONIC now, in nanoseconds: what `bpf_ktime_get_ns` would return.
#[must_use]
pub fn monotonic_now() -> u64 {
    u64::try_from(nanoseconds(ClockId::CLOCK_MONOTONIC)).unwrap_or(0)
}

/// A clock in nanoseconds. The three clocks used here exist on every kernel since 2.6.39, so reading them does not fail; 0 if it
/// did would show as a time in 1970 rather than end the agent.
fn nanoseconds(clock: ClockId) -> i64 {
    clock_gettime(clock)
        .map_or(0, |time| time.tv_sec().saturating_mul(1_000_000_000).saturating_add(time.tv_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_times_become_wall_clock_times() {
        let offsets = ClockOffsets { monotonic: 1_000, boot_time: 400 };
        assert_eq!(offsets.from_monotonic(5), UnixNanos(1_005));
        assert_eq!(offsets.from_boot_time(5), UnixNanos(405));
        assert_eq!(offsets.from_monotonic(u64::MAX), UnixNanos(i64::MAX));
    }

    #[test]
    fn a_reading_taken_now_lies_between_two_looks_at_the_wall_clock() {
        let before = now();
        let reading = monotonic_now();
        let converted = ClockOffsets::measure().from_monotonic(reading);
        let after = now();
        let slack = 5_000_000;
        assert!(converted.0 >= before.0 - slack && converted.0 <= after.0 + slack);
    }
}
