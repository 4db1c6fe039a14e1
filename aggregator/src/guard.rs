//! Stands before [`Query`]: a caller gets what the cluster's own rules let it read, `get` on `pods/log` of the namespace, and
//! cannot tell what is not there from what is not its own.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use lastwords_proto::v1;
use lastwords_proto::v1::crash_query_server::CrashQuery;
use tokio_stream::StreamExt as _;
use tonic::{Request, Response, Status};

use crate::api::{self, Only, Query};
use crate::caller::User;
use crate::gate::Gate;

/// The service `CrashQuery` for those who may; for everybody without a gate.
#[derive(Debug, Clone)]
pub struct Guarded {
    query: Query,
    gate: Option<Arc<Gate>>,
}

/// A caller who was told.
#[derive(Debug, Clone)]
struct Caller {
    gate: Arc<Gate>,
    user: Arc<User>,
}

impl Guarded {
    /// Lets through to `query` whom `gate` lets.
    pub fn new(query: Query, gate: Option<Arc<Gate>>) -> Self {
        Self { query, gate }
    }

    /// Who asks; None where nobody has to say.
    async fn caller<T>(&self, request: &Request<T>) -> Result<Option<Caller>, Status> {
        let Some(gate) = &self.gate else { return Ok(None) };
        let user = gate.caller(request.metadata(), request.extensions()).await?;
        Ok(Some(Caller { gate: Arc::clone(gate), user }))
    }
}

impl Caller {
    async fn may_read(&self, namespace: &str) -> Result<bool, Status> {
        self.gate.may_read(&self.user, namespace).await
    }

    /// The same whether there is such a namespace or not.
    async fn has_to_read(&self, namespace: &str) -> Result<(), Status> {
        if self.may_read(namespace).await? {
            return Ok(());
        }
        self.gate.caller_refused();
        Err(Status::permission_denied(format!("you may not get pods/log in namespace {namespace:?}")))
    }
}

#[tonic::async_trait]
impl CrashQuery for Guarded {
    async fn list_crashes(
        &self,
        mut request: Request<v1::ListCrashesRequest>,
    ) -> Result<Response<v1::ListCrashesResponse>, Status> {
        if let Some(caller) = self.caller(&request).await? {
            let namespace = request.get_ref().namespace.clone();
            if !namespace.is_empty() {
                caller.has_to_read(&namespace).await?;
            } else if !caller.may_read("").await? {
                let namespaces = self.query.namespaces().await?;
                let readable = caller.gate.readable(&caller.user, namespaces).await?;
                request.extensions_mut().insert(Only(readable));
            }
        }
        self.query.list_crashes(request).await
    }

    async fn get_crash(
        &self,
        request: Request<v1::GetCrashRequest>,
    ) -> Result<Response<v1::GetCrashResponse>, Status> {
        let caller = self.caller(&request).await?;
        let id = request.get_ref().id.clone();
        // Asked before the store is, so that an API server that does not answer does not tell what is there either.
        let caller = match caller {
            Some(caller) if caller.may_read("").await? => None,
            caller => caller,
        };
        let response = self.query.get_crash(request).await?;
        if let Some(caller) = caller {
            let crash = response.get_ref().crash.as_ref();
            if !caller.may_read(crash.map_or("", namespace)).await? {
                caller.gate.caller_refused();
                return Err(api::no_crash(&id));
            }
        }
        Ok(response)
    }

    async fn explain_pod(
        &self,
        request: Request<v1::ExplainPodRequest>,
    ) -> Result<Response<v1::ExplainPodResponse>, Status> {
        if let Some(caller) = self.caller(&request).await? {
            let v1::ExplainPodRequest { namespace, pod_name, .. } = request.get_ref();
            let namespace = api::or_default(namespace);
            if !pod_name.is_empty() && !caller.may_read(namespace).await? {
                caller.gate.caller_refused();
                return Err(api::no_pod(namespace, pod_name));
            }
        }
        self.query.explain_pod(request).await
    }

    async fn explain_owner(
        &self,
        request: Request<v1::ExplainOwnerRequest>,
    ) -> Result<Response<v1::ExplainOwnerResponse>, Status> {
        if let Some(caller) = self.caller(&request).await? {
            let v1::ExplainOwnerRequest { namespace, kind, name, selector, .. } = request.get_ref();
            let namespace = api::or_default(namespace);
            if !caller.may_read(namespace).await? {
                caller.gate.caller_refused();
                return Err(api::no_owner(namespace, kind, name, selector));
            }
        }
        self.query.explain_owner(request).await
    }

    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        // Nodes are of no namespace: they are for those who may read all of them.
        if let Some(caller) = self.caller(&request).await?
            && !caller.may_read("").await?
        {
            caller.gate.caller_refused();
            return Err(Status::permission_denied("you may not get pods/log in all namespaces"));
        }
        self.query.list_nodes(request).await
    }

    type WatchCrashesStream = Pin<Box<dyn Stream<Item = Result<v1::WatchCrashesResponse, Status>> + Send>>;

    async fn watch_crashes(
        &self,
        request: Request<v1::WatchCrashesRequest>,
    ) -> Result<Response<Self::WatchCrashesStream>, Status> {
        let Some(caller) = self.caller(&request).await? else {
            return self.query.watch_crashes(request).await;
        };
        let namespace = request.get_ref().namespace.clone();
        if !namespace.is_empty() {
            caller.has_to_read(&namespace).await?;
        }
        let crashes = self.query.watch_crashes(request).await?.into_inner();
        // Asked for each crash: a right that ends while the watch lasts ends it too.
        let readable = crashes.then(move |item| {
            let caller = caller.clone();
            async move {
                let response = item?;
                let may = match &response.crash {
                    Some(crash) => caller.may_read(self::namespace(crash)).await?,
                    None => false,
                };
                Ok(may.then_some(response))
            }
        });
        Ok(Response::new(Box::pin(readable.filter_map(Result::transpose))))
    }
}

fn namespace(crash: &v1::Crash) -> &str {
    crash.container.as_ref().map_or("", |container| container.namespace.as_str())
}
