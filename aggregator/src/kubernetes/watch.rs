//! Keeps [`Pods`] as the API shows them: a list in pages, then a watch with bookmarks; listed anew when the API has forgotten
//! where the watch stood (410 Gone); taken up again after outages with growing pauses, said once.
//!
//! Without the API everything else goes on: crashes are stored and diagnosed from the node's evidence alone, and paired once it
//! answers.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use lastwords_proto::v1;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::annotate::{self, Annotating};
use super::announce::{self, Announced};
use super::connect::{self, Access};
use super::events::{self, KubernetesEvent};
use super::pod::KubernetesPod;
use crate::diagnose::Change;
use crate::pods::Pods;
use crate::shutdown::Stop;
use crate::store::Store;
use crate::{lock, time};

/// Pods in a page of a list, as kubectl and client-go ask.
const PAGE: u32 = 500;
/// Length of one watch call in seconds. A connection that died unseen is noticed five seconds after it.
const WATCH_SECONDS: u32 = 120;
/// Pause before the next try to read a client configuration.
const CONFIGURATION_PAUSE: Duration = Duration::from_secs(15);

/// What the watch feeds.
#[derive(Debug)]
pub struct Cluster {
    /// The pods.
    pub pods: Arc<Mutex<Pods>>,
    /// Where it says which pod changed.
    pub changes: mpsc::Sender<Change>,
    /// Where it counts its lists.
    pub listed: Arc<Listed>,
}

/// Lists of the API since the start.
#[derive(Debug, Default)]
pub struct Listed {
    /// Of all pods: one, and one more each time the API had forgotten where the watch stood.
    pub pods: AtomicU64,
}

/// Crashes to be said on their pods.
#[derive(Debug)]
pub struct Announcing {
    /// Crashes as they are judged.
    pub judged: broadcast::Receiver<Arc<v1::Crash>>,
    /// What became of their events.
    pub counts: Arc<Announced>,
    /// Knows what was said before.
    pub store: Arc<dyn Store>,
    /// True while this aggregator is the one that says it.
    pub leading: watch::Receiver<bool>,
}

/// What is written on pods.
#[derive(Debug)]
pub struct OnPods {
    /// As events.
    pub events: Option<Announcing>,
    /// Into their annotations.
    pub annotations: Option<Annotating>,
}

/// Follows the API until told to stop.
pub async fn follow(access: Access, cluster: Cluster, on_pods: OnPods, mut stop: Stop) {
    tokio::select! {
        () = stop.requested() => {}
        () = follow_for_ever(access, cluster, on_pods) => {}
    }
}

/// Contends with other aggregators for who leads, until told to stop.
pub async fn contend(access: Access, lease: String, leading: watch::Sender<bool>, mut stop: Stop) {
    let client = tokio::select! {
        () = stop.requested() => return,
        client = connected(&access) => client,
    };
    super::lease::contend(client, lease, leading, stop).await;
}

async fn follow_for_ever(access: Access, cluster: Cluster, on_pods: OnPods) {
    let client = connected(&access).await;
    let announced = async {
        if let Some(announcing) = on_pods.events {
            announce::follow(client.clone(), announcing).await;
        }
    };
    let annotated = async {
        if let Some(annotating) = on_pods.annotations {
            annotate::follow(client.clone(), annotating).await;
        }
    };
    let (first_list_done, pods_listed) = oneshot::channel();
    // Events before their pods would find nobody.
    let events = async {
        if pods_listed.await.is_ok() {
            let of_reason = |reason| follow_events(client.clone(), &cluster, reason);
            futures::future::join_all(events::REASONS.map(of_reason)).await;
        }
    };
    tokio::join!(follow_pods(client.clone(), &cluster, first_list_done), events, announced, annotated);
}

pub(super) async fn connected(access: &Access) -> Client {
    let mut outage = Outage::new("the Kubernetes API");
    loop {
        match connect::client(access).await {
            Ok(client) => return client,
            Err(reason) => outage.began(&reason),
        }
        tokio::time::sleep(CONFIGURATION_PAUSE).await;
    }
}

