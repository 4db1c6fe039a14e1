//! Discovery: what kubectl asks before anything else, in the aggregated form and in the old one.

use serde_json::{Value, json};

use super::resource::{RESOURCES, Resource};

/// Media type of aggregated discovery, as kubectl asks for it and expects it back.
pub(super) const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

const VERBS: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];

/// The version that `/version` tells: that of the recorded cluster.
pub(super) fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "gitVersion": "v1.36.2+lastwords-stand-in", "gitCommit": "",
        "gitTreeState": "clean", "buildDate": "2026-11-22T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": "linux/amd64",
    })
}

/// `/api` (`core`) or `/apis` in the aggregated form.
pub(super) fn aggregated(core: bool) -> Value {
    let groups: Vec<Value> = groups()
        .into_iter()
        .filter(|group| group.is_empty() == core)
        .map(|group| {
            let resources: Vec<Value> = of_group(group).map(aggregated_resource).collect();
            json!({
                "metadata": {"name": group, "creationTimestamp": null},
                "versions": [{"version": "v1", "resources": resources, "freshness": "Current"}],
            })
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": groups})
}

fn aggregated_resource(resource: &Resource) -> Value {
    let kind = json!({"group": resource.group, "version": resource.version, "kind": resource.kind});
    let mut row = json!({
        "resource": resource.plural, "responseKind": kind, "singularResource": resource.singular(),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "verbs": VERBS, "shortNames": resource.short_names,
    });
    if let (true, Some(fields)) = (resource.has_status, row.as_object_mut()) {
        let status =
            json!([{"subresource": "status", "responseKind": kind, "verbs": ["get", "patch", "update"]}]);
        fields.insert("subresources".to_owned(), status);
    }
    row
}

/// `/api` in the old form.
pub(super) fn legacy_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// `/apis` in the old form.
pub(super) fn legacy_groups() -> Value {
    let groups: Vec<Value> = groups().into_iter().filter(|group| !group.is_empty()).map(group).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`.
pub(super) fn group(name: &str) -> Value {
    let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
    json!({"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": [version], "preferredVersion": version})
}

/// `/api/v1` or `/apis/GROUP/v1` in the old form; `None` for a group that is not served.
pub(super) fn legacy_resources(group: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for resource in of_group(group) {
        resources.push(json!({
            "name": resource.plural, "singularName": resource.singular(), "namespaced": resource.namespaced,
            "kind": resource.kind, "verbs": VERBS, "shortNames": resource.short_names,
        }));
        if resource.has_status {
            resources.push(json!({
                "name": format!("{}/status", resource.plural), "singularName": "",
                "namespaced": resource.namespaced, "kind": resource.kind, "verbs": ["get", "patch", "update"],
            }));
        }
    }
    let group_version = of_group(group).next()?.api_version();
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources,
    }))
}

fn groups() -> Vec<&'static str> {
    let mut groups: Vec<&str> = RESOURCES.iter().map(|resource| resource.group).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

fn of_group(group: &str) -> impl Iterator<Item = &'static Resource> {
    RESOURCES.iter().filter(move |resource| resource.group == group)
}
