//! What every store has to do, asked of SQLite and of a real PostgreSQL; and what only the latter can.

#![allow(clippy::unwrap_used, reason = "this file is a test")]

#[path = "../src/store/fixture.rs"]
mod fixture;
mod postgres_server;

use std::time::{Duration, Instant};

use lastwords_aggregator::healthy::ToKeep;
use lastwords_aggregator::store::{
    Assessment, Cursor, Filter, Inserted, Kind, NewCrash, PageBounds, Place, Postgres, Retention, Store,
};
use lastwords_aggregator::time::to_wire;
use lastwords_diagnosis::evidence::UnixNanos;
use lastwords_proto::v1;

use fixture::crash;
use postgres_server::Server;

const BOUNDS: PageBounds = PageBounds { crashes: 100, bytes: 3 << 20 };

async fn ids(store: &dyn Store, filter: Filter) -> Vec<u64> {
    let page = store.list(filter, BOUNDS, None).await.unwrap();
    page.crashes.iter().map(|crash| crash.id.rsplit('/').next().unwrap().parse().unwrap()).collect()
}

async fn the_same_crash_is_stored_once(store: &dyn Store) {
    assert_eq!(store.insert(crash(1, 10)).await.unwrap(), Inserted::New);
    let mut other = crash(1, 99);
    other.report.node = "changed".to_owned();
    assert_eq!(store.insert(other).await.unwrap(), Inserted::Known);
    let stored = store.get(&crash(1, 10).id).await.unwrap().unwrap();
    assert_eq!((stored.node.as_str(), stored.observed_at), ("node1", Some(to_wire(UnixNanos(10)))));
    assert_eq!(ids(store, Filter::default()).await, [1]);
    assert_eq!(store.get("node1/none/1").await.unwrap(), None);
}

async fn the_newest_revision_is_read_and_the_report_stays(store: &dyn Store) {
    let first = crash(1, 10);
    store.insert(first.clone()).await.unwrap();
    let revised = |revision, cause: v1::Cause, pod: &str| Assessment {
        revision,
        container: v1::Container { pod_name: pod.to_owned(), ..first.assessment.container.clone() },
        pod_state: Some(v1::PodState { phase: "Running".to_owned(), ..v1::PodState::default() }),
        diagnosis: v1::Diagnosis { cause: cause.into(), ..v1::Diagnosis::default() },
    };
    store.revise(&first.id, revised(3, v1::Cause::Completed, "late")).await.unwrap();
    store.revise(&first.id, revised(2, v1::Cause::Killed, "older")).await.unwrap();
    store.revise("node1/none/1", revised(2, v1::Cause::Killed, "nobody")).await.unwrap();
    let stored = store.get(&first.id).await.unwrap().unwrap();
    let diagnosis = stored.diagnosis.unwrap();
    assert_eq!((diagnosis.revision, diagnosis.cause()), (3, v1::Cause::Completed));
    assert_eq!(stored.container.unwrap().pod_name, "late");
    assert_eq!(stored.pod_state.unwrap().phase, "Running");
    let of_pod =
        |pod: &str| Filter { pod_name: pod.to_owned(), include_completed: true, ..Filter::default() };
    assert_eq!(ids(store, of_pod("late")).await, [1]);
    assert!(ids(store, of_pod("older")).await.is_empty());
    assert!(ids(store, of_pod("api-1")).await.is_empty());
}

async fn pages_have_each_crash_once_though_more_are_stored_meanwhile(store: &dyn Store) {
    for sequence in 1..=25 {
        // Five at a time share a moment.
        store.insert(crash(sequence, i64::try_from(sequence / 5).unwrap())).await.unwrap();
    }
    let bounds = PageBounds { crashes: 4, ..BOUNDS };
    let mut seen = Vec::new();
    let mut after = None;
    for page_number in 0.. {
        let page = store.list(Filter::default(), bounds, after).await.unwrap();
        seen.extend(page.crashes.iter().map(|crash| crash.id.clone()));
        store.insert(crash(1000 + page_number, 50)).await.unwrap();
        after = page.next.map(|cursor| Cursor::from_token(&cursor.to_token()).unwrap());
        if after.is_none() {
            break;
        }
    }
    let expected: Vec<String> = (1..=25).rev().map(|sequence| crash(sequence, 0).id).collect();
    assert_eq!(seen, expected);
}

