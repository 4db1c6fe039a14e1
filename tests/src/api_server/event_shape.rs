//! One event, two shapes: core/v1 and events.k8s.io/v1 name the same fields differently.

use serde_json::{Map, Value};

/// Field names: core/v1, events.k8s.io/v1.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// The stored (core/v1) form of an event sent to events.k8s.io.
pub(super) fn to_core(event: Value) -> Value {
    reshape(event, "v1", |name| RENAMED.iter().find(|(_, new)| *new == name).map(|(core, _)| *core))
}

/// The events.k8s.io form of a stored event.
pub(super) fn to_new(event: Value) -> Value {
    reshape(event, "events.k8s.io/v1", |name| {
        RENAMED.iter().find(|(core, _)| *core == name).map(|(_, new)| *new)
    })
}

fn reshape(event: Value, api_version: &str, other_name: impl Fn(&str) -> Option<&'static str>) -> Value {
    let Value::Object(fields) = event else { return event };
    let mut shaped: Map<String, Value> = fields
        .into_iter()
        .map(|(name, value)| (other_name(&name).map_or(name, str::to_owned), value))
        .collect();
    shaped.insert("apiVersion".to_owned(), api_version.into());
    Value::Object(shaped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn there_and_back() {
        let core = json!({
            "apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "a"}, "message": "m", "count": 3,
            "source": {"component": "kubelet"}, "reportingComponent": "kubelet", "type": "Warning",
        });
        let new = to_new(core.clone());
        assert_eq!(new["note"], "m");
        assert_eq!(new["regarding"]["name"], "a");
        assert_eq!(new["deprecatedCount"], 3);
        assert_eq!(to_core(new), core);
    }
}
