//! A container's environment and command line.

use anyhow::bail;
use serde_json::Value;

use super::volumes::{keys_of, read, value_of};
use crate::http::Client;

/// Names and values in the order in which they are set.
pub(super) type Environment = Vec<(String, String)>;

/// The environment of a container, references to ConfigMaps, Secrets and the pod's own fields followed.
///
/// # Errors
/// What `CreateContainerConfigError` says: the object or key that is missing.
pub(super) async fn resolve(client: &Client, pod: &Value, container: &Value) -> anyhow::Result<Environment> {
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
    let mut environment = Environment::new();
    for source in container["envFrom"].as_array().into_iter().flatten() {
        let prefix = source["prefix"].as_str().unwrap_or_default();
        for (field, kind, plural) in
            [("configMapRef", "configmap", "configmaps"), ("secretRef", "secret", "secrets")]
        {
            let Some(name) = source[field]["name"].as_str() else { continue };
            match read(client, namespace, plural, name).await? {
                Some(object) => {
                    for key in keys_of(&object) {
                        let value = value_of(&object, &key).unwrap_or_default();
                        set(&mut environment, format!("{prefix}{key}"), text(&value));
                    }
                }
                None if source[field]["optional"] == true => {}
                None => bail!("{kind} {name:?} not found"),
            }
        }
    }
    for variable in container["env"].as_array().into_iter().flatten() {
        let name = variable["name"].as_str().unwrap_or_default().to_owned();
        let from = &variable["valueFrom"];
        if from.is_null() {
            let value = expand(variable["value"].as_str().unwrap_or_default(), &environment);
            set(&mut environment, name, value);
        } else if let Some(path) = from["fieldRef"]["fieldPath"].as_str() {
            set(&mut environment, name, field(pod, path));
        } else if let Some(value) = referenced(client, namespace, from).await? {
            set(&mut environment, name, value);
        }
    }
    Ok(environment)
}

async fn referenced(client: &Client, namespace: &str, from: &Value) -> anyhow::Result<Option<String>> {
    for (field, kind, plural) in
        [("configMapKeyRef", "configmap", "configmaps"), ("secretKeyRef", "secret", "secrets")]
    {
        let reference = &from[field];
        let (Some(name), Some(key)) = (reference["name"].as_str(), reference["key"].as_str()) else {
            continue;
        };
        let optional = reference["optional"] == true;
        let object = match read(client, namespace, plural, name).await? {
            Some(object) => object,
            None if optional => return Ok(None),
            None => bail!("{kind} {name:?} not found"),
        };
        return match value_of(&object, key) {
            Some(value) => Ok(Some(text(&value))),
            None if optional => Ok(None),
            None => {
                let kind = if kind == "secret" { "Secret" } else { "ConfigMap" };
                bail!("couldn't find key {key} in {kind} {namespace}/{name}")
            }
        };
    }
    Ok(None)
}

fn field(pod: &Value, path: &str) -> String {
    path.split('.')
        .try_fold(pod, |value, part| value.get(part))
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn set(environment: &mut Environment, name: String, value: String) {
    environment.retain(|(known, _)| *known != name);
    environment.push((name, value));
}

/// `command` and `args` with `$(NAME)` replaced; a reference to nothing stays as it is, `$$` is a dollar sign.
pub(super) fn command_line(container: &Value, environment: &Environment) -> Vec<String> {
    let of = |field: &str| container[field].as_array().cloned().unwrap_or_default();
    let words = [of("command"), of("args")].concat();
    words.iter().map(|word| expand(word.as_str().unwrap_or_default(), environment)).collect()
}

fn expand(text: &str, environment: &Environment) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        expanded.push_str(before);
        let name = from.strip_prefix("$(").and_then(|name| name.split_once(')'));
        if let Some(after) = from.strip_prefix("$$") {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = name {
            match environment.iter().find(|(known, _)| known == name) {
                Some((_, value)) => expanded.push_str(value),
                None => expanded.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            expanded.push('$');
            rest = from.get(1..).unwrap_or_default();
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded_as_kubernetes_does() {
        let environment = vec![("PORT".to_owned(), "8080".to_owned())];
        for (from, to) in [
            ("--listen=:$(PORT)", "--listen=:8080"),
            ("$(ABSENT)", "$(ABSENT)"),
            ("$$(PORT) costs $5", "$(PORT) costs $5"),
            ("plain", "plain"),
        ] {
            assert_eq!(expand(from, &environment), to);
        }
    }
}
