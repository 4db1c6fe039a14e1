//! One container of a pod's spec, and its reduction together with its status.

use std::collections::BTreeMap;

use lastwords_diagnosis::pod::{ContainerContext, Mount, Probe, RestartRule, Variable};
use serde::Deserialize;

use super::pod::{ContainerStatus, Spec, state, terminated, without_scheme};
use super::probe::{Port, ProbeSpec, probes};
use super::volumes;
use crate::pods::{self, Kind};
use crate::template::Template;

/// Variables of a container kept: more than a person writes.
const MOST_VARIABLES: usize = 512;
/// Restart rules of a container, and exit codes of one: what the API takes.
const MOST_RULES: usize = 20;
const MOST_CODES: usize = 255;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ContainerSpec {
    pub(super) name: String,
    image: String,
    command: Option<Vec<String>>,
    args: Option<Vec<String>>,
    restart_policy: Option<String>,
    restart_policy_rules: Option<Vec<RestartPolicyRule>>,
    resources: Option<Resources>,
    security_context: Option<SecurityContext>,
    volume_mounts: Option<Vec<VolumeMount>>,
    env: Option<Vec<EnvVar>>,
    env_from: Option<Vec<EnvFrom>>,
    ports: Option<Vec<Port>>,
    liveness_probe: Option<ProbeSpec>,
    startup_probe: Option<ProbeSpec>,
    readiness_probe: Option<ProbeSpec>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SecurityContext {
    pub(super) run_as_user: Option<i64>,
    read_only_root_filesystem: Option<bool>,
    /// The rest, to be compared.
    #[serde(flatten)]
    other: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Resources {
    limits: Option<BTreeMap<String, String>>,
    requests: Option<BTreeMap<String, String>>,
}

impl Resources {
    pub(super) fn memory_limit(&self) -> String {
        self.limits.as_ref().and_then(|limits| limits.get("memory")).cloned().unwrap_or_default()
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct VolumeMount {
    name: String,
    mount_path: String,
    sub_path: Option<String>,
    read_only: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EnvVar {
    name: String,
    value: Option<String>,
    value_from: Option<ValueFrom>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EnvFrom {
    prefix: Option<String>,
    config_map_ref: Option<Named>,
    secret_ref: Option<Named>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ValueFrom {
    config_map_key_ref: Option<Key>,
    secret_key_ref: Option<Key>,
    field_ref: Option<Field>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Key {
    name: String,
    key: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Field {
    field_path: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RestartPolicyRule {
    action: String,
    exit_codes: Option<ExitCodes>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ExitCodes {
    operator: String,
    values: Option<Vec<i32>>,
}

/// Spec and status of one container, which stands in its pod at that path.
pub(super) fn reduce(
    pod: &Spec,
    spec: &ContainerSpec,
    status: Option<&ContainerStatus>,
    kind: Kind,
    field_path: String,
) -> pods::Container {
    let own = spec.security_context.as_ref();
    let volumes = pod.volumes.as_deref().unwrap_or_default();
    let mounts = spec.volume_mounts.iter().flatten().map(|mount| Mount {
        path: mount.mount_path.clone(),
        volume: mount.name.clone(),
        source: volumes::source(volumes, &mount.name),
        read_only: mount.read_only.unwrap_or_default(),
    });
    let mounts: Vec<Mount> = mounts.collect();
    let probes = probes(
        [
            ("liveness", &spec.liveness_probe),
            ("startup", &spec.startup_probe),
            ("readiness", &spec.readiness_probe),
        ],
        spec.ports.as_deref().unwrap_or_default(),
        &field_path,
    );
    let last_state = status.and_then(|status| status.last_state.as_ref());
    pods::Container {
        id: status.and_then(|status| status.container_id.as_deref()).map(without_scheme).unwrap_or_default(),
        kind,
        template: spec.template(pod.security_context.as_ref(), &mounts, &probes).into(),
        context: ContainerContext {
            name: spec.name.clone(),
            image: spec.image.clone(),
            memory_limit: spec.resources.as_ref().map(Resources::memory_limit).unwrap_or_default(),
            run_as_user: own
                .and_then(|own| own.run_as_user)
                .or_else(|| pod.security_context.as_ref().and_then(|pod| pod.run_as_user)),
            read_only_root_filesystem: own.and_then(|own| own.read_only_root_filesystem).unwrap_or_default(),
            mounts,
            variables: spec.variables(&field_path),
            probes,
            field_path,
            restart_policy: spec.restart_policy.clone().unwrap_or_default(),
            restart_rules: spec.restart_rules(),
            restart_count: status.map_or(0, |status| status.restart_count),
            ready: status.is_some_and(|status| status.ready),
            state: state(status.and_then(|status| status.state.as_ref())),
            terminated: last_state.and_then(|state| state.terminated.as_ref()).map(terminated),
        },
    }
}

impl ContainerSpec {
    fn restart_rules(&self) -> Vec<RestartRule> {
        let rules = self.restart_policy_rules.iter().flatten().take(MOST_RULES);
        rules
            .map(|rule| {
                let codes = rule.exit_codes.as_ref();
                let values = codes.and_then(|codes| codes.values.as_deref()).unwrap_or_default();
                RestartRule {
                    action: rule.action.clone(),
                    // One without exit codes, of a kind still to come, holds for none.
                    not_in: codes.is_some_and(|codes| codes.operator == "NotIn"),
                    codes: values.get(..MOST_CODES.min(values.len())).unwrap_or_default().to_vec(),
                }
            })
            .collect()
    }

    fn variables(&self, field_path: &str) -> Vec<Variable> {
        let variables = self.env.iter().flatten().enumerate().take(MOST_VARIABLES);
        variables
            .map(|(index, variable)| Variable {
                name: variable.name.clone(),
                value: variable.value.clone().unwrap_or_default(),
                source: variable.value_from.as_ref().map(ValueFrom::in_words).unwrap_or_default(),
                field_path: format!("{field_path}.env[{index}]"),
            })
            .collect()
    }

    /// What is compared with the runs that went well.
    fn template(&self, of_pod: Option<&SecurityContext>, mounts: &[Mount], probes: &[Probe]) -> Template {
        let mut template = Template::default();
        template.show("image", self.image.as_str());
        template.arguments("command", self.command.as_deref().unwrap_or_default());
        template.arguments("args", self.args.as_deref().unwrap_or_default());
        for variable in self.env.iter().flatten() {
            let key = format!("env[{}]", variable.name);
            match &variable.value_from {
                Some(from) => template.show(key, from.in_words()),
                None => template.hide(key, variable.value.as_deref().unwrap_or_default(), ""),
            }
        }
        for from in self.env_from.iter().flatten() {
            template
                .show(format!("envFrom[{}]", from.in_words()), from.prefix.as_deref().unwrap_or_default());
        }
        for (mount, spec) in mounts.iter().zip(self.volume_mounts.iter().flatten()) {
            let sub_path =
                spec.sub_path.as_ref().map_or_else(String::new, |path| format!(", subPath {path}"));
            let read_only = if mount.read_only { ", readOnly" } else { "" };
            let value = format!("{}{sub_path}{read_only}", mount.source);
            template.show(format!("volumeMounts[{}]", mount.path), value);
        }
        if let Some(resources) = &self.resources {
            for (list, values) in [("limits", &resources.limits), ("requests", &resources.requests)] {
                for (name, value) in values.iter().flatten() {
                    template.show(format!("resources.{list}.{name}"), value.as_str());
                }
            }
        }
        // The container's own stands over the pod's.
        for context in of_pod.into_iter().chain(&self.security_context) {
            context.compare(&mut template);
        }
        for probe in probes {
            let Probe { action, period_seconds, timeout_seconds, failure_threshold, .. } = probe;
            let value = format!(
                "{action}, every {period_seconds} s, {failure_threshold} failures of {timeout_seconds} s, after {} s",
                probe.initial_delay_seconds
            );
            let key = format!("{}Probe", probe.kind);
            // A command may hold anything.
            if action.starts_with("exec") {
                template.hide(key, &value, "")
            } else {
                template.show(key, value)
            }
        }
        template
    }
}

impl SecurityContext {
    fn compare(&self, template: &mut Template) {
        if let Some(user) = self.run_as_user {
            template.show("securityContext.runAsUser", user.to_string());
        }
        if let Some(read_only) = self.read_only_root_filesystem {
            template.show("securityContext.readOnlyRootFilesystem", read_only.to_string());
        }
        for (key, value) in &self.other {
            template.show(format!("securityContext.{key}"), value.to_string());
        }
    }
}

impl EnvFrom {
    fn in_words(&self) -> String {
        match (&self.config_map_ref, &self.secret_ref) {
            (Some(named), _) => format!("configmap {}", named.name),
            (None, Some(named)) => format!("secret {}", named.name),
            (None, None) => "nothing".to_owned(),
        }
    }
}

impl ValueFrom {
    fn in_words(&self) -> String {
        match self {
            Self { config_map_key_ref: Some(key), .. } => format!("configmap {}, key {}", key.name, key.key),
            Self { secret_key_ref: Some(key), .. } => format!("secret {}, key {}", key.name, key.key),
            Self { field_ref: Some(field), .. } => format!("the pod's {}", field.field_path),
            _ => "the container's resources".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(json: serde_json::Value) -> ContainerContext {
        let spec: ContainerSpec = serde_json::from_value(json).unwrap();
        reduce(&Spec::default(), &spec, None, Kind::Regular, "spec.containers[0]".to_owned()).context
    }

    #[test]
    fn variables_and_where_they_come_from() {
        let context = container(serde_json::json!({"name": "app", "env": [
            {"name": "DB_HOST", "value": "db"},
            {"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
        ]}));
        let shown: Vec<_> = context
            .variables
            .iter()
            .map(|it| (it.name.as_str(), it.value.as_str(), it.source.as_str()))
            .collect();
        assert_eq!(shown, [("DB_HOST", "db", ""), ("DB_PASSWORD", "", "secret db, key password")]);
        assert_eq!(context.variables[1].field_path, "spec.containers[0].env[1]");
    }
}
