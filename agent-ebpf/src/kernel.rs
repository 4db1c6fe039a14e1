//! Reading the kernel's memory at offsets that were resolved when the agent started.

use core::mem::MaybeUninit;

use aya_ebpf::{
    Global,
    helpers::generated::{
        bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user,
        bpf_probe_read_user_str,
    },
};
use lastwords_agent_common::{for_each_kernel_field, offsets::ABSENT, record::NOT_KNOWN, rules::MODE_BIT};

/// An address in the kernel; may be null or stale, reading through [`read`] is safe all the same.
pub type Address = *const u8;

/// The offsets, each a global that the agent freezes before the program is verified.
pub mod offset {
    use super::{Global, for_each_kernel_field};

    /// A global that the agent forgot: a typed load there does not verify, and a helper's reads zero.
    const UNSET: u32 = super::ABSENT;

    macro_rules! define {
        ($($name:ident: $need:ident $path:literal;)*) => {
            $(
                #[doc = $path]
                #[unsafe(no_mangle)]
                pub static $name: Global<u32> = Global::new(UNSET);
            )*
        };
    }
    for_each_kernel_field!(define);

    /// Index of the memory controller in `css_set.subsys`.
    #[unsafe(no_mangle)]
    pub static MEMORY_CGRP_ID: Global<u32> = Global::new(UNSET);
    /// Index of MEMCG_OOM in `memory_events_local`.
    #[unsafe(no_mangle)]
    pub static MEMCG_OOM: Global<u32> = Global::new(UNSET);
    /// Bytes from one counter in `mm_struct.rss_stat` to the next (8 up to Linux 6.1, the size of a percpu_counter since 6.2).
    #[unsafe(no_mangle)]
    pub static RSS_STRIDE: Global<u32> = Global::new(UNSET);
    /// Offset of the number in each of them.
    #[unsafe(no_mangle)]
    pub static RSS_COUNT: Global<u32> = Global::new(UNSET);
    /// Bytes from one signal's `k_sigaction` to the next.
    #[unsafe(no_mangle)]
    pub static SIGACTION_STRIDE: Global<u32> = Global::new(UNSET);
    /// 1 where `mark_victim` carries no task (Linux 5.10), so that an OOM kill is taken from its SIGKILL.
    #[unsafe(no_mangle)]
    pub static OOM_BY_SIGNAL: Global<u32> = Global::new(UNSET);
    /// Where a task says, while it executes a program, that this is a 32-bit one; [`ABSENT`](lastwords_agent_common::offsets::ABSENT) where
    /// there is none.
    #[unsafe(no_mangle)]
    pub static COMPAT_FLAGS: Global<u32> = Global::new(UNSET);
    /// The bit that says so.
    #[unsafe(no_mangle)]
    pub static COMPAT_BIT: Global<u32> = Global::new(UNSET);
    /// System call number of connect.
    #[unsafe(no_mangle)]
    pub static CONNECT_NUMBER: Global<u32> = Global::new(UNSET);
    /// And of getsockopt.
    #[unsafe(no_mangle)]
    pub static GETSOCKOPT_NUMBER: Global<u32> = Global::new(UNSET);
    /// 1 where there is a helper that gives the current task with its type.
    #[unsafe(no_mangle)]
    pub static CURRENT_TASK_TYPED: Global<u32> = Global::new(UNSET);
    /// The open flag for a directory, O_DIRECTORY.
    #[unsafe(no_mangle)]
    pub static OPEN_DIRECTORY: Global<u32> = Global::new(UNSET);
    /// Where `pt_regs` holds the system call's number at its exit (`orig_ax` on x86-64).
    #[unsafe(no_mangle)]
    pub static REGS_CALL: Global<u32> = Global::new(UNSET);
    /// Where it holds the processor's mode.
    #[unsafe(no_mangle)]
    pub static REGS_MODE: Global<u32> = Global::new(UNSET);
    /// What [`MODE_BIT`](super::MODE_BIT) there is for a 32-bit program.
    #[unsafe(no_mangle)]
    pub static COMPAT_MODE: Global<u32> = Global::new(UNSET);
    /// Where it holds the number when a signal is delivered.
    #[unsafe(no_mangle)]
    pub static REGS_CALL_AT_SIGNAL: Global<u32> = Global::new(UNSET);
    /// Where it holds the result.
    #[unsafe(no_mangle)]
    pub static REGS_RESULT: Global<u32> = Global::new(UNSET);
    /// Where it holds the address of the next instruction.
    #[unsafe(no_mangle)]
    pub static REGS_NEXT: Global<u32> = Global::new(UNSET);
    /// The instruction that makes a system call, where a call that will start anew is told by it alone; else 0.
    #[unsafe(no_mangle)]
    pub static CALL_INSTRUCTION: Global<u32> = Global::new(UNSET);
    /// Whether the calls of 32-bit programs end in the same functions as those of 64 bits.
    #[unsafe(no_mangle)]
    pub static COMPAT_IN_FUNCTIONS: Global<u32> = Global::new(UNSET);
    /// Where it holds argument 0.
    #[unsafe(no_mangle)]
    pub static REGS_0: Global<u32> = Global::new(UNSET);
    /// Argument 1.
    #[unsafe(no_mangle)]
    pub static REGS_1: Global<u32> = Global::new(UNSET);
    /// Argument 2.
    #[unsafe(no_mangle)]
    pub static REGS_2: Global<u32> = Global::new(UNSET);
    /// Argument 3.
    #[unsafe(no_mangle)]
    pub static REGS_3: Global<u32> = Global::new(UNSET);
    /// Argument 4.
    #[unsafe(no_mangle)]
    pub static REGS_4: Global<u32> = Global::new(UNSET);
    /// Argument 5.
    #[unsafe(no_mangle)]
    pub static REGS_5: Global<u32> = Global::new(UNSET);
}