async fn a_page_is_bounded_in_bytes_but_never_empty(store: &dyn Store) {
    for sequence in 1..=5 {
        let mut crash = crash(sequence, 1);
        crash.report.agent_version = "x".repeat(1000);
        store.insert(crash).await.unwrap();
    }
    let page = |bytes| store.list(Filter::default(), PageBounds { crashes: 100, bytes }, None);
    assert_eq!(page(3_600).await.unwrap().crashes.len(), 3);
    let one = page(1).await.unwrap();
    assert_eq!((one.crashes.len(), one.next.is_some()), (1, true));
    let all = page(1 << 20).await.unwrap();
    assert_eq!((all.crashes.len(), all.next), (5, None));
}

async fn filters(store: &dyn Store) {
    for sequence in 1..=6 {
        store.insert(crash(sequence, i64::try_from(sequence).unwrap() * 100)).await.unwrap();
    }
    let mut completed = crash(7, 700);
    completed.assessment.diagnosis.cause = v1::Cause::Completed.into();
    completed.assessment.diagnosis.planned = true;
    store.insert(completed).await.unwrap();
    let mut planned = crash(9, 50);
    planned.assessment.diagnosis.planned = true;
    store.insert(planned.clone()).await.unwrap();
    let all = Filter::default();
    assert_eq!(ids(store, all.clone()).await, [6, 5, 4, 3, 2, 1]);
    assert_eq!(ids(store, Filter { include_completed: true, ..all.clone() }).await.len(), 8);
    let of_cause = Filter { cause: Some(v1::Cause::OutOfMemory.into()), ..all.clone() };
    assert_eq!(ids(store, of_cause.clone()).await, [6, 5, 4, 3, 2, 1]);
    assert_eq!(ids(store, Filter { include_completed: true, ..of_cause }).await.len(), 7);
    // It turns out to be a crash, and then again not.
    for (revision, is) in [(2, false), (3, true)] {
        planned.assessment.revision = revision;
        planned.assessment.diagnosis.planned = is;
        store.revise(&planned.id, planned.assessment.clone()).await.unwrap();
        assert_eq!(ids(store, all.clone()).await.len(), if is { 6 } else { 7 });
    }
    store.remove(&planned.id).await.unwrap();
    assert_eq!(ids(store, Filter { cause: Some(v1::Cause::Completed.into()), ..all.clone() }).await, [7]);
    assert_eq!(ids(store, Filter { since: Some(UnixNanos(400)), ..all.clone() }).await, [6, 5, 4]);
    assert_eq!(ids(store, Filter { node: "node1".to_owned(), ..all.clone() }).await, [5, 3, 1]);
    let of_pod = Filter { namespace: "prod".to_owned(), pod_name: "api-2".to_owned(), ..all.clone() };
    assert_eq!(ids(store, of_pod.clone()).await, [5, 2]);
    assert_eq!(ids(store, Filter { container: "app".to_owned(), ..of_pod.clone() }).await, [5, 2]);
    assert!(ids(store, Filter { container: "other".to_owned(), ..of_pod }).await.is_empty());
    let mut elsewhere = crash(8, 800);
    elsewhere.assessment.container.namespace = "dev".to_owned();
    store.insert(elsewhere).await.unwrap();
    let only = |names: &[&str]| Filter {
        only: Some(names.iter().map(|name| (*name).to_owned()).collect()),
        ..Filter::default()
    };
    assert_eq!(ids(store, only(&["dev"])).await, [8]);
    assert_eq!(ids(store, only(&["dev", "prod"])).await.len(), 7);
    assert!(ids(store, only(&[])).await.is_empty());
    let mut namespaces = store.namespaces().await.unwrap();
    namespaces.sort();
    assert_eq!(namespaces, ["dev", "prod"]);
    assert!(ids(store, Filter { namespace: "' OR 1 --".to_owned(), ..all }).await.is_empty());
}

