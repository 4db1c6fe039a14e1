//! The way to the aggregator, and who asks: by options, else as the caller's kubeconfig says, its exec plugins, tokens and client
//! certificates included.

use std::io;
use std::path::Path;
use std::sync::Arc;

use http::HeaderValue;
use http::header::AUTHORIZATION;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::ListParams;
use kube::client::{Body, ConfigExt as _, UpgradeConnectionError};
use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Api, Client, ResourceExt as _};
use lastwords_proto::v1::crash_query_client::CrashQueryClient;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tower::{BoxError, Layer as _, ServiceExt as _};

use crate::Error;
use crate::channel::{self, Address, Bearer};
use crate::server::Server;

/// Where the aggregator is when nobody says and there is no cluster: on this machine.
const HERE: &str = "http://127.0.0.1:7443";
/// How the chart labels the aggregator's pods, where it usually puts them, and the port that they listen on.
const LABELS: &str = "app.kubernetes.io/name=lastwords,app.kubernetes.io/component=aggregator";
const NAMESPACE: &str = "lastwords";
const PORT: u16 = 7443;
/// Annotations of the pods: the ConfigMap with the authority of their certificate, and a name that this is for.
const AUTHORITY: &str = "lastwords.dev/authority";
const SERVER_NAME: &str = "lastwords.dev/server-name";
/// How it is told that the API server does not let the port be forwarded.
const FORBIDDEN: &str = "forbidden";
/// Largest answer in bytes: a page of 1000 crashes of 64 KiB each.
const LARGEST_ANSWER: usize = 64 << 20;

/// The aggregator, and where it is.
pub(crate) struct Aggregator {
    pub(crate) client: CrashQueryClient<InterceptedService<Channel, Bearer>>,
    pub(crate) address: String,
    /// The namespace that is meant where none is named.
    pub(crate) namespace: String,
}

/// By what the caller proves who it is.
#[derive(Default)]
struct Credentials {
    authorization: Option<MetadataValue<Ascii>>,
    certificates: Option<Arc<dyn ResolvesClientCert>>,
}

/// Connects to the aggregator as `server` says; without an address to the one in the kubeconfig's cluster.
pub(crate) async fn connect(server: &Server) -> Result<Aggregator, Error> {
    let aggregator = match &server.address {
        Some(address) => by_address(address, server).await?,
        None => match kubeconfig(server).await? {
            Some(config) => in_cluster(config, server).await?,
            None => by_address(HERE, server).await?,
        },
    };
    Ok(Aggregator { namespace: namespace(server).unwrap_or(aggregator.namespace), ..aggregator })
}

/// The namespace of the context, which kubectl would ask in.
fn namespace(server: &Server) -> Option<String> {
    let file = match &server.kubeconfig {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    };
    // Who needs one to ask was told what is wrong with it.
    let file = file.ok()?;
    let current = server.context.as_ref().or(file.current_context.as_ref())?;
    let context = file.contexts.iter().find(|context| context.name == *current)?;
    context.context.as_ref()?.namespace.clone().filter(|namespace| !namespace.is_empty())
}

async fn by_address(written: &str, server: &Server) -> Result<Aggregator, Error> {
    let address =
        Address::parse(written).map_err(|problem| Error::Address { address: written.to_owned(), problem })?;
    let given = given_token(server)?;
    let (tls, authorization) = if address.encrypted {
        let Some(file) = &server.certificate_authority else {
            return Err(Error::Option(
                "https:// needs --certificate-authority FILE, the authority that the aggregator's certificate is of; kubectl -n lastwords get configmap lastwords-ca -o jsonpath='{.data.ca\\.crt}' prints it"
                    .to_owned(),
            ));
        };
        let authority = read(file, "--certificate-authority")?;
        let credentials = match given {
            Some(token) => Credentials { authorization: Some(token), certificates: None },
            None => match kubeconfig(server).await? {
                Some(config) => credentials(&config).await?,
                None => Credentials::default(),
            },
        };
        let tls = channel::tls(&authority, credentials.certificates)
            .map_err(|problem| wrong_file("--certificate-authority", file, &problem))?;
        let name = ServerName::try_from(address.host.clone())
            .map_err(|error| Error::Address { address: written.to_owned(), problem: error.to_string() })?;
        (Some((tls, name)), credentials.authorization)
    } else if given.is_some() && !address.is_here() {
        return Err(Error::Option(format!(
            "a token is not sent to {} in plain text, where whoever is on the way reads it: use https://",
            address.text
        )));
    } else {
        (None, given)
    };
    let (host, port) = (address.host.clone(), address.port);
    let dial = move || {
        let host = host.clone();
        async move {
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        }
    };
    let channel = channel::open(&address.text, dial, tls).await;
    aggregator(channel, address.text, authorization)
}

