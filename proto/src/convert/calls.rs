//! Failed calls, and what is told of the file, mount, holder or name that they were about.

use lastwords_diagnosis::errno;
use lastwords_diagnosis::evidence::{self, DnsOutcome, Seccomp};

use crate::v1::{self, dns_query::Outcome};

both_ways!(Mount { mount_point, file_system, read_only });
both_ways!(Holder { pid, comm, container_id, pod_uid, same_container });
both_ways!(FileFacts {
    uid,
    gid,
    mode,
    kind,
    path,
    mount_point,
    interpreter,
    interpreter_missing,
    machine,
    node_machine
});

impl From<&evidence::Failure> for v1::Failure {
    fn from(from: &evidence::Failure) -> Self {
        let evidence::Failure {
            syscall,
            path,
            path_truncated,
            path_unresolved,
            address,
            name,
            pid,
            tid,
            comm,
            uid,
            gid,
            count,
            first_before_death_ms,
            last_before_death_ms,
            by_dying_thread,
            later_succeeded,
            holder_looked_for,
            groups,
            capabilities,
            capability,
            errno: number,
            file,
            mount,
            holder,
            seccomp,
            dns,
        } = from;
        Self {
            syscall: syscall.clone(),
            path: path.clone(),
            path_truncated: *path_truncated,
            path_unresolved: *path_unresolved,
            address: address.clone(),
            name: name.clone(),
            pid: *pid,
            tid: *tid,
            comm: comm.clone(),
            uid: *uid,
            gid: *gid,
            count: *count,
            first_before_death_ms: *first_before_death_ms,
            last_before_death_ms: *last_before_death_ms,
            by_dying_thread: *by_dying_thread,
            later_succeeded: *later_succeeded,
            holder_looked_for: *holder_looked_for,
            groups: groups.clone(),
            capabilities: capabilities.clone(),
            capability: capability.clone(),
            errno: *number,
            errno_name: if *number == 0 { String::new() } else { errno::shown(*number) },
            file: file.as_ref().map(Into::into),
            mount: mount.as_ref().map(Into::into),
            holder: holder.as_ref().map(Into::into),
            seccomp: v1::Seccomp::from(*seccomp).into(),
            dns: dns.as_ref().map(Into::into),
        }
    }
}

impl From<&v1::Failure> for evidence::Failure {
    fn from(from: &v1::Failure) -> Self {
        let v1::Failure {
            syscall,
            path,
            path_truncated,
            path_unresolved,
            address,
            name,
            pid,
            tid,
            comm,
            uid,
            gid,
            count,
            first_before_death_ms,
            last_before_death_ms,
            by_dying_thread,
            later_succeeded,
            holder_looked_for,
            groups,
            capabilities,
            capability,
            errno,
            errno_name: _,
            file,
            mount,
            holder,
            seccomp: _,
            dns,
        } = from;
        Self {
            syscall: syscall.clone(),
            path: path.clone(),
            path_truncated: *path_truncated,
            path_unresolved: *path_unresolved,
            address: address.clone(),
            name: name.clone(),
            pid: *pid,
            tid: *tid,
            comm: comm.clone(),
            uid: *uid,
            gid: *gid,
            count: *count,
            first_before_death_ms: *first_before_death_ms,
            last_before_death_ms: *last_before_death_ms,
            by_dying_thread: *by_dying_thread,
            later_succeeded: *later_succeeded,
            holder_looked_for: *holder_looked_for,
            groups: groups.clone(),
            capabilities: capabilities.clone(),
            capability: capability.clone(),
            errno: *errno,
            file: file.as_ref().map(Into::into),
            mount: mount.as_ref().map(Into::into),
            holder: holder.as_ref().map(Into::into),
            seccomp: from.seccomp().into(),
            dns: dns.as_ref().map(Into::into),
        }
    }
}

impl From<&evidence::DnsQuery> for v1::DnsQuery {
    fn from(from: &evidence::DnsQuery) -> Self {
        let evidence::DnsQuery { outcome, response_code, types, transport } = from;
        Self {
            outcome: Outcome::from(*outcome).into(),
            response_code: *response_code,
            types: types.clone(),
            transport: transport.clone(),
        }
    }
}

impl From<&v1::DnsQuery> for evidence::DnsQuery {
    fn from(from: &v1::DnsQuery) -> Self {
        let v1::DnsQuery { outcome: _, response_code, types, transport } = from;
        Self {
            outcome: from.outcome().into(),
            response_code: *response_code,
            types: types.clone(),
            transport: transport.clone(),
        }
    }
}

/// Both conversions of an enumeration, variant by variant.
macro_rules! variants {
    ($ours:ident, $wire:ty { $($own:ident = $other:ident),* }) => {
        impl From<$ours> for $wire {
            fn from(from: $ours) -> Self {
                match from {
                    $($ours::$own => Self::$other),*
                }
            }
        }

        impl From<$wire> for $ours {
            fn from(from: $wire) -> Self {
                match from {
                    $(<$wire>::$other => Self::$own),*
                }
            }
        }
    };
}

variants!(Seccomp, v1::Seccomp {
    Unknown = Unspecified,
    NoFilter = NoFilter,
    Undecided = Undecided,
    Denied = Denied,
    NotByFilter = NotByFilter
});

variants!(DnsOutcome, Outcome {
    Unknown = Unspecified,
    NxDomain = Nxdomain,
    ServFail = Servfail,
    Refused = Refused,
    NoAnswer = NoAnswer,
    NoData = NoData,
    Other = Other
});
