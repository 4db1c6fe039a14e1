//! How a container's memory went before a kill: a leak and a spike look different.

use crate::evidence::{MemorySample, UnixNanos};
use crate::{quantity, words};

/// A rise within this time (milliseconds) is a jump: samples lie a second apart, so it happened between two or three of them.
const JUMP_MS: f64 = 2_500.0;
/// The newest sample may be this old (milliseconds) for the curve to tell how the kill came about.
const FRESH_MS: f64 = 2_500.0;
/// What went before the second half of a rise belongs to it when it was at least this part as fast.
const SLOWER: f64 = 0.2;
/// A rise is steady when no sample lies further than this part of it from the straight line.
const STEADY: f64 = 0.15;
/// From here on (milliseconds) a steady rise is taken for a leak.
const LEAK_MS: f64 = 30_000.0;

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Course {
    /// It rose within moments.
    Jumped { from: u64, to: u64, ms: f64 },
    /// It rose in a straight line.
    Steady { from: u64, to: u64, ms: f64 },
    /// It rose, now faster and now slower.
    Rose { from: u64, to: u64, ms: f64 },
    /// It had been near where it ended.
    Stood { at: u64, ms: f64 },
}

impl Course {
    /// Whether it looks like a leak, which a higher limit only delays.
    pub(crate) fn is_leak(&self) -> bool {
        matches!(self, Self::Steady { ms, .. } if *ms >= LEAK_MS)
    }
}

impl std::fmt::Display for Course {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let about = quantity::about;
        match self {
            Self::Jumped { from, to, ms } => {
                write!(f, "jumped from {} to {} within {}", about(*from), about(*to), words::span(*ms))
            }
            Self::Steady { from, to, ms } => {
                write!(f, "grew steadily from {} to {} in {}", about(*from), about(*to), words::span(*ms))
            }
            Self::Rose { from, to, ms } => {
                write!(f, "rose from {} to {} in {}", about(*from), about(*to), words::span(*ms))
            }
            Self::Stood { at, ms } => write!(f, "had stood at about {} for {}", about(*at), words::span(*ms)),
        }
    }
}

/// How it went up to `end`; `None` when too little was seen to say so.
pub(crate) fn course(samples: &[MemorySample], end: UnixNanos) -> Option<Course> {
    let points: Vec<Point> = samples
        .iter()
        .filter(|sample| sample.time <= end)
        .map(|sample| Point { ms: milliseconds(end.0.saturating_sub(sample.time.0)), bytes: sample.bytes })
        .collect();
    let last = *points.last()?;
    let low = points.iter().map(|point| point.bytes).min()?;
    let rise = last.bytes.saturating_sub(low);
    if points.len() < 2 || last.ms > FRESH_MS {
        return None;
    }
    let near = last.bytes - last.bytes / 10;
    let stood = points.iter().rev().take_while(|point| point.bytes >= near).last()?.ms;
    // The last time that it was low.
    let low_at = points.iter().rposition(|point| point.bytes <= low.saturating_add(rise / 10))?;
    let rising = points.get(low_at)?.ms;
    if low >= near || stood > JUMP_MS && stood * 2.0 > rising {
        return (stood > JUMP_MS).then_some(Course::Stood { at: last.bytes, ms: stood });
    }
    // A third of a long rise in its last moments is a jump of its own.
    let recent = points.iter().rfind(|point| point.ms >= JUMP_MS).unwrap_or(points.first()?);
    let recent_rise = last.bytes.saturating_sub(recent.bytes);
    let at_last = recent_rise.saturating_mul(3) >= rise && rising >= recent.ms * 4.0;
    let phase = phase(&points, if at_last { recent_rise } else { rise })?;
    let begin = points.get(phase)?;
    if begin.ms <= JUMP_MS {
        return Some(Course::Jumped { from: begin.bytes, to: last.bytes, ms: begin.ms });
    }
    let straight = [phase, low_at].into_iter().find(|begin| points.get(*begin..).is_some_and(is_straight));
    Some(match straight.and_then(|begin| points.get(begin)) {
        Some(begin) => Course::Steady { from: begin.bytes, to: last.bytes, ms: begin.ms },
        None => Course::Rose { from: begin.bytes, to: last.bytes, ms: begin.ms },
    })
}

/// Where the rise began that brought the last `rise` bytes: its second half tells how fast it went, and what came before belongs to
/// it as long as that was not much slower.
fn phase(points: &[Point], rise: u64) -> Option<usize> {
    let last = points.last()?;
    let half = points.iter().rposition(|point| point.bytes <= last.bytes.saturating_sub(rise / 2))?;
    let middle = points.get(half)?;
    let least = speed(middle, last) * SLOWER;
    points.iter().take(half).position(|point| speed(point, middle) >= least).or(Some(half))
}

