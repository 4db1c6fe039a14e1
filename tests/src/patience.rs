//! Waiting for what another program does, for as long as two busy processors may need and not for ever.

use std::time::{Duration, Instant};

/// Two processors may be busy with a build at the same time.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Between two looks: short beside what is waited for, long beside what a look costs.
const PAUSE: Duration = Duration::from_millis(50);

/// What `look` finds, sooner or later.
///
/// # Panics
/// When it has found nothing within [`PATIENCE`]; `what` says what was missing.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// As [`eventually`], where nothing else goes on meanwhile.
///
/// # Panics
/// As [`eventually`].
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(PAUSE);
    }
}
