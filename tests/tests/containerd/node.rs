//! A real containerd with everything of it in a directory of its own, asked for pods as the kubelet asks.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lastwords_tests::containers::new_id;
use lastwords_tests::kubelet::image::{BUSYBOX_IMAGE, Images};
use lastwords_tests::programs::Program;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::cri::{
    ContainerConfig, ContainerMetadata, ImageSpec, Int64Value, LinuxContainerConfig, LinuxContainerResources,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode,
    NamespaceOption, PodSandboxConfig, PodSandboxMetadata, Runtime,
};

/// What the pods are below, as with the kubelet's cgroupfs driver.
const GROUPS: &str = "/kubepods/burstable";

/// Of all pods.
pub(crate) const NAMESPACE: &str = "shop";

/// A containerd that ends with this value, and all that it ran with it.
pub(crate) struct Containerd {
    process: Option<Program>,
    runtime: Runtime,
    pods: Vec<String>,
    programs: PathBuf,
    directory: TempDir,
}

/// A pod that runs.
pub(crate) struct Pod {
    /// As Kubernetes gives one.
    pub(crate) uid: String,
    sandbox: String,
    config: PodSandboxConfig,
}

impl Pod {
    /// Where the logs of its containers are.
    pub(crate) fn logs(&self) -> &Path {
        Path::new(&self.config.log_directory)
    }
}

/// What a container gets beside its command.
#[derive(Default, Clone, Copy)]
pub(crate) struct Wishes {
    /// The user it runs as, when it is not root.
    pub(crate) user: Option<i64>,
    /// Bytes; 0 without a limit.
    pub(crate) memory: i64,
    /// All containers of the pod see each other's processes.
    pub(crate) shared_processes: bool,
    /// How often it has been started before.
    pub(crate) attempt: u32,
}

impl Wishes {
    /// Whose processes the pod's containers see.
    pub(crate) fn processes(self) -> NamespaceMode {
        if self.shared_processes { NamespaceMode::Pod } else { NamespaceMode::Container }
    }
}

impl Containerd {
    /// Starts it and gives it an image.
    pub(crate) fn start(programs: PathBuf) -> Result<Containerd> {
        let directory = tempfile::Builder::new().prefix("lastwords-containerd-").tempdir()?;
        let path = directory.path();
        fs::create_dir_all(path.join("pods"))?;
        fs::write(path.join("config.toml"), configuration(path))?;
        let roots = Images::prepare(&path.join("image"), &[], &[])?;
        let busybox = roots.root(BUSYBOX_IMAGE).context("no busybox image")?;
        add_odd_files(busybox)?;
        let runtime = Runtime::at(path.join("socket"))?;
        let mut this = Containerd { process: None, runtime, pods: Vec::new(), programs, directory };
        this.start_again()?;
        this.import(BUSYBOX_IMAGE, busybox, "/pause")?;
        Ok(this)
    }

    /// Gives it an image with this file system.
    pub(crate) fn import(&self, name: &str, root: &Path, entry: &str) -> Result<()> {
        let archive = self.directory.path().join("image.tar");
        write_image(name, root, entry, &archive)?;
        self.ctr(&["images", "import", &archive.display().to_string()])?;
        Ok(())
    }

