//! The memory curve: what each container with a memory limit used, from its first program to its death, so that a leak and a spike
//! look different.
//!
//! A thread of its own reads one number a container and interval (`memory.current`, on v1 `memory.usage_in_bytes`) through a
//! descriptor that stays open. That takes some 2 µs (Linux 6.18, x86-64): 200 containers on a node cost less than a thousandth of one
//! processor, and a node whose containers have no limits is woken only once a minute, to look whether one got a limit.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use lastwords_agent_common::limits::RECORDERS;

use crate::{
    clock, counters,
    enrich::cgroup::{ControlGroups, MemoryUse},
};

/// Between two samples of a container on a node: a jump shorter than this shows as a jump, and more would cost more.
pub const NODE_INTERVAL: Duration = Duration::from_secs(1);
/// The same for a tried command, which may live for a fraction of a second, and of which there is one.
pub const TRY_INTERVAL: Duration = Duration::from_millis(20);
/// How often it is looked whether a container's limit came or went: a pod can be resized in place.
const LIMIT_INTERVAL: Duration = Duration::from_secs(60);
/// Samples kept of one container. The further back, the fewer: neighbouring samples lie some 5 % of their age apart after a minute,
/// 20 % after a day. 512 containers take 512 KiB.
const SAMPLES: usize = 64;

/// What a container used at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// CLOCK_MONOTONIC in nanoseconds.
    pub time: u64,
    /// Use of the container's group.
    pub bytes: u64,
}

/// The samples of one container, oldest first.
#[derive(Debug, Clone, Default)]
struct Curve(Vec<Sample>);

impl Curve {
    /// Adds the newest sample; when full, the one goes whose neighbours lie closest together for their age. The first stays.
    fn push(&mut self, sample: Sample) {
        if self.0.len() == SAMPLES
            && let Some(dispensable) = self.dispensable(sample.time)
        {
            self.0.remove(dispensable);
        }
        self.0.push(sample);
    }

    #[expect(clippy::cast_precision_loss, reason = "only compared with one another")]
    fn dispensable(&self, now: u64) -> Option<usize> {
        let gap = |window: &[Sample]| match window {
            [before, middle, after] => {
                after.time.saturating_sub(before.time) as f64 / now.saturating_sub(middle.time).max(1) as f64
            }
            _ => f64::INFINITY,
        };
        let inner = self.0.windows(3).enumerate();
        inner.min_by(|(_, one), (_, other)| gap(one).total_cmp(&gap(other))).map(|(before, _)| before + 1)
    }
}

/// What the two threads share. It is held for moments only: files are read outside.
#[derive(Default)]
struct State {
    /// Containers that the sampling thread has not seen yet, with the paths of their groups.
    new: Vec<(u64, String)>,
    curves: HashMap<u64, Curve>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    stopped: AtomicBool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Samples are whole at any moment: one that panicked left nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The curves of all containers. The thread behind it ends when this is dropped.
pub struct MemoryCurves(Arc<Shared>);

impl MemoryCurves {
    /// Starts sampling.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(groups: ControlGroups, interval: Duration) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("memory".to_owned())
            .spawn(move || Sampler { groups, interval, sources: HashMap::new() }.run(&of_thread))?;
        Ok(Self(shared))
    }

    /// A container runs in the group at `path`: from now on its memory is looked at.
    pub fn follow(&self, cgroup_id: u64, path: &str) {
        let mut state = self.0.state();
        if state.curves.contains_key(&cgroup_id) {
            return;
        }
        // As many as there are flight recorders.
        if state.curves.len() >= RECORDERS as usize {
            counters::MEMORY_NOT_SAMPLED.increment();
            return;
        }
        state.curves.insert(cgroup_id, Curve::default());
        state.new.push((cgroup_id, path.to_owned()));
        self.0.changed.notify_one();
    }

    /// What was seen of a container, oldest first; empty for one without a limit.
    #[must_use]
    pub fn of(&self, cgroup_id: u64) -> Vec<Sample> {
        self.0.state().curves.get(&cgroup_id).map(|curve| curve.0.clone()).unwrap_or_default()
    }

    /// A container is gone.
    pub fn forget(&self, cgroup_id: u64) {
        self.0.state().curves.remove(&cgroup_id);
    }
}

impl Drop for MemoryCurves {
    fn drop(&mut self) {
        // Under the lock: between the thread's look and its wait there is no moment in which this could be missed.
        let _state = self.0.state();
        self.0.stopped.store(true, Ordering::Relaxed);
        self.0.changed.notify_one();
    }
}

/// Where a container's samples come from.
struct Source {
    path: String,
    /// None while the container has no limit.
    usage: Option<MemoryUse>,
    limit_due: Instant,
}

struct Sampler {
    groups: ControlGroups,
    interval: Duration,
    sources: HashMap<u64, Source>,
}