async fn what_is_remembered_is_kept(store: &dyn Store) {
    let text = |key: &str, value: Option<&str>| ToKeep { key: key.into(), value: value.map(str::to_owned) };
    let texts = vec![text("a", Some("1")), text("b", Some("2")), text("a", Some("3")), text("b", None)];
    store.keep(texts).await.unwrap();
    assert_eq!(store.kept().await.unwrap(), [("a".to_owned(), "3".to_owned())]);
}

/// A node's agent may send any text.
async fn hostile_texts_are_stored(store: &dyn Store) {
    let mut hostile = crash(1, 10);
    hostile.report.node = "a\0b'; DROP TABLE reports; --".to_owned();
    hostile.assessment.container.pod_name = "\u{202e}\0".to_owned();
    assert_eq!(store.insert(hostile.clone()).await.unwrap(), Inserted::New);
    assert_eq!(store.insert(hostile.clone()).await.unwrap(), Inserted::Known);
    let stored = store.get(&hostile.id).await.unwrap().unwrap();
    assert_eq!(stored.node, hostile.report.node);
    store.remove(&hostile.id).await.unwrap();
    assert_eq!(store.get(&hostile.id).await.unwrap(), None);
    assert!(ids(store, Filter::default()).await.is_empty());
}

macro_rules! of_every_store {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                let directory = tempfile::tempdir().unwrap();
                let place = super::Place::Sqlite(directory.path().join("lastwords.db"));
                let store = place.open(super::Retention::default()).await.unwrap();
                super::$name(&*store).await;
            })*
        }

        /// One server for all: each has a database of its own.
        #[tokio::test]
        async fn postgres_does_what_every_store_does() {
            let Some(server) = Server::start("postgres_does_what_every_store_does") else { return };
            $({
                let place = Place::Postgres(server.database(stringify!($name)));
                let store = place.open(Retention::default()).await.unwrap();
                $name(&*store).await;
                store.close().await;
                assert_eq!(store.get("a").await.unwrap_err().kind, Kind::Closed);
            })*
        }
    };
}

of_every_store! {
    the_same_crash_is_stored_once
    the_newest_revision_is_read_and_the_report_stays
    pages_have_each_crash_once_though_more_are_stored_meanwhile
    a_page_is_bounded_in_bytes_but_never_empty
    filters
    what_is_remembered_is_kept
    hostile_texts_are_stored
}

#[tokio::test]
async fn aggregators_that_share_a_database_store_each_crash_once() {
    let Some(server) = Server::start("aggregators_that_share_a_database_store_each_crash_once") else {
        return;
    };
    let url = server.database("shared");
    let open = || async { Postgres::open(&url, Retention::default()).await.unwrap() };
    // All make the tables at the same moment.
    let (one, two, three) = tokio::join!(open(), open(), open());
    let mut new = 0;
    for sequence in 1..=20 {
        let (a, b, c) = tokio::join!(
            one.insert(crash(sequence, 1)),
            two.insert(crash(sequence, 1)),
            three.insert(crash(sequence, 1))
        );
        new += [a, b, c].into_iter().filter(|inserted| *inserted.as_ref().unwrap() == Inserted::New).count();
    }
    assert_eq!(new, 20);
    assert_eq!(ids(&two, Filter::default()).await.len(), 20);
}

