//! A capability is asked for and refused: `security_capable`, or the tracepoint `capability:cap_capable`.
//!
//! Why these: a call refused for want of a capability returns only EPERM. What is refused is kept for a moment, and the failure of the
//! same call takes it along. The function (cred, namespace, capability, options) is the same on every kernel since 5.1; it is not called
//! for the account of memory that each mmap makes, which the tracepoint (Linux 6.14) also sees. Asking whether a file's permissions may
//! be passed over (CAP_DAC_*) is part of every refused open and says nothing more than EACCES.
//! The call is told apart from earlier ones by its number, for which Linux 5.15 is needed.
//! Cost: nothing but the trampoline or tracepoint for a capability that is granted.

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs},
    macros::fexit,
    programs::FExitContext,
};

use crate::{
    container::Container,
    hook,
    kernel::{Address, argument, call_number},
    permission, process,
};

const CAP_DAC_OVERRIDE: u32 = 1;
const CAP_DAC_READ_SEARCH: u32 = 2;
/// The caller only wants to know (CAP_OPT_NOAUDIT, include/linux/security.h).
const NO_AUDIT: u32 = 2;

#[fexit]
pub fn security_capable(context: FExitContext) -> u32 {
    let arguments: *const u64 = context.as_ptr().cast();
    if argument(arguments, 4) as i32 != 0 && argument(arguments, 3) as u32 & NO_AUDIT == 0 {
        refused(argument(arguments, 2) as u32);
    }
    0
}

hook!("cap_capable", cap_capable, cap_capable_raw, |arguments| {
    if argument(arguments, 4) as i32 != 0 {
        refused(argument(arguments, 3) as u32);
    }
});

#[inline(always)]
fn refused(capability: u32) {
    if matches!(capability, CAP_DAC_OVERRIDE | CAP_DAC_READ_SEARCH) {
        return;
    }
    if let Some(recorder) = Container::of_current().and_then(Container::recorder) {
        // SAFETY: both are allowed in tracing programs, since Linux 5.15.
        let registers = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as Address;
        let syscall = call_number::<false>(registers);
        permission::refused(recorder, process::current() as u32, syscall, capability);
    }
}
