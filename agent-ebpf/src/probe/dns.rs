//! What a container asks its name servers, and what they answer.
//!
//! Two ways, of which one is in use. Where functions take programs: `skb_consume_udp`, `ip_send_skb` and `ip6_send_skb`, which have the
//! whole packet in the context of the process (`packet.rs`), and `tcp_sendmsg` and `tcp_recvmsg` for TCP (`stream.rs`). Elsewhere `sys_exit`, which is
//! attached anyway: it sees TCP too, and every other call with it. That must cost a call that has nothing to do with DNS nothing to speak
//! of, so it is asked in this order: has any container talked to a name server within the last minute (`attention.rs`, one load); can
//! this call carry a message (a table by number); may this be a socket that has (a table by process and descriptor); is it one.
//! Sockets are learned from connect(2) to port 53, and from sendto(2) with such an address through a UDP socket that was bound to no
//! address and no port within the last minute, as musl's resolver does.

use lastwords_agent_common::{limits::ADDRESS_BYTES, rules::success as call};

use crate::{
    attention,
    container::Container,
    dns::{self, DOMAIN, SCRATCH_MASK, SCRATCH_MESSAGE},
    kernel::{follow_user_pointer, now, offset, read, read_user_bytes},
    maps::{DNS_SOCKETS, NameServer},
    probe::listener::socket_of,
    process,
};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const TCP: u32 = 6;
const UDP: u32 = 17;
/// How long a process may wait for an answer or keep its socket, in nanoseconds. A name server that does not answer is given up after
/// some ten seconds.
const MINUTE: u64 = 60_000_000_000;
/// Sockets that can be told apart at a time; two that share a place only cost a look-up.
const PLACES: u64 = 4096;
/// Calls on other descriptors between two looks at the clock, less one.
const PATIENCE: u32 = 63;

/// Until when a container may wait for an answer, at least.
static mut UNTIL: u64 = 0;
/// Changes each time that nobody waits any more, which so takes every socket out of [`SOCKETS`]; never 0.
static mut GENERATION: u8 = 1;
/// By [`place`]: the generation in which a socket there was last seen to have to do with a name server.
static mut SOCKETS: [u8; PLACES as usize] = [0; PLACES as usize];
/// Counts calls on other descriptors while somebody waits.
static mut OTHERS: u32 = 0;

/// connect(2) succeeded, or is under way.
#[inline(always)]
pub fn connected(descriptor: u64, address: u64, length: u64) {
    let Some(server) = name_server(address, length) else { return };
    if Container::of_current().is_none() {
        return;
    }
    let protocol = u32::from(read::<u16>(socket_of(descriptor), &offset::SOCK_PROTOCOL));
    let key = key(tgid(), descriptor);
    begin(key);
    // Full: the one that was not used for longest is forgotten.
    let _ = DNS_SOCKETS.insert(&key, &NameServer { address: server, protocol }, 0);
}

/// bind(2) succeeded: to nothing in particular, as before an unconnected socket is used to ask?
#[inline(always)]
pub fn bound(descriptor: u64, address: u64, length: u64) {
    let (family, port, _) = address_of(address, length);
    if matches!(family, AF_INET | AF_INET6) && port == 0 && Container::of_current().is_some() {
        let socket = socket_of(descriptor);
        let protocol: u16 = read(socket, &offset::SOCK_PROTOCOL);
        // Its first four bytes, of an IPv6 address: the loopback one is as good as none.
        let own: u32 = match family {
            AF_INET => read(socket, &offset::SOCK_BOUND_4),
            _ => read(socket, &offset::SOCK_BOUND_6),
        };
        if u32::from(protocol) == UDP && own == 0 {
            begin(key(tgid(), descriptor));
        }
    }
}

/// A container talks to a name server, or is about to.
#[inline(always)]
pub fn expect() {
    // SAFETY: a whole word, any of whose values is right.
    unsafe { (&raw mut UNTIL).write_volatile(now() + MINUTE) };
    attention::set_any_asking(true);
}

