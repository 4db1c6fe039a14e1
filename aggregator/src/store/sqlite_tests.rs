use super::*;
use crate::time::to_wire;
use lastwords_diagnosis::evidence::UnixNanos;

#[path = "fixture.rs"]
mod fixture;

use fixture::crash;

const BOUNDS: PageBounds = PageBounds { crashes: 100, bytes: 3 << 20 };

fn open(directory: &tempfile::TempDir) -> Sqlite {
    Sqlite::open(&directory.path().join("data/lastwords.db"), Retention::default()).unwrap()
}

async fn ids(store: &Sqlite, filter: Filter) -> Vec<u64> {
    let page = store.list(filter, BOUNDS, None).await.unwrap();
    page.crashes.iter().map(|crash| crash.id.rsplit('/').next().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    for sequence in 1..=10 {
        store.insert(crash(sequence, 1)).await.unwrap();
    }
    // What a killed process leaves: the file and its log, as they are while the store is open.
    let after = tempfile::tempdir().unwrap();
    std::fs::create_dir(after.path().join("data")).unwrap();
    for file in ["lastwords.db", "lastwords.db-wal"] {
        std::fs::copy(directory.path().join("data").join(file), after.path().join("data").join(file))
            .unwrap();
    }
    let reopened = open(&after);
    assert_eq!(ids(&reopened, Filter::default()).await.len(), 10);
    assert_eq!(reopened.insert(crash(10, 1)).await.unwrap(), Inserted::Known);
    assert_eq!(reopened.insert(crash(11, 1)).await.unwrap(), Inserted::New);
}

#[tokio::test]
async fn many_writers_share_transactions() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let inserts = (1..=400).map(|sequence| store.insert(crash(sequence, 1)));
    let outcomes = futures::future::join_all(inserts).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(Inserted::New))));
    assert!(store.written().transactions.load(Ordering::Relaxed) < 100);
}

#[tokio::test]
async fn closing_finishes_what_was_begun_and_refuses_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let (inserted, ()) = tokio::join!(store.insert(crash(1, 1)), store.close());
    assert_eq!(inserted.unwrap(), Inserted::New);
    assert_eq!(store.insert(crash(2, 1)).await.unwrap_err().kind, Kind::Closed);
    assert_eq!(ids(&open(&directory), Filter::default()).await, [1]);
}

#[tokio::test]
async fn the_oldest_go_first_and_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lastwords.db");
    let retention = Retention { max_bytes: 1 << 20, ..Retention::default() };
    let store = Sqlite::open(&path, retention).unwrap();
    for sequence in 1..=600 {
        let mut crash = crash(sequence, i64::try_from(sequence).unwrap());
        crash.report.agent_version = "x".repeat(4_000);
        store.insert(crash).await.unwrap();
    }
    let connection = connect(&path).unwrap();
    let removed = retention::enforce(&connection, &retention, Some(time::now().0)).unwrap();
    assert_eq!(removed, retention::Removed { too_old: 0, too_much: 400 });
    let left = ids(&store, Filter::default()).await;
    assert_eq!((left.len(), left[0]), (100, 600));
    let nothing_yet = retention::enforce(&connection, &retention, Some(time::now().0)).unwrap();
    assert_eq!(nothing_yet, retention::Removed::default());
    let much_later = time::now().0 + 31 * 24 * 3_600_000_000_000;
    let untold = retention::enforce(&connection, &retention, None).unwrap();
    assert_eq!(untold, retention::Removed::default());
    assert_eq!(retention::enforce(&connection, &retention, Some(much_later)).unwrap().too_old, 200);
    let orphans: i64 = connection.query_row("SELECT count(*) FROM diagnoses", [], |row| row.get(0)).unwrap();
    assert_eq!(orphans, 0);
}

#[tokio::test]
async fn a_locked_store_is_an_error_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    store.insert(crash(1, 1)).await.unwrap();
    let other = Connection::open(directory.path().join("data/lastwords.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.insert(crash(2, 1)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Locked, "{error}");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.insert(crash(2, 1)).await.unwrap(), Inserted::New);
    assert_eq!(ids(&store, Filter::default()).await, [2, 1]);
}

#[tokio::test]
async fn a_full_store_is_an_error_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lastwords.db");
    let mut connection = connect(&path).unwrap();
    schema::prepare(&mut connection).unwrap();
    // What SQLite does when the disk has no more room, without filling one.
    connection.pragma_update_and_check(None, "max_page_count", 20, |_| Ok(())).unwrap();
    let mut stored = 0;
    let error = loop {
        let (reply, _answer) = oneshot::channel();
        match write_all(&mut connection, &[Write::Insert(Box::new(crash(stored + 1, 1)), reply)]) {
            Ok(_) => stored += 1,
            Err(error) => break StoreError::from_sqlite(&path, &error),
        }
    };
    assert_eq!(error.kind, Kind::Full, "{error}");
    assert!(error.to_string().contains("make room"), "{error}");
    let store = Sqlite::open(&path, Retention::default()).unwrap();
    let page = store.list(Filter::default(), PageBounds { crashes: 1_000, ..BOUNDS }, None).await.unwrap();
    assert_eq!(page.crashes.len() as u64, stored);
}

#[test]
fn what_cannot_be_opened_is_said_in_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("text"), "no database, but long enough to be looked at for a header".repeat(100))
        .unwrap();
    Connection::open(at("foreign")).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let newer = Connection::open(at("newer")).unwrap();
    newer
        .execute_batch("CREATE TABLE t (x); PRAGMA user_version = 99; PRAGMA application_id = 0x4c737457")
        .unwrap();
    std::fs::create_dir(at("directory")).unwrap();
    for (name, kind, part) in [
        ("text", Kind::Damaged, "damaged or no SQLite database"),
        ("foreign", Kind::Damaged, "of another program"),
        ("newer", Kind::Damaged, "version 99"),
        ("directory", Kind::NotWritable, "cannot be opened for writing"),
        ("text/below", Kind::NotWritable, "cannot be created"),
    ] {
        let error = Sqlite::open(&at(name), Retention::default()).unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.to_string().contains(part) && !error.to_string().contains('\n'), "{error}");
    }
}

#[tokio::test]
async fn what_is_remembered_is_kept_also_in_a_store_of_the_first_version() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("old.db");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(schema::VERSION_1).unwrap();
    old.execute_batch("PRAGMA user_version = 1; PRAGMA application_id = 0x4c737457").unwrap();
    drop(old);
    let text = |key: &str, value: Option<&str>| ToKeep { key: key.into(), value: value.map(str::to_owned) };
    let store = Sqlite::open(&path, Retention::default()).unwrap();
    let texts = vec![text("a", Some("1")), text("b", Some("2")), text("a", Some("3")), text("b", None)];
    store.keep(texts).await.unwrap();
    store.close().await;
    let store = Sqlite::open(&path, Retention::default()).unwrap();
    assert_eq!(store.kept().await.unwrap(), [("a".to_owned(), "3".to_owned())]);
}
