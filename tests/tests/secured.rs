//! From what the chart renders to `kubectl lastwords explain`, with everybody asked who they are: an API server that knows tokens and RBAC, the
//! aggregator with its own authority, an agent with a projected token, and people who may read this and not that.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

use lastwords_tests::api_server::access::{OWN_AUDIENCE, User};
use lastwords_tests::api_server::{ApiServer, Options};
use lastwords_tests::containers::Container;
use lastwords_tests::http::Client;
use lastwords_tests::lastwords::{WatchedMachine, kubectl_lastwords};
use lastwords_tests::patience::eventually;
use lastwords_tests::programs::{Program, is_ready, release_program};
use lastwords_tests::rendered;
use serde_json::{Value, json};

const PROGRAMS: [&str; 3] = ["lastwords", "lastwords-agent", "lastwords-aggregator"];
const NODE: &str = "node1";

/// What an object of a kind is called in paths.
fn path_of(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]).to_lowercase());
    let root = if version.contains('/') { "/apis" } else { "/api" };
    let plural = match (kind.strip_suffix('y'), kind.ends_with('s')) {
        (Some(stem), _) => format!("{stem}ies"),
        (None, true) => format!("{kind}es"),
        (None, false) => format!("{kind}s"),
    };
    match text(&object["metadata"]["namespace"]) {
        none if none.is_empty() => format!("{root}/{version}/{plural}"),
        namespace => format!("{root}/{version}/namespaces/{namespace}/{plural}"),
    }
}

/// What a configuration says, with these values in the place of what a cluster has.
fn here(configuration: &str, values: &[(&str, String)]) -> String {
    let line = |line: &str| {
        let of = |(key, _): &&(&str, String)| line.starts_with(&format!("{key} = "));
        values.iter().find(of).map_or(line.to_owned(), |(key, value)| format!("{key} = {value:?}"))
    };
    let text: Vec<String> = configuration.lines().map(line).collect();
    for (key, value) in values {
        assert!(text.contains(&format!("{key} = {value:?}")), "the chart sets no {key}: {configuration}");
    }
    text.join("\n") + "\n"
}

fn configuration(name: &str, file: &str) -> String {
    rendered::object("ConfigMap", name).unwrap()["data"][file].as_str().unwrap().to_owned()
}

struct Cluster {
    api: ApiServer,
    admin: Client,
    directory: tempfile::TempDir,
}

