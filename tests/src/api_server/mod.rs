//! Stand-in for the Kubernetes API server: objects in memory behind real HTTP.
//!
//! Served as a 1.36 server does: lists with pages, watches with bookmarks and initial events, 410 Gone once the
//! bounded history has moved on, field and label selectors, tables for kubectl, discovery in both forms, and the
//! writes that a kubelet, an event recorder, Helm and `kubectl apply` need, server-side apply included; where it is asked to, with
//! bearer tokens, reviews and RBAC. Not served: admission, defaults, schemas, dry runs, answers in protobuf, garbage collection. Plain HTTP, meant for loopback.

pub mod access;
mod apply;
mod deployment;
mod discovery;
mod event_shape;
pub mod failure;
pub mod faults;
mod forward;
mod merge;
mod openapi;
mod pod;
mod protobuf;
mod read;
pub mod replay;
mod resource;
mod selector;
mod serve;
pub mod store;
mod table;
mod watch;
mod write;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, routing};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use access::{Access, Asked, User};
use apply::Manager;
use failure::Failure;
use faults::{Fault, Faults, Line};
use forward::Forwards;
use read::Form;
use resource::Target;
use store::Store;
use watch::Watches;

pub(crate) use write::random;

/// Query parameters; none that matters here is given twice.
type Query = HashMap<String, String>;

/// How the server behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How many changes are remembered before an older version is 410 Gone.
    pub window: usize,
    /// Time between two bookmarks of a watch that allows them.
    pub bookmark_interval: Duration,
    /// Whether pods without a node are bound to the first node that fits.
    pub schedule: bool,
    /// Where the stand-in kubelet writes the pods' logs, so that `kubectl logs` has an answer.
    pub pod_logs_directory: Option<PathBuf>,
    /// Whether anybody needs a token that it knows, and rules of RBAC that let them.
    pub authorize: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            window: store::DEFAULT_WINDOW,
            // A real server sends one about once a minute.
            bookmark_interval: Duration::from_secs(60),
            schedule: true,
            pod_logs_directory: None,
            authorize: false,
        }
    }
}

/// A running stand-in API server. It ends when this is dropped.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    store: Arc<Store>,
    server: Arc<Server>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Server {
    store: Arc<Store>,
    access: Access,
    forwards: Forwards,
    watches: Watches,
    faults: Faults,
    pod_logs_directory: Option<PathBuf>,
}

impl ApiServer {
    /// Listens and serves in the background, with the namespaces every cluster has.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(options: Options) -> anyhow::Result<ApiServer> {
        let listener = TcpListener::bind(options.listen)
            .await
            .with_context(|| format!("the stand-in API server cannot listen on {}", options.listen))?;
        let address = listener.local_addr().context("the listening socket has no address")?;
        let store = Arc::new(Store::new(options.window));
        for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            replay::add_namespace(&store, namespace);
        }
        let (line, control) = mpsc::unbounded_channel();
        let server = Arc::new(Server {
            store: store.clone(),
            watches: Watches {
                bookmark_interval: options.bookmark_interval,
                end: tokio::sync::watch::Sender::new(0),
            },
            faults: Faults::new(line),
            pod_logs_directory: options.pod_logs_directory,
            access: Access::new(options.authorize),
            forwards: Forwards::default(),
        });
        let accepting = serve::accept(listener, address, router(server.clone()), control);
        let mut tasks = vec![tokio::spawn(accepting)];
        if options.schedule {
            tasks.push(tokio::spawn(pod::schedule(store.clone())));
        }
        Ok(ApiServer { address, store, server, tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The objects themselves, for a test to look at or to feed.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Writes a kubeconfig that leads here.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_kubeconfig(&self, file: &Path) -> anyhow::Result<()> {
        self.write_kubeconfig_of(file, &json!({}), "default")
    }

    /// Writes a kubeconfig of whoever has this token.
    ///
    /// # Errors
    /// As [`ApiServer::write_kubeconfig`].
    pub fn write_kubeconfig_with(&self, file: &Path, token: &str, namespace: &str) -> anyhow::Result<()> {
        self.write_kubeconfig_of(file, &json!({ "token": token }), namespace)
    }

    fn write_kubeconfig_of(&self, file: &Path, user: &Value, namespace: &str) -> anyhow::Result<()> {
        let context = json!({"cluster": "stand-in", "user": "stand-in", "namespace": namespace});
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "stand-in",
            "clusters": [{"name": "stand-in", "cluster": {"server": self.url()}}],
            "contexts": [{"name": "stand-in", "context": context}],
            "users": [{"name": "stand-in", "user": user}],
        });
        std::fs::write(file, config.to_string())
            .with_context(|| format!("the kubeconfig {} cannot be written", file.display()))
    }

    /// Knows this token from now on, as one for these audiences.
    pub fn give_token(&self, token: &str, user: User, audiences: &[&str]) {
        self.server.access.give(token, user, audiences);
    }

    /// Where what is forwarded to a port of this pod goes.
    pub fn forward_port(&self, namespace: &str, pod: &str, port: u16, to: SocketAddr) {
        self.server.forwards.lead(namespace, pod, port, to);
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn router(server: Arc<Server>) -> Router {
    let ok = || async { "ok" };
    Router::new()
        .route("/healthz", routing::get(ok))
        .route("/livez", routing::get(ok))
        .route("/readyz", routing::get(ok))
        .route("/version", routing::get(|| async { Json(discovery::version()) }))
        .route("/api", routing::get(|headers: HeaderMap| async move { roots(&headers, true) }))
        .route("/apis", routing::get(|headers: HeaderMap| async move { roots(&headers, false) }))
        .route("/stand-in/faults", routing::post(fault))
        .route("/api/v1/namespaces/{namespace}/pods/{pod}/portforward", routing::get(forward::forward))
        .fallback(objects)
        .with_state(server)
}

/// `/api` and `/apis`: aggregated when the client can read it.
fn roots(headers: &HeaderMap, core: bool) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("as=APIGroupDiscoveryList") && accept.contains("v=v2") {
        let body = discovery::aggregated(core).to_string();
        return ([(header::CONTENT_TYPE, discovery::AGGREGATED)], body).into_response();
    }
    Json(if core { discovery::legacy_versions() } else { discovery::legacy_groups() }).into_response()
}

