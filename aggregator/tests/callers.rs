//! Callers read what the cluster's own rules let them read, and cannot tell what is not there from what is not theirs.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "common/api_server.rs"]
mod api_server;
mod common;
#[path = "common/secured.rs"]
mod secured;

use std::time::Duration;

use common::{SOON, report, with_token};
use lastwords_proto::v1;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use secured::Secured;
use serde_json::json;
use tonic::transport::Identity;
use tonic::{Code, Status};

/// Crashes in `mine`, `theirs` and without a namespace; `one` may read `mine`, `all` everything, `none` nothing.
async fn start() -> Secured {
    let secured = Secured::start().await;
    for name in ["one", "all", "none"] {
        secured.person(name, name);
    }
    secured.api.allow("one", "mine");
    secured.api.allow("all", "");
    let mut agent = secured.agent().await;
    for (sequence, namespace) in [(1, "mine"), (2, "theirs"), (3, "mine"), (4, "")] {
        agent.report(report("node1", sequence, namespace, &format!("pod-{sequence}"))).await;
    }
    secured
}

fn id(sequence: u64) -> String {
    format!("node1/{}/{sequence}", common::SPOOL)
}

/// The sequences of all crashes in a list, page by page of one crash each.
async fn listed(secured: &Secured, token: &str, namespace: &str) -> Result<Vec<String>, Status> {
    let mut query = secured.query().await;
    let mut request = v1::ListCrashesRequest {
        namespace: namespace.to_owned(),
        page_size: 1,
        ..v1::ListCrashesRequest::default()
    };
    let mut all = Vec::new();
    loop {
        let page = query.list_crashes(with_token(request.clone(), token)).await?.into_inner();
        all.extend(page.crashes.into_iter().map(|crash| crash.id.rsplit('/').next().unwrap().to_owned()));
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}

async fn get(secured: &Secured, token: &str, id: &str) -> Result<v1::GetCrashResponse, Status> {
    let request = v1::GetCrashRequest { id: id.to_owned() };
    Ok(secured.query().await.get_crash(with_token(request, token)).await?.into_inner())
}

async fn explain(secured: &Secured, token: &str, namespace: &str, pod: &str) -> Result<(), Status> {
    let request = v1::ExplainPodRequest {
        namespace: namespace.to_owned(),
        pod_name: pod.to_owned(),
        ..v1::ExplainPodRequest::default()
    };
    secured.query().await.explain_pod(with_token(request, token)).await.map(|_| ())
}

async fn watch(
    secured: &Secured,
    token: &str,
    namespace: &str,
) -> Result<tonic::Streaming<v1::WatchCrashesResponse>, Status> {
    let request = v1::WatchCrashesRequest { namespace: namespace.to_owned(), include_completed: true };
    Ok(secured.query().await.watch_crashes(with_token(request, token)).await?.into_inner())
}

fn code<T>(outcome: Result<T, Status>) -> Code {
    outcome.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test]
async fn who_proves_nothing_gets_nothing() {
    let secured = start().await;
    // The agents' tokens are for reporting alone.
    for token in ["", "ended", "of-node1"] {
        assert_eq!(code(listed(&secured, token, "").await), Code::Unauthenticated, "{token:?}");
        assert_eq!(code(get(&secured, token, &id(1)).await), Code::Unauthenticated);
        assert_eq!(code(explain(&secured, token, "mine", "pod-1").await), Code::Unauthenticated);
        assert_eq!(code(watch(&secured, token, "").await), Code::Unauthenticated);
    }
}

#[tokio::test]
async fn who_has_no_rights_learns_nothing() {
    let secured = start().await;
    assert_eq!(listed(&secured, "none", "").await.unwrap(), Vec::<String>::new());
    assert_eq!(code(listed(&secured, "none", "mine").await), Code::PermissionDenied);
    assert_eq!(code(watch(&secured, "none", "mine").await), Code::PermissionDenied);
    assert_eq!(code(get(&secured, "none", &id(1)).await), Code::NotFound);
    assert_eq!(code(explain(&secured, "none", "mine", "pod-1").await), Code::NotFound);
}

#[tokio::test]
async fn who_may_read_one_namespace_of_two_sees_that_one() {
    let secured = start().await;
    assert_eq!(listed(&secured, "one", "").await.unwrap(), ["3", "1"]);
    assert_eq!(listed(&secured, "one", "mine").await.unwrap(), ["3", "1"]);
    assert_eq!(code(listed(&secured, "one", "theirs").await), Code::PermissionDenied);
    assert_eq!(get(&secured, "one", &id(1)).await.unwrap().crash.unwrap().id, id(1));
    assert_eq!(code(explain(&secured, "one", "mine", "pod-1").await), Code::Ok);
    assert_eq!(code(watch(&secured, "one", "theirs").await), Code::PermissionDenied);
}

#[tokio::test]
async fn what_is_not_yours_is_answered_as_what_is_not_there() {
    let secured = start().await;
    let said = |outcome: Result<(), Status>, name: &str| {
        let status = outcome.unwrap_err();
        (status.code(), status.message().replace(name, "NAME"))
    };
    let got = async |id: &str| said(get(&secured, "one", id).await.map(|_| ()), id);
    assert_eq!(got(&id(2)).await, got(&id(999)).await);
    assert_eq!(got(&id(4)).await, got(&id(999)).await, "without a namespace");
    let explained = async |pod: &str| said(explain(&secured, "one", "theirs", pod).await, pod);
    assert_eq!(explained("pod-2").await, explained("pod-none").await);
}

#[tokio::test]
async fn owners_are_of_their_namespace_and_nodes_of_the_cluster() {
    let secured = start().await;
    let owner = async |token: &str, namespace: &str| {
        let (kind, name, namespace) = ("deployment".to_owned(), "api".to_owned(), namespace.to_owned());
        let request = v1::ExplainOwnerRequest { namespace, kind, name, ..Default::default() };
        let answer = secured.query().await.explain_owner(with_token(request, token)).await;
        answer
            .map_or_else(|status| (status.code(), status.message().to_owned()), |_| (Code::Ok, String::new()))
    };
    let nodes = async |token: &str| {
        code(secured.query().await.list_nodes(with_token(v1::ListNodesRequest {}, token)).await)
    };
    assert_eq!((owner("", "mine").await.0, nodes("").await), (Code::Unauthenticated, Code::Unauthenticated));
    // There is none: for who may not read it is the same.
    assert_eq!(owner("one", "theirs").await, owner("all", "theirs").await);
    assert_eq!(owner("one", "theirs").await.0, Code::NotFound);
    assert_eq!((nodes("one").await, nodes("all").await), (Code::PermissionDenied, Code::Ok));
}

#[tokio::test]
async fn who_may_read_all_sees_all() {
    let secured = start().await;
    assert_eq!(listed(&secured, "all", "").await.unwrap(), ["4", "3", "2", "1"]);
    assert_eq!(listed(&secured, "all", "theirs").await.unwrap(), ["2"]);
    assert_eq!(get(&secured, "all", &id(4)).await.unwrap().crash.unwrap().id, id(4));
}

#[tokio::test]
async fn a_watch_brings_only_what_its_caller_may_read() {
    let secured = start().await;
    let mut one = watch(&secured, "one", "").await.unwrap();
    let mut all = watch(&secured, "all", "").await.unwrap();
    let mut agent = secured.agent().await;
    for (sequence, namespace) in [(11, "theirs"), (12, ""), (13, "mine")] {
        agent.report(report("node1", sequence, namespace, "pod")).await;
    }
    let next = async |watch: &mut tonic::Streaming<v1::WatchCrashesResponse>| {
        let response = tokio::time::timeout(SOON, watch.message()).await.unwrap().unwrap().unwrap();
        response.crash.unwrap().id
    };
    assert_eq!(next(&mut one).await, id(13), "the first that comes is the first that it may read");
    assert_eq!([next(&mut all).await, next(&mut all).await, next(&mut all).await], [id(11), id(12), id(13)]);
}

#[tokio::test]
async fn without_an_answer_of_the_api_nobody_reads() {
    let mut secured = start().await;
    let mut query = secured.query().await;
    secured.api.go_away().await;
    for id in [id(1), id(999)] {
        let answer = query.get_crash(with_token(v1::GetCrashRequest { id }, "all")).await;
        assert_eq!(code(answer), Code::Unavailable);
    }
    let answer = query.list_crashes(with_token(v1::ListCrashesRequest::default(), "all")).await;
    assert_eq!(code(answer), Code::Unavailable);
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "kubernetes");
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A client certificate as kubeadm makes them.
fn certificate(authority: &Authority, name: &str, group: &str) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, group);
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, authority).unwrap();
    Identity::from_pem(certificate.pem(), key.serialize_pem())
}

