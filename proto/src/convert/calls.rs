//! Failed calls, and what is told of the file, mount, holder or name that they were about.

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

both_ways!(Failure {
    syscall,
    errno,
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
    waited_for_processor_ms,
    by_dying_thread,
    later_succeeded,
    holder_looked_for,
    groups,
    capabilities,
    capability,
    variables,
    later_connected,
    unanswered;
    file,
    mount,
    holder,
    dns;
    errno_name = if *errno == 0 { String::new() } else { lastwords_diagnosis::errno::shown(*errno) };
    seccomp: v1::Seccomp
});
both_ways!(DnsQuery { response_code, types, transport;;; outcome: Outcome });

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
