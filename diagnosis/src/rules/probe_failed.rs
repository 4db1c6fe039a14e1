//! The kubelet had the container stopped because its liveness or startup probe failed.
//!
//! In the kernel that is a SIGTERM from the runtime, and so are a drain, a deletion and an eviction: only the pod's events tell which it was.

use super::{Finding, killed};
use crate::case::Case;
use crate::evidence::Listener;
use crate::pod::{PodContext, Probe, ProbeEvent};
use crate::verdict::{Cause, Confidence, EvidenceRef};
use crate::{signals, words};

/// Ports that a sentence names at most.
const MOST_PORTS: usize = 8;

/// The probes whose failure ends a container.
const FATAL: [&str; 2] = ["liveness", "startup"];

pub(super) fn stopped(case: &Case<'_>) -> Option<Finding> {
    let pod = case.pod?;
    let faulted = case.fatal_signal().is_some_and(signals::is_fault);
    let exit = case.exit().filter(|_| !faulted)?;
    let stop = killed::asked_to_stop(case).filter(|(_, signal)| killed::from_runtime(signal.sender.as_ref()));
    let killed = exit.signal != 0 && killed::from_runtime(exit.killed_by.as_ref());
    let unseen = killed::is_unseen_stop(case);
    if stop.is_none() && !killed && !unseen {
        return None;
    }
    let (kind, index, confidence) = verdict(pod)?;
    let probe = pod.container.probes.iter().find(|probe| probe.kind == kind);
    let action = probe.map_or_else(|| "probe".to_owned(), |probe| words::one_line(&probe.action));
    let failing = pod
        .probe_events
        .iter()
        .enumerate()
        .rfind(|(_, event)| event.reason == "Unhealthy" && is_of(event, kind));
    let often = match failing.map(|(_, event)| event.count) {
        None | Some(0 | 1) => String::new(),
        Some(count) => format!(" {count} times"),
    };
    let said = failing.and_then(|(_, event)| event.message.split_once("failed: ")).map(|(_, said)| said);
    // A command that is asked by exec may say nothing.
    let said = said
        .filter(|said| !said.trim().is_empty())
        .map_or_else(String::new, |said| format!(" ({})", words::one_line(said)));
    let port = probe.and_then(|probe| port(case, probe));
    let mut evidence = vec![EvidenceRef::ProbeEvent(index)];
    evidence.extend(stop.map(|(index, _)| EvidenceRef::Signal(index)));
    evidence.push(EvidenceRef::Exit);
    evidence.extend(failing.map(|(index, _)| EvidenceRef::ProbeEvent(index)));
    evidence.extend(case.evidence.blocked.as_ref().map(|_| EvidenceRef::Blocked));
    evidence.dedup();
    Some(Finding {
        cause: Cause::ProbeFailed,
        confidence: if unseen { confidence.min(Confidence::Medium) } else { confidence },
        summary: format!(
            "the kubelet had {} stopped because its {kind} probe {action} failed{often}{said}{}; it ended with {}{}",
            case.main_name(),
            port.as_ref().map_or_else(String::new, |port| format!("; {}", port.what)),
            words::ending(exit),
            killed::waiting(case)
        ),
        object: if probe.is_some() { format!("{kind} {action}") } else { format!("{kind} probe") },
        remedy: remedy(case, kind, probe, port.as_ref()),
        evidence,
    })
}

/// Only Kubernetes tells of the end; its events name the probe.
pub(super) fn told(case: &Case<'_>) -> Option<Finding> {
    let pod = case.pod.filter(|_| case.only_kubernetes() && !case.evidence.container.id.is_empty())?;
    let (kind, index, confidence) = verdict(pod)?;
    let probe = pod.container.probes.iter().find(|probe| probe.kind == kind);
    let action = probe.map_or_else(|| "probe".to_owned(), |probe| words::one_line(&probe.action));
    Some(Finding {
        cause: Cause::ProbeFailed,
        confidence: confidence.min(Confidence::Medium),
        summary: format!(
            "the kubelet says that it had the container stopped because its {kind} probe {action} failed; no agent saw it"
        ),
        object: if probe.is_some() { format!("{kind} {action}") } else { format!("{kind} probe") },
        remedy: remedy(case, kind, probe, None),
        evidence: vec![EvidenceRef::ProbeEvent(index)],
    })
}

