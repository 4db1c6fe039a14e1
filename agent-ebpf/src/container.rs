//! Which container a task belongs to.

use aya_ebpf::helpers::generated::bpf_get_current_cgroup_id;
use lastwords_agent_common::{
    group_place::{Said, number, place, said},
    record::{Group, NO_RECORDER, Recorder},
};

use crate::{
    emit::emit,
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
        if said(sum_at(id)?, id) == Said::Unknown {
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

    /// That thread, and what it had waited for a processor.
    #[inline(always)]
    pub fn first(self) -> (u32, u64) {
        // SAFETY: as in `id`.
        unsafe { ((*self.0).first_tid, (*self.0).first_waited) }
    }

    /// Remembers the thread that began the end, and what it had waited for a processor. Two threads that leave at the same moment may both
    /// write: either is right.
    #[inline(always)]
    pub fn set_first(self, tid: u32, waited: u64) {
        // SAFETY: as in `id`.
        unsafe {
            (*self.0).first_waited = waited;
            (*self.0).first_tid = tid;
        }
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

/// The flight recorder of a container.
#[derive(Clone, Copy)]
pub struct Owned {
    /// The recorder.
    pub recorder: *mut Recorder,
    slot: u32,
}

impl Owned {
    /// That of the current task's container. In most cases without a look-up.
    #[inline(always)]
    pub fn of_current() -> Option<Self> {
        // SAFETY: always allowed in tracing programs.
        let id = unsafe { bpf_get_current_cgroup_id() };
        let slot = match said(sum_at(id)?, id) {
            Said::Unknown => return None,
            Said::Slot(slot) => slot,
            // SAFETY: as in `Container::of_group`.
            Said::LookUp => unsafe { (*GROUPS.get_ptr(&id)?).recorder },
        };
        // Without a recorder the slot is beyond all of them.
        Some(Self { recorder: RECORDERS.get_ptr_mut(slot)?, slot })
    }

    /// Tells the agent something of its container.
    #[inline(always)]
    pub fn emit<T: 'static>(self, kind: u32, fill: impl FnOnce(*mut T)) {
        // SAFETY: a field of the recorder.
        emit(kind, unsafe { (*self.recorder).cgroup_id }, self.slot, fill);
    }
}

/// Remembers a group; gives whether there was room.
#[inline(always)]
pub fn remember_group(id: u64, group: &Group) -> bool {
    let is_known = GROUPS.insert(&id, group, 0).is_ok();
    if is_known {
        add_at(id, number(id, group.recorder));
    }
    is_known
}

/// Forgets a group, whichever side remembered it.
#[inline(always)]
pub fn forget_group(id: u64, recorder: u32) {
    // Only one of two who remove it gets no error.
    if GROUPS.remove(&id).is_ok() {
        add_at(id, number(id, recorder).wrapping_neg());
    }
}

#[inline(always)]
fn sum_at(id: u64) -> Option<u64> {
    GROUP_PLACES.get(place(id)).copied()
}

#[inline(always)]
fn add_at(id: u64, amount: u64) {
    if let Some(sum) = GROUP_PLACES.get_ptr_mut(place(id)) {
        // SAFETY: an element of the map.
        unsafe { add(sum, amount) };
    }
}
