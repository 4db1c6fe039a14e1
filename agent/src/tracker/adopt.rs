//! Containers that ran before the agent did. What they did until now was not seen, and their crashes say so.

use lastwords_agent_common::{limits::ARGUMENT_BYTES, record::Group};

use super::{Role, Tracked, Tracker};
use crate::{
    decode::Executed,
    enrich::procfs::{HostProc, ProcessFacts},
    escape::escape,
};

impl Tracker {
    /// Takes the containers that have a group already. One that is made at this very moment is the kernel side's: it is known
    /// there, and its records stand in the ring.
    pub fn adopt(&mut self, processes: &HostProc) {
        for (cgroup_id, container) in self.control_groups.containers() {
            if self.groups.contains(cgroup_id) {
                continue;
            }
            let recorder = self.recorders.take(cgroup_id);
            let mut group = Group { container: cgroup_id, recorder, ..Group::default() };
            if let Err(error) = self.groups.insert(cgroup_id, group) {
                tracing::warn!("the container {} cannot be watched: {error}", container.id);
                self.stop_watching(cgroup_id, recorder);
                continue;
            }
            // Only now: whoever comes first into a group that is still empty is seen by the kernel side, and all of its life.
            let main = self.main_process(processes, &container.cgroup_path);
            let in_pod = !container.pod_uid.is_empty();
            let role = main.as_ref().map_or(Role::Container, |(_, executed)| self.role(executed, in_pod));
            if role == Role::Sandbox {
                self.stop_watching(cgroup_id, recorder);
                continue;
            }
            let mut tracked = Tracked::new(container, recorder, main.is_some(), self.ring_records_dropped);
            tracked.role = role;
            if let Some((started, executed)) = main {
                group.main_tgid = executed.tgid;
                self.groups.update(cgroup_id, group);
                if role == Role::Container {
                    self.looker.executed(cgroup_id, executed.tgid, &tracked.container.cgroup_path);
                    self.memory.follow(cgroup_id, &tracked.container.cgroup_path);
                }
                tracked.execs.push((started, executed));
            }
            self.adopt_nested(&tracked.container.cgroup_path, group);
            self.containers.insert(cgroup_id, tracked);
        }
    }

    /// The groups that the container has made in its own belong to it, as those that it makes later will: whoever is in `GROUPS` when
    /// one is made is told of by the kernel side, so the container itself has to be there before.
    fn adopt_nested(&mut self, path: &str, group: Group) {
        for (cgroup_id, nested) in self.control_groups.nested(path) {
            if !self.groups.contains(cgroup_id)
                && let Err(error) = self.groups.insert(cgroup_id, group)
            {
                tracing::warn!("the group {} cannot be watched: {error}", escape(nested.as_bytes(), 300));
                return;
            }
        }
    }

    /// PID 1 of the container, or the process that began first where it shares the pod's PID namespace; with the time of its start
    /// (CLOCK_MONOTONIC). An init that has groups of its own is in one of them: cgroup v2 wants no process beside groups.
    fn main_process(&self, processes: &HostProc, path: &str) -> Option<(u64, Executed)> {
        let nested = self.control_groups.nested(path).into_iter().map(|(_, nested)| nested);
        let groups = std::iter::once(path.to_owned()).chain(nested);
        let members = groups.flat_map(|group| self.control_groups.members(&group));
        let known = members.filter_map(|pid| Some((pid, processes.facts(pid)?)));
        let rank = |pid: Option<u32>, started: Option<u64>| (pid != Some(1), started.unwrap_or(u64::MAX));
        let (pid, facts) =
            known.min_by_key(|(_, facts)| rank(facts.namespace_pid, facts.started_boot_time))?;
        Some((monotonic(facts.started_boot_time.unwrap_or(0)), executed(processes, pid, facts)))
    }
}

/// What a process executes now, as if its last exec had been seen.
fn executed(processes: &HostProc, pid: u32, facts: ProcessFacts) -> Executed {
    let (arguments, arguments_truncated) =
        processes.arguments(pid, ARGUMENT_BYTES as u64).unwrap_or_default();
    let bytes = |path: Option<std::path::PathBuf>| {
        path.map(|path| std::os::unix::ffi::OsStringExt::into_vec(path.into_os_string()))
    };
    let filename = bytes(facts.exe).unwrap_or_default();
    let comm = filename.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let identity = facts.identity.unwrap_or_default();
    Executed {
        tgid: pid,
        uid: identity.uid,
        gid: identity.gid,
        namespace_init: facts.namespace_pid == Some(1),
        first: true,
        compat: false,
        comm: comm.iter().take(15).copied().collect(),
        filename: filename.clone(),
        arguments,
        arguments_truncated,
        cwd: bytes(facts.cwd),
    }
}

/// A time of CLOCK_BOOTTIME as CLOCK_MONOTONIC would have shown it; the two differ by the time the node was asleep.
fn monotonic(boot_time: u64) -> u64 {
    let clock = crate::clock::ClockOffsets::measure();
    let asleep = clock.from_monotonic(0).0 - clock.from_boot_time(0).0;
    boot_time.saturating_sub(u64::try_from(asleep).unwrap_or(0))
}
