//! The program itself, run against a server in this process.
#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::time::Duration;

use lastwords_proto::v1::crash_query_server::{CrashQuery, CrashQueryServer};
use lastwords_proto::v1::*;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Crashes that the server knows, three a page whatever is asked for.
struct Known(Vec<Crash>);

const PAGE: usize = 3;

fn crash(number: usize, cause: Cause) -> Crash {
    Crash {
        id: format!("node-1/5f0c/{number}"),
        node: "node-1".into(),
        observed_at: Some(prost_types::Timestamp { seconds: 1_795_353_365, nanos: 0 }),
        container: Some(Container {
            namespace: "shop".into(),
            pod_name: "api".into(),
            name: "app".into(),
            ..Container::default()
        }),
        exit: Some(Exit::default()),
        diagnosis: Some(Diagnosis {
            cause: cause.into(),
            confidence: Confidence::High.into(),
            summary: "it \x1b[31mwas".into(),
            object: "memory limit 64Mi".into(),
            ..Diagnosis::default()
        }),
        ..Crash::default()
    }
}

#[tonic::async_trait]
impl CrashQuery for Known {
    async fn list_crashes(
        &self,
        request: Request<ListCrashesRequest>,
    ) -> Result<Response<ListCrashesResponse>, Status> {
        let request = request.into_inner();
        if request.namespace == "secret" {
            return Err(Status::permission_denied("not yours"));
        }
        let from: usize = request.page_token.parse().unwrap_or(0);
        let wanted = |crash: &&Crash| {
            let container = crash.container.clone().unwrap_or_default();
            let cause = crash.diagnosis.as_ref().map(|diagnosis| diagnosis.cause);
            (request.namespace.is_empty() || container.namespace == request.namespace)
                && (request.cause.is_none() || request.cause == cause)
                && (request.include_completed || cause != Some(Cause::Completed.into()))
        };
        let all: Vec<Crash> = self.0.iter().filter(wanted).cloned().collect();
        let crashes: Vec<Crash> = all.iter().skip(from).take(PAGE).cloned().collect();
        let next_page_token = if from + PAGE < all.len() { (from + PAGE).to_string() } else { String::new() };
        Ok(Response::new(ListCrashesResponse { crashes, next_page_token }))
    }

    async fn get_crash(
        &self,
        request: Request<GetCrashRequest>,
    ) -> Result<Response<GetCrashResponse>, Status> {
        let id = request.into_inner().id;
        let crash = self.0.iter().find(|crash| crash.id == id).cloned();
        crash
            .map(|crash| Response::new(GetCrashResponse { crash: Some(crash) }))
            .ok_or_else(|| Status::not_found(id))
    }

    async fn explain_pod(
        &self,
        request: Request<ExplainPodRequest>,
    ) -> Result<Response<ExplainPodResponse>, Status> {
        let request = request.into_inner();
        if request.pod_name != "api" || request.namespace != "shop" {
            return Err(Status::not_found("no such pod"));
        }
        let pod = Pod { namespace: request.namespace, name: request.pod_name, ..Pod::default() };
        Ok(Response::new(ExplainPodResponse {
            pod: Some(pod),
            crashes: self.0.clone(),
            ..Default::default()
        }))
    }

    async fn explain_owner(
        &self,
        request: Request<ExplainOwnerRequest>,
    ) -> Result<Response<ExplainOwnerResponse>, Status> {
        let request = request.into_inner();
        let of_owner = (request.kind.as_str(), request.name.as_str()) == ("deploy", "api");
        if request.namespace != "shop" || (!of_owner && request.selector != "app=api") {
            return Err(Status::not_found("no such owner"));
        }
        let pod = Pod { namespace: request.namespace, name: "api".into(), ..Pod::default() };
        let pods = vec![ExplainPodResponse { pod: Some(pod), crashes: self.0.clone(), ..Default::default() }];
        let owner = if of_owner { "deployment/api".to_owned() } else { String::new() };
        Ok(Response::new(ExplainOwnerResponse { owner, pods, pods_left_out: 0 }))
    }

    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Result<Response<ListNodesResponse>, Status> {
        let hello = AgentHello { agent_version: "0.1.0".into(), ..AgentHello::default() };
        let watched =
            Node { name: "node1".into(), connected: true, agent: Some(hello), pods: 3, ..Node::default() };
        let unwatched = Node { name: "node2".into(), pods: 1, ..Node::default() };
        Ok(Response::new(ListNodesResponse { nodes: vec![watched, unwatched] }))
    }

    type WatchCrashesStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<WatchCrashesResponse, Status>> + Send>>;

    async fn watch_crashes(
        &self,
        _: Request<WatchCrashesRequest>,
    ) -> Result<Response<Self::WatchCrashesStream>, Status> {
        let crashes: Vec<_> =
            self.0.iter().map(|crash| Ok(WatchCrashesResponse { crash: Some(crash.clone()) })).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(crashes))))
    }
}

