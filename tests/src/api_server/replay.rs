//! Plays a recorded watch into the store, in its own time or faster.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::resource::Resource;
use super::store::{Key, Store};

/// One line of a recording.
#[derive(Debug, Deserialize)]
struct Line {
    /// Seconds since the recording began.
    at: f64,
    #[serde(rename = "type")]
    kind: String,
    object: Value,
}

/// One change to play.
#[derive(Debug)]
struct Step {
    at: Duration,
    version: u64,
    resource: &'static Resource,
    key: Key,
    deleted: bool,
    object: Value,
}

/// Recordings merged in the order in which the recorded server wrote them.
#[derive(Debug)]
pub struct Recording {
    steps: Vec<Step>,
}

impl Recording {
    /// Reads recordings: a JSON object a line (`at`, `type`, `object`), as they are or gzip-compressed.
    ///
    /// # Errors
    /// When a file cannot be read, or a line is no such object; the message names file and line.
    pub fn read(files: &[impl AsRef<Path>]) -> anyhow::Result<Recording> {
        let mut steps = Vec::new();
        for file in files {
            let file = file.as_ref();
            let open = File::open(file)
                .with_context(|| format!("the recording {} cannot be opened", file.display()))?;
            let plain: Box<dyn Read> = if file.extension().is_some_and(|ending| ending == "gz") {
                Box::new(GzDecoder::new(open))
            } else {
                Box::new(open)
            };
            for (number, line) in BufReader::new(plain).lines().enumerate() {
                let step = line.map_err(anyhow::Error::from).and_then(|line| step(&line));
                steps.push(step.with_context(|| format!("{}, line {}", file.display(), number + 1))?);
            }
        }
        // Stable, so that a file without versions keeps its own order.
        steps.sort_by_key(|step| step.version);
        Ok(Recording { steps })
    }

    /// How many changes it holds.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// True when it holds none.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Moves all times by what has passed since the recording ended, so that its last moment is `end`.
    pub fn end_at(&mut self, end: SystemTime) {
        let mut latest = None;
        for step in &mut self.steps {
            each_time(&mut step.object, &mut |time| {
                latest = latest.max(Some(time));
                time
            });
        }
        let Some(shift) = latest.and_then(|latest: SystemTime| end.duration_since(latest).ok()) else {
            return;
        };
        for step in &mut self.steps {
            each_time(&mut step.object, &mut |time| time + shift);
        }
    }

    /// Plays it, `speed` times as fast as it was recorded; an infinite speed plays it at once.
    pub async fn play(self, store: &Store, speed: f64) {
        let start = Instant::now();
        let mut namespaces = HashSet::new();
        for step in self.steps {
            let due = step.at.as_secs_f64() / speed;
            if due.is_finite() && due > 0.0 {
                sleep_until(start + Duration::from_secs_f64(due)).await;
            }
            if namespaces.insert(step.key.0.clone()) && !step.key.0.is_empty() {
                add_namespace(store, &step.key.0);
            }
            let after = (!step.deleted).then_some(step.object);
            // Nothing is refused here: the recorded server had already accepted it.
            let _ = store.write_at(step.resource.store, &step.key, step.version, |_| Ok(after));
        }
    }
}

/// Makes a namespace unless it is there.
pub fn add_namespace(store: &Store, name: &str) {
    let key = (String::new(), name.to_owned());
    let _ = store.write("namespaces", &key, |before| {
        Ok(Some(before.cloned().unwrap_or_else(|| {
            json!({
                "kind": "Namespace", "apiVersion": "v1",
                "metadata": {
                    "name": name, "uid": super::write::new_uid(), "labels": {"kubernetes.io/metadata.name": name},
                    "creationTimestamp": crate::time::seconds(SystemTime::now()),
                },
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
            })
        })))
    });
}

fn step(line: &str) -> anyhow::Result<Step> {
    let line: Line = serde_json::from_str(line).context("is no recorded watch event")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text(&line.object["apiVersion"]), text(&line.object["kind"]));
    let Some(resource) = Resource::of_kind(&api_version, &kind) else {
        bail!("is of a kind that the stand-in does not serve: {api_version} {kind}");
    };
    let metadata = &line.object["metadata"];
    Ok(Step {
        at: Duration::try_from_secs_f64(line.at).context("has a time before the recording")?,
        version: metadata["resourceVersion"].as_str().and_then(|version| version.parse().ok()).unwrap_or(0),
        resource,
        key: (text(&metadata["namespace"]), text(&metadata["name"])),
        deleted: line.kind == "DELETED",
        object: line.object,
    })
}

/// Applies `change` to every string that is a time, except the zero time that Kubernetes writes for "never".
fn each_time(value: &mut Value, change: &mut impl FnMut(SystemTime) -> SystemTime) {
    match value {
        Value::String(text) => {
            if let Some(time) = crate::time::parse(text).filter(|time| *time != SystemTime::UNIX_EPOCH) {
                let moved = change(time);
                // Kubernetes knows two forms, and a reader may insist on the one that belongs to the field.
                *text = if text.contains('.') {
                    crate::time::microseconds(moved)
                } else {
                    crate::time::seconds(moved)
                };
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_time(item, change)),
        Value::Object(fields) => fields.values_mut().for_each(|field| each_time(field, change)),
        _ => {}
    }
}
