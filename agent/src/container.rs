//! A group's path → the container it is. Pure: everything is told by the path's form, as the runtimes and the two cgroup drivers
//! (cgroupfs and systemd) write it.

/// A container as its group's path tells it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContainerRef {
    /// `containerd`, `cri-o`, `docker`, `podman` or `lastwords-try`; empty where the form is common to several runtimes, as
    /// `/kubepods/pod<uid>/<id>` is.
    pub runtime: &'static str,
    /// 64 hexadecimal digits.
    pub id: String,
    /// UID of the pod with its dashes, or the 32 hexadecimal digits of a static pod's manifest hash; empty without Kubernetes.
    pub pod_uid: String,
    /// The path of the container's own group; groups that the container made below it are cut off.
    pub cgroup_path: String,
}

impl ContainerRef {
    /// The container that the group `path` is or lies in, seen from the host's cgroup root. Where containers hold containers (a
    /// node that is itself a container, as in kind, or docker in a pod) it is the innermost one. `None` for all other groups and
    /// for the runtimes' own monitors.
    #[must_use]
    pub fn from_cgroup_path(path: &str) -> Option<Self> {
        let mut found = None;
        let mut parent = "";
        let mut end = 0;
        for segment in path.split('/') {
            let segment_end = end + segment.len();
            if let Some(identity) = identify(segment, parent) {
                found = Some((identity, path.get(..segment_end).unwrap_or(path)));
            }
            parent = segment;
            end = segment_end + 1;
        }
        let ((runtime, id, pod_uid), own_path) = found?;
        Some(Self { runtime, id: id.to_owned(), pod_uid, cgroup_path: own_path.to_owned() })
    }
}

/// Prefixes of `<prefix><64 hex>` and `<prefix><64 hex>.scope`, with the runtime that writes them. What is not listed, such as
/// `crio-conmon-` and `libpod-conmon-`, is no container.
const PREFIXES: &[(&str, &str)] = &[
    ("cri-containerd-", "containerd"),
    ("nerdctl-", "containerd"),
    ("crio-", "cri-o"),
    ("docker-", "docker"),
    ("libpod-payload-", "podman"),
    ("libpod-", "podman"),
    ("lastwords-try-", "lastwords-try"),
];

/// Runtime, id and pod UID of the container whose own group is named `segment` below a group named `parent`.
fn identify<'a>(segment: &'a str, parent: &str) -> Option<(&'static str, &'a str, String)> {
    // A runtime with the cgroupfs driver under a kubelet with the systemd driver takes "slice:prefix:id" for a directory's name.
    let colons: Vec<&str> = segment.split(':').collect();
    if let [slice, prefix, id] = colons.as_slice() {
        let runtime = runtime_of(&format!("{prefix}-"))?;
        return is_id(id).then(|| (runtime, *id, pod_uid(slice).unwrap_or_default()));
    }

    let name = segment.strip_suffix(".scope").unwrap_or(segment);
    if is_id(name) {
        let runtime = match parent {
            "docker" => "docker",
            "k8s.io" => "containerd",
            _ => "",
        };
        return Some((runtime, name, pod_uid(parent).unwrap_or_default()));
    }
    let id = name.get(name.len().checked_sub(ID_LENGTH)?..)?;
    let runtime = runtime_of(name.strip_suffix(id)?)?;
    is_id(id).then(|| (runtime, id, pod_uid(parent).unwrap_or_default()))
}

const ID_LENGTH: usize = 64;

fn is_id(text: &str) -> bool {
    text.len() == ID_LENGTH && text.bytes().all(is_lower_hex)
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn runtime_of(prefix: &str) -> Option<&'static str> {
    PREFIXES.iter().find(|(known, _)| *known == prefix).map(|(_, runtime)| *runtime)
}

/// The UID in a pod's group: `pod<uid>` (cgroupfs) or `kubepods-burstable-pod<uid with underscores>.slice` (systemd, which
/// reserves the dash for its own tree).
fn pod_uid(segment: &str) -> Option<String> {
    let (_, uid) = segment.strip_suffix(".slice").unwrap_or(segment).rsplit_once("pod")?;
    let uid = uid.replace('_', "-");
    let is_hash = uid.len() == 32 && uid.bytes().all(is_lower_hex);
    let is_uuid = uid.len() == 36
        && uid.bytes().enumerate().all(|(position, byte)| match position {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => is_lower_hex(byte),
        });
    (is_hash || is_uuid).then_some(uid)
}

