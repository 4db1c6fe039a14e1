//! The pod of a case, as far as a diagnosis looks at it.

use lastwords_diagnosis::PodContext;
use lastwords_diagnosis::pod::Mount;
use serde::Deserialize;

/// What a case says of its pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Pod {
    mounts: Vec<VolumeMount>,
    read_only_root_filesystem: bool,
    run_as_user: Option<i64>,
    memory_limit: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct VolumeMount {
    path: String,
    volume: String,
    source: String,
    #[serde(default)]
    read_only: bool,
}

impl Pod {
    pub(crate) fn context(&self) -> PodContext {
        let mut pod = PodContext { name: "pod".to_owned(), ..PodContext::default() };
        pod.container.field_path = "spec.containers[0]".to_owned();
        pod.container.memory_limit.clone_from(&self.memory_limit);
        pod.container.run_as_user = self.run_as_user;
        pod.container.read_only_root_filesystem = self.read_only_root_filesystem;
        pod.container.mounts = self.mounts.iter().map(VolumeMount::context).collect();
        pod
    }
}

impl VolumeMount {
    fn context(&self) -> Mount {
        Mount {
            path: self.path.clone(),
            volume: self.volume.clone(),
            source: self.source.clone(),
            read_only: self.read_only,
        }
    }
}