/// To the aggregator's pod, through the API server.
async fn in_cluster(config: Config, server: &Server) -> Result<Aggregator, Error> {
    let not_found =
        |problem: String| Error::NotInCluster { cluster: config.cluster_url.to_string(), problem };
    let given = given_token(server)?;
    let client = Client::try_from(config.clone()).map_err(|error| not_found(channel::innermost(&error)))?;
    let pod = running_aggregator(&client, server).await.map_err(&not_found)?;
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let name = pod.metadata.name.clone().unwrap_or_default();
    let authority = match &server.certificate_authority {
        Some(file) => read(file, "--certificate-authority")?,
        None => authority_of(&client, &namespace, &pod).await.map_err(&not_found)?,
    };
    let credentials = match given {
        Some(token) => Credentials { authorization: Some(token), certificates: None },
        None => credentials(&config).await?,
    };
    let tls = channel::tls(&authority, credentials.certificates).map_err(&not_found)?;
    let server_name = pod.annotations().get(SERVER_NAME).map_or("localhost", String::as_str);
    let server_name =
        ServerName::try_from(server_name.to_owned()).map_err(|error| not_found(error.to_string()))?;
    let address = format!("https://{name}.{namespace}.pod:{PORT}");
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let dial = move || {
        let (pods, name) = (pods.clone(), name.clone());
        async move {
            let mut forwarded = pods.portforward(&name, &[PORT]).await.map_err(forwarding)?;
            forwarded.take_stream(PORT).ok_or_else(|| io::Error::other("the port is not forwarded"))
        }
    };
    let channel = channel::open(&address, dial, Some((tls, server_name))).await;
    match channel {
        Err(problem) if problem.starts_with(FORBIDDEN) => Err(Error::NotForwarded { namespace, problem }),
        channel => aggregator(channel, address, credentials.authorization),
    }
}

fn forwarding(error: kube::Error) -> io::Error {
    io::Error::other(match &error {
        kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status))
            if *status == http::StatusCode::FORBIDDEN =>
        {
            FORBIDDEN.to_owned()
        }
        kube::Error::Api(status) if status.code == http::StatusCode::FORBIDDEN.as_u16() => {
            format!("{FORBIDDEN}: {}", status.message)
        }
        _ => channel::innermost(&error),
    })
}

fn aggregator(
    channel: Result<Channel, String>,
    address: String,
    authorization: Option<MetadataValue<Ascii>>,
) -> Result<Aggregator, Error> {
    let channel = channel.map_err(|problem| Error::Unreachable { address: address.clone(), problem })?;
    let client = CrashQueryClient::with_interceptor(channel, Bearer(authorization));
    let client = client.max_decoding_message_size(LARGEST_ANSWER);
    Ok(Aggregator { client, address, namespace: "default".to_owned() })
}

/// A pod of the aggregator that runs: in the namespace that was named, else in the usual one, else in any.
async fn running_aggregator(client: &Client, server: &Server) -> Result<Pod, String> {
    let wanted = ListParams::default().labels(LABELS);
    let places = match &server.aggregator_namespace {
        Some(namespace) => vec![Api::namespaced(client.clone(), namespace)],
        None => vec![Api::<Pod>::namespaced(client.clone(), NAMESPACE), Api::all(client.clone())],
    };
    let mut problem = format!("no pod with the labels {LABELS} runs");
    for pods in places {
        match pods.list(&wanted).await {
            Ok(found) => {
                let runs = |pod: &Pod| {
                    pod.metadata.deletion_timestamp.is_none()
                        && pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
                };
                if let Some(pod) = found.into_iter().find(runs) {
                    return Ok(pod);
                }
            }
            Err(error) => problem = channel::innermost(&error),
        }
    }
    Err(problem)
}

