//! A connection that had been made and is lost: reset by its peer, or given up because nothing came any more.
//!
//! Only those that a process of a container made by connect(2) are told of (`CONNECTIONS`, filled by `socket.rs`). That a client left is
//! everyday noise for a server, and its sockets were accepted. A reset closes a socket in the context of whatever runs then, with
//! `sk_err` set: `inet_sock_set_state` marks it. The program learns of it with its next call on the socket, perhaps much later, and perhaps in
//! another thread, so what is recorded is that call.
//! Which is seen in two ways. Where functions take programs: at the end of `sk_stream_error(sk, flags, err)`, which has been of this form
//! since long before 5.10 and is called for nothing but a send that failed, by whichever call; and of `tcp_recvmsg`, where
//! `stream.rs` is anyway, when it failed. Elsewhere at `sys_exit`, which sees every call that
//! failed. UNIX sockets are seen by the failed call alone: so at `sys_exit`, and of the calls that have a program at their own function write(2)'s kind.
//! Cost: nothing for a call that succeeds. A TCP socket of the node that closes pays a look-up, some 100 instructions, and one of a container that is
//! connected now pays one removal less then.

use aya_ebpf::{
    EbpfContext, Global, helpers::generated::bpf_probe_read_kernel, macros::fexit, programs::FExitContext,
};
use lastwords_agent_common::{
    limits::{ADDRESS_BYTES, BIND_BYTES, PATH_BYTES},
    offsets::ABSENT,
    record::{Counter, Recorder, seccomp},
    rules::{class, is_loss, object},
};

use crate::{
    container::{Container, Owned},
    dns::DOMAIN,
    kernel::{
        Address, argument, call_number, current_caller, current_task, follow, is_compat, now, offset,
        open_file, pointer, read,
    },
    maps::{CONNECTIONS, count},
    probe::{
        blocked,
        listener::socket_of,
        socket::{TCP_CLOSE_WAIT, given_up, record, write_peer},
    },
    process,
    recorder::{failure_slot, mark},
};

/// include/uapi/linux/stat.h.
const FILE_TYPE: u16 = 0o170_000;
const SOCKET: u16 = 0o140_000;
const AF_UNIX: u16 = 1;
const TCP: u32 = 6;
/// Bounds what is read of a UNIX socket's address: a `struct sockaddr_un` has 110 bytes.
const MASK: u32 = BIND_BYTES as u32 - 1;

/// A socket that had been connected, or accepted, is closed.
#[inline(never)]
pub fn closed(socket: Address, key: u64) {
    let Some(connection) = CONNECTIONS.get_ptr_mut(&key) else {
        return;
    };
    let errno: u32 = read(socket, &offset::SOCK_ERR);
    // Without a socket above it no program has it open any more.
    if errno == 0 || follow(socket, &offset::SOCK_SOCKET).is_null() {
        // Gone already is as good.
        let _ = CONNECTIONS.remove(&key);
        return;
    }
    // SAFETY: an element of the map.
    unsafe { (*connection).lost = errno };
}

/// A connection that had been made is closed, or its peer has closed it, and nothing ever came on it: for that no call fails either. A peer's
/// FIN counts as a byte (tcp_rcv_nxt_update, net/ipv4/tcp_input.c). shutdown(2) of one direction is no end: only close(2) sets both.
#[inline(never)]
pub fn unanswered(socket: Address, key: u64, state: u32) {
    const FIN: u64 = 1;
    const BOTH: u8 = 3;
    const ECONNRESET: u32 = 104;
    let is_told = |place: &Global<u32>| place.load() != ABSENT;
    if !is_told(&offset::TCP_RECEIVED) || !is_told(&offset::TCP_SENT) || !is_told(&offset::SOCK_SHUTDOWN) {
        return;
    }
    // SAFETY: copied, for the element may go.
    let Some(connection) = (unsafe { CONNECTIONS.get(&key) }).copied() else {
        return;
    };
    let port: u16 = read(socket, &offset::SOCK_PORT);
    let received: u64 = read(socket, &offset::TCP_RECEIVED);
    if received > FIN || port != connection.port || port == DOMAIN {
        return;
    }
    // Who asked nothing only looked whether the port is open.
    let asked = u32::from(read::<u64>(socket, &offset::TCP_SENT) != 0);
    let by_peer = u32::from(state == TCP_CLOSE_WAIT);
    let closed = u32::from(read::<u8>(socket, &offset::SOCK_SHUTDOWN) & BOTH == BOTH) & (1 - by_peer);
    let errno =
        ECONNRESET * (by_peer & asked) | given_up(&connection, read(socket, &offset::SOCK_ERR)) * closed;
    if errno != 0 {
        record(&connection, errno, object::UNANSWERED, |data| write_peer(socket, data));
    }
}

/// A send through a TCP socket failed.
#[fexit]
pub fn sk_stream_error(context: FExitContext) -> u32 {
    let arguments = context.as_ptr().cast();
    failed(pointer(arguments, 0), argument(arguments, 3) as i32);
    0
}