async fn serve(crashes: Vec<Crash>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder().add_service(CrashQueryServer::new(Known(crashes)));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

fn program(server: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lastwords"));
    command.args(arguments).env("LASTWORDS_SERVER", server).stdin(Stdio::null()).kill_on_drop(true);
    // None, whatever whoever runs this has.
    command.env("KUBECONFIG", "/no/such/kubeconfig");
    command
}

async fn ask(server: SocketAddr, arguments: &[&str]) -> Output {
    let answer = program(&server.to_string(), arguments).output();
    tokio::time::timeout(Duration::from_secs(30), answer).await.unwrap().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn five() -> Vec<Crash> {
    let mut crashes: Vec<Crash> = (1..=4).map(|number| crash(number, Cause::OutOfMemory)).collect();
    crashes.push(crash(5, Cause::Completed));
    crashes
}

#[tokio::test]
async fn get() {
    let server = serve(five()).await;
    let answer = json(&ask(server, &["get", "node-1/5f0c/2", "-o", "json"]).await);
    assert_eq!(answer["id"], "node-1/5f0c/2");
    assert_eq!(answer["exit"]["code"], 0);
    assert_eq!(answer["diagnosis"]["cause"], "CAUSE_OUT_OF_MEMORY");
    let yaml = ask(server, &["get", "node-1/5f0c/2", "-o", "yaml"]).await;
    let read: Value = serde_norway::from_slice(&yaml.stdout).unwrap();
    assert_eq!(read, answer);
    let text = String::from_utf8(ask(server, &["get", "node-1/5f0c/2"]).await.stdout).unwrap();
    assert!(text.starts_with("shop/api container app  OUT OF MEMORY: memory limit 64Mi"), "{text}");
    assert!(text.contains("it \\x1b[31mwas"), "escaped, and no colours where nobody looks: {text}");
}

#[tokio::test]
async fn get_what_is_not_there() {
    let server = serve(vec![]).await;
    let answer = ask(server, &["get", "nothing"]).await;
    assert_eq!(answer.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&answer.stderr),
        "lastwords: there is no crash with the id nothing; look with: lastwords list -A -o json\n"
    );
    assert!(answer.stdout.is_empty());
}

#[tokio::test]
async fn list_goes_through_all_pages_and_filters() {
    let server = serve(five()).await;
    let count = |answer: Value| answer["crashes"].as_array().unwrap().len();
    assert_eq!(count(json(&ask(server, &["list", "-A", "-o", "json"]).await)), 4);
    assert_eq!(count(json(&ask(server, &["list", "-A", "--all", "-o", "json"]).await)), 5);
    assert_eq!(
        count(json(&ask(server, &["list", "-n", "shop", "--cause", "out-of-memory", "-o", "json"]).await)),
        4
    );
    assert_eq!(count(json(&ask(server, &["list", "-A", "--cause", "killed", "-o", "json"]).await)), 0);
    let limited = ask(server, &["list", "-A", "--limit", "2", "-o", "json"]).await;
    assert!(String::from_utf8_lossy(&limited.stderr).contains("there are more than these 2"));
    assert_eq!(count(json(&limited)), 2);
}

#[tokio::test]
async fn list_as_text() {
    let server = serve(five()).await;
    let text = String::from_utf8(ask(server, &["list", "-A"]).await.stdout).unwrap();
    assert_eq!(text.lines().count(), 5);
    assert!(text.starts_with("AGE"), "{text}");
    let none = String::from_utf8(ask(server, &["list"]).await.stdout).unwrap();
    assert_eq!(none, "no crash in namespace default; -A looks in all\n");
}

#[tokio::test]
async fn explain() {
    let server = serve(five()).await;
    let answer = json(&ask(server, &["explain", "pod/api", "-n", "shop", "-o", "json"]).await);
    assert_eq!(answer["pod"]["name"], "api");
    assert_eq!(answer["crashes"].as_array().unwrap().len(), 5);
    assert_eq!(answer.as_object().unwrap().keys().collect::<Vec<_>>(), ["crashes", "pod"]);
    let missing = ask(server, &["explain", "api"]).await;
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("in namespace default"));
}

