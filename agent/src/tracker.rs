//! The containers of this node, from the making of their group to its removal: puts the kernel's records together into deaths.

mod adopt;
mod held_back;
mod ports;
mod sandbox;
mod sweep;

use std::{collections::HashMap, time::Duration};

use lastwords_agent_common::limits::NOTICES;

use crate::{
    assemble::{Caller, Death, End, against, tell_thread},
    config::HEALTHY_AFTER,
    container::ContainerRef,
    counters,
    decode::{Event, Executed, Exited, OomVictim, Record, Recording, Refused, place, recording},
    enrich::{cgroup::ControlGroups, procfs::HostProc},
    kernel::{FaultMap, GroupMap, RecorderMap, syscalls},
    listeners::Listeners,
    look::{Looker, Purpose},
    looked::{Looked, PortFacts},
    memory::MemoryCurves,
};

use held_back::HeldBack;
use sandbox::Role;

/// Programs of a main process that are kept; an entrypoint that executes itself for ever must not grow without bound.
const MAX_EXECS: usize = 16;
/// OOM kills of one container that are kept.
const MAX_OOM_KILLS: usize = 32;
/// After an OOM kill of another process the main one usually ends within milliseconds; if it still lives after this time the kill
/// is reported by itself.
const SURVIVED_AFTER: u64 = 2_000_000_000;

/// One container.
struct Tracked {
    container: ContainerRef,
    role: Role,
    recorder: u32,
    adopted: bool,
    execs: Vec<(u64, Executed)>,
    oom: Vec<(u64, OomVictim)>,
    /// Who held the ports that it could not have.
    ports: Vec<PortFacts>,
    callers: Vec<Caller>,
    /// When the kill that the container may survive is reported.
    survived_at: Option<u64>,
    /// When what failed in it, and did not end it, is told.
    healthy_at: Option<u64>,
    ended: bool,
    /// The kernel's count of dropped records when it was made: what is counted beyond it may have been its own.
    dropped_before: u64,
    /// Its end, while there may still be more to tell of it.
    held_back: Option<HeldBack>,
}

/// All of them.
pub struct Tracker {
    containers: HashMap<u64, Tracked>,
    recorders: RecorderMap,
    faults: FaultMap,
    groups: GroupMap,
    looker: Looker,
    control_groups: ControlGroups,
    memory: MemoryCurves,
    listeners: Listeners,
    processes: Option<HostProc>,
    /// From its first program to the look at what a container has done without, in nanoseconds.
    healthy_after: u64,
    /// After records were dropped: when to look for containers that are gone without a word.
    sweep_at: Option<u64>,
    /// Recorders in use by nobody known, as the last sweep found them.
    strays: Vec<(u32, u64)>,
    /// The kernel's count of dropped records.
    ring_records_dropped: u64,
}

impl Tracker {
    /// Knows no container yet.
    #[must_use]
    pub fn new(
        recorders: RecorderMap,
        faults: FaultMap,
        groups: GroupMap,
        looker: Looker,
        control_groups: ControlGroups,
        memory: MemoryCurves,
        listeners: Listeners,
    ) -> Self {
        Self {
            containers: HashMap::new(),
            recorders,
            faults,
            groups,
            looker,
            control_groups,
            memory,
            listeners,
            processes: None,
            healthy_after: u64::try_from(HEALTHY_AFTER.as_nanos()).unwrap_or(u64::MAX),
            sweep_at: None,
            strays: Vec::new(),
            ring_records_dropped: 0,
        }
    }

    /// Looks at containers that run well after this time, and not after a minute.
    #[must_use]
    pub fn with_healthy_after(mut self, time: Duration) -> Self {
        self.healthy_after = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self
    }

    /// How many containers are being watched.
    #[must_use]
    pub fn watched(&self) -> usize {
        self.containers.len()
    }

    /// Takes one record; gives the death that it completes.
    pub fn take(&mut self, record: Record) -> Option<Death> {
        let Record { time, cgroup_id, recorder, event } = record;
        match event {
            Event::Made { path } => {
                self.made(cgroup_id, recorder, &path);
                None
            }
            Event::Gone => self.gone(cgroup_id, time),
            Event::Executed(executed) => {
                self.executed(cgroup_id, time, executed);
                None
            }
            Event::Exited(exited) => self.exited(cgroup_id, time, exited),
            Event::OomVictim(victim) => {
                self.oom_victim(cgroup_id, time, victim);
                None
            }
            Event::Refused(refused) => {
                self.refused(cgroup_id, refused);
                None
            }
            Event::PortTaken(taken) => {
                self.port_taken(cgroup_id, taken);
                None
            }
            Event::LockHeld(held) => {
                if self.containers.contains_key(&cgroup_id) {
                    self.looker.lock_held(cgroup_id, held);
                }
                None
            }
        }
    }

