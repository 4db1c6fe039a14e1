//! What a container is started with, reduced to what is compared: so that a crash can be told from the last run that went well by what
//! was changed in between.
//!
//! Values of variables and arguments may be secrets. They are kept as a digest, which tells that one changed and nothing more.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use lastwords_diagnosis::pod::{Change, ChangeKind};
use serde::{Deserialize, Serialize};

/// Fields of one template kept: a large one has a hundred. Those beyond are not compared.
const MOST_FIELDS: usize = 1_024;
/// Changes told of one crash at most: whoever changes more has written another template.
const MOST_CHANGES: usize = 32;
/// Longest value that is shown, in bytes; of a longer one only the digest is kept.
const LONGEST: usize = 256;

/// A container's template.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Template {
    /// By where they stand in the container: `image`, `args[--listen]`, `env[DB_HOST]`, `volumeMounts[/etc/app]`.
    fields: BTreeMap<String, Field>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Field {
    value: Value,
    /// What a hidden argument says. Not kept with the template.
    #[serde(skip)]
    clear: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Value {
    Shown(String),
    Hidden(u64),
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.values().eq(other.values())
    }
}

impl Eq for Template {}

impl Hash for Template {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.values().for_each(|value| value.hash(state));
    }
}

impl Template {
    /// Sets a field that anybody may read.
    pub fn show(&mut self, key: impl Into<String>, value: impl Into<String>) {
        let value = value.into();
        if value.len() > LONGEST {
            return self.hide(key, &value, "");
        }
        self.set(key.into(), Field { value: Value::Shown(value), clear: String::new() });
    }

    /// Sets a field whose value is nobody's business. `clear` stands for it in this process.
    pub fn hide(&mut self, key: impl Into<String>, value: &str, clear: &str) {
        self.set(key.into(), Field { value: Value::Hidden(digest(value)), clear: clear.to_owned() });
    }

    /// Sets `command` or `args`: options by their names, what follows an option by that option, the rest by its place among its like.
    pub fn arguments(&mut self, list: &str, arguments: &[String]) {
        let mut operands = 0;
        let mut option_before: Option<&str> = None;
        for argument in arguments {
            let name = argument.split('=').next().unwrap_or(argument);
            let key = match option_before.take() {
                _ if argument.starts_with('-') => {
                    option_before = (name == argument).then_some(name);
                    name.to_owned()
                }
                Some(option) => format!("{option} …"),
                None => {
                    operands += 1;
                    operands.to_string()
                }
            };
            let mut unique = format!("{list}[{key}]");
            for repeated in 2.. {
                if !self.fields.contains_key(&unique) {
                    break;
                }
                unique = format!("{list}[{key}#{repeated}]");
            }
            self.hide(unique, argument, argument);
        }
    }

    /// How this one differs from `before`, for a container that stands at `field_path`.
    pub fn changes_since(&self, before: &Self, field_path: &str) -> Vec<Change> {
        let now = self.fields.iter().filter_map(|(key, field)| match before.fields.get(key) {
            None => Some((key, field, format!("added{}", shown(&field.value)))),
            Some(was) if was.value == field.value => None,
            Some(was) => Some((
                key,
                field,
                match (&was.value, &field.value) {
                    (Value::Shown(was), Value::Shown(now)) => format!("{was} → {now}"),
                    _ => "changed".to_owned(),
                },
            )),
        });
        let gone = before.fields.iter().filter(|(key, _)| !self.fields.contains_key(*key));
        let gone = gone.map(|(key, field)| (key, field, format!("removed{}", shown(&field.value))));
        let change = |(key, field, what): (&String, &Field, String)| Change {
            kind: kind(key),
            name: if field.clear.is_empty() { bracketed(key).to_owned() } else { field.clear.clone() },
            text: format!("{field_path}.{key}: {what}"),
        };
        now.chain(gone).map(change).take(MOST_CHANGES).collect()
    }

    fn values(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.fields.iter().map(|(key, field)| (key, &field.value))
    }

    fn set(&mut self, key: String, field: Field) {
        if self.fields.len() < MOST_FIELDS {
            self.fields.insert(key, field);
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Shown(value) if !value.is_empty() => format!(" ({value})"),
        _ => String::new(),
    }
}

fn kind(key: &str) -> ChangeKind {
    let kinds = [
        ("image", ChangeKind::Image),
        ("command", ChangeKind::Argument),
        ("args", ChangeKind::Argument),
        ("env", ChangeKind::Variable),
        ("volumeMounts", ChangeKind::Mount),
        ("resources", ChangeKind::Resources),
        ("securityContext", ChangeKind::Security),
        ("livenessProbe", ChangeKind::Probe),
        ("startupProbe", ChangeKind::Probe),
        ("readinessProbe", ChangeKind::Probe),
    ];
    kinds.into_iter().find(|(begin, _)| key.starts_with(begin)).map_or(ChangeKind::Other, |(_, kind)| kind)
}

/// `DB_HOST` of `env[DB_HOST]`.
fn bracketed(key: &str) -> &str {
    key.split_once('[').and_then(|(_, rest)| rest.strip_suffix(']')).unwrap_or(key)
}

/// FNV-1a: the same in every version of this program, which the standard library's hash need not be.
pub(crate) fn digest(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(image: &str, arguments: &[&str], host: &str) -> Template {
        let mut template = Template::default();
        template.show("image", image);
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        template.arguments("args", &arguments);
        template.hide("env[DB_HOST]", host, "");
        template
    }

    #[test]
    fn what_changed_is_named_and_no_value_is_shown() {
        let before = template("app:1", &["serve", "--listen=:80", "-v"], "10.0.0.8");
        let now = template("app:2", &["serve", "--lisen=:80", "-v"], "10.0.0.9");
        let changes = now.changes_since(&before, "spec.containers[0]");
        let texts: Vec<&str> = changes.iter().map(|change| change.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "spec.containers[0].args[--lisen]: added",
                "spec.containers[0].env[DB_HOST]: changed",
                "spec.containers[0].image: app:1 → app:2",
                "spec.containers[0].args[--listen]: removed",
            ]
        );
        assert_eq!((changes[0].kind, changes[0].name.as_str()), (ChangeKind::Argument, "--lisen=:80"));
        assert_eq!((changes[1].kind, changes[1].name.as_str()), (ChangeKind::Variable, "DB_HOST"));
    }

    #[test]
    fn an_argument_more_moves_no_other() {
        let before = template("a", &["serve", "--port", "80", "x"], "h");
        let now = template("a", &["serve", "--fast", "--port", "80", "x"], "h");
        let texts: Vec<String> =
            now.changes_since(&before, "c").into_iter().map(|change| change.text).collect();
        assert_eq!(texts, ["c.args[--fast]: added"]);
        let now = template("a", &["serve", "--port", "81", "x"], "h");
        assert_eq!(now.changes_since(&before, "c")[0].text, "c.args[--port …]: changed");
    }

    #[test]
    fn a_kept_template_is_the_same_and_holds_no_value() {
        let template = template("app:1", &["--token=abc"], "secret-host");
        let kept = serde_json::to_string(&template).unwrap();
        assert!(!kept.contains("abc") && !kept.contains("secret-host"), "{kept}");
        assert_eq!(serde_json::from_str::<Template>(&kept).unwrap(), template);
        assert_eq!(template.changes_since(&template, "c"), []);
    }
}
