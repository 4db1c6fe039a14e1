//! Which report goes next on one stream.

use std::collections::BTreeMap;

use lastwords_proto::v1;
use tokio::time::Instant;

use super::back_off::BackOff;
use crate::spool::Spool;

/// Reports that are sent, or put off, but not yet stored, at most. Enough to fill a round trip at any rate that crashes come at,
/// and few enough that what is read into memory stays below a megabyte.
pub(super) const IN_FLIGHT: usize = 64;

/// The state of one stream.
#[derive(Debug)]
pub(super) struct Flow {
    /// All up to this number were sent on this stream, or needed not be.
    sent_up_to: u64,
    /// Sent and not acknowledged, with how often each was put off.
    in_flight: BTreeMap<u64, u32>,
    put_off: BTreeMap<u64, PutOff>,
    back_off: BackOff,
}

#[derive(Debug)]
struct PutOff {
    until: Instant,
    times: u32,
}

impl Flow {
    pub(super) fn new(back_off: BackOff) -> Self {
        Self { sent_up_to: 0, in_flight: BTreeMap::new(), put_off: BTreeMap::new(), back_off }
    }

    /// The next report to send, if one may be sent now.
    pub(super) fn next(&mut self, spool: &Spool, now: Instant) -> Option<v1::CrashReport> {
        while let Some((sequence, times)) = self.first_due(now) {
            self.put_off.remove(&sequence);
            if let Some(report) = spool.get(sequence) {
                self.in_flight.insert(sequence, times);
                return Some(report);
            }
        }
        // What is put off counts too: an aggregator whose store is away gets so many reports, and not the whole spool.
        if self.in_flight.len() + self.put_off.len() >= IN_FLIGHT {
            return None;
        }
        let report = spool.next_after(self.sent_up_to)?;
        self.sent_up_to = report.sequence;
        self.in_flight.insert(report.sequence, 0);
        Some(report)
    }

    /// Notes that a report is done with, stored or rejected.
    pub(super) fn finish(&mut self, sequence: u64) {
        self.in_flight.remove(&sequence);
        self.put_off.remove(&sequence);
    }

    /// Notes that a report is to be sent again later.
    pub(super) fn put_off(&mut self, sequence: u64, now: Instant) {
        if let Some(times) = self.in_flight.remove(&sequence) {
            let until = now + self.back_off.wait(times);
            self.put_off.insert(sequence, PutOff { until, times: times.saturating_add(1) });
        }
    }

    /// When the next report that was put off is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.put_off.values().map(|put_off| put_off.until).min()
    }

    /// True while the aggregator owes an acknowledgement.
    pub(super) fn is_waiting(&self) -> bool {
        !self.in_flight.is_empty()
    }

    fn first_due(&self, now: Instant) -> Option<(u64, u32)> {
        let due = self.put_off.iter().find(|(_, put_off)| put_off.until <= now);
        due.map(|(sequence, put_off)| (*sequence, put_off.times))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn spool_of(reports: usize) -> (tempfile::TempDir, Spool) {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::open(directory.path(), 1 << 20).unwrap();
        for _ in 0..reports {
            spool.append(v1::Crash::default()).unwrap();
        }
        (directory, spool)
    }

    fn flow() -> Flow {
        Flow::new(BackOff::new(Duration::from_secs(1), Duration::from_secs(30)))
    }

    #[test]
    fn sends_each_report_once_and_not_too_many_at_a_time() {
        let (_directory, spool) = spool_of(IN_FLIGHT + 5);
        let (mut flow, now) = (flow(), Instant::now());
        let sent: Vec<u64> =
            std::iter::from_fn(|| flow.next(&spool, now)).map(|report| report.sequence).collect();
        assert_eq!(sent, (1..=IN_FLIGHT as u64).collect::<Vec<_>>());
        assert!(flow.is_waiting());

        spool.acknowledge(7);
        flow.finish(7);
        assert_eq!(flow.next(&spool, now).map(|report| report.sequence), Some(IN_FLIGHT as u64 + 1));
        assert_eq!(flow.next(&spool, now), None);
    }

    #[test]
    fn a_report_put_off_comes_back_and_does_not_hold_up_the_others() {
        let (_directory, spool) = spool_of(3);
        let (mut flow, now) = (flow(), Instant::now());
        assert_eq!(flow.next(&spool, now).unwrap().sequence, 1);
        flow.put_off(1, now);
        assert_eq!(flow.next(&spool, now).unwrap().sequence, 2);
        assert_eq!(flow.next(&spool, now).unwrap().sequence, 3);
        assert_eq!(flow.next(&spool, now), None);

        let due = flow.next_due().unwrap();
        assert!((now + Duration::from_secs(1)..=now + Duration::from_secs(2)).contains(&due));
        assert_eq!(flow.next(&spool, due).unwrap().sequence, 1);
        flow.put_off(1, due);
        assert!(flow.next_due().unwrap() >= due + Duration::from_secs(2), "waits longer the second time");
        spool.acknowledge(1);
        assert_eq!(flow.next(&spool, due + Duration::from_secs(60)), None, "it was stored meanwhile");
    }

    #[test]
    fn an_aggregator_without_its_store_does_not_get_the_whole_spool() {
        let (_directory, spool) = spool_of(3 * IN_FLIGHT);
        let (mut flow, now) = (flow(), Instant::now());
        let mut sent = 0;
        while let Some(report) = flow.next(&spool, now) {
            sent += 1;
            flow.put_off(report.sequence, now);
        }
        assert_eq!(sent, IN_FLIGHT);
    }
}