/// Argument `n` of the hook.
#[inline(always)]
pub fn argument(arguments: *const u64, n: usize) -> u64 {
    // SAFETY: the verifier knows how many arguments the hook has and refuses the program when `n` is beyond them.
    unsafe { arguments.add(n).read_volatile() }
}

/// Argument `n` of the hook as an address.
#[inline(always)]
pub fn pointer(arguments: *const u64, n: usize) -> Address {
    argument(arguments, n) as Address
}

/// A member of a structure whose type the verifier knows, as of what a hook's arguments point at (`tp_btf`, fentry, fexit): a plain load,
/// which has to stay inside one member.
#[inline(always)]
pub fn load<T: Copy>(structure: Address, place: &Global<u32>) -> T {
    // SAFETY: `place` is a frozen offset inside the structure; the verifier checks the load against the type.
    unsafe { structure.add(place.load() as usize).cast::<T>().read_volatile() }
}

/// A member of a system call's `pt_regs`: where the pointer's type is known (`TYPED`) a plain load, elsewhere a helper call.
#[inline(always)]
fn of_registers<T: Copy, const TYPED: bool>(registers: Address, place: &Global<u32>) -> T {
    if TYPED { load(registers, place) } else { read(registers, place) }
}

/// A register of a system call.
#[inline(always)]
pub fn register<const TYPED: bool>(registers: Address, place: &Global<u32>) -> u64 {
    of_registers::<u64, TYPED>(registers, place)
}

/// The number of the system call. On arm64 its member has 32 bits; on x86-64 the others are zero.
#[inline(always)]
pub fn call_number<const TYPED: bool>(registers: Address) -> u32 {
    of_registers::<u32, TYPED>(registers, &offset::REGS_CALL)
}

/// Whether a 32-bit program made the call: its number means another call then, and its arguments stand elsewhere.
#[inline(always)]
pub fn is_compat<const TYPED: bool>(registers: Address) -> bool {
    let mode = u32::from(of_registers::<u16, TYPED>(registers, &offset::REGS_MODE));
    mode & MODE_BIT == offset::COMPAT_MODE.load()
}

/// The value at `base + offset`, zero when it cannot be read.
///
/// No look at the helper's result: it zeroes the destination when it fails (bpf_probe_read_kernel_common, kernel/trace/bpf_trace.c),
/// and a branch here would double the ways that the verifier follows with every field read.
#[inline(always)]
pub fn read<T: Copy>(base: Address, offset: &Global<u32>) -> T {
    read_at(base.wrapping_add(offset.load() as usize))
}

