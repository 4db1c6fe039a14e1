use super::*;
use crate::kubernetes::KubernetesPod;

const SECOND: i64 = 1_000_000_000;

/// The pods of a real node after nine minutes of crashing.
pub(crate) fn recorded_pods() -> Vec<Pod> {
    let list: serde_json::Value =
        serde_json::from_str(include_str!("../tests/fixtures/pods-1.36.json")).unwrap();
    let items = list["items"].as_array().unwrap().clone();
    items.into_iter().map(|item| serde_json::from_value::<KubernetesPod>(item).unwrap().reduce()).collect()
}

/// Each state that a watch of the same pods showed, in order.
pub(crate) fn recorded_watch() -> Vec<Pod> {
    include_str!("../tests/fixtures/watch-pods-1.36.jsonl")
        .lines()
        .map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            serde_json::from_value::<KubernetesPod>(event["object"].clone()).unwrap().reduce()
        })
        .collect()
}

fn pod(uid: &str) -> Pod {
    Pod { uid: uid.to_owned(), name: format!("pod-{uid}"), namespace: "default".to_owned(), ..Pod::default() }
}

#[test]
fn a_recorded_pod_is_reduced_to_what_is_kept() {
    let pods = recorded_pods();
    let limited = pods.iter().find(|pod| pod.name.starts_with("c08-")).unwrap();
    assert_eq!(limited.owner, "deployment/c08");
    assert_eq!((limited.namespace.as_str(), limited.node.as_str()), ("base", "node1"));
    assert_eq!((limited.phase.as_str(), limited.restart_policy.as_str()), ("Running", "Always"));
    let app = &limited.containers[0];
    assert_eq!(app.context.field_path, "spec.containers[0]");
    assert_eq!(app.id.len(), 64);
    assert_eq!(app.context.restart_count, 8);
    assert_eq!(app.context.terminated.as_ref().unwrap().reason, "Completed");
    assert_eq!(app.context.mounts[0].source, "service account token");
    let with_init = pods.iter().find(|pod| pod.name.starts_with("x22-")).unwrap();
    let kinds: Vec<_> = with_init
        .containers
        .iter()
        .map(|container| (container.kind, container.context.field_path.as_str()))
        .collect();
    assert_eq!(kinds, [(Kind::Init, "spec.initContainers[0]"), (Kind::Regular, "spec.containers[0]")]);
}

#[test]
fn the_same_pod_again_is_no_news() {
    let mut pods = Pods::new(Policy::default());
    assert!(pods.apply(pod("a")));
    assert!(!pods.apply(pod("a")));
    assert!(pods.apply(Pod { phase: "Running".to_owned(), ..pod("a") }));
}

#[test]
fn vanished_pods_are_kept_for_a_while() {
    let mut pods = Pods::new(Policy::default());
    for recorded in recorded_pods() {
        pods.apply(recorded);
    }
    let recorded = recorded_pods().remove(0);
    let id = recorded.containers[0].id.clone();
    assert!(pods.delete(&recorded.uid, UnixNanos(100 * SECOND)));
    assert!(!pods.delete(&recorded.uid, UnixNanos(101 * SECOND)));
    let keep = Duration::from_secs(600);
    pods.expire(UnixNanos(699 * SECOND), keep);
    assert_eq!(pods.by_container(&id).unwrap().deleted_at, Some(UnixNanos(100 * SECOND)));
    assert!(pods.by_name(&recorded.namespace, &recorded.name).is_some());
    pods.expire(UnixNanos(700 * SECOND), keep);
    assert!(pods.by_container(&id).is_none());
    assert!(pods.by_uid(&recorded.uid).is_none());
    assert!(pods.by_name(&recorded.namespace, &recorded.name).is_none());
    assert_eq!(pods.by_uid.len(), recorded_pods().len() - 1);
}

#[test]
fn pods_of_one_template_share_it_until_none_is_left() {
    let mut pods = Pods::new(Policy::default());
    let recorded = recorded_pods().remove(0);
    for uid in ["a", "b"] {
        pods.apply(Pod { uid: uid.to_owned(), ..recorded.clone() });
    }
    let template = |uid: &str| Arc::clone(&pods.by_uid(uid).unwrap().pod.containers[0].template);
    assert!(Arc::ptr_eq(&template("a"), &template("b")));
    assert_eq!(pods.templates.len(), 1);
    for uid in ["a", "b"] {
        pods.delete(uid, UnixNanos(1));
    }
    drop(recorded);
    let later = UnixNanos(i64::MAX);
    pods.expire(later, Duration::from_secs(1));
    pods.expire(later, Duration::from_secs(1));
    assert_eq!(pods.templates.len(), 0);
}

