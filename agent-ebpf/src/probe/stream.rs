//! DNS over TCP, where functions take programs: see `dns.rs`.
//!
//! `tcp_sendmsg(sk, msg, size)` and `tcp_recvmsg(sk, msg, …)` run in the context of the process, and when they end the system call's own
//! registers still say where the program has its message: so what follows is what `sys_exit` does elsewhere. Nothing else on the way of a segment
//! knows the process and the whole message both. The first has this form on every kernel from 5.10 to 7.2, the second lost two arguments in
//! that time, behind which its result stands: so it comes three times. A message sent by io_uring belongs to no call, and is not seen.
//! Cost: every TCP message of the node pays the trampoline and one load, whether any container has connected to port 53 within the last minute
//! (`attention.rs`, set from `socket.rs`), and one that was received a look at its length's sign; while one has, the peer's port, some 20
//! instructions; one of port 53 in a container some 3 000.

use aya_ebpf::{EbpfContext, macros::fexit, programs::FExitContext};
use lastwords_agent_common::{limits::SYSCALLS, rules::success as call};

use crate::{
    attention,
    container::Container,
    dns::DOMAIN,
    kernel::{Address, argument, call_number, current_task, is_compat, load, offset, pointer, register},
    maps::NameServer,
    probe::{blocked, dns, peer, socket::write_address, syscall},
};

const TCP: u32 = 6;

const _: () = assert!(SYSCALLS.is_power_of_two());

/// Nothing is there yet, says a socket that does not wait.
const EAGAIN: i32 = 11;

/// Defines a program for the end of a function on a TCP socket that has so many arguments: when it looks, and at what.
macro_rules! stream {
    ($name:ident, $arguments:literal, $looks:expr, $look:path) => {
        #[fexit]
        pub fn $name(context: FExitContext) -> u32 {
            let arguments = context.as_ptr().cast();
            if $looks(|| argument(arguments, $arguments) as i32) {
                $look(pointer(arguments, 0), argument(arguments, $arguments) as i32);
            }
            0
        }
    };
}

stream!(tcp_sendmsg, 3, is_asking, carried);
stream!(tcp_recvmsg_of_4, 4, is_asking_or_failed, received);
stream!(tcp_recvmsg_of_5, 5, is_asking_or_failed, received);
stream!(tcp_recvmsg_of_6, 6, is_asking_or_failed, received);

/// Sends that fail have a function of their own (`peer.rs`).
#[inline(always)]
fn is_asking(_: impl FnOnce() -> i32) -> bool {
    attention::is_any_asking()
}

#[inline(always)]
fn is_asking_or_failed(result: impl FnOnce() -> i32) -> bool {
    attention::is_any_asking() || is_failure(result())
}

#[inline(always)]
fn is_failure(result: i32) -> bool {
    result < 0 && result != -EAGAIN
}

/// As [`carried`], or the connection may be lost.
#[inline(never)]
fn received(socket: Address, result: i32) {
    if is_failure(result) {
        peer::failed(socket, result);
    }
    if attention::is_any_asking() {
        carried(socket, result);
    }
}

/// A socket has sent or received so many bytes.
#[inline(never)]
fn carried(socket: Address, bytes: i32) {
    if load::<u16>(socket, &offset::SOCK_PORT) != DOMAIN {
        dns::rest();
        return;
    }
    if bytes <= 0 {
        return;
    }
    let Some(container) = Container::of_current() else {
        return;
    };
    let registers = blocked::registers(current_task());
    if registers.is_null() || is_compat::<false>(registers) {
        return;
    }
    // A mask and no comparison: Linux 5.10 does not see the bound on a copy of it.
    let number = call_number::<false>(registers) & (SYSCALLS - 1);
    let kind = syscall::success_of(number);
    if !matches!(kind, call::SENDTO | call::BUFFER | call::WRITEV | call::MESSAGE) {
        return;
    }
    let mut server = NameServer { address: [0; _], protocol: TCP };
    write_address(socket, DOMAIN, &offset::SOCK_ADDRESS_4, &offset::SOCK_ADDRESS_6, &raw mut server.address);
    dns::expect();
    dns::messages(
        container,
        kind,
        number,
        bytes as u64,
        register::<false>(registers, &offset::REGS_1),
        &server,
    );
}
