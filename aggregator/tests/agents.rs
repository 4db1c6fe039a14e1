//! Agents prove their node: one refusal a rule, and nothing else gets in.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "common/api_server.rs"]
mod api_server;
mod common;
#[path = "common/secured.rs"]
mod secured;

use api_server::reviews::API;
use common::{Agent, report};
use lastwords_proto::v1::acknowledgement::Outcome;
use lastwords_proto::v1::crash_query_client::CrashQueryClient;
use secured::{Secured, agent};
use serde_json::json;
use tonic::{Code, Status};

/// How a stream of `node` with `token` ends.
async fn refused(secured: &Secured, node: &str, token: &str) -> Status {
    match Agent::prove(secured.channel().await, node, token).await {
        Err(status) => status,
        Ok(mut agent) => {
            tokio::time::timeout(common::SOON, agent.responses.message()).await.unwrap().unwrap_err()
        }
    }
}

#[tokio::test]
async fn an_agent_reports_what_died_on_its_node() {
    let secured = Secured::start().await;
    let mut agent = secured.agent().await;
    let acknowledgement = agent.report(report("node1", 1, "prod", "api")).await;
    assert_eq!(acknowledgement.outcome(), Outcome::Stored);
}

#[tokio::test]
async fn another_nodes_name_is_refused_in_the_stream_and_in_the_report() {
    let secured = Secured::start().await;
    let status = refused(&secured, "node2", "of-node1").await;
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "the token is of another node"));

    let mut agent = secured.agent().await;
    let acknowledgement = agent.report(report("node2", 1, "prod", "api")).await;
    assert_eq!(acknowledgement.outcome(), Outcome::Rejected);
    assert_eq!(acknowledgement.reason, "the crash is of another node than its stream");
    let acknowledgement = agent.report(report("node1", 2, "prod", "api")).await;
    assert_eq!(acknowledgement.outcome(), Outcome::Stored, "its own goes on being taken");
}

