//! A task's working directory, or an open file's path, walked up to the task's root: `/proc/<pid>/cwd` and `/proc/<pid>/fd` are gone by
//! the time anyone could read them.
//!
//! One name a round and no state but the round's number: the verifier then sees each round once (20 rounds that either took a
//! name or crossed a mount made it see a million instructions).

use lastwords_agent_common::{
    limits::{CWD_PART_BYTES, CWD_PARTS},
    record::WorkingDirectory,
};

use crate::{
    kernel::{Address, follow, offset, read_string},
    place::Place,
};

/// Writes the working directory of `task` to `destination`.
#[inline(always)]
pub fn write(task: Address, destination: *mut WorkingDirectory) {
    write_place(Place::root(task), Place::working_directory(task), destination);
}

/// Writes the path of an open file, seen from the root of `task`, to `destination`.
#[inline(always)]
pub fn write_file(task: Address, file: Address, destination: *mut WorkingDirectory) {
    let place = Place { mount: follow(file, &offset::FILE_MNT), dentry: follow(file, &offset::FILE_DENTRY) };
    write_place(Place::root(task), place, destination);
}

#[inline(always)]
fn write_place(root: Place, mut place: Place, destination: *mut WorkingDirectory) {
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
