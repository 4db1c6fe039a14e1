//! OCI configurations as containerd writes them for the kubelet.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::environment::Environment;
use super::hidden::{HIDDEN, ONLY_READ};
use super::image::PAUSE;
use super::quantity;

/// What containerd gives a container that asks for nothing.
const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// CPU time is handed out in periods of 100 ms.
const CPU_PERIOD: u64 = 100_000;

/// Everything the configuration of one container depends on.
#[derive(Debug)]
pub(super) struct ContainerConfig<'a> {
    /// The pod.
    pub(super) pod: &'a Value,
    /// Its container.
    pub(super) container: &'a Value,
    /// Root file system.
    pub(super) root: &'a Path,
    /// Path of the group, from the cgroup root.
    pub(super) cgroup: String,
    /// Command line, not empty.
    pub(super) command: Vec<String>,
    /// Environment beyond PATH and HOSTNAME.
    pub(super) environment: Environment,
    /// Bind mounts of volumes and of the kubelet's own files.
    pub(super) mounts: Vec<Bind>,
    /// Host PID of the sandbox, whose namespaces are joined; without one the container has its own.
    pub(super) sandbox: Option<i32>,
    /// True on cgroup v2 alone.
    pub(super) unified: bool,
}

/// One bind mount.
#[derive(Debug)]
pub(super) struct Bind {
    /// On the node.
    pub(super) source: PathBuf,
    /// In the container.
    pub(super) target: String,
    /// Read-only.
    pub(super) read_only: bool,
}

/// Whose the process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    /// User id.
    pub(super) uid: u64,
    /// Group id.
    pub(super) gid: u64,
    /// All groups, the first one included, as the status shows them.
    pub(super) groups: Vec<u64>,
}

/// The user of a container: its own wish, else the pod's, else root.
pub(super) fn user(pod: &Value, container: &Value) -> User {
    let pod = &pod["spec"]["securityContext"];
    let wish = |field: &str| container["securityContext"][field].as_u64().or_else(|| pod[field].as_u64());
    let (uid, gid) = (wish("runAsUser").unwrap_or(0), wish("runAsGroup").unwrap_or(0));
    let more = pod["supplementalGroups"].as_array().into_iter().flatten().filter_map(Value::as_u64);
    let mut groups: Vec<u64> = std::iter::once(gid).chain(pod["fsGroup"].as_u64()).chain(more).collect();
    groups.dedup();
    User { uid, gid, groups }
}

/// The configuration of a container.
pub(super) fn container(config: &ContainerConfig<'_>) -> Value {
    let context = &config.container["securityContext"];
    let user = user(config.pod, config.container);
    let capabilities = capabilities(&context["capabilities"]);
    let hostname = config.pod["metadata"]["name"].as_str().unwrap_or_default();
    let mut environment = vec![
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        format!("HOSTNAME={hostname}"),
    ];
    environment.extend(config.environment.iter().map(|(name, value)| format!("{name}={value}")));
    let mut mounts = system_mounts();
    mounts.extend(config.mounts.iter().map(|bind| {
        let access = if bind.read_only { "ro" } else { "rw" };
        json!({"destination": bind.target, "type": "bind", "source": bind.source, "options": ["rbind", "rprivate", access]})
    }));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups},
            "args": config.command,
            "env": environment,
            "cwd": config.container["workingDir"].as_str().unwrap_or("/"),
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "noNewPrivileges": context["allowPrivilegeEscalation"] == false,
        },
        "root": {"path": config.root, "readonly": context["readOnlyRootFilesystem"] == true},
        "mounts": mounts,
        "linux": linux(config),
    })
}

/// The configuration of a pod's sandbox: a process that only holds the namespaces.
pub(super) fn sandbox(pod: &Value, root: &Path, cgroup: String) -> Value {
    let hostname = pod["metadata"]["name"].as_str().unwrap_or_default();
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 65535, "gid": 65535},
            "args": [PAUSE],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "noNewPrivileges": true,
        },
        "root": {"path": root, "readonly": true},
        "hostname": hostname,
        "mounts": system_mounts(),
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": own_namespaces(pod),
            "sysctl": sysctl(pod),
            "resources": {"devices": devices(), "cpu": {"shares": 2}},
            "maskedPaths": HIDDEN,
            "readonlyPaths": ONLY_READ,
        },
    })
}

