//! Which limit refused a call, and its value: noted when the program was executed, as both are gone by the time of the report.

use lastwords_diagnosis::{errno, evidence::Failure};

use super::{cgroup::ControlGroups, procfs::ResourceLimits};
use crate::decode::Exited;

/// The limits of one container that make calls fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// RLIMIT_NOFILE.
    pub open_files: Option<u64>,
    /// RLIMIT_NPROC, which root is not held to.
    pub processes: Option<u64>,
    /// RLIMIT_AS, in bytes.
    pub address_space: Option<u64>,
    /// The lowest `pids.max` of the container's group and those above it.
    pub pids: Option<u64>,
    /// The group was gone before `pids.max` was read: that there is none is not known.
    pub group_gone: bool,
    /// Processes and threads of the whole node when the container had ended.
    pub tasks_of_node: Option<u64>,
}

impl Limits {
    /// Of the container in the group at `path`, whose main process has these resource limits.
    #[must_use]
    pub fn of(groups: &ControlGroups, path: &str, resources: &ResourceLimits) -> Self {
        let Self { pids, group_gone, .. } = Self::of_group(groups, path);
        let ResourceLimits { open_files, processes, address_space, .. } = *resources;
        Self { open_files, processes, address_space, pids, group_gone, tasks_of_node: None }
    }

    /// These, in place of what an earlier look showed, of which the group's part stays when the group is gone meanwhile.
    #[must_use]
    pub fn after(self, earlier: &Self) -> Self {
        if self.group_gone && earlier.pids.is_some() {
            Self { pids: earlier.pids, group_gone: false, ..self }
        } else {
            self
        }
    }

    /// Of the group alone, for a process that is gone already.
    #[must_use]
    pub fn of_group(groups: &ControlGroups, path: &str) -> Self {
        let levels = path.match_indices('/').skip(1).map(|(end, _)| end).chain([path.len()]);
        let pids = levels.filter_map(|end| groups.processes(path.get(..end)?).limit).min();
        Self { pids, group_gone: groups.id(path).is_none(), ..Self::default() }
    }

    /// With the resource limits that the main process had at last: it may have set them itself, and an earlier look may have come late.
    #[must_use]
    pub fn at_end_of(&self, exited: &Exited) -> Self {
        Self { open_files: exited.open_files, processes: exited.processes, ..*self }
    }

    /// Writes the limit into each failure that one explains.
    pub fn name<'a>(&self, failures: impl Iterator<Item = &'a mut Failure>) {
        for failure in failures.filter(|failure| failure.name.is_empty()) {
            let forks = matches!(failure.syscall.as_str(), "clone" | "clone3" | "fork" | "vfork");
            let maps = matches!(failure.syscall.as_str(), "mmap" | "mremap");
            let limit = match failure.errno {
                errno::EMFILE => self.open_files.map(|limit| format!("RLIMIT_NOFILE {limit}")),
                errno::EAGAIN if forks => self.of_processes(failure.uid),
                errno::ENOMEM if maps => self.address_space.map(|limit| format!("RLIMIT_AS {limit}")),
                _ => None,
            };
            failure.name = limit.unwrap_or_default();
        }
    }

    /// RLIMIT_NPROC counts all processes of the user on the node, so it may be reached first though it is the higher one, and where both are
    /// set both are named: unless the whole node has fewer, also with as many as the container may have.
    fn of_processes(&self, uid: u32) -> Option<String> {
        if self.pids.is_none() && self.group_gone {
            return None;
        }
        let most =
            self.tasks_of_node.zip(self.pids).map_or(u64::MAX, |(others, own)| others.saturating_add(own));
        let processes = self.processes.filter(|limit| uid != 0 && *limit <= most);
        match (self.pids, processes) {
            (Some(pids), None) => Some(format!("pids.max {pids}")),
            (None, Some(processes)) => Some(format!("RLIMIT_NPROC {processes}")),
            (Some(pids), Some(processes)) => Some(format!("pids.max {pids} or RLIMIT_NPROC {processes}")),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn named(limits: Limits, syscall: &str, errno: i32, uid: u32) -> String {
        let mut failures = [Failure { syscall: syscall.to_owned(), errno, uid, ..Failure::default() }];
        limits.name(failures.iter_mut());
        failures[0].name.clone()
    }

    #[test]
    fn a_limit_is_named_with_its_value_where_it_is_the_only_one() {
        let limits = Limits {
            open_files: Some(1024),
            processes: Some(500),
            address_space: Some(1 << 30),
            pids: Some(100),
            group_gone: false,
            tasks_of_node: None,
        };
        assert_eq!(named(limits, "mmap", errno::ENOMEM, 0), "RLIMIT_AS 1073741824");
        assert_eq!(named(limits, "openat", errno::EMFILE, 0), "RLIMIT_NOFILE 1024");
        assert_eq!(named(limits, "clone", errno::EAGAIN, 0), "pids.max 100");
        assert_eq!(named(limits, "clone", errno::EAGAIN, 7), "pids.max 100 or RLIMIT_NPROC 500");
        assert_eq!(named(Limits { pids: None, ..limits }, "clone3", errno::EAGAIN, 7), "RLIMIT_NPROC 500");
        // Whether there was another is not known.
        let gone = Limits { pids: None, group_gone: true, ..limits };
        assert_eq!(named(gone, "clone3", errno::EAGAIN, 7), "");
        assert_eq!(named(gone.after(&limits), "clone", errno::EAGAIN, 0), "pids.max 100");
        assert_eq!(gone.after(&Limits { pids: None, ..limits }), gone);
        // 380 others and 100 of its own are not 500.
        let few = Limits { tasks_of_node: Some(380), ..limits };
        assert_eq!(named(few, "clone", errno::EAGAIN, 7), "pids.max 100");
        let many = Limits { tasks_of_node: Some(400), ..limits };
        assert_eq!(named(many, "clone", errno::EAGAIN, 7), "pids.max 100 or RLIMIT_NPROC 500");
        assert_eq!(named(limits, "read", errno::EAGAIN, 0), "");
        assert_eq!(named(Limits::default(), "openat", errno::EMFILE, 0), "");
    }

    #[test]
    fn the_lowest_pids_max_on_the_way_up_counts() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.controllers"), "pids").unwrap();
        for (group, limit) in [("kubepods", "max"), ("kubepods/pod1", "50"), ("kubepods/pod1/c", "100")] {
            fs::create_dir(root.path().join(group)).unwrap();
            fs::write(root.path().join(group).join("pids.max"), limit).unwrap();
        }
        let groups = ControlGroups::open(root.path()).unwrap();
        let limits = Limits::of(&groups, "/kubepods/pod1/c", &ResourceLimits::default());
        assert_eq!((limits.pids, limits.group_gone), (Some(50), false));
        let gone = Limits::of(&groups, "/kubepods/pod2/c", &ResourceLimits::default());
        assert_eq!((gone.pids, gone.group_gone), (None, true));
    }
}
