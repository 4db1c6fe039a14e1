use super::*;

const NOW: Duration = Duration::ZERO;

/// A crash of that pod, `second` seconds after 2026-09-21T14:13:20Z.
fn crash(pod: &str, second: i64, cause: v1::Cause) -> v1::Crash {
    v1::Crash {
        id: format!("node1/{pod}/{second}"),
        observed_at: Some(Timestamp { seconds: 1_790_000_000 + second, nanos: 5 }),
        container: Some(v1::Container {
            namespace: "shop".to_owned(),
            pod_name: pod.to_owned(),
            pod_uid: format!("uid-of-{pod}"),
            name: "app".to_owned(),
            ..v1::Container::default()
        }),
        pod_state: Some(v1::PodState::default()),
        diagnosis: Some(v1::Diagnosis {
            cause: cause.into(),
            confidence: v1::Confidence::High.into(),
            summary: "it held all of it".to_owned(),
            remedy: "raise the limit".to_owned(),
            ..v1::Diagnosis::default()
        }),
        ..v1::Crash::default()
    }
}

/// All that is due at that time, as fast as it is allowed.
fn all_due(annotations: &mut Annotations, now: Duration) -> Vec<Annotation> {
    std::iter::from_fn(|| annotations.due(now)).collect()
}

fn value<'a>(annotation: &'a Annotation, key: &str) -> Option<&'a str> {
    let of_key = |(name, _): &&(&str, Option<String>)| name.strip_prefix("lastwords.dev/") == Some(key);
    annotation.values.iter().find(of_key).unwrap().1.as_deref()
}

fn hear(annotations: &mut Annotations, crash: v1::Crash, now: Duration) {
    annotations.heard(Arc::new(crash), now, Duration::ZERO);
}

#[test]
fn a_pod_shows_its_crash_as_it_was_judged_last() {
    let mut annotations = Annotations::default();
    hear(&mut annotations, crash("api", 1, v1::Cause::Killed), NOW);
    hear(&mut annotations, crash("api", 1, v1::Cause::OutOfMemory), Duration::from_secs(1));
    assert_eq!(annotations.due(SETTLE), None, "it may be judged anew for a moment more");
    let due = annotations.next().unwrap();
    let [written] = all_due(&mut annotations, due).try_into().unwrap();
    assert_eq!(
        (&*written.namespace, &*written.pod, &*written.uid, value(&written, "cause")),
        ("shop", "api", "uid-of-api", Some("OutOfMemory"))
    );
    let rest =
        ["confidence", "container", "summary", "crash-id", "crashed-at"].map(|key| value(&written, key));
    let summary = "it held all of it. Fix: raise the limit";
    let expected = ["high", "app", summary, "node1/api/1", "2026-09-21T14:13:21Z"];
    assert_eq!(rest, expected.map(Some));
    // The same again is no news.
    hear(&mut annotations, crash("api", 1, v1::Cause::OutOfMemory), due);
    assert_eq!(all_due(&mut annotations, due + 2 * PAUSE), []);
    assert_eq!((annotations.next(), annotations.superseded(), annotations.dropped()), (None, 0, 0));
}

#[test]
fn a_pod_in_a_crash_loop_is_written_twice_a_minute_with_its_newest_crash() {
    let mut annotations = Annotations::default();
    let mut written = Vec::new();
    for second in 0..120 {
        let now = Duration::from_secs(second);
        hear(&mut annotations, crash("api", second.try_into().unwrap(), v1::Cause::Killed), now);
        written.extend(all_due(&mut annotations, now));
    }
    let ids: Vec<&str> = written.iter().filter_map(|it| value(it, "crash-id")).collect();
    assert_eq!(ids, ["node1/api/30", "node1/api/61", "node1/api/92"], "each the newest at its time");
    assert_eq!(annotations.superseded() + 3 + 1, 120, "written, superseded or waiting");
}

#[test]
fn an_older_crash_that_is_judged_anew_does_not_take_the_place_of_the_newest() {
    let mut annotations = Annotations::default();
    hear(&mut annotations, crash("api", 9, v1::Cause::Killed), NOW);
    hear(&mut annotations, crash("api", 3, v1::Cause::OutOfMemory), NOW);
    let [written] = all_due(&mut annotations, SETTLE).try_into().unwrap();
    assert_eq!((value(&written, "crash-id"), annotations.superseded()), (Some("node1/api/9"), 1));
    hear(&mut annotations, crash("api", 3, v1::Cause::PortInUse), PAUSE);
    assert_eq!(all_due(&mut annotations, 3 * PAUSE), []);
}

#[test]
fn what_is_told_by_no_event_is_not_written_either() {
    let mut annotations = Annotations::default();
    hear(&mut annotations, crash("done", 1, v1::Cause::Completed), NOW);
    hear(&mut annotations, crash("unclear", 1, v1::Cause::Unknown), NOW);
    let mut wanted = crash("wanted", 1, v1::Cause::Killed);
    wanted.diagnosis.as_mut().unwrap().planned = true;
    hear(&mut annotations, wanted, NOW);
    let mut claimed = crash("claimed", 1, v1::Cause::Killed);
    claimed.pod_state = None;
    hear(&mut annotations, claimed, NOW);
    let mut gone = crash("gone", 1, v1::Cause::Killed);
    gone.pod_state.as_mut().unwrap().pod_deleted = true;
    hear(&mut annotations, gone, NOW);
    annotations.heard(Arc::new(crash("old", 1, v1::Cause::Killed)), NOW, NEWS + PAUSE);
    assert_eq!((annotations.next(), annotations.pods.len()), (None, 0), "and no pod is remembered for it");
}

