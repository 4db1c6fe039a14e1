//! Against an aggregator that speaks TLS: whom the agent talks to, and by what it proves its node.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::Stream;
use lastwords_proto::v1;
use lastwords_proto::v1::crash_ingest_server::{CrashIngest, CrashIngestServer};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use super::{ShipSettings, ship};
use crate::spool::Spool;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Notes the tokens that come, and ends each stream at once.
#[derive(Clone, Default)]
struct Porter(Arc<Mutex<Vec<String>>>);

#[tonic::async_trait]
impl CrashIngest for Porter {
    type StreamCrashesStream = Pin<Box<dyn Stream<Item = Result<v1::StreamCrashesResponse, Status>> + Send>>;

    async fn stream_crashes(
        &self,
        request: Request<Streaming<v1::StreamCrashesRequest>>,
    ) -> Result<Response<Self::StreamCrashesStream>, Status> {
        let token = request.metadata().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        self.0.lock().unwrap().push(token.unwrap_or_default());
        Err(Status::unavailable("seen"))
    }
}

impl Porter {
    async fn serve(&self, authority: &Authority) -> SocketAddr {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, authority).unwrap();
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate.pem(), key.serialize_pem()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server =
            Server::builder().tls_config(tls).unwrap().add_service(CrashIngestServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        address
    }

    fn tokens(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// Ships an empty spool there until dropped.
fn agent(directory: &Path, address: SocketAddr, token: PathBuf) -> watch::Sender<bool> {
    let spool = Arc::new(Spool::open(directory, 1 << 20).unwrap());
    let settings = ShipSettings {
        shortest_wait: Duration::from_millis(20),
        longest_wait: Duration::from_millis(50),
        authority: Some(directory.join("ca.crt")),
        token: Some(token),
        ..ShipSettings::new(&format!("https://{address}"))
    };
    let (shutdown, signal) = watch::channel(false);
    tokio::spawn(ship(spool, Arc::default(), settings, v1::AgentHello::default(), signal));
    shutdown
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let held = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), held)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"));
}

#[tokio::test]
async fn each_stream_has_the_token_that_the_file_holds_then() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, porter) = (authority(), Porter::default());
    let address = porter.serve(&authority).await;
    std::fs::write(directory.path().join("ca.crt"), authority.pem()).unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "first\n").unwrap();
    let agent = agent(directory.path(), address, token.clone());
    until("a stream", || porter.tokens().contains(&"Bearer first".to_owned())).await;
    std::fs::write(&token, "second").unwrap();
    until("the token that replaced it", || porter.tokens().contains(&"Bearer second".to_owned())).await;
    drop(agent);
}

#[tokio::test]
async fn who_has_no_certificate_of_the_authority_gets_no_token() {
    let directory = tempfile::tempdir().unwrap();
    let (right, porter) = (authority(), Porter::default());
    let address = porter.serve(&right).await;
    let file = directory.path().join("ca.crt");
    std::fs::write(&file, authority().pem()).unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "secret").unwrap();
    let before = crate::counters::CONNECTIONS_FAILED.value();
    let agent = agent(directory.path(), address, token);
    until("tries that fail", || crate::counters::CONNECTIONS_FAILED.value() >= before + 3).await;
    assert_eq!(porter.tokens(), Vec::<String>::new());
    // The right authority, as a ConfigMap brings it later, is taken without a restart.
    std::fs::write(&file, right.pem()).unwrap();
    until("a stream", || !porter.tokens().is_empty()).await;
    drop(agent);
}