/// Bytes in a millisecond from one sample to another.
#[expect(clippy::cast_precision_loss, reason = "only compared with one another")]
fn speed(from: &Point, to: &Point) -> f64 {
    (to.bytes as f64 - from.bytes as f64) / (from.ms - to.ms).max(f64::MIN_POSITIVE)
}

#[derive(Debug, Clone, Copy)]
struct Point {
    /// Milliseconds before the end.
    ms: f64,
    bytes: u64,
}

#[expect(clippy::cast_precision_loss, reason = "a sixth part of it is what matters")]
fn is_straight(points: &[Point]) -> bool {
    let [first, .., last] = points else { return false };
    let rise = last.bytes as f64 - first.bytes as f64;
    let span = first.ms - last.ms;
    points.len() >= 4
        && points.iter().all(|point| {
            let expected = first.bytes as f64 + rise * (first.ms - point.ms) / span;
            (point.bytes as f64 - expected).abs() <= rise * STEADY
        })
}

#[expect(clippy::cast_precision_loss, reason = "a nanosecond more or less in 2^53 does not matter")]
fn milliseconds(nanoseconds: i64) -> f64 {
    nanoseconds as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEBIBYTE: u64 = 1 << 20;
    const END: i64 = 1_000_000_000_000;

    /// Samples at these milliseconds before the end, in tenths of a mebibyte.
    fn said(samples: &[(i64, u64)]) -> String {
        let samples: Vec<MemorySample> = samples
            .iter()
            .map(|(ms, tenths)| MemorySample {
                time: UnixNanos(END - ms * 1_000_000),
                bytes: tenths * MEBIBYTE / 10,
            })
            .collect();
        course(&samples, UnixNanos(END)).map_or_else(String::new, |course| course.to_string())
    }

    #[test]
    fn a_leak_is_no_spike() {
        let leak: Vec<(i64, u64)> =
            (0..=240_i64).rev().map(|second| (second * 1000, 200 - second.unsigned_abs() / 2)).collect();
        assert_eq!(said(&leak), "grew steadily from 8Mi to 20Mi in 4m0s");
        let mut spike: Vec<(i64, u64)> =
            (1..=240_i64).rev().map(|second| (second * 1000, 120 + second.unsigned_abs() % 3)).collect();
        spike.push((0, 200));
        assert_eq!(said(&spike), "jumped from 12.1Mi to 20Mi within 1.0 s");
        assert_eq!(
            said(&[(300, 9), (280, 40), (260, 90), (0, 200)]),
            "jumped from 0.9Mi to 20Mi within 300 ms".replace("0.9Mi", "921.6Ki")
        );
    }

    #[test]
    fn what_is_neither_is_neither() {
        let steps =
            [(60_000, 20), (50_000, 20), (40_000, 90), (30_000, 90), (20_000, 90), (10_000, 90), (0, 200)];
        assert_eq!(said(&steps), "rose from 9Mi to 20Mi in 10.0 s");
        let cache = [(240_000, 5), (239_000, 190), (200_000, 199), (100_000, 200), (0, 200)];
        assert_eq!(said(&cache), "had stood at about 20Mi for 3m59s");
        let sawtooth =
            [(60_000, 50), (40_000, 180), (39_000, 50), (30_000, 83), (20_000, 120), (10_000, 160), (0, 200)];
        let late =
            [(240_000, 20), (180_000, 45), (120_000, 70), (60_000, 95), (3_000, 118), (1_000, 120), (0, 200)];
        assert_eq!(said(&late), "jumped from 12Mi to 20Mi within 1.0 s");
        let twice = [(1_600, 2), (1_500, 40), (800, 40), (100, 40), (50, 120), (0, 200)];
        assert_eq!(said(&twice), "jumped from 4Mi to 20Mi within 100 ms");
        assert_eq!(said(&sawtooth), "grew steadily from 5Mi to 20Mi in 39.0 s");
    }

    #[test]
    fn too_little_says_nothing() {
        assert_eq!(said(&[]), "");
        assert_eq!(said(&[(0, 200)]), "");
        assert_eq!(said(&[(1000, 200), (0, 200)]), "", "a second is no standing");
        assert_eq!(said(&[(60_000, 20), (50_000, 200)]), "", "nobody knows what came then");
        assert_eq!(said(&[(10, 0), (0, 0)]), "");
    }
}
