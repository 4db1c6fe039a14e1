//! The agent as its DaemonSet makes it: what `deploy/rendered` says of the pod, put into the words in which the kubelet asks a runtime for it
//! (pkg/kubelet/kuberuntime/kuberuntime_container.go and security_context.go, Kubernetes 1.36).

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use lastwords_tests::kubelet::hidden::{HIDDEN, ONLY_READ};
use lastwords_tests::kubelet::image::{BUSYBOX_IMAGE, Images};
use lastwords_tests::kubelet::quantity;
use lastwords_tests::programs::{NODE_NAME, release_program};
use lastwords_tests::rendered;
use serde_json::Value;

use crate::cri::{
    Capability, ContainerConfig, ContainerMetadata, ImageSpec, Int64Value, KeyValue, LinuxContainerConfig,
    LinuxContainerResources, LinuxContainerSecurityContext, Mount, NamespaceMode, ProfileType, SELinuxOption,
    SecurityProfile,
};
use crate::node::{Containerd, Pod, namespaces};

const IMAGE: &str = "localhost/lastwords-agent:test";

/// The number of CAP_SYS_RESOURCE, the one that machines in a sandbox lack (include/uapi/linux/capability.h).
const SYS_RESOURCE: u32 = 24;

/// An agent in its pod.
pub(crate) struct Agent {
    pod: Pod,
    container: String,
}

impl Agent {
    /// Starts one that reports to this address, as the first pod of this node.
    pub(crate) async fn start(containerd: &mut Containerd, aggregator: &str) -> Result<Agent> {
        let set = rendered::object("DaemonSet", "lastwords-agent")?;
        let configuration = rendered::object("ConfigMap", "lastwords-agent")?;
        let spec = &set["spec"]["template"]["spec"];
        give_image(containerd)?;
        let volumes = Volumes::prepare(containerd, &configuration["data"], aggregator)?;
        let processes = if spec["hostPID"] == true { NamespaceMode::Node } else { NamespaceMode::Container };
        let pod = containerd.pod("lastwords-agent", processes).await?;
        fs::create_dir_all(pod.logs().join("agent"))?;
        let config = asked(spec, &volumes, &pod, processes)?;
        let container = containerd.create_as(&pod, config).await?;
        containerd.runtime().start(&container).await?;
        Ok(Agent { pod, container })
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.pod.logs().join("agent/0.log")).unwrap_or_default()
    }

    /// Stops it as the kubelet would.
    pub(crate) async fn stop(self, containerd: &Containerd, grace: std::time::Duration) -> Result<()> {
        containerd.runtime().stop(&self.container, grace).await?;
        containerd.remove(&self.pod).await
    }
}

/// The program, and what it is linked with.
fn give_image(containerd: &Containerd) -> Result<()> {
    let program = release_program("lastwords-agent")?.canonicalize()?;
    let directory = containerd.directory().join("agent-image");
    let images = Images::prepare(&directory, std::slice::from_ref(&program), &[])?;
    let root = images.root(BUSYBOX_IMAGE).context("no root for the agent")?;
    containerd.import(IMAGE, root, &program.display().to_string())
}

/// Where the pod's volumes are on this node.
struct Volumes {
    directory: PathBuf,
    pod_logs: PathBuf,
}

impl Volumes {
    /// The configuration is the DaemonSet's but for the aggregator, which here has neither a certificate nor an API server to ask for a token.
    fn prepare(containerd: &Containerd, data: &Value, aggregator: &str) -> Result<Volumes> {
        let directory = containerd.directory().join("volumes");
        for volume in ["config", "spool", "aggregator-ca", "aggregator-token"] {
            fs::create_dir_all(directory.join(volume))?;
        }
        let text = data["agent.toml"].as_str().context("the ConfigMap has no agent.toml")?;
        let mut configuration = format!("aggregator = {aggregator:?}\nmetrics_listen = \"127.0.0.1:0\"\n");
        for line in text
            .lines()
            .filter(|line| !["aggregator", "metrics_listen"].iter().any(|key| line.starts_with(key)))
        {
            configuration.push_str(line);
            configuration.push('\n');
        }
        fs::write(directory.join("config/agent.toml"), configuration)?;
        Ok(Volumes { directory, pod_logs: containerd.logs() })
    }