#[tokio::test]
async fn aggregators_that_share_a_database_hear_of_each_other() {
    let Some(server) = Server::start("aggregators_that_share_a_database_hear_of_each_other") else { return };
    let url = server.database("heard");
    let open = || async { Postgres::open(&url, Retention::default()).await.unwrap() };
    let one = open().await;
    one.insert(crash(1, 1)).await.unwrap();
    let two = open().await;
    assert_eq!(two.news().await.unwrap(), [""; 0], "that was before it was there");
    one.insert(crash(2, 1)).await.unwrap();
    let newer = Assessment { revision: 2, ..crash(1, 1).assessment };
    one.revise(&crash(1, 1).id, newer).await.unwrap();
    two.insert(crash(3, 1)).await.unwrap();
    assert_eq!(two.news().await.unwrap(), [crash(2, 1).id, crash(1, 1).id]);
    assert_eq!(two.news().await.unwrap(), [""; 0], "once");
    assert_eq!(one.news().await.unwrap(), [crash(3, 1).id]);

    // Of those that want to say something at the same moment one may.
    let id = crash(1, 1).id;
    let (a, b) = tokio::join!(one.claim(&id, "OutOfMemory x"), two.claim(&id, "OutOfMemory x"));
    assert_eq!(u8::from(a.unwrap()) + u8::from(b.unwrap()), 1);
    assert!(two.claim(&id, "Killed y").await.unwrap(), "something else");
    assert!(!two.claim("node1/none/1", "Killed y").await.unwrap(), "of nothing there is nothing to say");

    let agent = |node: &str, at: i64| v1::Node {
        name: node.to_owned(),
        connected: true,
        last_heard: Some(to_wire(UnixNanos(at))),
        ..v1::Node::default()
    };
    assert_eq!(one.share_agents(vec![agent("a", 5)]).await.unwrap(), []);
    assert_eq!(two.share_agents(vec![agent("b", 5)]).await.unwrap(), [agent("a", 5)]);
    // It came over.
    two.share_agents(vec![agent("a", 9)]).await.unwrap();
    let heard = one.share_agents(vec![agent("a", 5)]).await.unwrap();
    assert!(heard.contains(&agent("a", 9)) && heard.len() == 2, "{heard:?}");
    // Nobody has told of it for long: whoever heard it ended.
    server.execute("heard", "UPDATE agents SET written_at = now() - interval '1 minute'");
    assert!(one.share_agents(Vec::new()).await.unwrap().iter().all(|agent| !agent.connected));
}

#[tokio::test]
async fn a_database_of_an_earlier_version_is_brought_up_to_date() {
    let Some(server) = Server::start("a_database_of_an_earlier_version_is_brought_up_to_date") else {
        return;
    };
    let url = server.database("earlier");
    let store = Postgres::open(&url, Retention::default()).await.unwrap();
    store.insert(crash(1, 1)).await.unwrap();
    store.close().await;
    let before_2 = "ALTER TABLE newest DROP COLUMN planned";
    let before_3 = "ALTER TABLE diagnoses DROP COLUMN number, DROP COLUMN writer; \
                    ALTER TABLE newest DROP COLUMN said; DROP TABLE agents";
    for (version, undone) in [(2, before_3.to_owned()), (1, format!("{before_3}; {before_2}"))] {
        server.execute(
            "earlier",
            &format!(
                "{undone}; DELETE FROM lastwords_schema; INSERT INTO lastwords_schema VALUES ({version})"
            ),
        );
        let store = Postgres::open(&url, Retention::default()).await.unwrap();
        store.insert(crash(10 - version, 1)).await.unwrap();
        assert!(ids(&store, Filter::default()).await.contains(&1));
        store.close().await;
    }
    let store = Postgres::open(&url, Retention::default()).await.unwrap();
    assert_eq!(ids(&store, Filter::default()).await.len(), 3);
}

