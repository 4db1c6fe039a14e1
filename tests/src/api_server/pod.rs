//! What a real server and scheduler add to a new pod.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::store::{Key, Store};
use super::write::{new_uid, random};
use crate::time;

/// Fills in the defaults of a pod and its first status.
///
/// # Errors
/// 422 when it has no containers, or one without a name.
pub(super) fn set_defaults(pod: &mut Value) -> Result<(), Failure> {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else {
        return Err(Failure::invalid("Pod is invalid: spec: Required value"));
    };
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("serviceAccountName", json!("default")),
        ("serviceAccount", json!("default")),
        ("securityContext", json!({})),
        ("schedulerName", json!("default-scheduler")),
        ("priority", json!(0)),
        ("enableServiceLinks", json!(true)),
        ("preemptionPolicy", json!("PreemptLowerPriority")),
    ] {
        spec.entry(field).or_insert(value);
    }
    for volume in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        for kind in ["secret", "configMap", "projected", "downwardAPI"] {
            if let Some(source) = volume.get_mut(kind).and_then(Value::as_object_mut) {
                source.entry("defaultMode").or_insert(json!(0o644));
            }
        }
    }
    let mut named = 0;
    for container in spec.get_mut("containers").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(container) = container.as_object_mut() else { continue };
        named += usize::from(container.get("name").is_some_and(Value::is_string));
        set_container_defaults(container);
    }
    if named == 0 || spec.get("containers").and_then(Value::as_array).is_none_or(|all| all.len() != named) {
        return Err(Failure::invalid("Pod is invalid: spec.containers: Required value: each needs a name"));
    }
    let status = json!({"phase": "Pending", "qosClass": qos_class(pod)});
    if let Some(fields) = pod.as_object_mut() {
        fields.insert("status".to_owned(), status);
    }
    Ok(())
}

fn set_container_defaults(container: &mut Map<String, Value>) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let latest = image.ends_with(":latest") || !image.rsplit('/').next().unwrap_or_default().contains(':');
    let pull = if latest { "Always" } else { "IfNotPresent" };
    for (field, value) in [
        ("imagePullPolicy", json!(pull)),
        ("terminationMessagePath", json!("/dev/termination-log")),
        ("terminationMessagePolicy", json!("File")),
        ("resources", json!({})),
    ] {
        container.entry(field).or_insert(value);
    }
    // A limit without a request is also the request.
    if let Some(resources) = container.get_mut("resources").and_then(Value::as_object_mut)
        && let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned()
    {
        let requests = resources.entry("requests").or_insert_with(|| json!({}));
        for (name, limit) in limits {
            if let Some(requests) = requests.as_object_mut() {
                requests.entry(name).or_insert(limit);
            }
        }
    }
}

/// Guaranteed, Burstable or BestEffort, by the containers' cpu and memory.
pub(super) fn qos_class(pod: &Value) -> &'static str {
    let empty = Vec::new();
    let containers = pod["spec"]["containers"].as_array().unwrap_or(&empty);
    let of = |container: &Value, kind: &str, name: &str| container["resources"][kind].get(name).cloned();
    let any = containers.iter().any(|c| {
        ["limits", "requests"]
            .iter()
            .any(|kind| ["cpu", "memory"].iter().any(|name| of(c, kind, name).is_some()))
    });
    let all = containers.iter().all(|c| {
        ["cpu", "memory"].iter().all(|name| {
            let limit = of(c, "limits", name);
            limit.is_some() && of(c, "requests", name).is_none_or(|request| Some(request) == limit)
        })
    });
    match (any, all && !containers.is_empty()) {
        (_, true) => "Guaranteed",
        (true, false) => "Burstable",
        (false, false) => "BestEffort",
    }
}

/// Binds waiting pods to the first node that fits, with the event a scheduler leaves, for as long as it runs.
pub(super) async fn schedule(store: Arc<Store>) {
    let mut latest = store.subscribe();
    loop {
        latest.mark_unchanged();
        bind_waiting(&store);
        if latest.changed().await.is_err() {
            return;
        }
    }
}

fn bind_waiting(store: &Store) {
    let (Ok((pods, _)), Ok((nodes, _))) = (store.list("pods", None), store.list("nodes", None)) else {
        return;
    };
    for (key, pod) in pods {
        let waiting =
            !pod["spec"]["nodeName"].is_string() && !pod["metadata"]["deletionTimestamp"].is_string();
        let fitting = || nodes.iter().find(|(_, node)| fits(&pod, node)).map(|(key, _)| key.1.clone());
        if let (true, Some(node)) = (waiting, if waiting { fitting() } else { None }) {
            bind(store, &key, &node);
        }
    }
}

fn fits(pod: &Value, node: &Value) -> bool {
    let wanted = pod["spec"]["nodeSelector"].as_object();
    node["spec"]["unschedulable"] != true
        && wanted.is_none_or(|wanted| {
            wanted.iter().all(|(label, value)| node["metadata"]["labels"].get(label) == Some(value))
        })
}

fn bind(store: &Store, key: &Key, node: &str) {
    let now = SystemTime::now();
    let bound = store.write("pods", key, |before| {
        let Some(before) = before else { return Ok(None) };
        let mut pod = before.clone();
        let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": time::seconds(now)});
        if let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) {
            spec.insert("nodeName".to_owned(), node.into());
        }
        if let Some(status) = pod.get_mut("status").and_then(Value::as_object_mut) {
            status.insert("conditions".to_owned(), json!([condition]));
        }
        Ok(Some(pod))
    });
    let Ok(Some(pod)) = bound else { return };
    let metadata = &pod["metadata"];
    let name = format!("{}.{:016x}", key.1, random());
    let event = json!({
        "kind": "Event", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": key.0, "uid": new_uid(), "creationTimestamp": time::seconds(now)},
        "involvedObject": {
            "kind": "Pod", "namespace": key.0, "name": key.1, "uid": metadata["uid"], "apiVersion": "v1",
            "resourceVersion": metadata["resourceVersion"],
        },
        "reason": "Scheduled", "message": format!("Successfully assigned {}/{} to {node}", key.0, key.1),
        "source": {}, "firstTimestamp": null, "lastTimestamp": null, "type": "Normal",
        "eventTime": time::microseconds(now), "action": "Binding",
        "reportingComponent": "default-scheduler", "reportingInstance": "default-scheduler-stand-in",
    });
    // A new random name is never refused.
    let _ = store.write("events", &(key.0.clone(), name), |_| Ok(Some(event)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(resources: Value) -> Value {
        json!({"spec": {"containers": [{"name": "app", "image": "localhost/busybox:1", "resources": resources}]}})
    }

    #[test]
    fn the_class_follows_the_resources() {
        let both = json!({"limits": {"memory": "64Mi", "cpu": "1"}});
        for (resources, class) in [
            (json!({}), "BestEffort"),
            (json!({"limits": {"memory": "64Mi"}}), "Burstable"),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
            (both, "Guaranteed"),
        ] {
            let mut pod = pod(resources);
            set_defaults(&mut pod).unwrap();
            assert_eq!(pod["status"]["qosClass"], class);
        }
    }

    #[test]
    fn a_limit_becomes_the_request_as_well() {
        let mut pod = pod(json!({"limits": {"memory": "64Mi"}}));
        set_defaults(&mut pod).unwrap();
        assert_eq!(pod["spec"]["containers"][0]["resources"]["requests"]["memory"], "64Mi");
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], "IfNotPresent");
    }

    #[test]
    fn a_pod_without_containers_is_refused() {
        assert_eq!(set_defaults(&mut json!({"spec": {"containers": []}})).unwrap_err().code, 422);
    }
}
