//! What the kubelet says to a runtime, as far as the test says it: the messages and field numbers of `runtime.v1` (Kubernetes 1.36,
//! staging/src/k8s.io/cri-api/pkg/apis/runtime/v1/api.proto). Fields that the test leaves alone are left out.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

/// A runtime on a busy machine sets up a container within this, or never.
const ANSWER: Duration = Duration::from_secs(120);

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PodSandboxMetadata {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) uid: String,
    #[prost(string, tag = "3")]
    pub(crate) namespace: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PodSandboxConfig {
    #[prost(message, optional, tag = "1")]
    pub(crate) metadata: Option<PodSandboxMetadata>,
    #[prost(string, tag = "3")]
    pub(crate) log_directory: String,
    #[prost(message, optional, tag = "8")]
    pub(crate) linux: Option<LinuxPodSandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LinuxPodSandboxConfig {
    #[prost(string, tag = "1")]
    pub(crate) cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) security_context: Option<LinuxSandboxSecurityContext>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LinuxSandboxSecurityContext {
    #[prost(message, optional, tag = "1")]
    pub(crate) namespace_options: Option<NamespaceOption>,
}

/// Whose namespaces a container has.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct NamespaceOption {
    #[prost(enumeration = "NamespaceMode", tag = "1")]
    pub(crate) network: i32,
    #[prost(enumeration = "NamespaceMode", tag = "2")]
    pub(crate) pid: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum NamespaceMode {
    Pod = 0,
    Container = 1,
    Node = 2,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ContainerMetadata {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(uint32, tag = "2")]
    pub(crate) attempt: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ImageSpec {
    #[prost(string, tag = "1")]
    pub(crate) image: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    pub(crate) metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "2")]
    pub(crate) image: Option<ImageSpec>,
    #[prost(string, repeated, tag = "3")]
    pub(crate) command: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    pub(crate) args: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) envs: Vec<KeyValue>,
    #[prost(message, repeated, tag = "7")]
    pub(crate) mounts: Vec<Mount>,
    #[prost(string, tag = "11")]
    pub(crate) log_path: String,
    #[prost(message, optional, tag = "15")]
    pub(crate) linux: Option<LinuxContainerConfig>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Mount {
    #[prost(string, tag = "1")]
    pub(crate) container_path: String,
    #[prost(string, tag = "2")]
    pub(crate) host_path: String,
    #[prost(bool, tag = "3")]
    pub(crate) readonly: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LinuxContainerConfig {
    #[prost(message, optional, tag = "1")]
    pub(crate) resources: Option<LinuxContainerResources>,
    #[prost(message, optional, tag = "2")]
    pub(crate) security_context: Option<LinuxContainerSecurityContext>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct LinuxContainerResources {
    #[prost(int64, tag = "4")]
    pub(crate) memory_limit_in_bytes: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LinuxContainerSecurityContext {
    #[prost(message, optional, tag = "1")]
    pub(crate) capabilities: Option<Capability>,
    #[prost(bool, tag = "2")]
    pub(crate) privileged: bool,
    #[prost(message, optional, tag = "3")]
    pub(crate) namespace_options: Option<NamespaceOption>,
    #[prost(message, optional, tag = "4")]
    pub(crate) selinux_options: Option<SELinuxOption>,
    #[prost(message, optional, tag = "5")]
    pub(crate) run_as_user: Option<Int64Value>,
    #[prost(bool, tag = "7")]
    pub(crate) readonly_rootfs: bool,
    #[prost(bool, tag = "11")]
    pub(crate) no_new_privs: bool,
    #[prost(message, optional, tag = "12")]
    pub(crate) run_as_group: Option<Int64Value>,
    #[prost(string, repeated, tag = "13")]
    pub(crate) masked_paths: Vec<String>,
    #[prost(string, repeated, tag = "14")]
    pub(crate) readonly_paths: Vec<String>,
    #[prost(message, optional, tag = "15")]
    pub(crate) seccomp: Option<SecurityProfile>,
    #[prost(message, optional, tag = "16")]
    pub(crate) apparmor: Option<SecurityProfile>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Capability {
    #[prost(string, repeated, tag = "1")]
    pub(crate) add_capabilities: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) drop_capabilities: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SELinuxOption {
    #[prost(string, tag = "3")]
    pub(crate) r#type: String,
    #[prost(string, tag = "4")]
    pub(crate) level: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct SecurityProfile {
    #[prost(enumeration = "ProfileType", tag = "1")]
    pub(crate) profile_type: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum ProfileType {
    RuntimeDefault = 0,
    Unconfined = 1,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Int64Value {
    #[prost(int64, tag = "1")]
    pub(crate) value: i64,
}

#[derive(Clone, PartialEq, Message)]
struct RunPodSandboxRequest {
    #[prost(message, optional, tag = "1")]
    config: Option<PodSandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct CreateContainerRequest {
    #[prost(string, tag = "1")]
    pod_sandbox_id: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    sandbox_config: Option<PodSandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct StopContainerRequest {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(int64, tag = "2")]
    timeout: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ExecSyncRequest {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(string, repeated, tag = "2")]
    cmd: Vec<String>,
    #[prost(int64, tag = "3")]
    timeout: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ExecSyncResponse {
    #[prost(int32, tag = "3")]
    exit_code: i32,
}

/// Requests and answers that are an id and nothing else: of a sandbox, of a container.
#[derive(Clone, PartialEq, Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Empty {}

/// A runtime, as the kubelet sees it.
pub(crate) struct Runtime {
    channel: Channel,
}

impl Runtime {
    /// The runtime behind this socket; it is asked only when something is wanted of it.
    pub(crate) fn at(socket: PathBuf) -> Result<Runtime> {
        let address = format!("unix://{}", socket.display());
        Ok(Runtime { channel: Endpoint::try_from(address)?.timeout(ANSWER).connect_lazy() })
    }

    /// Makes a sandbox and returns its id.
    pub(crate) async fn run_sandbox(&self, config: &PodSandboxConfig) -> Result<String> {
        let made: Id =
            self.ask("RunPodSandbox", RunPodSandboxRequest { config: Some(config.clone()) }).await?;
        Ok(made.id)
    }

    /// Ends what runs in a sandbox and removes it.
    pub(crate) async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let _: Empty = self.ask("StopPodSandbox", Id { id: id.to_owned() }).await?;
        let _: Empty = self.ask("RemovePodSandbox", Id { id: id.to_owned() }).await?;
        Ok(())
    }

    /// Makes a container in a sandbox and returns its id.
    pub(crate) async fn create(
        &self,
        sandbox: &str,
        of: &PodSandboxConfig,
        config: ContainerConfig,
    ) -> Result<String> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(of.clone()),
        };
        let made: Id = self.ask("CreateContainer", request).await?;
        Ok(made.id)
    }

    /// Starts it.
    pub(crate) async fn start(&self, id: &str) -> Result<()> {
        let _: Empty = self.ask("StartContainer", Id { id: id.to_owned() }).await?;
        Ok(())
    }

    /// Stops it as the kubelet does: SIGTERM, and SIGKILL after this time.
    pub(crate) async fn stop(&self, id: &str, grace: Duration) -> Result<()> {
        let timeout = i64::try_from(grace.as_secs())?;
        let _: Empty =
            self.ask("StopContainer", StopContainerRequest { container_id: id.to_owned(), timeout }).await?;
        Ok(())
    }

    /// Runs a command in it, as an exec probe does, and returns its exit code.
    pub(crate) async fn exec(&self, id: &str, command: &[&str]) -> Result<i32> {
        let cmd = command.iter().map(|&word| word.to_owned()).collect();
        let request = ExecSyncRequest { container_id: id.to_owned(), cmd, timeout: 30 };
        let answer: ExecSyncResponse = self.ask("ExecSync", request).await?;
        Ok(answer.exit_code)
    }

    async fn ask<Request, Answer>(&self, verb: &str, request: Request) -> Result<Answer>
    where
        Request: Message + Clone + 'static,
        Answer: Message + Default + 'static,
    {
        let mut client = Grpc::new(self.channel.clone());
        client.ready().await.with_context(|| format!("{verb}: the runtime does not answer"))?;
        let path = PathAndQuery::try_from(format!("/runtime.v1.RuntimeService/{verb}"))?;
        let codec = ProstCodec::<Request, Answer>::default();
        let answer = client.unary(tonic::Request::new(request), path, codec).await;
        Ok(answer.with_context(|| format!("{verb} failed"))?.into_inner())
    }
}
