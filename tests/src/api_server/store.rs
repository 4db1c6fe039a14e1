//! The objects, and the bounded history that watches, paged lists and 410 Gone come from.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::failure::Failure;

/// How many changes are kept by default. A real server compacts by time (five minutes); a count lets a test fill it.
pub const DEFAULT_WINDOW: usize = 10_000;

/// Namespace (empty for cluster-wide kinds) and name.
pub type Key = (String, String);

/// Objects with their keys, in key order.
pub type Objects = Vec<(Key, Arc<Value>)>;

/// One write.
#[derive(Debug, Clone)]
pub struct Change {
    /// The version it made.
    pub version: u64,
    /// Whose store: the plural name.
    pub store: &'static str,
    /// The object's key.
    pub key: Key,
    /// Before; `None` when it was created.
    pub before: Option<Arc<Value>>,
    /// After, or as it was last when it was deleted.
    pub object: Arc<Value>,
    /// True when it was deleted.
    pub deleted: bool,
}

/// All objects of all kinds under one version counter, as etcd has it.
#[derive(Debug)]
pub struct Store {
    inner: Mutex<Inner>,
    latest: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    version: u64,
    objects: BTreeMap<(&'static str, Key), Arc<Value>>,
    history: VecDeque<Change>,
    window: usize,
    /// Changes up to this version are gone.
    compacted: u64,
}

impl Store {
    /// An empty store that remembers the last `window` changes.
    pub fn new(window: usize) -> Store {
        let inner = Inner {
            version: 1,
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            window: window.max(1),
            compacted: 0,
        };
        Store { inner: Mutex::new(inner), latest: watch::Sender::new(1) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held; if something did, the data is still whole: each write is one assignment.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest version.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// Told of every new version.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    /// One object.
    pub fn get(&self, store: &'static str, key: &Key) -> Option<Arc<Value>> {
        self.lock().objects.get(&(store, key.clone())).cloned()
    }

    /// Everything that is there: its kind's plural name, its key, itself.
    pub fn everything(&self) -> Vec<(&'static str, Key, Arc<Value>)> {
        let inner = self.lock();
        inner.objects.iter().map(|((of, key), object)| (*of, key.clone(), object.clone())).collect()
    }

    /// All objects of a kind in key order, and the version they are of; `at` asks for an older one.
    ///
    /// # Errors
    /// 410 when that version is no longer kept.
    pub fn list(&self, store: &'static str, at: Option<u64>) -> Result<(Objects, u64), Failure> {
        let inner = self.lock();
        let mut objects: BTreeMap<&Key, &Arc<Value>> = inner
            .objects
            .iter()
            .filter(|((of, _), _)| *of == store)
            .map(|((_, key), object)| (key, object))
            .collect();
        let version = at.unwrap_or(inner.version);
        if version < inner.compacted {
            return Err(Failure::continue_expired());
        }
        for change in inner.history.iter().rev().take_while(|change| change.version > version) {
            if change.store == store {
                match &change.before {
                    Some(before) => objects.insert(&change.key, before),
                    None => objects.remove(&change.key),
                };
            }
        }
        Ok((objects.into_iter().map(|(key, object)| (key.clone(), object.clone())).collect(), version))
    }

    /// The changes of a kind after `version`, and the version they lead up to.
    ///
    /// # Errors
    /// 410 when some of them are no longer kept.
    pub fn changes_after(&self, store: &'static str, version: u64) -> Result<(Vec<Change>, u64), Failure> {
        let inner = self.lock();
        if version < inner.compacted {
            return Err(Failure::expired(version, inner.compacted));
        }
        let from = inner.history.partition_point(|change| change.version <= version);
        let changes =
            inner.history.iter().skip(from).filter(|change| change.store == store).cloned().collect();
        Ok((changes, inner.version))
    }

    /// Forgets all changes, as compaction does: every older version is then 410 Gone.
    pub fn compact(&self) {
        let mut inner = self.lock();
        inner.compacted = inner.version;
        inner.history.clear();
    }

    /// Reads and writes one object as one step: `decide` gets what is there and says what shall be there (`None`:
    /// nothing). The new object gets the next version. Returns what is there afterwards, or what was deleted.
    ///
    /// # Errors
    /// Whatever `decide` refuses with; then nothing has changed.
    pub fn write(
        &self,
        store: &'static str,
        key: &Key,
        decide: impl FnOnce(Option<&Value>) -> Result<Option<Value>, Failure>,
    ) -> Result<Option<Arc<Value>>, Failure> {
        self.write_at(store, key, 0, decide)
    }

    /// As [`Store::write`], with a version of at least `least`: recordings keep the versions they were made with.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_at(
        &self,
        store: &'static str,
        key: &Key,
        least: u64,
        decide: impl FnOnce(Option<&Value>) -> Result<Option<Value>, Failure>,
    ) -> Result<Option<Arc<Value>>, Failure> {
        let mut inner = self.lock();
        let slot = (store, key.clone());
        let before = inner.objects.get(&slot).cloned();
        let after = decide(before.as_deref())?;
        let deleted = after.is_none();
        let mut object = match (after, &before) {
            (Some(object), _) => object,
            (None, Some(before)) => before.as_ref().clone(),
            (None, None) => return Ok(None),
        };
        // A write that changes nothing makes no new version, as in a real server.
        if !deleted && before.as_deref() == Some(&object) {
            return Ok(before);
        }
        let version = (inner.version + 1).max(least);
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".to_owned(), json!(version.to_string()));
        }
        let object = Arc::new(object);
        if deleted {
            inner.objects.remove(&slot);
        } else {
            inner.objects.insert(slot, object.clone());
        }
        inner.version = version;
        inner.history.push_back(Change {
            version,
            store,
            key: key.clone(),
            before,
            object: object.clone(),
            deleted,
        });
        while inner.history.len() > inner.window {
            if let Some(oldest) = inner.history.pop_front() {
                inner.compacted = oldest.version;
            }
        }
        drop(inner);
        self.latest.send_replace(version);
        Ok(Some(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &Store, name: &str, value: u32) {
        let object = json!({"metadata": {"name": name}, "value": value});
        store.write("pods", &key(name), |_| Ok(Some(object))).unwrap();
    }

    fn key(name: &str) -> Key {
        ("default".to_owned(), name.to_owned())
    }

    #[test]
    fn an_older_version_can_be_listed_until_it_is_compacted() {
        let store = Store::new(100);
        put(&store, "a", 1);
        let early = store.version();
        put(&store, "a", 2);
        put(&store, "b", 1);
        store.write("pods", &key("a"), |_| Ok(None)).unwrap();
        let (now, _) = store.list("pods", None).unwrap();
        assert_eq!(now.iter().map(|(key, _)| key.1.as_str()).collect::<Vec<_>>(), ["b"]);
        let (then, version) = store.list("pods", Some(early)).unwrap();
        assert_eq!(version, early);
        assert_eq!(then.len(), 1);
        assert_eq!(then[0].1["value"], 1);
        store.compact();
        assert_eq!(store.list("pods", Some(early)).unwrap_err().code, 410);
    }

    #[test]
    fn the_window_is_bounded_and_says_what_is_gone() {
        let store = Store::new(3);
        for value in 0..5 {
            put(&store, "a", value);
        }
        let newest = store.version();
        assert_eq!(store.changes_after("pods", newest - 3).unwrap().0.len(), 3);
        let failure = store.changes_after("pods", newest - 4).unwrap_err();
        assert_eq!(failure.message, format!("too old resource version: {} ({})", newest - 4, newest - 3));
    }

    #[test]
    fn a_write_that_changes_nothing_makes_no_version() {
        let store = Store::new(3);
        put(&store, "a", 1);
        let version = store.version();
        store.write("pods", &key("a"), |before| Ok(before.cloned())).unwrap();
        assert_eq!(store.version(), version);
    }
}
