//! The part of the stand-in that knows who somebody is and what they may read, and keeps objects by their path.

use std::collections::HashMap;

use serde_json::{Value, json};

/// The audience of tokens for the API server itself.
pub(crate) const API: &str = "https://kubernetes.default.svc";

#[derive(Default)]
pub(super) struct Reviews {
    /// By token: its audience and its user.
    tokens: HashMap<String, (String, Value)>,
    /// User or group, and namespace; an empty one is all.
    rights: Vec<(String, String)>,
    /// By path.
    objects: HashMap<String, Value>,
    versions: u64,
}

impl Reviews {
    pub(super) fn token(&mut self, token: &str, audience: &str, user: Value) {
        self.tokens.insert(token.to_owned(), (audience.to_owned(), user));
    }

    pub(super) fn allow(&mut self, who: &str, namespace: &str) {
        self.rights.push((who.to_owned(), namespace.to_owned()));
    }

    pub(super) fn object(&self, path: &str) -> Option<Value> {
        self.objects.get(path).cloned()
    }

    /// Status and answer to one request; None when it is not of these.
    pub(super) fn answer(&mut self, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
        match (method, path) {
            ("POST", "/apis/authentication.k8s.io/v1/tokenreviews") => Some((201, self.token_review(body))),
            ("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews") => {
                Some((201, self.access_review(body)))
            }
            _ if path.contains("/secrets") || path.contains("/configmaps") => {
                Some(self.kept(method, path, body.clone()))
            }
            _ => None,
        }
    }

    fn token_review(&self, review: &Value) -> Value {
        let asked = review["spec"]["audiences"][0].as_str().unwrap_or(API);
        let known = self.tokens.get(review["spec"]["token"].as_str().unwrap_or_default());
        let status = match known {
            Some((audience, user)) if audience == asked => {
                json!({"authenticated": true, "audiences": [audience], "user": user})
            }
            _ => json!({"authenticated": false, "error": "the token has expired, or is for others"}),
        };
        with_status(review, status)
    }

    fn access_review(&self, review: &Value) -> Value {
        let (spec, asked) = (&review["spec"], &review["spec"]["resourceAttributes"]);
        let of_logs = (&asked["verb"], &asked["resource"], &asked["subresource"])
            == (&json!("get"), &json!("pods"), &json!("log"))
            && asked["group"].as_str().unwrap_or_default().is_empty();
        let is_them = |who: &String| {
            spec["user"] == json!(who)
                || spec["groups"].as_array().is_some_and(|all| all.contains(&json!(who)))
        };
        let there = asked["namespace"].as_str().unwrap_or_default();
        let allowed = self
            .rights
            .iter()
            .any(|(who, namespace)| is_them(who) && (namespace.is_empty() || namespace == there));
        with_status(review, json!({"allowed": of_logs && allowed}))
    }

    pub(super) fn kept(&mut self, method: &str, path: &str, mut object: Value) -> (u16, Value) {
        let path = match method {
            "POST" => format!("{path}/{}", object["metadata"]["name"].as_str().unwrap_or_default()),
            _ => path.to_owned(),
        };
        let there = self.objects.get(&path).cloned();
        let version = &object["metadata"]["resourceVersion"];
        match (method, there) {
            ("GET", Some(there)) => return (200, there),
            ("GET" | "PUT", None) => return refused(404, "NotFound"),
            ("POST", Some(_)) => return refused(409, "AlreadyExists"),
            ("PUT", Some(there)) if *version != there["metadata"]["resourceVersion"] => {
                return refused(409, "Conflict");
            }
            _ => {}
        }
        self.versions += 1;
        object["metadata"]["resourceVersion"] = json!(self.versions.to_string());
        self.objects.insert(path, object.clone());
        (200, object)
    }
}

fn with_status(review: &Value, status: Value) -> Value {
    let mut answer = review.clone();
    answer["status"] = status;
    answer
}

fn refused(code: u16, reason: &str) -> (u16, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": reason, "message": reason, "code": code});
    (code, status)
}