/// The value at `address`, zero when it cannot be read.
#[inline(always)]
pub fn read_at<T: Copy>(address: Address) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the destination has the size that is passed; the helper checks the source; T is an integer or an array of them, for
    // which every value is valid.
    unsafe {
        bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, address.cast());
        value.assume_init()
    }
}

/// Copies from one map's or record's memory to another's with one call of a helper: a long copy in the program takes some instructions for
/// each byte, or more registers than there are.
///
/// # Safety
/// `destination` must have room for a `T`.
#[inline(always)]
pub unsafe fn copy<T>(destination: *mut T, source: *const T) {
    // SAFETY: by the caller; the helper checks the source.
    unsafe { bpf_probe_read_kernel(destination.cast(), size_of::<T>() as u32, source.cast()) };
}

/// The pointer at `base + offset`, null when it cannot be read.
#[inline(always)]
pub fn follow(base: Address, offset: &Global<u32>) -> Address {
    read::<u64>(base, offset) as Address
}

/// Copies a zero-terminated kernel string to `destination`; gives its bytes with the terminating zero, 0 when it cannot be read.
#[inline(always)]
pub fn read_string<const N: usize>(destination: *mut [u8; N], source: Address) -> u32 {
    // SAFETY: `destination` has N bytes; the helper checks the source.
    let length = unsafe { bpf_probe_read_kernel_str(destination.cast(), N as u32, source.cast()) };
    if length > 0 {
        return length as u32;
    }
    // SAFETY: as above; the helper may have failed without writing.
    unsafe { destination.cast::<u8>().write(0) };
    0
}

/// As [`read_string`], from the memory of the current program.
#[inline(always)]
pub fn read_user_string<const N: usize>(destination: *mut [u8; N], source: u64) -> u32 {
    // SAFETY: `destination` has N bytes; the helper checks the source.
    let length = unsafe { bpf_probe_read_user_str(destination.cast(), N as u32, source as *const _) };
    if length > 0 {
        return length as u32;
    }
    // SAFETY: as above.
    unsafe { destination.cast::<u8>().write(0) };
    0
}

/// Copies `length` bytes, at most `MASK` (all ones, below the size of `destination`), from the memory of the current program; gives
/// the bytes copied.
#[inline(always)]
pub fn read_user_bytes<const N: usize, const MASK: u64>(
    destination: *mut [u8; N],
    source: u64,
    length: u64,
) -> u32 {
    const { assert!(MASK < N as u64) };
    // LLVM proves the mask away after `min`; the verifier needs to see it.
    let length = core::hint::black_box(if length > MASK { MASK } else { length }) & MASK;
    if length == 0 {
        return 0;
    }
    // SAFETY: `length` is at most MASK, which is below N.
    let result = unsafe { bpf_probe_read_user(destination.cast(), length as u32, source as *const _) };
    if result == 0 { length as u32 } else { 0 }
}

/// The integer at `source` in the memory of the current program, zero when it cannot be read.
#[inline(always)]
pub fn follow_user(source: u64) -> u32 {
    let mut value = MaybeUninit::<u32>::uninit();
    // SAFETY: as in `read_at`; this helper too zeroes the destination when it fails.
    unsafe {
        bpf_probe_read_user(value.as_mut_ptr().cast(), size_of::<u32>() as u32, source as *const _);
        value.assume_init()
    }
}

/// As [`follow_user`], of eight bytes.
#[inline(always)]
pub fn follow_user_pointer(source: u64) -> u64 {
    let mut value = MaybeUninit::<u64>::uninit();
    // SAFETY: as in `follow_user`.
    unsafe {
        bpf_probe_read_user(value.as_mut_ptr().cast(), size_of::<u64>() as u32, source as *const _);
        value.assume_init()
    }
}