/// Which probe the events tell of, the event that tells it, and how surely it was this that ended the run.
fn verdict(pod: &PodContext) -> Option<(&'static str, usize, Confidence)> {
    let events = || pod.probe_events.iter().enumerate();
    let kind_of = |event: &ProbeEvent| FATAL.into_iter().find(|kind| is_of(event, kind));
    let killing = events().rev().find_map(|(index, event)| {
        (event.reason == "Killing").then(|| kind_of(event).map(|kind| (kind, index, Confidence::High)))?
    });
    // Events are rate-limited: enough failures in a row say the same, unless the pod is being deleted.
    let unhealthy = || {
        events().rev().find_map(|(index, event)| {
            let kind = (event.reason == "Unhealthy").then(|| kind_of(event))??;
            let threshold = pod.container.probes.iter().find(|probe| probe.kind == kind)?.failure_threshold;
            (pod.stop.is_none() && !pod.deleted && event.count >= threshold.max(1)).then_some((
                kind,
                index,
                Confidence::Medium,
            ))
        })
    };
    killing.or_else(unhealthy)
}

/// `Liveness probe failed: …`, `Container app failed liveness probe, will be restarted`.
fn is_of(event: &ProbeEvent, kind: &str) -> bool {
    let lower = event.message.to_ascii_lowercase();
    lower.starts_with(&format!("{kind} probe")) || lower.contains(&format!("failed {kind} probe"))
}

/// The probe's port against what the container listened on.
struct Port {
    what: String,
    /// The port that it listened on instead.
    instead: Option<u16>,
    local_only: bool,
}

fn port(case: &Case<'_>, probe: &Probe) -> Option<Port> {
    if probe.port == 0 || case.evidence.losses.agent_started_later {
        return None;
    }
    let address = |listener: &'_ Listener| {
        let (host, port) = listener.address.strip_suffix("/tcp")?.rsplit_once(':')?;
        Some((host.to_owned(), port.parse::<u16>().ok()?))
    };
    let mut listeners: Vec<(String, u16, &Listener)> = case
        .evidence
        .listeners
        .iter()
        .filter_map(|listener| address(listener).map(|(host, port)| (host, port, listener)))
        .collect();
    // A server that is asked to stop closes its sockets first, and when one was closed is not told: those that were not come first.
    listeners.sort_by_key(|(_, _, listener)| listener.closed);
    let on_port: Vec<_> = listeners.iter().filter(|(_, port, _)| *port == probe.port).collect();
    let wanted = probe.port;
    if let Some((_, _, listener)) = on_port.iter().find(|(host, ..)| !is_local(host)) {
        let began = case.life_ms().map(|life| life - listener.before_death_ms).filter(|began| *began > 0.0);
        let began =
            began.map_or_else(String::new, |began| format!(" from {} after its start", words::span(began)));
        return Some(Port {
            what: format!("it listened on port {wanted}{began}{}", closed(listener)),
            instead: None,
            local_only: false,
        });
    }
    if let Some((host, _, listener)) = on_port.first() {
        let what = format!(
            "it listened on {}:{wanted} only{}, where the kubelet cannot reach it",
            words::one_line(host),
            closed(listener)
        );
        return Some(Port { what, instead: None, local_only: true });
    }
    listeners.sort_by_key(|(_, port, listener)| (*port, listener.closed));
    listeners.dedup_by_key(|(_, port, _)| *port);
    let others: Vec<String> = listeners
        .iter()
        .take(MOST_PORTS)
        .map(|(_, port, listener)| format!("{port}{}", closed(listener)))
        .collect();
    let what = match others.as_slice() {
        [] => format!("nothing listened on port {wanted}, nor on any other"),
        others => format!("nothing listened on port {wanted}; it listened on {}", others.join(", ")),
    };
    let instead = if let [(_, one, _)] = listeners.as_slice() { Some(*one) } else { None };
    Some(Port { what, instead, local_only: false })
}

/// For a sentence: the evidence does not tell whether a socket was closed while it was stopped, or long before.
fn closed(listener: &Listener) -> &'static str {
    if listener.closed { " (closed by the end)" } else { "" }
}

fn is_local(host: &str) -> bool {
    host.starts_with("127.") || host == "[::1]"
}

fn remedy(case: &Case<'_>, kind: &str, probe: Option<&Probe>, port: Option<&Port>) -> String {
    let field = probe
        .map(|probe| words::one_line(&probe.field_path))
        .unwrap_or_else(|| format!("{}.{kind}Probe", case.field()));
    match (port, probe) {
        (Some(Port { instead: Some(instead), .. }), Some(probe)) => {
            format!("set the port of {field} to {instead}, or let the program listen on {}", probe.port)
        }
        (Some(Port { local_only: true, .. }), Some(probe)) => {
            format!("let the program listen on 0.0.0.0:{}, or correct {field}", probe.port)
        }
        _ if kind == "startup" => format!(
            "if it only needs longer to start, raise {field}.failureThreshold or {field}.periodSeconds; else correct what {field} asks for"
        ),
        _ => format!(
            "if it answers too slowly, raise {field}.timeoutSeconds or {field}.failureThreshold, or give it a startupProbe; else correct what {field} asks for"
        ),
    }
}
