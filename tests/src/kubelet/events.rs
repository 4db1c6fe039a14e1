//! The kubelet's events, repeated ones counted up as client-go's recorder does.

use std::collections::HashMap;
use std::time::SystemTime;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::api_server::random;
use crate::http::Client;
use crate::time;

/// Events waiting for the server. A real recorder queues 1000 and drops what comes after, and so does this one.
const QUEUE: usize = 1000;

/// One thing that happened to a pod.
#[derive(Debug)]
pub(super) struct Event {
    /// `involvedObject`.
    pub(super) about: Value,
    /// True for Warning, false for Normal.
    pub(super) warning: bool,
    /// `BackOff`, `Started`, …
    pub(super) reason: &'static str,
    /// What `kubectl describe` shows.
    pub(super) message: String,
}

/// Where events are handed in.
#[derive(Debug, Clone)]
pub(super) struct Recorder {
    queue: mpsc::Sender<Event>,
}

impl Recorder {
    /// A recorder and the work of writing, which must be run.
    pub(super) fn new(client: Client, node: String) -> (Recorder, impl Future<Output = ()>) {
        let (queue, events) = mpsc::channel(QUEUE);
        (Recorder { queue }, write(client, node, events))
    }

    /// Hands an event in; a full queue drops it and says so.
    pub(super) fn record(&self, event: Event) {
        if self.queue.try_send(event).is_err() {
            eprintln!("stand-in-kubelet: an event was dropped: {QUEUE} others wait for the API server");
        }
    }
}

/// An event that was written: where, how often, when first.
struct Written {
    path: String,
    count: u64,
}

async fn write(client: Client, node: String, mut events: mpsc::Receiver<Event>) {
    let mut written: HashMap<(String, &'static str, String), Written> = HashMap::new();
    while let Some(event) = events.recv().await {
        let now = time::seconds(SystemTime::now());
        let key = (
            format!("{}{}", event.about["uid"], event.about["fieldPath"]),
            event.reason,
            event.message.clone(),
        );
        if let Some(known) = written.get_mut(&key) {
            known.count += 1;
            let patch = json!({"count": known.count, "lastTimestamp": now});
            if client.patch(&known.path, &patch).await.is_ok() {
                continue;
            }
            // Gone in the meantime (a real one expires after an hour): it begins anew.
        }
        let text = |field: &str| event.about[field].as_str().unwrap_or_default().to_owned();
        let namespace = match text("namespace") {
            namespace if namespace.is_empty() => "default".to_owned(),
            namespace => namespace,
        };
        let name = format!("{}.{:016x}", text("name"), random());
        let path = format!("/api/v1/namespaces/{namespace}/events");
        let object = json!({
            "kind": "Event", "apiVersion": "v1", "metadata": {"name": name, "namespace": namespace},
            "involvedObject": event.about, "reason": event.reason, "message": event.message,
            "source": {"component": "kubelet", "host": node}, "firstTimestamp": now, "lastTimestamp": now, "count": 1,
            "type": if event.warning { "Warning" } else { "Normal" }, "eventTime": null,
            "reportingComponent": "kubelet", "reportingInstance": node,
        });
        match client.post(&path, &object).await {
            Ok(_) => {
                written.insert(key, Written { path: format!("{path}/{name}"), count: 1 });
            }
            Err(error) => eprintln!("stand-in-kubelet: an event was not written: {error:#}"),
        }
    }
}
