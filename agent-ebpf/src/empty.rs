//! Programs that do nothing, one for each way in: what a hook costs whoever stands at it. The benchmarks attach them where the agent
//! attaches its own.
#![no_std]
#![no_main]

use aya_ebpf::{
    macros::{btf_tracepoint, fentry, fexit},
    programs::{BtfTracePointContext, FEntryContext, FExitContext},
};

#[btf_tracepoint]
pub fn empty_tracepoint(_context: BtfTracePointContext) -> u32 {
    0
}

#[fentry]
pub fn empty_fentry(_context: FEntryContext) -> u32 {
    0
}

#[fexit]
pub fn empty_fexit(_context: FExitContext) -> u32 {
    0
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: nothing here can panic.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
