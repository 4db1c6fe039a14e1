//! The agents as they were heard since this program started: whether a node is watched, since when, and how well.
//!
//! [`Agents::why_unseen`] tells of a death that no agent reported why none did.
//!
//! Several aggregators that share a store tell each other by it, so that each can answer for all nodes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lastwords_diagnosis::evidence::UnixNanos;
use lastwords_proto::v1;

mod unseen;

use crate::shutdown::Stop;
use crate::store::Store;
use crate::{lock, time};

/// Nodes remembered, twice as many as Kubernetes supports; beyond it the one heard longest ago is forgotten. Some 2 KiB each.
const MOST: usize = 10_000;
/// An agent whose stream has ended for less than this was not away: it begins one anew now and then. After a failure it waits a second at least.
const RENEWED_WITHIN: Duration = Duration::from_millis(900);
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
    /// What other aggregators that share the store tell of the agents that they hear.
    elsewhere: BTreeMap<String, v1::Node>,
}

/// What is known of a node's agent, whichever aggregator hears it.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// True while it has a stream.
    pub is_connected: bool,
    /// When it was last heard.
    pub last_heard: UnixNanos,
    /// When it started, by its node's clock.
    pub started_at: Option<UnixNanos>,
    /// How its run before ended.
    pub earlier_run: Option<v1::EarlierRun>,
    /// The UID of its own pod; empty when it does not know it.
    pub pod_uid: String,
    /// Its node's clock against the one here in milliseconds, positive when it is ahead.
    pub clock_ahead_ms: Option<i64>,
}

impl Heard {
    fn new(
        hello: &v1::AgentHello,
        is_connected: bool,
        last_heard: UnixNanos,
        clock_ahead_ms: Option<i64>,
    ) -> Self {
        Self {
            is_connected,
            last_heard,
            clock_ahead_ms,
            started_at: hello.started_at.as_ref().and_then(time::from_wire),
            earlier_run: hello.earlier_run,
            pod_uid: hello.pod_uid.clone(),
        }
    }
}

/// How often aggregators that share a store tell each other of their agents: as often as agents tell how they are.
const SHARE: Duration = Duration::from_secs(5);

