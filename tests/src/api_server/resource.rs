//! The kinds of object served: one row each.

use axum::http::Method;

/// One kind of object, as discovery describes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resource {
    /// Plural name, as in URLs.
    pub(super) plural: &'static str,
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

/// Everything that is served. Nothing acts on workloads: a deployment is kept, and makes no pod.
pub(super) const RESOURCES: &[Resource] = &[
    core("pods", "Pod", &["po"]).with_status(),
    core("events", "Event", &["ev"]),
    core("nodes", "Node", &["no"]).of_the_cluster().with_status(),
    core("namespaces", "Namespace", &["ns"]).of_the_cluster().with_status(),
    core("configmaps", "ConfigMap", &["cm"]),
    core("secrets", "Secret", &[]),
    core("services", "Service", &["svc"]).with_status(),
    core("serviceaccounts", "ServiceAccount", &["sa"]),
    core("persistentvolumeclaims", "PersistentVolumeClaim", &["pvc"]).with_status(),
    Resource { store: "events", ..of("events.k8s.io", "events", "Event", &["ev"]) },
    of("apps", "deployments", "Deployment", &["deploy"]).with_status(),
    of("apps", "replicasets", "ReplicaSet", &["rs"]).with_status(),
    of("apps", "daemonsets", "DaemonSet", &["ds"]).with_status(),
    of("coordination.k8s.io", "leases", "Lease", &[]),
    of("networking.k8s.io", "networkpolicies", "NetworkPolicy", &["netpol"]),
    of("policy", "poddisruptionbudgets", "PodDisruptionBudget", &["pdb"]).with_status(),
    of("rbac.authorization.k8s.io", "roles", "Role", &[]),
    of("rbac.authorization.k8s.io", "rolebindings", "RoleBinding", &[]),
    of("rbac.authorization.k8s.io", "clusterroles", "ClusterRole", &[]).of_the_cluster(),
    of("rbac.authorization.k8s.io", "clusterrolebindings", "ClusterRoleBinding", &[]).of_the_cluster(),
    of("admissionregistration.k8s.io", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", &[])
        .of_the_cluster()
        .with_status(),
    of(
        "admissionregistration.k8s.io",
        "validatingadmissionpolicybindings",
        "ValidatingAdmissionPolicyBinding",
        &[],
    )
    .of_the_cluster(),
    of("scheduling.k8s.io", "priorityclasses", "PriorityClass", &["pc"]).of_the_cluster(),
];

const fn core(plural: &'static str, kind: &'static str, short_names: &'static [&'static str]) -> Resource {
    of("", plural, kind, short_names)
}

/// A kind of namespaced objects without a status, in version 1 of its group.
const fn of(
    group: &'static str,
    plural: &'static str,
    kind: &'static str,
    short_names: &'static [&'static str],
) -> Resource {
    Resource {
        plural,
        kind,
        group,
        version: "v1",
        namespaced: true,
        short_names,
        has_status: false,
        store: plural,
    }
}

impl Resource {
    const fn of_the_cluster(self) -> Resource {
        Resource { namespaced: false, ..self }
    }

    const fn with_status(self) -> Resource {
        Resource { has_status: true, ..self }
    }

    /// Singular name.
    pub(super) fn singular(&self) -> String {
        self.kind.to_lowercase()
    }

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
            ["/api/v1/pods/api-1", "/api/v1/namespaces/shop/nodes", "/apis/apps/v1/statefulsets", "/healthz"]
        {
            assert!(Target::parse(absent).is_none(), "{absent}");
        }
    }
}
