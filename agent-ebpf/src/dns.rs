//! DNS messages: a query takes a slot of its container's recorder, its answer completes that or frees it.
//!
//! Names are compared by hashes of the message's words and nothing else is looked at here: what a message says is decoded by the agent.
//! An answer that brings something gives up every slot of its name, and those of names with the same first label that the same process asked
//! for shortly before and that do not exist: a resolver tries the search domains one after the other. What is given up is overwritten first,
//! and uncounted; until then the agent can see by the names whether it was such a series. So what stays is what failed.

use aya_ebpf::{Global, helpers};
use lastwords_agent_common::{
    limits::{ADDRESS_BYTES, DNS_MESSAGE_BYTES, DNS_QUERIES},
    record::{DnsEntry, Recorder, dns_state},
};

use crate::{
    container::Container,
    kernel::{current_task, now, read_comm},
    maps::{DNS_MESSAGE, DnsScratch, NameServer},
    process,
    recorder::ones_if_zero,
};

/// Bytes of the room for a message: more than are kept, so that a mask of ones can bound what is read.
pub const SCRATCH_MESSAGE: usize = 516;
/// That mask.
pub const SCRATCH_MASK: u64 = 511;
/// Words of the scratch that a message, a zero behind it, and what stands before it take.
const WORDS_IN_USE: usize = (4 + DNS_MESSAGE_BYTES) / 8 + 1;

/// Port 53 as it stands in an address, a header and a socket.
pub const DOMAIN: u16 = 53u16.to_be();

/// 1 where packets are looked at and TCP is not followed: this kernel's functions have a form that is not known.
#[unsafe(no_mangle)]
pub static BLIND_TO_TCP: Global<u32> = Global::new(0);

const WAITING: u64 = dns_state::WAITING as u64;
const ANSWERED: u64 = dns_state::ANSWERED as u64;
const RESOLVED: u64 = dns_state::RESOLVED as u64;
const SUPPLANTED: u64 = dns_state::SUPPLANTED as u64;

/// Bytes before the name.
const HEADER_BYTES: usize = 12;
/// A header, the root's name, type and class.
const SHORTEST: u64 = 17;
/// Of the byte with the flags: an answer.
const IS_ANSWER: u8 = 0x80;
/// The number of the call that carried a message, where packets are looked at and no call is known.
pub const NO_CALL: u32 = u32::MAX;
/// Of the flags: not all of the answer fitted.
const TRUNCATED: u32 = 0x0200;
/// How long before an answer another name of the same series may have been asked for, in nanoseconds: a resolver with two servers waits
/// ten seconds for both.
const SERIES: u64 = 10_000_000_000;
/// An odd constant with well mixed bits, for hashing.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// The room for a message on this processor, with zeroes in it: the name's end must not be an older message's.
#[inline(always)]
pub fn scratch() -> Option<*mut DnsScratch> {
    let scratch = DNS_MESSAGE.get_ptr_mut(0)?;
    let words = scratch.cast::<u64>();
    let mut index = 0;
    while index < WORDS_IN_USE {
        // SAFETY: within the structure, which is aligned; written one by one, for a call of memset would write byte by byte.
        unsafe { words.add(index).write_volatile(0) };
        index += 1;
    }
    Some(scratch)
}

/// Bytes of a message that are looked at.
#[inline(always)]
pub fn kept(length: u64) -> u64 {
    const MOST: u64 = DNS_MESSAGE_BYTES as u64;
    if length > MOST { MOST } else { length }
}

/// A message between a thread and a name server, `length` bytes of it in `scratch`: which of the two sent it stands in it.
#[inline(always)]
pub fn take(container: Container, scratch: *mut DnsScratch, length: u64, server: &NameServer, syscall: u32) {
    if length < SHORTEST || !is_one_question(scratch) {
        return;
    }
    let Some(recorder) = container.recorder() else { return };
    if is_answer(scratch) {
        received(recorder, scratch, syscall);
    } else {
        sent(recorder, scratch, length, server, syscall);
    }
}

/// A query takes a slot: that of an earlier try, a free one, or the oldest.
#[inline(always)]
fn sent(recorder: *mut Recorder, scratch: *mut DnsScratch, length: u64, server: &NameServer, syscall: u32) {
    let (name, label) = hashes(scratch);
    let id = id(scratch);
    find(recorder, scratch, |entry| {
        // SAFETY: a slot of the container's recorder.
        unsafe {
            let open = open(entry);
            let same = open & ones_if_zero((*entry).name_hash ^ name | u64::from(id_of(entry) ^ id));
            // That of an earlier try, a free one (its time is 0), the oldest that is given up, the oldest.
            !same & ((*entry).time | 1 | open << 63)
        }
    });
    let entry = found(recorder, scratch);
    let process = process::current();
    let user = helpers::bpf_get_current_uid_gid();
    // SAFETY: a slot of the container's recorder, and a message in its scratch.
    unsafe {
        let in_use = open(entry) != 0;
        let again = in_use && (*entry).name_hash == name && id_of(entry) == id;
        if in_use && !again {
            (*recorder).dns_overwritten += 1;
        }
        (*entry).sent = if again { (*entry).sent + 1 } else { 1 };
        (*entry).time = now();
        (*entry).answered = 0;
        (*entry).name_hash = name;
        (*entry).label_hash = label;
        (*entry).tgid = (process >> 32) as u32;
        (*entry).tid = process as u32;
        (*entry).uid = user as u32;
        (*entry).gid = (user >> 32) as u32;
        (*entry).syscall = syscall;
        (*entry).protocol = server.protocol;
        (*entry).response = 0;
        (*entry).answers = 0;
        (*entry).errno = 0;
        (*entry).length = length as u32;
        read_comm(&raw mut (*entry).comm, current_task());
        (*entry).server = server.address;
        copy_message(scratch, entry);
        (*entry).state = dns_state::WAITING;
    }
}

