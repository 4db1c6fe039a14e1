//! A connection that fails after connect(2) has returned: `sock:inet_sock_set_state`, and the error that the program then asks for.
//!
//! Why these: Go, Node, Java and tokio connect without waiting, so their calls all end with EINPROGRESS and the failure is the
//! socket's: from SYN_SENT to CLOSE with `sk_err` set. That comes in the context of whatever runs (a timer, the network's softirq), so
//! who called is remembered by socket. An ICMP answer (a Service without endpoints is refused like that) leaves `sk_err` at 0 until the
//! program asks getsockopt(SO_ERROR), so that answer counts too; `sys_exit` hands it here.
//! One that the program closes before it was answered has no error at all: it counts as timed out when it had waited for some time.
//! A connection that is made after one to the same port had failed is told as well, with the error 0: a program that waits for a server, or
//! tries one protocol after the other, did not end of the failure. So is the first one to another port or host after a failure: a program
//! that goes on with its work may have ended of something else.
//! Cost: changes of state of TCP sockets only, nothing for a packet. The tracepoint has (sk, old, new) since 4.16.

use aya_ebpf::{Global, helpers};
use lastwords_agent_common::{
    limits::{ADDRESS_BYTES, PATH_BYTES},
    record::{Counter, NOT_KNOWN, seccomp},
    rules::{class, is_loss, object},
};

use crate::{
    container::Container,
    dns::DOMAIN,
    hook,
    kernel::{
        Address, argument, current_task, follow_user, now, offset, pointer, read, read_comm, read_user_bytes,
        waited,
    },
    maps::{CONNECTIONS, Caller, UNDER_WAY, count},
    probe::{dns, listener, peer},
    process,
    recorder::{failure_slot, mark, network_slot},
};

/// include/net/tcp_states.h.
const TCP_ESTABLISHED: u32 = 1;
const TCP_SYN_SENT: u32 = 2;
const TCP_CLOSE: u32 = 7;
pub const TCP_CLOSE_WAIT: u32 = 8;
const TCP_LISTEN: u32 = 10;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// getsockopt's level and name (include/uapi/asm-generic/socket.h).
const SOL_SOCKET: u64 = 1;
const SO_ERROR: u64 = 4;

hook!("inet_sock_set_state", inet_sock_set_state, inet_sock_set_state_raw, |arguments| {
    let (old, new) = (argument(arguments, 1) as u32, argument(arguments, 2) as u32);
    let socket = pointer(arguments, 0);
    let key = socket as u64;
    if new == TCP_LISTEN {
        listener::began(socket, key);
        return;
    }
    if old == TCP_LISTEN {
        listener::ended(key);
        return;
    }
    if new == TCP_SYN_SENT {
        if let Some(container) = Container::of_current() {
            let port: u16 = read(socket, &offset::SOCK_PORT);
            if port == DOMAIN {
                dns::expect();
            }
            // Full: the oldest is forgotten.
            let _ = CONNECTIONS.insert(&key, &Caller { port, ..caller(container) }, 0);
        }
        return;
    }
    if old != TCP_SYN_SENT {
        if old == TCP_ESTABLISHED {
            peer::unanswered(socket, key, new);
        }
        if new == TCP_CLOSE {
            peer::closed(socket, key);
        }
        return;
    }
    // SAFETY: copied before it is removed.
    let Some(caller) = (unsafe { CONNECTIONS.get(&key) }).copied() else {
        return;
    };
    if new != TCP_ESTABLISHED {
        // Gone already is as good.
        let _ = CONNECTIONS.remove(&key);
    }
    let hard: u32 = read(socket, &offset::SOCK_ERR);
    let soft: u32 = read(socket, &offset::SOCK_ERR_SOFT);
    let errno = hard | (soft * u32::from(hard == 0)) | given_up(&caller, hard | soft);
    // One call of what records, for both: two would be the verifier's work twice.
    let failed = new == TCP_CLOSE && errno != 0;
    if failed
        || (new == TCP_ESTABLISHED && follows_a_failure(caller.container, read(socket, &offset::SOCK_PORT)))
    {
        let errno = if failed { errno } else { 0 };
        record(&caller, errno, object::TOLD, |data| write_peer(socket, data));
    }
});

