//! Which containers are pods' sandboxes: they hold the namespaces, and their ends are no crashes.
//!
//! Every runtime's sandbox runs a program called pause, and so may anybody's container: the name alone does not tell. What does is the
//! `oom_score_adj` that runtimes give to sandboxes and the kubelet never to a container, -998. Neither a label nor a mount is needed for it.
//! Where the runtime may not lower the value (`restrict_oom_score_adj`, in a node that is a container itself), a sandbox has the
//! node's own; then a container is only told from it when the kubelet gave it more. What stays unclear is watched, and only an end
//! that is a sandbox's own way to end goes unreported, and is counted.

use super::{Tracked, Tracker};
use crate::{decode::Executed, decode::Status, enrich::procfs::HostProc};

/// What containerd, CRI-O and cri-dockerd give to a sandbox.
const OF_SANDBOXES: i32 = -998;
/// What the kubelet gives to containers of guaranteed and of critical pods.
const OF_GUARANTEED: i32 = -997;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// What a container is, as far as its first program tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A container.
    Container,
    /// A pod's sandbox.
    Sandbox,
    /// One of the two.
    Unclear,
}

impl Tracker {
    /// Reads what tells a sandbox in this procfs. Without one, containers of pods that run a program called pause stay unclear.
    #[must_use]
    pub fn with_processes(mut self, processes: HostProc) -> Self {
        self.processes = Some(processes);
        self
    }

    /// What the container of a pod, or of no pod, is by its first program.
    pub(super) fn role(&self, executed: &Executed, in_pod: bool) -> Role {
        if !is_called_pause(executed) {
            return Role::Container;
        }
        let adjustment = |pid| self.processes.as_ref().and_then(|processes| processes.oom_score_adj(pid));
        role_by(adjustment(executed.tgid), adjustment(1), in_pod)
    }
}

impl Tracked {
    /// Whether this may be the end of a sandbox: that of what may be one, and as one ends. None is an end that was not seen.
    pub(super) fn ends_as_sandbox(&self, status: Option<Status>) -> bool {
        let as_one_ends = status.is_none_or(|status| {
            matches!((status.code, status.signal), (0, 0 | SIGKILL | SIGTERM)) && self.oom.is_empty()
        });
        self.role == Role::Unclear && as_one_ends
    }
}

fn is_called_pause(executed: &Executed) -> bool {
    executed.comm == b"pause" && executed.arguments.first().is_some_and(|name| name.ends_with(b"pause"))
}

/// By the value of a program called pause, and by that of the node's first process.
fn role_by(own: Option<i32>, nodes: Option<i32>, in_pod: bool) -> Role {
    match (own, nodes) {
        (Some(OF_SANDBOXES), _) => Role::Sandbox,
        // No kubelet, no sandbox.
        _ if !in_pod => Role::Container,
        (Some(OF_GUARANTEED), _) => Role::Container,
        (Some(own), Some(nodes)) if own > nodes.max(0) => Role::Container,
        _ => Role::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assemble::tests::death;

    #[test]
    fn what_the_runtime_gave_it_tells_a_sandbox_and_not_its_name() {
        for (own, nodes, in_pod, role) in [
            (Some(-998), Some(0), true, Role::Sandbox),
            // crictl makes some outside of pods' groups.
            (Some(-998), Some(0), false, Role::Sandbox),
            (Some(1000), Some(0), true, Role::Container),
            (Some(2), Some(0), true, Role::Container),
            (Some(-997), Some(0), true, Role::Container),
            (Some(0), Some(0), false, Role::Container),
            (None, None, false, Role::Container),
            // A runtime that may not lower it, on a node and in one that is a container of a best-effort pod.
            (Some(0), Some(0), true, Role::Unclear),
            (Some(-999), Some(-999), true, Role::Unclear),
            (Some(1000), Some(1000), true, Role::Unclear),
            // It is gone already.
            (None, Some(0), true, Role::Unclear),
        ] {
            assert_eq!(role_by(own, nodes, in_pod), role, "{own:?} {nodes:?} {in_pod}");
        }
        // This very process has one.
        assert!(HostProc::new("/proc".as_ref()).oom_score_adj(std::process::id()).is_some());
        assert_eq!(HostProc::new("/proc".as_ref()).oom_score_adj(0), None);
    }

    #[test]
    fn a_failure_of_what_is_unclear_is_no_end_of_a_sandbox() {
        let ends = |code, signal| Some(Status { code, signal, core_dumped: false });
        let mut tracked = Tracked::new(death(Status::default()).container, 0, false, 0);
        assert!(!tracked.ends_as_sandbox(ends(0, 0)), "a container's end is never one");
        tracked.role = Role::Unclear;
        for own in [ends(0, 0), ends(0, SIGKILL), ends(0, SIGTERM), None] {
            assert!(tracked.ends_as_sandbox(own), "{own:?}");
        }
        for failure in [ends(1, 0), ends(127, 0), ends(0, 11), ends(0, 6)] {
            assert!(!tracked.ends_as_sandbox(failure), "{failure:?}");
        }
    }
}
