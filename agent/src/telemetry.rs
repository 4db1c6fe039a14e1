//! The agent's own log: one line an event, on stderr.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging to stderr: this program from `level` on, the libraries it uses from warnings on, so that `debug` shows what
/// Lastwords does and not each HTTP/2 frame. Colours only on a terminal. A second call changes nothing.
pub fn start(level: LevelFilter) {
    let libraries = level.min(LevelFilter::WARN);
    let filter = Targets::new().with_default(libraries).with_target("lastwords_agent", level);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // Fails only when logging was started before, and then it goes on as it was.
    let _ = tracing_subscriber::registry().with(lines).with(filter).try_init();
}
