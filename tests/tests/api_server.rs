//! The stand-in API server, held against what clients of a real one rely on.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lastwords_tests::api_server::replay::Recording;
use lastwords_tests::api_server::{ApiServer, Options};
use lastwords_tests::http::{Client, refused};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(5);

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/kube-1.36");

async fn start(options: Options) -> (ApiServer, Client) {
    let server = ApiServer::start(options).await.unwrap();
    let client = Client::new(&server.url()).unwrap();
    (server, client)
}

async fn replayed() -> (ApiServer, Client) {
    let (server, client) = start(Options { schedule: false, ..Options::default() }).await;
    let files = ["watch-pods.jsonl.gz", "watch-events.jsonl.gz"].map(|file| format!("{FIXTURES}/{file}"));
    Recording::read(&files).unwrap().play(server.store(), f64::INFINITY).await;
    (server, client)
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"nodeName": "elsewhere", "containers": [{"name": "app", "image": "a:1"}]}})
}

const PODS: &str = "/api/v1/namespaces/default/pods";

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn pages_show_one_moment_even_when_objects_change_in_between() {
    let (_server, client) = replayed().await;
    let whole = client.get("/api/v1/pods").await.unwrap();
    let mut names = BTreeSet::new();
    let mut path = "/api/v1/pods?limit=10".to_owned();
    let mut pages = 0;
    loop {
        let page = client.get(&path).await.unwrap();
        assert_eq!(version(&page), version(&whole));
        for item in page["items"].as_array().unwrap() {
            assert!(item["kind"].is_null(), "items of a built-in list carry no kind");
            assert!(names.insert(item["metadata"]["name"].as_str().unwrap().to_owned()));
        }
        pages += 1;
        if pages == 1 {
            assert_eq!(page["metadata"]["remainingItemCount"], 44);
            client.post(PODS, &pod("late")).await.unwrap();
            client
                .delete("/api/v1/namespaces/base/pods/x28-5587668c5c-mxrhp?gracePeriodSeconds=0", &json!({}))
                .await
                .unwrap();
        }
        match page["metadata"]["continue"].as_str() {
            Some(token) => path = format!("/api/v1/pods?limit=10&continue={}", token.replace('/', "%2F")),
            None => break,
        }
    }
    assert_eq!((pages, names.len()), (6, 54));
    assert!(names.contains("x28-5587668c5c-mxrhp") && !names.contains("late"));
}

#[tokio::test]
async fn an_old_continue_token_is_410() {
    let (_server, client) = replayed().await;
    let page = client.get("/api/v1/pods?limit=10").await.unwrap();
    client.post("/stand-in/faults", &json!({"fault": "compact"})).await.unwrap();
    client.post(PODS, &pod("late")).await.unwrap();
    client.post("/stand-in/faults", &json!({"fault": "compact"})).await.unwrap();
    let token = page["metadata"]["continue"].as_str().unwrap().replace('/', "%2F");
    let error = client.get(&format!("/api/v1/pods?limit=10&continue={token}")).await.unwrap_err();
    assert_eq!(refused(&error), Some(410), "{error:#}");
}

#[tokio::test]
async fn a_watch_goes_on_from_a_list_and_sees_what_its_selector_sees() {
    let (_server, client) = start(Options::default()).await;
    client.post(PODS, &pod("before")).await.unwrap();
    let list = client.get("/api/v1/pods").await.unwrap();
    let path = format!(
        "/api/v1/pods?watch=true&resourceVersion={}&fieldSelector=status.phase%3DRunning",
        version(&list)
    );
    let mut watch = client.watch(&path).await.unwrap();
    client.post(PODS, &pod("pending")).await.unwrap();
    let running = |phase: &str| json!({"status": {"phase": phase}});
    client.patch(&format!("{PODS}/before/status"), &running("Running")).await.unwrap();
    client.patch(&format!("{PODS}/before/status"), &json!({"status": {"message": "m"}})).await.unwrap();
    client.patch(&format!("{PODS}/before/status"), &running("Failed")).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let event = watch.expect(SOON).await.unwrap();
        assert_eq!(event["object"]["kind"], "Pod");
        seen.push((event["type"].as_str().unwrap().to_owned(), event["object"]["metadata"]["name"].clone()));
    }
    let expected = ["ADDED", "MODIFIED", "DELETED"].map(|kind| (kind.to_owned(), json!("before")));
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_version_before_the_window_is_gone_and_the_stream_says_so() {
    let (_server, client) = start(Options { window: 3, schedule: false, ..Options::default() }).await;
    for number in 0..5 {
        client.post(PODS, &pod(&format!("pod-{number}"))).await.unwrap();
    }
    let mut watch = client.watch("/api/v1/pods?watch=true&resourceVersion=3").await.unwrap();
    let event = watch.expect(SOON).await.unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["code"], &event["object"]["reason"]),
        (&json!("ERROR"), &json!(410), &json!("Expired"))
    );
    assert!(watch.next().await.unwrap().is_none(), "nothing follows the error");
}