#[tokio::test]
async fn a_client_certificate_of_the_cluster_is_who_it_names() {
    let (cluster, other) = (authority(), authority());
    let api = api_server::ApiServer::start().await;
    api.token("of-node1", "lastwords", secured::agent(Some("node1"), "lastwords-agent"));
    api.keep(
        "/api/v1/namespaces/kube-system/configmaps",
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"client-ca-file": cluster.pem()},
            "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"}}),
    );
    api.allow("team", "mine");
    let secured = Secured::start_with(api).await;
    let mut agent = secured.agent().await;
    agent.report(report("node1", 1, "mine", "pod-1")).await;
    agent.report(report("node1", 2, "theirs", "pod-2")).await;

    let ask = async |identity: Identity| {
        let channel = secured.connect(Some(identity)).await.map_err(|_| Code::Unavailable)?;
        let mut query = v1::crash_query_client::CrashQueryClient::new(channel);
        let listed = query.list_crashes(v1::ListCrashesRequest::default()).await;
        Ok(listed.map_err(|status| status.code())?.into_inner().crashes.len())
    };
    // The authority is looked up while the server already listens.
    let known = async {
        while ask(certificate(&cluster, "admin", "team")).await != Ok(1) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON * 3, known).await.unwrap();
    assert_eq!(ask(certificate(&cluster, "admin", "others")).await, Ok(0));
    let outcome: Result<usize, Code> = ask(certificate(&other, "admin", "team")).await;
    assert!(outcome.is_err(), "a certificate of another authority: {outcome:?}");
}
