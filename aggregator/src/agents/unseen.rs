//! Why no agent saw a death.

use lastwords_diagnosis::evidence::UnixNanos;

use super::Agents;
use crate::time;

/// The kubelet tells an end to the second (nanoseconds).
const SECOND: i64 = 1_000_000_000;

impl Agents {
    /// Why no agent reported the death of a container of this pod on this node at that time; None where one was there and should have.
    pub fn why_unseen(&self, node: &str, pod_uid: &str, died_at: UnixNanos) -> Option<String> {
        if node.is_empty() {
            return None;
        }
        let Some(agent) = self.on(node) else {
            return Some(format!("no agent has reported from node {node} since this aggregator started"));
        };
        if !pod_uid.is_empty() && agent.pod_uid == pod_uid {
            return Some(format!("this was the agent of node {node} itself, which cannot see its own end"));
        }
        let before = agent.started_at.is_some_and(|started| died_at.0.saturating_add(SECOND) <= started.0);
        let earlier = agent.earlier_run.as_ref().filter(|_| before);
        let left = earlier.and_then(|run| Some((run, time::from_wire(run.last_alive.as_ref()?)?)));
        match (left, agent.started_at.filter(|_| before)) {
            (Some((run, last_alive)), Some(started)) if died_at.0.saturating_add(SECOND) > last_alive.0 => {
                let how = match (run.stopped, run.node_restarted) {
                    (true, _) => "the one before was stopped",
                    (false, true) => "the node went down with the one before",
                    (false, false) => {
                        "the one before ended without being asked to (killed, out of memory, or crashed)"
                    }
                };
                let (from, until) = (moment(last_alive), moment(started));
                Some(format!("no agent watched node {node} from {from} to {until}: {how}"))
            }
            (_, Some(started)) => {
                Some(format!("the agent of node {node} started only at {}", moment(started)))
            }
            (_, None) if !agent.is_connected => {
                let heard = moment(agent.last_heard);
                Some(format!("the agent of node {node} is not connected, it was last heard at {heard}"))
            }
            (_, None) => None,
        }
    }
}

fn moment(at: UnixNanos) -> String {
    time::to_wire(at).to_string()
}

#[cfg(test)]
mod tests {
    use lastwords_proto::v1;

    use super::*;

    fn at(seconds: i64) -> UnixNanos {
        UnixNanos(seconds * SECOND)
    }

    #[test]
    fn each_reason_is_told() {
        let mut agents = Agents::default();
        let said = |agents: &Agents, pod: &str, seconds: i64| agents.why_unseen("node1", pod, at(seconds));
        assert!(said(&agents, "p", 50).unwrap().contains("no agent has reported from node node1"));
        let hello = |stopped: bool, node_restarted: bool| v1::AgentHello {
            node: "node1".to_owned(),
            started_at: Some(time::to_wire(at(100))),
            pod_uid: "agent-1".to_owned(),
            earlier_run: Some(v1::EarlierRun {
                last_alive: Some(time::to_wire(at(70))),
                stopped,
                node_restarted,
            }),
            ..v1::AgentHello::default()
        };
        for (stopped, restarted, how) in [
            (false, false, "ended without being asked to"),
            (true, false, "was stopped"),
            (false, true, "the node went down"),
        ] {
            agents.connected(&hello(stopped, restarted), at(101));
            let told = said(&agents, "p", 80).unwrap();
            assert!(
                told.contains(how) && told.contains("from 1970-01-01T00:01:10Z to 1970-01-01T00:01:40Z"),
                "{told}"
            );
        }
        assert!(said(&agents, "agent-1", 71).unwrap().contains("the agent of node node1 itself"));
        assert!(said(&agents, "p", 50).unwrap().contains("started only at 1970-01-01T00:01:40Z"));
        assert_eq!(said(&agents, "p", 150), None, "it was there");
        assert_eq!(agents.why_unseen("", "p", at(150)), None);
        (0..3).for_each(|_| agents.disconnected("node1"));
        assert!(said(&agents, "p", 150).unwrap().contains("not connected, it was last heard"));
    }
}
