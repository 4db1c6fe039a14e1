//! Kubernetes quantities, as far as pods on this node use them.

/// Bytes of a memory quantity such as `64Mi`, `1G` or `1048576`; `None` when it is none.
pub fn bytes(text: &str) -> Option<u64> {
    const UNITS: &[(&str, u64)] = &[
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
    ];
    let (number, unit) = UNITS
        .iter()
        .find_map(|(suffix, unit)| text.strip_suffix(suffix).map(|number| (number, *unit)))
        .unwrap_or((text, 1));
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// Thousandths of a CPU: `500m`, `2`, `0.5`; `None` when it is none.
pub(super) fn millis(text: &str) -> Option<u64> {
    if let Some(number) = text.strip_suffix('m') {
        return number.parse().ok();
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!(bytes("64Mi"), Some(64 << 20));
        assert_eq!(bytes("1G"), Some(1_000_000_000));
        assert_eq!(bytes("123"), Some(123));
        assert_eq!(bytes("lots"), None);
        assert_eq!((millis("500m"), millis("2"), millis("0.25")), (Some(500), Some(2000), Some(250)));
    }
}
