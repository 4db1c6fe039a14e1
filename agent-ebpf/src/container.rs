//! Which container a task belongs to.

use aya_ebpf::helpers::generated::bpf_get_current_cgroup_id;
use lastwords_agent_common::{
    limits::GROUP_PLACES as PLACES,
    record::{Group, NO_RECORDER, Recorder},
};

use crate::{
    kernel::{Address, cgroup_node, offset, read},
    maps::{GROUP_PLACES, GROUPS, RECORDERS},
    recorder::add,
};

/// A container that is being watched: an element of the map `GROUPS`, its own and not a nested one's.
#[derive(Clone, Copy)]
pub struct Container(*mut Group);

impl Container {
    /// The container of the current task.
    #[inline(always)]
    pub fn of_current() -> Option<Self> {
        // SAFETY: always allowed in tracing programs.
        Self::of_group(unsafe { bpf_get_current_cgroup_id() })
    }

    /// The container of `task`, which need not be the current one.
    #[inline(always)]
    pub fn of_task(task: Address) -> Option<Self> {
        Self::of_group(read(cgroup_node(task), &offset::KERNFS_NODE_ID))
    }

    /// The container of a group, or the one that the group lies in.
    #[inline(always)]
    pub fn of_group(id: u64) -> Option<Self> {
        // SAFETY: a pointer into the map.
        if unsafe { *place_of(id)? } == 0 {
            return None;
        }
        let group = GROUPS.get_ptr_mut(&id)?;
        // SAFETY: a pointer into the map, which the verifier has seen checked for null.
        let owner = unsafe { (*group).container };
        if owner == id {
            return Some(Self(group));
        }
        GROUPS.get_ptr_mut(&owner).map(Self)
    }

    /// cgroup v2 id of its own group.
    #[inline(always)]
    pub fn id(self) -> u64 {
        // SAFETY: as in `of_group`; elements live as long as the program runs.
        unsafe { (*self.0).container }
    }

    /// Slot of its recorder.
    #[inline(always)]
    pub fn slot(self) -> u32 {
        // SAFETY: as in `id`.
        unsafe { (*self.0).recorder }
    }

    /// Its main process, 0 before that executed its first program.
    #[inline(always)]
    pub fn main_tgid(self) -> u32 {
        // SAFETY: as in `id`.
        unsafe { (*self.0).main_tgid }
    }

    /// Remembers the main process.
    #[inline(always)]
    pub fn set_main_tgid(self, tgid: u32) {
        // SAFETY: as in `id`; the group's first program has no rival.
        unsafe { (*self.0).main_tgid = tgid };
    }

    /// The thread that began the end, 0 before.
    #[inline(always)]
    pub fn first_tid(self) -> u32 {
        // SAFETY: as in `id`.
        unsafe { (*self.0).first_tid }
    }

    /// Remembers the thread that began the end. Two threads that leave at the same moment may both write: either is right.
    #[inline(always)]
    pub fn set_first_tid(self, tid: u32) {
        // SAFETY: as in `id`.
        unsafe { (*self.0).first_tid = tid };
    }

    /// Its recorder.
    #[inline(always)]
    pub fn recorder(self) -> Option<*mut Recorder> {
        let slot = self.slot();
        if slot == NO_RECORDER {
            return None;
        }
        RECORDERS.get_ptr_mut(slot)
    }
}

/// Remembers a group; gives whether there was room.
#[inline(always)]
pub fn remember_group(id: u64, group: &Group) -> bool {
    let is_known = GROUPS.insert(&id, group, 0).is_ok();
    if is_known {
        count_at(id, 1);
    }
    is_known
}

/// Forgets a group, whichever side remembered it.
#[inline(always)]
pub fn forget_group(id: u64) {
    // Only one of two who remove it gets no error.
    if GROUPS.remove(&id).is_ok() {
        count_at(id, u64::MAX);
    }
}

#[inline(always)]
fn count_at(id: u64, amount: u64) {
    if let Some(place) = place_of(id) {
        // SAFETY: an element of the map; it wraps around to one less.
        unsafe { add(place, amount) };
    }
}

/// Where it is counted how many groups of such a number are known.
#[inline(always)]
fn place_of(id: u64) -> Option<*mut u64> {
    GROUP_PLACES.get_ptr_mut(id as u32 & (PLACES - 1))
}

const _: () = assert!(PLACES.is_power_of_two());
