//! What Prometheus sees of an aggregator, over a real socket.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod common;

use std::collections::BTreeMap;

use common::{Agent, query, report, settings};
use lastwords_aggregator::config::Settings;
use lastwords_aggregator::serve::{self, Aggregator};
use lastwords_proto::v1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The samples by name and labels.
async fn scrape(aggregator: &Aggregator) -> BTreeMap<String, f64> {
    let mut stream = TcpStream::connect(aggregator.metrics_address().unwrap()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: it\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(body.ends_with("# EOF\n"), "{body}");
    for name in ["api-7f9", "prod", "node1"] {
        assert!(!body.contains(name), "{name} is told to whoever scrapes: {body}");
    }
    let samples = body.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.strip_prefix("lastwords_aggregator_").unwrap(), value))
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

#[tokio::test]
async fn what_happened_is_told_without_names() {
    let directory = tempfile::tempdir().unwrap();
    let metrics_listen = Some(([127, 0, 0, 1], 0).into());
    let aggregator = serve::start(Settings { metrics_listen, ..settings(&directory) }).await.unwrap();
    let mut agent = Agent::connect(&aggregator, "node1").await;
    agent.report(report("node1", 1, "prod", "api-7f9")).await;
    agent.report(report("node1", 1, "prod", "api-7f9")).await;
    agent.report(report("node2", 2, "prod", "api-7f9")).await;
    let mut asking = query(&aggregator).await;
    asking.list_crashes(v1::ListCrashesRequest::default()).await.unwrap();
    asking.get_crash(v1::GetCrashRequest { id: "none".to_owned() }).await.unwrap_err();

    let samples = scrape(&aggregator).await;
    for (name, value) in [
        ("reports_received_total", 3.0),
        ("reports_total{outcome=\"stored\"}", 1.0),
        ("reports_total{outcome=\"duplicate\"}", 1.0),
        ("reports_total{outcome=\"other_node\"}", 1.0),
        ("crashes_total{cause=\"CAUSE_OUT_OF_MEMORY\",confidence=\"CONFIDENCE_HIGH\"}", 1.0),
        ("agents{state=\"connected\"}", 1.0),
        ("agents{state=\"gone\"}", 0.0),
        ("leader", 1.0),
        ("pods{state=\"there\"}", 0.0),
        ("watch_relists_total", 0.0),
        ("events_total{outcome=\"limited\"}", 0.0),
        ("store_errors_total", 0.0),
        ("query_duration_seconds_count{method=\"ListCrashes\",outcome=\"answered\"}", 1.0),
        ("query_duration_seconds_count{method=\"GetCrash\",outcome=\"refused\"}", 1.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name} in {samples:#?}");
    }
    assert!(samples["store_transactions_total"] >= 1.0);
    aggregator.stop().await.unwrap();
}
