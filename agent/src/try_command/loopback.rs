//! Brings loopback up in a new network namespace, by one netlink message: link 1 is loopback in every namespace.

use std::{io, os::fd::AsRawFd as _};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

const RTM_NEWLINK: u16 = 16;
const NLM_F_REQUEST_ACK: u16 = 1 | 4;
const NLMSG_ERROR: u16 = 2;
const IFF_UP: u32 = 1;

pub(super) fn bring_up() -> io::Result<()> {
    let netlink =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    // struct nlmsghdr { u32 len; u16 type, flags; u32 seq, pid } and struct ifinfomsg { u8 family, pad; u16 type; i32 index;
    // u32 flags, change } (include/uapi/linux/netlink.h, rtnetlink.h).
    let mut message = Vec::with_capacity(32);
    message.extend(32u32.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend([0; 12]);
    message.extend(1i32.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    send(netlink.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = [0; 1024];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let field = |from: usize| answer.get(from..from + 4).filter(|_| from + 4 <= length)?.try_into().ok();
    let kind = field(4).map(|[a, b, ..]: [u8; 4]| u16::from_ne_bytes([a, b]));
    match (kind, field(16).map(i32::from_ne_bytes)) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(errno)) => Err(io::Error::from_raw_os_error(-errno)),
        _ => Err(io::Error::other("the kernel's answer is no acknowledgement")),
    }
}