async fn follow_pods(client: Client, cluster: &Cluster, first_list_done: oneshot::Sender<()>) {
    let mut first_list_done = Some(first_list_done);
    let mut listed = HashSet::new();
    let mut outage = Outage::new("pods in the Kubernetes API");
    // When the watch last told of anything: what a later list lacks was deleted after that.
    let mut contact = time::now();
    let mut stream = std::pin::pin!(watched::<KubernetesPod>(client, "".to_owned()));
    while let Some(event) = stream.next().await {
        let changed = match outage.passes(event) {
            None => continue,
            Some(watcher::Event::Init) => {
                listed.clear();
                continue;
            }
            Some(watcher::Event::InitApply(pod)) => {
                listed.insert(pod.uid().to_owned());
                applied(cluster, pod)
            }
            Some(watcher::Event::Apply(pod)) => {
                contact = time::now();
                applied(cluster, pod)
            }
            Some(watcher::Event::Delete(pod)) => {
                let mut last = pod.reduce();
                let (uid, now) = (last.uid.clone(), time::now());
                contact = now;
                // Deleted without a grace period: nothing told of it before.
                last.deletion = last.deletion.or(Some(now));
                let mut pods = lock(&cluster.pods);
                let is_news = pods.by_uid(&uid).is_some_and(|known| known.deleted_at.is_none()) && {
                    pods.apply(last);
                    pods.delete(&uid, now)
                };
                is_news.then_some(uid).into_iter().collect()
            }
            Some(watcher::Event::InitDone) => {
                tracing::info!(pods = listed.len(), "pods listed");
                cluster.listed.pods.fetch_add(1, Ordering::Relaxed);
                let now = time::now();
                let gone = lock(&cluster.pods).delete_all_but(&std::mem::take(&mut listed), contact, now);
                contact = now;
                if let Some(done) = first_list_done.take() {
                    // The receiver lives in the same join.
                    let _ = done.send(());
                }
                gone
            }
        };
        for uid in changed {
            if cluster.changes.send(Change::Pod(uid)).await.is_err() {
                return;
            }
        }
    }
}

fn applied(cluster: &Cluster, pod: KubernetesPod) -> Vec<String> {
    let pod = pod.reduce();
    let uid = pod.uid.clone();
    let is_news = !uid.is_empty() && lock(&cluster.pods).apply(pod);
    is_news.then_some(uid).into_iter().collect()
}

async fn follow_events(client: Client, cluster: &Cluster, reason: &str) {
    let mut outage = Outage::new("events in the Kubernetes API");
    let selector = format!("involvedObject.kind=Pod,reason={reason}");
    let mut stream = std::pin::pin!(watched::<KubernetesEvent>(client, selector));
    while let Some(event) = stream.next().await {
        let Some(watcher::Event::Apply(event) | watcher::Event::InitApply(event)) = outage.passes(event)
        else {
            continue;
        };
        let changed = event.reduce().and_then(|event| lock(&cluster.pods).probe_event(event));
        if let Some(uid) = changed
            && cluster.changes.send(Change::Pod(uid)).await.is_err()
        {
            return;
        }
    }
}

fn watched<K>(client: Client, fields: String) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send
where
    K: Resource<DynamicType = ()> + Clone + Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let mut configuration = watcher::Config::default().page_size(PAGE).timeout(WATCH_SECONDS);
    if !fields.is_empty() {
        configuration = configuration.fields(&fields);
    }
    watcher(Api::all(client), configuration).default_backoff()
}

/// Says once that something cannot be reached, and once that it answers again.
struct Outage {
    what: &'static str,
    lasts: bool,
}

impl Outage {
    fn new(what: &'static str) -> Self {
        Self { what, lasts: false }
    }

    fn began(&mut self, reason: &str) {
        if !self.lasts {
            tracing::warn!(
                "cannot read {}: {reason}; crashes are stored and diagnosed without the pod's state until it answers; \
                 trying again",
                self.what
            );
        }
        self.lasts = true;
    }

    fn passes<K>(&mut self, event: watcher::Result<watcher::Event<K>>) -> Option<watcher::Event<K>> {
        match event {
            // Sent before the list is asked for: says nothing of whether it will be answered.
            Ok(watcher::Event::Init) => Some(watcher::Event::Init),
            Ok(event) => {
                if std::mem::take(&mut self.lasts) {
                    tracing::info!("{} can be read again", self.what);
                }
                Some(event)
            }
            Err(watcher::Error::WatchError(status)) if status.code == 410 => {
                tracing::debug!("the watch of {} is too old, listing anew", self.what);
                None
            }
            Err(error) => {
                self.began(&in_words(&error));
                None
            }
        }
    }
}

fn in_words(error: &watcher::Error) -> String {
    let (watcher::Error::InitialListFailed(cause) | watcher::Error::WatchStartFailed(cause)) = error else {
        return crate::causes(error);
    };
    match cause {
        kube::Error::Api(status) if status.code == 401 || status.code == 403 => {
            format!(
                "{} (the aggregator's service account needs get, list and watch on pods and events)",
                status.message
            )
        }
        cause => crate::causes(cause),
    }
}