#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_has_all_that_was_acknowledged() {
    let name = "a_server_that_is_killed_and_comes_back_has_all_that_was_acknowledged";
    let Some(mut server) = Server::start(name) else { return };
    let store = Postgres::open(&server.database("killed"), Retention::default()).await.unwrap();
    store.insert(crash(1, 1)).await.unwrap();
    server.kill();
    let said = store.insert(crash(2, 2)).await.unwrap_err();
    assert!(said.sentence.contains("PostgreSQL at 127.0.0.1:"), "{said}");
    assert!(!said.sentence.contains("secret"), "{said}");
    server.run();
    let patience = Instant::now() + Duration::from_secs(60);
    while let Err(error) = store.insert(crash(2, 2)).await {
        assert!(Instant::now() < patience, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(ids(&store, Filter::default()).await, [2, 1]);
}

#[tokio::test]
async fn what_is_wrong_is_said_and_the_password_is_not() {
    let Some(server) = Server::start("what_is_wrong_is_said_and_the_password_is_not") else { return };
    let url = server.database("wrong");
    let open =
        |url: String| async move { Postgres::open(&url, Retention::default()).await.unwrap_err().sentence };
    let away = open(url.replace(&format!(":{}", server.port()), ":1")).await;
    assert!(away.contains("127.0.0.1:1") && away.to_lowercase().contains("refused"), "{away}");
    let refused = open(url.replace("secret", "guess")).await;
    assert!(refused.contains("check the user and the password"), "{refused}");
    let missing = open(url.replace("/wrong", "/nowhere")).await;
    assert!(missing.contains("make it with createdb"), "{missing}");
    server.execute("wrong", "CREATE TABLE reports (a int)");
    let foreign = open(url.clone()).await;
    assert!(foreign.contains("tables of another program"), "{foreign}");
    server.execute("wrong", "DROP TABLE reports; CREATE TABLE lastwords_schema AS SELECT 99 AS version");
    let newer = open(url).await;
    assert!(newer.contains("has version 99"), "{newer}");
    for said in [away, refused, missing, foreign, newer] {
        assert!(!said.contains("secret") && !said.contains("guess"), "{said}");
    }
}

#[tokio::test]
async fn the_certificate_of_the_server_is_checked() {
    let Some(server) = Server::start("the_certificate_of_the_server_is_checked") else { return };
    let url = format!("{}?sslmode=verify-full", server.database("secure"));
    let authority = server.certificate();
    let trusted = format!("{url}&sslrootcert={}", authority.display());
    let store = Postgres::open(&trusted, Retention::default()).await.unwrap();
    store.insert(crash(1, 1)).await.unwrap();
    assert_eq!(server.query("secure", "SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE s.ssl AND a.application_name = 'lastwords-aggregator'"), "1");
    let other = server.another_certificate();
    let distrusted = format!("{url}&sslrootcert={}", other.display());
    let refused = Postgres::open(&distrusted, Retention::default()).await.unwrap_err();
    assert!(refused.sentence.contains("certificate"), "{refused}");
}

#[tokio::test]
async fn the_oldest_go_first_when_there_is_too_much() {
    let Some(server) = Server::start("the_oldest_go_first_when_there_is_too_much") else { return };
    let retention = Retention { max_bytes: 300_000, ..Retention::default() };
    let store = Postgres::open(&server.database("bounded"), retention).await.unwrap();
    for sequence in 1..=500 {
        let mut crash = crash(sequence, i64::try_from(sequence).unwrap());
        crash.report.agent_version = "x".repeat(1000);
        store.insert(crash).await.unwrap();
    }
    store.retain_now().await.unwrap();
    let left = Filter { since: None, ..Filter::default() };
    let bounds = PageBounds { crashes: 1000, bytes: 8 << 20 };
    let left = store.list(left, bounds, None).await.unwrap().crashes.len() as u64;
    let removed = store.written().removed_too_much.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(left + removed, 500);
    assert!((50..300).contains(&left), "{left}");
    assert!(store.get(&crash(500, 0).id).await.unwrap().is_some());
    assert!(store.get(&crash(1, 0).id).await.unwrap().is_none());
}