/// All bits set for a query that waits or that failed, else none.
///
/// # Safety
/// `entry` is a slot of a recorder.
#[inline(always)]
unsafe fn open(entry: *mut DnsEntry) -> u64 {
    // SAFETY: by the caller.
    let state = u64::from(unsafe { (*entry).state });
    ones_if_zero(state ^ WAITING) | ones_if_zero(state ^ ANSWERED)
}

/// An answer gives up the slots of its name, or says what is wrong with it.
#[inline(always)]
fn received(recorder: *mut Recorder, scratch: *mut DnsScratch, syscall: u32) {
    // SAFETY: within the message.
    let (flags, code, answers) = unsafe {
        let message = (&raw const (*scratch).message).cast::<u8>();
        let word = |at: usize| u32::from(message.add(at).read()) << 8 | u32::from(message.add(at + 1).read());
        (word(2), word(2) & 15, word(6))
    };
    let truncated = flags & TRUNCATED != 0;
    let (name, label) = hashes(scratch);
    let tgid = (process::current() >> 32) as u32;
    if code == 0 && answers > 0 && !truncated {
        let since = now() - SERIES;
        each(recorder, |entry| {
            // SAFETY: a slot of the container's recorder.
            unsafe {
                // Without a branch: each would be followed from each of the others' ends.
                let state = u64::from((*entry).state);
                let late = 0u64.wrapping_sub(since.wrapping_sub((*entry).time) >> 63);
                let other = (*entry).label_hash ^ label | u64::from((*entry).tgid ^ tgid) | state ^ ANSWERED;
                let of_name = ones_if_zero((*entry).name_hash ^ name) & !ones_if_zero(state);
                let of_series = ones_if_zero(other) & late & !of_name;
                let given_up = RESOLVED & of_name | SUPPLANTED & of_series;
                (*entry).state = (state & !(of_name | of_series) | given_up) as u32;
            }
        });
        return;
    }
    let id = id(scratch);
    let answered = now();
    // It may be asked for again over TCP; that the server answered stays in the flags.
    let state = if truncated { dns_state::WAITING } else { dns_state::ANSWERED };
    let is_lost = truncated && syscall == NO_CALL && BLIND_TO_TCP.load() != 0;
    // SAFETY: a field of the container's recorder.
    unsafe { (*recorder).dns_truncated += u64::from(is_lost) };
    each(recorder, |entry| {
        // SAFETY: a slot of the container's recorder.
        unsafe {
            if (*entry).name_hash == name && id_of(entry) == id && (*entry).state == dns_state::WAITING {
                (*entry).answered = answered;
                (*entry).response = flags;
                (*entry).answers = answers;
                (*entry).syscall = syscall;
                (*entry).state = state;
            }
        }
    });
}

/// The kernel brought an error from a name server instead of an answer: nobody is there, whichever process asks.
#[inline(always)]
pub fn refused(container: Container, server: &[u8; ADDRESS_BYTES], errno: u32) {
    let Some(recorder) = container.recorder() else { return };
    each(recorder, |entry| {
        // SAFETY: a slot of the container's recorder.
        unsafe {
            if (*entry).state == dns_state::WAITING && same(&raw const (*entry).server, server) {
                (*entry).errno = errno;
            }
        }
    });
}

/// Compared in words of four bytes, to which both are aligned.
#[inline(always)]
unsafe fn same(one: *const [u8; ADDRESS_BYTES], other: *const [u8; ADDRESS_BYTES]) -> bool {
    let (one, other) = (one.cast::<u32>(), other.cast::<u32>());
    let mut difference = 0;
    let mut index = 0;
    while index < ADDRESS_BYTES / 4 {
        // SAFETY: both have ADDRESS_BYTES; the caller vouches for the pointers.
        difference |= unsafe { one.add(index).read_volatile() ^ other.add(index).read_volatile() };
        index += 1;
    }
    difference == 0
}