async fn fault(State(server): State<Arc<Server>>, Json(fault): Json<Fault>) -> Json<Value> {
    match fault {
        Fault::Compact => server.store.compact(),
        Fault::EndWatches => server.watches.end.send_modify(|count| *count += 1),
        Fault::DropConnections => server.faults.line(Line::Drop),
        Fault::Refuse { seconds } => {
            server.faults.line(Line::Refuse(Duration::try_from_secs_f64(seconds).unwrap_or_default()));
        }
        waiting => server.faults.wait(waiting),
    }
    Json(json!({"done": true}))
}

async fn objects(
    State(server): State<Arc<Server>>,
    method: Method,
    uri: Uri,
    axum::extract::Query(query): axum::extract::Query<Query>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    let path = uri.path().trim_end_matches('/');
    if method == Method::GET
        && let Some(found) = legacy_discovery(path).or_else(|| openapi::document(path))
    {
        return Ok(Json(found).into_response());
    }
    if let Some(review) = server.access.review(&server.store, path, &headers, &body) {
        return Ok((axum::http::StatusCode::CREATED, Json(review?)).into_response());
    }
    let target = Target::parse(path).ok_or_else(Failure::no_such_path)?;
    let watching = target.watch_prefix || flag(&query, "watch");
    let plural = target.resource.plural;
    server.access.check(&server.store, &headers, &Asked::of(&target, target.verb(&method, watching)))?;
    if let Some(code) = server.faults.failing(plural, target.verb(&method, watching)) {
        let code =
            axum::http::StatusCode::from_u16(code).unwrap_or(axum::http::StatusCode::INTERNAL_SERVER_ERROR);
        return Ok((code, format!("a fault was asked for: {code}\n")).into_response());
    }
    if method != Method::GET && query.contains_key("dryRun") {
        return Err(Failure::bad_request("the stand-in does no dry runs"));
    }
    if !matches!(target.subresource.as_str(), "" | "status") {
        return pod_log(&server, &target, &query);
    }
    let resource = target.resource;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let reply = |object: Value| Json(read::shaped(resource, &object));
    match (method.as_str(), target.name.clone()) {
        ("GET", name) => {
            let form = Form::negotiate(&headers, &query)?;
            match name {
                Some(name) if !watching => read::get(&server.store, &target, &name, form),
                None if !watching => read::list(&server.store, &target, &query, form),
                _ => {
                    let gone = match server.faults.watch_gone(plural) {
                        Some(true) => return Err(Failure::expired(0, server.store.version())),
                        told_inside => told_inside.is_some(),
                    };
                    watch::open(&server.store, &server.watches, target, &query, form, gone)
                }
            }
        }
        ("POST", None) => {
            let created = write::create(&server.store, &target, parsed(kind, &body)?)?;
            Ok((axum::http::StatusCode::CREATED, reply(created)).into_response())
        }
        ("PUT", Some(name)) => {
            let manager = manager(&headers, &query);
            Ok(reply(write::replace(&server.store, &target, &name, manager, parsed(kind, &body)?)?)
                .into_response())
        }
        ("PATCH", Some(name)) => {
            let manager = manager(&headers, &query);
            let patched = write::patch(&server.store, &target, &name, kind, manager, parsed(kind, &body)?)?;
            Ok(reply(patched).into_response())
        }
        ("DELETE", Some(name)) => {
            let mut options = if body.is_empty() { json!({}) } else { parsed(kind, &body)? };
            if let (Some(seconds), Some(fields)) =
                (read::number(&query, "gracePeriodSeconds")?, options.as_object_mut())
            {
                fields.insert("gracePeriodSeconds".to_owned(), seconds.into());
            }
            Ok(reply(write::delete(&server.store, &target, &name, &options)?).into_response())
        }
        _ => Err(Failure::method_not_allowed()),
    }
}

