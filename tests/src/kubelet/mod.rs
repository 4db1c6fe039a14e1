//! Stand-in for the kubelet and containerd: runs the pods bound to its node with runc, for real.
//!
//! As on the recorded node: groups below `kubepods` with the pod's own limit, a sandbox of the same form beside the
//! containers, namespaces, capabilities, volumes, logs in the CRI format, restarts with back-off, and statuses and
//! events in their shapes and order. Not done: probes, init containers, lifecycle hooks, image pulls, a network beyond
//! loopback. It touches only groups of pods that it was given, and leaves nothing behind when it stops.

mod back_off;
mod cgroup;
mod container;
mod environment;
mod events;
mod files;
pub mod hidden;
pub mod image;
mod log;
mod oci;
mod pod;
pub mod quantity;

mod runtime;
mod status;
mod volumes;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::http::{Client, refused};
use crate::time;
use cgroup::{Hierarchies, PodGroup};
use events::Recorder;
use image::Images;
use runtime::{Reaper, Runc};

/// Pause before the API server is asked again after a failure.
const RETRY: Duration = Duration::from_millis(500);

/// How a node is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// The API server, `http://HOST:PORT`.
    pub server: String,
    /// The node's name.
    pub node_name: String,
    /// Images, bundles and runc's state. One kubelet at a time.
    pub state_directory: PathBuf,
    /// Where the containers' logs go.
    pub pod_logs_directory: PathBuf,
    /// Where the cgroup hierarchies are mounted.
    pub cgroup_root: PathBuf,
    /// The runtime.
    pub runc: PathBuf,
    /// Further images: name and root file system.
    pub images: Vec<(String, PathBuf)>,
    /// Programs of the host to copy into the busybox image, with their libraries.
    pub programs: Vec<PathBuf>,
    /// The first wait of a crash loop.
    pub back_off_initial: Duration,
    /// Its longest.
    pub back_off_cap: Duration,
    /// How often a waiting pod is looked at anyway (`syncFrequency`).
    pub sync_period: Duration,
    /// How long the kubelet takes to notice a change (its relist period).
    pub relist_period: Duration,
    /// Whether pods get a sandbox of their own.
    pub sandbox: bool,
    /// That many containers are created first and then started together; 0: each as it is ready.
    pub start_together: usize,
}

/// What all pods of a node share.
#[derive(Debug)]
struct Node {
    options: Options,
    client: Client,
    hierarchies: Hierarchies,
    images: Images,
    runc: Runc,
    reaper: Reaper,
    recorder: Recorder,
    gate: Gate,
}

/// Runs a node until `stop` turns true, then removes everything it made.
///
/// # Errors
/// When the node cannot be set up, or something could not be removed.
pub async fn run(options: Options, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let _lock = lock(&options.state_directory)?;
    clean_up_locked(&options).await?;
    let client = Client::new(&options.server)?;
    let state = &options.state_directory;
    let images = Images::prepare(&state.join("images"), &options.programs, &options.images)?;
    let (recorder, writing) = Recorder::new(client.clone(), options.node_name.clone());
    let node = Arc::new(Node {
        hierarchies: Hierarchies::find(&options.cgroup_root)?,
        runc: Runc::new(options.runc.clone(), state.join("runc")),
        reaper: Reaper::default(),
        gate: Gate::new(options.start_together),
        client,
        images,
        recorder,
        options,
    });
    let reaper = node.clone();
    let helpers = [tokio::spawn(async move { reaper.reaper.run().await }), tokio::spawn(writing)];
    let mut pods = Pods { node: node.clone(), workers: HashMap::new() };
    tokio::select! {
        () = pods.follow() => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    pods.shut_down().await;
    helpers.iter().for_each(JoinHandle::abort);
    clean_up_locked(&node.options).await
}

/// Removes what a node with this state directory left behind when it was killed.
///
/// # Errors
/// When such a node still runs, or something cannot be removed.
pub async fn clean_up(options: &Options) -> anyhow::Result<()> {
    let _lock = lock(&options.state_directory)?;
    clean_up_locked(options).await
}

async fn clean_up_locked(options: &Options) -> anyhow::Result<()> {
    let state = &options.state_directory;
    let runc = Runc::new(options.runc.clone(), state.join("runc"));
    for id in runc.known() {
        // What runc cannot remove any more goes with its group below.
        let _ = runc.delete(&id, state).await;
    }
    for entry in fs::read_dir(state.join("pods")).into_iter().flatten().filter_map(Result::ok) {
        let record = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        if let Some(group) = PodGroup::from_record(&record(GROUP_RECORD)) {
            Hierarchies::find(&options.cgroup_root)?.remove(&group)?;
        }
        let logs = PathBuf::from(record(LOGS_RECORD));
        if logs.is_absolute() {
            remove_directory(&logs)?;
        }
    }
    for part in ["pods", "runc", "images"] {
        remove_directory(&state.join(part))?;
    }
    // Absent unless runc had something to say.
    let _ = fs::remove_file(state.join("runc.log"));
    Ok(())
}

/// Removes a directory with all in it; one that is not there is as good as removed.
fn remove_directory(directory: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", directory.display()))
        }
        _ => Ok(()),
    }
}

/// Below a pod's directory: where its logs are.
const LOGS_RECORD: &str = "logs";

/// Below a pod's directory: the group that was made for it.
const GROUP_RECORD: &str = "group";

/// Holds the state directory for as long as the file is open, also against the kill that leaves everything behind.
fn lock(state: &Path) -> anyhow::Result<File> {
    fs::create_dir_all(state)
        .with_context(|| format!("the state directory {} cannot be made", state.display()))?;
    let file =
        File::create(state.join("lock")).with_context(|| format!("{} cannot be written", state.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            bail!("another stand-in kubelet uses {}: give this one its own --state-dir", state.display())
        }
        Err(fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("{} cannot be locked", state.display()))
        }
    }
}

