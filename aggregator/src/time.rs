//! Times between the wire and nanoseconds, and the one clock read.

use std::time::{SystemTime, UNIX_EPOCH};

use lastwords_diagnosis::evidence::UnixNanos;
use prost_types::Timestamp;

const SECOND: i64 = 1_000_000_000;

/// The time now.
pub fn now() -> UnixNanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixNanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// A wire time in nanoseconds. None before 1970, after 2262, or with nanoseconds out of range.
pub fn from_wire(time: &Timestamp) -> Option<UnixNanos> {
    if time.seconds < 0 || !(0..SECOND).contains(&i64::from(time.nanos)) {
        return None;
    }
    let nanos = time.seconds.checked_mul(SECOND)?.checked_add(i64::from(time.nanos))?;
    Some(UnixNanos(nanos))
}

/// The wire time of it.
pub fn to_wire(time: UnixNanos) -> Timestamp {
    let nanos = i32::try_from(time.0.rem_euclid(SECOND)).unwrap_or(0);
    Timestamp { seconds: time.0.div_euclid(SECOND), nanos }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for nanos in [0, 1, SECOND, 1_763_802_635_123_456_789, i64::MAX] {
            assert_eq!(from_wire(&to_wire(UnixNanos(nanos))), Some(UnixNanos(nanos)));
        }
        for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000), (i64::MAX, 0)] {
            assert_eq!(from_wire(&Timestamp { seconds, nanos }), None);
        }
    }
}
