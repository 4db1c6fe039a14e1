//! One request to stop, heard by everything that would otherwise run for ever.

use tokio::sync::watch;

/// Hears the request to stop.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

/// Makes the request to stop; so does dropping it.
#[derive(Debug)]
pub struct StopSender(watch::Sender<bool>);

/// A request that can be made, and one that hears it.
pub fn stop() -> (StopSender, Stop) {
    let (sender, receiver) = watch::channel(false);
    (StopSender(sender), Stop(receiver))
}

impl StopSender {
    /// Asks everything to stop.
    pub fn request(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Returns once the stop was requested.
    pub async fn requested(&mut self) {
        // An error means that the sender is gone, and with it the reason to go on.
        let _ = self.0.wait_for(|requested| *requested).await;
    }
}
