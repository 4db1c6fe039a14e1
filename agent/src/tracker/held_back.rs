//! Ends that are not whole when they are told of, and are held back for a moment.
//!
//! An OOM kill of a whole group (`memory.oom.group`): the kernel marks one victim after the other and prints a line for each, and the
//! main process, one of them, may have ended before the last is marked. And a thread that called exit_group, which another one of them
//! overtook on its way out. And a kill by the kernel that looks like an OOM kill: the victim gets its SIGKILL first and is marked then
//! (`__oom_kill_process`, mm/oom_kill.c), and on a busy node it may have ended in between.

use super::Tracker;
use crate::{
    assemble::{Death, End},
    decode::{Exited, OomVictim, Recording, SI_KERNEL, Signal},
};

const SIGKILL: i32 = 9;

/// How long for other victims (nanoseconds): a line on a serial console takes some ten milliseconds, and the report waits longer for the
/// log anyway.
const FOR_VICTIMS: u64 = 100_000_000;
/// How long for who called exit_group (nanoseconds). It is on its way and comes for sure, within microseconds unless it lost its processor:
/// a container that has used up its share waits for the next period, 100 ms, or for one after that.
const FOR_THE_CALLER: u64 = 1_000_000_000;

/// The end of a main process that is held back.
pub(super) struct HeldBack {
    pub(super) death: Death,
    pub(super) until: u64,
    /// In whose context the group is killed; None when it is not.
    allocating_tgid: Option<u32>,
}

/// The kill of a whole group that is being made, if there is one: the process in whose context.
pub(super) fn under_way(oom: &[(u64, OomVictim)]) -> Option<u32> {
    let (_, last) = oom.last()?;
    // What the main process does itself it has done before its own end.
    let by_another = oom.iter().all(|(_, it)| !it.is_main || it.tgid != last.allocating_tgid);
    (last.levels.iter().any(|level| level.oom_group) && by_another).then_some(last.allocating_tgid)
}

/// The process in whose context the kernel killed this main process by a SIGKILL of which nothing is known yet.
pub(super) fn unexplained(death: &Death) -> Option<u32> {
    let End::Exited(exited) = &death.end else { return None };
    let is_known = death.oom.iter().any(|(_, victim)| victim.tgid == exited.tgid);
    let mut signals = death.recording.iter().flat_map(|recording| &recording.signals);
    let kill = signals.rfind(|signal| is_kernels_kill(signal, exited.tgid))?;
    (exited.status.signal == SIGKILL && !is_known).then_some(kill.sender_tgid)
}

/// Whether this victim was sent its SIGKILL by the kill that it is marked for: it was on its way out by then, but of nothing else.
pub(super) fn was_killed_just_before(victim: &OomVictim, time: u64, recording: &Recording) -> bool {
    let its = |signal: &Signal| {
        is_kernels_kill(signal, victim.tgid)
            && signal.sender_tgid == victim.allocating_tgid
            && signal.time <= time
            && time - signal.time <= FOR_VICTIMS
    };
    victim.ends_by_sigkill && recording.signals.iter().any(its)
}

fn is_kernels_kill(signal: &Signal, target: u32) -> bool {
    (signal.signal, signal.code, signal.result, signal.target_tgid) == (SIGKILL, SI_KERNEL, 0, target)
}

impl HeldBack {
    pub(super) fn new(death: Death, allocating_tgid: Option<u32>) -> Self {
        let hold = if allocating_tgid.is_some() { FOR_VICTIMS } else { FOR_THE_CALLER };
        Self { until: death.time + hold, death, allocating_tgid }
    }

    /// Takes the thread that began the end out of a repeated record; gives whether nothing more can come.
    pub(super) fn caller_came(&mut self, repeated: &Exited) -> bool {
        if let End::Exited(exited) = &mut self.death.end
            && exited.first_tid == 0
        {
            exited.first_tid = repeated.first_tid;
            exited.waited = repeated.waited;
        }
        repeated.first_tid != 0 && self.allocating_tgid.is_none()
    }

