//! The chart, installed into the stand-in API server by the real Helm, and what it renders by the real kubectl.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use lastwords_tests::api_server::{ApiServer, Options};
use lastwords_tests::http::Client;
use lastwords_tests::{programs, rendered};
use serde_json::{Value, json};
use tokio::process::Command;

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");
const HELM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/helm.py");

/// What the chart lets a release leave behind: the crashes of the past.
const KEPT: &str = "lastwords/persistentvolumeclaims/lastwords-aggregator";

/// Objects by namespace, plural name and name.
type Objects = BTreeMap<String, Value>;

struct Cluster {
    server: ApiServer,
    client: Client,
    directory: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Cluster {
        let server = ApiServer::start(Options::default()).await.unwrap();
        let client = Client::new(&server.url()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        server.write_kubeconfig(&directory.path().join("kubeconfig")).unwrap();
        Cluster { server, client, directory }
    }

    fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// Asks Helm; `values` is a file of deploy/chart/ci.
    async fn helm(&self, python: &Path, verb: &str, values: Option<&str>) -> Value {
        let mut command = Command::new(python);
        command.arg(HELM).arg(self.kubeconfig()).arg(format!("{DEPLOY}/chart")).arg(verb);
        if let Some(values) = values {
            command.arg(format!("{DEPLOY}/chart/ci/{values}"));
        }
        let said = self.run(command).await;
        serde_json::from_str(&said).unwrap_or_else(|_| panic!("helm {verb} answers {said:?}"))
    }

    async fn run(&self, mut command: Command) -> String {
        // Caches of theirs lie there.
        let output = command.env("HOME", self.directory.path()).stdin(Stdio::null()).output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Everything but the namespaces, which no release owns, and Helm's own releases.
    fn objects(&self) -> Objects {
        let all = self.server.store().everything().into_iter();
        all.filter(|(plural, _, object)| *plural != "namespaces" && object["type"] != "helm.sh/release.v1")
            .map(|(plural, (namespace, name), object)| {
                (format!("{namespace}/{plural}/{name}"), object.as_ref().clone())
            })
            .collect()
    }

    /// The same without what servers and installers put into every object.
    fn sent(&self) -> Objects {
        self.objects().into_iter().map(|(key, object)| (key, as_sent(object))).collect()
    }
}

fn as_sent(mut object: Value) -> Value {
    let metadata = object["metadata"].as_object_mut().unwrap();
    for field in ["creationTimestamp", "generation", "managedFields", "resourceVersion", "uid"] {
        metadata.remove(field);
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.retain(|name, _| {
            !name.starts_with("meta.helm.sh/") && !name.starts_with("kubectl.kubernetes.io/")
        });
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    // Whoever installs it writes its own name there.
    metadata["labels"]["app.kubernetes.io/managed-by"] = "".into();
    let templates = object.pointer_mut("/spec/template/metadata/labels/app.kubernetes.io~1managed-by");
    if let Some(label) = templates {
        *label = "".into();
    }
    object
}

/// What deploy/rendered holds, as a server would keep it; the plural names are taken from what is there.
fn rendered_objects(there: &Objects) -> Objects {
    let of_kind: BTreeMap<&str, &str> = there
        .iter()
        .map(|(key, object)| (object["kind"].as_str().unwrap(), key.split('/').nth(1).unwrap()))
        .collect();
    rendered::objects()
        .unwrap()
        .into_iter()
        .map(as_sent)
        .map(|object| {
            let text = |field: &Value| field.as_str().unwrap_or_default().to_owned();
            let plural = of_kind.get(object["kind"].as_str().unwrap()).copied().unwrap_or("none");
            let (namespace, name) =
                (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]));
            (format!("{namespace}/{plural}/{name}"), object)
        })
        .collect()
}

/// Those that are not the same in both.
fn differing<'a>(one: &'a Objects, other: &'a Objects) -> BTreeSet<&'a str> {
    let keys = one.keys().chain(other.keys());
    keys.filter(|key| one.get(*key) != other.get(*key)).map(String::as_str).collect()
}

/// The aggregator's part in it: what it puts into the objects that the chart leaves empty.
async fn make_authority(cluster: &Cluster) {
    for (path, data) in [
        ("/api/v1/namespaces/lastwords/secrets/lastwords-authority", json!({"tls.key": "a2V5"})),
        ("/api/v1/namespaces/lastwords/configmaps/lastwords-ca", json!({"ca.crt": "certificate"})),
    ] {
        let mut object = cluster.client.get(path).await.unwrap();
        object["data"] = data;
        cluster.client.put(path, &object).await.unwrap();
    }
}

#[tokio::test]
async fn helm_installs_upgrades_rolls_back_and_uninstalls() {
    let Some(helm) = programs::helm() else {
        println!(
            "SKIPPED helm_installs_upgrades_rolls_back_and_uninstalls: Helm's library is not in the cache; `cargo xtask setup` brings it"
        );
        return;
    };
    let cluster = Cluster::start().await;
    assert_eq!(cluster.helm(&helm, "install", None).await["status"], "deployed");
    let installed = cluster.sent();
    assert_eq!(differing(&installed, &rendered_objects(&installed)), BTreeSet::new());

    make_authority(&cluster).await;
    let before = cluster.objects();
    cluster.helm(&helm, "upgrade", Some("larger.yaml")).await;
    let after = cluster.objects();
    // What is applied without a change is not even a new version, and the aggregator's authority is not touched.
    let (agent, aggregator) =
        ("lastwords/daemonsets/lastwords-agent", "lastwords/deployments/lastwords-aggregator");
    let for_several = [
        "lastwords/leases/lastwords-aggregator",
        "lastwords/poddisruptionbudgets/lastwords-aggregator",
        "lastwords/rolebindings/lastwords-aggregator-lease",
        "lastwords/roles/lastwords-aggregator-lease",
    ];
    let settings = "lastwords/configmaps/lastwords-aggregator";
    let changed: BTreeSet<&str> = [agent, aggregator, settings].into_iter().chain(for_several).collect();
    assert_eq!(differing(&before, &after), changed);
    assert!(for_several.iter().all(|name| !before.contains_key(*name)));
    assert_eq!(after[aggregator]["spec"]["replicas"], 2);
    let (agent, aggregator) =
        (&after[agent]["spec"]["template"]["spec"], &after[aggregator]["spec"]["template"]["spec"]);
    assert_eq!(agent["containers"][0]["resources"]["limits"]["memory"], "384Mi");
    let hosts: Vec<&Value> =
        agent["volumes"].as_array().unwrap().iter().map(|volume| &volume["hostPath"]["path"]).collect();
    assert!(
        hosts.contains(&&json!("/mnt/logs/pods")) && !hosts.contains(&&json!("/var/log/pods")),
        "{hosts:?}"
    );
    assert_eq!(aggregator["containers"][0]["resources"]["limits"]["memory"], "2Gi");
    assert_eq!(
        aggregator["containers"][0]["env"][0]["valueFrom"]["secretKeyRef"]["name"],
        "lastwords-postgres"
    );
    let volumes: Vec<&str> = aggregator["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|volume| volume["name"].as_str().unwrap())
        .collect();
    assert_eq!(volumes, ["config", "postgres"]);

    cluster.helm(&helm, "rollback", None).await;
    let versions = |objects: Objects| -> Objects {
        objects.into_iter().map(|(key, object)| (key, as_sent(object))).collect()
    };
    assert_eq!(differing(&versions(before), &cluster.sent()), BTreeSet::new());
    let history = cluster.helm(&helm, "history", None).await;
    let states: Vec<&str> =
        history.as_array().unwrap().iter().map(|revision| revision["status"].as_str().unwrap()).collect();
    assert_eq!(states, ["superseded", "superseded", "deployed"]);

    // Asked for, annotations bring the right and what bounds it; asked for no more, both go.
    let before = cluster.sent();
    cluster.helm(&helm, "upgrade", Some("annotated.yaml")).await;
    let after = cluster.sent();
    let policy = "lastwords-lastwords-aggregator-annotations";
    let (kind, role) = ("/validatingadmissionpolic", "/clusterroles/lastwords-lastwords-aggregator");
    let bounds = [format!("{kind}ies/{policy}"), format!("{kind}ybindings/{policy}")];
    let changed: BTreeSet<&str> = [role, settings, "lastwords/deployments/lastwords-aggregator"]
        .into_iter()
        .chain(bounds.iter().map(String::as_str))
        .collect();
    assert_eq!(differing(&before, &after), changed);
    let rules = |objects: &Objects| objects[role]["rules"].as_array().unwrap().clone();
    let patch = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]});
    assert!(rules(&after).contains(&patch) && !rules(&before).contains(&patch));
    cluster.helm(&helm, "rollback", None).await;
    assert_eq!(differing(&before, &cluster.sent()), BTreeSet::new());

    cluster.helm(&helm, "uninstall", None).await;
    let left = cluster.objects();
    assert_eq!(left.keys().collect::<Vec<_>>(), [KEPT]);
    cluster.helm(&helm, "install", None).await;
    assert_eq!(
        cluster.sent(),
        installed,
        "a second installation takes over the volume that the first one left"
    );
    assert_eq!(cluster.objects()[KEPT]["metadata"]["uid"], left[KEPT]["metadata"]["uid"]);
}

#[tokio::test]
async fn kubectl_applies_what_the_chart_renders() {
    let Some(kubectl) = programs::kubectl() else {
        println!(
            "SKIPPED kubectl_applies_what_the_chart_renders: no kubectl; `cargo xtask setup` unpacks one"
        );
        return;
    };
    let cluster = Cluster::start().await;
    let run = async |arguments: &[&str]| {
        let mut command = Command::new(&kubectl);
        command.args(arguments).arg(format!("{DEPLOY}/rendered")).env("KUBECONFIG", cluster.kubeconfig());
        cluster.run(command).await
    };
    run(&["apply", "-k"]).await;
    let there = cluster.sent();
    assert_eq!(differing(&there, &rendered_objects(&there)), BTreeSet::new());
    let again = run(&["apply", "-k"]).await;
    assert!(again.lines().all(|line| line.ends_with(" unchanged")), "{again}");
    run(&["apply", "--server-side", "-k"]).await;
    assert_eq!(cluster.sent(), there);
    run(&["delete", "--wait=false", "-k"]).await;
    assert!(cluster.objects().is_empty(), "{:?}", cluster.objects().keys());
}
