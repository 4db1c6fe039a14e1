//! `as=Table`: the columns kubectl prints, computed by the server as a real one does.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::resource::Resource;
use crate::time::{human_age, parse};

/// Media type fragment that asks for a table.
pub(super) const AS_TABLE: &str = "as=Table";

/// What a table row carries of the object itself (`includeObject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Include {
    /// `None`.
    Nothing,
    /// `Metadata`, the default.
    Metadata,
    /// `Object`.
    Object,
}

/// One column: its name, and whether only `-o wide` shows it.
type Column = (&'static str, bool);

/// A table of `objects` (in the form they are served). Without `with_columns` (the second and later lines of a watch)
/// the definitions are left out.
pub(super) fn table(
    resource: &Resource,
    objects: &[Value],
    list_metadata: Value,
    include: Include,
    with_columns: bool,
    now: SystemTime,
) -> Value {
    let (columns, cells) = printer(resource);
    let rows: Vec<Value> = objects.iter().map(|object| row(object, cells(object, now), include)).collect();
    let definitions: Vec<Value> = columns
        .iter()
        .map(|(name, wide)| {
            let format = if *name == "Name" { "name" } else { "" };
            json!({"name": name, "type": "string", "format": format, "description": "", "priority": i32::from(*wide)})
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": list_metadata,
        "columnDefinitions": if with_columns { Value::Array(definitions) } else { Value::Null }, "rows": rows,
    })
}

fn row(object: &Value, cells: Vec<Value>, include: Include) -> Value {
    match include {
        Include::Nothing => json!({"cells": cells}),
        Include::Object => json!({"cells": cells, "object": object}),
        Include::Metadata => json!({
            "cells": cells,
            "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]},
        }),
    }
}

type Cells = fn(&Value, SystemTime) -> Vec<Value>;

fn printer(resource: &Resource) -> (&'static [Column], Cells) {
    match resource.plural {
        "pods" => (
            &[
                ("Name", false),
                ("Ready", false),
                ("Status", false),
                ("Restarts", false),
                ("Age", false),
                ("IP", true),
                ("Node", true),
                ("Nominated Node", true),
                ("Readiness Gates", true),
            ],
            pod,
        ),
        "events" => (
            &[
                ("Last Seen", false),
                ("Type", false),
                ("Reason", false),
                ("Object", false),
                ("Subobject", true),
                ("Source", true),
                ("Message", false),
                ("First Seen", true),
                ("Count", true),
                ("Name", true),
            ],
            event,
        ),
        "nodes" => (
            &[("Name", false), ("Status", false), ("Roles", false), ("Age", false), ("Version", false)],
            node,
        ),
        "namespaces" => (&[("Name", false), ("Status", false), ("Age", false)], namespace),
        "deployments" => (
            &[("Name", false), ("Ready", false), ("Up-to-date", false), ("Available", false), ("Age", false)],
            deployment,
        ),
        "replicasets" => (
            &[("Name", false), ("Desired", false), ("Current", false), ("Ready", false), ("Age", false)],
            replica_set,
        ),
        _ => (&[("Name", false), ("Age", false)], |object, now| vec![name(object), age(object, now)]),
    }
}

fn name(object: &Value) -> Value {
    object["metadata"]["name"].clone()
}

fn age(object: &Value, now: SystemTime) -> Value {
    since(&object["metadata"]["creationTimestamp"], now)
}

fn since(time: &Value, now: SystemTime) -> Value {
    let text = match time.as_str().and_then(parse) {
        // A clock that stands behind the object's shows 0s, never a failure.
        Some(time) => human_age(now.duration_since(time).unwrap_or(Duration::ZERO)),
        None => "<unknown>".to_owned(),
    };
    text.into()
}

fn number(value: &Value) -> String {
    value.as_i64().unwrap_or(0).to_string()
}

fn or_none(value: &Value) -> Value {
    value.as_str().filter(|text| !text.is_empty()).unwrap_or("<none>").into()
}

fn pod(object: &Value, now: SystemTime) -> Vec<Value> {
    let empty = Vec::new();
    let statuses = object["status"]["containerStatuses"].as_array().unwrap_or(&empty);
    let total = object["spec"]["containers"].as_array().map_or(0, Vec::len);
    let ready = statuses.iter().filter(|status| status["ready"] == true).count();
    let restarts: i64 = statuses.iter().filter_map(|status| status["restartCount"].as_i64()).sum();
    let last_end = statuses
        .iter()
        .filter_map(|status| parse(status["lastState"]["terminated"]["finishedAt"].as_str()?))
        .max();
    let restarts = match last_end {
        Some(end) if restarts > 0 => {
            format!("{restarts} ({} ago)", human_age(now.duration_since(end).unwrap_or(Duration::ZERO)))
        }
        _ => restarts.to_string(),
    };
    vec![
        name(object),
        format!("{ready}/{total}").into(),
        pod_status(object, statuses).into(),
        restarts.into(),
        age(object, now),
        or_none(&object["status"]["podIP"]),
        or_none(&object["spec"]["nodeName"]),
        or_none(&object["status"]["nominatedNodeName"]),
        "<none>".into(),
    ]
}

/// The STATUS column: the phase, unless the pod or one of its containers has a better word.
fn pod_status(object: &Value, statuses: &[Value]) -> String {
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let status = &object["status"];
    let mut reason =
        text(&status["reason"]).or_else(|| text(&status["phase"])).unwrap_or_else(|| "Unknown".to_owned());
    let mut running = false;
    // Last container first, so that the first one has the last word.
    for container in statuses.iter().rev() {
        let (waiting, terminated) = (&container["state"]["waiting"], &container["state"]["terminated"]);
        if let Some(why) = text(&waiting["reason"]) {
            reason = why;
        } else if let Some(why) = text(&terminated["reason"]) {
            reason = why;
        } else if terminated.is_object() {
            reason = match terminated["signal"].as_i64() {
                Some(signal) if signal != 0 => format!("Signal:{signal}"),
                _ => format!("ExitCode:{}", number(&terminated["exitCode"])),
            };
        } else if container["ready"] == true && container["state"]["running"].is_object() {
            running = true;
        }
    }
    if reason == "Completed" && running {
        let is_ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
        let ready = status["conditions"].as_array().is_some_and(|all| all.iter().any(is_ready));
        reason = if ready { "Running" } else { "NotReady" }.to_owned();
    }
    if object["metadata"]["deletionTimestamp"].is_string()
        && !matches!(reason.as_str(), "Succeeded" | "Failed")
    {
        reason = "Terminating".to_owned();
    }
    reason
}

fn event(object: &Value, now: SystemTime) -> Vec<Value> {
    let either = |core: &str, new: &str| {
        if object[core].is_null() { object[new].clone() } else { object[core].clone() }
    };
    let about = either("involvedObject", "regarding");
    let source = either("source", "deprecatedSource");
    let first = either("firstTimestamp", "deprecatedFirstTimestamp");
    let last = either("lastTimestamp", "deprecatedLastTimestamp");
    let time = |stamp: &Value| since(if stamp.is_null() { &object["eventTime"] } else { stamp }, now);
    let part = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let from = [part(&source["component"]), part(&source["host"])];
    let from: Vec<&str> = from.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
    let component = either("reportingComponent", "reportingController");
    vec![
        time(&last),
        object["type"].clone(),
        object["reason"].clone(),
        format!("{}/{}", part(&about["kind"]).to_lowercase(), part(&about["name"])).into(),
        part(&about["fieldPath"]).into(),
        if from.is_empty() { part(&component).into() } else { from.join(", ").into() },
        part(&either("message", "note")).trim().into(),
        time(&first),
        either("count", "deprecatedCount").as_i64().unwrap_or(1).to_string().into(),
        name(object),
    ]
}

fn node(object: &Value, now: SystemTime) -> Vec<Value> {
    let is_ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    let ready = object["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(is_ready));
    let status = if ready { "Ready" } else { "NotReady" };
    let version = object["status"]["nodeInfo"]["kubeletVersion"].as_str().unwrap_or_default();
    vec![name(object), status.into(), "<none>".into(), age(object, now), version.into()]
}

fn namespace(object: &Value, now: SystemTime) -> Vec<Value> {
    vec![name(object), object["status"]["phase"].clone(), age(object, now)]
}

fn deployment(object: &Value, now: SystemTime) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    vec![
        name(object),
        format!("{}/{}", number(&status["readyReplicas"]), number(&spec["replicas"])).into(),
        number(&status["updatedReplicas"]).into(),
        number(&status["availableReplicas"]).into(),
        age(object, now),
    ]
}

fn replica_set(object: &Value, now: SystemTime) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    vec![
        name(object),
        number(&spec["replicas"]).into(),
        number(&status["replicas"]).into(),
        number(&status["readyReplicas"]).into(),
        age(object, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(state: Value, last: Value) -> Vec<Value> {
        let object = json!({
            "metadata": {"name": "api", "creationTimestamp": "2026-11-22T09:10:33Z"},
            "spec": {"containers": [{"name": "app"}], "nodeName": "node1"},
            "status": {"phase": "Running", "containerStatuses": [
                {"name": "app", "ready": false, "restartCount": 2, "state": state, "lastState": last}]},
        });
        pod(&object, parse("2026-11-22T09:12:33Z").unwrap())
    }

    #[test]
    fn a_crash_loop_reads_as_kubectl_users_know_it() {
        let row = cells(
            json!({"waiting": {"reason": "CrashLoopBackOff"}}),
            json!({"terminated": {"exitCode": 1, "finishedAt": "2026-11-22T09:12:21Z"}}),
        );
        assert_eq!(row[1..5], ["0/1", "CrashLoopBackOff", "2 (12s ago)", "2m"].map(Value::from));
        assert_eq!(row[6], "node1");
    }

    #[test]
    fn terminated_states_use_their_reason_or_code() {
        assert_eq!(
            cells(json!({"terminated": {"reason": "OOMKilled", "exitCode": 137}}), json!({}))[2],
            "OOMKilled"
        );
        assert_eq!(cells(json!({"terminated": {"exitCode": 3}}), json!({}))[2], "ExitCode:3");
    }
}
