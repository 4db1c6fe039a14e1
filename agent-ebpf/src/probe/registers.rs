//! Where a task's registers are on its kernel stack: `raw_syscalls:sys_exit`, for one call of the agent's own.
//!
//! Why this: the distance depends on the architecture, on the size of the stack and on how the kernel was built (it leaves room above
//! them where it supports FRED), and the helper that knows it exists only since Linux 5.15 and in one of the two ways in. This
//! event hands out the registers of the current task, so one look tells. The agent takes the program away again at once.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::{
    kernel::{current_task, follow, offset, pointer},
    maps::REGISTERS,
};

#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn find_registers(context: RawTracePointContext) -> u32 {
    let registers = pointer(aya_ebpf::EbpfContext::as_ptr(&context).cast(), 0);
    let stack = follow(current_task(), &offset::TASK_STACK);
    if let Some(distance) = REGISTERS.get_ptr_mut(0) {
        // SAFETY: a map's element; every writer writes the same.
        unsafe { *distance = (registers as u64).wrapping_sub(stack as u64) };
    }
    0
}
