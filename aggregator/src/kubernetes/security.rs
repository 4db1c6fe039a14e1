//! What the cluster gives for the aggregator's own port: its certificate, and whose certificates it believes.

use std::sync::Arc;

use super::connect::Access;
use super::{authority, caller_certificates, watch};
use crate::shutdown::Stop;
use crate::tls::{CallerCertificates, Own, Shown};

/// What is kept up to date.
#[derive(Debug)]
pub struct Security {
    /// Where the certificate of an own authority is put, if it is to have one.
    pub own: Option<(Own, Arc<Shown>)>,
    /// Where the authority of callers' certificates is put, if callers are asked for theirs.
    pub callers: Option<Arc<CallerCertificates>>,
}

/// Keeps it up to date until told to stop.
pub async fn secure(access: Access, security: Security, mut stop: Stop) {
    let for_ever = async {
        let client = watch::connected(&access).await;
        let own = async {
            if let Some((own, shown)) = security.own {
                authority::follow(client.clone(), own, shown).await;
            }
        };
        let callers = async {
            if let Some(callers) = security.callers {
                caller_certificates::follow(client.clone(), callers).await;
            }
        };
        tokio::join!(own, callers);
    };
    tokio::select! {
        () = stop.requested() => {}
        () = for_ever => {}
    }
}
