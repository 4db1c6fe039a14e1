//! The connection to the aggregator: plain text, or TLS with the authority that the caller believes.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Longest wait for a connection: longer than a cluster's slowest hand-shake, short enough for a person.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest wait for an answer to begin.
const ANSWER: Duration = Duration::from_secs(30);
/// A watch may be silent for hours; a dead peer is noticed after this and as long again.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// An address as it was given, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// With its scheme.
    pub(crate) text: String,
    pub(crate) encrypted: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    /// `https://HOST:PORT`, `http://HOST:PORT`, or `HOST:PORT`, which is plain text.
    pub(crate) fn parse(written: &str) -> Result<Self, String> {
        let text = if written.contains("://") { written.to_owned() } else { format!("http://{written}") };
        let uri: Uri = text.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
        let encrypted = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("only https:// and http:// are spoken".to_owned()),
        };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        if host.is_empty() {
            Err("it names no host".to_owned())
        } else {
            Ok(Self { text, encrypted, host, port })
        }
    }

    /// Whether it is on this host, so that nobody is on the way.
    pub(crate) fn is_here(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// A channel to `address` over the connections that `dial` makes; encrypted by `tls` and then only with the server of that name.
pub(crate) async fn open<D, F, S>(
    address: &str,
    dial: D,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
) -> Result<Channel, String>
where
    D: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = io::Result<S>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // TLS is the connector's own matter, and the endpoint's address only a name.
    let endpoint = Endpoint::from_shared(address.replacen("https://", "http://", 1))
        .map_err(|error| error.to_string())?
        .connect_timeout(CONNECT)
        .timeout(ANSWER)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    let connector = tower::service_fn(move |_: Uri| {
        let (dial, tls) = (dial.clone(), tls.clone());
        async move {
            let stream = dial().await?;
            let Some((config, name)) = tls else { return Ok(TokioIo::new(Either::Left(stream))) };
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            Ok::<_, io::Error>(TokioIo::new(Either::Right(stream)))
        }
    });
    // Some resolvers wait longer than the time for a connection, which begins only once the address is known.
    tokio::time::timeout(CONNECT * 2, endpoint.connect_with_connector(connector))
        .await
        .map_err(|_| "no answer in time".to_owned())?
        .map_err(|error| innermost(&error))
}

/// TLS with a server of the authorities in this PEM text, to whom `certificates` may be shown.
pub(crate) fn tls(
    authorities: &[u8],
    certificates: Option<Arc<dyn ResolvesClientCert>>,
) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("it holds no certificate".to_owned());
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let mut config = match certificates {
        Some(certificates) => builder.with_client_cert_resolver(certificates),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Sends with each request who asks.
#[derive(Clone)]
pub(crate) struct Bearer(pub(crate) Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(authorization) = &self.0 {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        Ok(request)
    }
}

/// The last error of the chain, which is what the network said: the ones around it only say that it failed.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (written, encrypted, host, port, here) in [
            ("10.0.0.1:7443", false, "10.0.0.1", 7443, false),
            ("http://127.0.0.1:7443", false, "127.0.0.1", 7443, true),
            ("https://[::1]:7443", true, "::1", 7443, true),
            ("https://lastwords.example", true, "lastwords.example", 443, false),
            ("http://localhost.evil:1", false, "localhost.evil", 1, false),
        ] {
            let address = Address::parse(written).unwrap();
            assert_eq!((address.encrypted, address.host.as_str(), address.port), (encrypted, host, port));
            assert_eq!(address.is_here(), here, "{written}");
        }
        for wrong in ["ftp://x", "http://", "a b"] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }
}
