//! How the agent and the aggregator are told to Prometheus: `GET /metrics` in the OpenMetrics text format, and nothing else.
//!
//! Plain text, and nobody is asked who they are: what is told are counts of what a program did, with labels out of fixed lists, never
//! the name of a pod, a container, a node or a caller. Nothing is counted for this: each scrape reads what the program keeps anyway.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections at once: two Prometheus servers, a person with curl, and room. The next ones wait in the listener's queue.
const CONNECTIONS: usize = 8;
/// How long a connection may take for one request and its answer, so that who connects and says nothing gives its place away.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a request's head at most; a scrape has some hundred.
const LARGEST_HEAD: usize = 16 << 10;
/// Pause after the system refused a connection, which is mostly for want of descriptors.
const REFUSED: Duration = Duration::from_millis(100);
/// What Prometheus knows this format by.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers `GET /metrics` with all that is registered, until it is dropped.
pub async fn serve(listener: TcpListener, registry: Arc<Registry>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!("a connection was not accepted: {error}");
                tokio::time::sleep(REFUSED).await;
                continue;
            }
        };
        let registry = Arc::clone(&registry);
        tokio::spawn(async move {
            if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, connection(stream, registry)).await {
                tracing::debug!("a scrape was not answered: {error}");
            }
            drop(place);
        });
    }
}

async fn connection(stream: TcpStream, registry: Arc<Registry>) -> Result<(), hyper::Error> {
    let service = service_fn(move |request| {
        let answer = answer(&request, &registry);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(LARGEST_HEAD).keep_alive(false);
    http.serve_connection(TokioIo::new(stream), service).await
}

fn answer(request: &Request<Incoming>, registry: &Registry) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return said(StatusCode::NOT_FOUND, "there is only /metrics\n".to_owned());
    }
    if request.method() != Method::GET {
        let mut refused = said(StatusCode::METHOD_NOT_ALLOWED, "there is only GET\n".to_owned());
        refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET"));
        return refused;
    }
    match text(registry) {
        Ok(text) => {
            let mut response = said(StatusCode::OK, text);
            let format = hyper::header::HeaderValue::from_static(OPEN_METRICS);
            response.headers_mut().insert(CONTENT_TYPE, format);
            response
        }
        Err(error) => said(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn said(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}

/// All that is registered, as it is now.
///
/// # Errors
/// When a collector fails, which ours never do.
pub fn text(registry: &Registry) -> Result<String, fmt::Error> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry)?;
    Ok(text)
}

/// Writes metrics one by one, as a collector reads them from where they are kept.
pub struct Writer<'a>(DescriptorEncoder<'a>);

impl<'a> Writer<'a> {
    /// Writes by this encoder.
    pub fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// A count that only grows; its name gets `_total`.
    ///
    /// # Errors
    /// When the text cannot be written, which it can.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(metric)
    }

    /// Counts that only grow, told apart by labels.
    ///
    /// # Errors
    /// As [`Writer::counter`].
    pub fn counters<const LABELS: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'static str, String); LABELS], u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// How much there is of something now.
    ///
    /// # Errors
    /// As [`Writer::counter`].
    pub fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        gauge(metric, value)
    }

    /// How much there is of something now, told apart by labels.
    ///
    /// # Errors
    /// As [`Writer::counter`].
    pub fn gauges<const LABELS: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'static str, String); LABELS], u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            gauge(family.encode_family(&labels)?, value)?;
        }
        Ok(())
    }
}

fn gauge(metric: MetricEncoder<'_>, value: u64) -> fmt::Result {
    // Bytes and counts of ours are far below 2^63.
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]
mod tests {
    use prometheus_client::collector::Collector;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[derive(Debug)]
    struct Some;

    impl Collector for Some {
        fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
            let mut writer = Writer::new(encoder);
            writer.counter("seen", "Seen.", 3)?;
            writer.gauges("places", "Places.", [([("state", "taken \"so\"".to_owned())], 2)])
        }
    }

    async fn ask(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn one_path_is_answered_and_who_says_nothing_keeps_nobody_waiting() {
        let mut registry = Registry::with_prefix("some");
        registry.register_collector(Box::new(Some));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, Arc::new(registry)));
        let mut silent = Vec::new();
        for _ in 1..CONNECTIONS {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let answer = ask(address, "GET /metrics HTTP/1.1\r\nHost: it\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(OPEN_METRICS), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(
            body,
            "# HELP some_seen Seen.\n# TYPE some_seen counter\nsome_seen_total 3\n# HELP some_places Places.\n\
             # TYPE some_places gauge\nsome_places{state=\"taken \\\"so\\\"\"} 2\n# EOF\n"
        );
        let answer = ask(address, "GET / HTTP/1.1\r\nHost: it\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        let answer = ask(address, "DELETE /metrics HTTP/1.1\r\nHost: it\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        server.abort();
    }
}
