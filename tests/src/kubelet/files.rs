//! The files and mounts that the kubelet gives a container.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;

use super::oci::Bind;
use super::volumes::Volumes;

/// The kubelet reads no more of a termination message.
const LONGEST_MESSAGE: usize = 4096;

/// A container's volumes, and the files that every container gets, which are written into `directory`.
pub(super) fn mounts(
    pod: &Value,
    container: &Value,
    volumes: &Volumes,
    directory: &Path,
) -> io::Result<Vec<Bind>> {
    let mut binds = Vec::new();
    for mount in container["volumeMounts"].as_array().into_iter().flatten() {
        let volume = volumes.iter().find(|(name, _)| mount["name"] == name.as_str());
        let (Some((_, source)), Some(target)) = (volume, mount["mountPath"].as_str()) else { continue };
        let source = mount["subPath"].as_str().map_or_else(|| source.clone(), |below| source.join(below));
        binds.push(Bind { source, target: target.to_owned(), read_only: mount["readOnly"] == true });
    }
    let pod = pod["metadata"]["name"].as_str().unwrap_or_default();
    let message = container["terminationMessagePath"].as_str().unwrap_or("/dev/termination-log");
    for (name, target, content) in [
        ("hosts", "/etc/hosts", format!("127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.0.1\t{pod}\n")),
        ("hostname", "/etc/hostname", format!("{pod}\n")),
        ("resolv.conf", "/etc/resolv.conf", "nameserver 127.0.0.1\n".to_owned()),
        ("termination-log", message, String::new()),
    ] {
        let source = directory.join(name);
        fs::write(&source, content)?;
        if binds.iter().all(|bind| bind.target != target) {
            binds.push(Bind { source, target: target.to_owned(), read_only: false });
        }
    }
    Ok(binds)
}

/// What a container wrote to its termination message file: the end of it, `None` when it wrote nothing.
pub(super) fn termination_message(directory: &Path) -> Option<String> {
    let bytes = fs::read(directory.join("termination-log")).ok().filter(|bytes| !bytes.is_empty())?;
    let kept = bytes.get(bytes.len().saturating_sub(LONGEST_MESSAGE)..).unwrap_or_default();
    Some(String::from_utf8_lossy(kept).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_volume_at_a_place_of_the_kubelets_own_files_wins() {
        let directory = tempfile::tempdir().unwrap();
        let container = json!({"volumeMounts": [{"name": "h", "mountPath": "/etc/hosts", "subPath": "hosts", "readOnly": true}]});
        let volumes = vec![("h".to_owned(), "/volumes/h".into())];
        let binds = mounts(&json!({}), &container, &volumes, directory.path()).unwrap();
        let hosts: Vec<_> = binds.iter().filter(|bind| bind.target == "/etc/hosts").collect();
        assert_eq!(hosts.len(), 1);
        assert!(hosts[0].read_only && hosts[0].source == Path::new("/volumes/h/hosts"));
        assert_eq!(binds.len(), 4);
    }

    #[test]
    fn the_end_of_a_long_message_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(termination_message(directory.path()), None);
        fs::write(directory.path().join("termination-log"), format!("{}end", "x".repeat(5000))).unwrap();
        let message = termination_message(directory.path()).unwrap();
        assert!(message.len() == LONGEST_MESSAGE && message.ends_with("end"));
    }
}
