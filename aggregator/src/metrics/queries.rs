//! How long callers wait for an answer, by what they asked.

use std::task::{Context, Poll};
use std::time::Instant;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;

/// What may be asked, as it stands at the end of a call's path. A watch is answered as long as it lasts, which says nothing.
const ASKED: [&str; 5] = ["ListCrashes", "GetCrash", "ExplainPod", "ExplainOwner", "ListNodes"];
/// Upper bounds in seconds: an answer out of memory takes a millisecond, a caller has given up after ten seconds.
const SECONDS: [f64; 8] = [0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.5, 10.0];

/// By what was asked, and whether it was answered.
type Labels = [(&'static str, &'static str); 2];

/// How long answers took.
#[derive(Debug, Clone)]
pub struct Queries(Family<Labels, Histogram, fn() -> Histogram>);

impl Default for Queries {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| Histogram::new(SECONDS)))
    }
}

impl Queries {
    /// For a registry.
    pub(super) fn family(&self) -> Family<Labels, Histogram, fn() -> Histogram> {
        self.0.clone()
    }

    /// The service, with the time noted that its answers take.
    pub fn timed<S>(&self, service: S) -> Timed<S> {
        Timed { service, queries: self.clone() }
    }
}

/// A service whose answers are timed.
#[derive(Debug, Clone)]
pub struct Timed<S> {
    service: S,
    queries: Queries,
}

impl<S: NamedService> NamedService for Timed<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B, R> Service<http::Request<B>> for Timed<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<S::Response, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        // Anybody may call anything: only what there is becomes a label.
        let asked = ASKED.into_iter().find(|known| *known == method);
        let began = Instant::now();
        let answered = self.service.call(request);
        let queries = self.queries.clone();
        Box::pin(async move {
            let response = answered.await?;
            if let Some(asked) = asked {
                // A refusal has its code at the head; after an answer it comes at the end, and is 0.
                let is_refused = response.headers().get("grpc-status").is_some_and(|code| code != "0");
                let outcome = if is_refused { "refused" } else { "answered" };
                let labels = [("method", asked), ("outcome", outcome)];
                queries.0.get_or_create(&labels).observe(began.elapsed().as_secs_f64());
            }
            Ok(response)
        })
    }
}