fn linux(config: &ContainerConfig<'_>) -> Value {
    let mut namespaces = vec![json!({"type": "mount"})];
    let shared_processes = config.pod["spec"]["shareProcessNamespace"] == true;
    match config.sandbox {
        Some(pid) => {
            let joined =
                |kind: &str, file: &str| json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")});
            namespaces.push(joined("ipc", "ipc"));
            namespaces.push(joined("uts", "uts"));
            if !host_network(config.pod) {
                namespaces.push(joined("network", "net"));
            }
            namespaces.push(if shared_processes { joined("pid", "pid") } else { json!({"type": "pid"}) });
        }
        None => namespaces = own_namespaces(config.pod),
    }
    // containerd gives a container its own view of the groups on v2 only.
    if config.unified {
        namespaces.push(json!({"type": "cgroup"}));
    }
    let mut linux = json!({
        "cgroupsPath": config.cgroup,
        "namespaces": namespaces,
        "resources": resources(config),
        "maskedPaths": HIDDEN,
        "readonlyPaths": ONLY_READ,
    });
    if let (None, Some(fields)) = (config.sandbox, linux.as_object_mut()) {
        fields.insert("sysctl".to_owned(), sysctl(config.pod));
    }
    linux
}

fn own_namespaces(pod: &Value) -> Vec<Value> {
    let mut kinds = vec!["pid", "ipc", "uts", "mount"];
    if !host_network(pod) {
        kinds.push("network");
    }
    kinds.into_iter().map(|kind| json!({"type": kind})).collect()
}

fn host_network(pod: &Value) -> bool {
    pod["spec"]["hostNetwork"] == true
}

/// containerd 2 lets every user bind low ports and ping inside the pod's network.
fn sysctl(pod: &Value) -> Value {
    if host_network(pod) {
        return json!({});
    }
    json!({"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"})
}

fn resources(config: &ContainerConfig<'_>) -> Value {
    let of = |kind: &str, name: &str| config.container["resources"][kind][name].as_str().map(str::to_owned);
    let mut resources = json!({"devices": devices()});
    let Some(fields) = resources.as_object_mut() else { return resources };
    if let Some(limit) = of("limits", "memory").and_then(|text| quantity::bytes(&text)) {
        fields.insert("memory".to_owned(), json!({"limit": limit}));
    }
    let shares = of("requests", "cpu")
        .and_then(|text| quantity::millis(&text))
        .map_or(2, |m| (m * 1024 / 1000).max(2));
    let mut cpu = json!({"shares": shares});
    if let (Some(millis), Some(cpu)) =
        (of("limits", "cpu").and_then(|text| quantity::millis(&text)), cpu.as_object_mut())
    {
        cpu.insert("quota".to_owned(), (millis * CPU_PERIOD / 1000).max(1000).into());
        cpu.insert("period".to_owned(), CPU_PERIOD.into());
    }
    fields.insert("cpu".to_owned(), cpu);
    if config.unified {
        // Since 1.28 the kubelet has the kernel kill a container as a whole on v2.
        fields.insert("unified".to_owned(), json!({"memory.oom.group": "1"}));
    }
    resources
}

fn capabilities(wish: &Value) -> Vec<String> {
    let names = |field: &str| -> Vec<String> {
        let names = wish[field].as_array().into_iter().flatten().filter_map(Value::as_str);
        names.map(|name| name.strip_prefix("CAP_").unwrap_or(name).to_uppercase()).collect()
    };
    let (add, drop) = (names("add"), names("drop"));
    let mut kept: Vec<String> = CAPABILITIES.iter().map(|name| (*name).to_owned()).collect();
    kept.retain(|name| {
        !drop.iter().any(|dropped| dropped == "ALL" || name.strip_prefix("CAP_") == Some(dropped))
    });
    for name in add {
        let name = format!("CAP_{name}");
        if !kept.contains(&name) {
            kept.push(name);
        }
    }
    kept
}

fn devices() -> Value {
    json!([{"allow": false, "access": "rwm"}])
}

fn system_mounts() -> Vec<Value> {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": source, "options": options});
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_dropped_and_added_by_kubernetes_names() {
        assert_eq!(capabilities(&json!({})).len(), 14);
        assert_eq!(
            capabilities(&json!({"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]})),
            ["CAP_NET_BIND_SERVICE"]
        );
        assert!(!capabilities(&json!({"drop": ["CHOWN"]})).contains(&"CAP_CHOWN".to_owned()));
    }

    #[test]
    fn the_containers_user_comes_before_the_pods() {
        let pod = json!({"spec": {"securityContext": {"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3}}});
        let own = json!({"securityContext": {"runAsUser": 4242}});
        assert_eq!(user(&pod, &own), User { uid: 4242, gid: 2, groups: vec![2, 3] });
        assert_eq!(user(&json!({}), &json!({})), User { uid: 0, gid: 0, groups: vec![0] });
    }
}
