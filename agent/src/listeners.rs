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

    /// Those that a container had before the agent came, by the path of its group, and that it still has.
    #[must_use]
    pub fn early(&self, cgroup_path: &str) -> Vec<Listener> {
        let own = self.early.iter().filter(|it| {
            it.owner
                .cgroup_path
                .strip_prefix(cgroup_path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
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

fn is_same(one: &Listener, two: &Listener) -> bool {
    (one.net_namespace, one.tgid, one.bound.address) == (two.net_namespace, two.tgid, two.bound.address)
}
