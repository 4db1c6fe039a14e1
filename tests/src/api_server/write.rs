//! POST, PUT, PATCH and DELETE.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::apply::{self, Manager};
use super::deployment;
use super::event_shape;
use super::failure::Failure;
use super::merge::merge;
use super::pod;
use super::resource::{Resource, Target};
use super::store::{Key, Store};
use crate::time;

/// A version-4 UUID.
pub(crate) fn new_uid() -> String {
    let bits = random();
    let more = random();
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        bits >> 32,
        bits >> 16 & 0xffff,
        bits & 0xfff,
        0x8000 | more >> 48 & 0x3fff,
        more & 0xffff_ffff_ffff
    )
}

/// 64 random bits.
pub(crate) fn random() -> u64 {
    // Linux has had getrandom(2) since 3.17; without it the clock still tells names apart.
    getrandom::u64().unwrap_or_else(|_| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::from(now.subsec_nanos()) << 32 | now.as_secs() & 0xffff_ffff
    })
}

/// Creates an object and returns it.
///
/// # Errors
/// 400 for a body that does not fit the path, 404 for a missing namespace, 409 for a taken name.
pub(super) fn create(store: &Store, target: &Target, body: Value) -> Result<Value, Failure> {
    let resource = target.resource;
    let (key, object) = new_object(store, target, body)?;
    let object = deployment::completed(resource, object)?;
    let created = store.write(resource.store, &key, |before| match before {
        Some(_) => Err(Failure::already_exists(resource, &key.1)),
        None => Ok(Some(object)),
    })?;
    created.map(|object| object.as_ref().clone()).ok_or_else(Failure::no_such_path)
}

/// An object that is to be created, as a real server would complete it, and its key.
fn new_object(store: &Store, target: &Target, body: Value) -> Result<(Key, Value), Failure> {
    let resource = target.resource;
    let namespace = target.namespace.clone().unwrap_or_default();
    if resource.namespaced && target.namespace.is_none() {
        return Err(Failure::method_not_allowed());
    }
    if resource.namespaced && store.get("namespaces", &(String::new(), namespace.clone())).is_none() {
        let namespaces = Resource::find("", "v1", "namespaces").ok_or_else(Failure::no_such_path)?;
        return Err(Failure::not_found(namespaces, &namespace));
    }
    let mut object = stored_form(resource, body)?;
    let metadata = metadata_of(&mut object)?;
    if let Some(given) = metadata.get("namespace").and_then(Value::as_str).filter(|given| *given != namespace)
    {
        let message = format!(
            "the namespace of the provided object does not match the namespace sent on the request ({given:?}, {namespace:?})"
        );
        return Err(Failure::bad_request(message));
    }
    if resource.namespaced {
        metadata.insert("namespace".to_owned(), namespace.clone().into());
    }
    let name = match (text(metadata, "name"), text(metadata, "generateName")) {
        (Some(name), _) => name,
        (None, Some(prefix)) => format!("{prefix}{}", random_suffix()),
        (None, None) => {
            let message = format!(
                "{} \"\" is invalid: metadata.name: Required value: name or generateName is required",
                resource.kind
            );
            return Err(Failure::invalid(message));
        }
    };
    metadata.insert("name".to_owned(), name.clone().into());
    metadata.insert("uid".to_owned(), new_uid().into());
    metadata.insert("creationTimestamp".to_owned(), time::seconds(SystemTime::now()).into());
    metadata.remove("resourceVersion");
    metadata.remove("deletionTimestamp");
    if resource.has_status {
        metadata.insert("generation".to_owned(), 1.into());
    }
    match resource.plural {
        "pods" => pod::set_defaults(&mut object)?,
        "namespaces" => {
            if let Some(fields) = object.as_object_mut() {
                fields.insert("status".to_owned(), json!({"phase": "Active"}));
            }
        }
        _ => {}
    }
    Ok(((namespace, name), object))
}

/// Replaces an object, or only its status.
///
/// # Errors
/// 404; 409 when the body carries an older version.
pub(super) fn replace(
    store: &Store,
    target: &Target,
    name: &str,
    manager: Manager<'_>,
    body: Value,
) -> Result<Value, Failure> {
    let resource = target.resource;
    let body = stored_form(resource, body)?;
    modify(store, target, name, |before| {
        check_version(resource, name, before, &body)?;
        let after = merge_by_part(before, body, resource, &target.subresource);
        deployment::completed(resource, apply::updated(resource, before, after, manager.name))
    })
}

