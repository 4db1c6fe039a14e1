//! Decides who may come in: agents prove their node, callers prove who they are and read what the cluster's own rules let them.
//!
//! Nobody gets in by default. An answer of the Kubernetes API holds for a moment, so that a stream of requests is not a stream of
//! reviews; and only so many reviews are asked for at once, whoever sends tokens.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use tokio::sync::Semaphore;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Status};

use crate::brief::Brief;
use crate::caller::{User, bearer};
use crate::connection::Peer;
use crate::kubernetes::{Reviewer, Unanswered};

/// The audience of the agents' tokens: the API server takes them for nothing else, and nothing else is taken from agents.
const AUDIENCE: &str = "lastwords";
/// Where a token's review names the node of its pod (Kubernetes 1.30; before that behind a feature gate).
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// How long the review of a token holds: a revoked one is refused after this.
const TOKEN_HOLDS: Duration = Duration::from_secs(60);
/// How long a refusal holds, and what was allowed: rights that change do so within this.
const REFUSAL_HOLDS: Duration = Duration::from_secs(10);
const RIGHT_HOLDS: Duration = Duration::from_secs(30);
/// Tokens remembered: the agents of 5 000 nodes and as many people, some hundred bytes each.
const TOKENS: usize = 10_000;
/// Rights remembered: a hundred callers with a hundred namespaces.
const RIGHTS: usize = 10_000;
/// Reviews that are asked for at once, so that nobody can make the aggregator flood the API server.
const REVIEWS: usize = 16;
/// How long a request may wait for its review to be asked for.
const PATIENCE: Duration = Duration::from_secs(5);

type Token = [u8; SHA256_OUTPUT_LEN];

/// Decides.
#[derive(Debug)]
pub struct Gate {
    reviewer: Reviewer,
    agent_account: String,
    /// By the digest of the token and whose it has to be: tokens themselves are not kept.
    users: Brief<(Token, bool), Option<Arc<User>>>,
    rights: Brief<(Arc<User>, String), bool>,
    at_once: Semaphore,
    counts: Counts,
}

/// What was decided since the start.
#[derive(Debug, Default)]
struct Counts {
    reviews: AtomicU64,
    unanswered: AtomicU64,
    agents_refused: AtomicU64,
    callers_refused: AtomicU64,
}

impl Gate {
    /// Decides by what `reviewer` is answered. Agents have to be of the service account `agent_account`: NAME in the own namespace,
    /// or NAMESPACE/NAME.
    pub fn new(reviewer: Reviewer, agent_account: String) -> Self {
        Self {
            reviewer,
            agent_account,
            users: Brief::new(TOKENS),
            rights: Brief::new(RIGHTS),
            at_once: Semaphore::new(REVIEWS),
            counts: Counts::default(),
        }
    }

    /// The node of the agent that sends this.
    ///
    /// # Errors
    /// UNAUTHENTICATED without a token for `lastwords`, PERMISSION_DENIED when it is not an agent's.
    pub async fn agent(&self, metadata: &MetadataMap) -> Result<String, Status> {
        self.node_of(metadata).await.inspect_err(|_| self.agent_refused())
    }

    /// Notes that an agent was refused.
    pub fn agent_refused(&self) {
        self.counts.agents_refused.fetch_add(1, Ordering::Relaxed);
    }

    async fn node_of(&self, metadata: &MetadataMap) -> Result<String, Status> {
        let Some(token) = bearer(metadata) else {
            return Err(Status::unauthenticated(
                "an agent needs a token: set aggregator_token to a projected token for the audience lastwords",
            ));
        };
        let Some(user) = self.user_of(token, true).await? else {
            return Err(Status::unauthenticated(
                "the token is not accepted: it has ended, or is not for the audience lastwords",
            ));
        };
        let account = match self.agent_account.split_once('/') {
            Some((namespace, name)) => format!("system:serviceaccount:{namespace}:{name}"),
            None => {
                let namespace =
                    self.reviewer.own_namespace().await.map_err(|error| self.unanswered(&error))?;
                format!("system:serviceaccount:{namespace}:{}", self.agent_account)
            }
        };
        if user.name != account {
            return Err(Status::permission_denied("the token is of no agent's service account"));
        }
        match user.extra.get(NODE_NAME).map(Vec::as_slice) {
            Some([node]) if !node.is_empty() => Ok(node.clone()),
            _ => Err(Status::permission_denied(
                "the token names no node: it has to be a pod's, of Kubernetes 1.30 or newer",
            )),
        }
    }

