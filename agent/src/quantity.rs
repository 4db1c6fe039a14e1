//! Quantities and durations as people type them.

use std::time::Duration;

use lastwords_diagnosis::parse_quantity;

/// Reads bytes as Kubernetes writes them: `20Mi`, `1Gi`, `500M`, `1048576`.
///
/// # Errors
/// A sentence for the user when it is none.
pub fn bytes(text: &str) -> Result<u64, String> {
    parse_quantity(text)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| format!("{text:?} is no quantity of memory; write for example 20Mi or 1Gi"))
}

/// Reads processors as Kubernetes writes them, in thousandths: `100m`, `2`, `0.5`.
///
/// # Errors
/// A sentence for the user when it is none, or less than 10m: the kernel gives no less than a millisecond in each 100.
pub fn processors(text: &str) -> Result<u64, String> {
    const LEAST: u64 = 10;
    let thousandths = match (text.strip_suffix('m'), text.split_once('.')) {
        (Some(number), _) => number.parse().ok(),
        (None, Some((whole, part))) if (1..=3).contains(&part.len()) => {
            format!("{whole}{part:0<3}").parse().ok().filter(|_| !whole.is_empty())
        }
        (None, Some(_)) => None,
        (None, None) => text.parse::<u64>().ok().and_then(|number| number.checked_mul(1_000)),
    };
    thousandths.filter(|number| *number >= LEAST).ok_or_else(|| {
        format!("{text:?} is no quantity of processors of at least 10m; write for example 100m or 2")
    })
}

/// Reads a duration: `300ms`, `3s`, `2m`, `1h`; a bare number is seconds.
///
/// # Errors
/// A sentence for the user when it is none.
pub fn duration(text: &str) -> Result<Duration, String> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let milliseconds = match unit {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(milliseconds))
        .filter(|milliseconds| *milliseconds > 0)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is no duration; write for example 500ms, 3s or 2m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_type() {
        assert_eq!(bytes("20Mi"), Ok(20 << 20));
        assert_eq!(bytes("500M"), Ok(500_000_000));
        assert_eq!(bytes("4096"), Ok(4096));
        for wrong in ["", "Mi", "-1Mi", "20 Mi", "20MB", "0", "99999999999Ti"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(processors("100m"), Ok(100));
        assert_eq!(processors("2"), Ok(2_000));
        assert_eq!(processors("0.5"), Ok(500));
        for wrong in ["", "m", "9m", "0", "-1", "1,5", ".5", "0.0001", "1e3", "99999999999999999999"] {
            assert!(processors(wrong).is_err(), "{wrong}");
        }
        assert_eq!(duration("3s"), Ok(Duration::from_secs(3)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("60"), Ok(Duration::from_secs(60)));
        for wrong in ["", "s", "3 s", "1d", "0s", "1.5s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
