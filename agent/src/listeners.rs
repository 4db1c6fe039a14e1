//! The TCP sockets of this node that listen: those that the kernel side saw begin, and those that were there before it.

use crate::{
    clock,
    container::ContainerRef,
    decode::{Bound, Listener, listener},
    enrich::{
        procfs::HostProc,
        sockets::{EarlyListener, listening},
    },
    kernel::ListenerMap,
};

/// All of them.
pub struct Listeners {
    kernel: ListenerMap,
    early: Vec<EarlyListener>,
    processes: HostProc,
}

impl Listeners {
    /// Looks once for those that listen already; `kernel` tells of every later one.
    #[must_use]
    pub fn new(kernel: ListenerMap, processes: HostProc) -> Self {
        let mut early = listening(&processes, clock::monotonic_now());
        // The kernel side is attached by now: one that has just begun is known there, and with its time.
        let known: Vec<Listener> = seen(&kernel).collect();
        early.retain(|it| !known.iter().any(|known| is_same(known, &it.listener)));
        Self { kernel, early, processes }
    }

    /// The one that is in the way of `wanted` at `time` (CLOCK_MONOTONIC). The one that listens now comes before those that did.
    #[must_use]
    pub fn holder(&self, net_namespace: u32, wanted: &Bound, time: u64) -> Option<Listener> {
        let in_the_way = |it: &Listener| {
            let then = it.time <= time && it.closed.is_none_or(|closed| closed >= time);
            it.net_namespace == net_namespace && then && it.bound.conflicts(wanted)
        };
        seen(&self.kernel).filter(in_the_way).min_by_key(|it| it.closed.is_some()).or_else(|| {
            let early = self.early.iter().filter(|it| in_the_way(&it.listener));
            early.filter(|it| it.is_open(&self.processes)).map(|it| it.listener.clone()).next()
        })
    }

    /// Those that a container had before the agent came and that it still has. By the container's id: in a pod procfs shows the paths of
    /// other groups from the agent's own group on (`/../../…`).
    #[must_use]
    pub fn early(&self, container: &ContainerRef) -> Vec<Listener> {
        let own = self.early.iter().filter(|it| is_of(&it.owner.cgroup_path, container));
        own.map(|it| it.listener.clone()).collect()
    }

    /// The container of a listener that is none of those being watched: a sandbox's, or one that the agent came too late for.
    #[must_use]
    pub fn container_of(&self, found: &Listener) -> Option<ContainerRef> {
        ContainerRef::from_cgroup_path(&self.processes.cgroup_path(found.tgid)?)
    }
}

fn seen(kernel: &ListenerMap) -> impl Iterator<Item = Listener> {
    kernel.iter().filter_map(|raw| listener(&raw))
}

fn is_of(cgroup_path: &str, container: &ContainerRef) -> bool {
    ContainerRef::from_cgroup_path(cgroup_path).is_some_and(|found| found.id == container.id)
}

fn is_same(one: &Listener, two: &Listener) -> bool {
    (one.net_namespace, one.tgid, one.bound.address) == (two.net_namespace, two.tgid, two.bound.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_the_containers_also_as_a_pod_with_its_own_cgroup_namespace_sees_it() {
        let id = "3f8a1c5d7e9b0a2c4e6f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5";
        let pod =
            "kubepods-besteffort.slice/kubepods-besteffort-pod0c1f2a3b_4d5e_6f70_8192_a3b4c5d6e7f8.slice";
        let container =
            ContainerRef::from_cgroup_path(&format!("/kubepods.slice/{pod}/cri-containerd-{id}.scope"))
                .unwrap();
        assert!(is_of(&container.cgroup_path, &container));
        assert!(is_of(&format!("/../../../{pod}/cri-containerd-{id}.scope/worker"), &container));
        let other = id.replace('3', "4");
        assert!(!is_of(&format!("/../../../{pod}/cri-containerd-{other}.scope"), &container));
        assert!(!is_of("/../../../../init.scope", &container));
    }
}
