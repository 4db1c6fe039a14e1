//! Logs, to stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What is logged unless `LASTWORDS_LOG` says otherwise. The client libraries repeat every failed try; an outage is said once,
/// by the watch.
const DEFAULT: &str = "info,kube_client=off,kube_runtime=off,tower=off,hyper=off,h2=off";

/// Begins to log. A second call changes nothing.
pub fn start() {
    let filter = EnvFilter::try_from_env("LASTWORDS_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let to_stderr = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // An error means that a subscriber is there already, as in tests.
    let _ = to_stderr.try_init();
}