/// The authority of the pod's certificate, as the pod says where it is.
async fn authority_of(client: &Client, namespace: &str, pod: &Pod) -> Result<Vec<u8>, String> {
    let Some(name) = pod.annotations().get(AUTHORITY) else {
        return Err(format!("its pod has no annotation {AUTHORITY}: give --certificate-authority"));
    };
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let map = maps.get(name).await.map_err(|error| channel::innermost(&error))?;
    let authority = map.data.and_then(|mut data| data.remove("ca.crt"));
    authority.map(String::into_bytes).ok_or_else(|| format!("the ConfigMap {name} has no ca.crt yet"))
}

/// The token that the options give.
fn given_token(server: &Server) -> Result<Option<MetadataValue<Ascii>>, Error> {
    let (token, option) = match (&server.token, &server.token_file) {
        (Some(token), _) => (token.0.clone(), "--token"),
        (None, Some(file)) => {
            let token = String::from_utf8(read(file, "--token-file")?).unwrap_or_default();
            (token, "--token-file")
        }
        (None, None) => return Ok(None),
    };
    let token = token.trim();
    let value = HeaderValue::from_str(&format!("Bearer {token}")).ok().filter(|_| !token.is_empty());
    let value = value.ok_or_else(|| Error::Option(format!("what {option} gives is no token")))?;
    Ok(Some(sensitive(value)))
}

fn sensitive(value: HeaderValue) -> MetadataValue<Ascii> {
    // Only what is printable was let into it.
    let mut value = MetadataValue::try_from(value.as_bytes())
        .unwrap_or_else(|_| MetadataValue::from_static("unprintable"));
    value.set_sensitive(true);
    value
}

/// What kubectl would send to the API server.
async fn credentials(config: &Config) -> Result<Credentials, Error> {
    let unusable = |error: &dyn std::error::Error| {
        Error::Option(format!(
            "the kubeconfig does not say who asks: {}; name another with --kubeconfig or --context, or give --token",
            channel::innermost(error)
        ))
    };
    let certificates =
        config.rustls_client_config().map_err(|error| unusable(&error))?.client_auth_cert_resolver;
    let mut authorization = None;
    if let Some(layer) = config.auth_layer().map_err(|error| unusable(&error))? {
        // The layer adds the header to a request that goes nowhere, having run whatever plugin gives the token.
        let nowhere = tower::service_fn(|request: http::Request<Body>| async move {
            Ok::<_, BoxError>(http::Response::new(request.headers().get(AUTHORIZATION).cloned()))
        });
        let header = layer.layer(nowhere).oneshot(http::Request::new(Body::empty())).await;
        authorization = header.map_err(|error| unusable(error.as_ref()))?.into_body().map(sensitive);
    }
    Ok(Credentials { authorization, certificates: certificates.has_certs().then_some(certificates) })
}

/// The configuration that the options name, else kubectl's; None where there is none.
async fn kubeconfig(server: &Server) -> Result<Option<Config>, Error> {
    let unusable = |error: KubeconfigError| {
        Error::Option(format!("the kubeconfig cannot be used: {}", channel::innermost(&error)))
    };
    let read = match &server.kubeconfig {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    };
    let file = match read {
        Ok(file) => file,
        // Nobody named one: who asks may need none.
        Err(KubeconfigError::FindPath | KubeconfigError::ReadConfig(..))
            if server.kubeconfig.is_none() && server.context.is_none() =>
        {
            return Ok(None);
        }
        Err(error) => return Err(unusable(error)),
    };
    let options = KubeConfigOptions { context: server.context.clone(), ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(file, &options).await.map(Some).map_err(unusable)
}

fn read(file: &Path, option: &str) -> Result<Vec<u8>, Error> {
    std::fs::read(file).map_err(|error| wrong_file(option, file, &error.to_string()))
}

fn wrong_file(option: &str, file: &Path, problem: &str) -> Error {
    Error::Option(format!("{} ({option}) cannot be used: {problem}", file.display()))
}
