//! Answers people and programs: the service `CrashQuery`.

mod owner;
mod why_none;

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures::Stream;
use lastwords_diagnosis::pod::ContainerState;
use lastwords_proto::v1;
use lastwords_proto::v1::crash_query_server::CrashQuery;
use tokio::sync::broadcast::error::RecvError;
use tonic::{Request, Response, Status};

use crate::agents::Agents;
use crate::diagnose::Diagnoser;
use crate::pods::{Known, Pods};
use crate::shutdown::Stop;
use crate::store::{Cursor, Filter, Page, PageBounds, Store, StoreError};
use crate::{lock, pair, time};

/// Crashes in a page when the caller does not say, and at most.
const LIST_DEFAULT: u32 = 100;
const LIST_MAX: u32 = 1_000;
/// Crashes in an explanation when the caller does not say, and at most.
const EXPLAIN_DEFAULT: u32 = 10;
const EXPLAIN_MAX: u32 = 100;
/// Encoded bytes in a page: a gRPC client takes 4 MiB unless told otherwise, and the pod's state is still to come.
const PAGE_BYTES: usize = 3 << 20;

/// Only crashes of these namespaces: what the guard lays into a request for a list.
#[derive(Debug, Clone)]
pub struct Only(pub Vec<String>);

/// The service `CrashQuery`.
#[derive(Debug, Clone)]
pub struct Query {
    store: Arc<dyn Store>,
    pods: Arc<Mutex<Pods>>,
    agents: Arc<Mutex<Agents>>,
    diagnoser: Arc<Diagnoser>,
    stop: Stop,
}

impl Query {
    /// Answers from `store`, with the state of the pods as it is now.
    pub fn new(
        store: Arc<dyn Store>,
        pods: Arc<Mutex<Pods>>,
        agents: Arc<Mutex<Agents>>,
        diagnoser: Arc<Diagnoser>,
        stop: Stop,
    ) -> Self {
        Self { store, pods, agents, diagnoser, stop }
    }

    /// The namespaces of all crashes.
    ///
    /// # Errors
    /// UNAVAILABLE when the store does not answer.
    pub async fn namespaces(&self) -> Result<Vec<String>, Status> {
        self.store.namespaces().await.map_err(unavailable)
    }

    async fn page(&self, filter: Filter, crashes: u32, after: Option<Cursor>) -> Result<Page, Status> {
        let bounds = PageBounds { crashes: crashes as usize, bytes: PAGE_BYTES };
        let page = self.store.list(filter, bounds, after).await.map_err(unavailable)?;
        let crashes = page.crashes.into_iter().filter_map(|crash| self.diagnoser.present(crash)).collect();
        Ok(Page { crashes, next: page.next })
    }
}