impl Sampler {
    fn run(mut self, shared: &Shared) {
        let mut due = Instant::now();
        loop {
            let mut state = shared.state();
            while !shared.stopped.load(Ordering::Relaxed) && state.new.is_empty() {
                let pause = due.saturating_duration_since(Instant::now());
                if pause.is_zero() && !self.sources.is_empty() {
                    break;
                }
                state = if self.sources.is_empty() {
                    shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
                } else {
                    let waited = shared.changed.wait_timeout(state, pause);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                };
            }
            if shared.stopped.load(Ordering::Relaxed) {
                return;
            }
            self.sources.retain(|id, _| state.curves.contains_key(id));
            let new = std::mem::take(&mut state.new);
            drop(state);

            let now = Instant::now();
            // One that is new gets its first sample at once.
            let whole = due <= now;
            let ids: Vec<u64> = new.iter().map(|(id, _)| *id).collect();
            for (id, path) in new {
                self.sources.insert(id, Source { path, usage: None, limit_due: now });
            }
            let mut samples = Vec::new();
            for (id, source) in &mut self.sources {
                if (whole || ids.contains(id))
                    && let Some(sample) = source.sample(&self.groups, now)
                {
                    samples.push((*id, sample));
                }
            }
            let mut state = shared.state();
            for (id, sample) in samples {
                if let Some(curve) = state.curves.get_mut(&id) {
                    curve.push(sample);
                }
            }
            if whole {
                due = now + self.pause(now);
            } else {
                due = due.min(now + self.interval);
            }
        }
    }

    /// Until the next round: without any container to sample, until the next look at their limits.
    fn pause(&self, now: Instant) -> Duration {
        if self.sources.values().any(|source| source.usage.is_some()) {
            return self.interval;
        }
        let next = self.sources.values().map(|source| source.limit_due).min();
        next.map_or(LIMIT_INTERVAL, |next| next.saturating_duration_since(now)).max(self.interval)
    }
}

impl Source {
    fn sample(&mut self, groups: &ControlGroups, now: Instant) -> Option<Sample> {
        if self.limit_due <= now {
            self.limit_due = now + LIMIT_INTERVAL;
            if has_limit(groups, &self.path) {
                self.usage = self.usage.take().or_else(|| groups.memory_use(&self.path));
            } else {
                self.usage = None;
            }
        }
        let bytes = self.usage.as_ref()?.read()?;
        Some(Sample { time: clock::monotonic_now(), bytes })
    }
}

/// Whether the container's own group or the one above it, its pod's, has a limit.
fn has_limit(groups: &ControlGroups, path: &str) -> bool {
    let above = path.rsplit_once('/').map_or("", |(above, _)| above);
    groups.memory_limit(path).is_some() || !above.is_empty() && groups.memory_limit(above).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_further_back_the_fewer() {
        let mut curve = Curve::default();
        for second in 0..86_400 {
            curve.push(Sample { time: second * SECOND, bytes: second });
        }
        let Curve(samples) = curve;
        assert_eq!(samples.len(), SAMPLES);
        assert_eq!(samples[0].bytes, 0, "the first stays");
        assert_eq!(samples[SAMPLES - 1].bytes, 86_399);
        assert!(samples.windows(2).all(|pair| pair[0].time < pair[1].time));
        for pair in samples[1..].windows(2) {
            let age = 86_400 - pair[1].bytes;
            let gap = pair[1].bytes - pair[0].bytes;
            assert!(gap == 1 || gap * 2 <= age, "{gap} s apart, {age} s ago");
        }
        assert!(
            samples.iter().filter(|sample| sample.bytes >= 86_400 - 240).count() >= 20,
            "the last 4 minutes"
        );
    }

    #[test]
    fn only_containers_with_a_limit_are_sampled() {
        let root = tempfile::tempdir().unwrap();
        let write = |group: &str, name: &str, text: &str| {
            let group = root.path().join(group);
            std::fs::create_dir_all(&group).unwrap();
            std::fs::write(group.join(name), text).unwrap();
        };
        write("", "cgroup.controllers", "memory\n");
        for (group, limit) in
            [("pod/limited", "20971520\n"), ("pod/free", "max\n"), ("small-pod/free", "max\n")]
        {
            write(group, "memory.max", limit);
            write(group, "memory.current", "12345678\n");
        }
        write("small-pod", "memory.max", "4194304\n");
        let groups = ControlGroups::open(root.path()).unwrap();
        let curves = MemoryCurves::start(groups, Duration::from_millis(1)).unwrap();
        curves.follow(1, "/pod/limited");
        curves.follow(2, "/pod/free");
        curves.follow(3, "/small-pod/free");
        let until = Instant::now() + Duration::from_secs(5);
        while curves.of(1).len() < 3 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(curves.of(1).len() >= 3);
        assert!(curves.of(1).iter().all(|sample| sample.bytes == 12_345_678));
        assert_eq!(curves.of(2), [], "it has no limit");
        assert!(!curves.of(3).is_empty(), "its pod has one");
        curves.forget(1);
        assert_eq!(curves.of(1), []);
    }
}
