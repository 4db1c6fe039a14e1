//! An aggregator as in a cluster: TLS by its own authority, everybody has to prove who they are.
#![allow(dead_code, reason = "each test file uses a part")]

use lastwords_aggregator::kubernetes::Access;
use lastwords_aggregator::serve::{self, Aggregator};
use lastwords_aggregator::tls::{Mode, Own};
use lastwords_proto::v1::crash_query_client::CrashQueryClient;
use serde_json::json;
use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use crate::api_server::ApiServer;
use crate::api_server::reviews::API;
use crate::common::{self, Agent, SOON};

pub(crate) const AUTHORITY: &str = "/api/v1/namespaces/default/configmaps/lastwords-ca";
pub(crate) const SECRET: &str = "/api/v1/namespaces/default/secrets/lastwords-authority";

pub(crate) struct Secured {
    pub(crate) api: ApiServer,
    pub(crate) aggregator: Aggregator,
    pub(crate) directory: TempDir,
}

impl Secured {
    /// With an agent's token for node1, `of-node1`, and nobody else.
    pub(crate) async fn start() -> Self {
        let api = ApiServer::start().await;
        api.token("of-node1", "lastwords", agent(Some("node1"), "lastwords-agent"));
        Self::start_with(api).await
    }

    pub(crate) async fn start_with(api: ApiServer) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = common::settings(&directory);
        settings.kubernetes = Some(Access::Kubeconfig(api.kubeconfig(&directory)));
        settings.tls = Mode::Own(Own::default());
        settings.authorization = Some("lastwords-agent".to_owned());
        let aggregator = serve::start(settings).await.unwrap();
        Self { api, aggregator, directory }
    }

    /// The authority's certificate, once it is told.
    pub(crate) async fn authority(&self) -> String {
        let told = async {
            loop {
                if let Some(map) = self.api.object(AUTHORITY) {
                    return map["data"]["ca.crt"].as_str().unwrap().to_owned();
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(SOON * 3, told).await.unwrap()
    }

    /// Connects, once there is a certificate: the authority is told a moment before its first one is shown.
    pub(crate) async fn channel(&self) -> Channel {
        let connected = async {
            loop {
                match self.connect(None).await {
                    Ok(channel) => return channel,
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(SOON * 3, connected).await.unwrap()
    }

    /// Tries to connect, with a client certificate where one is given.
    pub(crate) async fn connect(
        &self,
        identity: Option<Identity>,
    ) -> Result<Channel, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.authority().await));
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        let endpoint = Channel::from_shared(format!("https://{}", self.aggregator.address())).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await
    }

    pub(crate) async fn query(&self) -> CrashQueryClient<Channel> {
        CrashQueryClient::new(self.channel().await)
    }

    /// A stream of node1's agent.
    pub(crate) async fn agent(&self) -> Agent {
        Agent::prove(self.channel().await, "node1", "of-node1").await.unwrap()
    }

    /// A token of a person.
    pub(crate) fn person(&self, token: &str, name: &str) {
        self.api.token(token, API, json!({"username": name, "groups": ["system:authenticated"]}));
    }
}

/// What a review says of an agent's token.
pub(crate) fn agent(node: Option<&str>, account: &str) -> serde_json::Value {
    let mut extra = json!({"authentication.kubernetes.io/pod-name": ["agent-x"]});
    if let Some(node) = node {
        extra["authentication.kubernetes.io/node-name"] = json!([node]);
    }
    json!({"username": format!("system:serviceaccount:default:{account}"), "uid": "u", "extra": extra,
        "groups": ["system:serviceaccounts", "system:authenticated"]})
}