impl Cluster {
    /// With all that the chart renders, and what every cluster has.
    async fn start() -> Self {
        let options = Options { schedule: false, authorize: true, ..Options::default() };
        let api = ApiServer::start(options).await.unwrap();
        let masters =
            User { name: "admin".to_owned(), groups: vec!["system:masters".to_owned()], extra: json!({}) };
        api.give_token("admin", masters, &[OWN_AUDIENCE]);
        let admin = Client::new(&api.url()).unwrap().with_token("admin");
        let this = Self { api, admin, directory: tempfile::tempdir().unwrap() };
        let namespace =
            |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        for object in ["lastwords", "shop", "vault"].map(namespace) {
            this.make(object).await;
        }
        this.role("kube-system", "extension-apiserver-authentication-reader", json!([
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["extension-apiserver-authentication"],
             "verbs": ["get", "list", "watch"]},
        ])).await;
        for object in rendered::objects().unwrap() {
            this.make(object).await;
        }
        this
    }

    async fn make(&self, object: Value) -> Value {
        self.admin.post(&path_of(&object), &object).await.unwrap()
    }

    async fn role(&self, namespace: &str, name: &str, rules: Value) {
        let api_version = "rbac.authorization.k8s.io/v1";
        let metadata = json!({"name": name, "namespace": namespace});
        self.make(json!({"apiVersion": api_version, "kind": "Role", "metadata": metadata, "rules": rules}))
            .await;
    }

    /// Somebody with a kubeconfig and these rights, by namespace.
    async fn person(&self, name: &str, rights: &[(&str, Value)]) -> PathBuf {
        let api_version = "rbac.authorization.k8s.io/v1";
        for (namespace, rules) in rights {
            self.role(namespace, name, rules.clone()).await;
            let subject = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name});
            self.make(json!({"apiVersion": api_version, "kind": "RoleBinding",
                "metadata": {"name": name, "namespace": namespace}, "subjects": [subject],
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}}))
                .await;
        }
        self.api.give_token(name, User { name: name.to_owned(), ..User::default() }, &[OWN_AUDIENCE]);
        let file = self.path(&format!("{name}.kubeconfig"));
        self.api.write_kubeconfig_with(&file, name, "shop").unwrap();
        file
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The aggregator's pod as the chart makes it: with the account's token, the configuration, and on all addresses.
    async fn aggregator(&self) -> (Program, SocketAddr) {
        let deployment = rendered::object("Deployment", "lastwords-aggregator").unwrap();
        let template = &deployment["spec"]["template"];
        let account = template["spec"]["serviceAccountName"].as_str().unwrap();
        self.api.give_token("aggregator", User::service_account("lastwords", account), &[OWN_AUDIENCE]);
        self.api
            .write_kubeconfig_with(&self.path("aggregator.kubeconfig"), "aggregator", "lastwords")
            .unwrap();
        let loopback = || "127.0.0.1:0".to_owned();
        let values = [("health_listen", loopback()), ("metrics_listen", loopback())];
        let text = here(&configuration("lastwords-aggregator", "aggregator.toml"), &values);
        fs::write(self.path("aggregator.toml"), text).unwrap();
        let mut command = Command::new(release_program("lastwords-aggregator").unwrap());
        command.arg("--config").arg(self.path("aggregator.toml"));
        command.arg("--kubeconfig").arg(self.path("aggregator.kubeconfig"));
        command
            .args(["--listen", "0.0.0.0:0", "--store"])
            .arg(format!("sqlite:{}", self.path("crashes.db").display()));
        let mut program = Program::start(command, "lastwords-aggregator", self.directory.path()).unwrap();
        let address: SocketAddr = program.wait_for_address().unwrap().parse().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], address.port()));
        let mut metadata = template["metadata"].clone();
        metadata["name"] = "lastwords-aggregator-x".into();
        metadata["namespace"] = "lastwords".into();
        self.make(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}))
            .await;
        let pod = "/api/v1/namespaces/lastwords/pods/lastwords-aggregator-x/status";
        self.admin.patch(pod, &json!({"status": {"phase": "Running"}})).await.unwrap();
        self.api.forward_port("lastwords", "lastwords-aggregator-x", 7443, address);
        (program, address)
    }

    /// The agent with what its pod mounts: the authority that the aggregator tells, and a token that names the node.
    async fn agent(&self, aggregator: SocketAddr) -> Program {
        let authority = eventually("the aggregator tells its authority", async || {
            let map = self.admin.get("/api/v1/namespaces/lastwords/configmaps/lastwords-ca").await.unwrap();
            Some(map["data"]["ca.crt"].as_str()?.to_owned())
        })
        .await;
        let mut user = User::service_account("lastwords", "lastwords-agent");
        user.extra = json!({"authentication.kubernetes.io/node-name": [NODE]});
        self.api.give_token("agent", user, &["lastwords"]);
        fs::write(self.path("ca.crt"), authority).unwrap();
        fs::write(self.path("token"), "agent").unwrap();
        let file = |name: &str| self.path(name).display().to_string();
        let values = [
            ("aggregator", format!("https://localhost:{}", aggregator.port())),
            ("aggregator_ca", file("ca.crt")),
            ("aggregator_token", file("token")),
            ("metrics_listen", "127.0.0.1:0".to_owned()),
        ];
        let text = here(&configuration("lastwords-agent", "agent.toml"), &values);
        let own = format!("spool_directory = {:?}\npod_logs_directory = {:?}\n", file("spool"), file("pods"));
        fs::write(self.path("agent.toml"), own + &text).unwrap();
        let mut command = Command::new(release_program("lastwords-agent").unwrap());
        command.arg("run").arg("--config").arg(self.path("agent.toml")).env("NODE_NAME", NODE);
        let mut agent = Program::start(command, "lastwords-agent", self.directory.path()).unwrap();
        agent.wait_for_line("watching ").unwrap();
        agent
    }

    /// A container that misses a file, and its pod in this namespace.
    async fn dies(&self, namespace: &str, name: &str, file: &str) {
        let began = lastwords_tests::time::seconds(SystemTime::now());
        let (id, _) = Container::start(&["cat", file]).unwrap().wait().unwrap();
        let id = format!("containerd://{id}");
        let ended = json!({"exitCode": 1, "reason": "Error", "containerID": id, "startedAt": began,
            "finishedAt": lastwords_tests::time::seconds(SystemTime::now())});
        self.make(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
            "spec": {"nodeName": NODE, "restartPolicy": "Never", "containers": [{"name": "app", "image": "api:1"}]}}))
            .await;
        let status = json!({"phase": "Failed", "containerStatuses": [{"name": "app", "restartCount": 0, "ready": false,
            "image": "api:1", "imageID": "", "containerID": id, "state": {"terminated": ended}, "lastState": {}}]});
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/status");
        self.admin.patch(&path, &json!({ "status": status })).await.unwrap();
    }

    /// `kubectl lastwords …` as this person; where there is no kubectl, what it would start.
    fn lastwords(&self, kubeconfig: &Path, arguments: &[&str]) -> Output {
        let mut command = kubectl_lastwords(&self.path("plugins")).unwrap();
        command.args(arguments).env("KUBECONFIG", kubeconfig).env("HOME", self.directory.path());
        command.output().unwrap()
    }

    /// The causes of a list, by pod.
    fn listed(&self, kubeconfig: &Path) -> Vec<(String, String)> {
        let output = self.lastwords(kubeconfig, &["list", "-A", "-o", "json"]);
        assert!(output.status.success(), "{output:?}");
        let list: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let crashes = list["crashes"].as_array().unwrap().iter();
        let of = |crash: &Value| {
            let container = &crash["container"];
            // Of containers of others on this machine no API server knows.
            let is_ours = container["namespace"] != "";
            let pod = format!("{}/{}", text(&container["namespace"]), text(&container["pod_name"]));
            is_ours.then(|| (pod, text(&crash["diagnosis"]["cause"])))
        };
        let mut crashes: Vec<(String, String)> = crashes.filter_map(of).collect();
        crashes.sort();
        crashes
    }
}