    fn path(&self, volume: &Value) -> Result<PathBuf> {
        match volume["name"].as_str() {
            Some("pod-logs") => Ok(self.pod_logs.clone()),
            Some(name @ ("config" | "spool" | "aggregator-ca" | "aggregator-token")) => {
                Ok(self.directory.join(name))
            }
            _ => volume["hostPath"]["path"]
                .as_str()
                .map(PathBuf::from)
                .with_context(|| format!("what is this volume here? {volume}")),
        }
    }
}

/// The request for the agent's container.
fn asked(spec: &Value, volumes: &Volumes, pod: &Pod, processes: NamespaceMode) -> Result<ContainerConfig> {
    let container = &spec["containers"][0];
    let mut mounts = Vec::new();
    for mount in list(&container["volumeMounts"]) {
        let volume = list(&spec["volumes"]).iter().find(|volume| volume["name"] == mount["name"]);
        mounts.push(Mount {
            container_path: text(&mount["mountPath"]),
            host_path: volumes.path(volume.context("a mount without a volume")?)?.display().to_string(),
            readonly: mount["readOnly"] == true,
        });
    }
    let mut envs = Vec::new();
    for variable in list(&container["env"]) {
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("spec.nodeName") => NODE_NAME.to_owned(),
            Some("metadata.uid") => pod.uid.clone(),
            _ => bail!("what is this variable here? {variable}"),
        };
        envs.push(KeyValue { key: text(&variable["name"]), value });
    }
    let limit = container["resources"]["limits"]["memory"].as_str().and_then(quantity::bytes);
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata { name: "agent".to_owned(), attempt: 0 }),
        image: Some(ImageSpec { image: IMAGE.to_owned() }),
        command: Vec::new(),
        args: list(&container["args"]).iter().map(text).collect(),
        envs,
        mounts,
        log_path: "agent/0.log".to_owned(),
        linux: Some(LinuxContainerConfig {
            resources: Some(LinuxContainerResources {
                memory_limit_in_bytes: limit.context("the agent has no limit of memory")?.try_into()?,
            }),
            security_context: Some(security_context(&container["securityContext"], processes)?),
        }),
    })
}

fn security_context(of: &Value, processes: NamespaceMode) -> Result<LinuxContainerSecurityContext> {
    let profile = |of: &Value| match of["type"].as_str() {
        Some("RuntimeDefault") => Ok(SecurityProfile { profile_type: ProfileType::RuntimeDefault as i32 }),
        Some("Unconfined") => Ok(SecurityProfile { profile_type: ProfileType::Unconfined as i32 }),
        _ => bail!("what is this profile here? {of}"),
    };
    let id = |of: &Value| of.as_i64().map(|value| Int64Value { value });
    // Nobody can give what he has not; kernels since 5.11 do without it.
    let can_be_given = |name: &String| name != "SYS_RESOURCE" || is_ours(SYS_RESOURCE);
    Ok(LinuxContainerSecurityContext {
        capabilities: Some(Capability {
            add_capabilities: list(&of["capabilities"]["add"])
                .iter()
                .map(text)
                .filter(can_be_given)
                .collect(),
            drop_capabilities: list(&of["capabilities"]["drop"]).iter().map(text).collect(),
        }),
        privileged: of["privileged"] == true,
        namespace_options: Some(namespaces(processes)),
        selinux_options: Some(SELinuxOption {
            r#type: text(&of["seLinuxOptions"]["type"]),
            level: text(&of["seLinuxOptions"]["level"]),
        }),
        run_as_user: id(&of["runAsUser"]),
        readonly_rootfs: of["readOnlyRootFilesystem"] == true,
        no_new_privs: of["allowPrivilegeEscalation"] == false,
        run_as_group: id(&of["runAsGroup"]),
        masked_paths: HIDDEN.map(str::to_owned).to_vec(),
        readonly_paths: ONLY_READ.map(str::to_owned).to_vec(),
        seccomp: Some(profile(&of["seccompProfile"])?),
        apparmor: Some(profile(&of["appArmorProfile"])?),
    })
}

fn list(of: &Value) -> &[Value] {
    of.as_array().map_or(&[], Vec::as_slice)
}

fn text(of: &Value) -> String {
    of.as_str().unwrap_or_default().to_owned()
}

fn is_ours(capability: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    bounding
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|set| set >> capability & 1 == 1)
}
