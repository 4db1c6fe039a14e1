//! The way to the aggregator.

use std::time::Duration;

use lastwords_proto::v1::crash_query_client::CrashQueryClient;
use tonic::transport::{Channel, Endpoint};

use crate::Error;

/// Longest wait for a connection: longer than a cluster's slowest hand-shake, short enough for a person.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest wait for an answer to begin.
const ANSWER: Duration = Duration::from_secs(30);
/// A watch may be silent for hours; a dead peer is noticed after this and as long again.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Largest answer in bytes: a page of 1000 crashes of 64 KiB each.
const LARGEST_ANSWER: usize = 64 << 20;

/// The aggregator, and where it is.
pub(crate) struct Aggregator {
    pub(crate) client: CrashQueryClient<Channel>,
    pub(crate) address: String,
}

/// Connects to the aggregator at `server`, given as `http://HOST:PORT` or `HOST:PORT`.
pub(crate) async fn connect(server: &str) -> Result<Aggregator, Error> {
    let address = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
    let wrong = |problem: String| Error::Address { address: server.to_owned(), problem };
    if !address.starts_with("http://") {
        return Err(wrong("only http:// is spoken by this version".to_owned()));
    }
    let endpoint = Endpoint::from_shared(address.clone())
        .map_err(|error| wrong(error.to_string()))?
        .connect_timeout(CONNECT)
        .timeout(ANSWER)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    let unreachable = |problem: String| Error::Unreachable { address: address.clone(), problem };
    // Some resolvers wait longer than the time for a connection, which begins only once the address is known.
    let channel = tokio::time::timeout(CONNECT * 2, endpoint.connect())
        .await
        .map_err(|_| unreachable("no answer in time".to_owned()))?
        .map_err(|error| unreachable(innermost(&error)))?;
    Ok(Aggregator {
        client: CrashQueryClient::new(channel).max_decoding_message_size(LARGEST_ANSWER),
        address,
    })
}

/// The last error of the chain, which is what the network said: the ones around it only say that it failed.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
