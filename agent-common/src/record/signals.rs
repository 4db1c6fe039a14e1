//! Signals, where they were raised, and what they ended: parts of a recorder and of the map `FAULTS`.

use super::Comm;
use crate::limits::{FAULT_FRAMES, FRAME_NAME_BYTES, FRAME_NAMES};

/// One signal in a recorder; `begin` and `end` as in [`super::FailureEntry`].
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SignalEntry {
    /// Time and thread folded into one number.
    pub begin: u64,
    /// When.
    pub time: u64,
    /// Its number.
    pub signal: u32,
    /// si_code.
    pub code: i32,
    /// `trace_signal_generate`'s result: 0 delivered, 1 ignored, 2 already pending, 3 and 4 lost.
    pub result: u32,
    /// The process that was running: the sender, unless the kernel is.
    pub sender_tgid: u32,
    /// The sender's cgroup v2 id.
    pub sender_cgroup: u64,
    /// The sender's name.
    pub sender_comm: Comm,
    /// Its parent's name.
    pub sender_parent_comm: Comm,
    /// The target process.
    pub target_tgid: u32,
    /// The target thread.
    pub target_tid: u32,
    /// The target's name.
    pub target_comm: Comm,
    /// `si_addr` of a fault. Of what a seccomp filter forbade: the number of the call, and in the upper half `si_arch`.
    pub address: u64,
    /// Number of the [`FaultEntry`] that tells where it happened, counted from 1; 0 without one.
    pub place: u64,
    /// As `begin`, written last.
    pub end: u64,
}

/// Where a signal was raised that nothing handles: an element of the map `FAULTS`. Its number modulo [`crate::limits::FAULT_PLACES`] is
/// its slot, so a newer one of any container may have replaced it: `number` then differs. `begin` and `end` as in [`super::FailureEntry`].
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct FaultEntry {
    /// Time and thread folded into one number.
    pub begin: u64,
    /// As [`SignalEntry::place`].
    pub number: u64,
    /// The thread that raised it.
    pub tid: u32,
    /// Zero.
    pub padding: u32,
    /// Its name.
    pub comm: Comm,
    /// Bytes of `instructions` in use, negative when the stack could not be read.
    pub instruction_bytes: i64,
    /// Bytes of `build_ids` in use, or negative.
    pub build_id_bytes: i64,
    /// The instruction, then the return addresses that frame pointers lead to.
    pub instructions: [u64; FAULT_FRAMES],
    /// The same stack with build ids.
    pub build_ids: [BuildIdEntry; FAULT_FRAMES],
    /// What is mapped at each of `instructions`.
    pub mappings: [MappingEntry; FAULT_FRAMES],
    /// As `begin`, written last.
    pub end: u64,
}

/// `struct bpf_stack_build_id` (include/uapi/linux/bpf.h).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct BuildIdEntry {
    /// 1 when `build_id` and an offset in the file follow, 2 when only the address does.
    pub status: i32,
    /// GNU build id, filled up with zeroes.
    pub build_id: [u8; 20],
    /// Offset in the file, or the address.
    pub offset: u64,
}

/// A mapping of a process (`struct vm_area_struct`), zero where none was found.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct MappingEntry {
    /// First address.
    pub start: u64,
    /// The address behind the last one.
    pub end: u64,
    /// `vm_pgoff`: where in the file it begins, in pages.
    pub page_offset: u64,
    /// `vm_flags`; bit 2 is VM_EXEC.
    pub flags: u64,
    /// Inode number of the file, 0 without one.
    pub inode: u64,
    /// The file's name, its directory's, and so on upwards to `/`, each zero-terminated and cut when it fills its array.
    pub names: [[u8; FRAME_NAME_BYTES]; FRAME_NAMES],
}

/// One abnormal end of another process in a recorder; `begin` and `end` as in [`super::FailureEntry`].
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ChildExitEntry {
    /// Time and thread folded into one number.
    pub begin: u64,
    /// When.
    pub time: u64,
    /// Process.
    pub tgid: u32,
    /// As [`super::Exited::status`].
    pub status: u32,
    /// Name.
    pub comm: Comm,
    /// 1 when at its end none of its ancestors was the container's main process.
    pub detached: u64,
    /// Its last thread.
    pub tid: u32,
    /// Its parent.
    pub parent: u32,
    /// What that thread had waited for a processor, see [`super::NOT_KNOWN`].
    pub waited: u64,
    /// How often its leader had written, and its parent's by then, see [`super::NOT_KNOWN`].
    pub writes: [u64; 2],
    /// As `begin`, written last.
    pub end: u64,
}

const _: () = {
    assert!(size_of::<SignalEntry>() == 16 + 16 + 8 + 32 + 8 + 16 + 24);
    assert!(size_of::<FaultEntry>() == 24 + 16 + 16 + 16 * (8 + 32 + 552) + 8);
    assert!(size_of::<BuildIdEntry>() == 32);
    assert!(size_of::<MappingEntry>() == 40 + 8 * 64);
    assert!(size_of::<ChildExitEntry>() == 16 + 8 + 16 + 8 + 16 + 16 + 8);
};
