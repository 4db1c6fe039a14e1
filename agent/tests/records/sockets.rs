//! Made-up sockets: those that listen, and those that could not.

use lastwords_agent::decode::{Bound, Event, Listener, PortTaken, SocketAddress, Transport};
use lastwords_agent_common::limits::{ADDRESS_BYTES, BIND_BYTES};
use lastwords_agent_common::record::{self, kind, socket_flag};
use proptest::prelude::*;

use super::{Sent, comm, header, put, recorder::socket, sent};

/// A listening socket as it stands in its slot, and what it says. Its time is set where it is written.
pub(super) fn listener() -> impl Strategy<Value = (record::Listener, Listener)> {
    let internet = socket().prop_filter_map("a UNIX socket", |(bytes, address)| match address {
        SocketAddress::Internet(address) => Some((bytes, address)),
        SocketAddress::Unix(_) => None,
    });
    let ids = (any::<u64>(), any::<u32>(), any::<u32>());
    (internet, ids, any::<u64>(), any::<u32>(), comm()).prop_map(
        |((bytes, address), (cgroup_id, tgid, net_namespace), closed, flags, comm)| {
            let raw = record::Listener {
                time: 0,
                closed,
                cgroup_id,
                number: 0,
                tgid,
                net_namespace,
                flags,
                address: put::<ADDRESS_BYTES>(&bytes),
                comm: put(&comm),
            };
            let closed = (closed != 0).then_some(closed);
            let bound = Bound { address, ipv6_only: flags & socket_flag::IPV6_ONLY != 0 };
            (raw, Listener { time: 0, closed, cgroup_id, tgid, comm, net_namespace, bound })
        },
    )
}

pub(super) fn port_taken() -> BoxedStrategy<Sent> {
    let protocols = prop_oneof![
        Just((6, Transport::Tcp)),
        Just((17, Transport::Udp)),
        Just((0, Transport::Other)),
        Just((132, Transport::Other)),
    ];
    let ids = (any::<u64>(), any::<u32>(), any::<u32>(), any::<u32>());
    (header(kind::PORT_TAKEN), ids, protocols, any::<u32>(), socket(), any::<bool>())
        .prop_map(|(header, ids, (protocol, transport), flags, (bytes, address), by_listen)| {
            let (failure_time, tgid, tid, net_namespace) = ids;
            let fits = bytes.len() <= ADDRESS_BYTES;
            // listen(2) has no address of its own.
            let by_listen = by_listen && fits;
            let raw = record::PortTaken {
                header,
                failure_time,
                tgid,
                tid,
                net_namespace,
                protocol,
                flags,
                length: if by_listen { 0 } else { u32::try_from(bytes.len()).unwrap_or(u32::MAX) },
                address: put::<BIND_BYTES>(if by_listen { &[] } else { &bytes }),
                bound: put::<ADDRESS_BYTES>(if by_listen { &bytes } else { &[] }),
                padding: 0,
            };
            let address = match &address {
                // The array keeps the address's zeroes behind a path, and nothing behind an abstract name.
                SocketAddress::Unix(_) if by_listen => {
                    lastwords_agent::decode::socket_address(&put::<ADDRESS_BYTES>(&bytes))
                }
                _ => Some(address),
            };
            let ipv6_only = flags & socket_flag::IPV6_ONLY != 0;
            let taken =
                PortTaken { time: failure_time, tgid, tid, net_namespace, transport, address, ipv6_only };
            sent(&raw, header, Event::PortTaken(taken))
        })
        .boxed()
}
