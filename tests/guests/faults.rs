//! Dies of what its argument names. Compiled by itself (`xtask/src/vm/guests.rs`), with frame pointers and a build id, so that a
//! crash report can be held against known functions. Everything here is what safe Rust is made to prevent; hence no safe way.
//!
//! Each fault lies in a function of its own below `start`, and none of them is inlined.

use std::arch::asm;
use std::ffi::{c_int, c_void};
use std::hint::black_box;
use std::process::exit;

const SIGSEGV: c_int = 11;
const SIG_DFL: usize = 0;

unsafe extern "C" {
    fn signal(number: c_int, handler: usize) -> usize;
    fn mmap(
        at: *mut c_void,
        bytes: usize,
        protection: c_int,
        flags: c_int,
        file: c_int,
        offset: i64,
    ) -> *mut u8;
    fn memfd_create(name: *const i8, flags: u32) -> c_int;
    fn mprotect(at: *mut c_void, bytes: usize, protection: c_int) -> c_int;
    fn sigaltstack(new: *const c_void, old: *mut c_void) -> c_int;
}

const PAGE: usize = 4096;
const READ: c_int = 1;
const WRITE: c_int = 2;
const SHARED: c_int = 1;
const PRIVATE_ANONYMOUS: c_int = 0x22;

fn main() {
    let how = std::env::args().nth(1).unwrap_or_default();
    black_box(start as fn(&str))(&how);
}

#[inline(never)]
fn start(how: &str) {
    // Rust's own handler gives up on all but an overflow and returns: the fault comes again, and nothing handles it.
    match how {
        "null" => write_to_null(),
        "jump" => jump_to_null(),
        "bus" => read_beyond_the_file(),
        "ill" => illegal_instruction(),
        "fpe" => divide_by_zero(),
        "trap" => breakpoint(),
        "abort" => give_up(),
        "thread" => in_a_thread(),
        "overflow" => overflow_without_handler(),
        "overflow-handler" => overflow_with_a_handler_on_the_same_stack(),
        "handled" => handled(),
        other => {
            eprintln!("faults: no way to die is called {other:?}");
            exit(2);
        }
    }
    // Keeps the calls above from becoming jumps, which leave no frame.
    black_box(how);
}

#[inline(never)]
fn write_to_null() {
    let address: *mut u32 = black_box(std::ptr::null_mut());
    // SAFETY: none, that is the point.
    unsafe { address.write_volatile(1) };
    black_box(address);
}

#[inline(never)]
fn jump_to_null() {
    // SAFETY: none. Nothing is mapped at address 16; it is written so that the compiler cannot know.
    let function: extern "C" fn() = unsafe { std::mem::transmute(black_box(16_usize)) };
    function();
    black_box(function);
}

#[inline(never)]
fn read_beyond_the_file() {
    // SAFETY: the mapping is there; the empty file behind it is what makes it fault.
    unsafe {
        let file = memfd_create(c"empty".as_ptr().cast(), 0);
        let start = mmap(std::ptr::null_mut(), PAGE, READ, SHARED, file, 0);
        black_box(start.read_volatile());
        black_box(start);
    }
}

#[inline(never)]
fn illegal_instruction() {
    // SAFETY: none.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("ud2");
        #[cfg(target_arch = "aarch64")]
        asm!("udf #0");
    }
    black_box(());
}

#[inline(never)]
fn divide_by_zero() {
    // SAFETY: none. Other architectures give 0.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("xor edx, edx", "mov eax, 1", "div {0:e}", in(reg) black_box(0_u32), out("eax") _, out("edx") _);
    }
    black_box(());
}

#[inline(never)]
fn breakpoint() {
    // SAFETY: none.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("int3");
        #[cfg(target_arch = "aarch64")]
        asm!("brk #0");
    }
    black_box(());
}

#[inline(never)]
fn give_up() {
    std::process::abort();
}

#[inline(never)]
fn in_a_thread() {
    let thread = std::thread::Builder::new().name("worker".to_owned()).spawn(write_to_null);
    let _ = thread.map(std::thread::JoinHandle::join);
}

#[allow(unconditional_recursion, reason = "it is to use up its stack")]
#[inline(never)]
fn descend(depth: u64) -> u64 {
    let room = black_box([depth; 64]);
    descend(depth + 1) + room[(depth % 64) as usize]
}

#[inline(never)]
fn overflow_without_handler() {
    // SAFETY: gives up Rust's handler.
    unsafe { signal(SIGSEGV, SIG_DFL) };
    black_box(descend(0));
}

/// `stack_t` with SS_DISABLE.
#[repr(C)]
struct NoStack {
    start: usize,
    flags: c_int,
    bytes: usize,
}

#[inline(never)]
fn overflow_with_a_handler_on_the_same_stack() {
    extern "C" fn never_runs(_: c_int) {}
    // SAFETY: the handler has no stack of its own, so it cannot be run.
    unsafe {
        let none = NoStack { start: 0, flags: 2, bytes: 0 };
        sigaltstack((&raw const none).cast(), std::ptr::null_mut());
        signal(SIGSEGV, never_runs as *const () as usize);
    }
    black_box(descend(0));
}

static mut GUARDED: *mut u8 = std::ptr::null_mut();

/// What a garbage collector does: the handler makes the page writable, and the program goes on.
#[inline(never)]
fn handled() {
    extern "C" fn open_the_page(_: c_int) {
        // SAFETY: the page is there.
        unsafe { mprotect(GUARDED.cast(), PAGE, READ | WRITE) };
    }
    // SAFETY: the page is there, and the handler makes it writable.
    unsafe {
        GUARDED = mmap(std::ptr::null_mut(), PAGE, READ, PRIVATE_ANONYMOUS, -1, 0);
        signal(SIGSEGV, open_the_page as *const () as usize);
        GUARDED.write_volatile(1);
    }
    exit(3);
}
