//! GET: one object, a list with its pages, and the choice between JSON and a table.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::event_shape;
use super::failure::Failure;
use super::resource::{Resource, Target};
use super::selector::Selector;
use super::store::{Key, Store};
use super::table::{AS_TABLE, Include, table};
use super::{Query, flag};

/// How the client wants objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As they are.
    Json,
    /// As rows of a table.
    Table(Include),
}

impl Form {
    /// Takes the first form of the Accept header that can be served.
    ///
    /// # Errors
    /// 406 when there is none: protobuf alone, for one.
    pub(super) fn negotiate(headers: &HeaderMap, query: &Query) -> Result<Form, Failure> {
        let include = match query.get("includeObject").map(String::as_str) {
            Some("None") => Include::Nothing,
            Some("Object") => Include::Object,
            _ => Include::Metadata,
        };
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
        for media in accept.split(',').map(str::trim) {
            let kind = media.split(';').next().unwrap_or_default().trim();
            let json = matches!(kind, "application/json" | "application/*" | "*/*" | "");
            if json && media.contains(AS_TABLE) && media.contains("v=v1") && !media.contains("v=v1beta1") {
                return Ok(Form::Table(include));
            }
            if json && !media.contains("as=") {
                return Ok(Form::Json);
            }
        }
        Err(Failure::not_acceptable())
    }
}

/// An object in the shape of the API it was asked through.
pub(super) fn shaped(resource: &Resource, object: &Value) -> Value {
    if resource.is_new_event() { event_shape::to_new(object.clone()) } else { object.clone() }
}

/// GET of one object (or of its status, which shows the whole object too).
///
/// # Errors
/// 404.
pub(super) fn get(store: &Store, target: &Target, name: &str, form: Form) -> Result<Response, Failure> {
    let resource = target.resource;
    let key = (target.namespace.clone().unwrap_or_default(), name.to_owned());
    let object = store.get(resource.store, &key).ok_or_else(|| Failure::not_found(resource, name))?;
    let object = shaped(resource, &object);
    Ok(match form {
        Form::Json => Json(object).into_response(),
        Form::Table(include) => {
            let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
            Json(table(resource, &[object], metadata, include, true, SystemTime::now())).into_response()
        }
    })
}

/// GET of a collection, whole or by pages.
///
/// # Errors
/// 400 for parameters that do not go together, 410 for an old `continue`, 504 for a version of the future.
pub(super) fn list(store: &Store, target: &Target, query: &Query, form: Form) -> Result<Response, Failure> {
    let resource = target.resource;
    let selector = selector(resource, query)?;
    if flag(query, "sendInitialEvents") {
        return Err(Failure::invalid(
            "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
        ));
    }
    let asked = version_parameter(query)?;
    let from = query
        .get("continue")
        .filter(|token| !token.is_empty())
        .map(|token| Continue::parse(token))
        .transpose()?;
    if from.is_some() && asked.is_some() {
        let message = "specifying resource version is not allowed when using continue";
        return Err(Failure::bad_request(message));
    }
    let current = store.version();
    if let Some(asked) = asked.filter(|asked| *asked > current) {
        return Err(Failure::too_large(asked, current));
    }
    let exact = query.get("resourceVersionMatch").is_some_and(|rule| rule == "Exact");
    let at = from.as_ref().map(|from| from.version).or_else(|| asked.filter(|_| exact));
    let (objects, version) = store.list(resource.store, at)?;

    let mut matching: Vec<(Key, Arc<Value>)> = objects
        .into_iter()
        .filter(|(key, object)| in_namespace(target, key) && selector.matches(object))
        .filter(|(key, _)| from.as_ref().is_none_or(|from| *key > from.after))
        .collect();
    // A list "at any version" comes from the watch cache, which does not page.
    let limit = if asked == Some(0) { 0 } else { number(query, "limit")?.unwrap_or(0) };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if let (true, Some(metadata)) = (limit > 0 && matching.len() > limit, metadata.as_object_mut()) {
        let remaining = matching.len() - limit;
        matching.truncate(limit);
        if let Some((last, _)) = matching.last() {
            metadata.insert("continue".to_owned(), Continue { version, after: last.clone() }.token().into());
        }
        // With a selector a real server would have to read everything to know it, and does not.
        if selector.is_empty() {
            metadata.insert("remainingItemCount".to_owned(), remaining.into());
        }
    }
    let items: Vec<Value> = matching.iter().map(|(_, object)| shaped(resource, object)).collect();
    Ok(match form {
        Form::Table(include) => {
            Json(table(resource, &items, metadata, include, true, SystemTime::now())).into_response()
        }
        Form::Json => {
            let items: Vec<Value> = items.into_iter().map(without_kind).collect();
            let kind = format!("{}List", resource.kind);
            Json(json!({"kind": kind, "apiVersion": resource.api_version(), "metadata": metadata, "items": items}))
                .into_response()
        }
    })
}

/// Both selectors of a query.
///
/// # Errors
/// As [`Selector::parse`].
pub(super) fn selector(resource: &Resource, query: &Query) -> Result<Selector, Failure> {
    let text = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    Selector::parse(resource, text("fieldSelector"), text("labelSelector"))
}

/// Whether a key lies in the namespace asked for.
pub(super) fn in_namespace(target: &Target, key: &Key) -> bool {
    target.namespace.as_ref().is_none_or(|namespace| key.0 == *namespace)
}

/// The `resourceVersion` parameter; `None` when absent or empty.
///
/// # Errors
/// 400 when it is no number.
pub(super) fn version_parameter(query: &Query) -> Result<Option<u64>, Failure> {
    number(query, "resourceVersion")
}

/// A numeric parameter; `None` when absent or empty.
///
/// # Errors
/// 400 when it is no number.
pub(super) fn number(query: &Query, name: &str) -> Result<Option<u64>, Failure> {
    let Some(text) = query.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Failure::bad_request(format!("{name}: Invalid value: {text:?}")))
}

/// Items of a built-in list carry neither kind nor apiVersion.
fn without_kind(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    object
}

/// Where the next page begins: opaque to clients.
#[derive(Debug, PartialEq, Eq)]
struct Continue {
    version: u64,
    after: Key,
}

impl Continue {
    fn token(&self) -> String {
        format!("{}/{}/{}", self.version, self.after.0, self.after.1)
    }

    fn parse(token: &str) -> Result<Continue, Failure> {
        let mut parts = token.splitn(3, '/');
        let parsed = (|| {
            let version = parts.next()?.parse().ok()?;
            Some(Continue { version, after: (parts.next()?.to_owned(), parts.next()?.to_owned()) })
        })();
        parsed.ok_or_else(|| Failure::bad_request(format!("continue key is not valid: {token:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiate(accept: &str) -> Option<Form> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        Form::negotiate(&headers, &Query::new()).ok()
    }

    #[test]
    fn the_accept_header_of_each_client() {
        let kubectl_get = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(negotiate(kubectl_get), Some(Form::Table(Include::Metadata)));
        assert_eq!(negotiate("application/vnd.kubernetes.protobuf,application/json"), Some(Form::Json));
        assert_eq!(negotiate("application/json"), Some(Form::Json));
        assert_eq!(negotiate("application/vnd.kubernetes.protobuf"), None);
    }

    #[test]
    fn continue_tokens_survive_the_round_trip() {
        let from = Continue { version: 7, after: ("shop".to_owned(), "api-1".to_owned()) };
        assert_eq!(Continue::parse(&from.token()).unwrap(), from);
        assert_eq!(Continue::parse("nonsense").unwrap_err().code, 400);
    }
}
