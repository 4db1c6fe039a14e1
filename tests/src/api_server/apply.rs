//! Server-side apply: which manager set which field, and so what goes when it is no longer among those that the manager applies.
//!
//! As in a real server, with two differences. A list is one field, owned as a whole: without schemas nobody knows by which keys its
//! items are told apart, and none of the lists that are applied here has a second writer. And objects have managers from their first
//! apply on, not from their creation.

use std::collections::BTreeSet;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::resource::Resource;
use crate::time;

/// The names that lead to a field.
type Path = Vec<String>;

/// Who writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manager<'a> {
    /// `fieldManager`, or the program's name out of its user agent.
    pub(super) name: &'a str,
    /// Whether it takes over fields that others own.
    pub(super) force: bool,
}

/// An object that was applied and is not there yet, with its manager.
pub(super) fn first(resource: &Resource, manager: Manager<'_>, mut object: Value) -> Value {
    let owned = fields(resource, &object);
    set_entry(resource, &mut object, manager.name, "Apply", owned);
    object
}

/// What is there after `applied` is applied to `before`.
///
/// # Errors
/// 409 when another manager owns one of its fields with another value, and this one does not insist.
pub(super) fn apply(
    resource: &Resource,
    name: &str,
    before: &Value,
    applied: &Value,
    manager: Manager<'_>,
) -> Result<Value, Failure> {
    let new = fields(resource, applied);
    // An empty map asks for a map, not for what is in it to go.
    let differs = |path: &&Path| match (at(before, path), at(applied, path)) {
        (Some(Value::Object(_)), Some(Value::Object(_))) => false,
        (there, wanted) => there != wanted,
    };
    let changed: BTreeSet<Path> = new.iter().filter(differs).cloned().collect();
    if !manager.force
        && let Some((other, path)) = owner_of_one(before, manager.name, &changed)
    {
        return Err(Failure::apply_conflict(resource, name, &other, &path.join(".")));
    }
    let mut after = before.clone();
    disown(&mut after, (manager.name, "Apply"), &changed);
    let old = owned_by(before, manager.name, "Apply");
    for path in old.difference(&new) {
        if owner_of_one(before, manager.name, &BTreeSet::from([path.clone()])).is_none() {
            remove(&mut after, path);
        }
    }
    for path in &new {
        match (at(&after, path), at(applied, path)) {
            (Some(Value::Object(_)), Some(Value::Object(_))) => {}
            (_, wanted) => set(&mut after, path, wanted.cloned().unwrap_or_default()),
        }
    }
    set_entry(resource, &mut after, manager.name, "Apply", new);
    Ok(after)
}

/// `after` with the managers of `before`, and what a write that is no apply changed in this manager's name.
pub(super) fn updated(resource: &Resource, before: &Value, mut after: Value, manager: &str) -> Value {
    let managers = before["metadata"].get("managedFields").cloned();
    if let Some(metadata) = after.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    let Some(managers) = managers else { return after };
    after["metadata"]["managedFields"] = managers;
    let changed: BTreeSet<Path> =
        fields(resource, &after).into_iter().filter(|path| at(before, path) != at(&after, path)).collect();
    if !changed.is_empty() {
        disown(&mut after, (manager, "Update"), &changed);
        let owned = owned_by(before, manager, "Update").union(&changed).cloned().collect();
        set_entry(resource, &mut after, manager, "Update", owned);
    }
    after
}

/// Every field that somebody may own: the leaves, lists as one.
fn fields(resource: &Resource, object: &Value) -> BTreeSet<Path> {
    const OWN: &[&str] = &[
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "generation",
        "managedFields",
        "name",
        "namespace",
        "resourceVersion",
        "uid",
    ];
    let mut found = BTreeSet::new();
    leaves(object, &mut Path::new(), &mut found);
    found.retain(|path| match path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] | ["apiVersion" | "kind", ..] | ["metadata"] => false,
        ["metadata", field, ..] => !OWN.contains(field),
        ["status", ..] => !resource.has_status,
        _ => true,
    });
    found
}

fn leaves(value: &Value, path: &mut Path, found: &mut BTreeSet<Path>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                path.push(name.clone());
                leaves(value, path, found);
                path.pop();
            }
        }
        // As in a real server, null is a field that is not there.
        Value::Null => {}
        _ => {
            found.insert(path.clone());
        }
    }
}

fn at<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, name| value.get(name))
}

fn set(object: &mut Value, path: &[String], value: Value) {
    match path.split_first() {
        None => *object = value,
        Some((name, rest)) => {
            if !object.is_object() {
                *object = json!({});
            }
            if let Some(fields) = object.as_object_mut() {
                set(fields.entry(name.clone()).or_insert(Value::Null), rest, value);
            }
        }
    }
}

/// Removes a field, and what it leaves empty.
fn remove(object: &mut Value, path: &[String]) {
    let (Some((name, rest)), Some(fields)) = (path.split_first(), object.as_object_mut()) else { return };
    if let Some(inner) = fields.get_mut(name)
        && !rest.is_empty()
    {
        remove(inner, rest);
    }
    if rest.is_empty() || fields.get(name).and_then(Value::as_object).is_some_and(Map::is_empty) {
        fields.remove(name);
    }
}

fn entries(object: &Value) -> impl Iterator<Item = &Value> {
    object["metadata"]["managedFields"].as_array().into_iter().flatten()
}