#[tokio::test]
async fn the_namespace_is_that_of_the_context_as_for_kubectl() {
    let server = serve(five()).await;
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("config");
    let contexts = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "here", "contexts": [
        {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "shop"}},
        {"name": "there", "context": {"cluster": "c", "user": "u", "namespace": "elsewhere"}},
        {"name": "nowhere", "context": {"cluster": "c", "user": "u"}}]}"#;
    std::fs::write(&kubeconfig, contexts).unwrap();
    for (arguments, said) in [
        (&["explain", "api"][..], "shop/api"),
        (&["list"], "shop"),
        (&["explain", "api", "--context", "there"], "in namespace elsewhere"),
        (&["list", "--context", "nowhere"], "in namespace default"),
        (&["list", "-n", "other"], "in namespace other"),
    ] {
        let mut command = program(&server.to_string(), arguments);
        let answer = command.env("KUBECONFIG", &kubeconfig).output().await.unwrap();
        let text = [answer.stdout, answer.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains(said), "{arguments:?}: {text}");
    }
}

#[tokio::test]
async fn watch_prints_a_value_a_line_until_the_server_leaves() {
    let server = serve(five()).await;
    let answer = ask(server, &["watch", "-A", "-o", "json"]).await;
    let lines: Vec<Value> = String::from_utf8(answer.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[4]["diagnosis"]["cause"], "CAUSE_COMPLETED");
    assert_eq!(answer.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&answer.stderr).contains("it ended the watch"));
}

#[tokio::test]
async fn a_refusal_is_told() {
    let server = serve(vec![]).await;
    let answer = ask(server, &["list", "-n", "secret"]).await;
    assert_eq!(answer.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&answer.stderr).contains("answered PermissionDenied: not yours"));
}

#[tokio::test]
async fn nobody_there() {
    // Bound and closed again: nobody listens on this port.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let answer = ask(free, &["list", "-A"]).await;
    assert_eq!(answer.status.code(), Some(69));
    let told = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("Connection refused") && told.contains("--server"), "{told}");
}

#[tokio::test]
async fn a_wrong_address() {
    for wrong in ["https://127.0.0.1:7443", "http://", "not an address"] {
        let answer = program(wrong, &["list"]).output().await.unwrap();
        assert_eq!(answer.status.code(), Some(2), "{wrong}: {answer:?}");
        assert!(answer.stdout.is_empty());
    }
}

#[tokio::test]
async fn a_reader_that_leaves_ends_it_quietly() {
    let many: Vec<Crash> = (0..2_000).map(|number| crash(number, Cause::Killed)).collect();
    let server = serve(many).await;
    let mut child = program(&server.to_string(), &["watch", "-A"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut first).await.unwrap();
    drop(stdout);
    let end = tokio::time::timeout(Duration::from_secs(30), child.wait_with_output()).await.unwrap().unwrap();
    assert!(first.contains("shop/api"), "{first}");
    assert_eq!(end.status.code(), Some(0), "{end:?}");
    assert!(end.stderr.is_empty(), "{end:?}");
}

#[tokio::test]
async fn as_a_plugin_of_kubectl_it_calls_itself_so() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let plugin = folder.join("kubectl-lastwords");
    let _ = std::fs::remove_file(&plugin);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_lastwords"), &plugin).unwrap();
    let answer = Command::new(&plugin).arg("--help").output().await.unwrap();
    assert!(String::from_utf8_lossy(&answer.stdout).contains("Usage: kubectl lastwords"), "{answer:?}");
    let answer = Command::new(&plugin).args(["list", "--since", "soon"]).output().await.unwrap();
    assert_eq!(answer.status.code(), Some(2));
}

#[tokio::test]
async fn what_owns_pods_is_explained_like_them() {
    let server = serve(five()).await;
    let answer = json(&ask(server, &["explain", "deploy/api", "-n", "shop", "-o", "json"]).await);
    assert_eq!(
        (answer["owner"].as_str(), answer["pods_left_out"].as_u64()),
        (Some("deployment/api"), Some(0))
    );
    assert_eq!(answer["pods"][0]["pod"]["name"], "api");
    assert_eq!(answer["pods"][0]["crashes"].as_array().unwrap().len(), 5);
    let answer = json(&ask(server, &["explain", "-l", "app=api", "-n", "shop", "-o", "json"]).await);
    assert_eq!((answer["selector"].as_str(), answer.get("owner")), (Some("app=api"), None));
    let output = ask(server, &["explain", "deploy/api", "-n", "shop"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("deployment/api: 1 pod, 1 with crashes\n"), "{text}");
    let output = ask(server, &["explain", "job/api", "-n", "shop"]).await;
    let sentence = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(sentence.contains("no pod of job/api is known in namespace shop"), "{sentence}");
}

#[tokio::test]
async fn nodes_with_and_without_an_agent() {
    let server = serve(five()).await;
    let answer = json(&ask(server, &["nodes", "-o", "json"]).await);
    assert_eq!(answer["nodes"][0]["agent"]["agent_version"], "0.1.0");
    assert_eq!(
        (answer["nodes"][1]["connected"].as_bool(), answer["nodes"][1]["pods"].as_u64()),
        (Some(false), Some(1))
    );
    let output = ask(server, &["nodes"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("node2: no agent has reported from here"), "{text}");
}
