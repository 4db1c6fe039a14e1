//! Pods of a real containerd, through the interface that the kubelet uses: its shim, its sandboxes, its log files, its groups. Each end is
//! told once and as what it was, and neither a sandbox nor a probe's command is taken for an end.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod cri;
mod daemonset;
mod node;

use std::collections::BTreeMap;
use std::path::PathBuf;

use daemonset::Agent;
use lastwords_tests::lastwords::{Aggregator, Lastwords};
use lastwords_tests::patience::until;
use lastwords_tests::programs::{NODE_NAME, containerd, is_ready};
use node::{Containerd, GRACE, NAMESPACE, SHORT_GRACE, Wishes};
use serde_json::Value;

const PROGRAMS: [&str; 3] = ["lastwords", "lastwords-agent", "lastwords-aggregator"];

/// A container that runs its command and ends by itself, or never gets that far.
struct Death {
    pod: &'static str,
    command: &'static [&'static str],
    wishes: Wishes,
    /// Cause, confidence and the object's beginning.
    told: (&'static str, &'static str, &'static str),
}

const PLAIN: Wishes = Wishes { user: None, memory: 0, shared_processes: false, attempt: 0 };

const DEATHS: [Death; 11] = [
    Death {
        pod: "missing",
        command: &["/bin/sh", "-c", "exec cat /etc/app/config.yaml 2>/dev/null"],
        wishes: PLAIN,
        told: ("FILE_NOT_FOUND", "HIGH", "/etc/app/config.yaml"),
    },
    Death {
        pod: "refused",
        command: &["/bin/sh", "-c", "exec cat /etc/key 2>/dev/null"],
        wishes: Wishes { user: Some(4242), ..PLAIN },
        told: ("PERMISSION_DENIED", "HIGH", "/etc/key"),
    },
    // A folder of its user's alone, and long enough a life for the agent to look at the file through the process's root.
    Death {
        pod: "own-folder",
        command: &[
            "/bin/sh",
            "-c",
            "mkdir -m 700 /tmp/own; umask 777; : > /tmp/own/key; sleep 0.5; exec cat /tmp/own/key 2>/dev/null",
        ],
        wishes: Wishes { user: Some(4242), ..PLAIN },
        told: ("PERMISSION_DENIED", "HIGH", "/tmp/own/key"),
    },
    Death {
        pod: "memory",
        command: &["/bin/tail", "/dev/zero"],
        wishes: Wishes { memory: 32 << 20, ..PLAIN },
        told: ("OUT_OF_MEMORY", "HIGH", "memory limit 32Mi"),
    },
    // Its main process is not the first of its process namespace: that is the sandbox's.
    Death {
        pod: "shared-processes",
        command: &["/bin/sh", "-c", "exec cat /etc/app/shared.yaml 2>/dev/null"],
        wishes: Wishes { shared_processes: true, ..PLAIN },
        told: ("FILE_NOT_FOUND", "HIGH", "/etc/app/shared.yaml"),
    },
    // runc looks for the command before it executes it.
    Death {
        pod: "no-program",
        command: &["/no/program"],
        wishes: PLAIN,
        told: ("EXEC_FAILED", "MEDIUM", "/no/program"),
    },
    Death {
        pod: "not-in-path",
        command: &["no-such-command"],
        wishes: PLAIN,
        told: ("EXEC_FAILED", "MEDIUM", "no-such-command"),
    },
    // No call fails for it: runc reads the mode and gives up.
    Death {
        pod: "not-executable",
        command: &["/bin/plain"],
        wishes: PLAIN,
        told: ("CONTAINER_CREATE_ERROR", "LOW", "container runtime"),
    },
    Death {
        pod: "sixth-start",
        command: &["/bin/sh", "-c", "exec cat /etc/app/again.yaml 2>/dev/null"],
        wishes: Wishes { attempt: 5, ..PLAIN },
        told: ("FILE_NOT_FOUND", "HIGH", "/etc/app/again.yaml"),
    },
    // The last line is written in the moment of the end, and the shim has still to copy it.
    Death {
        pod: "last-words",
        command: &[
            "/bin/sh",
            "-c",
            "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; echo the last; exit 5",
        ],
        wishes: PLAIN,
        told: ("PROGRAM_ERROR", "LOW", "exit code 5"),
    },
    Death {
        pod: "killed-itself",
        command: &["/bin/sh", "-c", "kill -SEGV $$; sleep 5"],
        wishes: Wishes { shared_processes: true, ..PLAIN },
        told: ("PROGRAM_ERROR", "HIGH", "SIGSEGV"),
    },
];