/// Calls `visit` with every slot.
#[inline(always)]
fn each(recorder: *mut Recorder, visit: impl Fn(*mut DnsEntry)) {
    let mut index = 0;
    while index < DNS_QUERIES {
        // SAFETY: `index` is below the number of slots.
        visit(unsafe { (&raw mut (*recorder).dns).cast::<DnsEntry>().add(index) });
        index += 1;
    }
}

/// Leaves the slot with the lowest score in the scratch. There and not in a register, where the verifier would follow each slot by itself.
#[inline(always)]
fn find(recorder: *mut Recorder, scratch: *mut DnsScratch, score: impl Fn(*mut DnsEntry) -> u64) {
    let mut best = u64::MAX;
    let mut index = 0;
    while index < DNS_QUERIES {
        // SAFETY: `index` is below the number of slots.
        let entry = unsafe { (&raw mut (*recorder).dns).cast::<DnsEntry>().add(index) };
        let score = score(entry);
        if score < best {
            best = score;
            // SAFETY: the scratch is this processor's.
            unsafe { (&raw mut (*scratch).found).write_volatile(index as u32) };
        }
        index += 1;
    }
}

#[inline(always)]
fn found(recorder: *mut Recorder, scratch: *mut DnsScratch) -> *mut DnsEntry {
    // SAFETY: as in `find`; the mask keeps it below the number of slots.
    unsafe {
        let index = (&raw const (*scratch).found).read_volatile() as usize & (DNS_QUERIES - 1);
        (&raw mut (*recorder).dns).cast::<DnsEntry>().add(index)
    }
}

#[inline(always)]
fn is_one_question(scratch: *mut DnsScratch) -> bool {
    // SAFETY: within the message.
    unsafe {
        let message = (&raw const (*scratch).message).cast::<u8>();
        message.add(4).read() == 0 && message.add(5).read() == 1
    }
}

#[inline(always)]
fn is_answer(scratch: *mut DnsScratch) -> bool {
    // SAFETY: within the message.
    unsafe { (&raw const (*scratch).message).cast::<u8>().add(2).read() & IS_ANSWER != 0 }
}

#[inline(always)]
fn id(scratch: *mut DnsScratch) -> u16 {
    // SAFETY: within the message, which is aligned to four bytes.
    unsafe { (&raw const (*scratch).message).cast::<u16>().read() }
}

#[inline(always)]
unsafe fn id_of(entry: *mut DnsEntry) -> u16 {
    // SAFETY: the caller's entry, whose message is aligned.
    unsafe { (&raw const (*entry).message).cast::<u16>().read() }
}

/// Of the whole name and of its first label. A name ends with a zero byte, and has no other as long as it is of letters and digits.
#[inline(always)]
fn hashes(scratch: *mut DnsScratch) -> (u64, u64) {
    const WORDS: usize = (DNS_MESSAGE_BYTES - HEADER_BYTES) / 8;
    const ONES: u64 = 0x0101_0101_0101_0101;
    const LABEL_WORDS: usize = 3;
    // SAFETY: within the message; the scratch puts the name at a multiple of eight bytes.
    let words = unsafe { (&raw const (*scratch).message).cast::<u8>().add(HEADER_BYTES).cast::<u64>() };
    let mut name = 0u64;
    let mut index = 0;
    while index < WORDS {
        // SAFETY: `index` is below the number of words.
        let word = unsafe { words.add(index).read_volatile() };
        // The highest bit of the first zero byte, and of no byte before it.
        let zeroes = word.wrapping_sub(ONES) & !word & (ONES << 7);
        let end = zeroes & zeroes.wrapping_neg();
        let before = word & end.wrapping_sub(1);
        name = (name ^ (before | (ONES << 5))).wrapping_mul(MULTIPLIER);
        name ^= name >> 29;
        if end != 0 {
            break;
        }
        index += 1;
    }
    // SAFETY: as above; the first byte of the name is its first label's length.
    let length = unsafe { words.cast::<u8>().read() } as usize + 1;
    let mut label = 0u64;
    let mut index = 0;
    while index < LABEL_WORDS {
        // SAFETY: as above.
        let word = unsafe { words.add(index).read_volatile() };
        let rest = length.saturating_sub(index * 8);
        let mask = if rest >= 8 { u64::MAX } else { (1u64 << (rest * 8)) - 1 };
        label = (label ^ ((word & mask) | (ONES << 5))).wrapping_mul(MULTIPLIER);
        label ^= label >> 29;
        index += 1;
    }
    (name, label)
}

/// In words of four bytes, to which both are aligned.
#[inline(always)]
fn copy_message(scratch: *mut DnsScratch, entry: *mut DnsEntry) {
    // SAFETY: both messages have DNS_MESSAGE_BYTES.
    unsafe {
        let from = (&raw const (*scratch).message).cast::<u32>();
        let to = (&raw mut (*entry).message).cast::<u32>();
        let mut index = 0;
        while index < DNS_MESSAGE_BYTES / 4 {
            to.add(index).write_volatile(from.add(index).read_volatile());
            index += 1;
        }
    }
}
