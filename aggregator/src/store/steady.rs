//! Whether the wall clock's word is enough to remove crashes by their age.
//!
//! A clock that is set wrong for a moment, most often at a node's start, would make everything look old and erase it at once. So nothing is
//! removed by age until the clock has gone on evenly for a while, since the start of this program as since each step.

use std::time::Duration;

/// How long: time services mend a wrong clock within minutes.
const STEADY_FOR: Duration = Duration::from_secs(3600);
/// What the wall clock may differ from the even one between two looks: slewing moves both, so more is a step.
const STEP: Duration = Duration::from_secs(10);

/// Follows the clock from look to look. Pure: both clocks are handed in.
#[derive(Debug, Default)]
pub(super) struct Steady {
    /// When it was last begun anew, by the even clock.
    since: Duration,
    /// Both at the last look: wall in nanoseconds since 1970, even since any fixed moment.
    last: Option<(i64, Duration)>,
}

impl Steady {
    /// The time by which ages are to be told; None while nothing is to be removed by its age.
    pub(super) fn now(&mut self, wall: i64, even: Duration) -> Option<i64> {
        let went_on = self.last.is_some_and(|(wall_before, even_before)| {
            let expected = even.saturating_sub(even_before).as_nanos();
            let expected = wall_before.saturating_add(i64::try_from(expected).unwrap_or(i64::MAX));
            u128::from(wall.abs_diff(expected)) <= STEP.as_nanos()
        });
        if !went_on {
            if self.last.is_some() {
                tracing::warn!(
                    "the clock was set: no crash is removed by its age until it has gone on evenly for an hour"
                );
            }
            self.since = even;
        }
        self.last = Some((wall, even));
        (even.saturating_sub(self.since) >= STEADY_FOR).then_some(wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: i64 = 365 * 86_400 * 1_000_000_000;
    const LOOK: u64 = 30;

    /// Looks every half a minute for that many seconds; what the last one gave.
    fn look_on(steady: &mut Steady, wall: &mut i64, even: &mut u64, seconds: u64) -> Option<i64> {
        let mut told = None;
        for _ in 0..seconds / LOOK {
            *wall += 30_000_000_000;
            *even += LOOK;
            told = steady.now(*wall, Duration::from_secs(*even));
        }
        told
    }

    #[test]
    fn a_step_of_the_clock_removes_nothing_for_an_hour() {
        let (mut steady, mut wall, mut even) = (Steady::default(), 50 * YEAR, 7_000);
        assert_eq!(look_on(&mut steady, &mut wall, &mut even, 3600), None);
        assert_eq!(look_on(&mut steady, &mut wall, &mut even, 30), Some(wall));
        // Slewed, and not set.
        wall += 5_000_000_000;
        assert_eq!(look_on(&mut steady, &mut wall, &mut even, 30), Some(wall));
        for step in [YEAR, -YEAR, YEAR] {
            wall += step;
            assert_eq!(look_on(&mut steady, &mut wall, &mut even, 3600), None, "{step}");
            assert_eq!(look_on(&mut steady, &mut wall, &mut even, 60), Some(wall), "{step}");
        }
    }
}