fn started(test: &str) -> Option<(Containerd, Lastwords)> {
    let containerd = Containerd::start(containerd_of(test)?).unwrap();
    let lastwords = Lastwords::with_logs(&containerd.logs()).unwrap();
    Some((containerd, lastwords))
}

/// Where containerd's programs are; None, and said why, when something is missing.
fn containerd_of(test: &str) -> Option<PathBuf> {
    if !is_ready(test, &PROGRAMS) {
        return None;
    }
    let programs = containerd();
    if programs.is_none() {
        println!("SKIPPED {test}: containerd is not in the cache; `cargo xtask setup` brings it");
    }
    programs
}

/// The crashes of containerd's pods, by pod, once there are so many. What else ends on the machine meanwhile is told too.
fn told(lastwords: &Aggregator, wanted: usize) -> BTreeMap<String, Value> {
    until(&format!("{wanted} ends that are told"), || {
        let list = lastwords.ask_json(&["list", "--namespace", NAMESPACE, "--all"]).ok()?;
        let crashes = list["crashes"].as_array()?;
        let of = |crash: &Value| crash["container"]["pod_name"].as_str().unwrap_or_default().to_owned();
        let by_pod: BTreeMap<String, Value> =
            crashes.iter().map(|crash| (of(crash), crash.clone())).collect();
        assert_eq!(by_pod.len(), crashes.len(), "one is told twice: {crashes:#?}");
        (by_pod.len() >= wanted).then_some(by_pod)
    })
}

