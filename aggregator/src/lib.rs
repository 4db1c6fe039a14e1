//! The aggregator: takes the agents' reports, pairs each with its pod, names the cause, stores it, and answers queries.
//!
//! A report comes in by [`ingest`], is paired by [`pair`] with what [`kubernetes`] keeps in [`pods`], judged and stored by
//! [`diagnose`] in a [`store`], and read back by [`api`]. [`gate`] decides who may do that, over [`connection`]s that [`tls`] protects;
//! [`guard`] stands before the answers. [`serve`] puts them together.

pub mod agents;
pub mod annotate;
pub mod announce;
pub mod api;
pub mod args;
pub mod backoff;
pub mod brief;
pub mod caller;
pub mod config;
pub mod connection;
pub mod counters;
pub mod diagnose;
pub mod gate;
pub mod guard;
pub mod healthy;
pub mod ingest;
pub mod kubernetes;
pub mod metrics;
pub mod owners;
pub mod pair;
pub mod planned;
pub mod pods;
pub mod serve;
pub mod shutdown;
pub mod stated;
pub mod store;
pub mod telemetry;
pub mod template;
pub mod time;
pub mod tls;

#[cfg(test)]
mod replay_tests;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after a panic elsewhere: what these locks protect is whole after every single step.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error with what caused it, each said once.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
