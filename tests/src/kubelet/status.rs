//! What a pod's status says at each step of its containers' lives.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::image::image_id;
use super::oci;
use crate::time::seconds;

/// What cgroup v1 reports where nothing is limited, as the recorded kubelet passed it on.
const UNLIMITED_V1: &str = "9007199254740988Ki";

/// The end of one run of a container.
#[derive(Debug, Clone)]
pub(super) struct Terminated {
    /// Exit code; 128 and the signal for one.
    pub(super) exit_code: i32,
    /// `Error`, `Completed`, `OOMKilled` or `StartError`.
    pub(super) reason: &'static str,
    /// The termination message, or why it could not be started.
    pub(super) message: Option<String>,
    /// When it began; the epoch when it never did.
    pub(super) started: SystemTime,
    /// When it ended.
    pub(super) finished: SystemTime,
    /// The container's id, 64 hexadecimal digits.
    pub(super) id: String,
}

/// The present state of a container.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// Not running, and why.
    Waiting(&'static str, Option<String>),
    /// Running since.
    Running(SystemTime),
    /// Ended and not started again.
    Terminated(Terminated),
}

/// One container of the pod.
#[derive(Debug)]
pub(super) struct Container {
    /// Its part of the pod spec.
    pub(super) spec: Value,
    /// The present.
    pub(super) state: State,
    /// The end of the run before.
    pub(super) last: Option<Terminated>,
    /// Id of the newest run; `None` before the first.
    pub(super) id: Option<String>,
    /// Runs before the newest one.
    pub(super) restarts: u64,
}

/// A pod as this node sees it.
#[derive(Debug)]
pub(super) struct Pod {
    /// The object as it was bound.
    pub(super) object: Value,
    /// When this node saw it first.
    pub(super) start: SystemTime,
    /// Whether its sandbox is up.
    pub(super) sandbox_ready: bool,
    /// True on cgroup v2 alone.
    pub(super) unified: bool,
    /// The containers in spec order.
    pub(super) containers: Vec<Container>,
    conditions: BTreeMap<&'static str, (bool, String)>,
}

impl Pod {
    /// A pod whose containers are still to be created.
    pub(super) fn new(object: Value, start: SystemTime, unified: bool) -> Pod {
        let containers = object["spec"]["containers"].as_array().cloned().unwrap_or_default();
        let containers = containers.into_iter().map(|spec| Container {
            spec,
            state: State::Waiting("ContainerCreating", None),
            last: None,
            id: None,
            restarts: 0,
        });
        let containers = containers.collect();
        Pod { object, start, sandbox_ready: false, unified, containers, conditions: BTreeMap::new() }
    }

