//! Containers come and go: `cgroup:cgroup_mkdir` and `cgroup:cgroup_rmdir`.
//!
//! Why these: a container's group is made before its first process enters it, so nothing it does can be missed. A runtime's
//! container has a name with 64 hexadecimal digits in every runtime and with both cgroup drivers; whether it really is one is for
//! the agent to say, by the whole path. On hybrid nodes the events come once for each hierarchy: only cgroup v2's count.
//! Cost: two events in a container's life. Both have (cgroup, path) on every kernel since 4.20.

use lastwords_agent_common::{
    limits::CGROUP_PATH_BYTES,
    record::{CgroupGone, CgroupMade, Counter, Group, NO_RECORDER, kind},
};

use crate::{
    container::{forget_group, remember_group},
    emit::emit,
    hook,
    kernel::{Address, follow, offset, pointer, read, read_string},
    maps::{FREE_RECORDERS, GROUPS, NAME, NAME_BYTES, RECORDERS, count},
};

/// A container's id.
const DIGITS: usize = 64;

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
    forget_group(id, recorder);
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
    if !remember_group(id, &group) {
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

/// Whether the directory's name ends in 64 hexadecimal digits, or in 64 of them and `.scope`.
#[inline(always)]
fn has_container_name(node: Address) -> bool {
    const SCOPE: usize = ".scope".len();
    let Some(name) = NAME.get_ptr_mut(0) else {
        return false;
    };
    let length = read_string::<NAME_BYTES>(name, follow(node, &offset::KERNFS_NODE_NAME)) as usize;
    if length <= DIGITS || length > NAME_BYTES - 1 {
        return false;
    }
    let end = length - 1;
    let start = if byte(name, end - 1) == b'e' && end > DIGITS + SCOPE && byte(name, end - SCOPE) == b'.' {
        end - SCOPE - DIGITS
    } else {
        end - DIGITS
    };
    // Leaves at the first other character: the verifier sees 64 rounds and not 2^64 ways through them.
    for index in 0..DIGITS {
        let byte = byte(name, start + index);
        if byte.wrapping_sub(b'0') >= 10 && byte.wrapping_sub(b'a') >= 6 {
            return false;
        }
    }
    true
}

#[inline(always)]
fn byte(name: *const [u8; NAME_BYTES], index: usize) -> u8 {
    // LLVM proves the mask away; the verifier needs to see it.
    let index = core::hint::black_box(index) & (NAME_BYTES - 1);
    // SAFETY: the mask keeps `index` below the array's size.
    unsafe { name.cast::<u8>().add(index).read_volatile() }
}
