//! How the API is reached: by a kubeconfig file, else as a pod of the cluster, else as kubectl would.

use std::path::{Path, PathBuf};

use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

/// How the API is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// By the current context of this file.
    Kubeconfig(PathBuf),
    /// As a pod of the cluster where this is one, else by `KUBECONFIG` or `~/.kube/config`.
    Inferred,
}

/// Reads a kubeconfig file to see whether it can be used.
///
/// # Errors
/// A sentence, when it cannot be read or is no kubeconfig.
pub fn check_kubeconfig(path: &Path) -> Result<(), String> {
    Kubeconfig::read_from(path).map(|_| ()).map_err(|error| {
        format!("the kubeconfig {} cannot be used: {}", path.display(), crate::causes(&error))
    })
}

pub(super) async fn client(access: &Access) -> Result<Client, String> {
    let config = match access {
        Access::Kubeconfig(path) => {
            let file = Kubeconfig::read_from(path).map_err(|error| crate::causes(&error))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(|error| crate::causes(&error))?
        }
        Access::Inferred => Config::infer().await.map_err(|error| crate::causes(&error))?,
    };
    Client::try_from(config).map_err(|error| crate::causes(&error))
}
