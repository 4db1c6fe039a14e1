//! The rights that the DaemonSet in `deploy/rendered` gives its container.

use std::fs;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::workspace;

/// What containerd gives a container that asks for nothing, which the DaemonSet drops.
const USUAL: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// The number of CAP_SYS_RESOURCE, the one that machines in a sandbox lack (include/uapi/linux/capability.h).
const SYS_RESOURCE: u32 = 24;

/// The same rights as options of `ctr run`: its capabilities and no others, containerd's own seccomp profile, a root file system that is only
/// read, the control groups of the node.
///
/// # Errors
/// When the DaemonSet is not there or has another form.
pub(super) fn as_options() -> Result<Vec<String>> {
    let wanted = capabilities().context("deploy/rendered has no DaemonSet with capabilities")?;
    let mut options = ["--read-only", "--seccomp"].map(str::to_owned).to_vec();
    options.extend([
        "--mount".to_owned(),
        "type=bind,src=/sys/fs/cgroup,dst=/sys/fs/cgroup,options=rbind:ro".to_owned(),
    ]);
    for name in USUAL.iter().filter(|name| !wanted.iter().any(|wanted| wanted == *name)) {
        options.extend(["--cap-drop".to_owned(), format!("CAP_{name}")]);
    }
    for name in &wanted {
        // Nobody can give what he has not; kernels since 5.11 do without it.
        if name == "SYS_RESOURCE" && !is_ours(SYS_RESOURCE) {
            eprintln!("image: this machine has no CAP_SYS_RESOURCE to give; the agent is tried without it");
            continue;
        }
        options.extend(["--cap-add".to_owned(), format!("CAP_{name}")]);
    }
    Ok(options)
}

fn capabilities() -> Option<Vec<String>> {
    let text = fs::read_to_string(workspace::root().join("deploy/rendered/lastwords.yaml")).ok()?;
    let objects =
        serde_norway::Deserializer::from_str(&text).filter_map(|document| Value::deserialize(document).ok());
    let agent = objects.into_iter().find(|object| object["kind"] == "DaemonSet")?;
    let added = &agent["spec"]["template"]["spec"]["containers"][0]["securityContext"]["capabilities"]["add"];
    added.as_array()?.iter().map(|name| Some(name.as_str()?.to_owned())).collect()
}

fn is_ours(capability: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    bounding
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|set| set >> capability & 1 == 1)
}
