//! One pod: its volumes, group and sandbox, its containers side by side, and its end.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::cgroup::PodGroup;
use super::events::Event;
use super::image::BUSYBOX_IMAGE;
use super::volumes::Volumes;
use super::{
    GROUP_RECORD, LOGS_RECORD, Node, Stop, container, oci, quantity, remove_directory, status, volumes,
};
use crate::containers::new_id;
use crate::http::{Client, refused};

/// Pause before a failed set-up or status is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// How long the last statuses may take to reach the server before the pod's object is removed.
const FLUSH: Duration = Duration::from_secs(5);

/// What a pod's containers share.
pub(super) struct Worker {
    pub(super) node: Arc<Node>,
    pub(super) directory: PathBuf,
    pub(super) logs: PathBuf,
    pub(super) uid: String,
    /// `NAME_NAMESPACE(UID)`, as the kubelet's messages name a pod.
    pub(super) full_name: String,
    pub(super) stop: watch::Receiver<Option<Stop>>,
    state: Mutex<status::Pod>,
    statuses: mpsc::UnboundedSender<Value>,
}

/// What is set up before the containers.
pub(super) struct Setup {
    pub(super) group: PodGroup,
    pub(super) volumes: Volumes,
    /// Host PID of the sandbox, and its id.
    pub(super) sandbox: Option<(i32, String)>,
}

/// Runs a pod until it is stopped, then removes everything it had here.
pub(super) async fn run(node: Arc<Node>, pod: Value, stop: watch::Receiver<Option<Stop>>) {
    let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default().to_owned();
    let (name, namespace, uid) = (text("name"), text("namespace"), text("uid"));
    let (statuses, writing) = write_statuses(node.client.clone(), &namespace, &name, &uid);
    let unified = node.hierarchies.is_unified();
    let worker = Arc::new(Worker {
        directory: node.options.state_directory.join("pods").join(&uid),
        logs: node.options.pod_logs_directory.join(format!("{namespace}_{name}_{uid}")),
        full_name: format!("{name}_{namespace}({uid})"),
        uid,
        state: Mutex::new(status::Pod::new(pod.clone(), SystemTime::now(), unified)),
        statuses,
        stop,
        node,
    });
    worker.publish();
    let mut stop = worker.stop.clone();
    let mut setup = None;
    if let Some(ready) = worker.set_up().await {
        let ready = Arc::new(ready);
        worker.update(|pod| pod.sandbox_ready = true);
        let count = worker.lock().containers.len();
        let containers: Vec<JoinHandle<()>> = (0..count)
            .map(|index| tokio::spawn(container::run(worker.clone(), ready.clone(), index)))
            .collect();
        for container in containers {
            let _ = container.await;
        }
        setup = Some(ready);
    }
    // A pod that has run to its end stays until it is deleted.
    let why = match stop.wait_for(Option::is_some).await {
        Ok(why) => *why,
        Err(_) => Some(Stop::NodeEnds),
    };
    if let Err(error) = worker.tear_down(setup).await {
        eprintln!("stand-in-kubelet: {}: {error:#}", worker.full_name);
    }
    let client = worker.node.client.clone();
    drop(worker);
    if let Some(Stop::Deleted(_)) = why {
        let _ = tokio::time::timeout(FLUSH, writing).await;
        remove_object(client, pod).await;
    } else {
        writing.abort();
    }
}

/// Removes a pod's object once nothing of it runs any more.
pub(super) async fn remove_object(client: Client, pod: Value) {
    let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default();
    let path = format!("/api/v1/namespaces/{}/pods/{}", text("namespace"), text("name"));
    let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": text("uid")}});
    match client.delete(&path, &options).await {
        Ok(_) => {}
        // Somebody else was faster, or it is another pod of the same name by now.
        Err(error) if matches!(refused(&error), Some(404 | 409)) => {}
        Err(error) => eprintln!("stand-in-kubelet: a pod's object was not removed: {error:#}"),
    }
}

