//! Volumes: directories of the pod that are bind-mounted into its containers.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use serde_json::Value;

use crate::http::{Client, refused};

/// The directory of each volume of a pod, by name.
pub(super) type Volumes = Vec<(String, PathBuf)>;

/// Makes all volumes of a pod below `directory`.
///
/// # Errors
/// In the words of the kubelet's `FailedMount` event: the volume's name and what is missing.
pub(super) async fn prepare(client: &Client, pod: &Value, directory: &Path) -> anyhow::Result<Volumes> {
    let group =
        pod["spec"]["securityContext"]["fsGroup"].as_u64().and_then(|group| u32::try_from(group).ok());
    let mut volumes = Volumes::new();
    for volume in pod["spec"]["volumes"].as_array().into_iter().flatten() {
        let name = volume["name"].as_str().unwrap_or_default().to_owned();
        let root = prepare_one(client, pod, volume, &directory.join(&name), group)
            .await
            .map_err(|error| anyhow!("MountVolume.SetUp failed for volume {name:?} : {error:#}"))?;
        volumes.push((name, root));
    }
    Ok(volumes)
}

async fn prepare_one(
    client: &Client,
    pod: &Value,
    volume: &Value,
    directory: &Path,
    group: Option<u32>,
) -> anyhow::Result<PathBuf> {
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
    if let Some(path) = volume["hostPath"]["path"].as_str() {
        return host_path(path, volume["hostPath"]["type"].as_str().unwrap_or_default());
    }
    fs::create_dir_all(directory)?;
    if volume["emptyDir"].is_object() {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o777))?;
        if let Some(group) = group {
            chown(directory, None, Some(group))?;
            fs::set_permissions(directory, fs::Permissions::from_mode(0o2777))?;
        }
        return Ok(directory.to_owned());
    }
    for (field, kind, plural) in [("secret", "secret", "secrets"), ("configMap", "configmap", "configmaps")] {
        let source = &volume[field];
        if !source.is_object() {
            continue;
        }
        let name = source[if field == "secret" { "secretName" } else { "name" }].as_str().unwrap_or_default();
        let object = match read(client, namespace, plural, name).await? {
            Some(object) => object,
            None if source["optional"] == true => Value::Null,
            None => bail!("{kind} {name:?} not found"),
        };
        let files = files(&object, source, kind, name)?;
        write_projected(directory, &files, group)?;
        return Ok(directory.to_owned());
    }
    bail!("the stand-in kubelet knows emptyDir, hostPath, configMap and secret volumes only")
}

