//! An OOM kill of a whole group (`memory.oom.group`): the kernel marks one victim after the other and prints a line for each, and the
//! main process, one of them, may have ended before the last is marked. Its end is held back for that moment.

use super::Tracker;
use crate::{assemble::Death, decode::OomVictim};

/// How long (nanoseconds): a line on a serial console takes some ten milliseconds, and the report waits longer for the log anyway.
const HOLD: u64 = 100_000_000;

/// The end of a main process that is held back.
pub(super) struct HeldBack {
    pub(super) death: Death,
    pub(super) until: u64,
    /// In whose context the group is killed.
    allocating_tgid: u32,
}

/// The kill of a whole group that is being made, if there is one: the process in whose context.
pub(super) fn under_way(oom: &[(u64, OomVictim)]) -> Option<u32> {
    let (_, last) = oom.last()?;
    // What the main process does itself it has done before its own end.
    let by_another = oom.iter().all(|(_, it)| !it.is_main || it.tgid != last.allocating_tgid);
    (last.levels.iter().any(|level| level.oom_group) && by_another).then_some(last.allocating_tgid)
}

impl HeldBack {
    pub(super) fn new(death: Death, allocating_tgid: u32) -> Self {
        Self { until: death.time + HOLD, death, allocating_tgid }
    }

    /// Takes another victim of the same kill. The end of the PID namespace, which kills those that are left, is none (where the kernel
    /// tells of victims by their signals both look alike but for the sender).
    pub(super) fn oom_victim(&mut self, time: u64, victim: OomVictim) {
        let oom = &mut self.death.oom;
        let is_new =
            oom.len() < super::MAX_OOM_KILLS && oom.iter().all(|(_, known)| known.tgid != victim.tgid);
        if is_new && time <= self.until && victim.allocating_tgid == self.allocating_tgid {
            oom.push((time, victim));
        }
    }
}

impl Tracker {
    /// The deaths that were held back until now.
    pub fn held_back(&mut self, now: u64) -> Vec<Death> {
        let held = self.containers.values_mut().map(|tracked| &mut tracked.held_back);
        let due = held.filter_map(|held| held.take_if(|held| held.until <= now));
        due.map(|held| held.death).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{MemoryLevel, Status};

    fn victim(tgid: u32, is_main: bool, allocating_tgid: u32, oom_group: bool) -> (u64, OomVictim) {
        let level =
            MemoryLevel { usage_pages: 1, limit_pages: 1, oom_events: 1, oom_group, id: 1, name: Vec::new() };
        let victim = OomVictim {
            tgid,
            comm: Vec::new(),
            is_main,
            oom_score_adj: 0,
            allocating_tgid,
            allocating_comm: Vec::new(),
            total_vm_pages: 0,
            anon_pages: 0,
            file_pages: 0,
            shmem_pages: 0,
            page_tables_bytes: 0,
            already_exiting: false,
            owner: None,
            levels: vec![level],
        };
        (1_000, victim)
    }

    #[test]
    fn only_a_kill_of_a_group_by_another_process_may_go_on() {
        assert_eq!(under_way(&[]), None);
        assert_eq!(under_way(&[victim(2, false, 2, false)]), None);
        assert_eq!(under_way(&[victim(2, false, 2, true), victim(1, true, 2, true)]), Some(2));
        assert_eq!(
            under_way(&[victim(2, false, 1, true), victim(1, true, 1, true)]),
            None,
            "it asked itself"
        );
    }

    #[test]
    fn the_end_of_the_namespace_is_no_oom_kill() {
        let mut held = HeldBack::new(crate::assemble::tests::death(Status::default()), 2);
        let (late, until) = (held.death.time + 5, held.until);
        for (time, (_, victim)) in [
            (late, victim(3, false, 2, true)),
            (late, victim(3, false, 2, true)),
            (late, victim(4, false, 1, true)),
            (until + 1, victim(5, false, 2, true)),
        ] {
            held.oom_victim(time, victim);
        }
        let taken: Vec<u32> = held.death.oom.iter().map(|(_, victim)| victim.tgid).collect();
        assert_eq!(taken, [3], "once; not what the dying main process sends, and not another kill");
    }
}
