//! Which sockets listen, and which port could not be had.
//!
//! Why `sock:inet_sock_set_state` (see `socket.rs`): it tells of every TCP socket of the node that begins to listen, in the context of
//! listen(2), and of its end, whoever closes it. The holder of a port may be in another container or in none, so all are remembered, by
//! socket; and for a moment after their end, since a container's processes end together. UNIX sockets have no such hook (`unix.rs`).
//! A refused bind(2) or listen(2) is told to the agent at once with the socket's network namespace, and that looks for the holder.
//! Cost: nothing for a packet or a connection; some 900 instructions for a socket that listens, some 700 for a refused bind.

use aya_ebpf::helpers;
use lastwords_agent_common::{
    limits::{ADDRESS_BYTES, BIND_BYTES, NOTICES},
    record::{Counter, Listener, PortTaken, Recorder, kind},
};

use crate::{
    container::{Container, Owned},
    kernel::{Address, current_task, follow, now, offset, open_file, read, read_comm, read_user_bytes},
    maps::{CLOSED_LISTENERS, LISTENERS, count},
    probe::socket::write_address,
    process,
    recorder::{listener_number, listener_slot},
};

/// From the kernel's look at the port to the end of listen(2), in nanoseconds: microseconds, unless the thread is preempted.
const JUST_CLOSED: u64 = 1_000_000;

/// A socket began to listen, in the context of listen(2).
#[inline(always)]
pub fn began(socket: Address, key: u64) {
    let container = Container::of_current();
    let recorder = container.and_then(Container::recorder);
    let mut listener = Listener {
        time: now(),
        closed: 0,
        cgroup_id: match container {
            Some(container) => container.id(),
            // SAFETY: always allowed in tracing programs.
            None => unsafe { helpers::generated::bpf_get_current_cgroup_id() },
        },
        number: recorder.map_or(0, listener_number),
        tgid: (process::current() >> 32) as u32,
        net_namespace: net_namespace(socket),
        flags: flags(socket),
        address: [0; ADDRESS_BYTES],
        comm: [0; 16],
    };
    read_comm(&raw mut listener.comm, current_task());
    write_bound(socket, &raw mut listener.address);
    if LISTENERS.insert(&key, &listener, 0).is_err() {
        count(Counter::ListenersExhausted);
    }
    if let Some(recorder) = recorder {
        // SAFETY: a slot of the container's recorder.
        unsafe { listener_slot(recorder, listener.number).write(listener) };
    }
}

/// It listens no more, in whatever context.
#[inline(always)]
pub fn ended(key: u64) {
    // SAFETY: copied before it is removed.
    let Some(mut listener) = (unsafe { LISTENERS.get(&key) }).copied() else {
        return;
    };
    listener.closed = now();
    // First there, then gone here: whoever looks in this order finds it.
    let _ = CLOSED_LISTENERS.insert(&key, &listener, 0);
    let _ = LISTENERS.remove(&key);
    if let Some(recorder) = Container::of_group(listener.cgroup_id).and_then(Container::recorder) {
        let slot = listener_slot(recorder, listener.number);
        // SAFETY: a slot of the container's recorder; a newer socket's has another number.
        unsafe {
            if (*slot).time == listener.time {
                (*slot).closed = listener.closed;
            }
        }
    }
}

/// bind(2) or listen(2) gave EADDRINUSE, at `time` in the thread `process` (as bpf_get_current_pid_tgid gives it).
#[inline(always)]
pub fn taken(owned: Owned, time: u64, process: u64, arguments: [u64; 3]) {
    let recorder = owned.recorder;
    // SAFETY: fields of the container's recorder.
    unsafe {
        if (*recorder).notices >= NOTICES {
            return;
        }
        (*recorder).notices += 1;
    }
    let [descriptor, address, length] = arguments;
    let socket = socket_of(descriptor);
    owned.emit::<PortTaken>(kind::PORT_TAKEN, |record| {
        // SAFETY: every field is written.
        unsafe {
            (*record).failure_time = time;
            (*record).tgid = (process >> 32) as u32;
            (*record).tid = process as u32;
            (*record).net_namespace = net_namespace(socket);
            (*record).protocol = protocol(socket);
            (*record).flags = flags(socket);
            (*record).padding = 0;
            // listen(2) has no address, the socket has it from an earlier bind(2).
            write_bound(socket, (&raw mut (*record).bound).cast());
            (*record).length = read_user_bytes::<BIND_BYTES, { BIND_BYTES as u64 - 1 }>(
                &raw mut (*record).address,
                address,
                length,
            );
        }
    });
    never_listened(recorder, socket as u64, time);
}

/// A socket is said to listen before the kernel looks whether its port is free, and to be closed when it is not, just before `time`.
#[inline(always)]
fn never_listened(recorder: *mut Recorder, key: u64, time: u64) {
    // SAFETY: copied at once.
    let Some(listener) = (unsafe { CLOSED_LISTENERS.get(&key) }).copied() else {
        return;
    };
    // Another socket may have been at this address before.
    if time.wrapping_sub(listener.closed) > JUST_CLOSED {
        return;
    }
    let slot = listener_slot(recorder, listener.number);
    // SAFETY: a slot of the container's recorder.
    unsafe {
        if (*slot).time == listener.time {
            (*slot).time = 0;
        }
    }
    let _ = CLOSED_LISTENERS.remove(&key);
}

/// The socket behind a descriptor of the current process; the kernel has just found it there.
#[inline(always)]
pub fn socket_of(descriptor: u64) -> Address {
    let file = open_file(current_task(), descriptor as u32);
    follow(follow(file, &offset::FILE_PRIVATE), &offset::SOCKET_SOCK)
}

/// `sk_protocol` of the socket behind a descriptor of the current process; what is not a socket gives any number.
#[inline(always)]
pub fn protocol_of(descriptor: u64) -> u32 {
    protocol(socket_of(descriptor))
}

#[inline(always)]
fn protocol(socket: Address) -> u32 {
    u32::from(read::<u16>(socket, &offset::SOCK_PROTOCOL))
}

#[inline(always)]
fn net_namespace(socket: Address) -> u32 {
    read(follow(socket, &offset::SOCK_NET), &offset::NET_INUM)
}

#[inline(always)]
fn flags(socket: Address) -> u32 {
    u32::from(read::<u8>(socket, &offset::SOCK_FLAGS))
}

/// The address that a socket is bound to.
#[inline(always)]
fn write_bound(socket: Address, data: *mut [u8; ADDRESS_BYTES]) {
    let port: u16 = read(socket, &offset::SOCK_NUM);
    write_address(socket, port.to_be(), &offset::SOCK_BOUND_4, &offset::SOCK_BOUND_6, data);
}
