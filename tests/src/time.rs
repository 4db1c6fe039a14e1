//! Times as Kubernetes writes them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

/// `metav1.Time`: whole seconds, UTC, for example `2026-11-22T09:10:33Z`.
pub fn seconds(time: SystemTime) -> String {
    let mut timestamp = Timestamp::from(time);
    timestamp.nanos = 0;
    timestamp.to_string()
}

/// `metav1.MicroTime`: always six decimals, as the scheduler's `eventTime` has them.
pub fn microseconds(time: SystemTime) -> String {
    let micros = since_epoch(time).subsec_micros();
    format!("{}.{micros:06}Z", seconds(time).trim_end_matches('Z'))
}

/// The nine decimals of a line in a CRI log.
pub fn nanoseconds(time: SystemTime) -> String {
    let nanos = since_epoch(time).subsec_nanos();
    format!("{}.{nanos:09}Z", seconds(time).trim_end_matches('Z'))
}

/// Reads any of the above; `None` when the text is not a time.
pub fn parse(text: &str) -> Option<SystemTime> {
    // A shorter text cannot be a full date and time; this keeps plain words from reaching the parser.
    if text.len() < 20 || !text.ends_with('Z') {
        return None;
    }
    let timestamp: Timestamp = text.parse().ok()?;
    SystemTime::try_from(timestamp).ok()
}

/// A duration as Go prints it, the form inside `back-off 1m20s restarting failed container`.
pub fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let rest = millis % 60_000;
    let seconds = if rest.is_multiple_of(1000) {
        format!("{}s", rest / 1000)
    } else {
        format!("{}.{}s", rest / 1000, format!("{:03}", rest % 1000).trim_end_matches('0'))
    };
    match (hours, minutes) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

/// An age as kubectl's tables print it: `45s`, `3m12s`, `4h5m`, `2d3h`.
pub fn human_age(age: Duration) -> String {
    let seconds = age.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let with_rest = |whole: u64, unit: char, rest: u64, rest_unit: char| {
        if rest == 0 { format!("{whole}{unit}") } else { format!("{whole}{unit}{rest}{rest_unit}") }
    };
    if seconds < 120 {
        format!("{seconds}s")
    } else if minutes < 10 {
        with_rest(minutes, 'm', seconds % 60, 's')
    } else if minutes < 180 {
        format!("{minutes}m")
    } else if hours < 8 {
        with_rest(hours, 'h', minutes % 60, 'm')
    } else if hours < 48 {
        format!("{hours}h")
    } else if days < 8 {
        with_rest(days, 'd', hours % 24, 'h')
    } else {
        format!("{days}d")
    }
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_prints_them() {
        for (millis, text) in [
            (10_000, "10s"),
            (80_000, "1m20s"),
            (300_000, "5m0s"),
            (250, "250ms"),
            (1_500, "1.5s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn ages_read_as_kubectl_prints_them() {
        for (age, text) in [(45, "45s"), (192, "3m12s"), (600, "10m"), (14_700, "4h5m"), (183_600, "2d3h")] {
            assert_eq!(human_age(Duration::from_secs(age)), text);
        }
    }

    #[test]
    fn every_form_is_read_back() {
        let time = UNIX_EPOCH + Duration::new(1_795_338_633, 123_456_789);
        assert_eq!(seconds(time), "2026-11-22T09:10:33Z");
        assert_eq!(nanoseconds(time), "2026-11-22T09:10:33.123456789Z");
        assert_eq!(microseconds(time), "2026-11-22T09:10:33.123456Z");
        assert_eq!(parse(&nanoseconds(time)), Some(time));
        assert_eq!(parse("back-off 10s restarting failed"), None);
    }
}
