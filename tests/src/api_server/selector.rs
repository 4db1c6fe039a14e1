//! Label and field selectors.

use serde_json::Value;

use super::failure::Failure;
use super::resource::Resource;

/// What a list or watch is narrowed to. An empty selector lets everything through.
#[derive(Debug, Default, Clone)]
pub(super) struct Selector {
    fields: Vec<(&'static [&'static str], bool, String)>,
    labels: Vec<LabelRule>,
}

#[derive(Debug, Clone)]
enum LabelRule {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

/// A field that may be selected by: its name, and the path to it in the stored object.
type Field = (&'static str, &'static [&'static str]);

const COMMON: &[Field] =
    &[("metadata.name", &["metadata", "name"]), ("metadata.namespace", &["metadata", "namespace"])];

const POD: &[Field] = &[
    ("spec.nodeName", &["spec", "nodeName"]),
    ("spec.restartPolicy", &["spec", "restartPolicy"]),
    ("spec.schedulerName", &["spec", "schedulerName"]),
    ("spec.serviceAccountName", &["spec", "serviceAccountName"]),
    ("status.phase", &["status", "phase"]),
];

const EVENT: &[Field] = &[
    ("involvedObject.kind", &["involvedObject", "kind"]),
    ("involvedObject.namespace", &["involvedObject", "namespace"]),
    ("involvedObject.name", &["involvedObject", "name"]),
    ("involvedObject.uid", &["involvedObject", "uid"]),
    ("involvedObject.apiVersion", &["involvedObject", "apiVersion"]),
    ("involvedObject.resourceVersion", &["involvedObject", "resourceVersion"]),
    ("involvedObject.fieldPath", &["involvedObject", "fieldPath"]),
    ("reason", &["reason"]),
    ("reportingComponent", &["reportingComponent"]),
    ("source", &["source", "component"]),
    ("type", &["type"]),
];

/// Events are stored in their core/v1 form, so the new names lead to the old fields.
const NEW_EVENT: &[Field] = &[
    ("regarding.kind", &["involvedObject", "kind"]),
    ("regarding.namespace", &["involvedObject", "namespace"]),
    ("regarding.name", &["involvedObject", "name"]),
    ("regarding.uid", &["involvedObject", "uid"]),
    ("regarding.apiVersion", &["involvedObject", "apiVersion"]),
    ("regarding.resourceVersion", &["involvedObject", "resourceVersion"]),
    ("regarding.fieldPath", &["involvedObject", "fieldPath"]),
    ("reason", &["reason"]),
    ("reportingController", &["reportingComponent"]),
    ("type", &["type"]),
];

const SECRET: &[Field] = &[("type", &["type"])];

fn selectable(resource: &Resource) -> &'static [Field] {
    match (resource.group, resource.plural) {
        ("", "pods") => POD,
        ("", "events") => EVENT,
        ("events.k8s.io", "events") => NEW_EVENT,
        ("", "secrets") => SECRET,
        ("", "namespaces") => &[("status.phase", &["status", "phase"])],
        ("", "nodes") => &[("spec.unschedulable", &["spec", "unschedulable"])],
        _ => &[],
    }
}

impl Selector {
    /// Reads both query parameters; a field that cannot be selected by is refused as a real server does.
    ///
    /// # Errors
    /// 400 with the server's own wording.
    pub(super) fn parse(resource: &Resource, fields: &str, labels: &str) -> Result<Selector, Failure> {
        let mut selector = Selector::default();
        for term in fields.split(',').filter(|term| !term.is_empty()) {
            let (name, equal, value) = split_term(term).ok_or_else(|| {
                Failure::bad_request(format!("invalid selector: '{fields}'; can't understand '{term}'"))
            })?;
            let known = COMMON.iter().chain(selectable(resource)).find(|(field, _)| *field == name);
            let Some((_, path)) = known else {
                let message = format!(
                    "Unable to find {:?} that match label selector {labels:?}, field selector {fields:?}: field label not supported: {name}",
                    format!("{}, Resource={}", resource.api_version(), resource.plural),
                );
                return Err(Failure::bad_request(message));
            };
            selector.fields.push((path, equal, value));
        }
        selector.labels = parse_labels(labels)?;
        Ok(selector)
    }

    /// True when nothing is narrowed.
    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.labels.is_empty()
    }

    /// Whether a stored object passes.
    pub(super) fn matches(&self, object: &Value) -> bool {
        let field_at = |path: &[&str]| {
            let value = path.iter().try_fold(object, |value, key| value.get(key));
            match value {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Bool(flag)) => flag.to_string(),
                _ => String::new(),
            }
        };
        let labels = &object["metadata"]["labels"];
        self.fields.iter().all(|(path, equal, wanted)| (field_at(path) == *wanted) == *equal)
            && self.labels.iter().all(|rule| rule.matches(labels))
    }
}

