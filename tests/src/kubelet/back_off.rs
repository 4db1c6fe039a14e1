//! The wait between two restarts of a container, as the kubelet computes it.

use std::time::{Duration, SystemTime};

/// Of one container. Nothing waits before the first restart; from then on the wait doubles up to its cap, and begins
/// anew after twice the cap without a crash.
#[derive(Debug, Clone)]
pub(super) struct BackOff {
    initial: Duration,
    cap: Duration,
    entry: Option<(Duration, SystemTime)>,
}

impl BackOff {
    /// A container that has not crashed yet.
    pub(super) fn new(initial: Duration, cap: Duration) -> BackOff {
        BackOff { initial, cap, entry: None }
    }

    /// The wait that still holds at `now` for a container that ended at `finished`, and when it is over.
    pub(super) fn holding(&self, finished: SystemTime, now: SystemTime) -> Option<(Duration, SystemTime)> {
        let (wait, _) = self.entry.filter(|(_, updated)| !self.expired(finished, *updated))?;
        let end = finished + wait;
        (now < end).then_some((wait, end))
    }

    /// To be called when a container that ended at `finished` is started again.
    pub(super) fn restarted(&mut self, finished: SystemTime, now: SystemTime) {
        let wait = match self.entry {
            Some((wait, updated)) if !self.expired(finished, updated) => (wait * 2).min(self.cap),
            _ => self.initial.min(self.cap),
        };
        self.entry = Some((wait, now));
    }

    fn expired(&self, finished: SystemTime, updated: SystemTime) -> bool {
        finished.duration_since(updated).is_ok_and(|quiet| quiet > self.cap * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits before each restart of a container that runs for `life` every time.
    fn waits(life: Duration, restarts: usize) -> Vec<u64> {
        let mut back_off = BackOff::new(Duration::from_secs(10), Duration::from_secs(300));
        let mut now = SystemTime::UNIX_EPOCH;
        (0..restarts)
            .map(|_| {
                let finished = now + life;
                let wait = back_off.holding(finished, finished).map_or(Duration::ZERO, |(wait, _)| wait);
                now = finished + wait;
                back_off.restarted(finished, now);
                wait.as_secs()
            })
            .collect()
    }

    #[test]
    fn the_steps_of_a_real_node() {
        assert_eq!(waits(Duration::from_secs(1), 8), [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn a_quiet_time_of_twice_the_cap_begins_anew() {
        assert_eq!(waits(Duration::from_secs(601), 3), [0, 0, 0]);
        assert_eq!(waits(Duration::from_secs(599), 3), [0, 10, 20]);
    }

    #[test]
    fn a_wait_counts_from_the_end_of_the_container() {
        let mut back_off = BackOff::new(Duration::from_secs(10), Duration::from_secs(300));
        let start = SystemTime::UNIX_EPOCH;
        back_off.restarted(start, start);
        let finished = start + Duration::from_secs(2);
        assert_eq!(
            back_off.holding(finished, finished + Duration::from_secs(9)).unwrap().0,
            Duration::from_secs(10)
        );
        assert_eq!(back_off.holding(finished, finished + Duration::from_secs(10)), None);
    }
}