/// Tells other aggregators by the store which agents are heard here, and takes what they tell, until told to stop.
pub async fn share(agents: Arc<Mutex<Agents>>, store: Arc<dyn Store>, mut stop: Stop) {
    let mut was_refused = false;
    loop {
        let here = lock(&agents).here();
        match store.share_agents(here).await {
            Ok(elsewhere) => {
                was_refused = false;
                lock(&agents).heard_elsewhere(elsewhere);
            }
            Err(error) if !std::mem::replace(&mut was_refused, true) => {
                tracing::warn!("agents of other aggregators are not known: {error}");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.requested() => return,
            () = tokio::time::sleep(SHARE) => {}
        }
    }
}

/// One agent.
#[derive(Debug, Clone, Default)]
pub struct Agent {
    hello: v1::AgentHello,
    /// Its open streams: two for a moment, when a new one comes before the old one is known to be broken.
    streams: u32,
    /// When its last stream ended.
    ended: Option<Instant>,
    connected_since: UnixNanos,
    last_heard: UnixNanos,
    last_report: Option<UnixNanos>,
    reports: u64,
    clock_ahead_ms: Option<i64>,
    pending_reports: u64,
    losses: Vec<v1::Count>,
}

impl Agents {
    /// The agent of that node.
    pub fn on(&self, node: &str) -> Option<Heard> {
        let here = self.by_node.get(node);
        let here = here
            .map(|agent| Heard::new(&agent.hello, agent.streams > 0, agent.last_heard, agent.clock_ahead_ms));
        let elsewhere = self.elsewhere.get(node).map(|agent| {
            let hello = agent.agent.clone().unwrap_or_default();
            Heard::new(&hello, agent.connected, last_heard(agent), agent.clock_ahead_ms)
        });
        here.into_iter().chain(elsewhere).max_by_key(|heard| (heard.is_connected, heard.last_heard))
    }

    /// Those that were heard here.
    fn here(&self) -> Vec<v1::Node> {
        self.by_node.iter().map(|(name, agent)| agent.to_wire(name)).collect()
    }

    /// How many of those that were heard here have a stream now, and how many have none.
    pub fn heard_here(&self) -> (u64, u64) {
        let connected = self.by_node.values().filter(|agent| agent.streams > 0).count();
        (connected as u64, self.by_node.len().saturating_sub(connected) as u64)
    }

    fn heard_elsewhere(&mut self, agents: Vec<v1::Node>) {
        self.elsewhere = agents.into_iter().take(MOST).map(|agent| (agent.name.clone(), agent)).collect();
    }

    /// An agent opened a stream.
    pub fn connected(&mut self, hello: &v1::AgentHello, now: UnixNanos) {
        let agent = self.by_node.entry(hello.node.clone()).or_default();
        let hello = bounded(hello);
        let just_ended = agent.ended.is_some_and(|ended| ended.elapsed() < RENEWED_WITHIN);
        if agent.hello != hello || !just_ended {
            agent.connected_since = now;
        }
        agent.hello = hello;
        agent.streams += 1;
        agent.last_heard = now;
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
            agent.ended = Some(Instant::now());
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
        let nodes = self.by_node.keys().chain(self.elsewhere.keys());
        let mut pods: BTreeMap<&str, u32> = nodes.map(|node| (node.as_str(), 0)).collect();
        for node in of_pods.filter(|node| !node.is_empty()) {
            *pods.entry(node).or_default() += 1;
        }
        pods.into_iter()
            .map(|(name, pods)| {
                let here = self.by_node.get(name).map(|agent| agent.to_wire(name));
                let told = here.into_iter().chain(self.elsewhere.get(name).cloned());
                let told = told.max_by_key(|agent| (agent.connected, last_heard(agent)));
                v1::Node { name: name.to_owned(), pods, ..told.unwrap_or_default() }
            })
            .collect()
    }
}

impl Agent {
    fn to_wire(&self, name: &str) -> v1::Node {
        v1::Node {
            name: name.to_owned(),
            connected: self.streams > 0,
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

fn last_heard(agent: &v1::Node) -> UnixNanos {
    agent.last_heard.as_ref().and_then(time::from_wire).unwrap_or_default()
}

/// What an agent says of itself is no more trusted than its reports.
fn bounded(hello: &v1::AgentHello) -> v1::AgentHello {
    let mut hello = hello.clone();
    hello.probes.truncate(MOST_LINES);
    hello.probes.iter_mut().for_each(cut);
    cut(&mut hello.agent_version);
    cut(&mut hello.kernel_release);
    cut(&mut hello.pod_uid);
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
        assert!(agents.on("a").unwrap().is_connected, "the newer stream is open");
        agents.disconnected("a");
        agents.disconnected("unknown");
        assert!(!agents.on("a").unwrap().is_connected);
        assert_eq!(agents.by_node["a"].hello.agent_version.len(), LONGEST);
    }

    #[test]
    fn a_stream_that_is_begun_anew_at_once_goes_on() {
        let mut agents = Agents::default();
        let since = |agents: &Agents| agents.by_node["a"].connected_since;
        agents.connected(&hello("a"), UnixNanos(1));
        agents.disconnected("a");
        agents.connected(&hello("a"), UnixNanos(2));
        assert_eq!(since(&agents), UnixNanos(1));
        agents.disconnected("a");
        agents.by_node.get_mut("a").unwrap().ended = Instant::now().checked_sub(RENEWED_WITHIN);
        agents.connected(&hello("a"), UnixNanos(3));
        assert_eq!(since(&agents), UnixNanos(3), "it was away");
        agents.disconnected("a");
        agents
            .connected(&v1::AgentHello { kernel_release: "another".to_owned(), ..hello("a") }, UnixNanos(4));
        assert_eq!(since(&agents), UnixNanos(4), "it was started again");
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
    fn agents_of_other_aggregators_are_known_too() {
        let mut agents = Agents::default();
        agents.connected(&hello("a"), UnixNanos(9));
        agents.disconnected("a");
        let told = |name: &str, connected: bool, at: i64| v1::Node {
            name: name.to_owned(),
            connected,
            last_heard: Some(time::to_wire(UnixNanos(at))),
            ..v1::Node::default()
        };
        agents.heard_elsewhere(vec![told("a", true, 20), told("b", false, 5)]);
        assert!(agents.on("a").unwrap().is_connected, "it went over to the other one");
        assert!(!agents.on("b").unwrap().is_connected);
        let nodes = agents.nodes(std::iter::once("c"));
        let shown: Vec<_> = nodes.iter().map(|it| (it.name.as_str(), it.connected)).collect();
        assert_eq!(shown, [("a", true), ("b", false), ("c", false)]);
        agents.connected(&hello("a"), UnixNanos(30));
        agents.heard_elsewhere(vec![told("a", false, 20)]);
        assert!(agents.on("a").unwrap().is_connected, "and back");
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
