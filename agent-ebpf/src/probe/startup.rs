//! What a container opens with success while it starts: the end of open, openat, openat2 and creat, where `syscall.rs` comes by.
//!
//! Why: a program that dies of what its configuration says fails at no call; the file it read last is what there is to say. Only
//! names are kept, and only of files that look like configuration (opened for reading) or like logs (opened for writing).
//! Cost: while no container is young, one load and one comparison at a call that succeeds (`attention.rs`). While one is, a look-up of
//! the caller's group at each open of the node, and in that container the reading of the path, some 400 instructions.

use lastwords_agent_common::{
    limits::{PATH_BYTES, START_UP},
    names::{BEGINNINGS, ENDINGS, Pattern, says},
    record::Recorder,
    rules::{SyscallRule, object, opens},
};

use crate::{
    attention,
    container::Container,
    kernel::{
        Address, call_number, current_task, follow_user, is_compat, now, offset, read_comm, read_user_string,
        register,
    },
    maps::{OPENING, Opening, PATH_MARGIN, SYSCALLS},
    process,
    recorder::{add, mark, opened_slot},
};

/// When a container last executed its first program; written by exec alone.
static mut LAST_START: u64 = 0;
/// How often no container was young any more.
static mut TIMES_OVER: u64 = 0;

// include/uapi/asm-generic/fcntl.h; the same on x86-64 and arm64. (O_DIRECTORY is not.)
const O_WRONLY: u32 = 0o1;
const O_RDWR: u32 = 0o2;
const O_CREAT: u32 = 0o100;
const O_EXCL: u32 = 0o200;
const O_TRUNC: u32 = 0o1000;
const O_APPEND: u32 = 0o2000;
const O_PATH: u32 = 0o1000_0000;

/// The container executes its first program.
#[inline(always)]
pub fn began(recorder: *mut Recorder) {
    let time = now();
    // SAFETY: an aligned word of the program's own data with writers of nearly the same time, and a field of the container's recorder.
    unsafe {
        (*recorder).started = time;
        (&raw mut LAST_START).write_volatile(time);
    }
    attention::set_any_young(true);
}

/// A call has succeeded while some container was young.
#[inline(always)]
pub fn succeeded<const TYPED: bool>(registers: Address) {
    let Some(rule) = SYSCALLS.get(call_number::<TYPED>(registers)) else {
        return;
    };
    // The calls of 32-bit programs have other numbers.
    if rule.opens == opens::NOTHING || is_compat::<TYPED>(registers) {
        return;
    }
    let time = now();
    // SAFETY: as in `began`.
    let last = unsafe { (&raw const LAST_START).read_volatile() };
    // Another processor may have started one since `time` was taken, or its clock may be a little ahead: no negative age.
    if time.saturating_sub(last) > START_UP {
        is_over(last);
        return;
    }
    let Some(recorder) = Container::of_current().and_then(Container::recorder) else {
        return;
    };
    // SAFETY: a field of the container's recorder.
    let started = unsafe { (*recorder).started };
    if started == 0 || time.saturating_sub(started) > START_UP {
        return;
    }
    if let Some(arguments) = Arguments::of::<TYPED>(rule, registers) {
        opened(recorder, time, &arguments);
    }
}

/// No container is young, the last start was at `last`; unless one starts at this moment.
#[inline(always)]
fn is_over(last: u64) {
    attention::set_any_young(false);
    // SAFETY: as in `began`. An atomic addition, so that the flag is seen before the word is read again.
    unsafe {
        add(&raw mut TIMES_OVER, 1);
        if (&raw const LAST_START).read_volatile() != last {
            attention::set_any_young(true);
        }
    }
}

#[inline(always)]
fn opened(recorder: *mut Recorder, time: u64, arguments: &Arguments) {
    // SAFETY: fields of this CPU's room.
    let (path, source) =
        unsafe { (&raw mut (*arguments.0).path, (&raw const (*arguments.0).source).read_volatile()) };
    let length = read_user_string(path, source);
    if length < 2 {
        return;
    }
    let name = Name::of(path.cast(), length);
    let said = name.said(arguments);
    let flags = arguments.flags();
    let writes = flags & (O_WRONLY | O_RDWR) != 0;
    let keep = if writes {
        // A log is appended to, or called so. What `cp`, `tar` and makers of temporary files make anew (O_EXCL) is none.
        (flags & O_APPEND != 0 || flags & O_RDWR == 0 && said & says::LOG != 0)
            && flags & O_EXCL == 0
            && said & says::SYSTEM == 0
    } else {
        said & (says::CONFIGURATION | says::COMMON | says::SYSTEM) == says::CONFIGURATION
            && flags & (O_PATH | offset::OPEN_DIRECTORY.load()) == 0
    };
    if !keep {
        return;
    }
    let key = name.key(length);
    let Some(slot) = opened_slot(recorder, writes, key) else {
        return;
    };
    let process = process::current();
    let tid = process as u32;
    // SAFETY: a slot of the container's recorder.
    unsafe {
        (*slot).begin = mark(time, tid);
        (*slot).time = time;
        (*slot).key = key;
        (*slot).tgid = (process >> 32) as u32;
        (*slot).tid = tid;
        (*slot).directory = (&raw const (*arguments.0).directory).read_volatile() as i32;
        read_comm(&raw mut (*slot).comm, current_task());
        // Once more, and not copied: another program may have used the room meanwhile.
        (*slot).length = read_user_string(&raw mut (*slot).path, source);
        (*slot).end = mark(time, tid);
    }
}