    /// What it may write to.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Kills containerd itself, as an upgrade or a crash of it would: the containers stay with their shims.
    pub(crate) fn kill(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill();
        }
    }

    /// Starts containerd itself once more.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        let mut command = Command::new(self.programs.join("containerd"));
        command.arg("--config").arg(self.directory.path().join("config.toml")).env("PATH", self.path());
        let mut process = Program::start(command, "containerd", self.directory.path())?;
        process.wait_for_line("containerd successfully booted")?;
        self.process = Some(process);
        Ok(())
    }

    /// Where the pods' logs are.
    pub(crate) fn logs(&self) -> PathBuf {
        self.directory.path().join("pods")
    }

    /// The runtime.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Makes a pod of this name in [`NAMESPACE`].
    pub(crate) async fn pod(&mut self, name: &str, processes: NamespaceMode) -> Result<Pod> {
        let uid = uid();
        let logs = self.logs().join(format!("{NAMESPACE}_{name}_{uid}"));
        fs::create_dir_all(logs.join("app"))?;
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: uid.clone(),
                namespace: NAMESPACE.to_owned(),
            }),
            log_directory: logs.display().to_string(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("{GROUPS}/pod{uid}"),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces(processes)),
                }),
            }),
        };
        self.pods.push(uid.clone());
        let sandbox = self.runtime.run_sandbox(&config).await?;
        Ok(Pod { uid, sandbox, config })
    }

    /// Makes the container `app` of a pod, and returns its id.
    pub(crate) async fn create(&self, pod: &Pod, command: &[&str], wishes: Wishes) -> Result<String> {
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "app".to_owned(), attempt: wishes.attempt }),
            image: Some(ImageSpec { image: BUSYBOX_IMAGE.to_owned() }),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            log_path: format!("app/{}.log", wishes.attempt),
            linux: Some(LinuxContainerConfig {
                resources: Some(LinuxContainerResources { memory_limit_in_bytes: wishes.memory }),
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(namespaces(wishes.processes())),
                    run_as_user: wishes.user.map(|value| Int64Value { value }),
                    ..LinuxContainerSecurityContext::default()
                }),
            }),
            ..ContainerConfig::default()
        };
        self.create_as(pod, config).await
    }

    /// Makes a container of a pod, and returns its id.
    pub(crate) async fn create_as(&self, pod: &Pod, config: ContainerConfig) -> Result<String> {
        self.runtime.create(&pod.sandbox, &pod.config, config).await
    }

    /// Ends a pod.
    pub(crate) async fn remove(&self, pod: &Pod) -> Result<()> {
        self.runtime.remove_sandbox(&pod.sandbox).await
    }

    fn path(&self) -> OsString {
        let mut path = self.programs.clone().into_os_string();
        path.push(":");
        path.push(env::var_os("PATH").unwrap_or_default());
        path
    }

    fn ctr(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(self.programs.join("ctr"));
        command.arg("--address").arg(self.directory.path().join("socket")).args(["--namespace", "k8s.io"]);
        let output = command.args(arguments).env("PATH", self.path()).stdin(Stdio::null()).output()?;
        if !output.status.success() {
            bail!("ctr {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // What a test that went well has left is nothing; a containerd that does not answer leaves what it runs to the next look.
        for id in self.ctr(&["tasks", "list", "--quiet"]).unwrap_or_default().split_whitespace() {
            if let Err(error) = self.ctr(&["tasks", "delete", "--force", id]) {
                eprintln!("{error:#}");
            }
        }
        drop(self.process.take());
        for uid in &self.pods {
            for hierarchy in hierarchies() {
                // Empty by now; not there where the runtime has removed it.
                let _ =
                    fs::remove_dir(hierarchy.join(format!("{}/pod{uid}", GROUPS.trim_start_matches('/'))));
            }
        }
    }
}

/// The network of the node: a pod's own needs a network plug-in.
pub(crate) fn namespaces(processes: NamespaceMode) -> NamespaceOption {
    NamespaceOption { network: NamespaceMode::Node as i32, pid: processes as i32 }
}

fn uid() -> String {
    let digits: String = new_id().chars().take(12).collect();
    format!("0f0f0f0f-0000-4000-8000-{digits}")
}

/// The mount points of the control groups: one, or one a controller.
fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let below = fs::read_dir(root).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    below.chain([root.to_owned()]).filter(|path| path.join("kubepods").is_dir()).collect()
}

/// Nothing of it outside the directory.
fn configuration(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        r#"version = 3
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.nri.v1.nri"]
[grpc]
address = "{directory}/socket"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{BUSYBOX_IMAGE}"
[plugins.'io.containerd.cri.v1.runtime']
disable_apparmor = true
tolerate_missing_hugetlb_controller = true
restrict_oom_score_adj = true
"#
    )
}

/// A key that only root reads, and a file that nobody may execute.
fn add_odd_files(root: &Path) -> Result<()> {
    fs::write(root.join("etc/key"), "")?;
    fs::set_permissions(root.join("etc/key"), fs::Permissions::from_mode(0o400))?;
    fs::write(root.join("bin/plain"), "#!/bin/sh\n")?;
    fs::set_permissions(root.join("bin/plain"), fs::Permissions::from_mode(0o644))?;
    Ok(())
}

/// An archive as `docker save` writes it, with one layer.
fn write_image(name: &str, root: &Path, entry: &str, archive: &Path) -> Result<()> {
    let mut layer = tar::Builder::new(Vec::new());
    layer.follow_symlinks(false);
    layer.append_dir_all(".", root)?;
    let layer = layer.into_inner()?;
    let digest: String = Sha256::digest(&layer).iter().map(|byte| format!("{byte:02x}")).collect();
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Entrypoint": [entry], "Env": ["PATH=/usr/bin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    let mut archive = tar::Builder::new(File::create(archive)?);
    let parts = [
        ("config.json", config.to_string().into_bytes()),
        ("layer.tar", layer),
        ("manifest.json", manifest.to_string().into_bytes()),
    ];
    for (name, bytes) in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len().try_into()?);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append_data(&mut header, name, bytes.as_slice())?;
    }
    archive.finish().context("the image cannot be written")
}

/// A grace as short as the interface allows.
pub(crate) const SHORT_GRACE: Duration = Duration::from_secs(1);

/// The DaemonSet's.
pub(crate) const GRACE: Duration = Duration::from_secs(10);
