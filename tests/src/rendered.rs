//! What a cluster is given: the objects of `deploy/rendered`.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::Deserialize as _;
use serde_json::Value;

/// All of them, in the order of the file.
///
/// # Errors
/// When the file is not there, or no YAML.
pub fn objects() -> anyhow::Result<Vec<Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/rendered/lastwords.yaml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_norway::Deserializer::from_str(&text)
        .map(|document| {
            Value::deserialize(document).with_context(|| format!("{} is no YAML", path.display()))
        })
        .collect()
}

/// The one of this kind and name.
///
/// # Errors
/// As [`objects`], and when there is none.
pub fn object(kind: &str, name: &str) -> anyhow::Result<Value> {
    let is_it = |object: &Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects()?.into_iter().find(is_it).with_context(|| format!("deploy/rendered has no {kind} {name}"))
}
