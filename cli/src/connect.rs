//! The way to the aggregator, and who asks: by options, else as the caller's kubeconfig says, its exec plugins, tokens and client
//! certificates included.

use std::path::Path;
use std::sync::Arc;

use http::HeaderValue;
use http::header::AUTHORIZATION;
use kube::client::{Body, ConfigExt as _};
use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};
use lastwords_proto::v1::crash_query_client::CrashQueryClient;
use rustls::client::ResolvesClientCert;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tower::{BoxError, Layer as _, ServiceExt as _};

use crate::Error;
use crate::channel::{self, Address, Bearer};
use crate::server::Server;

/// Where the aggregator is when nobody says: on this machine.
const HERE: &str = "http://127.0.0.1:7443";
/// Largest answer in bytes: a page of 1000 crashes of 64 KiB each.
const LARGEST_ANSWER: usize = 64 << 20;

/// The aggregator, and where it is.
pub(crate) struct Aggregator {
    pub(crate) client: CrashQueryClient<InterceptedService<Channel, Bearer>>,
    pub(crate) address: String,
}

/// By what the caller proves who it is.
#[derive(Default)]
struct Credentials {
    authorization: Option<MetadataValue<Ascii>>,
    certificates: Option<Arc<dyn ResolvesClientCert>>,
}

/// Connects to the aggregator as `server` says.
pub(crate) async fn connect(server: &Server) -> Result<Aggregator, Error> {
    let written = server.address.as_deref().unwrap_or(HERE);
    let address =
        Address::parse(written).map_err(|problem| Error::Address { address: written.to_owned(), problem })?;
    let given = given_token(server)?;
    let (tls, authorization) = if address.encrypted {
        let credentials = match given {
            Some(token) => Credentials { authorization: Some(token), certificates: None },
            None => from_kubeconfig(server).await?,
        };
        let Some(file) = &server.certificate_authority else {
            return Err(Error::Option(
                "https:// needs --certificate-authority FILE, the authority that the aggregator's certificate is of; kubectl -n lastwords get configmap lastwords-ca -o jsonpath='{.data.ca\\.crt}' prints it"
                    .to_owned(),
            ));
        };
        let tls = channel::tls(&read(file, "--certificate-authority")?, credentials.certificates)
            .map_err(|problem| wrong_file("--certificate-authority", file, &problem))?;
        (Some(tls), credentials.authorization)
    } else if given.is_some() && !address.is_here() {
        return Err(Error::Option(format!(
            "a token is not sent to {} in plain text, where whoever is on the way reads it: use https://",
            address.text
        )));
    } else {
        (None, given)
    };
    let unreachable = |problem| Error::Unreachable { address: address.text.clone(), problem };
    let channel = channel::open(&address, tls).await.map_err(unreachable)?;
    let client = CrashQueryClient::with_interceptor(channel, Bearer(authorization));
    Ok(Aggregator { client: client.max_decoding_message_size(LARGEST_ANSWER), address: address.text })
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

/// What kubectl would send to the API server. Nothing where there is no kubeconfig and nobody named one.
async fn from_kubeconfig(server: &Server) -> Result<Credentials, Error> {
    let Some(config) = kubeconfig(server).await? else { return Ok(Credentials::default()) };
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