/// Patches an object, or only its status.
///
/// # Errors
/// 404, 409 as [`replace`]; 415 for a patch that is neither a merge patch, nor a strategic one, nor one to apply.
pub(super) fn patch(
    store: &Store,
    target: &Target,
    name: &str,
    kind: &str,
    manager: Manager<'_>,
    patch: Value,
) -> Result<Value, Failure> {
    let resource = target.resource;
    let strategic = match kind.split(';').next().unwrap_or_default().trim() {
        // Every client that was seen sends JSON, which is YAML too.
        "application/apply-patch+yaml" if target.subresource.is_empty() => {
            return applied(store, target, name, manager, patch);
        }
        "application/merge-patch+json" => false,
        "application/strategic-merge-patch+json" => true,
        other => return Err(Failure::unsupported_body(other)),
    };
    let patch = if resource.is_new_event() { event_shape::to_core(patch) } else { patch };
    modify(store, target, name, |before| {
        // By a precondition for whoever replaces, by validation for whoever patches.
        let uid = &patch["metadata"]["uid"];
        if uid.is_string() && *uid != before["metadata"]["uid"] {
            let message = format!(
                "{} {name:?} is invalid: metadata.uid: Invalid value: {uid}: field is immutable",
                resource.kind
            );
            return Err(Failure::invalid(message));
        }
        check_version(resource, name, before, &patch)?;
        let mut after = before.clone();
        merge(&mut after, patch, strategic);
        let after = merge_by_part(before, after, resource, &target.subresource);
        deployment::completed(resource, apply::updated(resource, before, after, manager.name))
    })
}

/// Server-side apply: makes the object, or gives it what the manager wants of it.
fn applied(
    store: &Store,
    target: &Target,
    name: &str,
    manager: Manager<'_>,
    mut body: Value,
) -> Result<Value, Failure> {
    let resource = target.resource;
    metadata_of(&mut body)?.insert("name".to_owned(), name.into());
    let body = stored_form(resource, body)?;
    let key: Key = (target.namespace.clone().unwrap_or_default(), name.to_owned());
    // Outside the step that writes, for it looks into the store itself.
    let (_, new) = new_object(store, target, body.clone())?;
    let after = store.write(resource.store, &key, |before| {
        let Some(before) = before else {
            return deployment::completed(resource, apply::first(resource, manager, new)).map(Some);
        };
        check_version(resource, name, before, &body)?;
        let after = apply::apply(resource, name, before, &body, manager)?;
        deployment::completed(resource, merge_by_part(before, after, resource, "")).map(Some)
    })?;
    after.map(|object| object.as_ref().clone()).ok_or_else(Failure::no_such_path)
}

/// Deletes an object, or begins a pod's grace period. Returns the object as it now is, or was last.
///
/// # Errors
/// 404; 409 when a precondition does not hold.
pub(super) fn delete(store: &Store, target: &Target, name: &str, options: &Value) -> Result<Value, Failure> {
    let resource = target.resource;
    let key = (target.namespace.clone().unwrap_or_default(), name.to_owned());
    let left = store.write(resource.store, &key, |before| {
        let before = before.ok_or_else(|| Failure::not_found(resource, name))?;
        for field in ["uid", "resourceVersion"] {
            let (wanted, found) = (&options["preconditions"][field], &before["metadata"][field]);
            if wanted.is_string() && wanted != found {
                let why = format!(
                    "Precondition failed: {field} in precondition: {wanted}, {field} in object meta: {found}"
                );
                return Err(Failure::conflict(resource, name, &why));
            }
        }
        match pod_grace(resource, before, options) {
            0 => Ok(None),
            grace => Ok(Some(terminating(before, grace))),
        }
    })?;
    left.map(|object| object.as_ref().clone()).ok_or_else(|| Failure::not_found(resource, name))
}

