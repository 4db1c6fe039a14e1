//! TLS on the aggregator's port: which certificate it shows, and how that is replaced while the program runs.

mod authority;
mod caller_certificates;
mod files;

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

pub use authority::{Authority, Leaf};
pub use caller_certificates::CallerCertificates;
pub use files::follow as follow_files;

/// Where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// From an authority of its own, which the cluster keeps.
    Own(Own),
    /// From files that somebody else renews.
    Files {
        /// The certificate and those between it and its authority, PEM.
        certificate: PathBuf,
        /// Its key, PEM.
        key: PathBuf,
    },
    /// Plain text.
    Off,
}

/// An authority of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Names and addresses under which it is reached, besides those of the service and of this host.
    pub names: Vec<String>,
    /// The Secret that keeps the authority's key.
    pub secret: String,
    /// The ConfigMap that tells everybody the authority's certificate.
    pub config_map: String,
}

impl Default for Own {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            secret: "lastwords-authority".to_owned(),
            config_map: "lastwords-ca".to_owned(),
        }
    }
}

/// The certificate that is shown to who connects now. Until there is one, nobody can connect.
#[derive(Debug, Default)]
pub struct Shown(watch::Sender<Option<Arc<CertifiedKey>>>);

impl Shown {
    /// Shows this one from the next connection on.
    ///
    /// # Errors
    /// When the key is none, or another one's. The one before stays.
    pub fn replace(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), rustls::Error> {
        let certified = CertifiedKey::from_der(chain, key, &provider())?;
        certified.keys_match()?;
        self.0.send_replace(Some(Arc::new(certified)));
        Ok(())
    }

    /// Returns once there is one.
    pub async fn is_there(&self) {
        // An error would mean that the sender is gone, which is this.
        let _ = self.0.subscribe().wait_for(Option::is_some).await;
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.borrow().clone()
    }
}

/// How connections are made: with the certificate `shown`, and those of callers where `callers` knows their authority.
///
/// # Errors
/// When the library was built without what TLS needs.
pub fn server(
    shown: Arc<Shown>,
    callers: Arc<CallerCertificates>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(callers)
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would carry a caller's certificate past the end of its authority.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