#[test]
fn a_pod_that_comes_back_is_not_forgotten() {
    let mut pods = Pods::new(Policy::default());
    pods.apply(pod("a"));
    pods.delete("a", UnixNanos(1));
    assert!(pods.apply(pod("a")));
    pods.expire(UnixNanos(i64::MAX), Duration::from_secs(1));
    assert_eq!(pods.by_uid("a").unwrap().deleted_at, None);
}

#[test]
fn no_more_vanished_pods_than_stated() {
    let mut pods = Pods::new(Policy::default());
    for n in 0..=MAX_DELETED {
        pods.apply(pod(&n.to_string()));
        pods.delete(&n.to_string(), UnixNanos(n as i64));
    }
    assert!(pods.by_uid("0").is_none());
    assert!(pods.by_uid("1").is_some());
    assert_eq!((pods.deleted.len(), pods.forgotten_early()), (MAX_DELETED, 1));
}

#[test]
fn what_a_complete_list_lacks_is_gone() {
    let mut pods = Pods::new(Policy::default());
    pods.apply(pod("stays"));
    pods.apply(pod("goes"));
    let listed = HashSet::from(["stays".to_owned()]);
    assert_eq!(pods.delete_all_but(&listed, UnixNanos(3), UnixNanos(5)), ["goes"]);
    let gone = pods.by_uid("goes").unwrap();
    assert_eq!((gone.pod.deletion, gone.deleted_at), (Some(UnixNanos(3)), Some(UnixNanos(5))));
    assert_eq!(pods.by_uid("stays").unwrap().deleted_at, None);
}

#[test]
fn a_deletion_whose_time_is_known_keeps_it() {
    let mut pods = Pods::new(Policy::default());
    pods.apply(Pod { deletion: Some(UnixNanos(1)), ..pod("goes") });
    pods.delete_all_but(&HashSet::new(), UnixNanos(3), UnixNanos(5));
    assert_eq!(pods.by_uid("goes").unwrap().pod.deletion, Some(UnixNanos(1)));
}

#[test]
fn a_static_pod_is_found_by_its_manifest() {
    let mut pods = Pods::new(Policy::default());
    pods.apply(Pod { manifest_hash: "3f0c".to_owned(), ..pod("mirror") });
    assert_eq!(pods.by_uid("3f0c").unwrap().pod.uid, "mirror");
}

#[test]
fn a_name_means_the_pod_that_exists() {
    let mut pods = Pods::new(Policy::default());
    let named = |uid: &str| Pod { name: "db-0".to_owned(), ..pod(uid) };
    pods.apply(named("old"));
    pods.delete("old", UnixNanos(1));
    pods.apply(named("new"));
    pods.expire(UnixNanos(i64::MAX), Duration::from_secs(1));
    assert_eq!(pods.by_name("default", "db-0").unwrap().pod.uid, "new");
}

#[test]
fn a_repeated_event_is_counted_up_in_its_place() {
    let mut pods = Pods::new(Policy::default());
    pods.apply(pod("a"));
    let event = |uid: &str, count, last| ProbeEvent {
        uid: uid.to_owned(),
        pod_uid: "a".to_owned(),
        container: "app".to_owned(),
        reason: "Unhealthy".to_owned(),
        message: "Liveness probe failed: ".to_owned(),
        count,
        first: UnixNanos(1),
        last: UnixNanos(last),
    };
    assert_eq!(pods.probe_event(event("e", 1, 1)), Some("a".to_owned()));
    assert_eq!(pods.probe_event(event("e", 1, 1)), None);
    assert_eq!(pods.probe_event(event("e", 2, 9)), Some("a".to_owned()));
    for n in 0..MAX_PROBE_EVENTS {
        pods.probe_event(event(&n.to_string(), 1, 2));
    }
    let kept = &pods.by_uid("a").unwrap().probe_events;
    assert_eq!(kept.len(), MAX_PROBE_EVENTS);
    assert_eq!(pods.probe_event(ProbeEvent { pod_uid: "b".to_owned(), ..event("e", 1, 1) }), None);
}

#[test]
fn the_recorded_watch_leaves_a_run_for_every_restart() {
    let mut pods = Pods::new(Policy::default());
    for state in recorded_watch() {
        pods.apply(state);
    }
    let known = pods.by_uid.values().find(|known| known.pod.name.starts_with("c02c-")).unwrap();
    let runs = known.history("app").unwrap().runs();
    assert_eq!(runs.iter().map(|run| run.restart_count).collect::<Vec<_>>(), [0, 1, 2, 3]);
    let announced: Vec<_> = runs.iter().map(|run| run.announced.map(|wait| wait.as_secs())).collect();
    assert_eq!(announced, [None, Some(10), Some(20), None]);
    assert!(runs.iter().all(|run| run.terminated.is_some()));
}
