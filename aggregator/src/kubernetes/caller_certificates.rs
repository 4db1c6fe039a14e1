//! The authority of the cluster's client certificates, as the API server publishes it for servers beside it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};

use crate::tls::CallerCertificates;

/// Where it is published since Kubernetes 1.7, and under which key.
const NAMESPACE: &str = "kube-system";
const CONFIG_MAP: &str = "extension-apiserver-authentication";
const KEY: &str = "client-ca-file";
/// How often it is looked at: it changes once in years.
const LOOK: Duration = Duration::from_secs(60);
/// Pause after a look that failed.
const AGAIN: Duration = Duration::from_secs(5);

/// Believes callers' certificates as long as the cluster publishes their authority.
pub(super) async fn follow(client: Client, callers: Arc<CallerCertificates>) {
    let api: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    let mut believed = None;
    let mut said = String::new();
    loop {
        let outcome = match api.get_opt(CONFIG_MAP).await {
            Ok(found) => {
                let published = found.and_then(|map| map.data?.remove(KEY));
                if published.is_some() && published != believed {
                    let outcome = callers.believe(published.as_deref().unwrap_or_default());
                    believed = published;
                    outcome
                } else {
                    Ok(())
                }
            }
            Err(error) => Err(crate::causes(&error)),
        };
        let pause = if outcome.is_ok() { LOOK } else { AGAIN };
        match outcome {
            Ok(()) => said.clear(),
            Err(reason) if reason != said => {
                tracing::warn!(
                    "the authority of client certificates is not known: {reason}; callers need tokens (the aggregator's service account needs get on the ConfigMap {CONFIG_MAP} in {NAMESPACE})"
                );
                said = reason;
            }
            Err(_) => {}
        }
        tokio::time::sleep(pause).await;
    }
}
