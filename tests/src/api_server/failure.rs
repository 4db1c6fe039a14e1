//! Failures as the API server words them: a `Status` object with its HTTP code.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::access::Asked;
use super::resource::Resource;

/// A request that failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// HTTP code, also inside the object.
    pub code: u16,
    /// `NotFound`, `Expired`, …
    pub reason: &'static str,
    /// The sentence kubectl prints.
    pub message: String,
    details: Value,
}

impl Failure {
    fn new(code: u16, reason: &'static str, message: String) -> Self {
        Failure { code, reason, message, details: Value::Null }
    }

    /// 401: nobody knows who asks.
    pub(super) fn unauthorized() -> Self {
        Failure::new(401, "Unauthorized", "Unauthorized".to_owned())
    }

    /// 403: no rule lets them.
    pub(super) fn forbidden(user: &str, asked: &Asked<'_>) -> Self {
        let Asked { verb, group, resource, namespace, name } = asked;
        let place = match *namespace {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        let message = format!(
            "{resource} {name:?} is forbidden: User {user:?} cannot {verb} resource {resource:?} in API group {group:?} {place}"
        );
        Failure::new(403, "Forbidden", message)
    }

    /// 404 for an object.
    pub(super) fn not_found(resource: &Resource, name: &str) -> Self {
        Failure {
            details: json!({"name": name, "group": resource.group, "kind": resource.plural}),
            ..Failure::new(404, "NotFound", format!("{} {name:?} not found", resource.qualified()))
        }
    }

    /// 404 for a path.
    pub fn no_such_path() -> Self {
        Failure::new(404, "NotFound", "the server could not find the requested resource".to_owned())
    }

    /// 409: the name is taken.
    pub(super) fn already_exists(resource: &Resource, name: &str) -> Self {
        Failure::new(409, "AlreadyExists", format!("{} {name:?} already exists", resource.qualified()))
    }

    /// 409: somebody else wrote first, or a precondition does not hold.
    pub(super) fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", resource.qualified());
        Failure::new(409, "Conflict", message)
    }

    /// 409 for an applied field that another manager owns.
    pub(super) fn apply_conflict(resource: &Resource, name: &str, manager: &str, field: &str) -> Self {
        let message = format!(
            "Apply failed with 1 conflict: conflict with {manager:?}: {field} ({} {name:?})",
            resource.qualified()
        );
        Failure::new(409, "Conflict", message)
    }

    /// 410: the version asked for is older than what is kept. `oldest` is the oldest that could be served.
    pub fn expired(asked: u64, oldest: u64) -> Self {
        Failure::new(410, "Expired", format!("too old resource version: {asked} ({oldest})"))
    }

    /// 410 for the second and later pages of a list.
    pub fn continue_expired() -> Self {
        let message = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.";
        Failure::new(410, "Expired", message.to_owned())
    }

    /// 504: the version asked for has not happened yet.
    pub fn too_large(asked: u64, current: u64) -> Self {
        Failure::new(
            504,
            "Timeout",
            format!("Timeout: Too large resource version: {asked}, current: {current}"),
        )
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Failure::new(400, "BadRequest", message.into())
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Failure::new(405, "MethodNotAllowed", message.to_owned())
    }

    /// 406: only JSON is spoken.
    pub fn not_acceptable() -> Self {
        let message = "only the following media types are accepted: application/json";
        Failure::new(406, "NotAcceptable", message.to_owned())
    }

    /// 415: a kind of body or patch that is not understood.
    pub fn unsupported_body(kind: &str) -> Self {
        let message = format!("the body of the request was in an unknown format: {kind}");
        Failure::new(415, "UnsupportedMediaType", message)
    }

    /// 422.
    pub fn invalid(message: impl Into<String>) -> Self {
        Failure::new(422, "Invalid", message.into())
    }

    /// The `Status` object.
    pub fn object(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if let (false, Some(object)) = (self.details.is_null(), status.as_object_mut()) {
            object.insert("details".to_owned(), self.details.clone());
        }
        status
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (code, Json(self.object())).into_response()
    }
}
