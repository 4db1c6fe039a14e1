//! The connection to the aggregator, and how the agent proves its node.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::ShipSettings;

/// Connecting and the answer to the stream's opening; within a cluster either takes milliseconds.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection whose other end vanished without a word is noticed after this and the next together.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects; with TLS where the address says so, and then only to who has a certificate of the authority.
pub(super) async fn connect(settings: &ShipSettings) -> Result<Channel, String> {
    let mut endpoint = Endpoint::from_shared(settings.aggregator.clone())
        .map_err(|error| innermost(&error))?
        .connect_timeout(OPEN_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    if endpoint.uri().scheme_str() == Some("https")
        && let Some(authority) = &settings.authority
    {
        let authority = Certificate::from_pem(read(authority, "aggregator_ca")?);
        let tls = ClientTlsConfig::new().ca_certificate(authority);
        endpoint = endpoint.tls_config(tls).map_err(|error| innermost(&error))?;
    }
    let connecting = tokio::time::timeout(OPEN_TIMEOUT * 2, endpoint.connect());
    match connecting.await {
        Ok(connected) => connected.map_err(|error| innermost(&error)),
        Err(_) => Err(format!("no connection within {} s", (OPEN_TIMEOUT * 2).as_secs())),
    }
}

/// The token as it is sent, marked so that no log shows it; None where none is set.
pub(super) fn token(settings: &ShipSettings) -> Result<Option<MetadataValue<Ascii>>, String> {
    let Some(file) = &settings.token else { return Ok(None) };
    let token = String::from_utf8(read(file, "aggregator_token")?).unwrap_or_default();
    let mut value = MetadataValue::try_from(format!("Bearer {}", token.trim()))
        .map_err(|_| format!("{} (aggregator_token) holds no token", file.display()))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn read(file: &Path, key: &str) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("{} ({key}) cannot be read: {error}", file.display()))
}

/// The error at the bottom of a chain, which names the cause ("Connection refused"), where those above say "transport error".
pub(super) fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
