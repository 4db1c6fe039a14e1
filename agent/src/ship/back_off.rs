//! How long to wait before trying again.

use std::time::Duration;

/// Waits that double from try to try up to a limit, each a random part between half and all of it, so that the agents of a
/// cluster do not come back all at once.
#[derive(Debug, Clone)]
pub(super) struct BackOff {
    shortest: Duration,
    longest: Duration,
}

impl BackOff {
    /// The first wait is `shortest` to twice that, none is longer than `longest`.
    pub(super) fn new(shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest: longest.max(shortest) }
    }

    /// The wait after so many tries that failed before, 0 for the first.
    pub(super) fn wait(&self, failed_before: u32) -> Duration {
        // Where there are no random numbers the waits are merely equal.
        self.between(failed_before, getrandom::u32().unwrap_or(u32::MAX))
    }

    fn between(&self, failed_before: u32, random: u32) -> Duration {
        let doubled = self.shortest.saturating_mul(2_u32.saturating_pow(failed_before.saturating_add(1)));
        let longest = doubled.min(self.longest);
        longest.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX)).max(self.shortest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_between_its_bounds() {
        let back_off = BackOff::new(Duration::from_secs(1), Duration::from_secs(30));
        let range =
            |failed| (back_off.between(failed, 0).as_secs(), back_off.between(failed, u32::MAX).as_secs());
        assert_eq!([range(0), range(1), range(2), range(3)], [(1, 2), (2, 4), (4, 8), (8, 16)]);
        assert_eq!([range(4), range(5), range(40), range(u32::MAX)], [(15, 30); 4]);
        for failed in 0..50 {
            assert!((Duration::from_secs(1)..=Duration::from_secs(30)).contains(&back_off.wait(failed)));
        }
    }
}
