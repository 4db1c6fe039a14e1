//! A seccomp filter refuses a call: fexit of `__secure_computing`.
//!
//! Why this: what a filter answers itself never reaches the call's own function, where failures are seen when functions take programs
//! (`syscall.rs`; `sys_exit` sees it, but not who it was). It gives -1 for a call that is not to be made; the answer stands in the
//! task's registers by then. A filter that kills or traps leaves the call's own registers there (syscall_rollback) and is seen by its SIGSYS.
//! Arguments: one up to Linux 6.15 (`const struct seccomp_data *`), none since, so that the result has another place: hence two programs, of
//! which the agent takes the one for the running kernel's prototype.
//! Cost: the function is called for tasks with a filter alone; a task without one pays nothing. Most containers do have one, the
//! runtime's default: each of their calls pays an empty fexit (some 90 instructions, beside the hundreds that such a filter itself
//! takes), for a comparison is all that happens where the filter lets a call through.

use aya_ebpf::{EbpfContext as _, macros::fexit, programs::FExitContext};

use crate::{
    failure::on_refusal,
    kernel::{argument, current_task, offset, read},
    probe::blocked::registers,
};

/// Highest error number that a filter may answer (MAX_ERRNO, include/linux/err.h).
const MAX_ERRNO: i64 = 4095;

/// For the prototype with one argument.
#[fexit]
pub fn secure_computing(context: FExitContext) -> u32 {
    decided(argument(context.as_ptr().cast(), 1));
    0
}

/// For the one without.
#[fexit]
pub fn secure_computing_alone(context: FExitContext) -> u32 {
    decided(argument(context.as_ptr().cast(), 0));
    0
}

#[inline(always)]
fn decided(result: u64) {
    if result as i32 == 0 {
        return;
    }
    let registers = registers(current_task());
    if registers.is_null() {
        return;
    }
    let answer: i64 = read(registers, &offset::REGS_RESULT);
    // On arm64 the result's register is the first argument's until there is a result.
    if (-MAX_ERRNO..0).contains(&answer) && answer != read::<i64>(registers, &offset::REGS_0) {
        on_refusal(registers, -answer as u64);
    }
}
