//! A request over netlink (a link, an address, a route, a firewall's rule) that the kernel refused for want of a capability: the call that
//! sent it succeeds, and the refusal comes back as a message. What shows is that the capability was asked for in that call.

use lastwords_diagnosis::evidence::Failure;
use nix::libc;

use super::{Death, End, failures::capability, is_of_run, milliseconds_before, text};
use crate::{decode::Recording, kernel::syscalls};

/// CAP_NET_ADMIN (include/uapi/linux/capability.h), the one that `netlink_capable` is asked with by all of these.
const NET_ADMIN: u32 = 12;
/// Who was refused says so and leaves within this (nanoseconds).
const LEAVES: u64 = 1_000_000_000;

/// The last such refusal, of the thread that began the end or of a child that ended abnormally.
pub(super) fn refused(death: &Death, recording: &Recording) -> Option<Failure> {
    let refused = recording.refused.as_ref()?;
    let End::Exited(exited) = &death.end else { return None };
    let call = syscalls::name(refused.syscall);
    let sends = matches!(call.as_str(), "sendmsg" | "sendto");
    let soon = is_of_run(death, refused.time) && death.time.saturating_sub(refused.time) <= LEAVES;
    if refused.capability != NET_ADMIN || !sends || !soon {
        return None;
    }
    let dying = refused.tid == exited.first_tid;
    let comm = if dying {
        &exited.comm
    } else {
        &recording.child_exits.iter().rfind(|child| child.tgid == refused.tid)?.comm
    };
    let before_death_ms = milliseconds_before(death.time, refused.time);
    Some(Failure {
        syscall: call,
        errno: libc::EPERM,
        pid: if dying { exited.tgid } else { refused.tid },
        tid: refused.tid,
        comm: text(comm),
        uid: exited.uid,
        gid: exited.gid,
        count: 1,
        first_before_death_ms: before_death_ms,
        last_before_death_ms: before_death_ms,
        by_dying_thread: dying,
        capability: capability(refused.capability),
        ..Failure::default()
    })
}
