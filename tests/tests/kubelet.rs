//! The stand-in kubelet with real containers: what it writes is what a real one wrote.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lastwords_tests::http::{Client, refused};
use lastwords_tests::patience::eventually;
use lastwords_tests::programs::{Node, containers_missing};
use serde_json::{Value, json};

/// Restarts in tenths of a second, so that a test sees three of them.
const FAST: &[&str] =
    &["--back-off-initial", "0.4", "--back-off-max", "1.6", "--relist-period", "0.1", "--sync-period", "5"];

/// Two processors may be busy with a build at the same time.
const PATIENCE: Duration = Duration::from_secs(60);

const PODS: &str = "/api/v1/namespaces/default/pods";

fn node(test: &str, arguments: &[&str]) -> Option<(Node, Client)> {
    if let Some(reason) = containers_missing() {
        println!("SKIPPED {test}: {reason}");
        return None;
    }
    let node = Node::start(arguments).unwrap();
    let client = Client::new(node.url()).unwrap();
    Some((node, client))
}

fn pod(name: &str, command: &[&str]) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "app", "image": "localhost/busybox:1", "command": command}],
        },
    })
}

/// Creates a pod and returns its container's statuses as they come, until `enough` of them.
async fn follow(client: &Client, pod: &Value, mut enough: impl FnMut(&[Value]) -> bool) -> Vec<Value> {
    let list = client.get(PODS).await.unwrap();
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let name = pod["metadata"]["name"].as_str().unwrap();
    let path = format!("{PODS}?watch=true&resourceVersion={version}&fieldSelector=metadata.name%3D{name}");
    let mut watch = client.watch(&path).await.unwrap();
    client.post(PODS, pod).await.unwrap();
    let mut seen = Vec::new();
    while !enough(&seen) {
        let mut event = watch.expect(PATIENCE).await.unwrap();
        let status =
            event.pointer_mut("/object/status/containerStatuses/0").map(Value::take).unwrap_or_default();
        if status.is_object() && seen.last() != Some(&status) {
            seen.push(status);
        }
    }
    seen
}

/// `(restartCount, state, reason, lastState's exit code)`.
fn step(status: &Value) -> (u64, String, String, Option<i64>) {
    let (state, detail) = status["state"].as_object().unwrap().iter().next().unwrap();
    let reason = detail["reason"].as_str().unwrap_or_default().to_owned();
    (
        status["restartCount"].as_u64().unwrap(),
        state.clone(),
        reason,
        status["lastState"]["terminated"]["exitCode"].as_i64(),
    )
}

/// Groups below `kubepods` of these pods, in all hierarchies.
fn groups(uids: &[String]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
    while let Some((directory, depth)) = waiting.pop() {
        let entries = fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok);
        for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if uids.iter().any(|uid| name == format!("pod{uid}")) {
                found.push(entry.path());
            } else if depth < 3
                && (depth == 0 || directory.to_string_lossy().contains("kubepods") || name == "kubepods")
            {
                waiting.push((entry.path(), depth + 1));
            }
        }
    }
    found
}

