//! The events that tell of probes, `Unhealthy` (Warning) and `Killing` (Normal): a container killed by its liveness probe shows
//! nowhere else why. And `Failed`, which counts how often the kubelet tried to pull an image or to make a container, and `FailedMount`, which alone
//! tells what a container that is being created waits for.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use kube::Resource;
use lastwords_diagnosis::evidence::UnixNanos;
use serde::Deserialize;

use super::pod::{cut, nanos};
use crate::planned;
use crate::pods::ProbeEvent;

/// Reasons watched, each by a watch of its own: a field selector takes one reason, and all events of all pods would be many
/// times as much.
pub(super) const REASONS: [&str; 4] = ["Unhealthy", "Killing", "Failed", "FailedMount"];

/// An event as the API gives it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubernetesEvent {
    metadata: ObjectMeta,
    involved_object: InvolvedObject,
    reason: Option<String>,
    message: Option<String>,
    count: Option<u32>,
    first_timestamp: Option<Time>,
    last_timestamp: Option<Time>,
    event_time: Option<MicroTime>,
    series: Option<Series>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct InvolvedObject {
    kind: Option<String>,
    uid: Option<String>,
    field_path: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Series {
    count: Option<u32>,
    last_observed_time: Option<MicroTime>,
}

impl Resource for KubernetesEvent {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> std::borrow::Cow<'_, str> {
        "Event".into()
    }

    fn group((): &()) -> std::borrow::Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> std::borrow::Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> std::borrow::Cow<'_, str> {
        "events".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl KubernetesEvent {
    /// Reduced to what is kept. None when it tells of something else than a probe or a start.
    pub fn reduce(self) -> Option<ProbeEvent> {
        let reason = self.reason?;
        let message = self.message.unwrap_or_default();
        let wanted = match reason.as_str() {
            "Unhealthy" => true,
            // "Stopping container app" is the end of a pod, which its deletion tells better.
            "Killing" => message.contains("probe") || planned::tells_of_a_change(&message),
            "Failed" | "FailedMount" => true,
            _ => false,
        };
        if !wanted || self.involved_object.kind.as_deref() != Some("Pod") {
            return None;
        }
        let micro = |time: Option<&MicroTime>| {
            time.map_or(UnixNanos(0), |time| UnixNanos(i64::try_from(time.0.as_nanosecond()).unwrap_or(0)))
        };
        let at = micro(self.event_time.as_ref());
        let last = self.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
        Some(ProbeEvent {
            uid: self.metadata.uid.unwrap_or_default(),
            pod_uid: self.involved_object.uid?,
            container: self.involved_object.field_path.as_deref().and_then(container_of).unwrap_or_default(),
            reason,
            message: one_line(&cut(message)),
            count: self.series.as_ref().and_then(|series| series.count).or(self.count).unwrap_or(1),
            first: nanos(self.first_timestamp.as_ref()).max(at),
            last: nanos(self.last_timestamp.as_ref()).max(micro(last)).max(at),
        })
    }
}

/// `spec.containers{app}` → `app`.
fn container_of(field_path: &str) -> Option<String> {
    Some(field_path.split_once('{')?.1.strip_suffix('}')?.to_owned())
}

/// A failing probe's message carries what the container printed, so control characters are shown as `\xNN`.
fn one_line(message: &str) -> String {
    let mut line = String::with_capacity(message.len());
    for character in message.trim_end().chars() {
        if character.is_control() {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                line.push_str(&format!("\\x{byte:02x}"));
            }
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(json: serde_json::Value) -> Option<ProbeEvent> {
        serde_json::from_value::<KubernetesEvent>(json).unwrap().reduce()
    }

    #[test]
    fn a_liveness_probe_as_recorded() {
        let unhealthy = event(serde_json::json!({
            "metadata": {"name": "c08.1", "namespace": "base", "uid": "e1"},
            "involvedObject": {"kind": "Pod", "name": "c08", "namespace": "base", "uid": "6584d28e",
                "fieldPath": "spec.containers{app}"},
            "reason": "Unhealthy", "type": "Warning", "eventTime": null, "series": null, "count": 16,
            "message": "Liveness probe failed: dial tcp 10.244.0.74:8081: connect: connection refused",
            "firstTimestamp": "2026-11-22T09:10:39Z", "lastTimestamp": "2026-11-22T09:14:01Z",
        }))
        .unwrap();
        assert_eq!((unhealthy.container.as_str(), unhealthy.count), ("app", 16));
        assert_eq!((unhealthy.last.0 - unhealthy.first.0) / 1_000_000_000, 202);
    }

    #[test]
    fn what_tells_of_no_probe_is_left_out() {
        let killing = |message: &str| {
            event(serde_json::json!({
                "metadata": {"uid": "e2"}, "reason": "Killing", "message": message,
                "involvedObject": {"kind": "Pod", "uid": "p", "fieldPath": "spec.containers{app}"},
            }))
        };
        assert!(killing("Container app failed liveness probe, will be restarted").is_some());
        assert!(killing("Container app definition changed, will be restarted").is_some());
        assert!(killing("Container app resize requires restart").is_some());
        assert!(killing("Stopping container app").is_none());
        assert!(event(serde_json::json!({"metadata": {}, "reason": "BackOff", "involvedObject": {"kind": "Pod", "uid": "p"}})).is_none());
        assert!(event(serde_json::json!({"metadata": {}, "reason": "Unhealthy", "involvedObject": {"kind": "Node", "uid": "p"}})).is_none());
    }

    #[test]
    fn what_a_container_printed_stays_on_one_line() {
        assert_eq!(
            one_line("Liveness probe failed: a\nb\u{1b}[2J\n"),
            r"Liveness probe failed: a\x0ab\x1b[2J"
        );
    }
}
