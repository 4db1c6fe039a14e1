//! A task's working directory, walked up to its root: `/proc/<pid>/cwd` is gone by the time anyone could read it.

use lastwords_agent_common::{limits::CWD_PARTS, record::WorkingDirectory};

use crate::kernel::{Address, follow, offset, read_string};

/// Steps of the walk: names and mount crossings together.
const STEPS: usize = CWD_PARTS + 8;

/// Writes the working directory of `task` to `destination`.
#[inline(always)]
pub fn write(task: Address, destination: *mut WorkingDirectory) {
    let fs = follow(task, &offset::TASK_FS);
    let root_mount = follow(fs, &offset::FS_ROOT_MNT);
    let root = follow(fs, &offset::FS_ROOT_DENTRY);
    let mut mount = follow(fs, &offset::FS_PWD_MNT);
    let mut dentry = follow(fs, &offset::FS_PWD_DENTRY);
    let mut count: u32 = 0;
    let mut complete: u32 = 0;
    for _ in 0..STEPS {
        if dentry.is_null() {
            break;
        }
        if dentry == root && mount == root_mount {
            complete = 1;
            break;
        }
        if dentry == follow(mount, &offset::VFSMOUNT_ROOT) {
            // The root of a mounted file system: go on where it is mounted.
            let this = mount.wrapping_sub(offset::MOUNT_MNT.load() as usize);
            let parent = follow(this, &offset::MOUNT_PARENT);
            if parent.is_null() || parent == this {
                break;
            }
            dentry = follow(this, &offset::MOUNT_MOUNTPOINT);
            mount = parent.wrapping_add(offset::MOUNT_MNT.load() as usize);
            continue;
        }
        let index = core::hint::black_box(count) as usize;
        if index >= CWD_PARTS {
            break;
        }
        // SAFETY: `index` is below CWD_PARTS.
        let part = unsafe { (&raw mut (*destination).parts).cast::<[u8; 48]>().add(index) };
        let length = read_string(part, follow(dentry, &offset::DENTRY_NAME));
        if length == 0 || length == 48 {
            break;
        }
        count += 1;
        dentry = follow(dentry, &offset::DENTRY_PARENT);
    }
    // SAFETY: fields of a reserved record.
    unsafe {
        (*destination).count = count;
        (*destination).complete = complete;
    }
}