#[tokio::test]
async fn bookmarks_carry_the_version_and_nothing_else() {
    let interval = Duration::from_millis(50);
    let (_server, client) = start(Options { bookmark_interval: interval, ..Options::default() }).await;
    let list = client.get("/api/v1/pods").await.unwrap();
    let path = format!("/api/v1/pods?watch=true&allowWatchBookmarks=true&resourceVersion={}", version(&list));
    let mut watch = client.watch(&path).await.unwrap();
    let first = watch.expect(SOON).await.unwrap();
    assert_eq!(first["type"], "BOOKMARK");
    assert!(first["object"]["metadata"]["name"].is_null());
    // A change of another kind moves the version on, and the next bookmark with it.
    let settings = json!({"metadata": {"name": "settings"}, "data": {"a": "b"}});
    let created = client.post("/api/v1/namespaces/default/configmaps", &settings).await.unwrap();
    let deadline = Instant::now() + SOON;
    while version(&watch.expect(SOON).await.unwrap()["object"]) < version(&created) {
        assert!(Instant::now() < deadline, "no bookmark came with the new version");
    }
}

#[tokio::test]
async fn a_streaming_list_ends_with_its_bookmark() {
    let (_server, client) = replayed().await;
    let path = "/api/v1/pods?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = client.watch(path).await.unwrap();
    let mut added = 0;
    let bookmark = loop {
        let event = watch.expect(SOON).await.unwrap();
        match event["type"].as_str().unwrap() {
            "ADDED" => added += 1,
            other => break (other.to_owned(), event["object"].clone()),
        }
    };
    assert_eq!((added, bookmark.0.as_str()), (54, "BOOKMARK"));
    assert_eq!(bookmark.1["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let error = client.watch("/api/v1/pods?watch=true&sendInitialEvents=true").await.unwrap_err();
    assert_eq!(refused(&error), Some(422), "{error:#}");
}

#[tokio::test]
async fn both_event_apis_show_one_store() {
    let (_server, client) = replayed().await;
    let selector = "c05b-758f9f45c9-tmnbd,type%3DWarning";
    let core =
        client.get(&format!("/api/v1/events?fieldSelector=involvedObject.name%3D{selector}")).await.unwrap();
    let new = client
        .get(&format!("/apis/events.k8s.io/v1/events?fieldSelector=regarding.name%3D{selector}"))
        .await
        .unwrap();
    let [core, new] = [&core["items"], &new["items"]].map(|items| items.as_array().unwrap().clone());
    assert_eq!((core.len(), new.len()), (2, 2));
    assert_eq!(core[0]["message"], new[0]["note"]);
    assert_eq!(core[0]["count"], new[0]["deprecatedCount"]);
    let event = json!({
        "metadata": {"name": "crash.1", "namespace": "default"}, "reason": "Crashed", "note": "because", "type": "Warning",
        "regarding": {"kind": "Pod", "name": "a", "namespace": "default"}, "reportingController": "lastwords",
        "reportingInstance": "x", "action": "Explain", "eventTime": "2026-11-22T09:10:33.000000Z",
    });
    client.post("/apis/events.k8s.io/v1/namespaces/default/events", &event).await.unwrap();
    let stored = client.get("/api/v1/namespaces/default/events/crash.1").await.unwrap();
    assert_eq!((&stored["message"], &stored["involvedObject"]["name"]), (&json!("because"), &json!("a")));
}

#[tokio::test]
async fn writes_are_refused_as_a_real_server_does() {
    let (_server, client) = start(Options::default()).await;
    let created = client.post(PODS, &pod("one")).await.unwrap();
    assert_eq!(
        (&created["status"]["phase"], &created["status"]["qosClass"]),
        (&json!("Pending"), &json!("BestEffort"))
    );
    let code = |error: anyhow::Error| refused(&error).unwrap();
    assert_eq!(code(client.post(PODS, &pod("one")).await.unwrap_err()), 409);
    assert_eq!(code(client.post("/api/v1/namespaces/nowhere/pods", &pod("one")).await.unwrap_err()), 404);
    assert_eq!(code(client.get(&format!("{PODS}/absent")).await.unwrap_err()), 404);
    assert_eq!(code(client.get("/api/v1/pods?fieldSelector=spec.nodename%3Dx").await.unwrap_err()), 400);
    assert_eq!(code(client.get("/api/v1/pods?resourceVersion=999999").await.unwrap_err()), 504);
    let mut stale = created.clone();
    client.patch(&format!("{PODS}/one"), &json!({"metadata": {"labels": {"a": "b"}}})).await.unwrap();
    stale["metadata"]["labels"] = json!({"a": "c"});
    assert_eq!(code(client.put(&format!("{PODS}/one"), &stale).await.unwrap_err()), 409);
    let other = json!({"preconditions": {"uid": "another"}});
    assert_eq!(code(client.delete(&format!("{PODS}/one"), &other).await.unwrap_err()), 409);
}

#[tokio::test]
async fn a_pod_on_a_node_is_deleted_in_two_steps() {
    let (_server, client) = start(Options::default()).await;
    client.post(PODS, &pod("one")).await.unwrap();
    let marked = client.delete(&format!("{PODS}/one"), &json!({"gracePeriodSeconds": 7})).await.unwrap();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 7);
    assert!(client.get(&format!("{PODS}/one")).await.unwrap()["metadata"]["deletionTimestamp"].is_string());
    client.delete(&format!("{PODS}/one"), &json!({"gracePeriodSeconds": 0})).await.unwrap();
    assert_eq!(refused(&client.get(&format!("{PODS}/one")).await.unwrap_err()), Some(404));
}

#[tokio::test]
async fn a_waiting_pod_is_bound_once_a_node_is_there() {
    let (_server, client) = start(Options::default()).await;
    client
        .post(PODS, &json!({"metadata": {"name": "one"}, "spec": {"containers": [{"name": "app"}]}}))
        .await
        .unwrap();
    client.post("/api/v1/nodes", &json!({"metadata": {"name": "n1"}})).await.unwrap();
    let deadline = Instant::now() + SOON;
    loop {
        let pod = client.get(&format!("{PODS}/one")).await.unwrap();
        if pod["spec"]["nodeName"] == "n1" {
            assert_eq!(pod["status"]["conditions"][0]["type"], "PodScheduled");
            break;
        }
        assert!(Instant::now() < deadline, "the pod was not bound");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn faults_come_when_they_are_asked_for() {
    let (server, client) = start(Options::default()).await;
    let fault = async |body: Value| client.post("/stand-in/faults", &body).await.unwrap();
    fault(json!({"fault": "fail", "resource": "pods", "verb": "list", "code": 503})).await;
    assert_eq!(refused(&client.get("/api/v1/pods").await.unwrap_err()), Some(503));
    client.get("/api/v1/pods").await.unwrap();

    fault(json!({"fault": "watch-gone", "resource": "pods"})).await;
    let mut gone = client.watch("/api/v1/pods?watch=true").await.unwrap();
    assert_eq!(gone.expect(SOON).await.unwrap()["object"]["code"], 410);
    fault(json!({"fault": "watch-gone", "resource": "pods", "http": true})).await;
    assert_eq!(refused(&client.watch("/api/v1/pods?watch=true").await.unwrap_err()), Some(410));

    let mut watch = client.watch("/api/v1/pods?watch=true").await.unwrap();
    fault(json!({"fault": "end-watches"})).await;
    assert!(tokio::time::timeout(SOON, watch.next()).await.unwrap().unwrap().is_none());

    let mut watch = client.watch("/api/v1/pods?watch=true").await.unwrap();
    let list = client.get("/api/v1/pods").await.unwrap();
    // The answer to this very request may already be cut off.
    let _ = client.post("/stand-in/faults", &json!({"fault": "refuse", "seconds": 0.5})).await;
    assert!(
        tokio::time::timeout(SOON, watch.next()).await.unwrap().is_err(),
        "the stream breaks in the middle"
    );
    let refusals = Instant::now();
    let mut refused_once = false;
    let back = loop {
        match client.get("/api/v1/pods").await {
            Ok(list) => break list,
            Err(error) => {
                assert!(refused(&error).is_none(), "{error:#}");
                refused_once = true;
            }
        }
        assert!(refusals.elapsed() < SOON, "the server did not come back on {}", server.address());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(refused_once);
    assert_eq!(version(&back), version(&list), "nothing is forgotten");
}

#[tokio::test]
async fn a_recording_plays_in_its_order_and_can_end_now() {
    let (server, client) = start(Options { schedule: false, ..Options::default() }).await;
    let mut recording = Recording::read(&[format!("{FIXTURES}/watch-pods.jsonl.gz")]).unwrap();
    assert_eq!(recording.len(), 521);
    let now = std::time::SystemTime::now();
    recording.end_at(now);
    recording.play(server.store(), 1000.0).await;
    let pods = client.get("/api/v1/pods").await.unwrap();
    let recorded = pods["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|pod| pod["metadata"]["name"] == "c04-7744784dc9-sq75h");
    assert_eq!(version(recorded.unwrap()), 2347, "recorded versions are kept");
    let times = pods["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pod| pod["metadata"]["creationTimestamp"].as_str().unwrap());
    let latest = times.filter_map(lastwords_tests::time::parse).max().unwrap();
    let age = now.duration_since(latest).unwrap();
    assert!(age < Duration::from_secs(120), "{age:?}");
}
