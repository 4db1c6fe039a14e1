//! Which UNIX sockets listen, by path.
//!
//! Why the end of `unix_listen(sock, backlog)`, where functions take programs, and listen(2) at `sys_exit` elsewhere: no tracepoint tells of
//! a UNIX socket that begins to listen. The function has been of this form since long before 5.10. None tells of its end either, which is
//! not seen. Cost: nothing but for listen(2).

use aya_ebpf::{
    EbpfContext, helpers::generated::bpf_probe_read_kernel, macros::fexit, programs::FExitContext,
};
use lastwords_agent_common::limits::BIND_BYTES;

use crate::{
    container::Owned,
    kernel::{Address, argument, current_task, follow, now, offset, pointer, read, read_comm},
    probe::listener::socket_of,
    process,
    recorder::unix_listener_slot,
};

const AF_UNIX: u16 = 1;
/// Bounds what is read of an address: a `struct sockaddr_un` has 110 bytes.
const MASK: u32 = BIND_BYTES as u32 - 1;

#[fexit]
pub fn unix_listen(context: FExitContext) -> u32 {
    let arguments = context.as_ptr().cast();
    if argument(arguments, 2) as i32 == 0
        && let Some(owned) = Owned::of_current()
    {
        write(owned, follow(pointer(arguments, 0), &offset::SOCKET_SOCK));
    }
    0
}

/// listen(2) succeeded.
#[inline(always)]
pub fn listened(descriptor: u64) {
    if let Some(owned) = Owned::of_current() {
        let socket = socket_of(descriptor);
        if read::<u16>(socket, &offset::SOCK_FAMILY) == AF_UNIX {
            write(owned, socket);
        }
    }
}

#[inline(always)]
fn write(owned: Owned, socket: Address) {
    let address = follow(socket, &offset::UNIX_ADDRESS);
    let length: u32 = read(address, &offset::UNIX_ADDRESS_LENGTH);
    // LLVM proves the mask away; the verifier needs to see it.
    let length = core::hint::black_box(if length > MASK { MASK } else { length }) & MASK;
    let slot = unix_listener_slot(owned.recorder);
    // SAFETY: a slot of the container's recorder; the helper checks the source, and its destination has more bytes than the mask allows.
    unsafe {
        (*slot).time = now();
        (*slot).tgid = (process::current() >> 32) as u32;
        (*slot).length = length;
        read_comm(&raw mut (*slot).comm, current_task());
        let name = address.wrapping_add(offset::UNIX_ADDRESS_NAME.load() as usize);
        bpf_probe_read_kernel((&raw mut (*slot).address).cast(), length, name.cast());
    }
}
