//! The kinds of object served: one row each.

use axum::http::Method;

/// One kind of object, as discovery describes it.
#[derive(Debug)]
pub(super) struct Resource {
    /// Plural name, as in URLs.
    pub(super) plural: &'static str,
    /// Singular name.
    pub(super) singular: &'static str,
    /// Kind.
    pub(super) kind: &'static str,
    /// API group; empty for the core group.
    pub(super) group: &'static str,
    /// Version.
    pub(super) version: &'static str,
    /// False for kinds that belong to the whole cluster.
    pub(super) namespaced: bool,
    /// Names that kubectl accepts instead.
    pub(super) short_names: &'static [&'static str],
    /// True when `PATCH` and `PUT` on `/status` work.
    pub(super) has_status: bool,
    /// Where the objects are kept: both `events` kinds share one store, as in a real server.
    pub(super) store: &'static str,
}

/// Everything that is served. Deployments and replica sets can be kept, but nothing acts on them.
pub(super) const RESOURCES: &[Resource] = &[
    core("pods", "pod", "Pod", true, &["po"], true),
    core("events", "event", "Event", true, &["ev"], false),
    core("nodes", "node", "Node", false, &["no"], true),
    core("namespaces", "namespace", "Namespace", false, &["ns"], true),
    core("configmaps", "configmap", "ConfigMap", true, &["cm"], false),
    core("secrets", "secret", "Secret", true, &[], false),
    core("services", "service", "Service", true, &["svc"], true),
    Resource {
        plural: "events",
        singular: "event",
        kind: "Event",
        group: "events.k8s.io",
        version: "v1",
        namespaced: true,
        short_names: &["ev"],
        has_status: false,
        store: "events",
    },
    apps("deployments", "deployment", "Deployment", &["deploy"]),
    apps("replicasets", "replicaset", "ReplicaSet", &["rs"]),
    Resource {
        plural: "leases",
        singular: "lease",
        kind: "Lease",
        group: "coordination.k8s.io",
        version: "v1",
        namespaced: true,
        short_names: &[],
        has_status: false,
        store: "leases",
    },
];

const fn core(
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    namespaced: bool,
    short_names: &'static [&'static str],
    has_status: bool,
) -> Resource {
    Resource {
        plural,
        singular,
        kind,
        group: "",
        version: "v1",
        namespaced,
        short_names,
        has_status,
        store: plural,
    }
}

const fn apps(
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    short_names: &'static [&'static str],
) -> Resource {
    Resource {
        plural,
        singular,
        kind,
        group: "apps",
        version: "v1",
        namespaced: true,
        short_names,
        has_status: true,
        store: plural,
    }
}

impl Resource {
    /// `v1` or `group/v1`.
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `pods` or `deployments.apps`, as error messages name it.
    pub(super) fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// True for the `events.k8s.io` view of an event, whose fields have other names.
    pub(super) fn is_new_event(&self) -> bool {
        self.group == "events.k8s.io"
    }

    /// The resource of a group, version and plural.
    pub(super) fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
        RESOURCES.iter().find(|r| r.group == group && r.version == version && r.plural == plural)
    }

    /// The resource of a kind, for objects fed from a file.
    pub(super) fn of_kind(api_version: &str, kind: &str) -> Option<&'static Resource> {
        RESOURCES.iter().find(|r| r.kind == kind && r.api_version() == api_version)
    }
}

/// What a path under `/api` or `/apis` asks for.
#[derive(Debug)]
pub(super) struct Target {
    /// The kind.
    pub(super) resource: &'static Resource,
    /// `None`: all namespaces, or a kind without one.
    pub(super) namespace: Option<String>,
    /// `None`: the collection.
    pub(super) name: Option<String>,
    /// `status`, `log`, `binding` …; empty for the object itself.
    pub(super) subresource: String,
    /// The old `/watch/` prefix, which some clients still use.
    pub(super) watch_prefix: bool,
}

impl Target {
    /// Takes a path apart; `None` when nothing served has that form.
    pub(super) fn parse(path: &str) -> Option<Target> {
        let mut parts =
            path.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().into_iter().peekable();
        let (group, version) = match parts.next()? {
            "api" => ("", parts.next()?),
            "apis" => (parts.next()?, parts.next()?),
            _ => return None,
        };
        let watch_prefix = parts.next_if_eq(&"watch").is_some();
        let rest: Vec<&str> = parts.collect();
        let (namespace, rest) = match rest.as_slice() {
            // "namespaces/x" alone and its status are the Namespace object itself.
            ["namespaces", namespace, plural, ..] if *plural != "status" => {
                (Some((*namespace).to_owned()), rest.get(2..)?)
            }
            _ => (None, rest.as_slice()),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (plural, None, ""),
            [plural, name] => (plural, Some((*name).to_owned()), ""),
            [plural, name, subresource] => (plural, Some((*name).to_owned()), *subresource),
            _ => return None,
        };
        let resource = Resource::find(group, version, plural)?;
        // An object of a namespaced kind is never addressed without its namespace.
        if namespace.is_some() != resource.namespaced && (namespace.is_some() || name.is_some()) {
            return None;
        }
        Some(Target { resource, namespace, name, subresource: subresource.to_owned(), watch_prefix })
    }

    /// The verb of discovery and of error messages.
    pub(super) fn verb(&self, method: &Method, watch: bool) -> &'static str {
        match (method.as_str(), &self.name) {
            ("GET", _) if watch => "watch",
            ("GET", None) => "list",
            ("GET", Some(_)) => "get",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", _) => "delete",
            _ => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_what_they_name_in_kubernetes() {
        let pod = Target::parse("/api/v1/namespaces/shop/pods/api-1/status").unwrap();
        assert_eq!(
            (pod.resource.plural, pod.namespace.as_deref(), pod.name.as_deref(), pod.subresource.as_str()),
            ("pods", Some("shop"), Some("api-1"), "status")
        );
        let namespace = Target::parse("/api/v1/namespaces/shop").unwrap();
        assert_eq!((namespace.resource.kind, namespace.name.as_deref()), ("Namespace", Some("shop")));
        let events = Target::parse("/apis/events.k8s.io/v1/events").unwrap();
        assert_eq!((events.resource.store, events.name, events.namespace), ("events", None, None));
        assert!(Target::parse("/api/v1/watch/pods").unwrap().watch_prefix);
        for absent in
            ["/api/v1/pods/api-1", "/api/v1/namespaces/shop/nodes", "/apis/apps/v1/daemonsets", "/healthz"]
        {
            assert!(Target::parse(absent).is_none(), "{absent}");
        }
    }
}
