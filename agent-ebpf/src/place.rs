//! Places in the tree of mounts, and their names up to a process's root.
//!
//! The names of a failed call's place go one behind the other into little room, so there is a cursor; it is masked and passed through
//! `black_box`, so that the verifier takes the rounds for alike.

use lastwords_agent_common::{
    limits::{PLACE_BYTES, PLACE_NAME_BYTES, PLACE_NAMES},
    record,
};

use crate::kernel::{Address, follow, offset, open_file, read_string};

/// A place in the tree of mounts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// `struct vfsmount *`.
    pub mount: Address,
    /// `struct dentry *`.
    pub dentry: Address,
}

impl Place {
    /// The root of `task`.
    #[inline(always)]
    pub fn root(task: Address) -> Self {
        let fs = follow(task, &offset::TASK_FS);
        Self { mount: follow(fs, &offset::FS_ROOT_MNT), dentry: follow(fs, &offset::FS_ROOT_DENTRY) }
    }

    /// Its working directory.
    #[inline(always)]
    pub fn working_directory(task: Address) -> Self {
        let fs = follow(task, &offset::TASK_FS);
        Self { mount: follow(fs, &offset::FS_PWD_MNT), dentry: follow(fs, &offset::FS_PWD_DENTRY) }
    }

    /// The file that it has open as `descriptor`.
    #[inline(always)]
    pub fn descriptor(task: Address, descriptor: u32) -> Self {
        let file = open_file(task, descriptor);
        Self { mount: follow(file, &offset::FILE_MNT), dentry: follow(file, &offset::FILE_DENTRY) }
    }

    /// One of two, without a branch.
    #[inline(always)]
    pub fn choose(first: bool, one: Self, other: Self) -> Self {
        let all = core::hint::black_box(u64::from(first)).wrapping_neg();
        Self::select(all, one, other)
    }

    /// The first where `mask` is all ones, the other where it is 0.
    #[inline(always)]
    fn select(mask: u64, one: Self, other: Self) -> Self {
        let choose = |one: Address, other: Address| (one as u64 & mask | other as u64 & !mask) as Address;
        Self { mount: choose(one.mount, other.mount), dentry: choose(one.dentry, other.dentry) }
    }

    /// Writes the names from here up to `root`.
    #[inline(always)]
    pub fn write(self, root: Self, destination: *mut record::Place) {
        const MASK: u64 = (PLACE_BYTES - PLACE_NAME_BYTES - 1) as u64;
        let mut place = self;
        let mut cursor: u64 = 0;
        let mut complete: u32 = 0;
        for _ in 0..PLACE_NAMES {
            // The root itself is the root of a mount: it must not be left.
            if place == root {
                complete = 1;
                break;
            }
            place = place.leave_mount();
            if place == root {
                complete = 1;
                break;
            }
            if cursor > MASK {
                break;
            }
            // LLVM proves the mask away; the verifier needs to see it.
            let at = core::hint::black_box(cursor) & MASK;
            // SAFETY: behind `at` there is room for a whole name.
            let name = unsafe { (&raw mut (*destination).names).cast::<u8>().add(at as usize) };
            let length =
                read_string::<PLACE_NAME_BYTES>(name.cast(), follow(place.dentry, &offset::DENTRY_NAME));
            if length == 0 || length as usize >= PLACE_NAME_BYTES {
                break;
            }
            cursor = at + u64::from(length);
            place.dentry = follow(place.dentry, &offset::DENTRY_PARENT);
        }
        // SAFETY: fields of the container's recorder.
        unsafe {
            (*destination).length = cursor as u32;
            (*destination).complete = complete;
        }
    }

    /// From the root of a mounted file system to where it is mounted; elsewhere it stays.
    ///
    /// Without a branch: the verifier would follow both ways of each, in each round.
    #[inline(always)]
    pub fn leave_mount(self) -> Self {
        let mount = self.mount.wrapping_sub(offset::MOUNT_MNT.load() as usize);
        let parent = follow(mount, &offset::MOUNT_PARENT).wrapping_add(offset::MOUNT_MNT.load() as usize);
        let mountpoint = follow(mount, &offset::MOUNT_MOUNTPOINT);
        let stays = all_ones_if_different(self.dentry, follow(self.mount, &offset::VFSMOUNT_ROOT));
        Self::select(stays, self, Self { mount: parent, dentry: mountpoint })
    }
}

/// All bits set when `a` and `b` differ, none when they are the same.
#[inline(always)]
fn all_ones_if_different(a: Address, b: Address) -> u64 {
    let difference = core::hint::black_box(a as u64 ^ b as u64);
    let bit = core::hint::black_box((difference | difference.wrapping_neg()) >> 63);
    bit.wrapping_neg()
}
