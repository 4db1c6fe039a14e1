//! The address that the program wants to listen on is taken.

use super::resource_limit::is_any_port;
use super::{Finding, before_the_end, call_and_exit};
use crate::calls::Call;
use crate::case::Case;
use crate::evidence::Failure;
use crate::verdict::Cause;
use crate::{context, errno, words};

pub(super) fn call(case: &Case<'_>, call: &Call<'_>) -> Option<Finding> {
    let failure = call.failure;
    // Who asks for any port is told so when there is none left.
    if failure.errno != errno::EADDRINUSE || is_any_port(failure) {
        return None;
    }
    let object = if failure.address.is_empty() { &failure.path } else { &failure.address };
    let object = words::one_line(object);
    let held_at = listens_on(case, failure);
    let held = match &failure.holder {
        Some(holder) => {
            let address =
                held_at.as_ref().map_or_else(String::new, |address| format!(", which listens on {address}"));
            format!(" by {}{address}", context::holder(case, holder))
        }
        None if failure.holder_looked_for => " though no process on this node holds it".to_owned(),
        None => String::new(),
    };
    Some(Finding {
        cause: Cause::PortInUse,
        confidence: call.confidence(),
        summary: format!(
            "{} could not listen on {object}{}, which is taken{held}: {} {}",
            words::program(&failure.comm),
            context::from_variable(case, failure),
            words::failed(failure),
            before_the_end(case, call)
        ),
        remedy: format!(
            "{}{}",
            remedy(failure, &object, held_at.as_ref().unwrap_or(&object)),
            context::or_variable(case, failure)
        ),
        object,
        evidence: call_and_exit(case, call),
    })
}

/// The address on which the holder listens at that port, where it is another one: who has all addresses is in the way of each.
fn listens_on(case: &Case<'_>, failure: &Failure) -> Option<String> {
    let port = |address: &str| address.rsplit_once(':').map(|(_, port)| port.to_owned());
    let holder = failure.holder.as_ref().filter(|holder| holder.same_container)?;
    let wanted = port(&failure.address)?;
    let listeners = || case.evidence.listeners.iter().map(|listener| (listener.pid, &listener.address));
    let mut addresses = listeners()
        .filter(|(pid, address)| *pid == holder.pid && port(address).as_deref() == Some(wanted.as_str()));
    let has_it_itself = addresses.clone().any(|(_, address)| *address == failure.address);
    addresses.next().filter(|_| !has_it_itself).map(|(_, address)| words::one_line(address))
}

fn remedy(failure: &Failure, object: &str, held_at: &str) -> String {
    let is_path = failure.address.is_empty();
    match &failure.holder {
        Some(holder) if holder.same_container => format!(
            "{} of the same container has {held_at}: give the two different addresses, or do not start the program twice",
            words::process(&holder.comm, holder.pid)
        ),
        None if is_path => format!(
            "remove the stale socket {object} before the program starts, or give each program its own path"
        ),
        None if failure.holder_looked_for => format!(
            "a connection of an earlier run that is still being closed keeps {object}: let the program set SO_REUSEADDR before it binds"
        ),
        _ if is_path => format!("give each of the programs that listen on {object} its own path"),
        _ => format!(
            "give one of the programs that listen on {object} another port: two containers of a pod share its ports (spec.containers[*].ports), and with spec.hostNetwork all pods of the node do"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Evidence, Exit, Holder, Process};

    fn found(holder: Option<Holder>, looked_for: bool) -> (String, String) {
        let failure = Failure {
            syscall: "bind".to_owned(),
            errno: errno::EADDRINUSE,
            address: "0.0.0.0:80/tcp".to_owned(),
            pid: 7,
            tid: 7,
            comm: "app".to_owned(),
            count: 1,
            by_dying_thread: true,
            holder,
            holder_looked_for: looked_for,
            ..Failure::default()
        };
        let evidence = Evidence {
            process: Some(Process { pid: 7, ..Process::default() }),
            exit: Some(Exit { code: 1, tid: 7, ..Exit::default() }),
            failures: vec![failure],
            ..Evidence::default()
        };
        let diagnosis = crate::diagnose(&evidence, None);
        assert_eq!((diagnosis.cause, diagnosis.object.as_str()), (Cause::PortInUse, "0.0.0.0:80/tcp"));
        (diagnosis.summary, diagnosis.remedy)
    }

    fn nginx(container_id: &str, same_container: bool) -> Option<Holder> {
        Some(Holder {
            pid: 12,
            comm: "nginx".to_owned(),
            container_id: container_id.to_owned(),
            pod_uid: String::new(),
            same_container,
        })
    }

    #[test]
    fn the_holder_is_named() {
        let id = "3f8a1c5d7e9b0a2c";
        for (holder, named) in [
            (nginx(id, false), "which is taken by nginx (pid 12) of container 3f8a1c5d7e9b:"),
            (nginx(id, true), "which is taken by nginx (pid 12) of the same container:"),
            (
                nginx("", false),
                "which is taken by nginx (pid 12) of the node, in no container that is known:",
            ),
        ] {
            let (summary, _) = found(holder, true);
            assert!(summary.contains(named), "{summary}");
        }
    }

    #[test]
    fn none_and_not_known_are_different() {
        let (summary, remedy) = found(None, true);
        assert!(summary.contains("no process on this node holds it"), "{summary}");
        assert!(remedy.contains("SO_REUSEADDR"), "{remedy}");
        let (summary, remedy) = found(None, false);
        assert!(summary.contains("which is taken: bind failed"), "{summary}");
        assert!(!remedy.contains("SO_REUSEADDR"), "{remedy}");
    }
}
