//! The deaths of the corpus, as data: `tests/corpus/deaths/*.toml`. `tests/corpus/README.md` has the rules for people who write one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::workspace;

/// How long `try` lets a command run before it kills it: a case's command ends by itself.
const TIME_LIMIT: &str = "30s";

/// Becomes the program that its arguments say, with nothing of what it prints to be seen.
const SILENCE: [&str; 3] = ["sh", "-c", "exec \"$0\" \"$@\" > /dev/null 2>&1"];

/// Stands for a case's own folder in every text of it.
const FOLDER: &str = "{dir}";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Collection {
    case: Vec<Case>,
}

/// One death and the verdict it has to get.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// What `--only` selects it by.
    pub(crate) name: String,
    /// What is not plain from the rest, for people.
    #[serde(default, rename = "why")]
    _why: String,
    /// The cause that a careless reader would name, where that is wrong, or right of another object (`FILE_NOT_FOUND`).
    #[serde(default)]
    pub(crate) tempting: Option<String>,
    /// Programs that have to be on the machine.
    #[serde(default)]
    pub(crate) needs: Vec<String>,
    /// What lies in the case's folder before the command starts.
    #[serde(default)]
    pub(crate) files: Vec<File>,
    /// Lines of shell that root runs in that folder, before the command.
    #[serde(default)]
    before: Vec<String>,
    /// A program that runs beside the container, from before its start to after its end.
    #[serde(default)]
    beside: Vec<String>,
    /// Options of `lastwords-agent try`.
    #[serde(default)]
    options: Vec<String>,
    /// The program and its arguments.
    command: Vec<String>,
    /// What it prints is to be seen: by default a shell sends it to /dev/null and becomes the program.
    #[serde(default)]
    loud: bool,
    /// The cause without its prefix.
    pub(crate) cause: String,
    /// The object, with `*` for any text; or a pattern (see the suite of deaths).
    pub(crate) object: Value,
    /// The least confidence.
    pub(crate) least: Confidence,
    /// The pod in which it dies, as the diagnosis is to know it.
    #[serde(default)]
    pub(crate) pod: Option<Value>,
}

/// A file, a folder (its path ends in `/`), or a link.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// Below the case's folder.
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) content: String,
    /// Octal digits.
    #[serde(default)]
    pub(crate) mode: Option<String>,
    /// `UID` or `UID:GID`.
    #[serde(default)]
    pub(crate) owner: Option<String>,
    /// What a link says.
    #[serde(default)]
    pub(crate) link: Option<String>,
}

/// How sure a verdict is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Confidence {
    Low,
    Medium,
    High,
}

impl Confidence {
    /// By its name on the wire.
    pub(crate) fn from_wire(name: &str) -> Option<Self> {
        match name {
            "CONFIDENCE_LOW" => Some(Self::Low),
            "CONFIDENCE_MEDIUM" => Some(Self::Medium),
            "CONFIDENCE_HIGH" => Some(Self::High),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Low => "LOW",
            Self::Medium => "MEDIUM",
            Self::High => "HIGH",
        }
    }
}

impl Case {
    /// The case as it is in this folder.
    pub(crate) fn within(&self, folder: &Path) -> Self {
        let folder = folder.display().to_string();
        let placed = |text: &String| text.replace(FOLDER, &folder);
        let all = |texts: &[String]| texts.iter().map(placed).collect::<Vec<String>>();
        let file = |file: &File| File {
            path: file.path.clone(),
            content: placed(&file.content),
            link: file.link.as_ref().map(placed),
            ..file.clone()
        };
        Self {
            files: self.files.iter().map(file).collect(),
            before: all(&self.before),
            beside: all(&self.beside),
            options: all(&self.options),
            command: all(&self.command),
            object: value_within(&self.object, &folder),
            pod: self.pod.as_ref().map(|pod| value_within(pod, &folder)),
            ..self.clone()
        }
    }

    /// The shell's script that prepares the case, if there is one.
    pub(crate) fn before(&self) -> Option<String> {
        (!self.before.is_empty()).then(|| format!("set -e\n{}", self.before.join("\n")))
    }

    /// The program that runs beside the container, and its arguments.
    pub(crate) fn beside(&self) -> Option<(&str, &[String])> {
        self.beside.split_first().map(|(program, arguments)| (program.as_str(), arguments))
    }

    /// What stands behind `lastwords-agent try`.
    pub(crate) fn arguments(&self) -> Vec<&str> {
        let mut arguments = Vec::new();
        if !self.options.iter().any(|option| option == "--timeout") {
            arguments.extend(["--timeout", TIME_LIMIT]);
        }
        arguments.extend(self.options.iter().map(String::as_str));
        arguments.push("--");
        if !self.loud {
            arguments.extend(SILENCE);
        }
        arguments.extend(self.command.iter().map(String::as_str));
        arguments
    }
}

fn value_within(value: &Value, folder: &str) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace(FOLDER, folder)),
        Value::Array(values) => values.iter().map(|value| value_within(value, folder)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), value_within(value, folder))).collect()
        }
        _ => value.clone(),
    }
}

/// The cases of `folder` (else of the corpus) whose name contains `only`, or all, by file and then in their order.
///
/// # Errors
/// When there is none, or the data cannot be read.
pub(crate) fn cases(folder: Option<&Path>, only: Option<&str>) -> Result<Vec<Case>> {
    let mut cases = match folder {
        Some(folder) => all_in(folder)?,
        None => all()?,
    };
    if let Some(only) = only {
        let names = cases.iter().map(|case| case.name.clone()).collect::<Vec<_>>().join(", ");
        cases.retain(|case| case.name.contains(only));
        if cases.is_empty() {
            bail!("no case is called {only}; there are {names}");
        }
    }
    Ok(cases)
}

fn all() -> Result<Vec<Case>> {
    all_in(&workspace::root().join("tests/corpus/deaths"))
}

fn all_in(folder: &Path) -> Result<Vec<Case>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let of_file: Collection =
            toml::from_str(&text).with_context(|| format!("cannot read {}", file.display()))?;
        cases.extend(of_file.case);
    }
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_stands_once_and_has_no_blank() {
        let all = all().expect("the data can be read");
        let names: BTreeSet<&str> = all.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), all.len());
        assert!(names.iter().all(|name| !name.contains(|c: char| c.is_whitespace() || c == '/')));
    }

    #[test]
    fn causes_are_those_of_the_wire() {
        let proto = include_str!("../../../proto/lastwords/v1/crash.proto");
        for case in all().expect("the data can be read") {
            for cause in [Some(&case.cause), case.tempting.as_ref()].into_iter().flatten() {
                assert!(proto.contains(&format!("  CAUSE_{cause} = ")), "{}: {cause}", case.name);
            }
        }
    }

    #[test]
    fn the_folder_is_put_in_everywhere() {
        let text = "[[case]]\nname = 'a'\nfiles = [{ path = 'b', content = 'see {dir}/c' }]\ncommand = ['cat', '{dir}/b']\nloud = true\ncause = 'KILLED'\nobject = { any_of = ['{dir}/b'] }\nleast = 'HIGH'\n";
        let of_file: Collection = toml::from_str(text).expect("a case");
        let case = of_file.case.first().expect("one").within(Path::new("/srv/x"));
        assert_eq!(case.files.first().map(|file| file.content.as_str()), Some("see /srv/x/c"));
        assert_eq!(case.arguments(), ["--timeout", TIME_LIMIT, "--", "cat", "/srv/x/b"]);
        assert_eq!(case.object, serde_json::json!({ "any_of": ["/srv/x/b"] }));
    }
}