/// A ConfigMap or Secret; `None` when there is none of that name.
///
/// # Errors
/// When the API server cannot be asked.
pub(super) async fn read(
    client: &Client,
    namespace: &str,
    plural: &str,
    name: &str,
) -> anyhow::Result<Option<Value>> {
    match client.get(&format!("/api/v1/namespaces/{namespace}/{plural}/{name}")).await {
        Ok(object) => Ok(Some(object)),
        Err(error) if refused(&error) == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The value of a key of a ConfigMap or Secret; `None` when it has none of that name.
pub(super) fn value_of(object: &Value, key: &str) -> Option<Vec<u8>> {
    if let Some(text) = object["stringData"][key].as_str() {
        return Some(text.as_bytes().to_vec());
    }
    let text = object["data"][key].as_str();
    if object["kind"] == "Secret" {
        return text.and_then(base64);
    }
    text.map(|text| text.as_bytes().to_vec()).or_else(|| object["binaryData"][key].as_str().and_then(base64))
}

/// All keys of a ConfigMap or Secret.
pub(super) fn keys_of(object: &Value) -> Vec<String> {
    let of = |field: &str| {
        object[field].as_object().map(|map| map.keys().cloned().collect::<Vec<_>>()).unwrap_or_default()
    };
    let mut keys = [of("data"), of("stringData"), of("binaryData")].concat();
    keys.sort();
    keys.dedup();
    keys
}

struct ProjectedFile {
    path: String,
    mode: u32,
    content: Vec<u8>,
}

fn files(object: &Value, source: &Value, kind: &str, name: &str) -> anyhow::Result<Vec<ProjectedFile>> {
    let mode = |value: &Value| value.as_u64().and_then(|mode| u32::try_from(mode).ok());
    let default = mode(&source["defaultMode"]).unwrap_or(0o644);
    let Some(items) = source["items"].as_array() else {
        let files = keys_of(object).into_iter().filter_map(|key| {
            Some(ProjectedFile { content: value_of(object, &key)?, path: key, mode: default })
        });
        return Ok(files.collect());
    };
    let mut files = Vec::new();
    for item in items {
        let key = item["key"].as_str().unwrap_or_default();
        match value_of(object, key) {
            Some(content) => files.push(ProjectedFile {
                path: item["path"].as_str().unwrap_or(key).to_owned(),
                mode: mode(&item["mode"]).unwrap_or(default),
                content,
            }),
            None if source["optional"] == true => {}
            None => bail!("references non-existent {kind} key: {key} in {name}"),
        }
    }
    Ok(files)
}

/// Writes files as the kubelet's atomic writer lays them out: `key -> ..data/key`, `..data -> ..<time>`.
fn write_projected(directory: &Path, files: &[ProjectedFile], group: Option<u32>) -> anyhow::Result<()> {
    let stamp = "..2026_11_22_09_10_33.1";
    let data = directory.join(stamp);
    fs::create_dir_all(&data)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777))?;
    for file in files {
        let relative = Path::new(&file.path);
        if !relative.components().all(|part| matches!(part, std::path::Component::Normal(_))) {
            bail!("the path {:?} leaves the volume", file.path);
        }
        let target = data.join(relative);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&target, &file.content)?;
        // The pod's group may read what the kubelet projects for it.
        let mode = if group.is_some() { file.mode | 0o440 } else { file.mode };
        chown(&target, Some(0), Some(group.unwrap_or(0)))?;
        fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
        if let Some(first) = relative.components().next() {
            let link = directory.join(first);
            if fs::symlink_metadata(&link).is_err() {
                symlink(Path::new("..data").join(first), link)?;
            }
        }
    }
    let current = directory.join("..data");
    if fs::symlink_metadata(&current).is_err() {
        symlink(stamp, current)?;
    }
    Ok(())
}

fn host_path(path: &str, kind: &str) -> anyhow::Result<PathBuf> {
    let path = PathBuf::from(path);
    match kind {
        "DirectoryOrCreate" => fs::create_dir_all(&path).with_context(|| path.display().to_string())?,
        "Directory" if !path.is_dir() => {
            bail!("hostPath type check failed: {} is not a directory", path.display())
        }
        "File" if !path.is_file() => bail!("hostPath type check failed: {} is not a file", path.display()),
        // Without a type Kubernetes checks nothing, and the runtime makes a directory.
        _ if !path.exists() => fs::create_dir_all(&path).with_context(|| path.display().to_string())?,
        _ => {}
    }
    Ok(path)
}

/// Standard base64, as Secrets carry it; `None` when it is none.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for character in text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=') {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap_or_default());
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn base64_of_secrets() {
        assert_eq!(base64("aHVudGVyMg==").unwrap(), b"hunter2");
        assert_eq!(base64("not base64!"), None);
    }

    #[test]
    fn projected_files_have_the_kubelets_layout_and_the_mode_asked_for() {
        let root = tempfile::tempdir().unwrap();
        let secret = json!({"kind": "Secret", "data": {"tls.key": "aHVudGVyMg=="}});
        let found = files(&secret, &json!({"defaultMode": 0o600}), "secret", "tls").unwrap();
        write_projected(root.path(), &found, None).unwrap();
        let key = root.path().join("tls.key");
        assert_eq!(fs::read_link(&key).unwrap(), Path::new("..data/tls.key"));
        assert_eq!(fs::read(&key).unwrap(), b"hunter2");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_missing_key_is_named() {
        let source = json!({"items": [{"key": "absent", "path": "x"}]});
        let error =
            files(&json!({"kind": "ConfigMap", "data": {}}), &source, "configmap", "settings").err().unwrap();
        assert_eq!(error.to_string(), "references non-existent configmap key: absent in settings");
    }
}