    /// How long until [`Tracker::tick`] has something to do; None when nothing is waiting.
    #[must_use]
    pub fn due_in(&self, now: u64) -> Option<Duration> {
        let own = |tracked: &Tracked| {
            [tracked.survived_at, tracked.healthy_at, tracked.held_back.as_ref().map(|held| held.until)]
        };
        let next = self.containers.values().flat_map(own).flatten().chain(self.sweep_at).min()?;
        Some(Duration::from_nanos(next.saturating_sub(now)))
    }

    /// Takes the kernel's count of records lost on the node so far, read after `completed` were: what was lost until then may have been
    /// of these, and of those that are held back, as well as of all that live.
    pub fn note_dropped(&mut self, now: u64, dropped: u64, completed: &mut [Death]) {
        let more = dropped.saturating_sub(self.ring_records_dropped);
        if more == 0 {
            return;
        }
        self.ring_records_dropped = dropped;
        self.sweep_at = Some(now + sweep::AFTER);
        let held = self.containers.values_mut().filter_map(|tracked| tracked.held_back.as_mut());
        for death in held.map(|held| &mut held.death).chain(completed) {
            death.ring_records_dropped += more;
        }
    }

    /// Reports OOM kills that their containers survived, and containers whose end was lost.
    pub fn tick(&mut self, now: u64) -> Vec<Death> {
        let mut deaths = self.survived(now);
        deaths.extend(self.held_back(now));
        deaths.extend(self.healthy(now));
        if self.sweep_at.is_some_and(|at| at <= now) {
            self.sweep_at = None;
            deaths.extend(self.sweep(now));
        }
        deaths
    }

    fn survived(&mut self, now: u64) -> Vec<Death> {
        let due = |tracked: &Tracked| tracked.survived_at.is_some_and(|at| at <= now);
        let due: Vec<u64> = self.containers.iter().filter(|(_, it)| due(it)).map(|(id, _)| *id).collect();
        due.into_iter()
            .filter_map(|cgroup_id| {
                let at = self.containers.get_mut(&cgroup_id)?.survived_at.take()?;
                self.death(cgroup_id, at, End::Survived)
            })
            .collect()
    }

    /// Containers that have been up for a while and have done without something.
    fn healthy(&mut self, now: u64) -> Vec<Death> {
        let due = |tracked: &Tracked| tracked.healthy_at.is_some_and(|at| at <= now);
        let due: Vec<u64> = self.containers.iter().filter(|(_, it)| due(it)).map(|(id, _)| *id).collect();
        due.into_iter()
            .filter_map(|cgroup_id| {
                let at = self.containers.get_mut(&cgroup_id)?.healthy_at.take()?;
                self.death(cgroup_id, at, End::RunsWell)
            })
            .collect()
    }

    fn made(&mut self, cgroup_id: u64, recorder: u32, path: &str) {
        let container = self.control_groups.from_kernel(path, cgroup_id).and_then(|path| {
            ContainerRef::from_cgroup_path(path).filter(|container| container.cgroup_path == path)
        });
        let Some(container) = container else {
            self.stop_watching(cgroup_id, recorder);
            return;
        };
        let tracked = Tracked::new(container, recorder, false, self.ring_records_dropped);
        self.containers.insert(cgroup_id, tracked);
    }

    fn executed(&mut self, cgroup_id: u64, time: u64, executed: Executed) {
        let Some(tracked) = self.containers.get(&cgroup_id) else { return };
        // What goes on to execute something else holds no namespaces.
        let role = if executed.first || tracked.role == Role::Unclear {
            self.role(&executed, !tracked.container.pod_uid.is_empty())
        } else {
            tracked.role
        };
        if role == Role::Sandbox {
            let recorder = tracked.recorder;
            self.containers.remove(&cgroup_id);
            self.stop_watching(cgroup_id, recorder);
            return;
        }
        let Some(tracked) = self.containers.get_mut(&cgroup_id) else { return };
        tracked.role = role;
        if role == Role::Unclear {
            // There is one for each pod on such a node: no more is kept of it.
            tracked.execs = vec![(time, executed)];
            return;
        }
        if tracked.execs.is_empty() {
            tracked.healthy_at = Some(time + self.healthy_after);
        }
        self.memory.follow(cgroup_id, &tracked.container.cgroup_path);
        self.looker.executed(cgroup_id, executed.tgid, &tracked.container.cgroup_path);
        if tracked.execs.len() == MAX_EXECS {
            // The first tells what was started and the last what ran: those in the middle can go.
            tracked.execs.remove(1);
            counters::EXECS_DROPPED.increment();
        }
        tracked.execs.push((time, executed));
    }

