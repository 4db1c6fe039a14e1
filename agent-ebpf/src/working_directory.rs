//! A task's working directory, walked up to its root: `/proc/<pid>/cwd` is gone by the time anyone could read it.
//!
//! One name a round and no state but the round's number: the verifier then sees each round once (20 rounds that either took a
//! name or crossed a mount made it see a million instructions).

use lastwords_agent_common::{
    limits::{CWD_PART_BYTES, CWD_PARTS},
    record::WorkingDirectory,
};

use crate::kernel::{Address, follow, offset, read_string};

/// A place in the tree of mounts.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    mount: Address,
    dentry: Address,
}

impl Place {
    /// From the root of a mounted file system to where it is mounted; elsewhere it stays.
    ///
    /// Without a branch: the verifier would follow both ways of each, in each round.
    #[inline(always)]
    fn leave_mount(self) -> Self {
        let mount = self.mount.wrapping_sub(offset::MOUNT_MNT.load() as usize);
        let parent = follow(mount, &offset::MOUNT_PARENT).wrapping_add(offset::MOUNT_MNT.load() as usize);
        let mountpoint = follow(mount, &offset::MOUNT_MOUNTPOINT);
        let stays = all_ones_if_different(self.dentry, follow(self.mount, &offset::VFSMOUNT_ROOT));
        let choose = |here: Address, there: Address| (here as u64 & stays | there as u64 & !stays) as Address;
        Self { mount: choose(self.mount, parent), dentry: choose(self.dentry, mountpoint) }
    }
}

/// All bits set when `a` and `b` differ, none when they are the same.
#[inline(always)]
fn all_ones_if_different(a: Address, b: Address) -> u64 {
    let difference = core::hint::black_box(a as u64 ^ b as u64);
    let bit = core::hint::black_box((difference | difference.wrapping_neg()) >> 63);
    bit.wrapping_neg()
}

/// Writes the working directory of `task` to `destination`.
#[inline(always)]
pub fn write(task: Address, destination: *mut WorkingDirectory) {
    let fs = follow(task, &offset::TASK_FS);
    let root = Place { mount: follow(fs, &offset::FS_ROOT_MNT), dentry: follow(fs, &offset::FS_ROOT_DENTRY) };
    let mut place =
        Place { mount: follow(fs, &offset::FS_PWD_MNT), dentry: follow(fs, &offset::FS_PWD_DENTRY) };
    // SAFETY: fields of a reserved record.
    unsafe {
        (*destination).count = 0;
        (*destination).complete = 0;
    }
    for index in 0..=CWD_PARTS {
        // The root itself is the root of a mount: it must not be left.
        if place == root {
            break;
        }
        place = place.leave_mount();
        if place == root {
            break;
        }
        if index == CWD_PARTS {
            return;
        }
        // SAFETY: `index` is below CWD_PARTS.
        let part = unsafe { (&raw mut (*destination).parts).cast::<[u8; CWD_PART_BYTES]>().add(index) };
        let length = read_string(part, follow(place.dentry, &offset::DENTRY_NAME));
        if length == 0 || length as usize == CWD_PART_BYTES {
            return;
        }
        // SAFETY: as above.
        unsafe { (*destination).count = index as u32 + 1 };
        place.dentry = follow(place.dentry, &offset::DENTRY_PARENT);
    }
    // SAFETY: as above.
    unsafe { (*destination).complete = 1 };
}
