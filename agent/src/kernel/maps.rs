//! The maps that the agent reads and writes: recorders, groups and counters.

use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray, Queue};
use lastwords_agent_common::{
    limits::{CLOSED_LISTENERS, FAULT_PLACES, LISTENERS, RECORDERS},
    record::{Counter, FaultEntry, Group, Listener, NO_RECORDER, Recorder},
};

use crate::counters;

use super::group_places::GroupPlaces;
use super::plain::{PlainFault, PlainGroup, PlainListener, PlainRecorder, empty_recorder};

/// The flight recorders and their free slots.
pub struct RecorderMap {
    recorders: Array<MapData, PlainRecorder>,
    free: Queue<MapData, u32>,
}

impl RecorderMap {
    pub(super) fn new(
        recorders: Array<MapData, PlainRecorder>,
        mut free: Queue<MapData, u32>,
    ) -> Result<Self, MapError> {
        for slot in 0..RECORDERS {
            free.push(slot, 0)?;
        }
        Ok(Self { recorders, free })
    }

    /// What the recorder in `slot` holds for the container `cgroup_id`; None without a recorder, or when the slot is another's.
    #[must_use]
    pub fn read(&self, slot: u32, cgroup_id: u64) -> Option<Box<Recorder>> {
        if slot == NO_RECORDER {
            return None;
        }
        let recorder = Box::new(self.recorders.get(&slot, 0).ok()?.0);
        (recorder.cgroup_id == cgroup_id).then_some(recorder)
    }

    /// The slots that are in use, each with the container it is in use by.
    #[must_use]
    pub fn owners(&self) -> Vec<(u32, u64)> {
        let owner = |slot| self.recorders.get(&slot, 0).map_or(0, |recorder| recorder.0.cgroup_id);
        (0..RECORDERS).map(|slot| (slot, owner(slot))).filter(|(_, owner)| *owner != 0).collect()
    }

    /// Empties a slot and gives it back.
    ///
    /// # Errors
    /// When the kernel refuses; the slot is then lost until the agent starts again.
    pub fn release(&mut self, slot: u32) -> Result<(), MapError> {
        if slot == NO_RECORDER {
            return Ok(());
        }
        self.recorders.set(slot, empty_recorder(), 0)?;
        self.free.push(slot, 0)
    }

    /// Takes a slot for a container that was there before the agent.
    #[must_use]
    pub fn take(&mut self, cgroup_id: u64) -> u32 {
        let Ok(slot) = self.free.pop(0) else { return NO_RECORDER };
        let mut recorder = empty_recorder();
        recorder.0.cgroup_id = cgroup_id;
        if self.recorders.set(slot, recorder, 0).is_ok() {
            return slot;
        }
        if self.free.push(slot, 0).is_err() {
            counters::RECORDERS_LOST.increment();
        }
        NO_RECORDER
    }
}

/// Where faults happened.
pub struct FaultMap(Array<MapData, PlainFault>);

impl FaultMap {
    pub(super) fn new(faults: Array<MapData, PlainFault>) -> Self {
        Self(faults)
    }

    /// The place with this number ([`lastwords_agent_common::record::SignalEntry::place`]); None when a newer one has replaced it.
    #[must_use]
    pub fn read(&self, number: u64) -> Option<Box<FaultEntry>> {
        let slot = u32::try_from(number % u64::from(FAULT_PLACES)).ok()?;
        let entry = Box::new(self.0.get(&slot, 0).ok()?.0);
        (entry.number == number).then_some(entry)
    }
}

/// Which control group belongs to which container.
pub struct GroupMap {
    groups: HashMap<MapData, u64, PlainGroup>,
    places: GroupPlaces,
}

impl GroupMap {
    pub(super) fn new(groups: HashMap<MapData, u64, PlainGroup>, places: GroupPlaces) -> Self {
        Self { groups, places }
    }

    /// Whether the group is known.
    #[must_use]
    pub fn contains(&self, cgroup_id: u64) -> bool {
        self.groups.get(&cgroup_id, 0).is_ok()
    }

    /// The container that a group is of, or lies in, by the container's own group; None when it is in none that is watched.
    #[must_use]
    pub fn container_of(&self, cgroup_id: u64) -> Option<u64> {
        self.groups.get(&cgroup_id, 0).ok().map(|group| group.0.container)
    }

    /// Remembers a group.
    ///
    /// # Errors
    /// When the map is full.
    pub fn insert(&mut self, cgroup_id: u64, group: Group) -> Result<(), MapError> {
        self.groups.insert(cgroup_id, PlainGroup(group), 0)?;
        self.places.add(cgroup_id, &group);
        Ok(())
    }

    /// Says something else of a group that is remembered, with the same recorder. One that is gone already stays so.
    pub fn update(&mut self, cgroup_id: u64, group: Group) {
        /// Only an element that there is (include/uapi/linux/bpf.h).
        const BPF_EXIST: u64 = 2;
        let _ = self.groups.insert(cgroup_id, PlainGroup(group), BPF_EXIST);
    }

    /// Forgets a group.
    pub fn remove(&mut self, cgroup_id: u64) {
        // It may be gone already: the kernel side forgets a group when it is removed.
        if let Ok(group) = self.groups.get(&cgroup_id, 0)
            && self.groups.remove(&cgroup_id).is_ok()
        {
            self.places.subtract(cgroup_id, &group.0);
        }
    }
}

/// The TCP sockets of the node that listen, and those that did a moment ago.
pub struct ListenerMap {
    open: HashMap<MapData, u64, PlainListener>,
    closed: HashMap<MapData, u64, PlainListener>,
}

impl ListenerMap {
    pub(super) fn new(
        open: HashMap<MapData, u64, PlainListener>,
        closed: HashMap<MapData, u64, PlainListener>,
    ) -> Self {
        Self { open, closed }
    }

    /// All of them. One that closes meanwhile may come twice.
    pub fn iter(&self) -> impl Iterator<Item = Listener> {
        // When the element that was read last is removed meanwhile, the kernel begins again: bounded, or that might go on for ever.
        let most = (LISTENERS + CLOSED_LISTENERS) as usize * 2;
        let elements = self.open.iter().chain(self.closed.iter()).take(most);
        elements.filter_map(|element| element.ok().map(|(_, listener)| listener.0))
    }
}

/// The kernel side's counters.
pub struct CounterMap(PerCpuArray<MapData, u64>);

impl CounterMap {
    pub(super) fn new(counters: PerCpuArray<MapData, u64>) -> Self {
        Self(counters)
    }

    /// One counter, summed over all processors.
    #[must_use]
    pub fn read(&self, counter: Counter) -> u64 {
        self.0.get(&(counter as u32), 0).map_or(0, |values| values.iter().sum())
    }
}
