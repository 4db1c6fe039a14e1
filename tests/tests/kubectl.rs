//! The real kubectl against the stand-in API server.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::path::PathBuf;
use std::process::Command;

use lastwords_tests::programs::{Program, kubectl, stand_in};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/kube-1.36");

struct Kubectl {
    program: PathBuf,
    _server: Program,
    directory: tempfile::TempDir,
}

impl Kubectl {
    /// `None` when there is no kubectl, which it says.
    fn start(test: &str) -> Option<Kubectl> {
        let Some(program) = kubectl() else {
            println!(
                "SKIPPED {test}: no kubectl; `cargo xtask setup` unpacks one, or name it in LASTWORDS_KUBECTL"
            );
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(stand_in("stand-in-api-server").unwrap());
        command.arg("--kubeconfig").arg(directory.path().join("kubeconfig"));
        for file in ["watch-pods.jsonl.gz", "watch-events.jsonl.gz"] {
            command.arg("--replay").arg(format!("{FIXTURES}/{file}"));
        }
        command.args(["--replay-speed", "inf", "--replay-ends-now"]);
        let mut server = Program::start(command, "stand-in-api-server", directory.path()).unwrap();
        server.wait_for_line("has replayed").unwrap();
        Some(Kubectl { program, _server: server, directory })
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new(&self.program)
            .args(arguments)
            .env("KUBECONFIG", self.directory.path().join("kubeconfig"))
            // Its discovery cache lies there.
            .env("HOME", self.directory.path())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "kubectl {arguments:?}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }
}

/// The cells of the line of a table that begins with `name`.
fn cells(table: &str, name: &str) -> Vec<String> {
    let line =
        table.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in:\n{table}"));
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
}

#[test]
fn get_prints_the_columns_people_know() {
    let Some(kubectl) = Kubectl::start("get_prints_the_columns_people_know") else { return };
    let table = kubectl.run(&["get", "pods", "-n", "base"]);
    assert_eq!(cells(&table, "NAME"), ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    let row = cells(&table, "c05b-758f9f45c9-tmnbd");
    assert_eq!(row[1..3], ["0/1", "RunContainerError"]);
    assert!(row[3].starts_with("3 (") && row[3].ends_with(" ago)"), "{row:?}");
    let wide = kubectl.run(&["get", "pods", "-n", "base", "-o", "wide"]);
    assert!(cells(&wide, "c05b-758f9f45c9-tmnbd").contains(&"node1".to_owned()));
    let all = kubectl.run(&["get", "pods", "-A", "--chunk-size=20", "--no-headers"]);
    assert_eq!(all.lines().count(), 54);
    let chosen = kubectl.run(&["get", "po", "-n", "base", "-l", "app=c04", "-o", "name"]);
    assert_eq!(chosen, "pod/c04-7744784dc9-sq75h\n");
}

#[test]
fn describe_shows_the_last_state_and_the_events() {
    let Some(kubectl) = Kubectl::start("describe_shows_the_last_state_and_the_events") else { return };
    let text = kubectl.run(&["describe", "pod", "-n", "base", "c05b-758f9f45c9-tmnbd"]);
    for expected in [
        "Reason:       StartError",
        "Exit Code:    128",
        "Restart Count:  3",
        "Controlled By:  ReplicaSet/c05b-758f9f45c9",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
    }
    let events = text.split_once("Events:").map(|(_, events)| events).unwrap_or_default();
    assert!(events.contains("BackOff") && events.contains("(x4 over"), "{text}");
}

#[test]
fn both_kinds_of_event_are_listed() {
    let Some(kubectl) = Kubectl::start("both_kinds_of_event_are_listed") else { return };
    let core = kubectl.run(&["get", "events", "-A", "--no-headers"]);
    let new = kubectl.run(&["get", "events.events.k8s.io", "-A", "--no-headers"]);
    assert!(core.lines().count() > 200);
    assert_eq!(core.lines().count(), new.lines().count());
    let of_one = kubectl.run(&["events", "-n", "base", "--for", "pod/c04-7744784dc9-sq75h", "--no-headers"]);
    assert_eq!(of_one.lines().count(), 5, "{of_one}");
}

#[test]
fn discovery_and_deletion_work() {
    let Some(kubectl) = Kubectl::start("discovery_and_deletion_work") else { return };
    assert!(kubectl.run(&["version"]).contains("Server Version: v1.36.2+lastwords-stand-in"));
    let resources = kubectl.run(&["api-resources", "--no-headers"]);
    assert!(
        resources.lines().any(|line| line.starts_with("events") && line.contains("events.k8s.io/v1")),
        "{resources}"
    );
    kubectl.run(&["label", "pod", "-n", "base", "c04-7744784dc9-sq75h", "seen=yes"]);
    assert_eq!(
        kubectl.run(&["get", "pods", "-A", "-l", "seen=yes", "-o", "name"]),
        "pod/c04-7744784dc9-sq75h\n"
    );
    kubectl.run(&["delete", "pod", "-n", "base", "c04-7744784dc9-sq75h", "--force", "--grace-period=0"]);
    assert_eq!(kubectl.run(&["get", "pods", "-A", "-l", "seen=yes", "-o", "name"]), "");
}
