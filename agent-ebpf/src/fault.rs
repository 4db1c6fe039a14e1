//! Where the current process stands: its instruction and the callers that frame pointers lead to, with what is mapped there.
//!
//! The kernel gives build ids (bpf_get_stack), which name a build wherever its file lies; a file without one, or whose first page is not
//! in memory, is named by the mapping that `mapping.rs` finds. bpf_find_vma would find it on Linux 5.17 and later, but cannot run here:
//! with interrupts off it and bpf_get_stack both give the lock back through the same pending work, and the second one is refused.

use aya_ebpf::helpers::generated::bpf_get_stack;
use lastwords_agent_common::{
    limits::{FAULT_FRAMES, FAULT_PLACES},
    record::{BuildIdEntry, MappingEntry},
};

use crate::{
    kernel::{Address, follow, offset, read_comm},
    mapping,
    maps::{FAULTS, FAULTS_SEEN},
    process,
    recorder::{mark, next},
};

/// Flags of bpf_get_stack (include/uapi/linux/bpf.h).
const BPF_F_USER_STACK: u64 = 1 << 8;
const BPF_F_USER_BUILD_ID: u64 = 1 << 11;

const INSTRUCTION_BYTES: u32 = (FAULT_FRAMES * size_of::<u64>()) as u32;
const BUILD_ID_BYTES: u32 = (FAULT_FRAMES * size_of::<BuildIdEntry>()) as u32;

/// Records where the current task, which is about to die, stands; gives the place's number. `context` is the hook's own.
#[inline(always)]
pub fn record(context: *const u64, task: Address, time: u64, tid: u32) -> u64 {
    let Some(head) = FAULTS_SEEN.get_ptr_mut(0) else {
        return 0;
    };
    let number = next(head) + 1;
    let Some(entry) = FAULTS.get_ptr_mut(number as u32 % FAULT_PLACES) else {
        return 0;
    };
    let memory = follow(task, &offset::TASK_MM);
    let current = crate::kernel::current_task();
    // SAFETY: fields of a map element; the helper gets the size of the array that it writes.
    unsafe {
        (*entry).begin = mark(time, tid);
        (*entry).number = number;
        (*entry).tid = process::tid(current);
        read_comm(&raw mut (*entry).comm, current);
        let instructions = (&raw mut (*entry).instructions).cast::<u64>();
        (*entry).instruction_bytes = bpf_get_stack(
            context.cast_mut().cast(),
            instructions.cast(),
            INSTRUCTION_BYTES,
            BPF_F_USER_STACK,
        );
        (*entry).build_id_bytes = bpf_get_stack(
            context.cast_mut().cast(),
            (&raw mut (*entry).build_ids).cast(),
            BUILD_ID_BYTES,
            BPF_F_USER_STACK | BPF_F_USER_BUILD_ID,
        );
        let mappings = (&raw mut (*entry).mappings).cast::<MappingEntry>();
        // All of them, even where the stack had fewer: for the verifier each way out of here is one more way through what follows.
        for index in 0..FAULT_FRAMES {
            mapping::write(memory, instructions.add(index).read(), mappings.add(index));
        }
        (*entry).end = mark(time, tid);
    }
    number
}
