//! A system call ends.
//!
//! Two ways in. Where the kernel takes programs at the end of its functions (fexit), one is attached to each call's own function
//! (`__x64_sys_openat`): nothing else on the node pays, a call that succeeds pays the trampoline and one comparison, and the rest is a
//! program of its own that only a failure jumps to, so that a hundred copies of the first part cost little to verify. Elsewhere one
//! program at `raw_syscalls:sys_exit` sees every call of the node end (about 134 instructions) and picks the failures. What it does with
//! those it picks stands in functions of their own: the ones that it does not pick must not pay for their registers and stack.
//! The registers still hold the call's arguments when it ends, so nothing is kept at its start.
//! A seccomp filter's refusal never reaches the call's function: only `sys_exit` sees it there (`seccomp.rs` sees it elsewhere).

use aya_ebpf::{
    EbpfContext,
    macros::{btf_tracepoint, fexit, raw_tracepoint},
    programs::{BtfTracePointContext, FExitContext, RawTracePointContext},
};

use crate::{
    attention,
    failure::{EINPROGRESS, on_failure, under_way},
    kernel::{Address, argument, call_number, is_compat, offset, register},
    maps::{CONTINUED, CONTINUED_CONDITIONAL},
    probe::{dns, socket, startup, unix},
};
use lastwords_agent_common::{limits::SYSCALLS, rules::success};

/// See [`success`], by system call number; the agent fills it for its architecture.
#[unsafe(no_mangle)]
static SUCCESSES: [u8; SYSCALLS as usize] = [0; SYSCALLS as usize];

const ECONNREFUSED: i64 = 111;
/// Highest error number that a call returns.
const MAX_ERRNO: i64 = 133;

/// The system call's registers, argument 0 of every hook here.
#[inline(always)]
fn registers(arguments: *const u64) -> Address {
    argument(arguments, 0) as Address
}

/// What it returned.
#[inline(always)]
fn result(arguments: *const u64) -> i64 {
    argument(arguments, 1) as i64
}

#[inline(always)]
fn is_failure(result: i64) -> bool {
    (-MAX_ERRNO..0).contains(&result)
}

#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit(context: BtfTracePointContext) -> u32 {
    on_exit::<true>(context.as_ptr().cast());
    0
}

#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn sys_exit_raw(context: RawTracePointContext) -> u32 {
    on_exit::<false>(context.as_ptr().cast());
    0
}

#[inline(always)]
fn on_exit<const TYPED: bool>(arguments: *const u64) {
    let result = result(arguments);
    if result < 0 {
        // Side by side and not one within the other: the stacks of both together would be more than there is.
        if result == -(EINPROGRESS as i64) {
            under_way::<TYPED, false>(registers(arguments));
        } else if is_failure(result) {
            failed::<TYPED>(registers(arguments), result);
        }
        return;
    }
    let attention = attention::is_any();
    // Of what is always looked at nothing gives more than 0.
    if result > 0 && !attention {
        return;
    }
    let registers = registers(arguments);
    let number = call_number::<TYPED>(registers);
    if number >= SYSCALLS {
        return;
    }
    let kind = success_of(number);
    if kind >= if attention { success::NONE + 1 } else { success::ALWAYS } {
        succeeded::<TYPED>(registers, result as u64, kind, number);
    }
}

/// Of a call whose number is below [`SYSCALLS`].
#[inline(always)]
pub fn success_of(number: u32) -> u8 {
    // SAFETY: inside the table, which the agent filled before the program was loaded: hence no ordinary read.
    unsafe { (&raw const SUCCESSES).cast::<u8>().add(number as usize).read_volatile() }
}

#[inline(never)]
fn failed<const TYPED: bool>(registers: Address, result: i64) {
    if result == -ECONNREFUSED && attention::is_any_asking() {
        dns::refused(register::<TYPED>(registers, &offset::REGS_0), ECONNREFUSED as u32);
    }
    on_failure::<TYPED, false>(registers, -result as u64);
}

