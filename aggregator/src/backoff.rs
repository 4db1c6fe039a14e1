//! How long the kubelet waits before it starts a container again: read from its message where it wrote one, computed from the
//! runs seen where it did not yet.
//!
//! The kubelet starts a container at once after its first death, then waits `initial`, twice that, and so on up to a cap of the
//! node's own configuration; a run longer than twice the cap begins the series anew. Its message (`CrashLoopBackOff`) appears only
//! for part of the wait, so without computing, the answer would be missing just when people ask.
//! A container that a probe killed does not count its first kills, so what is computed from the restart count alone may be one or
//! two steps long; as soon as one message of the container was seen, the series is counted on from there.

use std::time::Duration;

use lastwords_diagnosis::evidence::UnixNanos;
use lastwords_diagnosis::pod::Terminated;

/// Runs kept for one container: the longest series of different waits (10 s to 300 s) has six steps, and a probe may add a few.
pub const MAX_RUNS: usize = 16;

/// What the kubelet is assumed to be configured with, until its messages show otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The first wait.
    pub initial: Duration,
    /// The longest wait.
    pub cap: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { initial: Duration::from_secs(10), cap: Duration::from_secs(300) }
    }
}

/// One wait before a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOff {
    /// Its length.
    pub wait: Duration,
    /// 1 for the first wait of a series, one more for each doubling.
    pub level: u32,
    /// False when the kubelet wrote it, true when it was computed.
    pub computed: bool,
}

/// One run of a container, from its status and from the report of its death, whichever came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Run {
    /// 64 hexadecimal digits.
    pub container_id: String,
    /// Restarts before this run.
    pub restart_count: i32,
    /// Start of the run.
    pub started_at: Option<UnixNanos>,
    /// Its end: the kubelet's whole seconds once known, until then the node's own clock at the death.
    pub ended_at: Option<UnixNanos>,
    /// Its exit code, as an agent reported it.
    pub exit_code: Option<i32>,
    /// Its end as Kubernetes tells it.
    pub terminated: Option<Terminated>,
    /// The wait after it, as the kubelet's message gave it.
    pub announced: Option<Duration>,
    /// True once there is a crash of its end.
    pub told: bool,
}

impl Run {
    fn lasted(&self) -> Option<Duration> {
        let nanos = self.ended_at?.0.checked_sub(self.started_at?.0)?;
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)))
    }

    /// Its exit code, whoever told it.
    pub fn exit_code(&self) -> Option<i32> {
        self.terminated.as_ref().map(|terminated| terminated.exit_code).or(self.exit_code)
    }

    fn merge(&mut self, newer: Run) {
        self.restart_count = newer.restart_count;
        self.started_at = newer.started_at.or(self.started_at);
        self.terminated = newer.terminated.or(self.terminated.take());
        self.exit_code = newer.exit_code.or(self.exit_code);
        self.told |= newer.told;
        self.announced = newer.announced.or(self.announced);
        self.ended_at = match &self.terminated {
            Some(terminated) => Some(terminated.finished_at),
            None => newer.ended_at.or(self.ended_at),
        };
    }
}

/// The last runs of one container, by restart count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    runs: Vec<Run>,
}

impl History {
    /// Adds a run, or adds what is new about one already known (by container id). Beyond [`MAX_RUNS`] the oldest is forgotten and
    /// its container id returned.
    pub fn observe(&mut self, run: Run) -> Option<String> {
        match self.runs.iter_mut().find(|known| known.container_id == run.container_id) {
            Some(known) => known.merge(run),
            None => {
                // Room for exactly one more: most containers have one or two runs, and there are as many histories as containers.
                self.runs.reserve_exact(1);
                self.runs.push(run);
            }
        }
        self.runs.sort_by_key(|run| run.restart_count);
        (self.runs.len() > MAX_RUNS).then(|| self.runs.remove(0).container_id)
    }

    /// The run of that container id.
    pub fn run(&self, container_id: &str) -> Option<&Run> {
        self.runs.iter().find(|run| run.container_id == container_id)
    }