fn is_entry(entry: &Value, manager: &str, operation: &str) -> bool {
    entry["manager"] == manager && entry["operation"] == operation
}

fn owned_by(object: &Value, manager: &str, operation: &str) -> BTreeSet<Path> {
    entries(object).find(|entry| is_entry(entry, manager, operation)).map(owned).unwrap_or_default()
}

/// Another manager that owns one of these fields, or something in it, or what it lies in.
fn owner_of_one(object: &Value, manager: &str, paths: &BTreeSet<Path>) -> Option<(String, Path)> {
    entries(object).filter(|entry| !is_entry(entry, manager, "Apply")).find_map(|entry| {
        let theirs = owned(entry);
        let meets =
            |path: &&Path| theirs.iter().any(|other| other.starts_with(path) || path.starts_with(other));
        let path = paths.iter().find(meets)?;
        Some((entry["manager"].as_str().unwrap_or_default().to_owned(), path.clone()))
    })
}

/// Takes these fields from everybody but one manager.
fn disown(object: &mut Value, but: (&str, &str), paths: &BTreeSet<Path>) {
    let Some(all) = object["metadata"]["managedFields"].as_array_mut() else { return };
    for entry in all.iter_mut().filter(|entry| !is_entry(entry, but.0, but.1)) {
        let left: BTreeSet<Path> = owned(entry).difference(paths).cloned().collect();
        entry["fieldsV1"] = fields_v1(&left);
    }
    all.retain(|entry| entry["fieldsV1"].as_object().is_some_and(|fields| !fields.is_empty()));
}

fn owned(entry: &Value) -> BTreeSet<Path> {
    let mut found = BTreeSet::new();
    leaves(&entry["fieldsV1"], &mut Path::new(), &mut found);
    let name = |name: String| name.strip_prefix("f:").map(str::to_owned).unwrap_or(name);
    found
        .into_iter()
        .filter(|path| !path.is_empty())
        .map(|path| path.into_iter().map(name).collect())
        .collect()
}

/// The form that a real server keeps them in: `{"f:spec": {"f:replicas": {}}}`.
fn fields_v1(paths: &BTreeSet<Path>) -> Value {
    let mut tree = json!({});
    for path in paths {
        let path: Path = path.iter().map(|name| format!("f:{name}")).collect();
        set(&mut tree, &path, json!({}));
    }
    tree
}

/// Writes down what a manager owns; the time is of the last change to that.
fn set_entry(resource: &Resource, object: &mut Value, manager: &str, operation: &str, owned: BTreeSet<Path>) {
    let fields = fields_v1(&owned);
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let all = metadata.entry("managedFields").or_insert_with(|| json!([]));
    if !all.is_array() {
        *all = json!([]);
    }
    let Some(all) = all.as_array_mut() else { return };
    if all.iter().any(|entry| is_entry(entry, manager, operation) && entry["fieldsV1"] == fields) {
        return;
    }
    all.retain(|entry| !is_entry(entry, manager, operation));
    all.push(json!({
        "manager": manager, "operation": operation, "apiVersion": resource.api_version(),
        "time": time::seconds(SystemTime::now()), "fieldsType": "FieldsV1", "fieldsV1": fields,
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELM: Manager<'static> = Manager { name: "helm", force: false };

    fn resource() -> &'static Resource {
        Resource::find("", "v1", "configmaps").unwrap()
    }

    fn object(data: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
    }

    fn applied(before: &Value, data: Value, manager: Manager<'_>) -> Result<Value, Failure> {
        apply(resource(), "a", before, &object(data), manager)
    }

    #[test]
    fn what_is_no_longer_applied_goes_and_what_others_wrote_stays() {
        let there = first(resource(), HELM, object(json!({"one": "1", "two": "2"})));
        let mut written = there.clone();
        written["data"]["ca.crt"] = "theirs".into();
        let there = updated(resource(), &there, written, "aggregator");
        let there = applied(&there, json!({"one": "1", "three": "3"}), HELM).unwrap();
        assert_eq!(there["data"], json!({"one": "1", "three": "3", "ca.crt": "theirs"}));
        assert_eq!(owned_by(&there, "aggregator", "Update").len(), 1);
        let there = applied(&there, json!({}), HELM).unwrap();
        assert_eq!(there["data"], json!({"ca.crt": "theirs"}));
    }

    #[test]
    fn a_field_of_another_manager_is_taken_only_by_force() {
        let there = first(resource(), HELM, object(json!({"one": "1", "two": "2"})));
        let mut written = there.clone();
        written["data"]["one"] = "by hand".into();
        let there = updated(resource(), &there, written, "kubectl-edit");
        let refused = applied(&there, json!({"one": "1", "two": "2"}), HELM).unwrap_err();
        assert_eq!((refused.code, refused.reason), (409, "Conflict"));
        assert!(refused.message.contains("conflict with \"kubectl-edit\": data.one"), "{}", refused.message);
        let there = applied(&there, json!({"one": "1"}), Manager { force: true, ..HELM }).unwrap();
        assert_eq!(there["data"], json!({"one": "1"}));
        assert!(owned_by(&there, "kubectl-edit", "Update").is_empty());
    }

    #[test]
    fn applying_the_same_again_changes_nothing() {
        let there = first(resource(), HELM, object(json!({"one": "1"})));
        assert_eq!(applied(&there, json!({"one": "1"}), HELM).unwrap(), there);
    }
}
