//! The memory curve on one line.

use lastwords_diagnosis::{about, span};
use lastwords_proto::v1::Crash;
use prost_types::Timestamp;

use crate::time::milliseconds_between;

/// Columns of the curve.
const COLUMNS: u32 = 40;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// `▁▂▄▆█ 1.2Mi 4m0s before the end, at most 20Mi, 20Mi at the last look`, for an end that may come of it.
pub(crate) fn curve(crash: &Crash) -> Option<String> {
    if crash.exit.as_ref().is_some_and(|exit| exit.signal == 0 && exit.code == 0) {
        return None;
    }
    let end = crash.observed_at.as_ref()?;
    let samples: Vec<(&Timestamp, u64)> =
        crash.memory.iter().filter_map(|sample| Some((sample.time.as_ref()?, sample.bytes))).collect();
    let [(began, first), .., (seen, last)] = samples.as_slice() else { return None };
    let most = samples.iter().map(|(_, bytes)| *bytes).max()?;
    let whole = milliseconds_between(began, seen);
    let at = |column: u32| {
        let until = whole * f64::from(column) / f64::from(COLUMNS - 1);
        let before = samples.iter().rev().find(|(time, _)| milliseconds_between(began, time) <= until);
        before.map_or(*first, |(_, bytes)| *bytes)
    };
    let bars: String = (0..COLUMNS).map(|column| bar(at(column), most)).collect();
    let peak = if most > *last { format!("at most {}, ", about(most)) } else { String::new() };
    Some(format!(
        "{bars} {} {} before the end, {peak}{} {} before it",
        about(*first),
        span(milliseconds_between(began, end)),
        about(*last),
        span(milliseconds_between(seen, end))
    ))
}

/// From the lowest for nothing to the highest for `most`.
fn bar(bytes: u64, most: u64) -> char {
    let index = u128::from(bytes) * (BARS.len() as u128 - 1) / u128::from(most.max(1));
    usize::try_from(index).ok().and_then(|index| BARS.get(index)).copied().unwrap_or('█')
}
