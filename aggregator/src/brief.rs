//! What was answered a moment ago, kept briefly and in bounded number.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::lock;

/// Answers by what was asked.
#[derive(Debug)]
pub struct Brief<K, V> {
    most: usize,
    answers: Mutex<HashMap<K, (Instant, V)>>,
    forgotten: AtomicU64,
}

impl<K: Eq + Hash, V: Clone> Brief<K, V> {
    /// Keeps `most` answers at most.
    pub fn new(most: usize) -> Self {
        Self { most, answers: Mutex::default(), forgotten: AtomicU64::new(0) }
    }

    /// The answer, while it holds.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, asked: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let answers = lock(&self.answers);
        let (until, answer) = answers.get(asked)?;
        (*until > Instant::now()).then(|| answer.clone())
    }

    /// Keeps an answer for that long. When there are too many all are forgotten, which costs asking once more.
    pub fn keep(&self, asked: K, answer: V, holds: Duration) {
        let now = Instant::now();
        let mut answers = lock(&self.answers);
        if answers.len() >= self.most {
            answers.retain(|_, (until, _)| *until > now);
        }
        if answers.len() >= self.most {
            self.forgotten.fetch_add(answers.len() as u64, Ordering::Relaxed);
            answers.clear();
        }
        answers.insert(asked, (now + holds, answer));
    }

    /// Answers forgotten before their time.
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end() {
        let brief = Brief::new(10);
        brief.keep("a", 1, Duration::from_secs(3600));
        brief.keep("b", 2, Duration::ZERO);
        assert_eq!((brief.get("a"), brief.get("b")), (Some(1), None));
    }

    #[test]
    fn answers_are_bounded_and_what_is_forgotten_is_counted() {
        let brief = Brief::new(3);
        for asked in 0..10 {
            brief.keep(asked, (), Duration::from_secs(10));
            assert!(lock(&brief.answers).len() <= 3);
        }
        assert_eq!(brief.forgotten(), 9);
        assert_eq!(brief.get(&9), Some(()));
    }
}