/// The current system call failed on a TCP socket.
#[inline(never)]
pub fn failed(socket: Address, result: i32) {
    let errno = result.unsigned_abs();
    if !is_loss(u64::from(errno)) {
        return;
    }
    let Some(owned) = Owned::of_current() else {
        return;
    };
    let registers = blocked::registers(current_task());
    if registers.is_null() || is_compat::<false>(registers) || !is_lost(socket) {
        return;
    }
    write_tcp(owned.recorder, call_number::<false>(registers), errno, socket);
}

/// Whether this is a TCP socket that a container had connected, and whose connection is lost.
#[inline(always)]
fn is_lost(socket: Address) -> bool {
    // SAFETY: read at once.
    match unsafe { CONNECTIONS.get(&(socket as u64)) } {
        Some(connection) => {
            connection.lost != 0 && connection.port == read::<u16>(socket, &offset::SOCK_PORT)
        }
        None => false,
    }
}

/// A call of the current task that may carry something failed with an error of a connection that is lost; says whether it was that, and is
/// recorded.
#[inline(never)]
pub fn lost<const IN_FUNCTION: bool>(
    recorder: *mut Recorder,
    descriptor: u64,
    number: u32,
    errno: u32,
) -> bool {
    let file = open_file(current_task(), descriptor as u32);
    let mode: u16 = read(follow(file, &offset::FILE_INODE), &offset::INODE_MODE);
    if mode & FILE_TYPE != SOCKET {
        return false;
    }
    let socket = follow(follow(file, &offset::FILE_PRIVATE), &offset::SOCKET_SOCK);
    if read::<u16>(socket, &offset::SOCK_FAMILY) == AF_UNIX {
        return unix(recorder, socket, number, errno);
    }
    // Of those of TCP its own functions have told then.
    if IN_FUNCTION || !is_lost(socket) {
        return false;
    }
    write_tcp(recorder, number, errno, socket);
    true
}

/// The same of a UNIX socket. One that was connected has no address, and its peer that of the socket that listened; one that was accepted has
/// that address itself.
#[inline(always)]
fn unix(recorder: *mut Recorder, socket: Address, number: u32, errno: u32) -> bool {
    let own = follow(socket, &offset::UNIX_ADDRESS);
    // Kept until this one is closed too.
    let address = follow(follow(socket, &offset::UNIX_PEER), &offset::UNIX_ADDRESS);
    if !own.is_null() || address.is_null() {
        return false;
    }
    let length: u32 = read(address, &offset::UNIX_ADDRESS_LENGTH);
    let length = core::hint::black_box(if length > MASK { MASK } else { length }) & MASK;
    write(recorder, number, errno, 0, |data| {
        let name = address.wrapping_add(offset::UNIX_ADDRESS_NAME.load() as usize);
        // SAFETY: the helper checks the source; the destination has more bytes than the mask allows.
        unsafe { bpf_probe_read_kernel(data.cast(), length, name.cast()) };
        length
    });
    true
}

/// A program asked its socket for an error (SO_ERROR), and got this one; says whether the socket's connection is lost.
#[inline(never)]
pub fn asked(container: Container, descriptor: u64, errno: u32) -> bool {
    let socket = socket_of(descriptor);
    let Some(recorder) = container.recorder().filter(|_| is_lost(socket)) else {
        return false;
    };
    write_tcp(recorder, offset::GETSOCKOPT_NUMBER.load(), errno, socket);
    true
}

#[inline(always)]
fn write_tcp(recorder: *mut Recorder, number: u32, errno: u32, socket: Address) {
    write(recorder, number, errno, TCP, |data| {
        write_peer(socket, data);
        ADDRESS_BYTES as u32
    });
}

#[inline(always)]
fn write(
    recorder: *mut Recorder,
    number: u32,
    errno: u32,
    protocol: u32,
    fill: impl FnOnce(*mut [u8; PATH_BYTES]) -> u32,
) {
    let Some((slot, _)) = failure_slot(recorder, class::NETWORK) else {
        return;
    };
    let process = process::current();
    let tid = process as u32;
    let time = now();
    // SAFETY: a slot of the container's recorder.
    unsafe {
        (*slot).begin = mark(time, tid);
        (*slot).time = time;
        (*slot).tgid = (process >> 32) as u32;
        (*slot).tid = tid;
        let user = current_caller(&raw mut (*slot).comm, &raw mut (*slot).waited);
        (*slot).uid = user as u32;
        (*slot).gid = (user >> 32) as u32;
        (*slot).syscall = number;
        (*slot).errno = errno;
        (*slot).arguments = [0; 3];
        (*slot).object = u32::from(object::PEER);
        (*slot).capabilities = 0;
        (*slot).refused_capability = 0;
        (*slot).seccomp = seccomp::UNKNOWN;
        (*slot).has_place = 0;
        (*slot).protocol = protocol;
        (*slot).length = fill(&raw mut (*slot).data);
        (*slot).end = mark(time, tid);
    }
    count(Counter::FailuresRecorded);
}
