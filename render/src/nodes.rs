//! A line a node.

use lastwords_proto::v1::Node;
use prost_types::Timestamp;

use crate::escape::escape;
use crate::list::{cell, table};
use crate::style::Style;
use crate::time;

/// A clock that is less than this apart (milliseconds) is as good as right: the way of a heartbeat takes that long now and then.
const SAME_CLOCK_MS: u64 = 500;

const HEADINGS: [&str; 10] =
    ["NODE", "AGENT", "KERNEL", "CONNECTED", "HEARD", "LAST REPORT", "CLOCK", "PROBES", "LOST", "PODS"];

/// A table of nodes, and below it what is wrong with one. Ends with a new line.
pub fn nodes_text(nodes: &[Node], now: &Timestamp, colour: bool) -> String {
    let style = Style { colour };
    let rows: Vec<[String; 10]> = nodes.iter().map(|node| row(node, now)).collect();
    let mut text = table(HEADINGS, &rows, style);
    for line in nodes.iter().flat_map(remarks) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn row(node: &Node, now: &Timestamp) -> [String; 10] {
    let ago = |at: Option<&Timestamp>| {
        at.map_or_else(
            || "-".to_owned(),
            |at| format!("{} ago", time::duration(time::seconds_between(at, now))),
        )
    };
    let hello = node.agent.clone().unwrap_or_default();
    let connected = match (node.connected, &node.connected_since) {
        (true, Some(since)) => format!("for {}", time::duration(time::seconds_between(since, now))),
        (true, None) => "yes".to_owned(),
        (false, _) => "no".to_owned(),
    };
    let working = hello.probes.iter().filter(|probe| works(probe)).count();
    let probes =
        if hello.probes.is_empty() { "-".to_owned() } else { format!("{working}/{}", hello.probes.len()) };
    let lost: u64 = node.losses.iter().fold(0, |sum, count| sum.saturating_add(count.value));
    [
        cell(&node.name),
        cell(&hello.agent_version),
        cell(&hello.kernel_release),
        connected,
        ago(node.last_heard.as_ref()),
        ago(node.last_report.as_ref()),
        node.clock_ahead_ms.map_or_else(|| "-".to_owned(), clock),
        probes,
        lost.to_string(),
        node.pods.to_string(),
    ]
}

fn clock(ahead_ms: i64) -> String {
    if ahead_ms.unsigned_abs() < SAME_CLOCK_MS {
        return "same".to_owned();
    }
    clock_apart(ahead_ms)
}

/// `1.7 s behind`.
pub(crate) fn clock_apart(ahead_ms: i64) -> String {
    let apart = ahead_ms.unsigned_abs();
    format!("{}.{} s {}", apart / 1_000, apart % 1_000 / 100, if ahead_ms > 0 { "ahead" } else { "behind" })
}

/// `exec (sched_process_exec): active, tp_btf`, as `check` prints it.
fn works(probe: &str) -> bool {
    probe.split_once(": ").is_some_and(|(_, verdict)| verdict.starts_with("active"))
}

fn remarks(node: &Node) -> Vec<String> {
    let name = escape(&node.name);
    let Some(hello) = &node.agent else {
        return vec![format!(
            "{name}: no agent has reported from here: deaths on it are told by Kubernetes alone"
        )];
    };
    let mut lines: Vec<String> = hello
        .probes
        .iter()
        .filter(|probe| !works(probe))
        .map(|probe| format!("{name}: probe {}", escape(probe)))
        .collect();
    if let (Some(earlier), Some(started)) = (&hello.earlier_run, &hello.started_at)
        && !earlier.stopped
        && let Some(last_alive) = &earlier.last_alive
    {
        let how = match earlier.node_restarted {
            true => "the node went down with the agent before",
            false => "the agent before ended without being asked to (killed, out of memory, or crashed)",
        };
        lines.push(format!("{name}: not watched from {last_alive} to {started}: {how}"));
    }
    if !node.losses.is_empty() {
        let losses: Vec<String> =
            node.losses.iter().map(|count| format!("{} {}", escape(&count.name), count.value)).collect();
        lines.push(format!("{name}: lost since its agent's start: {}", losses.join(", ")));
    }
    if node.pending_reports > 0 {
        lines.push(format!("{name}: {} reports were not delivered yet", node.pending_reports));
    }
    lines
}

#[cfg(test)]
mod tests {
    use lastwords_proto::v1::{AgentHello, Count, EarlierRun};

    use super::*;

    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos: 0 })
    }

    #[test]
    fn a_line_a_node_and_what_is_wrong_below() {
        let watched = Node {
            name: "node1".into(),
            connected: true,
            agent: Some(AgentHello {
                agent_version: "0.1.0".into(),
                kernel_release: "6.1.0-40-amd64".into(),
                probes: vec![
                    "exec (sched_process_exec): active, tp_btf".into(),
                    "oom (mark_victim): unsupported, no task".into(),
                ],
                started_at: at(400),
                earlier_run: Some(EarlierRun { last_alive: at(370), ..EarlierRun::default() }),
                ..AgentHello::default()
            }),
            connected_since: at(400),
            last_heard: at(990),
            clock_ahead_ms: Some(-1_740),
            losses: vec![Count { name: "ring_records_dropped".into(), value: 7 }],
            pods: 12,
            ..Node::default()
        };
        let unwatched = Node { name: "node2".into(), pods: 1, ..Node::default() };
        let text = nodes_text(&[watched, unwatched], &at(1_000).unwrap(), false);
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "NODE    AGENT   KERNEL           CONNECTED   HEARD     LAST REPORT   CLOCK          PROBES   LOST   PODS",
                "node1   0.1.0   6.1.0-40-amd64   for 10m     10s ago   -             1.7 s behind   1/2      7      12",
                "node2   -       -                no          -         -             -              -        0      1",
                "node1: probe oom (mark_victim): unsupported, no task",
                "node1: not watched from 1970-01-01T00:06:10Z to 1970-01-01T00:06:40Z: the agent before ended without being asked to (killed, out of memory, or crashed)",
                "node1: lost since its agent's start: ring_records_dropped 7",
                "node2: no agent has reported from here: deaths on it are told by Kubernetes alone",
            ]
        );
    }
}
