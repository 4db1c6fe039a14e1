//! The kernel side: what dies in a container, recorded where it happens.
//!
//! One hook a file under `probe/`. A hook runs for the whole node, so each first asks whether the task is in a container's
//! group ([`container`]) and leaves if not. Failures, signals and ends of children go to the container's flight recorder
//! ([`recorder`]), which the agent reads once, after a death; only rare life-cycle records are sent at once ([`emit`]).
//!
//! Every hook that has a tracepoint comes twice, as `tp_btf` and as raw tracepoint: the same body behind two entries, so that the
//! agent can take the second where a kernel refuses the first. Both get the same array of arguments.
#![no_std]
#![no_main]
// The BPF target declares no atomic types, though LLVM has the instruction.
#![feature(core_intrinsics)]
// To keep two jumps apart, see probe/syscall.rs.
#![feature(asm_experimental_arch)]
#![expect(internal_features, reason = "the only way to an atomic add on this target")]

mod attention;
mod container;
mod dns;
mod emit;
mod failure;
mod fault;
mod kernel;
mod mapping;
mod maps;
mod permission;
mod place;
mod probe;
mod process;
mod recorder;
mod working_directory;

/// Defines both entries of a hook, `<name>` (`tp_btf`) and `<name>_raw` (raw tracepoint), on the tracepoint `$event`.
#[macro_export]
macro_rules! hook {
    ($event:literal, $name:ident, $raw:ident, $body:expr) => {
        #[aya_ebpf::macros::btf_tracepoint(function = $event)]
        pub fn $name(context: aya_ebpf::programs::BtfTracePointContext) -> u32 {
            let body: fn(*const u64) = $body;
            body(aya_ebpf::EbpfContext::as_ptr(&context).cast());
            0
        }

        #[aya_ebpf::macros::raw_tracepoint(tracepoint = $event)]
        pub fn $raw(context: aya_ebpf::programs::RawTracePointContext) -> u32 {
            let body: fn(*const u64) = $body;
            body(aya_ebpf::EbpfContext::as_ptr(&context).cast());
            0
        }
    };
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: a program with a reachable panic does not pass the verifier.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