/// Writes statuses in their order, each again and again until the server has taken it.
fn write_statuses(
    client: Client,
    namespace: &str,
    name: &str,
    uid: &str,
) -> (mpsc::UnboundedSender<Value>, JoinHandle<()>) {
    let (sender, mut statuses) = mpsc::unbounded_channel::<Value>();
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/status");
    let uid = uid.to_owned();
    let task = tokio::spawn(async move {
        while let Some(status) = statuses.recv().await {
            let patch = json!({"metadata": {"uid": uid}, "status": status});
            while let Err(error) = client.patch(&path, &patch).await {
                if matches!(refused(&error), Some(404 | 409)) {
                    return;
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    });
    (sender, task)
}

impl Worker {
    fn lock(&self) -> MutexGuard<'_, status::Pod> {
        // What panicked while it was held has only assigned fields.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the pod's state.
    pub(super) fn read<T>(&self, look: impl FnOnce(&status::Pod) -> T) -> T {
        look(&self.lock())
    }

    /// Changes the pod's state and tells the server.
    pub(super) fn update(&self, change: impl FnOnce(&mut status::Pod)) {
        change(&mut self.lock());
        self.publish();
    }

    fn publish(&self) {
        let status = self.lock().status(SystemTime::now());
        // The writer ends before this only when the pod's object is gone.
        let _ = self.statuses.send(status);
    }

    /// An event about the pod, or about one of its containers.
    pub(super) fn event(
        &self,
        container: Option<&str>,
        warning: bool,
        reason: &'static str,
        message: String,
    ) {
        let about = self.read(|pod| {
            let metadata = &pod.object["metadata"];
            let mut about = json!({
                "kind": "Pod", "apiVersion": "v1", "namespace": metadata["namespace"], "name": metadata["name"],
                "uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"],
            });
            if let (Some(container), Some(fields)) = (container, about.as_object_mut()) {
                fields.insert("fieldPath".to_owned(), format!("spec.containers{{{container}}}").into());
            }
            about
        });
        self.node.recorder.record(Event { about, warning, reason, message });
    }

    /// Waits for something, unless the pod is to stop: then false, at once.
    pub(super) async fn unless_stopped(&self, something: impl Future<Output = ()>) -> bool {
        let mut stop = self.stop.clone();
        tokio::select! {
            () = something => true,
            _ = stop.wait_for(Option::is_some) => false,
        }
    }

    /// Waits that long, unless the pod is to stop: then false, at once.
    pub(super) async fn pause(&self, time: Duration) -> bool {
        self.unless_stopped(tokio::time::sleep(time)).await
    }

    /// `None` when the pod is stopped before it can run.
    async fn set_up(&self) -> Option<Setup> {
        let pod = self.read(|pod| pod.object.clone());
        loop {
            match volumes::prepare(&self.node.client, &pod, &self.directory.join("volumes")).await {
                Ok(volumes) => match self.set_up_group_and_sandbox(&pod).await {
                    Ok((group, sandbox)) => return Some(Setup { group, volumes, sandbox }),
                    Err(error) => {
                        self.event(
                            None,
                            true,
                            "FailedCreatePodSandBox",
                            format!("Failed to create pod sandbox: {error:#}"),
                        );
                    }
                },
                Err(error) => self.event(None, true, "FailedMount", format!("{error:#}")),
            }
            if !self.pause(RETRY).await {
                return None;
            }
        }
    }

    async fn set_up_group_and_sandbox(
        &self,
        pod: &Value,
    ) -> anyhow::Result<(PodGroup, Option<(i32, String)>)> {
        let record = self.directory.join(GROUP_RECORD);
        // After a failed attempt the group is there and this node's own, as the record says.
        let group = match fs::read_to_string(&record).ok().and_then(|text| PodGroup::from_record(&text)) {
            Some(group) => group,
            None => {
                let qos = pod["status"]["qosClass"].as_str().unwrap_or("BestEffort");
                let hierarchies = &self.node.hierarchies;
                let group = PodGroup::of_pod(qos, &self.uid);
                // Recorded first: a kill between the two must not leave a group that nobody knows.
                fs::create_dir_all(&self.directory)?;
                fs::write(self.directory.join(LOGS_RECORD), self.logs.as_os_str().as_encoded_bytes())?;
                fs::write(&record, group.record())
                    .with_context(|| format!("{} cannot be written", record.display()))?;
                if let Err(error) = hierarchies.make(&group, memory_limit(pod)) {
                    fs::remove_file(&record)?;
                    return Err(error);
                }
                group
            }
        };
        let sandbox =
            if self.node.options.sandbox { Some(self.start_sandbox(pod, &group).await?) } else { None };
        Ok((group, sandbox))
    }

    async fn start_sandbox(&self, pod: &Value, group: &PodGroup) -> anyhow::Result<(i32, String)> {
        let id = new_id();
        let bundle = self.directory.join("sandbox");
        fs::create_dir_all(&bundle)?;
        let root = self.node.images.root(BUSYBOX_IMAGE).context("the node has no busybox image")?;
        let config = oci::sandbox(pod, root, group.of_container(&id));
        fs::write(bundle.join("config.json"), config.to_string())?;
        let (_, output) = io::pipe()?;
        let errors = output.try_clone()?;
        let runc = &self.node.runc;
        let started = match runc.create(&id, &bundle, output.into(), errors.into()).await {
            Ok(pid) => runc.start(&id, &bundle).await.map(|()| pid),
            Err(error) => Err(error),
        };
        match started {
            Ok(pid) => Ok((pid, id)),
            Err(error) => {
                let _ = runc.delete(&id, &bundle).await;
                Err(anyhow!(error))
            }
        }
    }

    async fn tear_down(&self, setup: Option<Arc<Setup>>) -> anyhow::Result<()> {
        if let Some((pid, id)) = setup.as_ref().and_then(|setup| setup.sandbox.as_ref()) {
            let ended = self.node.reaper.watch(*pid);
            // What runc leaves is killed with the group.
            let _ = self.node.runc.delete(id, &self.directory.join("sandbox")).await;
            let _ = tokio::time::timeout(FLUSH, ended).await;
        }
        let record = fs::read_to_string(self.directory.join(GROUP_RECORD)).unwrap_or_default();
        if let Some(group) = PodGroup::from_record(&record) {
            let hierarchies = self.node.hierarchies.clone();
            tokio::task::spawn_blocking(move || hierarchies.remove(&group)).await??;
        }
        remove_directory(&self.logs)?;
        remove_directory(&self.directory)?;
        Ok(())
    }
}

/// The limit of the pod's own group in bytes: the sum, when every container has a limit.
fn memory_limit(pod: &Value) -> Option<u64> {
    let containers = pod["spec"]["containers"].as_array()?;
    containers
        .iter()
        .map(|container| quantity::bytes(container["resources"]["limits"]["memory"].as_str()?))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pods_limit_is_the_sum_unless_one_container_has_none() {
        let limited = json!({"resources": {"limits": {"memory": "64Mi"}}});
        let pod = json!({"spec": {"containers": [limited, limited]}});
        assert_eq!(memory_limit(&pod), Some(128 << 20));
        assert_eq!(memory_limit(&json!({"spec": {"containers": [limited, {"resources": {}}]}})), None);
    }

    #[test]
    fn ids_have_the_form_of_containerds() {
        let id = new_id();
        assert_eq!(id.len(), 64);
        assert!(id.chars().all(|digit| digit.is_ascii_hexdigit()));
    }
}