/// What it takes to find the aggregator and to have its port forwarded.
fn way_in() -> (&'static str, Value) {
    let rules = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["get", "create"]},
    ]);
    ("lastwords", rules)
}

fn logs(namespace: &str) -> (&str, Value) {
    (namespace, json!([{"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}]))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_chart_renders_is_enough_to_be_told_what_one_may_know() {
    let test = "what_the_chart_renders_is_enough_to_be_told_what_one_may_know";
    if !is_ready(test, &PROGRAMS) {
        return;
    }
    let _watched = WatchedMachine::alone().unwrap();
    let cluster = Cluster::start().await;
    let (aggregator, address) = cluster.aggregator().await;
    let agent = cluster.agent(address).await;
    cluster.dies("shop", "api", "/etc/shop/config.yaml").await;
    cluster.dies("vault", "keys", "/etc/vault/config.yaml").await;

    let owner = cluster.person("owner", &[way_in(), logs("shop"), logs("vault")]).await;
    let answer = eventually("kubectl lastwords explain pod/api", async || {
        let output = cluster.lastwords(&owner, &["explain", "pod/api", "-o", "json"]);
        let answer: Value = serde_json::from_slice(&output.stdout).ok()?;
        let crash = answer["crashes"].get(0)?.clone();
        (crash["pod_state"]["terminated"] == "Error, exit code 1").then_some(crash)
    })
    .await;
    assert_eq!(answer["diagnosis"]["cause"], "CAUSE_FILE_NOT_FOUND", "{answer:#}");
    assert_eq!(
        (&answer["diagnosis"]["object"], &answer["node"]),
        (&json!("/etc/shop/config.yaml"), &json!(NODE))
    );
    let missing = |pod: &str| (pod.to_owned(), "CAUSE_FILE_NOT_FOUND".to_owned());
    eventually("both crashes are listed", async || (cluster.listed(&owner).len() == 2).then_some(())).await;
    assert_eq!(cluster.listed(&owner), [missing("shop/api"), missing("vault/keys")]);
    // The cause is written on the pod, with the rights that the chart gives.
    for (namespace, pod) in [("shop", "api"), ("vault", "keys")] {
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        eventually(&format!("an event on {pod}"), async || {
            let events = cluster.admin.get(&path).await.unwrap();
            let is_it = |it: &Value| it["reason"] == "FileNotFound" && it["regarding"]["name"] == *pod;
            events["items"].as_array().unwrap().iter().any(is_it).then_some(())
        })
        .await;
    }

    // Of two namespaces one; of none nothing, in the words of what is not there.
    let tenant = cluster.person("tenant", &[way_in(), logs("shop")]).await;
    assert_eq!(cluster.listed(&tenant), [missing("shop/api")]);
    let stranger = cluster.person("stranger", &[way_in()]).await;
    assert_eq!(cluster.listed(&stranger), []);
    let theirs = cluster.lastwords(&stranger, &["explain", "pod/api", "-n", "shop"]);
    let nobodys = cluster.lastwords(&stranger, &["explain", "pod/nil", "-n", "shop"]);
    assert_eq!((theirs.status.code(), said(&theirs).replace("api", "nil")), (Some(1), said(&nobodys)));

    // Who may not have the port forwarded is told which right is missing, whichever of the two it is.
    for verb in ["get", "create"] {
        let rules = json!([
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
            {"apiGroups": [""], "resources": ["pods/portforward"], "verbs": [verb]},
        ]);
        let outsider =
            cluster.person(&format!("outsider-{verb}"), &[("lastwords", rules), logs("shop")]).await;
        let refused = cluster.lastwords(&outsider, &["list", "-A"]);
        assert_eq!(refused.status.code(), Some(69), "{refused:?}");
        let need = "you need get and create on pods/portforward in the namespace lastwords";
        assert!(said(&refused).contains(need), "{}", said(&refused));
    }
    // Whoever reaches the port without a word of who they are gets nothing.
    let mut command = Command::new(release_program("lastwords").unwrap());
    command.args(["list", "-A", "--server", &format!("https://localhost:{}", address.port())]);
    command.arg("--certificate-authority").arg(cluster.path("ca.crt"));
    let nobody = command.env_remove("KUBECONFIG").env("HOME", cluster.directory.path()).output().unwrap();
    assert_eq!((nobody.status.code(), nobody.stdout.len()), (Some(1), 0), "{nobody:?}");

    let unwarned = |program: &Program| {
        let output = program.output();
        assert!(!output.contains(" WARN ") && !output.contains(" ERROR "), "{output}");
    };
    unwarned(&agent);
    drop(agent);

    // As the documents have it: an emptied Secret is another authority, told where agents and people look for it.
    let told = async || {
        let map = cluster.admin.get("/api/v1/namespaces/lastwords/configmaps/lastwords-ca").await.unwrap();
        map["data"]["ca.crt"].as_str().unwrap().to_owned()
    };
    let before = told().await;
    let secret = "/api/v1/namespaces/lastwords/secrets/lastwords-authority";
    cluster.admin.patch(secret, &json!({"data": null})).await.unwrap();
    eventually("another authority", async || (told().await != before).then_some(())).await;
    let agent = cluster.agent(address).await;
    cluster.dies("shop", "later", "/etc/shop/later.yaml").await;
    eventually("the crash after that", async || {
        cluster.listed(&tenant).contains(&missing("shop/later")).then_some(())
    })
    .await;
    unwarned(&agent);
    unwarned(&aggregator);
}