async fn uids(client: &Client) -> Vec<String> {
    let list = client.get("/api/v1/pods").await.unwrap();
    let pods = list["items"].as_array().unwrap().iter();
    pods.map(|pod| pod["metadata"]["uid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_takes_the_recorded_steps() {
    let Some((node, client)) = node("a_crash_loop_takes_the_recorded_steps", FAST) else { return };
    let pod = pod("crash", &["/bin/sh", "-c", "echo one; echo two >&2; exit 3"]);
    let seen =
        follow(&client, &pod, |seen| seen.last().is_some_and(|status| status["restartCount"] == 3)).await;
    let mut steps: Vec<_> = seen.iter().map(step).collect();
    // The sandbox's readiness changes the pod and not this container; a long wait repeats its words.
    steps.dedup();
    let expect =
        |restarts, state: &str, reason: &str, last| (restarts, state.to_owned(), reason.to_owned(), last);
    let expected = [
        expect(0, "waiting", "ContainerCreating", None),
        expect(0, "running", "", None),
        expect(0, "terminated", "Error", None),
        expect(1, "running", "", Some(3)),
        expect(1, "terminated", "Error", Some(3)),
        expect(1, "waiting", "CrashLoopBackOff", Some(3)),
        expect(2, "running", "", Some(3)),
        expect(2, "terminated", "Error", Some(3)),
        expect(2, "waiting", "CrashLoopBackOff", Some(3)),
    ];
    assert!(steps.len() >= 9, "{steps:?}");
    assert_eq!(steps[..expected.len()], expected);
    let messages: Vec<&str> =
        seen.iter().filter_map(|status| status["state"]["waiting"]["message"].as_str()).collect();
    let uid = uids(&client).await.remove(0);
    assert_eq!(
        messages.first(),
        Some(&format!("back-off 400ms restarting failed container=app pod=crash_default({uid})").as_str())
    );
    assert_eq!(
        messages.last(),
        Some(&format!("back-off 800ms restarting failed container=app pod=crash_default({uid})").as_str())
    );
    let ids: BTreeSet<&str> = seen.iter().filter_map(|status| status["containerID"].as_str()).collect();
    assert!(
        ids.len() >= 3 && ids.iter().all(|id| id.starts_with("containerd://") && id.len() == 77),
        "{ids:?}"
    );

    let log = node.pod_logs_directory().join(format!("default_crash_{uid}/app/1.log"));
    let log = fs::read_to_string(log).unwrap();
    let mut lines: Vec<&str> = log.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["stderr F two", "stdout F one"]);

    let events =
        client.get(&format!("/api/v1/events?fieldSelector=involvedObject.uid%3D{uid}")).await.unwrap();
    let reasons: BTreeSet<&str> =
        events["items"].as_array().unwrap().iter().map(|event| event["reason"].as_str().unwrap()).collect();
    assert!(
        reasons.is_superset(&BTreeSet::from(["BackOff", "Created", "Pulled", "Scheduled", "Started"])),
        "{reasons:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_start_failures_are_told_as_containerd_tells_them() {
    let Some((_node, client)) = node("memory_and_start_failures_are_told_as_containerd_tells_them", FAST)
    else {
        return;
    };
    let mut greedy = pod("greedy", &["/bin/tail", "/dev/zero"]);
    greedy["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "24Mi"}});
    let seen =
        follow(&client, &greedy, |seen| seen.last().is_some_and(|s| s["state"]["terminated"].is_object()))
            .await;
    let end = &seen.last().unwrap()["state"]["terminated"];
    assert_eq!((&end["reason"], &end["exitCode"]), (&json!("OOMKilled"), &json!(137)));
    let uid = uids(&client).await.remove(0);
    let limit = groups(&[uid]).iter().find_map(|group| {
        let read = |file: &str| fs::read_to_string(group.join(file)).ok();
        read("memory.limit_in_bytes").or_else(|| read("memory.max"))
    });
    assert_eq!(limit.unwrap().trim(), (24 << 20).to_string(), "the pod's group has the sum of the limits");

    let absent = pod("absent", &["/opt/bin/server"]);
    let seen = follow(&client, &absent, |seen| {
        seen.iter().any(|s| s["state"]["waiting"]["reason"] == "CrashLoopBackOff")
    })
    .await;
    let failed =
        seen.iter().find(|status| status["state"]["waiting"]["reason"] == "RunContainerError").unwrap();
    let end = &failed["lastState"]["terminated"];
    assert_eq!(
        (&end["reason"], &end["exitCode"], &end["startedAt"]),
        (&json!("StartError"), &json!(128), &json!("1970-01-01T00:00:00Z"))
    );
    assert_eq!(
        end["message"],
        "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"/opt/bin/server\": stat /opt/bin/server: no such file or directory"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_have_their_volumes_users_and_namespaces() {
    let Some((node, client)) = node("containers_have_their_volumes_users_and_namespaces", FAST) else {
        return;
    };
    let secret = json!({"metadata": {"name": "tls"}, "data": {"tls.key": "aHVudGVyMg=="}});
    client.post("/api/v1/namespaces/default/secrets", &secret).await.unwrap();
    let settings = json!({"metadata": {"name": "settings"}, "data": {"mode": "fast"}});
    client.post("/api/v1/namespaces/default/configmaps", &settings).await.unwrap();
    let script = "id -u; id -g; stat -L -c '%a %u' /etc/tls/tls.key; cat /etc/tls/tls.key; cat /etc/settings/mode; echo; echo $MODE; \
        touch /etc/x; touch /scratch/x && echo scratch; cat /proc/self/cgroup; ls /sys/class/net; echo done";
    let mut full = pod("full", &["/bin/sh", "-c", script]);
    full["spec"]["restartPolicy"] = json!("Never");
    full["spec"]["securityContext"] = json!({"runAsUser": 4242, "runAsGroup": 4343});
    full["spec"]["volumes"] = json!([
        {"name": "tls", "secret": {"secretName": "tls", "defaultMode": 0o600}},
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "scratch", "emptyDir": {}},
    ]);
    let container = &mut full["spec"]["containers"][0];
    container["env"] =
        json!([{"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "mode"}}}]);
    container["securityContext"] = json!({"readOnlyRootFilesystem": true});
    container["volumeMounts"] = json!([
        {"name": "tls", "mountPath": "/etc/tls", "readOnly": true},
        {"name": "settings", "mountPath": "/etc/settings"},
        {"name": "scratch", "mountPath": "/scratch"},
    ]);
    let seen =
        follow(&client, &full, |seen| seen.last().is_some_and(|s| s["state"]["terminated"].is_object()))
            .await;
    let status = seen.last().unwrap();
    assert_eq!(status["user"]["linux"]["uid"], 4242);
    assert_eq!(client.get(&format!("{PODS}/full")).await.unwrap()["status"]["phase"], "Succeeded");
    let uid = uids(&client).await.remove(0);
    let path = node.pod_logs_directory().join(format!("default_full_{uid}/app/0.log"));
    let log = eventually("the whole log", async || {
        fs::read_to_string(&path).ok().filter(|log| log.contains("F done"))
    })
    .await;
    let lines = |stream: &str| -> Vec<String> {
        let marker = format!(" {stream} F ");
        log.lines().filter_map(|line| line.split_once(&marker)).map(|(_, text)| text.to_owned()).collect()
    };
    let out = lines("stdout");
    assert_eq!(out[..6], ["4242", "4343", "600 0", "fast", "fast", "scratch"], "{log}");
    let id = status["containerID"].as_str().unwrap().trim_start_matches("containerd://");
    let group = format!("/kubepods/besteffort/pod{uid}/{id}");
    assert!(out.iter().any(|line| line.ends_with(&group)), "{log}");
    assert!(out.contains(&"lo".to_owned()));
    let errors = lines("stderr");
    assert!(
        errors.iter().any(|line| line.contains("/etc/tls/tls.key") && line.contains("Permission denied")),
        "{log}"
    );
    assert!(errors.iter().any(|line| line.contains("Read-only file system")), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_in_the_spec_is_told_without_a_container() {
    let Some((_node, client)) = node("what_is_missing_in_the_spec_is_told_without_a_container", FAST) else {
        return;
    };
    let waiting = |reason: &'static str| {
        move |seen: &[Value]| seen.last().is_some_and(|s| s["state"]["waiting"]["reason"] == reason)
    };
    let mut settings = pod("settings", &["/bin/true"]);
    settings["spec"]["containers"][0]["env"] =
        json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "app-settings", "key": "a"}}}]);
    let seen = follow(&client, &settings, waiting("CreateContainerConfigError")).await;
    assert_eq!(seen.last().unwrap()["state"]["waiting"]["message"], "configmap \"app-settings\" not found");
    let mut image = pod("image", &["/bin/true"]);
    image["spec"]["containers"][0]["image"] = json!("localhost/nosuch:1");
    follow(&client, &image, waiting("ImagePullBackOff")).await;
    let mut volume = pod("volume", &["/bin/true"]);
    volume["spec"]["volumes"] = json!([{"name": "s", "secret": {"secretName": "tls-cert"}}]);
    client.post(PODS, &volume).await.unwrap();
    let message = eventually("a FailedMount event", async || {
        let events = client.get("/api/v1/events?fieldSelector=reason%3DFailedMount").await.unwrap();
        events["items"][0]["message"].as_str().map(str::to_owned)
    });
    assert_eq!(message.await, "MountVolume.SetUp failed for volume \"s\" : secret \"tls-cert\" not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_stops_containers_and_removes_everything() {
    let Some((mut node, client)) = node("deletion_stops_containers_and_removes_everything", FAST) else {
        return;
    };
    // PID 1 without a handler ignores TERM: the grace period ends it.
    let stubborn = pod("stubborn", &["/bin/sleep", "1000"]);
    follow(&client, &stubborn, |seen| seen.last().is_some_and(|s| s["state"]["running"].is_object())).await;
    let other = pod("other", &["/bin/sleep", "1000"]);
    follow(&client, &other, |seen| seen.last().is_some_and(|s| s["state"]["running"].is_object())).await;
    let all = uids(&client).await;
    assert!(groups(&all).len() >= 2);
    let deleted = Instant::now();
    client.delete(&format!("{PODS}/stubborn"), &json!({})).await.unwrap();
    eventually("the pod's object goes", async || match client.get(&format!("{PODS}/stubborn")).await {
        Err(error) if refused(&error) == Some(404) => Some(()),
        _ => None,
    })
    .await;
    assert!(deleted.elapsed() >= Duration::from_secs(1), "the grace period was not kept");
    let left = uids(&client).await;
    let gone: Vec<String> = all.iter().filter(|uid| !left.contains(uid)).cloned().collect();
    assert_eq!((gone.len(), groups(&gone)), (1, Vec::new()));

    let (status, _) = node.kubelet().stop().unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(groups(&all), Vec::<PathBuf>::new());
    assert_eq!(fs::read_dir(node.pod_logs_directory()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_kubelet_leaves_what_the_clean_up_removes() {
    let Some((mut node, client)) = node("a_killed_kubelet_leaves_what_the_clean_up_removes", FAST) else {
        return;
    };
    let sleeper = pod("sleeper", &["/bin/sleep", "1000"]);
    follow(&client, &sleeper, |seen| seen.last().is_some_and(|s| s["state"]["running"].is_object())).await;
    let all = uids(&client).await;
    node.kubelet().kill();
    assert!(!groups(&all).is_empty());
    node.clean_up().unwrap();
    assert_eq!(groups(&all), Vec::<PathBuf>::new());
    assert!(!node.directory().join("state/pods").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_created_first_start_together() {
    let arguments = [FAST, &["--no-sandbox", "--start-together", "20"]].concat();
    let Some((_node, client)) = node("containers_created_first_start_together", &arguments) else { return };
    for number in 0..20 {
        let mut pod = pod(&format!("p{number}"), &["/bin/cat", "/missing"]);
        pod["spec"]["restartPolicy"] = json!("Never");
        client.post(PODS, &pod).await.unwrap();
        if number == 18 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let list = client.get(PODS).await.unwrap();
            let waiting =
                list["items"].as_array().unwrap().iter().all(|pod| pod["status"]["phase"] == "Pending");
            assert!(waiting, "none starts before the last is created");
        }
    }
    eventually("all twenty have failed", async || {
        let failed = client.get(&format!("{PODS}?fieldSelector=status.phase%3DFailed")).await.unwrap();
        (failed["items"].as_array().unwrap().len() == 20).then_some(())
    })
    .await;
}
