//! The port's certificate: its own authority or files, replaced while it runs; what is plain text, and what no log shows.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "common/api_server.rs"]
mod api_server;
mod common;
#[path = "common/secured.rs"]
mod secured;

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use api_server::ApiServer;
use api_server::reviews::API;
use common::{SOON, with_token};
use lastwords_aggregator::kubernetes::Access;
use lastwords_aggregator::serve;
use lastwords_aggregator::tls::{Mode, Own};
use lastwords_proto::v1;
use lastwords_proto::v1::crash_query_client::CrashQueryClient;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use secured::{AUTHORITY, SECRET, Secured};
use serde_json::json;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};

#[tokio::test]
async fn plain_text_is_not_answered_on_the_tls_port() {
    let secured = Secured::start().await;
    secured.authority().await;
    let endpoint = Channel::from_shared(format!("http://{}", secured.aggregator.address())).unwrap();
    let asked = async {
        let mut query = CrashQueryClient::new(endpoint.connect().await.map_err(|error| error.to_string())?);
        let answer = query.list_crashes(v1::ListCrashesRequest::default()).await;
        answer.map_err(|status| status.to_string())
    };
    let answer = tokio::time::timeout(SOON * 3, asked).await.unwrap();
    assert!(answer.is_err(), "{answer:?}");
}

#[tokio::test]
async fn the_authority_is_kept_in_one_secret_and_only_its_certificate_is_told() {
    let secured = Secured::start().await;
    let authority = secured.authority().await;
    let kept = secured.api.object(SECRET).unwrap();
    let names: Vec<&String> = kept["data"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["ca.crt", "ca.key"]);
    assert!(authority.contains("BEGIN CERTIFICATE") && !authority.contains("PRIVATE"), "{authority}");
    let told = secured.api.object(AUTHORITY).unwrap();
    assert_eq!(told["data"].as_object().unwrap().len(), 1);

    // The next one goes on with the same.
    let Secured { api, aggregator, directory } = secured;
    aggregator.stop().await.unwrap();
    let again = Secured::start_with(api).await;
    again.channel().await;
    assert_eq!(again.api.object(SECRET).unwrap(), kept);
    assert_eq!(again.authority().await, authority);
    drop(directory);
}

#[tokio::test]
async fn it_is_ready_only_once_it_can_be_connected_to() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;

    let mut api = ApiServer::start().await;
    api.go_away().await;
    let directory = tempfile::tempdir().unwrap();
    let mut settings = common::settings(&directory);
    settings.kubernetes = Some(Access::Kubeconfig(api.kubeconfig(&directory)));
    settings.tls = Mode::Own(Own::default());
    settings.health_listen = Some(([127, 0, 0, 1], 0).into());
    let aggregator = serve::start(settings).await.unwrap();
    let health = aggregator.health_address().unwrap();
    let channel = Channel::from_shared(format!("http://{health}")).unwrap().connect().await.unwrap();
    let asked = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        HealthClient::new(channel.clone()).check(request).await.unwrap().into_inner().status()
    };
    // As the kubelet asks, and as somebody who wants one service.
    for service in ["", "lastwords.v1.CrashIngest", "lastwords.v1.CrashQuery"] {
        assert_eq!(asked(service).await, ServingStatus::NotServing, "{service:?}");
    }
    api.come_back().await;
    let ready = async {
        while asked("").await != ServingStatus::Serving {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON * 9, ready).await.unwrap();
    let secured = Secured { api, aggregator, directory };
    assert!(secured.connect(None).await.is_ok(), "ready, and yet nobody can connect");
    assert_eq!(asked("lastwords.v1.CrashIngest").await, ServingStatus::Serving);
}