    fn refused(&mut self, cgroup_id: u64, refused: Refused) {
        let Some(tracked) = self.containers.get_mut(&cgroup_id) else { return };
        let Refused { tgid, directory, syscall, failed_at, tid, groups, path } = refused;
        // As many as the kernel side tells of.
        if tracked.callers.len() < NOTICES as usize {
            tracked.callers.push(Caller { failed_at, tid, groups });
        }
        let purpose = if syscalls::executes(syscall) { Purpose::Execution } else { Purpose::Use };
        // A command that cannot be executed ends at once and leaves no root to look through; a tried one's files are ours.
        let is_ours = tracked.execs.is_empty() && tracked.container.runtime == "lastwords-try";
        let tgid = if is_ours { std::process::id() } else { tgid };
        if let Some(absolute) = against(&path, directory.as_deref()) {
            self.looker.refused(cgroup_id, tgid, path, &absolute, purpose);
        }
    }

    fn oom_victim(&mut self, cgroup_id: u64, time: u64, mut victim: OomVictim) {
        let Some(tracked) = self.containers.get(&cgroup_id) else { return };
        if victim.already_exiting {
            let recording = self.recorders.read(tracked.recorder, cgroup_id).map(|it| recording(&it));
            let was_killed = |it| held_back::was_killed_just_before(&victim, time, &it);
            victim.already_exiting = !recording.is_some_and(was_killed);
        }
        let Some(tracked) = self.containers.get_mut(&cgroup_id) else { return };
        if let Some(held) = &mut tracked.held_back {
            held.oom_victim(time, victim);
            return;
        }
        // A group kill sends its first victim the signal twice.
        if tracked.ended || tracked.oom.iter().any(|(_, known)| known.tgid == victim.tgid) {
            return;
        }
        if !victim.is_main && !victim.already_exiting {
            tracked.survived_at.get_or_insert(time + SURVIVED_AFTER);
        }
        if tracked.oom.len() == MAX_OOM_KILLS {
            tracked.oom.remove(0);
            counters::OOM_KILLS_DROPPED.increment();
        }
        tracked.oom.push((time, victim));
    }

    fn exited(&mut self, cgroup_id: u64, time: u64, exited: Exited) -> Option<Death> {
        let tracked = self.containers.get_mut(&cgroup_id)?;
        if tracked.ended {
            // Two last threads can both see themselves as the last (agent-ebpf, probe/exit.rs).
            let held = tracked.held_back.take_if(|held| held.caller_came(&exited));
            return held.map(|held| held.death);
        }
        tracked.ended = true;
        tracked.survived_at = None;
        tracked.healthy_at = None;
        if tracked.ends_as_sandbox(Some(exited.status)) {
            counters::SANDBOX_ENDS_UNCLEAR.increment();
            return None;
        }
        let kill = held_back::under_way(&tracked.oom);
        let has_caller = exited.first_tid != 0;
        let mut death = self.death(cgroup_id, time, End::Exited(exited))?;
        tell_thread(&mut death);
        let kill = kill.or_else(|| held_back::unexplained(&death));
        if kill.is_none() && has_caller {
            return Some(death);
        }
        self.containers.get_mut(&cgroup_id)?.held_back = Some(HeldBack::new(death, kill));
        None
    }