fn assert_told(crash: &Value, (cause, confidence, object): (&str, &str, &str)) {
    let diagnosis = &crash["diagnosis"];
    let [named, sure, thing] =
        ["cause", "confidence", "object"].map(|field| diagnosis[field].as_str().unwrap());
    let wanted = [&format!("CAUSE_{cause}"), &format!("CONFIDENCE_{confidence}")];
    assert_eq!([named, sure], wanted, "{crash:#}");
    assert!(thing.starts_with(object), "{thing}");
    let container = &crash["container"];
    assert_eq!((&container["namespace"], &container["name"]), (&Value::from(NAMESPACE), &Value::from("app")));
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_under_containerd_are_told_as_what_they_were() {
    let Some((mut containerd, lastwords)) = started("ends_under_containerd_are_told_as_what_they_were")
    else {
        return;
    };
    let mut pods = Vec::new();
    for death in &DEATHS {
        let pod = containerd.pod(death.pod, death.wishes.processes()).await.unwrap();
        let id = containerd.create(&pod, death.command, death.wishes).await.unwrap();
        // Refused where there is no such command.
        let ran = containerd.runtime().start(&id).await.is_ok();
        assert_eq!(ran, !["EXEC_FAILED", "CONTAINER_CREATE_ERROR"].contains(&death.told.0), "{}", death.pod);
        pods.push(pod);
    }
    let crashes = told(&lastwords, DEATHS.len());
    for pod in &pods {
        containerd.remove(pod).await.unwrap();
    }
    assert_eq!(crashes.len(), DEATHS.len(), "{:?}", crashes.keys());
    for death in &DEATHS {
        assert_told(&crashes[death.pod], death.told);
        assert_eq!(crashes[death.pod]["container"]["restart_count"], death.wishes.attempt, "{}", death.pod);
    }
    let last = crashes["last-words"]["log_tail"]["lines"].as_array().unwrap().last();
    assert_eq!(last, Some(&Value::from("the last")));
    // Sandboxes have ended since, and are no containers of anybody's.
    assert_eq!(told(&lastwords, DEATHS.len()).len(), DEATHS.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_fails_is_no_end_and_a_stop_is_the_runtimes() {
    let Some((mut containerd, lastwords)) =
        started("a_probe_that_fails_is_no_end_and_a_stop_is_the_runtimes")
    else {
        return;
    };
    let pod = containerd.pod("stubborn", PLAIN.processes()).await.unwrap();
    let command = ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"];
    let id = containerd.create(&pod, &command, PLAIN).await.unwrap();
    containerd.runtime().start(&id).await.unwrap();
    for _ in 0..3 {
        let code = containerd.runtime().exec(&id, &["/bin/cat", "/tmp/healthy"]).await.unwrap();
        assert_eq!(code, 1);
    }
    containerd.runtime().stop(&id, SHORT_GRACE).await.unwrap();
    let crashes = told(&lastwords, 1);
    containerd.remove(&pod).await.unwrap();
    let crash = &crashes["stubborn"];
    assert_eq!(crash["diagnosis"]["cause"], "CAUSE_KILLED", "{crash:#}");
    assert_eq!(crash["exit"]["signal_name"], "SIGKILL");
    assert_eq!(crash["exit"]["killed_by"]["kind"], "RUNTIME");
    assert!(!crash["diagnosis"]["object"].as_str().unwrap().contains("healthy"), "{crash:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_executed_from_outside_is_not_passed_on() {
    let Some((mut containerd, lastwords)) = started("what_was_executed_from_outside_is_not_passed_on") else {
        return;
    };
    let pod = containerd.pod("visited", PLAIN.processes()).await.unwrap();
    let command = ["/bin/sh", "-c", "while [ ! -e /tmp/go ]; do sleep 0.1; done; exit 1"];
    let id = containerd.create(&pod, &command, PLAIN).await.unwrap();
    containerd.runtime().start(&id).await.unwrap();
    // It fails with the very code that the main process ends with a moment later.
    let visit = ["/bin/sh", "-c", "cat /etc/visitor.yaml 2>/dev/null; touch /tmp/go; exit 1"];
    assert_eq!(containerd.runtime().exec(&id, &visit).await.unwrap(), 1);
    let crashes = told(&lastwords, 1);
    containerd.remove(&pod).await.unwrap();
    let crash = &crashes["visited"];
    let children = crash["child_exits"].as_array().unwrap();
    let visitor = children.iter().find(|child| child["comm"] == "cat").unwrap();
    assert_eq!((&visitor["code"], &visitor["detached"]), (&Value::from(1), &Value::from(true)), "{crash:#}");
    assert!(children.iter().filter(|child| child["comm"] != "cat").all(|child| child["detached"] == true));
    let diagnosis = &crash["diagnosis"];
    assert!(!diagnosis["object"].as_str().unwrap().contains("visitor"), "{crash:#}");
    assert_eq!(diagnosis["cause"], "CAUSE_PROGRAM_ERROR", "{crash:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_while_containerd_is_away_is_told() {
    let Some((mut containerd, lastwords)) = started("an_end_while_containerd_is_away_is_told") else {
        return;
    };
    let pod = containerd.pod("orphan", PLAIN.processes()).await.unwrap();
    let command = [
        "/bin/sh",
        "-c",
        "while [ ! -e /tmp/go ]; do sleep 0.1; done; exec cat /etc/app/late.yaml 2>/dev/null",
    ];
    let id = containerd.create(&pod, &command, PLAIN).await.unwrap();
    containerd.runtime().start(&id).await.unwrap();
    let later = ["/bin/sh", "-c", "(sleep 2; touch /tmp/go) >/dev/null 2>&1 &"];
    assert_eq!(containerd.runtime().exec(&id, &later).await.unwrap(), 0);
    containerd.kill();
    let crashes = told(&lastwords, 1);
    assert_told(&crashes["orphan"], ("FILE_NOT_FOUND", "HIGH", "/etc/app/late.yaml"));
    containerd.start_again().unwrap();
    containerd.remove(&pod).await.unwrap();
    assert_eq!(told(&lastwords, 1).len(), 1, "told again when containerd came back");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_no_more_rights_than_its_daemonset_gives_tells_each_end() {
    let test = "an_agent_with_no_more_rights_than_its_daemonset_gives_tells_each_end";
    let Some(programs) = containerd_of(test) else { return };
    let mut containerd = Containerd::start(programs).unwrap();
    let aggregator = Aggregator::alone().unwrap();
    let agent = Agent::start(&mut containerd, aggregator.server()).await.unwrap();
    until("the agent watches", || agent.log().contains("watching ").then_some(()));
    let mut pods = Vec::new();
    for death in DEATHS.iter().filter(|death| death.told.1 == "HIGH") {
        let pod = containerd.pod(death.pod, death.wishes.processes()).await.unwrap();
        let id = containerd.create(&pod, death.command, death.wishes).await.unwrap();
        containerd.runtime().start(&id).await.unwrap();
        pods.push((pod, death));
    }
    let crashes = told(&aggregator, pods.len());
    for (pod, death) in &pods {
        containerd.remove(pod).await.unwrap();
        assert_told(&crashes[death.pod], death.told);
        assert_eq!(crashes[death.pod]["node"], NODE_NAME);
    }
    // Nobody says so without SYS_PTRACE, and only half of it without DAC_READ_SEARCH.
    let summary = crashes["own-folder"]["diagnosis"]["summary"].as_str().unwrap();
    assert!(summary.contains("belongs to 4242:0 with mode 0000"), "{summary}");
    let log = agent.log();
    agent.stop(&containerd, GRACE).await.unwrap();
    assert!(!log.contains(" WARN ") && !log.contains(" ERROR "), "{log}");
}
