//! Where the aggregator is, by whose authority that is believed, and who asks: the options of every command.

use std::fmt;
use std::path::PathBuf;

use clap::Args;

/// Whom to ask, and as who.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Server {
    /// The aggregator's address: https://HOST:PORT, or http://HOST:PORT [default: found in the kubeconfig's cluster; without a
    /// kubeconfig http://127.0.0.1:7443]
    #[arg(long = "server", global = true, value_name = "ADDR", env = "LASTWORDS_SERVER")]
    pub(crate) address: Option<String>,
    /// The authority that the aggregator's certificate has to be of (PEM) [default: what the cluster says]
    #[arg(long, global = true, value_name = "FILE", env = "LASTWORDS_CERTIFICATE_AUTHORITY")]
    pub(crate) certificate_authority: Option<PathBuf>,
    /// Where in the cluster it is looked for [default: lastwords, then everywhere]
    #[arg(long, global = true, value_name = "NS", env = "LASTWORDS_NAMESPACE")]
    pub(crate) aggregator_namespace: Option<String>,
    /// Ask as whose token this is [default: as the kubeconfig says]
    #[arg(long, global = true, value_name = "TOKEN", env = "LASTWORDS_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<Secret>,
    /// Ask as whose token this file holds
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "token")]
    pub(crate) token_file: Option<PathBuf>,
    /// Ask as the user of this file [default: KUBECONFIG, ~/.kube/config]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Ask as the user of this context of the kubeconfig
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
}

/// A text that is shown nowhere.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}