#[test]
fn what_was_said_of_a_crash_that_is_none_is_taken_back() {
    let mut annotations = Annotations::default();
    hear(&mut annotations, crash("api", 1, v1::Cause::Killed), NOW);
    assert_eq!(all_due(&mut annotations, SETTLE).len(), 1);
    // A later end that is no trouble leaves what is said of the one before.
    hear(&mut annotations, crash("api", 5, v1::Cause::Completed), PAUSE);
    assert_eq!(all_due(&mut annotations, 2 * PAUSE), []);
    hear(&mut annotations, crash("api", 1, v1::Cause::Unknown), 2 * PAUSE);
    let [taken_back] = all_due(&mut annotations, 3 * PAUSE).try_into().unwrap();
    assert!(taken_back.values.iter().all(|(_, value)| value.is_none()), "{taken_back:?}");
    hear(&mut annotations, crash("api", 1, v1::Cause::Unknown), 3 * PAUSE);
    assert_eq!(all_due(&mut annotations, 5 * PAUSE), [], "once");
}

#[test]
fn a_storm_waits_for_its_turn_and_what_is_too_much_is_counted() {
    let mut annotations = Annotations::default();
    for number in 0..MOST_WAITING + 44 {
        hear(&mut annotations, crash(&number.to_string(), 1, v1::Cause::Killed), NOW);
    }
    assert_eq!(annotations.dropped(), 44);
    let first = all_due(&mut annotations, SETTLE).len();
    assert_eq!(first, BURST as usize);
    // The others as time goes on, each at the moment that was told, and never two a second more.
    let mut written = first;
    while let Some(now) = annotations.next() {
        written += all_due(&mut annotations, now).len();
        let most = BURST + (now - SETTLE).as_secs_f64() * PER_SECOND + 0.1;
        assert!((written as f64) <= most, "{written} at {now:?}");
    }
    assert_eq!(written, MOST_WAITING);
}

#[test]
fn pods_are_forgotten_when_there_are_too_many_but_for_those_that_wait() {
    let mut annotations = Annotations::default();
    hear(&mut annotations, crash("waits", 1, v1::Cause::Killed), NOW);
    let mut now = NOW;
    for number in 0..MOST_PODS + 100 {
        now += SETTLE;
        let waits = annotations.pods.get_mut("uid-of-waits").and_then(|pod| pod.waiting.as_mut()).unwrap();
        waits.due = now + PAUSE;
        hear(&mut annotations, crash(&number.to_string(), 1, v1::Cause::Killed), now);
        all_due(&mut annotations, now);
        assert!(annotations.pods.len() <= MOST_PODS && annotations.in_order.len() == annotations.pods.len());
    }
    assert!(!annotations.pods.contains_key("uid-of-0") && annotations.pods.contains_key("uid-of-waits"));
}

#[test]
fn what_could_not_be_written_is_tried_again_and_given_up_at_last() {
    let mut annotations = Annotations::default();
    hear(&mut annotations, crash("api", 1, v1::Cause::Killed), NOW);
    let mut now = SETTLE;
    for tried in 1..=MOST_TRIES {
        let annotation = annotations.due(now).unwrap_or_else(|| panic!("no try {tried}"));
        annotations.put_off(annotation, now, Duration::ZERO);
        now += AGAIN;
    }
    assert_eq!((annotations.next(), annotations.dropped()), (None, 1));

    // A newer one takes its place, and has all its tries.
    hear(&mut annotations, crash("api", 2, v1::Cause::Killed), now + PAUSE);
    let annotation = annotations.due(now + 2 * PAUSE).unwrap();
    hear(&mut annotations, crash("api", 3, v1::Cause::Killed), now + 2 * PAUSE);
    annotations.put_off(annotation, now + 2 * PAUSE, Duration::ZERO);
    let due = annotations.next().unwrap();
    assert_eq!(value(&annotations.due(due).unwrap(), "crash-id"), Some("node1/api/3"));
    assert_eq!((annotations.superseded(), annotations.dropped()), (1, 1));
}

#[test]
fn a_long_sentence_is_cut_where_a_character_ends() {
    let mut long = crash("api", 1, v1::Cause::Killed);
    long.diagnosis.as_mut().unwrap().summary = "ü".repeat(3_000);
    let mut annotations = Annotations::default();
    hear(&mut annotations, long, NOW);
    let annotation = annotations.due(SETTLE).unwrap();
    let summary = value(&annotation, "summary").unwrap();
    assert!(summary.len() <= announce::MOST_NOTE_BYTES && summary.ends_with('…'), "{summary}");
}

#[test]
fn the_policy_of_the_chart_allows_these_annotations_and_no_others() {
    let policy = include_str!("../../deploy/chart/templates/annotations.yaml");
    let listed: Vec<&str> = policy.split('\'').filter(|text| text.starts_with("lastwords.dev/")).collect();
    assert_eq!(listed, KEYS);
}