    /// The phase: Pending until every container has run at least once.
    pub(super) fn phase(&self) -> &'static str {
        let ran = |container: &Container| {
            !matches!(container.state, State::Waiting(..)) || container.last.is_some()
        };
        if !self.containers.iter().all(ran) {
            return "Pending";
        }
        let ends: Option<Vec<i32>> = self
            .containers
            .iter()
            .map(|container| match &container.state {
                State::Terminated(end) if !self.restarts_after(end.exit_code) => Some(end.exit_code),
                _ => None,
            })
            .collect();
        match ends {
            None => "Running",
            Some(codes) if codes.iter().all(|code| *code == 0) => "Succeeded",
            Some(_) => "Failed",
        }
    }

    /// Whether a container that ended with this code is started again.
    pub(super) fn restarts_after(&self, exit_code: i32) -> bool {
        match self.object["spec"]["restartPolicy"].as_str() {
            Some("Never") => false,
            Some("OnFailure") => exit_code != 0,
            _ => true,
        }
    }

    /// The whole status as it stands at `now`.
    pub(super) fn status(&mut self, now: SystemTime) -> Value {
        let phase = self.phase();
        let unready: Vec<&str> = self
            .containers
            .iter()
            .filter(|container| !matches!(container.state, State::Running(_)))
            .filter_map(|container| container.spec["name"].as_str())
            .collect();
        let why = if unready.is_empty() {
            None
        } else if phase == "Succeeded" {
            Some(("PodCompleted", None))
        } else {
            Some((
                "ContainersNotReady",
                Some(format!("containers with unready status: [{}]", unready.join(" "))),
            ))
        };
        let ready = unready.is_empty();
        let conditions = [
            ("PodReadyToStartContainers", self.sandbox_ready, &None),
            ("Initialized", true, &None),
            ("Ready", ready, &why),
            ("ContainersReady", ready, &why),
            ("PodScheduled", true, &None),
        ];
        let conditions: Vec<Value> =
            conditions.into_iter().map(|(kind, holds, why)| self.condition(kind, holds, why, now)).collect();
        let statuses: Vec<Value> =
            self.containers.iter().map(|container| self.container_status(container)).collect();
        let mut status = json!({
            "observedGeneration": 1, "phase": phase, "conditions": conditions,
            "hostIP": "127.0.0.1", "hostIPs": [{"ip": "127.0.0.1"}], "startTime": seconds(self.start),
            "containerStatuses": statuses, "qosClass": self.object["status"]["qosClass"],
            "resources": self.resources(),
        });
        // The pod's network has a loopback only, so there is no address to tell, unless it is the host's own.
        if let (true, Some(fields)) = (self.object["spec"]["hostNetwork"] == true, status.as_object_mut()) {
            fields.insert("podIP".to_owned(), "127.0.0.1".into());
            fields.insert("podIPs".to_owned(), json!([{"ip": "127.0.0.1"}]));
        }
        status
    }

    fn condition(
        &mut self,
        kind: &'static str,
        holds: bool,
        why: &Option<(&'static str, Option<String>)>,
        now: SystemTime,
    ) -> Value {
        let (known, since) = self.conditions.entry(kind).or_insert_with(|| (holds, seconds(now)));
        if *known != holds {
            (*known, *since) = (holds, seconds(now));
        }
        let mut condition = json!({
            "type": kind, "observedGeneration": 1, "status": if holds { "True" } else { "False" },
            "lastProbeTime": null, "lastTransitionTime": since,
        });
        if let (Some((reason, message)), Some(fields)) = (why, condition.as_object_mut()) {
            fields.insert("reason".to_owned(), (*reason).into());
            if let Some(message) = message {
                fields.insert("message".to_owned(), message.as_str().into());
            }
        }
        condition
    }

    fn container_status(&self, container: &Container) -> Value {
        let spec = &container.spec;
        let running = matches!(container.state, State::Running(_));
        let image = spec["image"].as_str().unwrap_or_default();
        let mut status = json!({
            "name": spec["name"], "state": state(&container.state),
            "lastState": container.last.as_ref().map_or(json!({}), |end| json!({"terminated": terminated(end)})),
            "ready": running, "restartCount": container.restarts, "image": image,
            "imageID": if container.id.is_some() { image_id(image) } else { String::new() }, "started": running,
        });
        let Some(fields) = status.as_object_mut() else { return status };
        let mounts = volume_mounts(spec);
        if !mounts.is_empty() {
            fields.insert("volumeMounts".to_owned(), mounts.into());
        }
        let Some(id) = &container.id else { return status };
        fields.insert("containerID".to_owned(), format!("containerd://{id}").into());
        fields.insert("resources".to_owned(), spec["resources"].clone());
        if let Some(requests) = spec["resources"].get("requests") {
            fields.insert("allocatedResources".to_owned(), requests.clone());
        }
        let user = oci::user(&self.object, spec);
        let linux = json!({"uid": user.uid, "gid": user.gid, "supplementalGroups": user.groups});
        fields.insert("user".to_owned(), json!({"linux": linux}));
        status
    }

    fn resources(&self) -> Value {
        let mut sum = Map::new();
        for kind in ["limits", "requests"] {
            // One container alone keeps the words in which it was written.
            if let [only] = self.containers.as_slice()
                && let Some(resources) = only.spec["resources"].get(kind)
            {
                sum.insert(kind.to_owned(), resources.clone());
            }
        }
        let restarted = self.containers.iter().any(|container| container.restarts > 0);
        if sum.is_empty() && self.containers.len() == 1 && restarted && !self.unified {
            sum.insert("limits".to_owned(), json!({"memory": UNLIMITED_V1}));
        }
        Value::Object(sum)
    }
}

fn state(state: &State) -> Value {
    match state {
        State::Waiting(reason, None) => json!({"waiting": {"reason": reason}}),
        State::Waiting(reason, Some(message)) => json!({"waiting": {"reason": reason, "message": message}}),
        State::Running(since) => json!({"running": {"startedAt": seconds(*since)}}),
        State::Terminated(end) => json!({"terminated": terminated(end)}),
    }
}

fn terminated(end: &Terminated) -> Value {
    let mut told = json!({
        "exitCode": end.exit_code, "reason": end.reason, "startedAt": seconds(end.started),
        "finishedAt": seconds(end.finished), "containerID": format!("containerd://{}", end.id),
    });
    if let (Some(message), Some(fields)) = (&end.message, told.as_object_mut()) {
        fields.insert("message".to_owned(), message.as_str().into());
    }
    told
}

fn volume_mounts(spec: &Value) -> Vec<Value> {
    let mounts = spec["volumeMounts"].as_array().into_iter().flatten();
    mounts
        .map(|mount| {
            let mut shown = json!({"name": mount["name"], "mountPath": mount["mountPath"]});
            if let (true, Some(fields)) = (mount["readOnly"] == true, shown.as_object_mut()) {
                fields.insert("readOnly".to_owned(), true.into());
                fields.insert("recursiveReadOnly".to_owned(), "Disabled".into());
            }
            shown
        })
        .collect()
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
