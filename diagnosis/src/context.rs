//! What the pod's spec says of a thing that failed: the volume a path lies on, the variable an address stands in.

use crate::case::Case;
use crate::evidence::{Failure, Holder};
use crate::pod::Mount;
use crate::{variables, words};

/// The volume mount that the path lies on: the longest that is a folder above it.
pub(crate) fn mount<'a>(case: &Case<'a>, path: &str) -> Option<&'a Mount> {
    let covers = |mount: &&Mount| {
        let above = mount.path.trim_end_matches('/');
        path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    case.pod?.container.mounts.iter().filter(covers).max_by_key(|mount| mount.path.len())
}

/// True for a volume that the kubelet mounts read-only, whatever the pod says of it.
pub(crate) fn is_always_read_only(mount: &Mount) -> bool {
    const SOURCES: [&str; 6] =
        ["configmap", "secret", "projected", "downwardAPI", "service account token", "image"];
    SOURCES.iter().any(|source| {
        mount.source.strip_prefix(source).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    })
}

/// `configmap app-settings, mounted at /etc/app`, where the path lies on a volume of the pod.
pub(crate) fn volume(case: &Case<'_>, path: &str) -> Option<String> {
    let mount = mount(case, path)?;
    let source =
        if mount.source.is_empty() { format!("volume {}", mount.volume) } else { mount.source.clone() };
    Some(format!("{}, mounted at {}", words::one_line(&source), words::one_line(&mount.path)))
}

/// ` (configmap app-settings, mounted at /etc/app)`, for a sentence, where the path lies on a volume of the pod.
pub(crate) fn on_volume(case: &Case<'_>, path: &str) -> String {
    volume(case, path).map_or_else(String::new, |volume| format!(" ({volume})"))
}

/// A variable that holds what failed.
pub(crate) struct Variable {
    pub(crate) name: String,
    /// `DB_HOST (spec.containers[0].env[3])`, `DB_HOST (from configmap app, key host)`, or the name alone.
    pub(crate) shown: String,
}

/// The variable that holds what the call failed on: by the node, which knows all values, else by the values that stand in the spec.
pub(crate) fn variable(case: &Case<'_>, failure: &Failure) -> Option<Variable> {
    let of_pod = case.pod.map(|pod| pod.container.variables.as_slice()).unwrap_or_default();
    let literal = || of_pod.iter().map(|variable| (variable.name.as_str(), variable.value.as_str()));
    let by_spec = || variables::holding(failure, literal()).first().map(|name| (*name).to_owned());
    let name = failure.variables.first().cloned().or_else(by_spec)?;
    Some(described(case, &name))
}

/// What of the address that failed this variable says: `the port 5432 of 10.0.0.9:5432/tcp`. By its value where that stands in the spec,
/// else by its name; `None` for what is no address.
pub(crate) fn named(case: &Case<'_>, failure: &Failure, name: &str) -> Option<String> {
    let (host, port) = failure.address.split('/').next()?.rsplit_once(':')?;
    if failure.dns.is_some() || !failure.path.is_empty() {
        return None;
    }
    let of_pod = case.pod.map(|pod| pod.container.variables.as_slice()).unwrap_or_default();
    let literal = of_pod.iter().rfind(|variable| variable.name == name && variable.source.is_empty());
    let value = literal.map(|variable| variable.value.trim()).filter(|value| !value.is_empty());
    let upper = name.to_ascii_uppercase();
    let of_a_port =
        upper.contains("PORT") && !["HOST", "ADDR", "URL", "URI"].iter().any(|word| upper.contains(word));
    let address = words::one_line(&failure.address);
    let (host, port) = (words::one_line(host), words::one_line(port));
    Some(match value {
        Some(value) if value == port => format!("the port {port} of {address}"),
        Some(value) if value.contains(&format!(":{port}")) => address,
        Some(_) => format!("the host {host} of {address}"),
        None if of_a_port => format!("the port {port} of {address}"),
        None => address,
    })
}

/// ` (from the variable DB_HOST)`, for a sentence, where one holds what failed.
pub(crate) fn from_variable(case: &Case<'_>, failure: &Failure) -> String {
    variable(case, failure)
        .map_or_else(String::new, |variable| format!(" (from the variable {})", variable.name))
}

/// `; or correct the variable DB_HOST`, for a remedy, where one holds what failed.
pub(crate) fn or_variable(case: &Case<'_>, failure: &Failure) -> String {
    variable(case, failure)
        .map_or_else(String::new, |variable| format!("; or correct the variable {}", variable.shown))
}

/// A variable by its name, with where it is set.
pub(crate) fn described(case: &Case<'_>, name: &str) -> Variable {
    let of_pod = case.pod.map(|pod| pod.container.variables.as_slice()).unwrap_or_default();
    let name = words::one_line(name);
    let place = of_pod.iter().rfind(|variable| variable.name == name).map(|variable| {
        let source = words::one_line(&variable.source);
        let field = words::one_line(&variable.field_path);
        if source.is_empty() { format!(" ({field})") } else { format!(" ({field}, from {source})") }
    });
    Variable { shown: format!("{name}{}", place.unwrap_or_default()), name }
}

/// Who has what was wanted, by the name of its container where the pods are known.
pub(crate) fn holder(case: &Case<'_>, holder: &Holder) -> String {
    let neighbour = case.pod.and_then(|pod| {
        let is = |id: &str| !id.is_empty() && id == holder.container_id;
        pod.neighbours.iter().find(|neighbour| is(&neighbour.container_id))
    });
    match neighbour.filter(|_| !holder.same_container) {
        Some(other) if other.same_pod => format!(
            "{} of the container {} of the same pod",
            words::process(&holder.comm, holder.pid),
            words::one_line(&other.container)
        ),
        Some(other) => format!(
            "{} of the container {} of pod {}/{}",
            words::process(&holder.comm, holder.pid),
            words::one_line(&other.container),
            words::one_line(&other.namespace),
            words::one_line(&other.pod)
        ),
        None => words::holder(holder),
    }
}
