//! The command line.

use std::path::PathBuf;

/// Takes the crash reports of all agents, names each cause with the pod's state from the Kubernetes API, and answers queries
/// over gRPC.
///
/// Exit codes: 0 stopped as asked, 1 failed at run time, 2 wrong command line, 64 wrong configuration.
#[derive(Debug, clap::Parser)]
#[command(name = "lastwords-aggregator", version)]
pub struct Args {
    /// Configuration file (TOML); what stands on the command line wins over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to listen on [default: 0.0.0.0:7443]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Where crashes are kept: sqlite:PATH, or postgres://USER:PASSWORD@HOST/DATABASE, best by the environment, where no list of
    /// processes shows it [default: sqlite:lastwords.db, in the data directory]
    #[arg(long, value_name = "STORE", env = "LASTWORDS_STORE", hide_env_values = true)]
    pub store: Option<String>,
    /// Reach the Kubernetes API by this file [default: as a pod of the cluster, else as kubectl would]
    #[arg(long, value_name = "FILE", conflicts_with = "no_kubernetes")]
    pub kubeconfig: Option<PathBuf>,
    /// Do not ask the Kubernetes API: diagnose from the nodes' evidence alone
    #[arg(long)]
    pub no_kubernetes: bool,
}
