//! `/openapi/v3`: no schemas, but what Helm and kubectl look for before they send an object: whether the server checks fields itself
//! (`fieldValidation` of a PATCH), kind by kind.

use serde_json::{Map, Value, json};

use super::resource::{RESOURCES, Resource};

/// The groups that have a document, or one group's document; `None` for any other path.
pub(super) fn document(path: &str) -> Option<Value> {
    match path.strip_prefix("/openapi/v3")?.trim_matches('/') {
        "" => {
            let paths: Map<String, Value> = RESOURCES
                .iter()
                .map(|resource| {
                    let path = group_path(resource);
                    let address = json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash=stand-in")});
                    (path, address)
                })
                .collect();
            Some(json!({ "paths": paths }))
        }
        group => {
            let paths: Map<String, Value> = RESOURCES
                .iter()
                .filter(|resource| group_path(resource) == group)
                .map(|resource| (object_path(resource), json!({"patch": patch(resource)})))
                .collect();
            let info = json!({"title": "Kubernetes (stand-in)", "version": "v1.36.2"});
            (!paths.is_empty()).then(|| json!({"openapi": "3.0.0", "info": info, "paths": paths}))
        }
    }
}

/// `api/v1` or `apis/GROUP/v1`.
fn group_path(resource: &Resource) -> String {
    format!("{}/{}", if resource.group.is_empty() { "api" } else { "apis" }, resource.api_version())
}

fn object_path(resource: &Resource) -> String {
    let namespace = if resource.namespaced { "namespaces/{namespace}/" } else { "" };
    format!("/{}/{namespace}{}/{{name}}", group_path(resource), resource.plural)
}

fn patch(resource: &Resource) -> Value {
    let parameters: Vec<Value> = ["dryRun", "fieldManager", "fieldValidation", "force"]
        .into_iter()
        .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string"}}))
        .collect();
    let kind = json!({"group": resource.group, "version": resource.version, "kind": resource.kind});
    json!({
        "parameters": parameters, "responses": {}, "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": kind,
    })
}