    fn gone(&mut self, cgroup_id: u64, time: u64) -> Option<Death> {
        let tracked = self.containers.get_mut(&cgroup_id)?;
        let began =
            self.recorders.read(tracked.recorder, cgroup_id).is_some_and(|recorder| recorder.started != 0);
        let death = match (tracked.held_back.take(), tracked.end_when_gone(began)) {
            (Some(held), _) => Some(held.death),
            (None, None) => None,
            (None, Some(End::Unseen)) if tracked.ends_as_sandbox(None) => {
                counters::SANDBOX_ENDS_UNCLEAR.increment();
                None
            }
            (None, Some(End::Unseen)) => {
                counters::ENDS_UNSEEN.increment();
                self.death(cgroup_id, time, End::Unseen)
            }
            // A set-up that ended well ran no program because nobody wanted it to.
            (None, Some(end)) => self.death(cgroup_id, time, end).filter(|death| {
                death.recording.as_ref().is_some_and(|recording| !recording.child_exits.is_empty())
            }),
        };
        if let Some(tracked) = self.containers.remove(&cgroup_id) {
            self.stop_watching(cgroup_id, tracked.recorder);
        }
        death
    }

    fn death(&mut self, cgroup_id: u64, time: u64, end: End) -> Option<Death> {
        let tracked = self.containers.get(&cgroup_id)?;
        let recording = self.recorders.read(tracked.recorder, cgroup_id).map(|recorder| {
            let mut recording = recording(&recorder);
            self.look_up_places(&mut recording);
            self.look_up_senders(&mut recording, &tracked.container);
            recording
        });
        let ring_records_dropped = self.ring_records_dropped.saturating_sub(tracked.dropped_before);
        Some(Death {
            container: tracked.container.clone(),
            cgroup_id,
            adopted: tracked.adopted,
            execs: tracked.execs.clone(),
            end,
            time,
            oom: tracked.oom.clone(),
            memory: self.memory.of(cgroup_id),
            ports: tracked.ports.clone(),
            early_listeners: self.listeners.early(&tracked.container),
            callers: tracked.callers.clone(),
            recording,
            looked: Looked::default(),
            symbols: Vec::new(),
            ring_records_dropped,
        })
    }

    fn look_up_places(&self, recording: &mut Recording) {
        for signal in recording.signals.iter_mut().filter(|signal| signal.place_number != 0) {
            signal.place = self.faults.read(signal.place_number).and_then(|entry| place(&entry));
            if signal.place.is_none() {
                counters::FAULT_PLACES_LOST.increment();
            }
        }
    }

    /// In which containers the senders of signals run. One that this container lies in is none: its runtime runs there.
    fn look_up_senders(&self, recording: &mut Recording, container: &ContainerRef) {
        let encloses = |id: &u64| self.containers.get(id).is_some_and(|it| it.container.encloses(container));
        for signal in &mut recording.signals {
            signal.sender_container =
                self.groups.container_of(signal.sender_cgroup).filter(|id| !encloses(id));
        }
    }

    fn stop_watching(&mut self, cgroup_id: u64, recorder: u32) {
        self.groups.remove(cgroup_id);
        self.memory.forget(cgroup_id);
        if let Err(error) = self.recorders.release(recorder) {
            counters::RECORDERS_LOST.increment();
            tracing::warn!("the recorder in slot {recorder} could not be given back: {error}");
        }
    }
}

impl Tracked {
    fn new(container: ContainerRef, recorder: u32, adopted: bool, dropped_before: u64) -> Self {
        Self {
            container,
            role: Role::Container,
            recorder,
            adopted,
            execs: Vec::new(),
            oom: Vec::new(),
            ports: Vec::new(),
            callers: Vec::new(),
            survived_at: None,
            healthy_at: None,
            ended: false,
            dropped_before,
            held_back: None,
        }
    }

    /// How it came to its end when its group is gone and nothing more can be heard of it; None when that was told. A group is removed
    /// only after the end of all in it: when that of a program was not heard, its record was dropped with a full ring buffer, and so may
    /// that of its beginning, of which the flight recorder knows (`began`).
    fn end_when_gone(&self, began: bool) -> Option<End> {
        match (self.ended, began || !self.execs.is_empty()) {
            (true, _) => None,
            (false, false) => Some(End::NeverRan),
            (false, true) => Some(End::Unseen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{assemble::tests::death, decode::Status};

    #[test]
    fn a_group_that_goes_after_an_end_that_was_not_heard_tells_of_it() {
        let death = death(Status::default());
        let mut tracked = Tracked::new(death.container, 0, false, 0);
        assert_eq!(tracked.end_when_gone(false), Some(End::NeverRan));
        assert_eq!(tracked.end_when_gone(true), Some(End::Unseen));
        tracked.execs = death.execs;
        assert_eq!(tracked.end_when_gone(false), Some(End::Unseen));
        tracked.ended = true;
        assert_eq!(tracked.end_when_gone(true), None);
    }
}
