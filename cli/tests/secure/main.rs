//! Over TLS, as somebody: which credentials go to whom, and how the aggregator is found in a cluster.
#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

mod cluster;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::pin::Pin;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lastwords_proto::v1::crash_query_server::{CrashQuery, CrashQueryServer};
use lastwords_proto::v1::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// Who asked: the authorization, and whether a client certificate was shown.
type Asked = Arc<Mutex<Vec<(String, bool)>>>;

/// Answers every list with nothing and notes who asked.
struct Porter(Asked);

#[tonic::async_trait]
impl CrashQuery for Porter {
    async fn list_crashes(
        &self,
        request: Request<ListCrashesRequest>,
    ) -> Result<Response<ListCrashesResponse>, Status> {
        let authorization = request.metadata().get("authorization");
        let authorization = authorization.map_or("", |value| value.to_str().unwrap()).to_owned();
        let certified = request.peer_certs().is_some_and(|certificates| !certificates.is_empty());
        self.0.lock().unwrap().push((authorization, certified));
        Ok(Response::new(ListCrashesResponse::default()))
    }

    async fn get_crash(&self, _: Request<GetCrashRequest>) -> Result<Response<GetCrashResponse>, Status> {
        Err(Status::unauthenticated("nobody can be told by this request"))
    }

    async fn explain_pod(
        &self,
        _: Request<ExplainPodRequest>,
    ) -> Result<Response<ExplainPodResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn explain_owner(
        &self,
        _: Request<ExplainOwnerRequest>,
    ) -> Result<Response<ExplainOwnerResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Result<Response<ListNodesResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    type WatchCrashesStream = Pin<Box<dyn Stream<Item = Result<WatchCrashesResponse, Status>> + Send>>;

    async fn watch_crashes(
        &self,
        _: Request<WatchCrashesRequest>,
    ) -> Result<Response<Self::WatchCrashesStream>, Status> {
        Err(Status::unimplemented("not asked here"))
    }
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// An aggregator with TLS, a folder with its authority in `ca.crt`, and who asked it.
struct Aggregator {
    authority: Authority,
    address: SocketAddr,
    asked: Asked,
    directory: TempDir,
}

impl Aggregator {
    async fn start() -> Self {
        let authority = authority();
        let (key, asked) = (KeyPair::generate().unwrap(), Asked::default());
        let names = ["127.0.0.1".to_owned(), "lastwords-aggregator.lastwords.svc".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(certificate.pem(), key.serialize_pem()))
            .client_ca_root(Certificate::from_pem(authority.pem()))
            .client_auth_optional(true);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = CrashQueryServer::new(Porter(asked.clone()));
        let server = Server::builder().tls_config(tls).unwrap().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.crt"), authority.pem()).unwrap();
        Self { authority, address, asked, directory }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Writes a kubeconfig whose user is this, and gives its path.
    fn kubeconfig(&self, server: &str, user: Value) -> String {
        let path = self.path("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority": self.path("ca.crt")}}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// Lists over TLS with the right authority and these options.
    async fn list(&self, more: &[&str]) -> Output {
        let (server, authority) = (format!("https://{}", self.address), self.path("ca.crt"));
        let mut line = vec!["list", "--server", &server, "--certificate-authority", &authority];
        line.extend(more);
        run(self.directory.path(), &line).await
    }

    fn last_asked(&self) -> (String, bool) {
        self.asked.lock().unwrap().pop().unwrap_or_default()
    }
}

/// The program, without a kubeconfig of this machine.
async fn run(home: &Path, line: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lastwords"));
    command.args(line).env_clear().env("HOME", home).stdin(Stdio::null()).kill_on_drop(true);
    tokio::time::timeout(Duration::from_secs(60), command.output()).await.unwrap().unwrap()
}

fn failed(output: &Output, code: i32, said: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(said), "{stderr}");
}

/// An API server that nobody reaches.
const NOWHERE: &str = "https://127.0.0.1:1";

#[tokio::test]
async fn who_asks_is_what_the_kubeconfig_says() {
    let aggregator = Aggregator::start().await;
    let kubeconfig = aggregator.kubeconfig(NOWHERE, json!({"token": "of-kubeconfig"}));
    assert!(aggregator.list(&["--kubeconfig", &kubeconfig]).await.status.success());
    assert_eq!(aggregator.last_asked(), ("Bearer of-kubeconfig".to_owned(), false));

    let plugin = aggregator.path("plugin");
    let credential = json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": {"token": "of-plugin"}});
    std::fs::write(&plugin, format!("#!/bin/sh\necho '{credential}'\n")).unwrap();
    std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
    let exec = json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": plugin,
        "interactiveMode": "Never"}});
    let kubeconfig = aggregator.kubeconfig(NOWHERE, exec);
    assert!(aggregator.list(&["--kubeconfig", &kubeconfig]).await.status.success());
    assert_eq!(aggregator.last_asked(), ("Bearer of-plugin".to_owned(), false));

    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, &aggregator.authority).unwrap();
    std::fs::write(aggregator.path("client.crt"), certificate.pem()).unwrap();
    std::fs::write(aggregator.path("client.key"), key.serialize_pem()).unwrap();
    let user = json!({"client-certificate": aggregator.path("client.crt"), "client-key": aggregator.path("client.key")});
    let kubeconfig = aggregator.kubeconfig(NOWHERE, user);
    let listed = aggregator.list(&["--kubeconfig", &kubeconfig]).await;
    assert!(listed.status.success(), "{listed:?}");
    assert_eq!(aggregator.last_asked(), (String::new(), true));
}

