//! Who may do what, where the server is told to ask: bearer tokens, reviews of tokens and of access, and RBAC by the roles and bindings that
//! are kept here. As in a real server whoever is in `system:masters` may do everything, and nobody gets anything without a rule.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::{HeaderMap, header};
use serde_json::{Value, json};

use super::failure::Failure;
use super::resource::Target;
use super::store::Store;

/// What a token for the API server itself is for.
pub const OWN_AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";

/// Somebody, as a review of its token tells.
#[derive(Debug, Clone, Default)]
pub struct User {
    /// `system:serviceaccount:NAMESPACE:NAME`, or a person.
    pub name: String,
    /// Groups besides `system:authenticated`.
    pub groups: Vec<String>,
    /// `authentication.kubernetes.io/node-name` and the like.
    pub extra: Value,
}

impl User {
    /// A service account.
    pub fn service_account(namespace: &str, name: &str) -> User {
        let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
        let name = format!("system:serviceaccount:{namespace}:{name}");
        User { name, groups: groups.to_vec(), extra: json!({}) }
    }
}

#[derive(Debug)]
struct Token {
    user: User,
    audiences: Vec<String>,
}

/// What is asked for.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) verb: &'a str,
    pub(super) group: &'a str,
    /// With its subresource: `pods/log`.
    pub(super) resource: String,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

/// The tokens that are known, and whether anybody is asked for one.
#[derive(Debug, Default)]
pub(super) struct Access {
    enforced: bool,
    tokens: Mutex<HashMap<String, Token>>,
}

impl Access {
    pub(super) fn new(enforced: bool) -> Access {
        Access { enforced, tokens: Mutex::default() }
    }

    pub(super) fn give(&self, token: &str, user: User, audiences: &[&str]) {
        let audiences = audiences.iter().map(|&audience| audience.to_owned()).collect();
        self.tokens().insert(token.to_owned(), Token { user, audiences });
    }

    fn tokens(&self) -> MutexGuard<'_, HashMap<String, Token>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request pass, or says why not.
    pub(super) fn check(&self, store: &Store, headers: &HeaderMap, asked: &Asked<'_>) -> Result<(), Failure> {
        if !self.enforced {
            return Ok(());
        }
        let user = self.user(headers)?;
        if may(store, &user.name, &user.groups, asked) {
            return Ok(());
        }
        Err(Failure::forbidden(&user.name, asked))
    }

    fn user(&self, headers: &HeaderMap) -> Result<User, Failure> {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = given.and_then(|given| given.strip_prefix("Bearer ")).unwrap_or_default();
        let tokens = self.tokens();
        let known = tokens.get(token).filter(|token| token.audiences.iter().any(|it| it == OWN_AUDIENCE));
        known.map(|token| token.user.clone()).ok_or_else(Failure::unauthorized)
    }

    /// The answer to a review, at one of the two paths that have them.
    pub(super) fn review(
        &self,
        store: &Store,
        path: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Option<Result<Value, Failure>> {
        let (group, resource) = match path {
            "/apis/authentication.k8s.io/v1/tokenreviews" => ("authentication.k8s.io", "tokenreviews"),
            "/apis/authorization.k8s.io/v1/subjectaccessreviews" => {
                ("authorization.k8s.io", "subjectaccessreviews")
            }
            _ => return None,
        };
        let asked = Asked { verb: "create", group, resource: resource.to_owned(), namespace: "", name: "" };
        let Ok(mut review) = serde_json::from_slice::<Value>(body) else {
            return Some(Err(Failure::bad_request("the body is no JSON")));
        };
        let allowed = self.check(store, headers, &asked);
        Some(allowed.map(|()| {
            let status = match resource {
                "tokenreviews" => self.token_status(&review["spec"]),
                _ => access_status(store, &review["spec"]),
            };
            review["status"] = status;
            review
        }))
    }

    fn token_status(&self, spec: &Value) -> Value {
        let texts = |value: &Value| strings(value);
        let wanted = match texts(&spec["audiences"]) {
            none if none.is_empty() => vec![OWN_AUDIENCE.to_owned()],
            some => some,
        };
        let tokens = self.tokens();
        let token = tokens.get(spec["token"].as_str().unwrap_or_default());
        let common = token.map(|token| -> Vec<&String> {
            token.audiences.iter().filter(|audience| wanted.contains(audience)).collect()
        });
        match (token, common) {
            (Some(token), Some(common)) if !common.is_empty() => {
                let mut groups = token.user.groups.clone();
                groups.push("system:authenticated".to_owned());
                json!({"authenticated": true, "audiences": common,
                    "user": {"username": token.user.name, "groups": groups, "extra": token.user.extra}})
            }
            _ => json!({"authenticated": false, "error": "invalid bearer token"}),
        }
    }
}

fn access_status(store: &Store, spec: &Value) -> Value {
    let of = &spec["resourceAttributes"];
    let text = |name: &str| of[name].as_str().unwrap_or_default();
    let resource = match text("subresource") {
        "" => text("resource").to_owned(),
        subresource => format!("{}/{subresource}", text("resource")),
    };
    let asked = Asked {
        verb: text("verb"),
        group: text("group"),
        resource,
        namespace: text("namespace"),
        name: text("name"),
    };
    let allowed = may(store, spec["user"].as_str().unwrap_or_default(), &strings(&spec["groups"]), &asked);
    json!({ "allowed": allowed })
}

impl<'a> Asked<'a> {
    pub(super) fn of(target: &'a Target, verb: &'a str) -> Asked<'a> {
        let mut resource = target.resource.plural.to_owned();
        if !target.subresource.is_empty() {
            resource = format!("{resource}/{}", target.subresource);
        }
        let namespace = target.namespace.as_deref().unwrap_or_default();
        let name = target.name.as_deref().unwrap_or_default();
        Asked { verb, group: target.resource.group, resource, namespace, name }
    }
}