#[tokio::test]
async fn a_secret_that_the_chart_left_empty_is_filled() {
    let api = ApiServer::start().await;
    let empty =
        |kind: &str, name: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
    api.keep("/api/v1/namespaces/default/secrets", empty("Secret", "lastwords-authority"));
    let secured = Secured::start_with(api).await;
    secured.channel().await;
    assert!(secured.api.object(SECRET).unwrap()["data"]["ca.key"].is_string());
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn write(directory: &Path, authority: &Authority) {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    std::fs::write(directory.join("tls.key"), key.serialize_pem()).unwrap();
    std::fs::write(directory.join("tls.crt"), certificate.pem()).unwrap();
}

#[tokio::test]
async fn a_certificate_that_is_replaced_is_shown_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (authority(), authority());
    write(directory.path(), &first);
    let mut settings = common::settings(&directory);
    let certificate = directory.path().join("tls.crt");
    settings.tls = Mode::Files { certificate: certificate.clone(), key: directory.path().join("tls.key") };
    let aggregator = serve::start(settings).await.unwrap();
    let connect = async |authority: &Authority| {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()));
        let endpoint = Channel::from_shared(format!("https://{}", aggregator.address())).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await
    };
    let mut before = CrashQueryClient::new(connect(&first).await.unwrap());
    assert!(connect(&second).await.is_err());

    // What cannot be used changes nothing.
    std::fs::write(&certificate, "half a certificate").unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(connect(&first).await.is_ok());

    write(directory.path(), &second);
    let replaced = async {
        while connect(&second).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(SOON * 6, replaced).await.unwrap();
    assert!(connect(&first).await.is_err(), "the one before is shown no more");
    let answer = before.list_crashes(v1::ListCrashesRequest::default()).await;
    assert!(answer.is_ok(), "connections of before go on: {answer:?}");
}

#[tokio::test]
async fn no_log_shows_a_token_or_a_key() {
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::start().await;
    api.token("very-secret-token", API, json!({"username": "one"}));
    let config = directory.path().join("aggregator.toml");
    std::fs::write(&config, "listen = '127.0.0.1:0'\n[tls]\nmode = 'own'\n[authorization]\nenabled = true\n")
        .unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_lastwords-aggregator"))
        .arg("--config")
        .arg(&config)
        .arg("--kubeconfig")
        .arg(api.kubeconfig(&directory))
        .arg("--store")
        .arg(format!("sqlite:{}", directory.path().join("lastwords.db").display()))
        .env("LASTWORDS_LOG", "trace")
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(directory.path().join("log")).unwrap())
        .spawn()
        .unwrap();
    let log = || {
        let mut text = String::new();
        std::fs::File::open(directory.path().join("log")).unwrap().read_to_string(&mut text).unwrap();
        text
    };
    let asked = async {
        let address = loop {
            let text = log();
            let found = text.split("address=").nth(1).and_then(|rest| rest.split_once(' '));
            if let (Some((address, _)), Some(map)) = (found, api.object(AUTHORITY)) {
                break (address.to_owned(), map["data"]["ca.crt"].as_str().unwrap().to_owned());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(address.1));
        let endpoint =
            Channel::from_shared(format!("https://{}", address.0)).unwrap().tls_config(tls).unwrap();
        let channel = loop {
            match endpoint.connect().await {
                Ok(channel) => break channel,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        let mut query = CrashQueryClient::new(channel);
        for token in ["very-secret-token", "very-secret-wrong"] {
            let _ = query.list_crashes(with_token(v1::ListCrashesRequest::default(), token)).await;
        }
    };
    let asked = tokio::time::timeout(SOON * 6, asked).await;
    child.kill().unwrap();
    child.wait().unwrap();
    asked.unwrap();
    let log = log();
    assert!(log.contains("tokenreviews"), "the review was made, and logged as such");
    let key = api.object(SECRET).unwrap()["data"]["ca.key"].as_str().unwrap().to_owned();
    assert!(!log.contains("very-secret"), "a token");
    assert!(!log.contains("PRIVATE KEY") && !log.contains(&key[100..140]), "a key");
}