    /// Who asks this.
    ///
    /// # Errors
    /// UNAUTHENTICATED when nobody can be told.
    pub async fn caller(&self, metadata: &MetadataMap, extensions: &Extensions) -> Result<Arc<User>, Status> {
        let caller = match bearer(metadata) {
            Some(token) => self.user_of(token, false).await?,
            None => extensions.get::<Peer>().and_then(|peer| peer.user.clone()),
        };
        caller.ok_or_else(|| {
            self.counts.callers_refused.fetch_add(1, Ordering::Relaxed);
            Status::unauthenticated(
                "nobody can be told by this request: it needs a token or a client certificate that this cluster accepts",
            )
        })
    }

    /// Whether the user may read of this namespace; of all, and of what has none, when it is empty.
    ///
    /// # Errors
    /// UNAVAILABLE when the Kubernetes API does not answer.
    pub async fn may_read(&self, user: &Arc<User>, namespace: &str) -> Result<bool, Status> {
        let asked = (Arc::clone(user), namespace.to_owned());
        if let Some(answer) = self.rights.get(&asked) {
            return Ok(answer);
        }
        let _place = self.place().await?;
        let answer =
            self.reviewer.may_read_logs(user, namespace).await.map_err(|error| self.unanswered(&error))?;
        self.rights.keep(asked, answer, if answer { RIGHT_HOLDS } else { REFUSAL_HOLDS });
        Ok(answer)
    }

    /// Those of the namespaces of which the user may read.
    ///
    /// # Errors
    /// UNAVAILABLE when the Kubernetes API does not answer.
    pub async fn readable(&self, user: &Arc<User>, namespaces: Vec<String>) -> Result<Vec<String>, Status> {
        let asked = stream::iter(namespaces.into_iter().filter(|namespace| !namespace.is_empty()));
        let answered = asked.map(|namespace| async {
            let may = self.may_read(user, &namespace).await?;
            Ok::<_, Status>(may.then_some(namespace))
        });
        let readable: Vec<Option<String>> = answered.buffered(REVIEWS).try_collect().await?;
        Ok(readable.into_iter().flatten().collect())
    }

    /// Notes that a caller was told that there is nothing for it.
    pub fn caller_refused(&self) {
        self.counts.callers_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// What was decided since the start, each with its name.
    pub fn counts(&self) -> [(&'static str, u64); 5] {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("reviews", of(&self.counts.reviews)),
            ("unanswered", of(&self.counts.unanswered)),
            ("agents_refused", of(&self.counts.agents_refused)),
            ("callers_refused", of(&self.counts.callers_refused)),
            ("forgotten", self.users.forgotten() + self.rights.forgotten()),
        ]
    }

    async fn user_of(&self, token: &str, is_agent: bool) -> Result<Option<Arc<User>>, Status> {
        let mut key = Token::default();
        key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        if let Some(answer) = self.users.get(&(key, is_agent)) {
            return Ok(answer);
        }
        let _place = self.place().await?;
        let audience = is_agent.then_some(AUDIENCE);
        let answer = self.reviewer.user(token, audience).await.map_err(|error| self.unanswered(&error))?;
        let answer = answer.map(Arc::new);
        let holds = if answer.is_some() { TOKEN_HOLDS } else { REFUSAL_HOLDS };
        self.users.keep((key, is_agent), answer.clone(), holds);
        Ok(answer)
    }

    async fn place(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Status> {
        self.counts.reviews.fetch_add(1, Ordering::Relaxed);
        match tokio::time::timeout(PATIENCE, self.at_once.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            _ => {
                self.counts.unanswered.fetch_add(1, Ordering::Relaxed);
                Err(Status::unavailable("too many callers wait for the Kubernetes API: try again"))
            }
        }
    }

    /// The reason goes to the log: it may tell of the API server what a caller need not know.
    fn unanswered(&self, error: &Unanswered) -> Status {
        self.counts.unanswered.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            "nobody can be told who may read: the Kubernetes API does not answer: {error} (the aggregator's service account needs create on tokenreviews and subjectaccessreviews)"
        );
        Status::unavailable("the Kubernetes API does not say who this is and what it may read: try again")
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts().map(|(name, count)| format!("{name} {count}"));
        formatter.write_str(&counts.join(" "))
    }
}