impl LabelRule {
    fn matches(&self, labels: &Value) -> bool {
        let value = |key: &String| labels.get(key).and_then(Value::as_str);
        match self {
            LabelRule::In(key, wanted) => value(key).is_some_and(|value| wanted.iter().any(|w| w == value)),
            LabelRule::NotIn(key, unwanted) => {
                !value(key).is_some_and(|value| unwanted.iter().any(|w| w == value))
            }
            LabelRule::Exists(key) => value(key).is_some(),
            LabelRule::Absent(key) => value(key).is_none(),
        }
    }
}

fn parse_labels(text: &str) -> Result<Vec<LabelRule>, Failure> {
    let mut rules = Vec::new();
    for term in split_outside_parentheses(text) {
        let term = term.trim();
        let set = |operator: &str| {
            let (key, list) = term.split_once(operator)?;
            let list = list.trim().strip_prefix('(')?.strip_suffix(')')?;
            Some((key.trim().to_owned(), list.split(',').map(|value| value.trim().to_owned()).collect()))
        };
        let rule = if let Some((key, values)) = set(" notin ") {
            LabelRule::NotIn(key, values)
        } else if let Some((key, values)) = set(" in ") {
            LabelRule::In(key, values)
        } else if let Some((key, equal, value)) = split_term(term) {
            if equal {
                LabelRule::In(key.to_owned(), vec![value])
            } else {
                LabelRule::NotIn(key.to_owned(), vec![value])
            }
        } else if let Some(key) = term.strip_prefix('!') {
            LabelRule::Absent(key.to_owned())
        } else if !term.contains(char::is_whitespace) {
            LabelRule::Exists(term.to_owned())
        } else {
            return Err(Failure::bad_request(format!("unable to parse requirement: {term:?}")));
        };
        rules.push(rule);
    }
    Ok(rules)
}

/// `key=value`, `key==value` or `key!=value`; the flag is false for the last.
fn split_term(term: &str) -> Option<(&str, bool, String)> {
    if let Some((key, value)) = term.split_once("!=") {
        return Some((key.trim(), false, value.trim().to_owned()));
    }
    let (key, value) = term.split_once('=')?;
    Some((key.trim(), true, value.trim_start_matches('=').trim().to_owned()))
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut terms) = (0_u32, 0, Vec::new());
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                terms.extend(text.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.extend(text.get(start..));
    terms.retain(|term| !term.trim().is_empty());
    terms
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn passes(plural: &str, group: &str, fields: &str, labels: &str, object: &Value) -> bool {
        let resource = Resource::find(group, "v1", plural).unwrap();
        Selector::parse(resource, fields, labels).unwrap().matches(object)
    }

    #[test]
    fn fields_of_pods_and_of_both_kinds_of_event() {
        let pod = json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {"nodeName": "node1"}, "status": {"phase": "Running"}});
        assert!(passes("pods", "", "spec.nodeName=node1,status.phase!=Failed", "", &pod));
        assert!(!passes("pods", "", "metadata.name=b", "", &pod));
        let event =
            json!({"involvedObject": {"name": "a", "fieldPath": "spec.containers{app}"}, "type": "Warning"});
        assert!(passes(
            "events",
            "",
            "involvedObject.fieldPath=spec.containers{app},type=Warning",
            "",
            &event
        ));
        assert!(passes("events", "events.k8s.io", "regarding.name=a", "", &event));
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let resource = Resource::find("", "v1", "pods").unwrap();
        let failure = Selector::parse(resource, "spec.nodename=x", "").unwrap_err();
        assert_eq!(failure.code, 400);
        assert!(failure.message.contains("field label not supported: spec.nodename"), "{}", failure.message);
    }

    #[test]
    fn labels() {
        let pod = json!({"metadata": {"labels": {"app": "api", "tier": "front"}}});
        for (selector, expected) in [
            ("app=api", true),
            ("app==api,tier!=back", true),
            ("app in (web, api),tier", true),
            ("app notin (api)", false),
            ("!app", false),
            ("!zone,zone!=a", true),
        ] {
            assert_eq!(passes("pods", "", "", selector, &pod), expected, "{selector}");
        }
    }
}
