//! What safe Rust is there to prevent, done on purpose.
#![expect(unsafe_code, reason = "these are the faults that the suite is about")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};

const PAGE: usize = 4096;

/// Writes to address 0.
pub(crate) fn null_pointer() {
    let nowhere = std::hint::black_box(std::ptr::null_mut::<u8>());
    // SAFETY: no memory is there: the kernel ends the process.
    unsafe { nowhere.write_volatile(1) }
}

/// Reads a page of a mapping that its file does not reach.
pub(crate) fn behind_the_end_of_a_file() -> io::Result<()> {
    let file = File::open("/proc/self/exe")?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0).next_multiple_of(PAGE) + PAGE;
    let null = std::ptr::null_mut();
    // SAFETY: a new mapping at an address of the kernel's choice.
    let start = unsafe { libc::mmap(null, length, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the address lies in the mapping; that the file ends before it, so that the kernel ends the process, is the point.
    unsafe { start.cast::<u8>().add(length - 1).read_volatile() };
    Ok(())
}

/// An instruction that no processor has.
pub(crate) fn illegal_instruction() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel ends the process.
    unsafe {
        std::arch::asm!("ud2")
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the kernel ends the process.
    unsafe {
        std::arch::asm!("udf #0")
    }
}

/// Divides by zero, which arm64 does not mind.
pub(crate) fn division_by_zero() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel ends the process.
    unsafe {
        std::arch::asm!("xor ecx, ecx", "xor edx, edx", "mov eax, 1", "div ecx", out("eax") _, out("ecx") _, out("edx") _)
    }
}

/// A breakpoint that no debugger waits for.
pub(crate) fn breakpoint() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel ends the process.
    unsafe {
        std::arch::asm!("int3")
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the kernel ends the process.
    unsafe {
        std::arch::asm!("brk #0")
    }
}

/// From now on this signal does to the process what it does to one that knows nothing of signals.
pub(crate) fn end_by(number: Signal) -> io::Result<()> {
    // SAFETY: no handler is set.
    unsafe { signal(number, SigHandler::SigDfl)? };
    Ok(())
}

/// Ends this thread alone, as `exit` did before there were threads; the process lives as long as another one does.
pub(crate) fn end_this_thread(code: i32) {
    // SAFETY: nothing of this thread is used by another one, and its stack stays mapped.
    unsafe { libc::syscall(libc::SYS_exit, code) };
}