#[inline(never)]
fn succeeded<const TYPED: bool>(registers: Address, result: u64, kind: u8, number: u32) {
    let of = |place| register::<TYPED>(registers, place);
    match kind {
        success::OPEN => {
            if attention::is_any_young() {
                startup::succeeded::<TYPED>(registers);
            }
        }
        success::CONNECT => dns::connected(of(&offset::REGS_0), of(&offset::REGS_1), of(&offset::REGS_2)),
        success::BIND => dns::bound(of(&offset::REGS_0), of(&offset::REGS_1), of(&offset::REGS_2)),
        success::OPTION => asked::<TYPED>(registers),
        success::LISTEN => {
            if !is_compat::<TYPED>(registers) {
                unix::listened(of(&offset::REGS_0));
            }
        }
        _ => {
            let descriptor = of(&offset::REGS_0);
            if result > 0
                && attention::is_any_asking()
                && dns::is_asking(descriptor)
                && !is_compat::<TYPED>(registers)
            {
                let arguments = [descriptor, of(&offset::REGS_1), of(&offset::REGS_4), of(&offset::REGS_5)];
                dns::carried(kind, number, result, arguments);
            }
        }
    }
}

/// Places in the arrays of programs that go on.
const FAILED: u32 = 0;
const ASKED: u32 = 1;
const OPENED: u32 = 2;

/// Defines a program for the end of a system call's own function, which goes on in `$continued[$place]` when `$goes_on` says so. Each
/// comes twice, because programs that share such an array have to be of functions of one type, and the kernel's types of them are two:
/// those that every kernel has call their argument `regs`, those that can be left out (COND_SYSCALL, kernel/sys_ni.c) `__unused`.
macro_rules! system_call {
    ($name:ident, $continued:ident, $place:ident, $goes_on:expr) => {
        #[fexit]
        pub fn $name(context: FExitContext) -> u32 {
            let goes_on: fn(i64) -> bool = $goes_on;
            if goes_on(result(context.as_ptr().cast())) {
                // SAFETY: nothing is held here that would have to be given back.
                unsafe { $continued.tail_call(&context, $place) };
            }
            0
        }
    };
}

system_call!(system_call, CONTINUED, FAILED, is_failure);
system_call!(system_call_conditional, CONTINUED_CONDITIONAL, FAILED, is_failure);
// getsockopt's success can bring an error.
system_call!(getsockopt, CONTINUED, ASKED, |result| result == 0);
system_call!(getsockopt_conditional, CONTINUED_CONDITIONAL, ASKED, |result| result == 0);

/// As [`system_call`], for the calls that open files: while a container starts, their success goes on too.
macro_rules! opening {
    ($name:ident, $continued:ident) => {
        #[fexit]
        pub fn $name(context: FExitContext) -> u32 {
            let result = result(context.as_ptr().cast());
            if is_failure(result) {
                // SAFETY: nothing is held here that would have to be given back.
                unsafe { $continued.tail_call(&context, FAILED) };
                // Or LLVM makes one jump of the two, to a place that is not a constant any more: that takes twice as many instructions.
                // SAFETY: no instruction.
                unsafe { core::arch::asm!("", options(nomem, nostack, preserves_flags)) };
            } else if attention::is_any_young() {
                // SAFETY: as above.
                unsafe { $continued.tail_call(&context, OPENED) };
            }
            0
        }
    };
}

opening!(opening, CONTINUED);
opening!(opening_conditional, CONTINUED_CONDITIONAL);

/// What those of a file that was opened jump to; never attached itself.
#[fexit]
pub fn system_call_opened(context: FExitContext) -> u32 {
    startup::succeeded::<true>(registers(context.as_ptr().cast()));
    0
}

/// What those of a failed call jump to; never attached itself.
#[fexit]
pub fn system_call_failed(context: FExitContext) -> u32 {
    let arguments = context.as_ptr().cast();
    let (registers, errno) = (registers(arguments), -result(arguments) as u64);
    if errno == EINPROGRESS {
        under_way::<true, true>(registers);
    } else {
        on_failure::<true, true>(registers, errno);
    }
    0
}

/// What getsockopt's jumps to; never attached itself.
#[fexit]
pub fn system_call_asked(context: FExitContext) -> u32 {
    asked::<true>(registers(context.as_ptr().cast()));
    0
}

#[inline(always)]
fn asked<const TYPED: bool>(registers: Address) {
    let of = |place| register::<TYPED>(registers, place);
    socket::asked(of(&offset::REGS_0), of(&offset::REGS_1), of(&offset::REGS_2), of(&offset::REGS_3));
}