/// ETIMEDOUT for a connection without an error, as only its own process closes one, after a while and not in its end: its own time-out
/// was over, for which no call fails. Who tries one protocol after the other closes the slower one sooner.
#[inline(always)]
pub fn given_up(caller: &Caller, errno: u32) -> u32 {
    const PATIENCE: u64 = 800_000_000;
    const PF_EXITING: u32 = 4;
    const ETIMEDOUT: u32 = 110;
    let waited = now().wrapping_sub(caller.began) >= PATIENCE;
    let at_work = read::<u32>(current_task(), &offset::TASK_FLAGS) & PF_EXITING == 0;
    // No branch on what is read.
    ETIMEDOUT * u32::from((errno == 0) & waited & at_work)
}

/// Whether the container's last failed connection to this port (in network byte order) still stands: among its last few, none that was
/// made followed; or whether nothing at all was made since the last one failed. So a container whose connections do not fail writes nothing,
/// and one that retries writes one success a failure.
#[inline(always)]
fn follows_a_failure(container: u64, port: u16) -> bool {
    const LOOKED_AT: u64 = 4;
    let Some(recorder) = Container::of_group(container).and_then(Container::recorder) else {
        return false;
    };
    // SAFETY: an aligned field of a map element.
    let head = unsafe { (&raw const (*recorder).failure_heads[class::NETWORK as usize]).read_volatile() };
    let (mut stands, mut last_failed) = (false, false);
    let mut back = LOOKED_AT;
    while back > 0 {
        let slot = network_slot(recorder, head.wrapping_sub(back));
        // SAFETY: a slot of the container's recorder; every address has its port in the second 16 bits.
        let (there, errno) = unsafe { ((*slot).data.as_ptr().cast::<u16>().add(1).read(), (*slot).errno) };
        // No branch on what is there: four in a row would be sixteen ways.
        let same = there == port;
        last_failed = errno != 0;
        stands = (same & last_failed) | (!same & stands);
        back -= 1;
    }
    stands | (last_failed & (head != 0))
}

/// Remembers what a connect(2) that did not wait was called with.
#[inline(always)]
pub fn remember(tgid: u32, descriptor: u64, address: u64, length: u64) {
    let mut words = [0u64; 4];
    let data = (&raw mut words).cast::<[u8; 32]>();
    let length = if length > ADDRESS_BYTES as u64 { ADDRESS_BYTES as u64 } else { length };
    if read_user_bytes::<32, 31>(data, address, length) == 0 {
        return;
    }
    // SAFETY: 28 of 32 bytes that are all written.
    let address = unsafe { data.cast::<[u8; ADDRESS_BYTES]>().read() };
    // Full: the oldest is forgotten.
    let _ = UNDER_WAY.insert(&key(tgid, descriptor), &address, 0);
}

/// A program asked for an option of a socket: when it was the pending error of a connection, records it.
#[inline(always)]
pub fn asked(descriptor: u64, level: u64, name: u64, value: u64) {
    if level & 0xffff_ffff != SOL_SOCKET || name & 0xffff_ffff != SO_ERROR {
        return;
    }
    let Some(container) = Container::of_current() else {
        return;
    };
    let errno: u32 = follow_user(value);
    if is_loss(u64::from(errno)) && peer::asked(container, descriptor, errno) {
        return;
    }
    let key = key((process::current() >> 32) as u32, descriptor);
    // SAFETY: copied before it is removed.
    let Some(address) = (unsafe { UNDER_WAY.get(&key) }).copied() else {
        return;
    };
    let _ = UNDER_WAY.remove(&key);
    if errno != 0 {
        record(&caller(container), errno, object::ASKED, |data| {
            // SAFETY: the array has PATH_BYTES bytes.
            unsafe { data.cast::<[u8; ADDRESS_BYTES]>().write(address) };
        });
    }
}