/// From now on calls on this socket are looked at.
#[inline(always)]
fn begin(key: u64) {
    expect();
    // SAFETY: as in `expect`.
    unsafe {
        place(key).write_volatile((&raw const GENERATION).read_volatile());
    }
}

/// The place of a socket.
#[inline(always)]
fn place(key: u64) -> *mut u8 {
    // Neighbours in number and descriptor lie apart.
    let index = (key >> 32).wrapping_mul(61).wrapping_add(key) & (PLACES - 1);
    // SAFETY: the mask keeps it inside.
    unsafe { (&raw mut SOCKETS).cast::<u8>().add(index as usize) }
}

/// Whether this may be a socket that had to do with a name server not long ago. Now and then sees whether any had.
#[inline(always)]
pub fn is_asking(descriptor: u64) -> bool {
    // SAFETY: as in `expect`.
    let is_known = unsafe {
        let generation = (&raw const GENERATION).read_volatile();
        place(key(tgid(), descriptor)).read_volatile() == generation
    };
    if !is_known {
        rest();
    }
    is_known
}

/// A call on another socket, while somebody waits: now and then sees whether anybody still does.
#[inline(always)]
pub fn rest() {
    // SAFETY: as in `expect`.
    unsafe {
        let others = (&raw const OTHERS).read_volatile().wrapping_add(1);
        (&raw mut OTHERS).write_volatile(others);
        if others & PATIENCE == 0 && now() > (&raw const UNTIL).read_volatile() {
            attention::set_any_asking(false);
            let generation = (&raw const GENERATION).read_volatile();
            (&raw mut GENERATION).write_volatile(generation.wrapping_add(1) | 1);
        }
    }
}

/// A call of a process that talks to a name server carried `result` bytes, or messages. `arguments` are the first two, then those with an
/// address and its length.
#[inline(always)]
pub fn carried(kind: u8, number: u32, result: u64, arguments: [u64; 4]) {
    let [descriptor, buffer, address, address_length] = arguments;
    let key = key(tgid(), descriptor);
    if kind == call::SENDTO
        && address != 0
        && let Some(address) = name_server(address, address_length)
    {
        // As in `connected`; a datagram's address.
        let _ = DNS_SOCKETS.insert(&key, &NameServer { address, protocol: UDP }, 0);
    }
    // SAFETY: copied at once.
    let Some(server) = (unsafe { DNS_SOCKETS.get(&key) }).copied() else {
        return;
    };
    let Some(container) = Container::of_current() else {
        return;
    };
    begin(key);
    messages(container, kind, number, result, buffer, &server);
}

/// What such a call carried, from or to the name server: what a call's own argument 1 says of it is `buffer`.
#[inline(always)]
pub fn messages(container: Container, kind: u8, number: u32, result: u64, buffer: u64, server: &NameServer) {
    let Some(scratch) = dns::scratch() else { return };
    // The second of two messages, which is looked at in the second round.
    let second = u64::from(kind == call::SENDMMSG && result > 1);
    let (pointer, length) = message(kind, buffer, result, server.protocol);
    let (next, next_length) =
        if second == 1 { message(kind, buffer + MMSGHDR, result, server.protocol) } else { (0, 0) };
    // SAFETY: the scratch is this processor's.
    unsafe { (&raw mut (*scratch).place).write_volatile([pointer, length, next, next_length]) };
    let mut round = 0;
    while round < 2 {
        let Some(scratch) = dns::scratch() else { return };
        // SAFETY: as above; `round` is below two.
        let (room, pointer, length) = unsafe {
            let place = (&raw mut (*scratch).place).cast::<u64>().add(round * 2);
            (&raw mut (*scratch).message, place.read_volatile(), place.add(1).read_volatile())
        };
        let length = read_user_bytes::<SCRATCH_MESSAGE, SCRATCH_MASK>(room, pointer, dns::kept(length));
        dns::take(container, scratch, u64::from(length), server, number);
        round += 1;
    }
}

