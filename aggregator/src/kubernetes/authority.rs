//! Keeps the aggregator's own certificate authority in one Secret, tells its certificate in one ConfigMap, and has a certificate
//! shown that ends long after the next one is made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::tls::{Authority, Own, Shown};

/// How often both are looked at: what somebody deletes or replaces is whole again within this.
const LOOK: Duration = Duration::from_secs(60);
/// Pause after a try that failed: until the first one succeeds, nobody can connect.
const AGAIN: Duration = Duration::from_secs(2);
const CERTIFICATE: &str = "ca.crt";
const KEY: &str = "ca.key";

/// Has a certificate of the cluster's own authority shown, for ever.
pub(super) async fn follow(client: Client, own: Own, shown: Arc<Shown>) {
    let keeper = Keeper {
        secrets: Api::default_namespaced(client.clone()),
        config_maps: Api::default_namespaced(client.clone()),
        names: names(&own.names, client.default_namespace()),
        own,
    };
    // The authority whose certificate is shown, and when it is to be renewed.
    let mut current: Option<(String, SystemTime)> = None;
    let mut said = String::new();
    loop {
        let pause = match keeper.look(&mut current, &shown).await {
            Ok(()) => {
                said.clear();
                LOOK
            }
            Err(reason) => {
                if reason != said {
                    let until = if current.is_some() {
                        "the certificate of before goes on being shown"
                    } else {
                        "nobody can connect"
                    };
                    tracing::warn!(
                        "there is no certificate authority: {reason}; {until} (the aggregator's service account needs get and update on the Secret {} and the ConfigMap {}, or create where they are missing)",
                        keeper.own.secret,
                        keeper.own.config_map
                    );
                    said = reason;
                }
                AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

struct Keeper {
    secrets: Api<Secret>,
    config_maps: Api<ConfigMap>,
    own: Own,
    names: Vec<String>,
}

impl Keeper {
    async fn look(&self, current: &mut Option<(String, SystemTime)>, shown: &Shown) -> Result<(), String> {
        let now = SystemTime::now();
        let authority = self.authority(now).await?;
        self.tell(authority.certificate()).await?;
        let is_shown =
            current.as_ref().is_some_and(|(of, renew_at)| of == authority.certificate() && now < *renew_at);
        if !is_shown {
            let leaf = authority.issue(&self.names, now).map_err(|error| error.to_string())?;
            let renew_at = leaf.renew_at;
            shown.replace(leaf.chain, leaf.key).map_err(|error| error.to_string())?;
            tracing::info!(
                names = self.names.join(","),
                "a certificate was made, from the authority in {}",
                self.own.secret
            );
            *current = Some((authority.certificate().to_owned(), renew_at));
        }
        Ok(())
    }

    /// The one that is kept; where there is none that can be used, a new one.
    async fn authority(&self, now: SystemTime) -> Result<Authority, String> {
        let kept = self.secrets.get_opt(&self.own.secret).await.map_err(|error| crate::causes(&error))?;
        let text = |key: &str| {
            let bytes = &kept.as_ref()?.data.as_ref()?.get(key)?.0;
            String::from_utf8(bytes.clone()).ok()
        };
        if let (Some(certificate), Some(key)) = (text(CERTIFICATE), text(KEY)) {
            match Authority::from_pem(&certificate, &key, now) {
                Ok(authority) => return Ok(authority),
                Err(reason) => tracing::warn!("the authority in {} is replaced: {reason}", self.own.secret),
            }
        }
        let authority = Authority::new(now).map_err(|error| error.to_string())?;
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        let data = BTreeMap::from([
            (CERTIFICATE.to_owned(), bytes(authority.certificate())),
            (KEY.to_owned(), bytes(&authority.key())),
        ]);
        // With the version that was read: of two aggregators that begin at once one is refused, and reads the other's.
        let written = match kept {
            Some(secret) => {
                let secret = Secret { data: Some(data), ..secret };
                self.secrets.replace(&self.own.secret, &PostParams::default(), &secret).await
            }
            None => {
                let metadata = named(&self.own.secret);
                let secret = Secret { metadata, data: Some(data), ..Secret::default() };
                self.secrets.create(&PostParams::default(), &secret).await
            }
        };
        written.map_err(|error| crate::causes(&error))?;
        tracing::info!("a certificate authority was made and is kept in the Secret {}", self.own.secret);
        Ok(authority)
    }

    async fn tell(&self, certificate: &str) -> Result<(), String> {
        let told =
            self.config_maps.get_opt(&self.own.config_map).await.map_err(|error| crate::causes(&error))?;
        let data = BTreeMap::from([(CERTIFICATE.to_owned(), certificate.to_owned())]);
        let written = match told {
            Some(map) if map.data.as_ref() == Some(&data) => return Ok(()),
            Some(map) => {
                let map = ConfigMap { data: Some(data), ..map };
                self.config_maps.replace(&self.own.config_map, &PostParams::default(), &map).await
            }
            None => {
                let metadata = named(&self.own.config_map);
                let map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
                self.config_maps.create(&PostParams::default(), &map).await
            }
        };
        written.map(|_| ()).map_err(|error| crate::causes(&error))
    }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

/// Under which names it may be reached: through a Service in this namespace, and through a forwarded port.
fn names(more: &[String], namespace: &str) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    let services = if more.is_empty() { &["lastwords-aggregator".to_owned()] } else { more };
    for name in services {
        names.push(name.clone());
        if !name.contains('.') && !name.contains(':') {
            names.extend(["svc", "svc.cluster.local"].map(|rest| format!("{name}.{namespace}.{rest}")));
            names.push(format!("{name}.{namespace}"));
        }
    }
    names
}