/// Whether a role that is bound to them has a rule for it.
fn may(store: &Store, user: &str, groups: &[String], asked: &Asked<'_>) -> bool {
    if groups.iter().any(|group| group == "system:masters") {
        return true;
    }
    let is_bound = |binding: &Value| {
        array(&binding["subjects"]).iter().any(|subject| match subject["kind"].as_str() {
            Some("User") => subject["name"] == user,
            Some("Group") => {
                let name = subject["name"].as_str().unwrap_or_default();
                name == "system:authenticated" || groups.iter().any(|group| group == name)
            }
            Some("ServiceAccount") => {
                let part = |field: &str| subject[field].as_str().unwrap_or_default();
                user == format!("system:serviceaccount:{}:{}", part("namespace"), part("name"))
            }
            _ => false,
        })
    };
    store.everything().into_iter().any(|(plural, (namespace, _), binding)| {
        let reaches = plural == "clusterrolebindings"
            || (plural == "rolebindings" && !asked.namespace.is_empty() && namespace == asked.namespace);
        if !reaches || !is_bound(&binding) {
            return false;
        }
        let name = binding["roleRef"]["name"].as_str().unwrap_or_default().to_owned();
        let role = match binding["roleRef"]["kind"].as_str() {
            Some("Role") => store.get("roles", &(namespace, name)),
            _ => store.get("clusterroles", &(String::new(), name)),
        };
        role.is_some_and(|role| array(&role["rules"]).iter().any(|rule| allows(rule, asked)))
    })
}

fn allows(rule: &Value, asked: &Asked<'_>) -> bool {
    let has = |field: &str, wanted: &str| strings(&rule[field]).iter().any(|it| it == "*" || it == wanted);
    let names = strings(&rule["resourceNames"]);
    has("apiGroups", asked.group)
        && has("resources", &asked.resource)
        && has("verbs", asked.verb)
        && (names.is_empty() || names.iter().any(|name| name == asked.name))
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn strings(value: &Value) -> Vec<String> {
    array(value).iter().filter_map(|text| Some(text.as_str()?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked<'a>(verb: &'a str, resource: &str, namespace: &'a str, name: &'a str) -> Asked<'a> {
        Asked { verb, group: "", resource: resource.to_owned(), namespace, name }
    }

    #[test]
    fn a_rule_is_for_what_it_names_where_it_is_bound() {
        let store = Store::new(10);
        let put = |plural: &'static str, namespace: &str, name: &str, object: Value| {
            store.write(plural, &(namespace.to_owned(), name.to_owned()), |_| Ok(Some(object))).unwrap();
        };
        let rules = json!([
            {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["one"], "verbs": ["get"]},
        ]);
        put("roles", "shop", "reader", json!({"metadata": {"name": "reader"}, "rules": rules}));
        let binding = json!({"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": "reader"},
            "subjects": [{"kind": "User", "name": "dev"}, {"kind": "ServiceAccount", "namespace": "a", "name": "b"}]});
        put("rolebindings", "shop", "b", binding);
        let may = |user: &str, asked: Asked<'_>| super::may(&store, user, &[], &asked);
        assert!(may("dev", asked("get", "pods/log", "shop", "x")));
        assert!(may("system:serviceaccount:a:b", asked("get", "secrets", "shop", "one")));
        for (user, other) in [
            ("dev", asked("get", "pods/log", "other", "x")),
            ("dev", asked("get", "pods/log", "", "")),
            ("dev", asked("get", "pods", "shop", "x")),
            ("dev", asked("list", "pods/log", "shop", "")),
            ("dev", asked("get", "secrets", "shop", "two")),
            ("else", asked("get", "pods/log", "shop", "x")),
        ] {
            assert!(!may(user, other), "{user}");
        }
        assert!(super::may(
            &store,
            "root",
            &["system:masters".to_owned()],
            &asked("delete", "nodes", "", "n")
        ));
    }

    #[test]
    fn a_token_is_for_its_audiences_alone() {
        let access = Access::new(true);
        access.give("t", User::service_account("lastwords", "agent"), &["lastwords"]);
        let asks = |audiences: Value| {
            access.token_status(&json!({"token": "t", "audiences": audiences}))["authenticated"].clone()
        };
        assert_eq!(
            (asks(json!(["lastwords"])), asks(json!([])), asks(json!(["x"]))),
            (json!(true), json!(false), json!(false))
        );
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "Bearer t".parse().unwrap());
        assert_eq!(access.user(&headers).unwrap_err().code, 401);
    }
}