    /// The newest run.
    pub fn latest(&self) -> Option<&Run> {
        self.runs.last()
    }

    /// All runs known, oldest first.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The wait after the run with that restart count. None when the kubelet does not wait: after the first death, and after a
    /// run longer than twice the cap.
    pub fn back_off_after(&self, restart_count: i32, policy: &Policy) -> Option<BackOff> {
        let earlier = self.runs.iter().rev().filter(|run| run.restart_count <= restart_count);
        for run in earlier {
            let steps = u32::try_from(restart_count.saturating_sub(run.restart_count)).unwrap_or(0);
            if let Some(wait) = run.announced {
                let wait = doubled(wait, steps, policy.cap.max(wait));
                return Some(BackOff { wait, level: level_of(wait, policy), computed: steps > 0 });
            }
            if run.lasted().is_some_and(|lasted| lasted > policy.cap.saturating_mul(2)) {
                return computed(steps, policy);
            }
        }
        computed(u32::try_from(restart_count).unwrap_or(0), policy)
    }

    /// The node's cap, where the messages of this container show it: a wait that is no doubling of the first one, or one that
    /// stayed the same from one run to the next.
    pub fn cap_shown(&self, policy: &Policy) -> Option<Duration> {
        let announced = |run: &Run| run.announced;
        let stayed = self.runs.windows(2).rev().find_map(|pair| match pair {
            [earlier, later]
                if later.restart_count == earlier.restart_count.saturating_add(1)
                    && earlier.announced.is_some()
                    && earlier.announced == later.announced
                    && later.lasted().is_some_and(|lasted| lasted <= policy.initial) =>
            {
                later.announced
            }
            _ => None,
        });
        stayed.or_else(|| {
            self.runs.iter().rev().filter_map(announced).find(|wait| !is_doubling(*wait, policy.initial))
        })
    }
}

fn computed(level: u32, policy: &Policy) -> Option<BackOff> {
    let steps = level.checked_sub(1)?;
    let wait = doubled(policy.initial, steps, policy.cap);
    Some(BackOff { wait, level: level_of(wait, policy), computed: true })
}

fn doubled(wait: Duration, steps: u32, cap: Duration) -> Duration {
    let factor = 1u32.checked_shl(steps).unwrap_or(u32::MAX);
    wait.saturating_mul(factor).min(cap)
}

/// The step of the series at which a wait stands: at the cap, the step that reached it.
fn level_of(wait: Duration, policy: &Policy) -> u32 {
    let mut level = 1;
    let mut step = policy.initial.max(Duration::from_millis(1));
    while step < wait && level < 32 {
        step = step.saturating_mul(2);
        level += 1;
    }
    level
}

fn is_doubling(wait: Duration, initial: Duration) -> bool {
    let mut step = initial.max(Duration::from_millis(1));
    while step < wait {
        step = step.saturating_mul(2);
    }
    step == wait
}

/// Reads `back-off 2m40s restarting failed container=…`. None for any other message, that of an image pull among them.
pub fn announced_wait(message: &str) -> Option<Duration> {
    let rest = message.strip_prefix("back-off ")?;
    let (duration, rest) = rest.split_once(' ')?;
    rest.starts_with("restarting failed container").then(|| go_duration(duration))?
}

