//! One container of a pod: its runs one after the other, and the waits between them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::sync::oneshot;

use super::back_off::BackOff;
use super::oci::{self, ContainerConfig};
use super::pod::{Setup, Worker};
use super::status::{State, Terminated};
use super::{Stop, environment, files, log, runtime};
use crate::api_server::random;
use crate::containers::new_id;
use crate::time::go_duration;

/// How long output may still flow after a container's end: a process that outlived it may hold the pipe.
const OUTPUT_DRAIN: Duration = Duration::from_secs(2);

/// What became of one attempt to run the container.
enum Attempt {
    /// It never got as far as the runtime; the reason and the message of its waiting state.
    Refused(&'static str, String),
    /// The runtime could not start it.
    NotStarted(Terminated),
    /// It ran and ended.
    Ended(Terminated),
    /// The pod is to stop.
    Stopped,
}

struct Container {
    worker: Arc<Worker>,
    setup: Arc<Setup>,
    index: usize,
    name: String,
    spec: Value,
    pod: Value,
}

/// Runs container `index` until its pod stops or its restart policy lets it rest.
pub(super) async fn run(worker: Arc<Worker>, setup: Arc<Setup>, index: usize) {
    let found = worker.read(|pod| pod.containers.get(index).map(|c| (c.spec.clone(), pod.object.clone())));
    let Some((spec, pod)) = found else { return };
    let name = spec["name"].as_str().unwrap_or_default().to_owned();
    Container { worker, setup, index, name, spec, pod }.run().await;
}

impl Container {
    async fn run(&self) {
        let options = &self.worker.node.options;
        let mut back_off = BackOff::new(options.back_off_initial, options.back_off_cap);
        let mut runs: Vec<String> = Vec::new();
        let mut image_refusals = 0;
        loop {
            let id = new_id();
            match self.attempt(&id, runs.len()).await {
                Attempt::Stopped => return,
                Attempt::Refused(reason, message) => {
                    self.event(
                        true,
                        "Failed",
                        format!("Error: {}", if reason.ends_with("ConfigError") { &message } else { reason }),
                    );
                    // The second look at a missing image already waits.
                    let reason = match (reason, image_refusals) {
                        ("ErrImagePull", 1..) => "ImagePullBackOff",
                        _ => reason,
                    };
                    image_refusals += 1;
                    self.change(|container| container.state = State::Waiting(reason, Some(message.clone())));
                    if !self.worker.pause(jittered(options.back_off_initial)).await {
                        return;
                    }
                }
                Attempt::NotStarted(end) => {
                    let message = end.message.clone();
                    self.change(|container| {
                        new_run(container, &id, runs.len());
                        container.state = State::Waiting("RunContainerError", message);
                        container.last = Some(end.clone());
                    });
                    runs.push(id);
                    self.forget_old(&runs);
                    if !self.wait_for_restart(&mut back_off, &end, true).await {
                        return;
                    }
                }
                Attempt::Ended(end) => {
                    runs.push(id);
                    self.forget_old(&runs);
                    if !self.worker.read(|pod| pod.restarts_after(end.exit_code)) {
                        return;
                    }
                    if !self.wait_for_restart(&mut back_off, &end, false).await {
                        return;
                    }
                }
            }
        }
    }

    /// Waits as the kubelet does before it starts a container again; false when the pod stops meanwhile.
    async fn wait_for_restart(&self, back_off: &mut BackOff, end: &Terminated, at_once: bool) -> bool {
        let options = &self.worker.node.options;
        if !self.worker.pause(options.relist_period).await {
            return false;
        }
        let mut told = false;
        while let Some((wait, over)) = back_off.holding(end.finished, SystemTime::now()) {
            let full_name = &self.worker.full_name;
            let name = &self.name;
            if !told {
                let (pod, rest) = full_name.split_once('_').unwrap_or((full_name, ""));
                self.event(
                    true,
                    "BackOff",
                    format!("Back-off restarting failed container {name} in pod {pod}_{rest}"),
                );
            }
            // After a start error the status says at once what a crash's status says only at the next look.
            if told || at_once {
                self.back_off_status(wait, end);
            }
            told = true;
            let left = over.duration_since(SystemTime::now()).unwrap_or_default();
            if !self.worker.pause(jittered(left).min(jittered(options.sync_period))).await {
                return false;
            }
            if back_off.holding(end.finished, SystemTime::now()).is_none() {
                self.back_off_status(wait, end);
            }
        }
        back_off.restarted(end.finished, SystemTime::now());
        true
    }

