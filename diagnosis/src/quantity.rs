//! Kubernetes quantities: `64Mi`, `0.5Gi`, `500M`.

/// A suffix and what it multiplies with.
const SUFFIXES: [(&str, f64); 12] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("m", 0.001),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("", 1.0),
];

/// The bytes that a quantity as written in a pod spec stands for. `None` when it is not one.
pub fn parse_quantity(written: &str) -> Option<u64> {
    let written = written.trim();
    let (number, factor) = SUFFIXES
        .iter()
        .find_map(|(suffix, factor)| written.strip_suffix(suffix).map(|number| (number, *factor)))?;
    let bytes = number.parse::<f64>().ok()? * factor;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to lie in the range of u64"
    )]
    (bytes.is_finite() && (0.0..1.8e19).contains(&bytes)).then_some(bytes as u64)
}

/// Bytes exactly, in the largest binary unit that leaves no fraction: 20971520 is `20Mi`.
pub fn binary_quantity(bytes: u64) -> String {
    let units = [(1_u64 << 50, "Pi"), (1 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
    units
        .iter()
        .find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit))
        .map_or_else(|| bytes.to_string(), |(unit, suffix)| format!("{}{suffix}", bytes / unit))
}

/// Bytes for reading, with one decimal: `19.2Mi`, `812Ki`.
pub fn about(bytes: u64) -> String {
    let units = [(1_u64 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        None => format!("{bytes} bytes"),
        Some((unit, suffix)) => {
            let tenths = (u128::from(bytes) * 10 + u128::from(*unit) / 2) / u128::from(*unit);
            if tenths % 10 == 0 {
                format!("{}{suffix}", tenths / 10)
            } else {
                format!("{}.{}{suffix}", tenths / 10, tenths % 10)
            }
        }
    }
}

/// True when the kernel's limit is the written one: the kernel rounds down to whole pages, which are 64 KiB at most.
pub(crate) fn same_limit(written: &str, limit_bytes: u64) -> bool {
    const LARGEST_PAGE: u64 = 65_536;
    parse_quantity(written).is_some_and(|bytes| bytes >= limit_bytes && bytes - limit_bytes < LARGEST_PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_does() {
        for (written, bytes) in [
            ("64Mi", Some(67_108_864)),
            ("0.5Gi", Some(536_870_912)),
            ("100M", Some(100_000_000)),
            ("1e8", Some(100_000_000)),
            ("128974848", Some(128_974_848)),
            ("128974848000m", Some(128_974_848)),
            ("100k", Some(100_000)),
            ("", None),
            ("64MiB", None),
            ("-1", None),
            ("lots", None),
        ] {
            assert_eq!(parse_quantity(written), bytes, "{written}");
        }
    }

    #[test]
    fn bytes_are_written_exactly_or_about() {
        assert_eq!(binary_quantity(20 << 20), "20Mi");
        assert_eq!(binary_quantity(99_999_744), "97656Ki");
        assert_eq!(binary_quantity(1 << 30), "1Gi");
        assert_eq!(binary_quantity(1000), "1000");
        assert_eq!(binary_quantity(0), "0");
        assert_eq!(about(20_132_659), "19.2Mi");
        assert_eq!(about(20 << 20), "20Mi");
        assert_eq!(about(512), "512 bytes");
        assert_eq!(about(u64::MAX), "16777216Ti");
    }

    #[test]
    fn a_limit_cut_to_whole_pages_is_still_the_written_one() {
        assert!(same_limit("100M", 99_999_744));
        assert!(same_limit("64Mi", 64 << 20));
        assert!(!same_limit("64Mi", 32 << 20));
        assert!(!same_limit("64Mi", 128 << 20));
        assert!(!same_limit("", 64 << 20));
    }
}
