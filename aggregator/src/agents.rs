//! The agents as they were heard since this program started: whether a node is watched, since when, and how well.
//!
//! Pure: what is heard and the time go in.

use std::collections::BTreeMap;

use lastwords_diagnosis::evidence::UnixNanos;
use lastwords_proto::v1;

use crate::time;

/// Nodes remembered, twice as many as Kubernetes supports; beyond it the one heard longest ago is forgotten. Some 2 KiB each.
const MOST: usize = 10_000;
/// Probes and counters of one agent kept: more than there are.
const MOST_LINES: usize = 64;
/// Longest text of a hello kept, in bytes.
const LONGEST: usize = 200;
/// Nanoseconds in a millisecond.
const MILLISECOND: i64 = 1_000_000;

/// All agents, by node.
#[derive(Debug, Default)]
pub struct Agents {
    by_node: BTreeMap<String, Agent>,
}

/// One agent.
#[derive(Debug, Clone, Default)]
pub struct Agent {
    hello: v1::AgentHello,
    /// Its open streams: two for a moment, when a new one comes before the old one is known to be broken.
    streams: u32,
    connected_since: UnixNanos,
    last_heard: UnixNanos,
    last_report: Option<UnixNanos>,
    reports: u64,
    clock_ahead_ms: Option<i64>,
    pending_reports: u64,
    losses: Vec<v1::Count>,
}

impl Agent {
    /// True while it has a stream.
    pub fn is_connected(&self) -> bool {
        self.streams > 0
    }

    /// When it was last heard.
    pub fn last_heard(&self) -> UnixNanos {
        self.last_heard
    }

    /// When it started, by its node's clock.
    pub fn started_at(&self) -> Option<UnixNanos> {
        self.hello.started_at.as_ref().and_then(time::from_wire)
    }
}

impl Agents {
    /// The agent of that node.
    pub fn on(&self, node: &str) -> Option<&Agent> {
        self.by_node.get(node)
    }

    /// An agent opened a stream.
    pub fn connected(&mut self, hello: &v1::AgentHello, now: UnixNanos) {
        let agent = self.by_node.entry(hello.node.clone()).or_default();
        agent.hello = bounded(hello);
        agent.streams += 1;
        (agent.connected_since, agent.last_heard) = (now, now);
        while self.by_node.len() > MOST {
            let oldest = self.by_node.iter().min_by_key(|(_, agent)| agent.last_heard);
            let Some(oldest) = oldest.map(|(node, _)| node.clone()) else { break };
            self.by_node.remove(&oldest);
        }
    }

    /// A stream of it ended.
    pub fn disconnected(&mut self, node: &str) {
        if let Some(agent) = self.by_node.get_mut(node) {
            agent.streams = agent.streams.saturating_sub(1);
        }
    }

    /// A report came from it.
    pub fn reported(&mut self, node: &str, now: UnixNanos) {
        if let Some(agent) = self.by_node.get_mut(node) {
            agent.reports += 1;
            (agent.last_report, agent.last_heard) = (Some(now), now);
        }
    }

    /// It said how it is.
    pub fn beat(&mut self, node: &str, beat: v1::Heartbeat, now: UnixNanos) {
        let Some(agent) = self.by_node.get_mut(node) else { return };
        agent.last_heard = now;
        let sent_at = beat.sent_at.as_ref().and_then(time::from_wire);
        agent.clock_ahead_ms = sent_at.map(|sent_at| sent_at.0.saturating_sub(now.0) / MILLISECOND);
        agent.pending_reports = beat.pending_reports;
        agent.losses = beat.losses.into_iter().take(MOST_LINES).collect();
        for count in &mut agent.losses {
            cut(&mut count.name);
        }
    }

    /// All of them, and the nodes of these pods, by name.
    pub fn nodes<'a>(&self, of_pods: impl Iterator<Item = &'a str>) -> Vec<v1::Node> {
        let mut pods: BTreeMap<&str, u32> = self.by_node.keys().map(|node| (node.as_str(), 0)).collect();
        for node in of_pods.filter(|node| !node.is_empty()) {
            *pods.entry(node).or_default() += 1;
        }
        pods.into_iter()
            .map(|(name, pods)| match self.by_node.get(name) {
                Some(agent) => v1::Node { pods, ..agent.to_wire(name) },
                None => v1::Node { name: name.to_owned(), pods, ..v1::Node::default() },
            })
            .collect()
    }
}

impl Agent {
    fn to_wire(&self, name: &str) -> v1::Node {
        v1::Node {
            name: name.to_owned(),
            connected: self.is_connected(),
            agent: Some(self.hello.clone()),
            connected_since: Some(time::to_wire(self.connected_since)),
            last_heard: Some(time::to_wire(self.last_heard)),
            last_report: self.last_report.map(time::to_wire),
            reports: self.reports,
            clock_ahead_ms: self.clock_ahead_ms,
            pending_reports: self.pending_reports,
            losses: self.losses.clone(),
            pods: 0,
        }
    }
}

/// What an agent says of itself is no more trusted than its reports.
fn bounded(hello: &v1::AgentHello) -> v1::AgentHello {
    let mut hello = hello.clone();
    hello.probes.truncate(MOST_LINES);
    hello.probes.iter_mut().for_each(cut);
    cut(&mut hello.agent_version);
    cut(&mut hello.kernel_release);
    hello
}

fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(LONGEST));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(node: &str) -> v1::AgentHello {
        v1::AgentHello { node: node.to_owned(), agent_version: "ü".repeat(500), ..v1::AgentHello::default() }
    }

    #[test]
    fn an_agent_is_there_as_long_as_one_of_its_streams() {
        let mut agents = Agents::default();
        agents.connected(&hello("a"), UnixNanos(1));
        agents.connected(&hello("a"), UnixNanos(2));
        agents.disconnected("a");
        assert!(agents.on("a").unwrap().is_connected(), "the newer stream is open");
        agents.disconnected("a");
        agents.disconnected("unknown");
        assert!(!agents.on("a").unwrap().is_connected());
        assert_eq!(agents.on("a").unwrap().hello.agent_version.len(), LONGEST);
    }

    #[test]
    fn nodes_are_those_of_agents_and_of_pods() {
        let mut agents = Agents::default();
        agents.connected(&hello("a"), UnixNanos(0));
        let beat = v1::Heartbeat {
            sent_at: Some(time::to_wire(UnixNanos(7_500 * MILLISECOND))),
            ..v1::Heartbeat::default()
        };
        agents.beat("a", beat, UnixNanos(5_000 * MILLISECOND));
        agents.reported("a", UnixNanos(5_000 * MILLISECOND));
        let nodes = agents.nodes(["b", "a", "b", ""].into_iter());
        let told: Vec<_> = nodes
            .iter()
            .map(|it| (it.name.as_str(), it.connected, it.pods, it.clock_ahead_ms, it.reports))
            .collect();
        assert_eq!(told, [("a", true, 1, Some(2_500), 1), ("b", false, 2, None, 0)]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut agents = Agents::default();
        for index in 0..=MOST {
            agents.connected(&hello(&index.to_string()), UnixNanos(i64::try_from(index).unwrap()));
        }
        assert_eq!(agents.by_node.len(), MOST);
        assert!(agents.on("0").is_none(), "the one heard longest ago");
    }
}