/// The grace period of a deletion in seconds; 0: at once, as for everything but a pod that a kubelet has.
fn pod_grace(resource: &Resource, object: &Value, options: &Value) -> i64 {
    let ended = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if resource.plural != "pods" || !object["spec"]["nodeName"].is_string() || ended {
        return 0;
    }
    let default = object["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    options["gracePeriodSeconds"].as_i64().unwrap_or(default).max(0)
}

fn terminating(before: &Value, grace: i64) -> Value {
    let mut after = before.clone();
    let present = before["metadata"]["deletionGracePeriodSeconds"].as_i64();
    // A second deletion can only shorten the wait.
    if present.is_some_and(|present| present <= grace) {
        return after;
    }
    if let Some(metadata) = after.get_mut("metadata").and_then(Value::as_object_mut) {
        let end = SystemTime::now() + Duration::from_secs(grace.unsigned_abs());
        metadata.insert("deletionTimestamp".to_owned(), time::seconds(end).into());
        metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
        bump_generation(metadata);
    }
    after
}

fn modify(
    store: &Store,
    target: &Target,
    name: &str,
    change: impl FnOnce(&Value) -> Result<Value, Failure>,
) -> Result<Value, Failure> {
    let resource = target.resource;
    let key: Key = (target.namespace.clone().unwrap_or_default(), name.to_owned());
    let after = store.write(resource.store, &key, |before| {
        let before = before.ok_or_else(|| Failure::not_found(resource, name))?;
        change(before).map(Some)
    })?;
    after.map(|object| object.as_ref().clone()).ok_or_else(|| Failure::not_found(resource, name))
}

/// What a write may change: through `/status` only the status, otherwise everything else.
fn merge_by_part(before: &Value, mut after: Value, resource: &Resource, subresource: &str) -> Value {
    if subresource == "status" {
        let mut kept = before.clone();
        if let Some(fields) = kept.as_object_mut() {
            fields.insert("status".to_owned(), after["status"].take());
        }
        return kept;
    }
    let spec_changed = before["spec"] != after["spec"];
    if let Some(fields) = after.as_object_mut() {
        if resource.has_status
            && let Some(status) = before.get("status")
        {
            fields.insert("status".to_owned(), status.clone());
        }
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            // The server's own fields: a client's are ignored.
            let own = ["name", "namespace", "uid", "creationTimestamp", "generation", "resourceVersion"];
            for field in own.into_iter().chain(["deletionTimestamp", "deletionGracePeriodSeconds"]) {
                match before["metadata"].get(field) {
                    Some(value) => metadata.insert(field.to_owned(), value.clone()),
                    None => metadata.remove(field),
                };
            }
            if spec_changed && resource.has_status {
                bump_generation(metadata);
            }
        }
    }
    after
}

fn bump_generation(metadata: &mut Map<String, Value>) {
    let generation = metadata.get("generation").and_then(Value::as_i64).unwrap_or(0);
    metadata.insert("generation".to_owned(), (generation + 1).into());
}

fn check_version(resource: &Resource, name: &str, before: &Value, sent: &Value) -> Result<(), Failure> {
    for field in ["resourceVersion", "uid"] {
        let sent = sent["metadata"][field].as_str().unwrap_or_default();
        if !sent.is_empty() && before["metadata"][field] != sent {
            let why =
                "the object has been modified; please apply your changes to the latest version and try again";
            return Err(Failure::conflict(resource, name, why));
        }
    }
    Ok(())
}

fn stored_form(resource: &Resource, mut body: Value) -> Result<Value, Failure> {
    let Some(fields) = body.as_object_mut() else {
        return Err(Failure::bad_request("the body is no object"));
    };
    let api_version = resource.api_version();
    for (field, expected) in [("kind", resource.kind), ("apiVersion", &api_version)] {
        match fields.get(field).and_then(Value::as_str) {
            Some(given) if !given.is_empty() && given != expected => {
                let message = format!(
                    "the {field} in the data ({given}) does not match the expected {field} ({expected})"
                );
                return Err(Failure::bad_request(message));
            }
            _ => fields.insert(field.to_owned(), expected.into()),
        };
    }
    Ok(if resource.is_new_event() { event_shape::to_core(body) } else { body })
}

fn metadata_of(object: &mut Value) -> Result<&mut Map<String, Value>, Failure> {
    let fields = object.as_object_mut().ok_or_else(|| Failure::bad_request("the body is no object"))?;
    let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
    metadata.as_object_mut().ok_or_else(|| Failure::bad_request("metadata is no object"))
}

fn text(fields: &Map<String, Value>, name: &str) -> Option<String> {
    fields.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Five characters without vowels and look-alikes, as a real server appends them.
fn random_suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut bits = random();
    let mut suffix = String::new();
    for _ in 0..5 {
        let at = usize::try_from(bits % ALPHABET.len() as u64).unwrap_or(0);
        suffix.extend(ALPHABET.get(at).map(|byte| char::from(*byte)));
        bits /= ALPHABET.len() as u64;
    }
    suffix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_look_like_uids_and_differ() {
        let (one, other) = (new_uid(), new_uid());
        assert_ne!(one, other);
        let lengths: Vec<usize> = one.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert!(one.split('-').nth(2).unwrap().starts_with('4'));
    }
}
