//! Containers come and go: `cgroup:cgroup_mkdir` and `cgroup:cgroup_rmdir`.
//!
//! Why these: a container's group is made before its first process enters it, so nothing it does can be missed. A runtime's
//! container has a name with 64 hexadecimal digits in every runtime and with both cgroup drivers; whether it really is one is for
//! the agent to say, by the whole path. On hybrid nodes the events come once for each hierarchy: only cgroup v2's count.
//! Cost: two events in a container's life. Both have (cgroup, path) on every kernel since 4.20.

use lastwords_agent_common::{
    limits::{CGROUP_PATH_BYTES, GROUP_NAME_BYTES},
    record::{CgroupGone, CgroupMade, Counter, Group, NO_RECORDER, kind},
};

use crate::{
    emit::emit,
    hook,
    kernel::{Address, follow, offset, pointer, read, read_string},
    maps::{FREE_RECORDERS, GROUPS, RECORDERS, count},
};

hook!("cgroup_mkdir", cgroup_mkdir, cgroup_mkdir_raw, |arguments| {
    let cgroup = pointer(arguments, 0);
    if !is_version_2(cgroup) {
        return;
    }
    let node = follow(cgroup, &offset::CGROUP_KN);
    let id: u64 = read(node, &offset::KERNFS_NODE_ID);
    if has_container_name(node) {
        let recorder = free_recorder(id);
        remember(id, Group { container: id, recorder, ..Group::default() });
        let path = pointer(arguments, 1);
        emit::<CgroupMade>(kind::CGROUP_MADE, id, recorder, |record| {
            // SAFETY: a field of a reserved record.
            read_string::<CGROUP_PATH_BYTES>(unsafe { &raw mut (*record).path }, path);
        });
        return;
    }
    let parent: u64 = read(follow(node, &offset::KERNFS_NODE_PARENT), &offset::KERNFS_NODE_ID);
    // SAFETY: copied at once; the agent deletes a group only after its last child is gone.
    if let Some(owner) = unsafe { GROUPS.get(&parent) } {
        remember(id, *owner);
    }
});

hook!("cgroup_rmdir", cgroup_rmdir, cgroup_rmdir_raw, |arguments| {
    let cgroup = pointer(arguments, 0);
    if !is_version_2(cgroup) {
        return;
    }
    let id: u64 = read(follow(cgroup, &offset::CGROUP_KN), &offset::KERNFS_NODE_ID);
    // SAFETY: read once, before it is removed.
    let Some(group) = (unsafe { GROUPS.get(&id) }) else {
        return;
    };
    let (container, recorder) = (group.container, group.recorder);
    // A missing element is what is wanted.
    let _ = GROUPS.remove(&id);
    if container == id {
        emit::<CgroupGone>(kind::CGROUP_GONE, id, recorder, |_| ());
    }
});

#[inline(always)]
fn is_version_2(cgroup: Address) -> bool {
    read::<i32>(follow(cgroup, &offset::CGROUP_ROOT), &offset::CGROUP_ROOT_HIERARCHY_ID) == 0
}

#[inline(always)]
fn remember(id: u64, group: Group) {
    if GROUPS.insert(&id, &group, 0).is_err() {
        count(Counter::GroupsExhausted);
    }
}

#[inline(always)]
fn free_recorder(id: u64) -> u32 {
    if let Ok(Some(slot)) = FREE_RECORDERS.pop()
        && let Some(recorder) = RECORDERS.get_ptr_mut(slot)
    {
        // SAFETY: a free slot belongs to nobody else.
        unsafe { (*recorder).cgroup_id = id };
        return slot;
    }
    count(Counter::RecordersExhausted);
    NO_RECORDER
}

/// Whether the directory's name has a run of 64 hexadecimal digits.
#[inline(always)]
fn has_container_name(node: Address) -> bool {
    let mut words = [0u64; GROUP_NAME_BYTES / 8];
    let name = (&raw mut words).cast::<[u8; GROUP_NAME_BYTES]>();
    let length = read_string(name, follow(node, &offset::KERNFS_NODE_NAME));
    if length <= 64 {
        return false;
    }
    let mut run: u32 = 0;
    for index in 0..GROUP_NAME_BYTES {
        // SAFETY: `index` is below the array's size.
        let byte = unsafe { (&raw const words).cast::<u8>().add(index).read_volatile() };
        let hexadecimal = byte.wrapping_sub(b'0') < 10 || byte.wrapping_sub(b'a') < 6;
        run = if hexadecimal { run + 1 } else { 0 };
        if run == 64 {
            return true;
        }
    }
    false
}