/// Writes the current task's name to `comm` and what it has waited for a processor to `waited`, and gives its user and group as
/// bpf_get_current_uid_gid does. Where a kernel hands out the current task with its type (Linux 5.11) that takes some 50 instructions,
/// elsewhere 250.
#[inline(always)]
pub fn current_caller(comm: *mut [u8; 16], waited: *mut u64) -> u64 {
    if offset::CURRENT_TASK_TYPED.load() == 0 {
        let task = current_task();
        read_comm(comm, task);
        // SAFETY: a field of a recorder's slot.
        unsafe { waited.write(self::waited(task)) };
        return aya_ebpf::helpers::bpf_get_current_uid_gid();
    }
    // SAFETY: always allowed in tracing programs of such kernels; others never come here, and their verifiers know it.
    let task = unsafe { bpf_get_current_task_btf() } as Address;
    let name = offset::TASK_COMM.load() as usize;
    let credentials = load::<u64>(task, &offset::TASK_CRED) as Address;
    // SAFETY: `comm` is 16 bytes of a record or recorder, at a multiple of eight; the loads are inside the member.
    unsafe {
        comm.cast::<u64>().write(task.add(name).cast::<u64>().read_volatile());
        comm.cast::<u64>().add(1).write(task.add(name).cast::<u64>().add(1).read_volatile());
        waited.write(match offset::TASK_RUN_DELAY.load() {
            ABSENT => NOT_KNOWN,
            _ => load(task, &offset::TASK_RUN_DELAY),
        });
    }
    let (user, group): (u32, u32) =
        (load(credentials, &offset::CRED_UID), load(credentials, &offset::CRED_GID));
    u64::from(group) << 32 | u64::from(user)
}

/// What a task has waited for a processor, see [`NOT_KNOWN`].
#[inline(always)]
pub fn waited(task: Address) -> u64 {
    match offset::TASK_RUN_DELAY.load() {
        ABSENT => NOT_KNOWN,
        _ => read(task, &offset::TASK_RUN_DELAY),
    }
}

/// How often a task has written by write(2) and its like, see [`NOT_KNOWN`].
#[inline(always)]
pub fn writes(task: Address) -> u64 {
    match offset::TASK_WRITES.load() {
        ABSENT => NOT_KNOWN,
        _ => read(task, &offset::TASK_WRITES),
    }
}

/// `task->comm` to `destination`.
#[inline(always)]
pub fn read_comm(destination: *mut [u8; 16], task: Address) {
    // SAFETY: `destination` is 16 bytes of a record or recorder.
    unsafe { destination.write(read(task, &offset::TASK_COMM)) };
}

/// The cgroup v2 directory of a task.
#[inline(always)]
pub fn cgroup_node(task: Address) -> Address {
    let css_set = follow(task, &offset::TASK_CGROUPS);
    let cgroup = follow(css_set, &offset::CSS_SET_DFL_CGRP);
    follow(cgroup, &offset::CGROUP_KN)
}

/// Whether the program that `task` has just executed is a 32-bit one.
#[inline(always)]
pub fn executes_compat(task: Address) -> bool {
    offset::COMPAT_FLAGS.load() != ABSENT
        && read::<u32>(task, &offset::COMPAT_FLAGS) & offset::COMPAT_BIT.load() != 0
}

/// The `struct fdtable *` of a task's open files.
#[inline(always)]
pub fn file_table(task: Address) -> Address {
    follow(follow(task, &offset::TASK_FILES), &offset::FILES_TABLE)
}

/// The `struct file *` at a descriptor's place of a table, which has to be that large; null when there is none.
#[inline(always)]
pub fn file_of(table: Address, descriptor: u32) -> Address {
    let files = follow(table, &offset::TABLE_FILES);
    read_at::<u64>(files.wrapping_add(descriptor as usize * size_of::<u64>())) as Address
}

/// The `struct file *` that `task` has open as `descriptor`; null when it has none.
#[inline(always)]
pub fn open_file(task: Address, descriptor: u32) -> Address {
    file_of(file_table(task), descriptor)
}

/// The current task.
#[inline(always)]
pub fn current_task() -> Address {
    // SAFETY: always allowed in tracing programs.
    (unsafe { aya_ebpf::helpers::generated::bpf_get_current_task() }) as Address
}

/// Nanoseconds of CLOCK_MONOTONIC.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: always allowed in tracing programs.
    unsafe { aya_ebpf::helpers::generated::bpf_ktime_get_ns() }
}
