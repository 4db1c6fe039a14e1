//! Moments and spans for people.

use prost_types::Timestamp;

/// Whole seconds from `earlier` to `later`; negative when it is the other way round.
pub(crate) fn seconds_between(earlier: &Timestamp, later: &Timestamp) -> i64 {
    later.seconds.saturating_sub(earlier.seconds)
}

/// Milliseconds from `earlier` to `later`.
pub(crate) fn milliseconds_between(earlier: &Timestamp, later: &Timestamp) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    let seconds = later.seconds.saturating_sub(earlier.seconds) as f64;
    seconds * 1000.0 + f64::from(later.nanos.saturating_sub(earlier.nanos)) / 1e6
}

/// `45s`, `1m20s`, `3h20m`, `2d4h`.
pub(crate) fn duration(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let two = |first: i64, unit: &str, second: i64, smaller: &str| {
        if second == 0 { format!("{first}{unit}") } else { format!("{first}{unit}{second}{smaller}") }
    };
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => two(minutes, "m", seconds % 60, "s"),
        3_600..86_400 => two(hours, "h", minutes, "m"),
        _ => two(days, "d", hours, "h"),
    }
}

/// `2026-11-22 13:16:05Z`.
pub(crate) fn moment(timestamp: &Timestamp) -> String {
    let whole = Timestamp { seconds: timestamp.seconds, nanos: 0 };
    whole.to_string().replacen('T', " ", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_at_most_two_parts() {
        for (seconds, text) in [
            (-5, "0s"),
            (45, "45s"),
            (60, "1m"),
            (80, "1m20s"),
            (300, "5m"),
            (12_000, "3h20m"),
            (187_200, "2d4h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn moments_are_utc() {
        assert_eq!(moment(&Timestamp { seconds: 1_795_353_365, nanos: 5 }), "2026-11-22 13:16:05Z");
    }
}