    fn back_off_status(&self, wait: Duration, end: &Terminated) {
        let (name, pod) = (&self.name, &self.worker.full_name);
        let message = format!("back-off {} restarting failed container={name} pod={pod}", go_duration(wait));
        self.change(|container| {
            container.state = State::Waiting("CrashLoopBackOff", Some(message));
            container.last = Some(end.clone());
        });
    }

    async fn attempt(&self, id: &str, run: usize) -> Attempt {
        let node = &self.worker.node;
        let image = self.spec["image"].as_str().unwrap_or_default();
        let Some(root) = node.images.root(image) else { return self.no_image(image) };
        let message =
            format!("Container image {image:?} already present on machine and can be accessed by the pod");
        self.event(false, "Pulled", message);
        let environment = match environment::resolve(&node.client, &self.pod, &self.spec).await {
            Ok(environment) => environment,
            Err(error) => return Attempt::Refused("CreateContainerConfigError", format!("{error:#}")),
        };
        let command = environment::command_line(&self.spec, &environment);
        if command.is_empty() {
            let why = format!(
                "failed to generate container {id:?} spec: failed to generate spec: no command specified"
            );
            return Attempt::Refused("CreateContainerError", why);
        }
        let directory = self.directory(id);
        let prepared = runtime::mount_overlay(root, &directory).and_then(|root| {
            let config = oci::container(&ContainerConfig {
                pod: &self.pod,
                container: &self.spec,
                root: &root,
                cgroup: self.setup.group.of_container(id),
                command,
                environment,
                mounts: files::mounts(&self.pod, &self.spec, &self.setup.volumes, &directory)?,
                sandbox: self.setup.sandbox.as_ref().map(|(pid, _)| *pid),
                unified: node.hierarchies.is_unified(),
            });
            fs::write(directory.join("config.json"), config.to_string())
        });
        if let Err(error) = prepared {
            return Attempt::Refused(
                "CreateContainerError",
                format!("failed to create containerd container: {error}"),
            );
        }
        self.event(false, "Created", "Container created".to_owned());
        let attempt = self.create_and_run(id, run, &directory).await;
        runtime::unmount_overlay(&directory);
        attempt
    }

    async fn create_and_run(&self, id: &str, run: usize, directory: &Path) -> Attempt {
        let node = &self.worker.node;
        let log_path = self.worker.logs.join(&self.name).join(format!("{run}.log"));
        let pipes = log::LogFile::create(&log_path).and_then(|log| Ok((log, io::pipe()?, io::pipe()?)));
        let (log, (stdout, stdout_end), (stderr, stderr_end)) = match pipes {
            Ok(pipes) => pipes,
            Err(error) => return Attempt::Refused("CreateContainerError", format!("{error:#}")),
        };
        let together = run == 0 && node.gate.used;
        let created = node.runc.create(id, directory, stdout_end.into(), stderr_end.into()).await;
        if together {
            node.gate.created.one();
        }
        let pid = match created {
            Ok(pid) => pid,
            Err(error) => {
                if together {
                    node.gate.started.one();
                }
                return self.not_started(id, directory, &error).await;
            }
        };
        // From here on the pipes carry the container's own output; what runc itself said before is not the container's.
        let output = tokio::spawn(async move {
            tokio::join!(
                log::copy("stdout", stdout.into(), Some(log.clone())),
                log::copy("stderr", stderr.into(), Some(log))
            );
        });
        let exited = node.reaper.watch(pid);
        let begun = if together {
            self.worker.unless_stopped(node.gate.created.zero()).await;
            let begun = node.runc.release(id).await;
            node.gate.started.one();
            begun
        } else {
            node.runc.start(id, directory).await
        };
        if let Err(error) = begun {
            output.abort();
            return self.not_started(id, directory, &error).await;
        }
        let started = SystemTime::now();
        self.event(false, "Started", "Container started".to_owned());
        // One status for the new run and its state: a real kubelet never shows one without the other.
        self.change(|container| {
            new_run(container, id, run);
            container.state = State::Running(started);
        });
        let (exit_code, stopped) = self.wait_for_end(id, directory, exited).await;
        let finished = SystemTime::now();
        let out_of_memory = node.hierarchies.oom_kills(&self.setup.group, id) > 0;
        let end = Terminated {
            exit_code,
            reason: match exit_code {
                _ if out_of_memory => "OOMKilled",
                0 => "Completed",
                _ => "Error",
            },
            message: files::termination_message(directory),
            started,
            finished,
            id: id.to_owned(),
        };
        self.change(|container| container.state = State::Terminated(end.clone()));
        if together && !stopped {
            // Clearing up after the first must not slow the start of the last.
            self.worker.unless_stopped(node.gate.started.zero()).await;
        }
        if let Err(error) = node.runc.delete(id, directory).await {
            eprintln!("stand-in-kubelet: {} {}: {error}", self.worker.full_name, self.name);
        }
        let _ = tokio::time::timeout(OUTPUT_DRAIN, output).await;
        if stopped { Attempt::Stopped } else { Attempt::Ended(end) }
    }

