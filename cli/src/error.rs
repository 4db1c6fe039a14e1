//! What can go wrong, each with the exit code that scripts may rely on.

use tonic::{Code, Status};

/// Why a command did not do what was asked. The message says what, where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address given with `--server` is not one.
    #[error("--server {address} is no address: {problem}; write it as https://HOST:PORT or http://HOST:PORT")]
    Address {
        /// As given.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An option is wrong, missing, or does not go with the others.
    #[error("{0}")]
    Option(String),
    /// Nobody answered, or not in time.
    #[error(
        "the aggregator at {address} cannot be reached ({problem}); start lastwords-aggregator, give its address with --server or LASTWORDS_SERVER, or forward its port: kubectl -n lastwords port-forward service/lastwords-aggregator 7443"
    )]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// What the network said.
        problem: String,
    },
    /// The cluster has none, or does not tell.
    #[error(
        "no aggregator is found in the cluster {cluster}: {problem}; say where with --aggregator-namespace or --server, or forward its port: kubectl -n lastwords port-forward service/lastwords-aggregator 7443"
    )]
    NotInCluster {
        /// The API server's address.
        cluster: String,
        /// Why.
        problem: String,
    },
    /// The API server does not let the port be forwarded.
    #[error(
        "the aggregator's port cannot be forwarded ({problem}); you need get and create on pods/portforward in the namespace {namespace}, or an address of the aggregator (--server)"
    )]
    NotForwarded {
        /// The aggregator's.
        namespace: String,
        /// What the API server said.
        problem: String,
    },
    /// The aggregator knows nothing of what was asked for.
    #[error("{0}")]
    NotFound(String),
    /// The aggregator does not know who asks.
    #[error(
        "the aggregator at {address} does not let you in: {message}; ask with the kubeconfig of its cluster (--kubeconfig, --context), --token or --token-file, over https://"
    )]
    Unknown {
        /// Who answered.
        address: String,
        /// Its message.
        message: String,
    },
    /// The aggregator answered with an error.
    #[error("the aggregator at {address} answered {code:?}: {message}")]
    Refused {
        /// Who answered.
        address: String,
        /// The gRPC status code.
        code: Code,
        /// Its message.
        message: String,
    },
    /// The answer cannot be printed as JSON or YAML.
    #[error("the answer cannot be printed: {0}")]
    Format(String),
    /// Standard output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Write(#[from] std::io::Error),
}

/// It failed at run time.
const FAILED: u8 = 1;
/// The command line is wrong.
const USAGE: u8 = 2;
/// A service that is needed is unreachable (EX_UNAVAILABLE).
const UNREACHABLE: u8 = 69;

impl Error {
    /// What to tell of a failed call; `not_found` is the sentence for an answer of NOT_FOUND.
    pub(crate) fn from_status(status: &Status, address: &str, not_found: &str) -> Self {
        let address = address.to_owned();
        match status.code() {
            Code::NotFound => Self::NotFound(not_found.to_owned()),
            Code::Unavailable => Self::Unreachable { address, problem: status.message().to_owned() },
            // What a server of TLS answers to plain text is no HTTP/2.
            Code::Internal
                if address.starts_with("http://") && status.message().contains("h2 protocol error") =>
            {
                let problem =
                    "it speaks no plain-text gRPC there; if it speaks TLS, write https://".to_owned();
                Self::Unreachable { address, problem }
            }
            Code::DeadlineExceeded | Code::Cancelled => {
                Self::Unreachable { address, problem: "no answer in time".to_owned() }
            }
            Code::Unauthenticated => Self::Unknown { address, message: status.message().to_owned() },
            code => Self::Refused { address, code, message: status.message().to_owned() },
        }
    }

    /// The exit code of the program.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Address { .. } | Self::Option(_) => USAGE,
            Self::Unreachable { .. } | Self::NotInCluster { .. } | Self::NotForwarded { .. } => UNREACHABLE,
            Self::NotFound(_)
            | Self::Unknown { .. }
            | Self::Refused { .. }
            | Self::Format(_)
            | Self::Write(_) => FAILED,
        }
    }

    /// True when the reader of standard output went away.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Write(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
    }
}