/// Reads a duration as Go's `time.Duration` prints it: `10s`, `2m40s`, `1h0m0s`, `1.5s`, `300ms`.
pub fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit_end)?;
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn run(restart_count: i32, started: i64, ended: i64, announced: Option<u64>) -> Run {
        Run {
            container_id: format!("{restart_count:064x}"),
            restart_count,
            started_at: Some(UnixNanos(started * SECOND)),
            ended_at: Some(UnixNanos(ended * SECOND)),
            announced: announced.map(Duration::from_secs),
            ..Run::default()
        }
    }

    #[test]
    fn go_durations() {
        for (text, milliseconds) in [
            ("10s", 10_000),
            ("2m40s", 160_000),
            ("5m0s", 300_000),
            ("1h0m1s", 3_601_000),
            ("1.5s", 1_500),
            ("300ms", 300),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(go_duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "10", "s", "10x", "-3s", "1..2s", "999999999999999999999h", "10s ", "µ"] {
            assert_eq!(go_duration(text), None, "{text}");
        }
    }

    #[test]
    fn messages() {
        let crash = "back-off 2m40s restarting failed container=app pod=api-7f9_prod(0d9c)";
        assert_eq!(announced_wait(crash), Some(Duration::from_secs(160)));
        for other in [
            "Back-off pulling image \"localhost:5055/team/app:1.2.3\": ErrImagePull: failed",
            "back-off 10s",
            "back-off soon restarting failed container=app",
            "",
        ] {
            assert_eq!(announced_wait(other), None, "{other}");
        }
    }

    #[test]
    fn first_death_waits_for_nothing_then_it_doubles_to_the_cap() {
        let history = History::default();
        let waits: Vec<u64> = (0..9)
            .map(|n| {
                history.back_off_after(n, &Policy::default()).map_or(0, |back_off| back_off.wait.as_secs())
            })
            .collect();
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300, 300]);
        let at_cap = history.back_off_after(30, &Policy::default()).unwrap();
        assert_eq!((at_cap.level, at_cap.computed), (6, true));
    }

    #[test]
    fn counts_on_from_the_last_message() {
        let mut history = History::default();
        history.observe(run(3, 0, 5, Some(10)));
        assert_eq!(
            history.back_off_after(3, &Policy::default()),
            Some(BackOff { wait: Duration::from_secs(10), level: 1, computed: false })
        );
        assert_eq!(
            history.back_off_after(5, &Policy::default()),
            Some(BackOff { wait: Duration::from_secs(40), level: 3, computed: true })
        );
    }

    #[test]
    fn a_long_run_begins_the_series_anew() {
        let mut history = History::default();
        history.observe(run(7, 0, 2, Some(300)));
        history.observe(run(8, 302, 302 + 601, None));
        assert_eq!(history.back_off_after(8, &Policy::default()), None);
        history.observe(run(9, 904, 905, None));
        assert_eq!(history.back_off_after(9, &Policy::default()).unwrap().wait, Duration::from_secs(10));
        let mut just_short = History::default();
        just_short.observe(run(7, 0, 2, Some(300)));
        just_short.observe(run(8, 302, 302 + 600, None));
        assert_eq!(just_short.back_off_after(8, &Policy::default()).unwrap().wait, Duration::from_secs(300));
    }

    #[test]
    fn a_message_above_the_assumed_cap_is_believed() {
        let mut history = History::default();
        history.observe(run(8, 0, 2, Some(600)));
        assert_eq!(history.back_off_after(9, &Policy::default()).unwrap().wait, Duration::from_secs(600));
    }

    #[test]
    fn messages_show_the_cap_of_the_node() {
        let mut history = History::default();
        history.observe(run(3, 0, 1, Some(40)));
        assert_eq!(history.cap_shown(&Policy::default()), None);
        history.observe(run(4, 41, 42, Some(60)));
        assert_eq!(history.cap_shown(&Policy::default()), Some(Duration::from_secs(60)));
        let mut steady = History::default();
        steady.observe(run(3, 0, 1, Some(20)));
        steady.observe(run(4, 21, 22, Some(20)));
        assert_eq!(steady.cap_shown(&Policy::default()), Some(Duration::from_secs(20)));
    }

    #[test]
    fn the_oldest_run_is_forgotten_and_late_news_is_merged() {
        let mut history = History::default();
        for n in 0..16 {
            assert_eq!(history.observe(run(n, i64::from(n), i64::from(n), None)), None);
        }
        assert_eq!(history.observe(run(16, 16, 16, None)), Some(format!("{:064x}", 0)));
        let terminated = Terminated { finished_at: UnixNanos(99), ..Terminated::default() };
        let news = Run { terminated: Some(terminated), started_at: None, ..run(16, 0, 1, None) };
        history.observe(news);
        let merged = history.latest().unwrap();
        assert_eq!((merged.started_at, merged.ended_at), (Some(UnixNanos(16 * SECOND)), Some(UnixNanos(99))));
    }
}