impl ContainerRef {
    /// Whether another container's group lies in this one's: its runtime may run here too.
    #[must_use]
    pub fn encloses(&self, other: &Self) -> bool {
        other.cgroup_path.strip_prefix(&self.cgroup_path).is_some_and(|rest| rest.starts_with('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f8a1c5d7e9b0a2c4e6f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5";
    const OUTER: &str = "00000000111111112222222233333333444444445555555566666666777777ab";
    const UID: &str = "0c1f2a3b-4d5e-6f70-8192-a3b4c5d6e7f8";
    const SLICE_UID: &str = "0c1f2a3b_4d5e_6f70_8192_a3b4c5d6e7f8";
    const STATIC_UID: &str = "5f2d1e0c9b8a7f6e5d4c3b2a19080706";

    fn fill(pattern: &str) -> String {
        pattern
            .replace("{id}", ID)
            .replace("{outer}", OUTER)
            .replace("{uid}", UID)
            .replace("{slice_uid}", SLICE_UID)
            .replace("{static}", STATIC_UID)
    }

    #[test]
    fn knows_the_containers_of_every_runtime_and_driver() {
        // path, runtime, pod UID, the part of the path that is the container's own ("" = all of it)
        let table = [
            ("/kubepods/besteffort/pod{uid}/{id}", "", UID, ""),
            ("/kubepods/burstable/pod{uid}/{id}", "", UID, ""),
            ("/kubepods/pod{uid}/{id}", "", UID, ""),
            ("/kubepods/besteffort/pod{static}/{id}", "", STATIC_UID, ""),
            ("/kubepods/pod{uid}/crio-{id}", "cri-o", UID, ""),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slice_uid}.slice/cri-containerd-{id}.scope",
                "containerd",
                UID,
                "",
            ),
            ("/kubepods.slice/kubepods-pod{slice_uid}.slice/crio-{id}.scope", "cri-o", UID, ""),
            (
                "/kubepods.slice/kubepods-pod{slice_uid}.slice/crio-{id}.scope/container",
                "cri-o",
                UID,
                "/kubepods.slice/kubepods-pod{slice_uid}.slice/crio-{id}.scope",
            ),
            (
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{static}.slice/docker-{id}.scope",
                "docker",
                STATIC_UID,
                "",
            ),
            (
                "/system.slice/containerd.service/kubepods-besteffort-pod{slice_uid}.slice:cri-containerd:{id}",
                "containerd",
                UID,
                "",
            ),
            ("/docker/{id}", "docker", "", ""),
            ("/system.slice/docker-{id}.scope", "docker", "", ""),
            ("/system.slice/nerdctl-{id}.scope", "containerd", "", ""),
            ("/k8s.io/{id}", "containerd", "", ""),
            ("/default/{id}", "", "", ""),
            ("/machine.slice/libpod-{id}.scope", "podman", "", ""),
            ("/machine.slice/libpod-{id}.scope/container", "podman", "", "/machine.slice/libpod-{id}.scope"),
            ("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{id}.scope", "podman", "", ""),
            ("/libpod_parent/libpod-{id}", "podman", "", ""),
            ("/lastwords-try-{id}", "lastwords-try", "", ""),
            ("/some/where/lastwords-try-{id}", "lastwords-try", "", ""),
            // kind and k3d: the node is a container itself
            ("/docker/{outer}/kubelet/kubepods/besteffort/pod{uid}/{id}", "", UID, ""),
            ("/docker/{outer}/kubepods/burstable/pod{uid}/{id}", "", UID, ""),
            (
                "/system.slice/docker-{outer}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{slice_uid}.slice/cri-containerd-{id}.scope",
                "containerd",
                UID,
                "",
            ),
            // docker in a pod, and systemd in a container
            ("/kubepods/pod{uid}/{outer}/docker/{id}", "docker", "", ""),
            ("/kubepods/pod{uid}/{id}/system.slice/nginx.service", "", UID, "/kubepods/pod{uid}/{id}"),
        ];
        for (pattern, runtime, pod_uid, own) in table {
            let path = fill(pattern);
            let own_path = if own.is_empty() { path.clone() } else { fill(own) };
            let expected =
                ContainerRef { runtime, id: ID.into(), pod_uid: pod_uid.into(), cgroup_path: own_path };
            assert_eq!(ContainerRef::from_cgroup_path(&path), Some(expected), "{pattern}");
        }
    }

    #[test]
    fn a_container_in_a_container_is_enclosed() {
        let of = |pattern| ContainerRef::from_cgroup_path(&fill(pattern)).unwrap();
        let (outer, inner) = (of("/docker/{outer}"), of("/docker/{outer}/docker/{id}"));
        assert!(outer.encloses(&inner));
        assert!(!inner.encloses(&outer) && !outer.encloses(&outer) && !of("/docker/{id}").encloses(&inner));
    }

    #[test]
    fn other_groups_are_no_containers() {
        let table = [
            "",
            "/",
            "/init.scope",
            "/system.slice/sshd.service",
            "/kubepods",
            "/kubepods/besteffort/pod{uid}",
            "/kubepods.slice/kubepods-pod{slice_uid}.slice",
            "/kubepods.slice/kubepods-pod{slice_uid}.slice/crio-conmon-{id}.scope",
            "/machine.slice/libpod-conmon-{id}.scope",
            "/system.slice/buildkit-{id}.scope",
            "/docker/short0123",
            "/kubepods/pod{uid}/3F8A1C5D7E9B0A2C4E6F8091A2B3C4D5E6F708192A3B4C5D6E7F8091A2B3C4D5",
            "/kubepods/pod{uid}/{id}0",
            "/user.slice/user-1000.slice/session-{id}-3.scope",
            "/a:b:{id}",
        ];
        for pattern in table {
            assert_eq!(ContainerRef::from_cgroup_path(&fill(pattern)), None, "{pattern}");
        }
    }

    #[test]
    fn a_pod_like_name_that_carries_no_uid_gives_none() {
        for parent in [
            "podman",
            "tripod-1",
            "pod",
            "podzzzzzzzz-4d5e-6f70-8192-a3b4c5d6e7f8",
            "pod日本語日本語日本語日本",
        ] {
            let path = format!("/{parent}/{ID}");
            let found = ContainerRef::from_cgroup_path(&path);
            assert_eq!(found.map(|container| container.pod_uid), Some(String::new()), "{parent}");
        }
        assert_eq!(ContainerRef::from_cgroup_path(&format!("/{}", "日本語".repeat(30))), None);
    }
}