#[inline(always)]
fn key(tgid: u32, descriptor: u64) -> u64 {
    u64::from(tgid) << 32 | descriptor & 0xffff_ffff
}

#[inline(always)]
fn caller(container: Container) -> Caller {
    let process = process::current();
    let user = helpers::bpf_get_current_uid_gid();
    let mut caller = Caller {
        container: container.id(),
        tgid: (process >> 32) as u32,
        tid: process as u32,
        uid: user as u32,
        gid: (user >> 32) as u32,
        comm: [0; 16],
        began: now(),
        port: 0,
        padding: 0,
        lost: 0,
    };
    read_comm(&raw mut caller.comm, current_task());
    caller
}

#[inline(always)]
pub fn record(caller: &Caller, errno: u32, how: u64, fill: impl FnOnce(*mut [u8; PATH_BYTES])) {
    let Some(recorder) = Container::of_group(caller.container).and_then(Container::recorder) else {
        return;
    };
    let Some((slot, _)) = failure_slot(recorder, class::NETWORK) else {
        return;
    };
    let time = now();
    // SAFETY: a slot of the container's recorder.
    unsafe {
        (*slot).begin = mark(time, caller.tid);
        (*slot).time = time;
        (*slot).tgid = caller.tgid;
        (*slot).tid = caller.tid;
        (*slot).uid = caller.uid;
        (*slot).gid = caller.gid;
        (*slot).syscall = offset::CONNECT_NUMBER.load();
        (*slot).errno = errno;
        (*slot).arguments = [how, 0, 0];
        (*slot).comm = caller.comm;
        (*slot).length = ADDRESS_BYTES as u32;
        (*slot).object = u32::from(object::LATE_ADDRESS);
        (*slot).capabilities = 0;
        (*slot).refused_capability = 0;
        (*slot).seccomp = seccomp::UNKNOWN;
        (*slot).has_place = 0;
        (*slot).protocol = 0;
        // Whose time it is is known where it asks itself.
        (*slot).waited = if how == object::ASKED { waited(current_task()) } else { NOT_KNOWN };
        fill(&raw mut (*slot).data);
        (*slot).end = mark(time, caller.tid);
    }
    count(Counter::FailuresRecorded);
}

/// The socket's peer as a `struct sockaddr_in` or `sockaddr_in6`.
#[inline(always)]
pub fn write_peer(socket: Address, data: *mut [u8; PATH_BYTES]) {
    let port: u16 = read(socket, &offset::SOCK_PORT);
    write_address(socket, port, &offset::SOCK_ADDRESS_4, &offset::SOCK_ADDRESS_6, data.cast());
}

/// One of a socket's addresses as a `struct sockaddr_in` or `sockaddr_in6`; `port` in network byte order.
#[inline(always)]
pub fn write_address(
    socket: Address,
    port: u16,
    address_4: &Global<u32>,
    address_6: &Global<u32>,
    data: *mut [u8; ADDRESS_BYTES],
) {
    let family: u16 = read(socket, &offset::SOCK_FAMILY);
    let data = data.cast::<u8>();
    // SAFETY: the array has the 28 bytes of the larger of the two; both are written at their fields' places, in words that are aligned
    // in every structure that holds such an address.
    unsafe {
        data.cast::<u16>().write(family);
        data.cast::<u16>().add(1).write(port);
        match family {
            AF_INET => data.cast::<u32>().add(1).write(read(socket, address_4)),
            AF_INET6 => {
                let words = data.cast::<u32>();
                words.add(2).write(read(socket, address_6));
                words.add(3).write(read(socket.wrapping_add(4), address_6));
                words.add(4).write(read(socket.wrapping_add(8), address_6));
                words.add(5).write(read(socket.wrapping_add(12), address_6));
            }
            // Another protocol's: its family tells the agent that it is none of these.
            _ => {}
        }
    }
}