    /// The exit code, and whether it was the pod's stop that ended it.
    async fn wait_for_end(
        &self,
        id: &str,
        directory: &Path,
        mut exited: oneshot::Receiver<i32>,
    ) -> (i32, bool) {
        let runc = &self.worker.node.runc;
        let mut stop = self.worker.stop.clone();
        // A reaper that is gone leaves no code; 255 is what containerd says then.
        let why = tokio::select! {
            code = &mut exited => return (code.unwrap_or(255), false),
            why = stop.wait_for(Option::is_some) => why.map_or(Some(Stop::NodeEnds), |why| *why),
        };
        if let Some(Stop::Deleted(grace)) = why.filter(|why| *why != Stop::Deleted(Duration::ZERO)) {
            self.event(false, "Killing", format!("Stopping container {}", self.name));
            // Already ended is what was wanted.
            let _ = runc.kill(id, directory, "TERM").await;
            if let Ok(code) = tokio::time::timeout(grace, &mut exited).await {
                return (code.unwrap_or(255), true);
            }
        }
        let _ = runc.kill(id, directory, "KILL").await;
        (exited.await.unwrap_or(255), true)
    }

    async fn not_started(&self, id: &str, directory: &Path, error: &str) -> Attempt {
        let _ = self.worker.node.runc.delete(id, directory).await;
        let message = format!(
            "failed to create containerd task: failed to create shim task: OCI runtime create failed: {error}"
        );
        self.event(true, "Failed", format!("Error: {message}"));
        Attempt::NotStarted(Terminated {
            exit_code: 128,
            reason: "StartError",
            message: Some(message),
            started: SystemTime::UNIX_EPOCH,
            finished: SystemTime::now(),
            id: id.to_owned(),
        })
    }

    fn no_image(&self, image: &str) -> Attempt {
        if self.spec["imagePullPolicy"] == "Never" {
            let message = format!("Container image {image:?} is not present with pull policy of Never");
            self.event(true, "ErrImageNeverPull", message.clone());
            return Attempt::Refused("ErrImageNeverPull", message);
        }
        self.event(false, "Pulling", format!("Pulling image {image:?}"));
        let why = format!(
            "failed to pull and unpack image {image:?}: failed to resolve image: the stand-in node has no registry"
        );
        self.event(true, "Failed", format!("Failed to pull image {image:?}: {why}"));
        Attempt::Refused("ErrImagePull", why)
    }

    /// The dead container before the last one is removed with its log, as the kubelet keeps one of each.
    fn forget_old(&self, runs: &[String]) {
        let Some(old) = runs.len().checked_sub(2) else { return };
        if let Some(id) = runs.get(old) {
            let _ = fs::remove_dir_all(self.directory(id));
        }
        if let Some(older) = old.checked_sub(1) {
            let _ = fs::remove_file(self.worker.logs.join(&self.name).join(format!("{older}.log")));
        }
    }

    fn directory(&self, id: &str) -> PathBuf {
        self.worker.directory.join("containers").join(id)
    }

    fn event(&self, warning: bool, reason: &'static str, message: String) {
        self.worker.event(Some(&self.name), warning, reason, message);
    }

    fn change(&self, change: impl FnOnce(&mut super::status::Container)) {
        self.worker.update(|pod| {
            if let Some(container) = pod.containers.get_mut(self.index) {
                change(container);
            }
        });
    }
}

/// The container's newest run; the end of the one before moves into `lastState`.
fn new_run(container: &mut super::status::Container, id: &str, run: usize) {
    container.id = Some(id.to_owned());
    container.restarts = u64::try_from(run).unwrap_or(u64::MAX);
    if let State::Terminated(end) = &container.state {
        container.last = Some(end.clone());
    }
}

/// Up to half as much again, so that pods do not move in step.
fn jittered(time: Duration) -> Duration {
    let share = f64::from(u32::try_from(random() & 0xffff).unwrap_or(0)) / f64::from(0x1_0000);
    time.mul_f64(1.0 + share / 2.0)
}