/// struct mmsghdr (include/linux/socket.h): a struct msghdr of 56 bytes with its vector at 16, and how many bytes were sent.
const MMSGHDR: u64 = 64;
const MSGHDR: u64 = 56;
const VECTOR: u64 = 16;
/// struct iovec: where, and how long.
const IOVEC: u64 = 16;
/// Bytes that say over TCP how long the message behind them is.
const PREFIX: u64 = 2;

/// Where in the program's memory the message stands, and how long it is.
#[inline(always)]
fn message(kind: u8, header: u64, result: u64, protocol: u32) -> (u64, u64) {
    let (mut pointer, mut length) = (header, result);
    match kind {
        // glibc over TCP: two bytes of length in a part of their own, then the message.
        call::WRITEV => return (follow_user_pointer(header + IOVEC), result.wrapping_sub(PREFIX)),
        call::SENDMMSG => {
            pointer = follow_user_pointer(follow_user_pointer(header + VECTOR));
            length = follow_user_pointer(header + MSGHDR) & 0xffff_ffff;
        }
        call::MESSAGE => {
            let vector = follow_user_pointer(header + VECTOR);
            // musl over TCP: as glibc.
            let is_split = u64::from(protocol == TCP) & u64::from(follow_user_pointer(vector + 8) == PREFIX);
            pointer = follow_user_pointer(vector + is_split * IOVEC);
            length -= is_split * PREFIX;
        }
        _ => {}
    }
    if protocol == TCP {
        // Others write, and read, the length and the message in one.
        let prefix = u16::from_be(follow_user_pointer(pointer) as u16);
        if u64::from(prefix) == length.wrapping_sub(PREFIX) {
            pointer += PREFIX;
            length -= PREFIX;
        }
    }
    (pointer, length)
}

/// A call of a process that talks to a name server failed with ECONNREFUSED: nobody is there.
#[inline(always)]
pub fn refused(descriptor: u64, errno: u32) {
    // SAFETY: copied at once.
    if let Some(server) = unsafe { DNS_SOCKETS.get(&key(tgid(), descriptor)) }.copied()
        && let Some(container) = Container::of_current()
    {
        dns::refused(container, &server.address, errno);
    }
}

/// The address, when it is one of port 53.
#[inline(always)]
fn name_server(address: u64, length: u64) -> Option<[u8; ADDRESS_BYTES]> {
    let (family, port, address) = address_of(address, length);
    (matches!(family, AF_INET | AF_INET6) && port == DOMAIN).then_some(address)
}

/// Family, port in network byte order, and all of it; zeroes when it cannot be read.
#[inline(always)]
fn address_of(address: u64, length: u64) -> (u16, u16, [u8; ADDRESS_BYTES]) {
    let mut words = [0u32; 8];
    let data = (&raw mut words).cast::<[u8; 32]>();
    // No look at what it gives: what was not read is zero, and zero is no family.
    read_user_bytes::<32, 31>(data, address, if length > 28 { 28 } else { length });
    // SAFETY: 28 of 32 bytes that are all written; family and port at their places.
    unsafe {
        // Behind an IPv4 address stands what the caller's memory held: it would make two servers of one, whose refusal is not its.
        if data.cast::<u16>().read_volatile() == AF_INET {
            let rest = data.cast::<u32>();
            let mut index = 2;
            while index < 8 {
                rest.add(index).write_volatile(0);
                index += 1;
            }
        }
        let data = data.cast::<u16>();
        (
            data.read_volatile(),
            data.add(1).read_volatile(),
            data.cast::<[u8; ADDRESS_BYTES]>().read_volatile(),
        )
    }
}

#[inline(always)]
fn tgid() -> u32 {
    (process::current() >> 32) as u32
}

#[inline(always)]
fn key(tgid: u32, descriptor: u64) -> u64 {
    u64::from(tgid) << 32 | descriptor & 0xffff_ffff
}