/// Lets the first runs of containers wait until enough of them are created.
#[derive(Debug)]
struct Gate {
    used: bool,
    created: Countdown,
    started: Countdown,
}

impl Gate {
    fn new(together: usize) -> Gate {
        Gate { used: together > 0, created: Countdown::new(together), started: Countdown::new(together) }
    }
}

/// Reaches zero once.
#[derive(Debug)]
struct Countdown {
    left: AtomicUsize,
    zero: watch::Sender<bool>,
}

impl Countdown {
    fn new(from: usize) -> Countdown {
        Countdown { left: AtomicUsize::new(from), zero: watch::Sender::new(from == 0) }
    }

    fn one(&self) {
        let before = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        if before == Ok(1) {
            self.zero.send_replace(true);
        }
    }

    async fn zero(&self) {
        // The sender lives as long as this.
        let _ = self.zero.subscribe().wait_for(|zero| *zero).await;
    }
}

/// Why a pod has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Deleted: its processes get this long, then its object is removed.
    Deleted(Duration),
    /// The node ends: at once, and the object stays.
    NodeEnds,
}

/// The pods of a node, each with its own task.
struct Pods {
    node: Arc<Node>,
    workers: HashMap<String, (watch::Sender<Option<Stop>>, JoinHandle<()>)>,
}

impl Pods {
    /// Lists and watches the pods bound to this node; comes back from every failure.
    async fn follow(&mut self) {
        loop {
            if let Err(error) = self.list_and_watch().await {
                eprintln!("stand-in-kubelet: {error:#}; asking again");
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn list_and_watch(&mut self) -> anyhow::Result<()> {
        register(&self.node).await?;
        let selector = format!("fieldSelector=spec.nodeName%3D{}", self.node.options.node_name);
        let list = self.node.client.get(&format!("/api/v1/pods?{selector}")).await?;
        let mut listed = Vec::new();
        for pod in list["items"].as_array().into_iter().flatten() {
            listed.push(pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned());
            self.seen(pod.clone());
        }
        let gone: Vec<String> = self.workers.keys().filter(|uid| !listed.contains(uid)).cloned().collect();
        gone.iter().for_each(|uid| self.stop(uid, Stop::Deleted(Duration::ZERO)));
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let path =
            format!("/api/v1/pods?watch=true&allowWatchBookmarks=true&{selector}&resourceVersion={version}");
        let mut watch = self.node.client.watch(&path).await?;
        while let Some(mut event) = watch.next().await? {
            let object = event["object"].take();
            match event["type"].as_str().unwrap_or_default() {
                "ADDED" | "MODIFIED" => self.seen(object),
                "DELETED" => {
                    let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
                    self.stop(&uid, Stop::Deleted(Duration::ZERO));
                }
                "ERROR" => {
                    bail!("the watch of pods failed: {}", object["message"].as_str().unwrap_or_default())
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn seen(&mut self, pod: Value) {
        self.workers.retain(|_, (_, task)| !task.is_finished());
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        if pod["metadata"]["deletionTimestamp"].is_string() {
            if self.workers.contains_key(&uid) {
                let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or(30);
                self.stop(&uid, Stop::Deleted(Duration::from_secs(grace)));
            } else {
                // Deleted before this node ever ran it: nothing is here to stop.
                tokio::spawn(pod::remove_object(self.node.client.clone(), pod));
            }
            return;
        }
        let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        if self.workers.contains_key(&uid) || ended {
            return;
        }
        let (stop, stopped) = watch::channel(None);
        let task = tokio::spawn(pod::run(self.node.clone(), pod, stopped));
        self.workers.insert(uid, (stop, task));
    }

    fn stop(&mut self, uid: &str, why: Stop) {
        if let Some((stop, _)) = self.workers.get(uid) {
            stop.send_if_modified(|known| {
                let news = known.is_none();
                *known = known.or(Some(why));
                news
            });
        }
    }

    async fn shut_down(self) {
        for (stop, _) in self.workers.values() {
            stop.send_replace(Some(Stop::NodeEnds));
        }
        for (_, task) in self.workers.into_values() {
            // A worker that panicked has left its things to the clean-up that follows.
            let _ = task.await;
        }
    }
}

/// Makes the Node object, ready.
async fn register(node: &Node) -> anyhow::Result<()> {
    let name = &node.options.node_name;
    let now = time::seconds(SystemTime::now());
    let condition = |kind: &str, status: &str, reason: &str, message: &str| json!({"type": kind, "status": status, "lastHeartbeatTime": now, "lastTransitionTime": now, "reason": reason, "message": message});
    let status = json!({
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        ],
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": name}],
        "nodeInfo": {
            "kubeletVersion": "v1.36.2+lastwords-stand-in", "containerRuntimeVersion": "runc://", "operatingSystem": "linux",
            "architecture": std::env::consts::ARCH, "osImage": "", "kernelVersion": kernel_release(), "machineID": "",
            "systemUUID": "", "bootID": "", "kubeProxyVersion": "",
        },
    });
    let object = json!({
        "kind": "Node", "apiVersion": "v1", "spec": {},
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}},
        "status": status,
    });
    match node.client.post("/api/v1/nodes", &object).await {
        Ok(_) => Ok(()),
        Err(error) if refused(&error) == Some(409) => node
            .client
            .patch(&format!("/api/v1/nodes/{name}/status"), &json!({"status": status}))
            .await
            .map(|_| ()),
        Err(error) => Err(error),
    }
}

fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}