/// What an opening call was called with. Kept in a map, where the verifier forgets what it knew of each of the ways in which that was
/// found out: it would follow all that comes for each of them.
struct Arguments(*mut Opening);

impl Arguments {
    #[inline(always)]
    fn of<const TYPED: bool>(rule: &SyscallRule, registers: Address) -> Option<Self> {
        let room = OPENING.get_ptr_mut(0)?;
        let [first, second, third] = [&offset::REGS_0, &offset::REGS_1, &offset::REGS_2]
            .map(|place| register::<TYPED>(registers, place));
        let at = rule.object == object::PATH_1;
        let behind = if at { third } else { second };
        let flags = match rule.opens {
            opens::FLAGS => behind as u32,
            opens::HOW => follow_user(behind),
            _ => O_CREAT | O_WRONLY | O_TRUNC,
        };
        // SAFETY: fields of this CPU's room.
        unsafe {
            (&raw mut (*room).directory).write_volatile(if at { first } else { AT_FDCWD as u64 });
            (&raw mut (*room).source).write_volatile(if at { second } else { first });
            (&raw mut (*room).flags).write_volatile(u64::from(flags));
        }
        Some(Self(room))
    }

    #[inline(always)]
    fn flags(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (&raw const (*self.0).flags).read_volatile() as u32 }
    }
}

/// The ends of a path, as numbers that are compared at once. What stands behind the end of a short path is of an earlier one.
struct Name {
    first: u64,
    second: u64,
    last: u64,
    before_last: u64,
}

impl Name {
    #[inline(always)]
    fn of(path: *const u8, length: u32) -> Self {
        let end = core::hint::black_box(length as usize - 1) & (PATH_BYTES - 1);
        // SAFETY: `path` has PATH_BYTES bytes and a margin of PATH_MARGIN before it.
        unsafe {
            let from = path.sub(PATH_MARGIN).add(end);
            Self {
                first: path.cast::<u64>().read_unaligned(),
                second: path.add(8).cast::<u64>().read_unaligned(),
                last: from.add(PATH_MARGIN - 8).cast::<u64>().read_unaligned(),
                before_last: from.add(PATH_MARGIN - 16).cast::<u64>().read_unaligned(),
            }
        }
    }

    /// What the patterns say of it, see [`says`]. Added up in a map, so that the two ways from each comparison are one again for the
    /// verifier.
    #[inline(always)]
    fn said(&self, arguments: &Arguments) -> u64 {
        // SAFETY: a field of this CPU's room.
        let said = unsafe { &raw mut (*arguments.0).said };
        let add = |pattern: Pattern, near, far| {
            if pattern.fits(near, far) {
                // SAFETY: as above.
                unsafe { said.write_volatile(said.read_volatile() | pattern.says) };
            }
        };
        // SAFETY: as above.
        unsafe { said.write_volatile(0) };
        let mut place = 0;
        while place < BEGINNINGS.len() {
            add(pattern(&raw const BEGINNINGS, place), self.first, self.second);
            place += 1;
        }
        place = 0;
        while place < ENDINGS.len() {
            add(pattern(&raw const ENDINGS, place), self.last, self.before_last);
            place += 1;
        }
        // SAFETY: as above.
        unsafe { said.read_volatile() }
    }

    /// Never 0. Two paths with the same ends and length share one slot, the later one stays.
    #[inline(always)]
    fn key(&self, length: u32) -> u64 {
        const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
        let mixed = (self.first.wrapping_mul(MIX) ^ self.before_last).wrapping_mul(MIX) ^ self.last;
        (mixed.wrapping_mul(MIX) ^ u64::from(length)) | 1
    }
}

/// Read and not folded into the program: fifty patterns as constants need more registers than there are.
#[inline(always)]
fn pattern<const N: usize>(table: *const [Pattern; N], place: usize) -> Pattern {
    // SAFETY: `place` is below N.
    unsafe { table.cast::<Pattern>().add(place).read_volatile() }
}

/// Relative to the working directory (include/uapi/linux/fcntl.h).
const AT_FDCWD: i64 = -100;
