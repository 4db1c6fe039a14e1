//! What a volume is, in the words people use for it.

use serde::Deserialize;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Volume {
    name: String,
    config_map: Option<Named>,
    secret: Option<SecretVolume>,
    empty_dir: Option<Anything>,
    persistent_volume_claim: Option<Claim>,
    host_path: Option<HostPath>,
    projected: Option<Projected>,
    #[serde(rename = "downwardAPI")]
    downward_api: Option<Anything>,
    csi: Option<Driver>,
    image: Option<Reference>,
    nfs: Option<Nfs>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Anything {}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SecretVolume {
    secret_name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Claim {
    claim_name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct HostPath {
    path: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Driver {
    driver: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Reference {
    reference: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Nfs {
    server: String,
    path: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Projected {
    sources: Option<Vec<Source>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Source {
    service_account_token: Option<Anything>,
    config_map: Option<Named>,
    secret: Option<Named>,
}

/// What the volume of that name is: `configmap app-settings`, `secret tls`, `emptyDir`, `persistentvolumeclaim data`.
pub(super) fn source(volumes: &[Volume], name: &str) -> String {
    let Some(volume) = volumes.iter().find(|volume| volume.name == name) else { return String::new() };
    match volume {
        Volume { config_map: Some(named), .. } => format!("configmap {}", named.name),
        Volume { secret: Some(secret), .. } => format!("secret {}", secret.secret_name),
        Volume { empty_dir: Some(_), .. } => "emptyDir".to_owned(),
        Volume { persistent_volume_claim: Some(claim), .. } => {
            format!("persistentvolumeclaim {}", claim.claim_name)
        }
        Volume { host_path: Some(host), .. } => format!("hostPath {}", host.path),
        Volume { projected: Some(projected), .. } => projected_source(projected),
        Volume { downward_api: Some(_), .. } => "downwardAPI".to_owned(),
        Volume { csi: Some(csi), .. } => format!("csi {}", csi.driver),
        Volume { image: Some(image), .. } => format!("image {}", image.reference),
        Volume { nfs: Some(nfs), .. } => format!("nfs {}:{}", nfs.server, nfs.path),
        _ => format!("volume {name}"),
    }
}

fn projected_source(projected: &Projected) -> String {
    let sources = projected.sources.as_deref().unwrap_or_default();
    if sources.iter().any(|source| source.service_account_token.is_some()) {
        return "service account token".to_owned();
    }
    let named = sources.iter().filter_map(|source| match source {
        Source { config_map: Some(named), .. } => Some(format!("configmap {}", named.name)),
        Source { secret: Some(named), .. } => Some(format!("secret {}", named.name)),
        _ => None,
    });
    match named.collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => "projected".to_owned(),
        names => names,
    }
}