#[tonic::async_trait]
impl CrashQuery for Query {
    async fn list_crashes(
        &self,
        request: Request<v1::ListCrashesRequest>,
    ) -> Result<Response<v1::ListCrashesResponse>, Status> {
        let only = request.extensions().get::<Only>().map(|only| only.0.clone());
        let request = request.into_inner();
        let since = match &request.since {
            Some(since) => {
                Some(time::from_wire(since).ok_or_else(|| Status::invalid_argument("since is no time"))?)
            }
            None => None,
        };
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(Cursor::from_token(token).ok_or_else(|| {
                Status::invalid_argument(
                    "page_token is not one that a response gave: begin with an empty one",
                )
            })?),
        };
        let filter = Filter {
            namespace: request.namespace,
            only,
            pod_name: request.pod_name,
            container: request.container,
            node: request.node,
            cause: request.cause,
            since,
            include_completed: request.include_completed,
        };
        let page = self.page(filter, bounded(request.page_size, LIST_DEFAULT, LIST_MAX), after).await?;
        let next_page_token = page.next.map(Cursor::to_token).unwrap_or_default();
        Ok(Response::new(v1::ListCrashesResponse { crashes: page.crashes, next_page_token }))
    }

    async fn get_crash(
        &self,
        request: Request<v1::GetCrashRequest>,
    ) -> Result<Response<v1::GetCrashResponse>, Status> {
        let id = request.into_inner().id;
        let stored = self.store.get(&id).await.map_err(unavailable)?;
        match stored.and_then(|crash| self.diagnoser.present(crash)) {
            Some(crash) => Ok(Response::new(v1::GetCrashResponse { crash: Some(crash) })),
            None => Err(no_crash(&id)),
        }
    }

    async fn explain_pod(
        &self,
        request: Request<v1::ExplainPodRequest>,
    ) -> Result<Response<v1::ExplainPodResponse>, Status> {
        let v1::ExplainPodRequest { namespace, pod_name, container, max_crashes } = request.into_inner();
        if pod_name.is_empty() {
            return Err(Status::invalid_argument("pod_name is empty: say which pod"));
        }
        let namespace = or_default(&namespace).to_owned();
        let filter = Filter {
            namespace: namespace.clone(),
            pod_name: pod_name.clone(),
            container: container.clone(),
            include_completed: true,
            ..Filter::default()
        };
        let crashes =
            self.page(filter, bounded(max_crashes, EXPLAIN_DEFAULT, EXPLAIN_MAX), None).await?.crashes;
        let pod = {
            let pods = lock(&self.pods);
            pods.by_name(&namespace, &pod_name).map(|known| pod_now(known, &container, &pods))
        };
        match pod.or_else(|| crashes.first().map(remembered)) {
            Some(pod) => Ok(Response::new(self.explained(pod, crashes))),
            None => Err(no_pod(&namespace, &pod_name)),
        }
    }

    async fn explain_owner(
        &self,
        request: Request<v1::ExplainOwnerRequest>,
    ) -> Result<Response<v1::ExplainOwnerResponse>, Status> {
        self.owner(request.into_inner()).await.map(Response::new)
    }

    async fn list_nodes(
        &self,
        _: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        let pods = lock(&self.pods);
        let there = pods.all().filter(|known| known.deleted_at.is_none());
        let nodes = lock(&self.agents).nodes(there.map(|known| known.pod.node.as_str()));
        Ok(Response::new(v1::ListNodesResponse { nodes }))
    }

    type WatchCrashesStream = Pin<Box<dyn Stream<Item = Result<v1::WatchCrashesResponse, Status>> + Send>>;

    async fn watch_crashes(
        &self,
        request: Request<v1::WatchCrashesRequest>,
    ) -> Result<Response<Self::WatchCrashesStream>, Status> {
        let state = Watching {
            request: request.into_inner(),
            crashes: self.diagnoser.watch(),
            stop: self.stop.clone(),
        };
        let stream = futures::stream::unfold(Some(state), |state| async {
            let mut state = state?;
            match state.next().await {
                Ok(crash) => Some((Ok(v1::WatchCrashesResponse { crash: Some(crash) }), Some(state))),
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

struct Watching {
    request: v1::WatchCrashesRequest,
    crashes: tokio::sync::broadcast::Receiver<Arc<v1::Crash>>,
    stop: Stop,
}

impl Watching {
    async fn next(&mut self) -> Result<v1::Crash, Status> {
        loop {
            let received = tokio::select! {
                () = self.stop.requested() => return Err(Status::unavailable("the aggregator is stopping")),
                received = self.crashes.recv() => received,
            };
            match received {
                Ok(crash) if self.wants(&crash) => return Ok(Arc::unwrap_or_clone(crash)),
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => {
                    return Err(Status::data_loss(format!(
                        "{missed} crashes came faster than they were read: list them and watch again"
                    )));
                }
                Err(RecvError::Closed) => return Err(Status::unavailable("the aggregator is stopping")),
            }
        }
    }

    fn wants(&self, crash: &v1::Crash) -> bool {
        let namespace = crash.container.as_ref().map_or("", |container| container.namespace.as_str());
        let completed = crash
            .diagnosis
            .as_ref()
            .is_some_and(|diagnosis| diagnosis.planned || diagnosis.cause() == v1::Cause::Completed);
        (self.request.namespace.is_empty() || self.request.namespace == namespace)
            && (self.request.include_completed || !completed)
    }
}

/// The pod as the API shows it now.
fn pod_now(known: &Known, only: &str, pods: &Pods) -> v1::Pod {
    let pod = &known.pod;
    let wanted = pod.containers.iter().filter(|container| only.is_empty() || container.context.name == only);
    let containers = wanted.map(|container| {
        let (state, reason) = match &container.context.state {
            ContainerState::Unknown => ("", ""),
            ContainerState::Waiting { reason, .. } => ("waiting", reason.as_str()),
            ContainerState::Running { .. } => ("running", ""),
            ContainerState::Terminated(terminated) => ("terminated", terminated.reason.as_str()),
        };
        v1::ContainerStatus {
            name: container.context.name.clone(),
            image: container.context.image.clone(),
            restart_count: container.context.restart_count,
            state: state.to_owned(),
            reason: reason.to_owned(),
            ready: container.context.ready,
            pod_state: Some(pair::state_now(known, container, pods)),
        }
    });
    let deleted = known.deleted_at.is_some();
    v1::Pod {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        node: pod.node.clone(),
        phase: if deleted { String::new() } else { pod.phase.clone() },
        owner: pod.owner.clone(),
        deleted,
        containers: containers.collect(),
        node_clock_ahead_ms: None,
    }
}

/// The pod as its newest crash remembers it, when the API no longer has it or was never asked.
fn remembered(crash: &v1::Crash) -> v1::Pod {
    let container = crash.container.clone().unwrap_or_default();
    let state = crash.pod_state.clone();
    v1::Pod {
        namespace: container.namespace,
        name: container.pod_name,
        uid: container.pod_uid,
        node: crash.node.clone(),
        phase: String::new(),
        owner: state.as_ref().map(|state| state.owner.clone()).unwrap_or_default(),
        // It was seen once, and is not there now.
        deleted: state.is_some(),
        containers: Vec::new(),
        node_clock_ahead_ms: None,
    }
}

/// The answer when no crash has this id.
pub(crate) fn no_crash(id: &str) -> Status {
    Status::not_found(format!("no crash has the id {id:?}"))
}

/// The answer when nothing is known of this pod.
pub(crate) fn no_pod(namespace: &str, pod_name: &str) -> Status {
    Status::not_found(format!(
        "neither a pod {pod_name:?} nor a crash of one is known in namespace {namespace:?}"
    ))
}

/// The answer when nothing is known of any pod of this controller, or with these labels.
pub(crate) fn no_owner(namespace: &str, kind: &str, name: &str, selector: &str) -> Status {
    let asked = if selector.is_empty() { format!("{kind}/{name}") } else { selector.to_owned() };
    Status::not_found(format!("no pod of {asked:?} is known in namespace {namespace:?}, nor a crash of one"))
}

/// The namespace of a request for one pod.
pub(crate) fn or_default(namespace: &str) -> &str {
    if namespace.is_empty() { "default" } else { namespace }
}

fn bounded(asked: u32, default: u32, max: u32) -> u32 {
    if asked == 0 { default } else { asked.min(max) }
}

fn unavailable(error: StoreError) -> Status {
    Status::unavailable(error.sentence)
}