#[tokio::test]
async fn a_token_that_is_given_stands_over_the_kubeconfig() {
    let aggregator = Aggregator::start().await;
    let kubeconfig = aggregator.kubeconfig(NOWHERE, json!({"token": "of-kubeconfig"}));
    assert!(aggregator.list(&["--kubeconfig", &kubeconfig, "--token", "given"]).await.status.success());
    assert_eq!(aggregator.last_asked().0, "Bearer given");
    let file = aggregator.path("token");
    std::fs::write(&file, "of-file\n").unwrap();
    assert!(aggregator.list(&["--token-file", &file]).await.status.success());
    assert_eq!(aggregator.last_asked().0, "Bearer of-file");
    assert!(aggregator.list(&[]).await.status.success(), "without any it asks as nobody");
    assert_eq!(aggregator.last_asked(), (String::new(), false));
}

#[tokio::test]
async fn who_has_no_certificate_of_the_authority_gets_no_token() {
    let aggregator = Aggregator::start().await;
    let other = aggregator.path("other.crt");
    std::fs::write(&other, authority().pem()).unwrap();
    let server = format!("https://{}", aggregator.address);
    let line = ["list", "--server", &server, "--token", "secret", "--certificate-authority", &other];
    failed(&run(aggregator.directory.path(), &line).await, 69, "certificate");
    failed(&run(aggregator.directory.path(), &line[..5]).await, 2, "--certificate-authority");
    assert_eq!(aggregator.last_asked(), (String::new(), false));
}

#[tokio::test]
async fn a_token_goes_to_no_other_machine_in_plain_text() {
    let home = tempfile::tempdir().unwrap();
    // Nobody has this address (RFC 5737): a connection would take seconds to fail.
    let line = ["list", "--server", "http://192.0.2.1:7443", "--token", "secret"];
    failed(&run(home.path(), &line).await, 2, "in plain text");

    // Nor does that of a kubeconfig to this one, where somebody else may listen.
    let asked = Asked::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let service = CrashQueryServer::new(Porter(asked.clone()));
    tokio::spawn(
        Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let aggregator = Aggregator::start().await;
    let kubeconfig = aggregator.kubeconfig(NOWHERE, json!({"token": "of-kubeconfig"}));
    assert!(
        run(home.path(), &["list", "--server", &server, "--kubeconfig", &kubeconfig]).await.status.success()
    );
    assert_eq!(asked.lock().unwrap().pop(), Some((String::new(), false)));
    assert!(run(home.path(), &["list", "--server", &server, "--token", "given"]).await.status.success());
    assert_eq!(asked.lock().unwrap().pop(), Some(("Bearer given".to_owned(), false)));
}

#[tokio::test]
async fn who_is_not_let_in_is_told_what_to_do() {
    let aggregator = Aggregator::start().await;
    let (server, authority) = (format!("https://{}", aggregator.address), aggregator.path("ca.crt"));
    let line = ["get", "x", "--server", &server, "--certificate-authority", &authority];
    failed(&run(aggregator.directory.path(), &line).await, 1, "--token");
}

#[tokio::test]
async fn the_aggregator_is_found_in_the_cluster_and_reached_through_the_api_server() {
    let aggregator = Aggregator::start().await;
    let api = cluster::start(aggregator.address, aggregator.authority.pem()).await;
    let kubeconfig = aggregator.kubeconfig(&format!("http://{api}"), json!({"token": "of-kubeconfig"}));
    let listed = run(aggregator.directory.path(), &["list", "--kubeconfig", &kubeconfig]).await;
    assert!(listed.status.success(), "{listed:?}");
    assert_eq!(aggregator.last_asked(), ("Bearer of-kubeconfig".to_owned(), false));

    let elsewhere = ["list", "--kubeconfig", &kubeconfig, "--aggregator-namespace", "elsewhere"];
    failed(&run(aggregator.directory.path(), &elsewhere).await, 69, "no aggregator is found in the cluster");
}