#[tokio::test]
async fn a_pod_of_another_node_is_refused() {
    let api = api_server::ApiServer::start().await;
    api.token("of-node1", "lastwords", agent(Some("node1"), "lastwords-agent"));
    for (name, node) in [("here", "node1"), ("elsewhere", "node2")] {
        api.put(
            "pods",
            json!({"apiVersion": "v1", "kind": "Pod", "status": {"phase": "Running"},
                "metadata": {"name": name, "namespace": "prod", "uid": format!("uid-of-{name}")},
                "spec": {"nodeName": node, "containers": [{"name": "app", "image": "i"}]}}),
        );
    }
    let secured = Secured::start_with(api).await;
    let mut agent = secured.agent().await;
    // Until the pods are listed nobody knows better.
    let mut sequence = 0;
    let refused = async {
        loop {
            sequence += 1;
            let acknowledgement = agent.report(report("node1", sequence, "prod", "elsewhere")).await;
            if acknowledgement.outcome() == Outcome::Rejected {
                return acknowledgement.reason;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let reason = tokio::time::timeout(common::SOON * 3, refused).await.unwrap();
    assert_eq!(reason, "the container is of a pod on another node");
    let acknowledgement = agent.report(report("node1", 1_000, "prod", "here")).await;
    assert_eq!(acknowledgement.outcome(), Outcome::Stored);

    // Its pod is enough to know whose a container is: a name that the pod does not have hides nothing.
    let mut unheard_of = report("node1", 1_001, "prod", "elsewhere");
    unheard_of.crash.as_mut().unwrap().container.as_mut().unwrap().name = "unheard-of".to_owned();
    let acknowledgement = agent.report(unheard_of).await;
    assert_eq!(acknowledgement.outcome(), Outcome::Rejected, "{}", acknowledgement.reason);
}

#[tokio::test]
async fn a_token_that_ended_or_is_for_others_or_missing_is_refused() {
    let secured = Secured::start().await;
    secured.api.token("for-the-api", API, agent(Some("node1"), "lastwords-agent"));
    for token in ["ended", "for-the-api", ""] {
        assert_eq!(refused(&secured, "node1", token).await.code(), Code::Unauthenticated, "{token:?}");
    }
}

#[tokio::test]
async fn a_token_of_another_account_or_of_no_node_is_refused() {
    let secured = Secured::start().await;
    secured.api.token("of-another", "lastwords", agent(Some("node1"), "default"));
    secured.api.token("of-no-node", "lastwords", agent(None, "lastwords-agent"));
    for (token, said) in [("of-another", "no agent's service account"), ("of-no-node", "names no node")] {
        let status = refused(&secured, "node1", token).await;
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(status.message().contains(said), "{status}");
    }
}

#[tokio::test]
async fn without_an_answer_of_the_api_nobody_gets_in() {
    let mut secured = Secured::start().await;
    let channel = secured.channel().await;
    secured.api.go_away().await;
    let status = Agent::prove(channel, "node1", "of-node1").await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    secured.api.come_back().await;
    assert!(Agent::prove(secured.channel().await, "node1", "of-node1").await.is_ok());
}

#[tokio::test]
async fn a_token_is_reviewed_once_in_a_while() {
    let secured = Secured::start().await;
    for _ in 0..10 {
        secured.agent().await;
    }
    let reviews = secured.api.requests().iter().filter(|request| request.contains("/tokenreviews")).count();
    // One a minute.
    assert!((1..5).contains(&reviews), "{reviews}");
}

fn pod_on(name: &str, node: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "Pod", "status": {"phase": "Running"},
        "metadata": {"name": name, "namespace": "prod", "uid": format!("uid-of-{name}")},
        "spec": {"nodeName": node, "containers": [{"name": "app", "image": "i"}]}})
}

/// What a caller who may read `prod` is told of it.
async fn told(secured: &Secured) -> Vec<lastwords_proto::v1::Crash> {
    let mut query = CrashQueryClient::new(secured.channel().await);
    let of_prod =
        lastwords_proto::v1::ListCrashesRequest { namespace: "prod".to_owned(), ..Default::default() };
    query.list_crashes(common::with_token(of_prod, "of-ann")).await.unwrap().into_inner().crashes
}

#[tokio::test]
async fn a_report_of_a_pod_that_turns_out_to_be_elsewhere_is_removed() {
    let secured = Secured::start().await;
    secured.api.token("of-ann", API, json!({"username": "ann"}));
    secured.api.allow("ann", "prod");
    secured.api.token("of-bob", API, json!({"username": "bob"}));
    let mut agent = secured.agent().await;
    for (sequence, name) in [(1, "elsewhere"), (2, "here"), (3, "nowhere"), (4, "unbound")] {
        let acknowledgement = agent.report(report("node1", sequence, "prod", name)).await;
        assert_eq!(acknowledgement.outcome(), Outcome::Stored, "{name}: nobody knows better yet");
    }
    let marked = |crashes: &[lastwords_proto::v1::Crash]| {
        let mut marked: Vec<(String, bool)> = crashes
            .iter()
            .map(|crash| (crash.container.clone().unwrap().pod_name, crash.pod_unconfirmed))
            .collect();
        marked.sort();
        marked
    };
    let of = |name: &str, unconfirmed| (name.to_owned(), unconfirmed);
    let all = ["elsewhere", "here", "nowhere", "unbound"].map(|name| of(name, true));
    assert_eq!(marked(&told(&secured).await), all);

    for (name, node) in [("unbound", ""), ("elsewhere", "node2"), ("here", "node1")] {
        secured.api.put("pods", pod_on(name, node));
    }
    let wanted = [of("here", false), of("nowhere", true), of("unbound", true)];
    let removed = || {
        let revisions = secured.aggregator.revisions();
        revisions.of_other_nodes.load(std::sync::atomic::Ordering::Relaxed)
    };
    let settled = async {
        while marked(&told(&secured).await) != wanted || removed() == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(common::SOON * 3, settled).await.unwrap();
    assert_eq!(removed(), 1);

    // Bound to another node at last.
    secured.api.put("pods", pod_on("unbound", "node3"));
    let settled = async {
        while removed() != 2 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(common::SOON * 3, settled).await.unwrap();
    assert_eq!(marked(&told(&secured).await), wanted[..2]);

    // What nobody confirms is for those who may read what it says it is of.
    let mut query = CrashQueryClient::new(secured.channel().await);
    let all = common::with_token(lastwords_proto::v1::ListCrashesRequest::default(), "of-bob");
    assert!(query.list_crashes(all).await.unwrap().into_inner().crashes.is_empty());
}

#[tokio::test]
async fn a_namespace_that_an_agent_makes_up_moves_no_crash() {
    let api = api_server::ApiServer::start().await;
    api.token("of-node1", "lastwords", agent(Some("node1"), "lastwords-agent"));
    api.put("pods", pod_on("here", "node1"));
    let secured = Secured::start_with(api).await;
    secured.api.token("of-ann", API, json!({"username": "ann"}));
    secured.api.allow("ann", "prod");
    let mut agent = secured.agent().await;
    let mut moved = report("node1", 1, "elsewhere", "another");
    moved.crash.as_mut().unwrap().container.as_mut().unwrap().pod_uid = "uid-of-here".to_owned();
    assert_eq!(agent.report(moved).await.outcome(), Outcome::Stored);
    let found = async {
        loop {
            if let [crash] = told(&secured).await.as_slice() {
                return crash.clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let crash = tokio::time::timeout(common::SOON * 3, found).await.unwrap();
    let container = crash.container.unwrap();
    assert_eq!((container.namespace.as_str(), container.pod_name.as_str()), ("prod", "here"));
    assert!(!crash.pod_unconfirmed);
}
