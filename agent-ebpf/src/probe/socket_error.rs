//! A name server that is not there: `sock:inet_sk_error_report`.
//!
//! Why this: the ICMP answer to a datagram sets its socket's error in the context of whatever runs, long before the program asks for it, and
//! where functions take programs no receiving call is hooked. The container is that of the socket, which remembers the group of its
//! maker. The event has (sk) since 5.13; 5.10 has neither it nor the member with the group. Cost: nothing but for sockets that get an
//! error; of those the port.

use lastwords_agent_common::limits::ADDRESS_BYTES;

use crate::{
    container::Container,
    dns::{self, DOMAIN},
    hook,
    kernel::{follow, offset, pointer, read},
    probe::socket::write_address,
};

const UDP: u16 = 17;
const ECONNREFUSED: u32 = 111;

hook!("inet_sk_error_report", inet_sk_error_report, inet_sk_error_report_raw, |arguments| {
    let socket = pointer(arguments, 0);
    if read::<u16>(socket, &offset::SOCK_PORT) != DOMAIN {
        return;
    }
    if read::<u16>(socket, &offset::SOCK_PROTOCOL) != UDP
        || read::<u32>(socket, &offset::SOCK_ERR) != ECONNREFUSED
    {
        return;
    }
    let node = follow(follow(socket, &offset::SOCK_CGROUP), &offset::CGROUP_KN);
    let Some(container) = Container::of_group(read(node, &offset::KERNFS_NODE_ID)) else {
        return;
    };
    let mut words = [0u32; ADDRESS_BYTES / 4];
    let server = (&raw mut words).cast::<[u8; ADDRESS_BYTES]>();
    write_address(socket, DOMAIN, &offset::SOCK_ADDRESS_4, &offset::SOCK_ADDRESS_6, server);
    // SAFETY: 28 bytes that are all written.
    dns::refused(container, unsafe { &*server }, ECONNREFUSED);
});
