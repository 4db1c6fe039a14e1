//! DNS packets, where functions take programs: see `dns.rs`.
//!
//! `skb_consume_udp(sk, skb, len)` runs when a program has received a datagram, `ip_send_skb(net, skb)` and `ip6_send_skb(skb)` when it
//! sends one, in its own context and with the whole packet in hand, on every kernel from 5.10 to 7.2. Address translation for Services
//! comes later on the way out and earlier on the way in, so the name server is the one that the program knows.
//! Cost: of each datagram the peer's port of its socket, some 15 instructions; where the socket is not connected, a read of the packet's own
//! port, some 120; of one of port 53 in a container some 3 000. What follows the first stands in a function of its own: the others must not
//! pay for its registers and stack.

use aya_ebpf::{
    EbpfContext, helpers::generated::bpf_probe_read_kernel, macros::fentry, programs::FEntryContext,
};
use lastwords_agent_common::limits::ADDRESS_BYTES;

use crate::{
    container::Container,
    dns::{self, DOMAIN, SCRATCH_MASK},
    kernel::{Address, load, offset, pointer},
    maps::NameServer,
};

const UDP: u32 = 17;
const UDP_HEADER: u64 = 8;

/// Which way a packet goes, and so which of its addresses is the name server's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Received,
    Sent,
}

#[fentry]
pub fn skb_consume_udp(context: FEntryContext) -> u32 {
    let arguments = context.as_ptr().cast();
    if may_ask(pointer(arguments, 0)) {
        received(pointer(arguments, 1));
    }
    0
}

#[fentry]
pub fn ip_send_skb(context: FEntryContext) -> u32 {
    let skb = pointer(context.as_ptr().cast(), 1);
    if may_ask(sender(skb)) {
        sent(skb);
    }
    0
}

#[fentry]
pub fn ip6_send_skb(context: FEntryContext) -> u32 {
    let skb = pointer(context.as_ptr().cast(), 0);
    if may_ask(sender(skb)) {
        sent(skb);
    }
    0
}

#[inline(always)]
fn sender(skb: Address) -> Address {
    load::<u64>(skb, &offset::SKB_SOCK) as Address
}

/// Whether a socket is connected to port 53, or to none: the packet tells then.
#[inline(always)]
fn may_ask(socket: Address) -> bool {
    let port: u16 = load(socket, &offset::SOCK_PORT);
    port == DOMAIN || port == 0
}

#[inline(never)]
fn received(skb: Address) {
    packet(skb, Direction::Received);
}

#[inline(never)]
fn sent(skb: Address) {
    packet(skb, Direction::Sent);
}

#[inline(always)]
fn packet(skb: Address, direction: Direction) {
    let head = load::<u64>(skb, &offset::SKB_HEAD) as Address;
    let transport = head.wrapping_add(usize::from(load::<u16>(skb, &offset::SKB_TRANSPORT)));
    // Source and destination.
    let ports: [u16; 2] = at(transport, 0);
    let port = if direction == Direction::Received { ports[0] } else { ports[1] };
    if port != DOMAIN {
        return;
    }
    let Some(container) = Container::of_current() else {
        return;
    };
    let network = head.wrapping_add(usize::from(load::<u16>(skb, &offset::SKB_NETWORK)));
    let mut server = NameServer { address: [0; ADDRESS_BYTES], protocol: UDP };
    let words = (&raw mut server.address).cast::<u32>();
    let is_4 = at::<u8>(network, 0) >> 4 == 4;
    // Only `skb_consume_udp` is UDP's alone.
    if at::<u8>(network, if is_4 { 9 } else { 6 }) != UDP as u8 {
        return;
    }
    // SAFETY: a structure of 28 bytes, aligned as its words: family and port, then the address at its place.
    unsafe {
        if is_4 {
            words.write(2 | u32::from(DOMAIN) << 16);
            words.add(1).write(at(network, if direction == Direction::Received { 12 } else { 16 }));
        } else {
            words.write(10 | u32::from(DOMAIN) << 16);
            let place = if direction == Direction::Received { 8 } else { 24 };
            words.add(2).write(at(network, place));
            words.add(3).write(at(network, place + 4));
            words.add(4).write(at(network, place + 8));
            words.add(5).write(at(network, place + 12));
        }
    }
    let bytes = u64::from(u16::from_be(at(transport, 4)));
    let Some(scratch) = dns::scratch() else { return };
    // LLVM proves the mask away; the verifier needs to see it.
    let length = core::hint::black_box(dns::kept(bytes.wrapping_sub(UDP_HEADER))) & SCRATCH_MASK;
    // SAFETY: the room has more bytes than the mask allows; the helper checks the source.
    let result = unsafe {
        let room = (&raw mut (*scratch).message).cast();
        bpf_probe_read_kernel(room, length as u32, transport.wrapping_add(UDP_HEADER as usize).cast())
    };
    if result == 0 {
        dns::take(container, scratch, length, &server, dns::NO_CALL);
    }
}

/// The value at a fixed place of a packet, zero when it cannot be read.
#[inline(always)]
fn at<T: Copy>(base: Address, place: usize) -> T {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the destination has the size that is passed; the helper checks the source, and zeroes the destination when it fails; T is
    // an integer or an array of them.
    unsafe {
        let source = base.wrapping_add(place).cast();
        bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, source);
        value.assume_init()
    }
}
