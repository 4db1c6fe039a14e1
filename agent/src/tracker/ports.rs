//! Who holds an address that a container could not have.

use super::Tracker;
use crate::{
    decode::{Bound, PortTaken, SocketAddress, Transport},
    looked::{PortFacts, PortHolder},
};

impl Tracker {
    /// Looks among the sockets that listen, which the kernel side remembers beyond their end; else has procfs looked at.
    pub(super) fn port_taken(&mut self, cgroup_id: u64, taken: PortTaken) {
        let address = match &taken.address {
            Some(SocketAddress::Internet(address)) if taken.transport == Transport::Tcp => Some(*address),
            _ => None,
        };
        let holder = address.and_then(|address| {
            let bound = Bound { address, ipv6_only: taken.ipv6_only };
            let found = self.listeners.holder(taken.net_namespace, &bound, taken.time)?;
            let container = match self.containers.get(&found.cgroup_id) {
                Some(tracked) => Some(tracked.container.clone()),
                None => self.listeners.container_of(&found),
            };
            Some(PortHolder { pid: found.tgid, comm: found.comm, container })
        });
        let Some(tracked) = self.containers.get_mut(&cgroup_id) else { return };
        if holder.is_some() {
            // At most one for each of the notices that the kernel side sends of a container.
            tracked.ports.push(PortFacts { taken, holder, looked_for: true });
        } else {
            self.looker.port_taken(cgroup_id, taken);
        }
    }
}
