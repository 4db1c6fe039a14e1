//! GET with `watch=true`: a stream of changes, bookmarks, and 410 Gone inside the stream.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;

use super::failure::Failure;
use super::read::{Form, in_namespace, number, selector, shaped, version_parameter};
use super::resource::Target;
use super::selector::Selector;
use super::store::{Change, Store};
use super::table::table;
use super::{Query, flag};

/// Frames waiting for a slow client; behind it the store's history is the buffer, and its bound gives 410.
const FRAMES: usize = 64;

/// How long a watch lasts when the client names no `timeoutSeconds`: a real server takes 30 to 60 minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1800);

/// What the server decides about all watches.
#[derive(Debug)]
pub(super) struct Watches {
    /// Time between two bookmarks.
    pub(super) bookmark_interval: Duration,
    /// Counts up when all running watches are to end.
    pub(super) end: watch::Sender<u64>,
}

/// Opens a watch.
///
/// # Errors
/// 400, 422 for parameters that do not go together. A version that is too old is told inside the stream, as a real
/// server does.
pub(super) fn open(
    store: &Arc<Store>,
    watches: &Watches,
    target: Target,
    query: &Query,
    form: Form,
    gone: bool,
) -> Result<Response, Failure> {
    let selector = selector(target.resource, query)?;
    let asked = version_parameter(query)?;
    let initial = match query.get("sendInitialEvents").map(String::as_str) {
        Some("true") => Initial::ToldTheEnd,
        Some(_) => Initial::None,
        // Without a version, or with "0", a watch begins with what is there.
        None if asked.unwrap_or(0) == 0 => Initial::Plain,
        None => Initial::None,
    };
    let rule = query.get("resourceVersionMatch").map(String::as_str).unwrap_or_default();
    match (query.contains_key("sendInitialEvents"), rule) {
        (true, "NotOlderThan") | (false, "") => {}
        (true, _) => {
            return Err(Failure::invalid(
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        }
        (false, _) => {
            return Err(Failure::invalid(
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
    }
    let timeout = number(query, "timeoutSeconds")?.map_or(DEFAULT_TIMEOUT, Duration::from_secs);
    let (frames, body) = mpsc::channel(FRAMES);
    let stream = Stream {
        store: store.clone(),
        target,
        selector,
        form,
        first_table: true,
        bookmarks: flag(query, "allowWatchBookmarks").then_some(watches.bookmark_interval),
        frames,
    };
    let deadline = Instant::now() + timeout;
    let mut end = watches.end.subscribe();
    end.mark_unchanged();
    let version = asked.unwrap_or(0);
    tokio::spawn(async move {
        // An ended stream needs no word: the client sees the body end, as at every time-out.
        let _ = stream.run(version, initial, gone, deadline, end).await;
    });
    let body = Body::from_stream(ReceiverStream::new(body));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// Whether a watch begins with the objects that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Initial {
    None,
    /// As ADDED events.
    Plain,
    /// As ADDED events and a bookmark that says they are complete.
    ToldTheEnd,
}

struct Stream {
    store: Arc<Store>,
    target: Target,
    selector: Selector,
    form: Form,
    first_table: bool,
    bookmarks: Option<Duration>,
    frames: mpsc::Sender<Result<Bytes, Infallible>>,
}

/// The client has gone.
struct Closed;

impl Stream {
    async fn run(
        mut self,
        asked: u64,
        initial: Initial,
        gone: bool,
        deadline: Instant,
        mut end: watch::Receiver<u64>,
    ) -> Result<(), Closed> {
        if gone {
            return self.error(&Failure::expired(asked, self.store.version())).await;
        }
        let mut latest = self.store.subscribe();
        let mut version = asked;
        if initial != Initial::None {
            let objects = match self.store.list(self.target.resource.store, None) {
                Ok((objects, current)) => {
                    version = current;
                    objects
                }
                Err(failure) => return self.error(&failure).await,
            };
            for (key, object) in objects {
                if in_namespace(&self.target, &key) && self.selector.matches(&object) {
                    self.event("ADDED", &object).await?;
                }
            }
            if initial == Initial::ToldTheEnd {
                self.bookmark(version, true).await?;
            }
        }
        let mut bookmark_at = self.bookmarks.map(|interval| Instant::now() + interval);
        loop {
            latest.mark_unchanged();
            let (changes, current) = match self.store.changes_after(self.target.resource.store, version) {
                Ok(found) => found,
                Err(failure) => return self.error(&failure).await,
            };
            for change in changes {
                if let Some(kind) = self.kind_of(&change) {
                    self.event(kind, &change.object).await?;
                }
            }
            version = version.max(current);
            tokio::select! {
                changed = latest.changed() => if changed.is_err() { return Ok(()) },
                _ = end.changed() => return Ok(()),
                () = self.frames.closed() => return Err(Closed),
                () = sleep_until(deadline) => return Ok(()),
                () = sleep_until(bookmark_at.unwrap_or(deadline)), if bookmark_at.is_some() => {
                    self.bookmark(version, false).await?;
                    bookmark_at = self.bookmarks.map(|interval| Instant::now() + interval);
                }
            }
        }
    }

    /// ADDED, MODIFIED or DELETED as this watch's selector sees it: an object that no longer matches is deleted for it.
    fn kind_of(&self, change: &Change) -> Option<&'static str> {
        if !in_namespace(&self.target, &change.key) {
            return None;
        }
        let before = change.before.as_ref().is_some_and(|object| self.selector.matches(object));
        let after = !change.deleted && self.selector.matches(&change.object);
        match (before, after) {
            (false, true) => Some("ADDED"),
            (true, true) => Some("MODIFIED"),
            (true, false) => Some("DELETED"),
            (false, false) => None,
        }
    }

    async fn event(&mut self, kind: &str, object: &Value) -> Result<(), Closed> {
        let object = shaped(self.target.resource, object);
        let object = match self.form {
            Form::Json => object,
            Form::Table(include) => {
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                let first = std::mem::take(&mut self.first_table);
                table(self.target.resource, &[object], metadata, include, first, SystemTime::now())
            }
        };
        self.frame(kind, &object).await
    }

    async fn bookmark(&mut self, version: u64, initial_end: bool) -> Result<(), Closed> {
        let mut metadata = json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
        if let (true, Some(fields)) = (initial_end, metadata.as_object_mut()) {
            fields.insert("annotations".to_owned(), json!({"k8s.io/initial-events-end": "true"}));
        }
        let resource = self.target.resource;
        let mut object =
            json!({"kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata});
        // A bookmark is an otherwise empty object of the kind, and these fields are never left out of theirs.
        let empty = match resource.plural {
            "pods" => json!({"spec": {"containers": null}, "status": {}}),
            "nodes" | "namespaces" | "services" => json!({"spec": {}, "status": {}}),
            "events" if resource.is_new_event() => json!({"eventTime": null, "regarding": {}}),
            "events" => {
                json!({"involvedObject": {}, "source": {}, "eventTime": null, "reportingComponent": "", "reportingInstance": "", "firstTimestamp": null, "lastTimestamp": null})
            }
            _ => json!({}),
        };
        if let (Some(fields), Value::Object(empty)) = (object.as_object_mut(), empty) {
            fields.extend(empty);
        }
        if let Form::Table(include) = self.form {
            let first = std::mem::take(&mut self.first_table);
            let metadata = json!({"resourceVersion": version.to_string()});
            object = table(resource, &[object], metadata, include, first, SystemTime::now());
        }
        self.frame("BOOKMARK", &object).await
    }

    async fn error(&mut self, failure: &Failure) -> Result<(), Closed> {
        self.frame("ERROR", &failure.object()).await
    }

    async fn frame(&mut self, kind: &str, object: &Value) -> Result<(), Closed> {
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        self.frames.send(Ok(Bytes::from(line))).await.map_err(|_| Closed)
    }
}