/// `/api/v1`, `/apis/GROUP` and `/apis/GROUP/v1` in the old form.
fn legacy_discovery(path: &str) -> Option<Value> {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts.as_slice() {
        ["api", "v1"] => discovery::legacy_resources(""),
        ["apis", group] => discovery::legacy_resources(group).map(|_| discovery::group(group)),
        ["apis", group, "v1"] => discovery::legacy_resources(group),
        _ => None,
    }
}

/// `kubectl logs`: a real server asks the kubelet, this one reads the file that the stand-in kubelet wrote.
fn pod_log(server: &Server, target: &Target, query: &Query) -> Result<Response, Failure> {
    let (Some(name), "pods", "log") = (&target.name, target.resource.plural, target.subresource.as_str())
    else {
        return Err(Failure::no_such_path());
    };
    let namespace = target.namespace.clone().unwrap_or_default();
    let pod = server
        .store
        .get("pods", &(namespace.clone(), name.clone()))
        .ok_or_else(|| Failure::not_found(target.resource, name))?;
    let directory = server.pod_logs_directory.as_ref().ok_or_else(Failure::no_such_path)?;
    let container = match query.get("container") {
        Some(container) => container.as_str(),
        None => pod["spec"]["containers"][0]["name"].as_str().unwrap_or_default(),
    };
    let status = pod["status"]["containerStatuses"]
        .as_array()
        .and_then(|all| all.iter().find(|one| one["name"] == container));
    let restarts = status.and_then(|status| status["restartCount"].as_u64()).unwrap_or(0);
    let run = if flag(query, "previous") { restarts.checked_sub(1) } else { Some(restarts) };
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
    let lines = run
        .map(|run| {
            directory.join(format!("{namespace}_{name}_{uid}")).join(container).join(format!("{run}.log"))
        })
        .and_then(|file| std::fs::read_to_string(file).ok());
    let Some(lines) = lines else {
        let message = format!("previous terminated container {container:?} in pod {name:?} not found");
        return Err(Failure::bad_request(message));
    };
    // "TIME STREAM TAG TEXT": only the text is what the container wrote.
    let mut text = String::new();
    for line in lines.lines() {
        let mut parts = line.splitn(4, ' ').skip(2);
        let (tag, part) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        text.push_str(part);
        if tag == "F" {
            text.push('\n');
        }
    }
    Ok(([(header::CONTENT_TYPE, "text/plain")], Body::from(text)).into_response())
}

fn parsed(kind: &str, body: &Bytes) -> Result<Value, Failure> {
    if kind == protobuf::MEDIA_TYPE {
        return protobuf::as_json(body);
    }
    serde_json::from_slice(body)
        .map_err(|error| Failure::bad_request(format!("the body is no JSON: {error}")))
}

/// In whose name a request writes.
fn manager<'a>(headers: &'a HeaderMap, query: &'a Query) -> Manager<'a> {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let program = agent.split('/').next().filter(|program| !program.is_empty()).unwrap_or("unknown");
    Manager { name: query.get("fieldManager").map_or(program, String::as_str), force: flag(query, "force") }
}

/// A boolean parameter, as Go reads it.
fn flag(query: &Query, name: &str) -> bool {
    query.get(name).is_some_and(|value| matches!(value.as_str(), "true" | "1" | "True" | "t"))
}