    /// Takes another victim of the same kill. The end of the PID namespace, which kills those that are left, is none (where the kernel
    /// tells of victims by their signals both look alike but for the sender).
    pub(super) fn oom_victim(&mut self, time: u64, victim: OomVictim) {
        let oom = &mut self.death.oom;
        let is_new =
            oom.len() < super::MAX_OOM_KILLS && oom.iter().all(|(_, known)| known.tgid != victim.tgid);
        if is_new && time <= self.until && Some(victim.allocating_tgid) == self.allocating_tgid {
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
    use crate::{
        assemble::tests::death,
        decode::{MemoryLevel, Status},
    };

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
            ends_by_sigkill: false,
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

    fn kernels_kill(time: u64, target_tgid: u32, sender_tgid: u32) -> Signal {
        Signal {
            time,
            signal: SIGKILL,
            code: SI_KERNEL,
            result: 0,
            sender_tgid,
            sender_cgroup: 0,
            sender_container: None,
            sender_comm: Vec::new(),
            sender_parent_comm: Vec::new(),
            target_tgid,
            target_comm: Vec::new(),
            address: 0,
            target_tid: target_tgid,
            place_number: 0,
            place: None,
        }
    }

    #[test]
    fn a_kill_by_the_kernel_waits_for_what_it_was() {
        let killed = |signals: Vec<Signal>| {
            let mut death = death(Status { signal: SIGKILL, ..Status::default() });
            let End::Exited(exited) = &death.end else { panic!("it exited") };
            let main = exited.tgid;
            death.recording = Some(Recording { signals, ..Recording::default() });
            (death, main)
        };
        let (_, main) = killed(Vec::new());
        let (death, _) = killed(vec![kernels_kill(900, main, 77)]);
        assert_eq!(unexplained(&death), Some(77));
        let mut held = HeldBack::new(death, Some(77));
        let (time, marked) = victim(main, true, 77, false);
        held.oom_victim(time, marked);
        assert_eq!(held.death.oom.len(), 1);
        assert_eq!(unexplained(&held.death), None, "it is known now");

        let by_a_person = Signal { code: 0, ..kernels_kill(900, main, 77) };
        for (signals, why) in [
            (vec![by_a_person], "kill(2)"),
            (vec![kernels_kill(900, main + 1, 77)], "another process"),
            (Vec::new(), "nothing was seen"),
        ] {
            assert_eq!(unexplained(&killed(signals).0), None, "{why}");
        }
    }

    #[test]
    fn who_dies_of_the_kill_that_it_is_marked_for_is_its_victim() {
        let (time, mut marked) = victim(5, true, 7, false);
        marked.ends_by_sigkill = true;
        let of = |signal: Signal| {
            let recording = Recording { signals: vec![signal], ..Recording::default() };
            was_killed_just_before(&marked, time, &recording)
        };
        assert!(of(kernels_kill(time - 1, 5, 7)));
        assert!(!of(kernels_kill(time - 1, 5, 8)), "another one's kill");
        assert!(!of(Signal { code: 0, ..kernels_kill(time - 1, 5, 7) }), "a person's");
        assert!(!of(kernels_kill(time + 1, 5, 7)), "later");
        let (_, of_its_own) = victim(5, true, 7, false);
        let recording = Recording { signals: vec![kernels_kill(time - 1, 5, 7)], ..Recording::default() };
        assert!(!was_killed_just_before(&of_its_own, time, &recording), "it left by itself");
    }

    #[test]
    fn the_end_of_the_namespace_is_no_oom_kill() {
        let mut held = HeldBack::new(death(Status::default()), Some(2));
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

    #[test]
    fn a_caller_that_was_overtaken_is_told_of_by_its_own_record() {
        let mut overtaken = death(Status::default());
        let End::Exited(exited) = &mut overtaken.end else { panic!("it exited") };
        exited.first_tid = 0;
        let by = |first_tid: u32| Exited { first_tid, waited: Some(u64::from(first_tid)), ..exited.clone() };
        let (none, caller_of_it, another) = (by(0), by(7), by(8));
        let mut held = HeldBack::new(overtaken, None);
        let caller = |held: &HeldBack| match &held.death.end {
            End::Exited(exited) => (exited.first_tid, exited.waited),
            _ => (0, None),
        };
        assert!(!held.caller_came(&none), "a third one overtook it too");
        assert!(held.caller_came(&caller_of_it));
        assert!(held.caller_came(&another));
        assert_eq!(caller(&held), (7, Some(7)));

        let mut killed = HeldBack::new(death(Status::default()), Some(2));
        assert!(!killed.caller_came(&caller_of_it), "victims may still come");
        assert_eq!(caller(&killed), caller(&HeldBack::new(death(Status::default()), None)), "it was known");
    }
}
