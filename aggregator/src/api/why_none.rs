//! An explanation without a crash says why there is none.

use lastwords_diagnosis::evidence::UnixNanos;
use lastwords_diagnosis::pod::{ContainerState, Terminated};
use lastwords_proto::v1;

use super::Query;
use crate::agents::Agents;
use crate::pods::Known;
use crate::{lock, time};

/// Runtimes whose containers have a kernel of their own.
const OWN_KERNEL: [&str; 5] = ["kata", "gvisor", "runsc", "firecracker", "cloud-hypervisor"];

impl Query {
    /// The answer for one pod.
    pub(super) fn explained(&self, pod: v1::Pod, crashes: Vec<v1::Crash>) -> v1::ExplainPodResponse {
        let why_none = if crashes.is_empty() {
            let pods = lock(&self.pods);
            pods.by_uid(&pod.uid).map_or_else(String::new, |known| why_none(known, &lock(&self.agents)))
        } else {
            String::new()
        };
        let node_clock_ahead_ms = lock(&self.agents).on(&pod.node).and_then(|agent| agent.clock_ahead_ms);
        v1::ExplainPodResponse { pod: Some(v1::Pod { node_clock_ahead_ms, ..pod }), crashes, why_none }
    }
}

/// Why no crash of this pod is known.
fn why_none(known: &Known, agents: &Agents) -> String {
    let pod = &known.pod;
    let class = pod.runtime_class.to_ascii_lowercase();
    if OWN_KERNEL.iter().any(|name| class.contains(name)) {
        return format!(
            "its runtimeClassName is {}: such containers run on a kernel of their own, into which no agent sees",
            pod.runtime_class
        );
    }
    let ends = pod.containers.iter().filter_map(|container| match &container.context.state {
        ContainerState::Terminated(now) => Some(now),
        _ => container.context.terminated.as_ref(),
    });
    let last: Option<&Terminated> = ends.max_by_key(|ended| ended.finished_at);
    let node = &pod.node;
    let agent = agents.on(node);
    let watched = match &agent {
        _ if node.is_empty() => "it is bound to no node yet".to_owned(),
        None => format!(
            "no agent has reported from node {node} since this aggregator started, see lastwords nodes"
        ),
        Some(agent) if !agent.is_connected => {
            let heard = moment(agent.last_heard);
            format!("the agent on node {node} is not connected, it was last heard at {heard}")
        }
        Some(_) => format!("an agent watches it on node {node}"),
    };
    let Some(last) = last else {
        let restarted = pod.containers.iter().any(|container| container.context.restart_count > 0);
        let so_far = if restarted {
            "it restarted, and Kubernetes does not say how it ended"
        } else {
            "none of its containers has ended"
        };
        return format!("{so_far}; {watched}");
    };
    let end = format!("its last end was at {} with exit code {}", moment(last.finished_at), last.exit_code);
    let connected = agent.filter(|agent| agent.is_connected);
    match connected.and_then(|agent| agent.started_at) {
        Some(started) if started > last.finished_at => {
            format!("{end}, before the agent on node {node} started at {}", moment(started))
        }
        _ if last.exit_code == 0 => format!("{end}, which is no crash; {watched}"),
        _ => format!("{end}; {watched}"),
    }
}

fn moment(at: UnixNanos) -> String {
    time::to_wire(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::{Container, Pod};

    const SECOND: i64 = 1_000_000_000;

    fn known(runtime_class: &str, ended_at: Option<i64>) -> Known {
        let mut container = Container::default();
        container.context.terminated = ended_at.map(|at| Terminated {
            exit_code: 1,
            finished_at: UnixNanos(at * SECOND),
            ..Terminated::default()
        });
        container.context.restart_count = i32::from(ended_at.is_some());
        let mut known = Known::default();
        known.pod = Pod {
            node: "node1".to_owned(),
            runtime_class: runtime_class.to_owned(),
            containers: vec![container],
            ..Pod::default()
        };
        known
    }

    fn agents(started_at: i64, connected: bool) -> Agents {
        let mut agents = Agents::default();
        let started_at = Some(time::to_wire(UnixNanos(started_at * SECOND)));
        let hello = v1::AgentHello { node: "node1".to_owned(), started_at, ..v1::AgentHello::default() };
        agents.connected(&hello, UnixNanos(500 * SECOND));
        if !connected {
            agents.disconnected("node1");
        }
        agents
    }

    #[test]
    fn each_reason_is_told() {
        for (pod, agents, told) in [
            (known("gvisor", Some(9)), Agents::default(), "a kernel of their own"),
            (known("", Some(9)), Agents::default(), "no agent has reported from node node1"),
            (
                known("", Some(9)),
                agents(1, false),
                "not connected, it was last heard at 1970-01-01T00:08:20Z",
            ),
            (
                known("", Some(9)),
                agents(99, true),
                "before the agent on node node1 started at 1970-01-01T00:01:39Z",
            ),
            (known("", Some(200)), agents(99, true), "exit code 1; an agent watches it"),
            (known("", None), agents(99, true), "none of its containers has ended; an agent watches it"),
        ] {
            let why = why_none(&pod, &agents);
            assert!(why.contains(told), "{told}: {why}");
        }
    }
}
