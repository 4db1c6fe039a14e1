//! What a container listened on, and who held what it could not have.

use std::collections::HashSet;

use lastwords_diagnosis::evidence::{Failure, Holder, Listener};

use super::{Death, is_of_run, milliseconds_before, text};
use crate::{
    decode::{self, Recording, SocketAddress, Transport},
    looked::{PortFacts, PortHolder},
};

/// Oldest first, those that were there before the agent first; then UNIX sockets.
pub(super) fn list(death: &Death, recording: &Recording) -> Vec<Listener> {
    // A restarted agent finds again what an earlier one's recorder held: but that recorder is gone with it.
    let early = death.early_listeners.iter();
    let own = recording.listeners.iter().filter(|listener| is_of_run(death, listener.time));
    let mut unix: Vec<&decode::UnixListener> =
        recording.unix_listeners.iter().filter(|listener| is_of_run(death, listener.time)).collect();
    // Calling listen(2) once more changes how many may wait.
    let mut seen = HashSet::new();
    unix.retain(|it| seen.insert((it.tgid, it.path.as_slice())));
    early
        .chain(own)
        .map(|it| listener(death, it))
        .chain(unix.into_iter().map(|it| unix_listener(death, it)))
        .collect()
}

fn unix_listener(death: &Death, listener: &decode::UnixListener) -> Listener {
    Listener {
        address: text(&listener.path),
        pid: listener.tgid,
        comm: text(&listener.comm),
        before_death_ms: milliseconds_before(death.time, listener.time),
        closed: false,
    }
}

fn listener(death: &Death, listener: &decode::Listener) -> Listener {
    Listener {
        address: format!("{}/tcp", listener.bound.address),
        pid: listener.tgid,
        comm: text(&listener.comm),
        before_death_ms: milliseconds_before(death.time, listener.time),
        closed: listener.closed.is_some_and(|closed| closed < death.time),
    }
}

/// What of it was dropped, for people.
pub(super) fn lost(recording: &Recording) -> Vec<String> {
    let counts = [
        (recording.listeners_overwritten, "older listening sockets are not shown"),
        (recording.dns_overwritten, "older DNS queries are not shown"),
        (
            recording.dns_truncated,
            "DNS answers were too long, and what was asked again over TCP was not seen",
        ),
    ];
    counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
}

/// Adds to a failed bind(2) or listen(2) what its socket was and who holds the address.
pub(super) fn add_holder(death: &Death, raw: &decode::Failure, failure: &mut Failure) {
    let known = death.ports.iter().chain(&death.looked.ports);
    let Some(facts) = known.into_iter().find(|it| (it.taken.time, it.taken.tid) == (raw.time, raw.tid))
    else {
        return;
    };
    let PortFacts { taken, holder, looked_for } = facts;
    failure.holder = holder.as_ref().map(|it| as_evidence(death, it));
    failure.holder_looked_for = *looked_for;
    if let Some(SocketAddress::Internet(address)) = &taken.address {
        match taken.transport {
            Transport::Tcp => failure.address = format!("{address}/tcp"),
            Transport::Udp => failure.address = format!("{address}/udp"),
            Transport::Other => {}
        }
    }
}

fn as_evidence(death: &Death, holder: &PortHolder) -> Holder {
    let container = holder.container.as_ref();
    Holder {
        pid: holder.pid,
        comm: text(&holder.comm),
        container_id: container.map(|it| it.id.clone()).unwrap_or_default(),
        pod_uid: container.map(|it| it.pod_uid.clone()).unwrap_or_default(),
        same_container: container.is_some_and(|it| it.id == death.container.id),
    }
}
