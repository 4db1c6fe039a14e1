//! As much of the Kubernetes API as the aggregator speaks: lists in pages, watches, bookmarks, 410 Gone, outages; reviews of
//! tokens and rights; Secrets and ConfigMaps.
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod reviews;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use lastwords_aggregator::kubernetes::Access;
use lastwords_aggregator::serve::{self, Aggregator};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(Default)]
struct State {
    reviews: reviews::Reviews,
    version: u64,
    /// Objects by resource ("pods", "events"), each with its metadata.uid.
    objects: Vec<(String, Value)>,
    /// What watches get: version, resource, type, object.
    log: Vec<(u64, String, &'static str, Value)>,
    /// Watches from before this version are gone.
    oldest: u64,
    /// Requests that came, path and query.
    requests: Vec<String>,
}

pub(crate) struct ApiServer {
    state: Arc<Mutex<State>>,
    news: watch::Sender<u64>,
    address: SocketAddr,
    serving: Option<JoinHandle<()>>,
}

impl ApiServer {
    /// An aggregator that reaches it.
    pub(crate) async fn aggregator(&self, directory: &tempfile::TempDir) -> Aggregator {
        let mut settings = crate::common::settings(directory);
        settings.kubernetes = Some(Access::Kubeconfig(self.kubeconfig(directory)));
        serve::start(settings).await.unwrap()
    }

    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (news, _) = watch::channel(0);
        let mut server = Self { state: Arc::default(), news, address, serving: None };
        server.serve(listener);
        server
    }

    fn serve(&mut self, listener: TcpListener) {
        let (state, news) = (Arc::clone(&self.state), self.news.clone());
        self.serving = Some(tokio::spawn(async move {
            // Ends with this task, and every open connection with it.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(answer(stream, Arc::clone(&state), news.subscribe()));
            }
        }));
    }

    /// Refuses connections and drops open ones.
    pub(crate) async fn go_away(&mut self) {
        let serving = self.serving.take().unwrap();
        serving.abort();
        let _ = serving.await;
    }

    pub(crate) async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serve(listener);
    }

    /// Makes every watch from before now end in 410 Gone.
    pub(crate) fn forget_history(&self) {
        let mut state = self.state.lock().unwrap();
        state.version += 10;
        state.oldest = state.version;
        state.log.clear();
        drop(state);
        self.news.send_modify(|version| *version += 1);
    }

    pub(crate) fn put(&self, resource: &str, object: Value) {
        self.change(resource, object, "MODIFIED");
    }

    pub(crate) fn delete(&self, resource: &str, object: Value) {
        self.change(resource, object, "DELETED");
    }

    fn change(&self, resource: &str, mut object: Value, kind: &'static str) {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        let version = state.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let uid = object["metadata"]["uid"].clone();
        state.objects.retain(|(of, known)| of != resource || known["metadata"]["uid"] != uid);
        if kind != "DELETED" {
            state.objects.push((resource.to_owned(), object.clone()));
        }
        state.log.push((version, resource.to_owned(), kind, object));
        drop(state);
        self.news.send_modify(|version| *version += 1);
    }

    /// A token for this audience, with the `user` of its review.
    pub(crate) fn token(&self, token: &str, audience: &str, user: Value) {
        self.state.lock().unwrap().reviews.token(token, audience, user);
    }

    /// Lets a user or a group read the logs of pods in this namespace, or in all when it is empty.
    pub(crate) fn allow(&self, who: &str, namespace: &str) {
        self.state.lock().unwrap().reviews.allow(who, namespace);
    }

    /// The object at this path.
    pub(crate) fn object(&self, path: &str) -> Option<Value> {
        self.state.lock().unwrap().reviews.object(path)
    }

    /// Puts an object at the path of its kind.
    pub(crate) fn keep(&self, path: &str, object: Value) {
        self.state.lock().unwrap().reviews.kept("POST", path, object);
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    pub(crate) fn kubeconfig(&self, directory: &tempfile::TempDir) -> std::path::PathBuf {
        let path = directory.path().join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }
}

async fn answer(mut stream: TcpStream, state: Arc<Mutex<State>>, news: watch::Receiver<u64>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        request.push(byte);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let length = request.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    if stream.read_exact(&mut body).await.is_err() {
        return;
    }
    let target = request.split(' ').nth(1).unwrap_or_default().to_owned();
    state.lock().unwrap().requests.push(target.clone());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let method = request.split(' ').next().unwrap_or_default();
    let reviewed = state.lock().unwrap().reviews.answer(method, path, &body);
    if let Some((status, body)) = reviewed {
        return respond(stream, status, &body).await;
    }
    let resource = path.rsplit('/').next().unwrap_or_default();
    let value = |key: &str| {
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value)
    };
    if value("watch").is_some() {
        let since = value("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
        watch_from(stream, resource, since, &state, news).await;
    } else {
        let start: usize = value("continue").and_then(|token| token.parse().ok()).unwrap_or(0);
        let body = list(resource, start, &state.lock().unwrap());
        respond(stream, 200, &body).await;
    }
}

async fn respond(mut stream: TcpStream, status: u16, body: &Value) {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
}

/// Pages of two, whatever was asked.
fn list(resource: &str, start: usize, state: &State) -> Value {
    let all: Vec<&Value> =
        state.objects.iter().filter(|(of, _)| of == resource).map(|(_, object)| object).collect();
    let page: Vec<&&Value> = all.iter().skip(start).take(2).collect();
    let rest = start + page.len() < all.len();
    let next = if rest { (start + page.len()).to_string() } else { String::new() };
    json!({
        "apiVersion": "v1", "kind": "List", "items": page,
        "metadata": {"resourceVersion": state.version.to_string(), "continue": next},
    })
}

async fn watch_from(
    mut stream: TcpStream,
    resource: &str,
    mut since: u64,
    state: &Mutex<State>,
    mut news: watch::Receiver<u64>,
) {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
    let _ = stream.write_all(head.as_bytes()).await;
    loop {
        let mut lines = Vec::new();
        let gone = {
            let state = state.lock().unwrap();
            let gone = since < state.oldest;
            for (version, of, kind, object) in &state.log {
                if *version > since && of == resource {
                    lines.push(json!({"type": kind, "object": object}));
                }
            }
            since = state.version;
            lines.push(json!({"type": "BOOKMARK", "object": {"apiVersion": "v1", "kind": "Pod",
                "metadata": {"resourceVersion": since.to_string()}}}));
            gone
        };
        if gone {
            lines = vec![
                json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "metadata": {},
                "status": "Failure", "reason": "Expired", "code": 410, "message": "too old resource version"}}),
            ];
        }
        for line in lines {
            if stream.write_all(format!("{line}\n").as_bytes()).await.is_err() {
                return;
            }
        }
        if gone || news.changed().await.is_err() {
            return;
        }
    }
}
