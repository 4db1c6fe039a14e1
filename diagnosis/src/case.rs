//! One death, in the order in which the rules ask about it.

use crate::calls::{self, Call};
use crate::evidence::{ChildExit, Evidence, Exit, Failure, Signal};
use crate::noise::{self, Noise};
use crate::pod::{ContainerState, PodContext};
use crate::{errno, signals, words};

/// A child's death counts as part of the main process's when it came at most this long before it (milliseconds): a shell
/// passes its child's status on within a few, a supervisor logs and tidies up first, or waits for a second.
const CHILD_TO_PARENT_MS: f64 = 1_100.0;

/// An exit code of 128 + n is how shells and supervisors report a child's signal n.
const SIGNAL_CODES_FROM: i32 = 128;

/// Failed calls that are looked at, the latest ones. A flight recorder holds a fraction of this; a report with more is none of
/// ours, and must not cost more time either.
const MOST_FAILURES: usize = 256;

/// One death.
pub(crate) struct Case<'a> {
    pub(crate) evidence: &'a Evidence,
    pub(crate) pod: Option<&'a PodContext>,
    /// Failed calls that may have ended it, strongest first.
    pub(crate) calls: Vec<Call<'a>>,
}

impl<'a> Case<'a> {
    pub(crate) fn new(evidence: &'a Evidence, pod: Option<&'a PodContext>, noise: Noise) -> Self {
        let mut case = Self { evidence, pod, calls: Vec::new() };
        case.calls = calls::strongest_first(&case, noise);
        case
    }

    /// The latest failed calls with their indices, oldest first.
    pub(crate) fn failures(&self) -> impl DoubleEndedIterator<Item = (usize, &'a Failure)> + use<'a> {
        let earlier = self.evidence.failures.len().saturating_sub(MOST_FAILURES);
        self.evidence.failures.iter().enumerate().skip(earlier)
    }

    /// The exit, when the main process ended.
    pub(crate) fn exit(&self) -> Option<&'a Exit> {
        self.evidence.exit.as_ref()
    }

    /// The exit code, when the main process ended by itself.
    pub(crate) fn exit_code(&self) -> Option<i32> {
        self.exit().filter(|exit| exit.signal == 0).map(|exit| exit.code)
    }

    /// The signal that ended the main process.
    pub(crate) fn fatal_signal(&self) -> Option<i32> {
        self.exit().map(|exit| exit.signal).filter(|signal| *signal != 0)
    }

    /// Who ended itself with the exit code, and how, for a sentence: what the main process only passed on is its child's doing. `meaning`
    /// stands behind the code, `life_ms` is how long the main process ran, where that is known.
    pub(crate) fn ended_itself(&self, code: i32, meaning: &str, life_ms: Option<f64>) -> (String, String) {
        let main = self.main_name();
        let ended = format!("ended itself with exit code {code}{meaning}");
        let life = life_ms.filter(|life| *life > 0.0).map(words::span);
        match self.passed_on().filter(|(_, child)| child.signal == 0 && !child.comm.is_empty()) {
            Some((_, child)) => {
                let after = life.map_or_else(String::new, |life| format!(" {life} after its start"));
                let ended = ended.trim_end_matches(',');
                (words::one_line(&child.comm), format!("{ended}, and {main} passed that on{after}"))
            }
            None => {
                let after = life.map_or_else(String::new, |life| format!(" after {life}"));
                (main, format!("{ended}{after}"))
            }
        }
    }

    /// The main process's id; 0 when there was none.
    pub(crate) fn main_pid(&self) -> u32 {
        self.evidence.process.as_ref().map_or(0, |process| process.pid)
    }

    /// The main process's name.
    pub(crate) fn main_name(&self) -> String {
        match self.evidence.process.as_ref().map(|process| process.comm.as_str()) {
            None | Some("") => "the main process".to_owned(),
            Some(comm) => crate::words::one_line(comm),
        }
    }

    /// How long the container's program ran, in milliseconds; `None` when either end is not known.
    pub(crate) fn life_ms(&self) -> Option<f64> {
        let process = self.evidence.process.as_ref()?;
        let known = process.started_at.0 != 0 && process.exited_at.0 >= process.started_at.0;
        known.then(|| milliseconds(process.exited_at.0.saturating_sub(process.started_at.0)))
    }

    /// How long its last program ran, in milliseconds: since the last exec, where a shell became the program after some waiting.
    pub(crate) fn program_ms(&self) -> Option<f64> {
        let life = self.life_ms()?;
        let became = self.evidence.execs.last().and_then(|exec| self.before_end_ms(exec.time));
        Some(became.filter(|became| *became >= 0.0).map_or(life, |became| became.min(life)))
    }

    /// How much of its last program's life the thread that ended it waited for a processor, as far as its failed calls tell (milliseconds).
    pub(crate) fn waited_ms(&self) -> f64 {
        let life_ms = self.program_ms().unwrap_or(f64::INFINITY);
        let own = self
            .failures()
            .map(|(_, failure)| failure)
            .filter(|failure| failure.by_dying_thread && failure.last_before_death_ms <= life_ms);
        own.map(|failure| failure.waited_for_processor_ms).fold(0.0, f64::max)
    }

    /// Time from `moment` to the main process's end, in milliseconds; `None` when either is not known.
    pub(crate) fn before_end_ms(&self, moment: crate::evidence::UnixNanos) -> Option<f64> {
        let end = self.evidence.process.as_ref().map_or(0, |process| process.exited_at.0);
        let end = if end == 0 { self.evidence.observed_at.0 } else { end };
        (end != 0 && moment.0 != 0).then(|| milliseconds(end.saturating_sub(moment.0)))
    }

    /// The last child whose end the main process passed on as its own: same exit code, or 128 + its signal, just before.
    pub(crate) fn passed_on(&self) -> Option<(usize, &'a ChildExit)> {
        let code = self.exit_code().filter(|code| *code != 0)?;
        self.just_before().rfind(|(_, child)| {
            if child.signal == 0 {
                child.code == code
            } else {
                SIGNAL_CODES_FROM.saturating_add(child.signal) == code
            }
        })
    }

    /// The child that a shell left with a code of its own for: the last to end abnormally, right before it (`app || exit 64`).
    pub(crate) fn left_for(&self) -> Option<&'a ChildExit> {
        /// A shell does nothing in between.
        const RIGHT_AFTER_MS: f64 = 50.0;
        let shell = self.evidence.process.as_ref().is_some_and(|process| noise::is_shell(&process.comm));
        self.exit_code().filter(|code| shell && *code != 0)?;
        self.just_before()
            .map(|(_, child)| child)
            .next_back()
            .filter(|child| child.before_death_ms <= RIGHT_AFTER_MS)
    }

    /// True when a process other than this one ended abnormally within a second before that moment (milliseconds before the end).
    pub(crate) fn failed_before(&self, pid: u32, moment_ms: f64) -> bool {
        const RIGHT_BEFORE_MS: f64 = 1_000.0;
        self.evidence.child_exits.iter().any(|child| {
            let before_ms = child.before_death_ms - moment_ms;
            child.pid != pid && !child.detached && (0.0..=RIGHT_BEFORE_MS).contains(&before_ms)
        })
    }

    /// True when this process ended abnormally just before the main one.
    pub(crate) fn ended_just_before(&self, pid: u32) -> Option<&'a ChildExit> {
        self.just_before().rfind(|(_, child)| child.pid == pid).map(|(_, child)| child)
    }

    /// Children of a program that the main process has been since its last exec: it cannot pass on what an earlier one waited for.
    fn just_before(&self) -> impl DoubleEndedIterator<Item = (usize, &'a ChildExit)> {
        let became = self.evidence.execs.last().and_then(|exec| self.before_end_ms(exec.time));
        self.evidence.child_exits.iter().enumerate().filter(move |(_, child)| {
            child.pid != 0
                && !child.detached
                && child.before_death_ms <= CHILD_TO_PARENT_MS
                && became.is_none_or(|became| child.before_death_ms <= became)
                && !self.may_be_a_probe(child)
        })
    }

    /// True for a process that is called like one which a probe of the container starts in it. Such a one is no child of the main process,
    /// and a probe that fails again and again ends with code 1 about when anything does.
    fn may_be_a_probe(&self, child: &ChildExit) -> bool {
        let probes = self.pod.into_iter().flat_map(|pod| &pod.container.probes);
        let commands = probes.filter_map(|probe| probe.action.strip_prefix("exec ["));
        // A shell's script names what it starts.
        let between = |letter: char| letter.is_whitespace() || ";|&()[]{}'\"`".contains(letter);
        commands
            .flat_map(|command| command.split(between))
            .any(|word| is_named(&child.comm, words::base_name(word)))
    }

    /// The last signal of this number to the main process.
    pub(crate) fn last_signal_to_main(&self, number: i32) -> Option<(usize, &'a Signal)> {
        self.evidence.signals.iter().enumerate().rfind(|(_, signal)| {
            signal.signal == number && (signal.to_main || signal.target_pid == self.main_pid())
        })
    }

    /// The last signal of this number to this process.
    pub(crate) fn last_signal_to(&self, pid: u32, number: i32) -> Option<(usize, &'a Signal)> {
        self.evidence
            .signals
            .iter()
            .enumerate()
            .rfind(|(_, signal)| signal.signal == number && signal.target_pid == pid && pid != 0)
    }

    /// The signal to name for the main process's end. PID 1 ignores a SIGABRT that it raises itself, and `abort()` then ends it by a
    /// deliberate fault: what was raised is what happened.
    pub(crate) fn raised_signal(&self) -> Option<i32> {
        const ABORT_TO_FAULT_MS: f64 = 1_000.0;
        let fatal = self.fatal_signal()?;
        let aborted = self.last_signal_to_main(signals::SIGABRT).is_some_and(|(_, signal)| {
            signal.before_death_ms <= ABORT_TO_FAULT_MS
                && signal.sender.as_ref().is_none_or(|by| by.pid == self.main_pid() || by.pid == 0)
        });
        let by_fault =
            matches!(fatal, signals::SIGSEGV | signals::SIGILL | signals::SIGTRAP | signals::SIGBUS);
        Some(if by_fault && aborted { signals::SIGABRT } else { fatal })
    }

    /// True when the container's command was never executed, as far as somebody watched. What ended as a process was executed, though the
    /// record of that was lost.
    pub(crate) fn never_executed(&self) -> bool {
        let evidence = self.evidence;
        evidence.execs.is_empty() && evidence.process.is_none() && !evidence.losses.agent_started_later
    }

    /// True when the runtime's own process in the container ended with a failure's code and had executed nothing: what failed before was
    /// the runtime's work, not the program's.
    pub(crate) fn runtime_gave_up(&self) -> bool {
        let evidence = self.evidence;
        self.never_executed()
            && evidence.process.is_none()
            && evidence.exit.is_none()
            && evidence.child_exits.iter().any(|child| child.code != 0 && child.signal == 0)
    }

    /// True for an end of which only Kubernetes tells: no agent was there to see it.
    pub(crate) fn only_kubernetes(&self) -> bool {
        let evidence = self.evidence;
        let seen =
            !evidence.agent_version.is_empty() || evidence.process.is_some() || evidence.exit.is_some();
        !seen && !evidence.container_survived
    }

    /// Reason and message for which a container waits that does not exist yet.
    pub(crate) fn waits_to_be_made(&self) -> Option<(&'a str, &'a str)> {
        match &self.pod?.container.state {
            ContainerState::Waiting { reason, message }
                if self.only_kubernetes() && self.evidence.container.id.is_empty() =>
            {
                Some((reason, message))
            }
            _ => None,
        }
    }

    /// True when a program of this name was executed after all, in another folder of a search through PATH.
    pub(crate) fn ran(&self, name: &str) -> bool {
        let is = |comm: &str| is_named(comm, name);
        let mains = self.evidence.process.iter().map(|process| process.comm.as_str());
        let children = self.evidence.child_exits.iter().map(|child| child.comm.as_str());
        let executed = self.evidence.execs.iter().map(|exec| words::base_name(&exec.path));
        mains.chain(children).chain(executed).any(is)
    }

    /// True when the process that failed with this call did without it or got it in another way: it had the file open in the end, or wrote
    /// one of that name in another folder, or had the port itself, or listened on another one afterwards.
    pub(crate) fn overcame(&self, failure: &Failure) -> bool {
        /// One that listens by IPv6 and then by IPv4 goes on with the first; one that leaves at once wanted both.
        const GIVES_UP_MS: f64 = 50.0;
        let opened = self.evidence.opened_files.iter().any(|file| file.path == failure.path);
        let absent = matches!(failure.errno, errno::ENOENT | errno::ENOTDIR);
        // Of two things in one moment of a coarse clock it cannot be told that the second came later.
        let listened = self.evidence.listeners.iter().any(|listener| {
            let is_path = !listener.address.ends_with("/tcp");
            listener.pid == failure.pid
                && is_path == failure.address.is_empty()
                && listener.before_death_ms < failure.last_before_death_ms
        });
        let gave_up = failure.by_dying_thread && failure.at_work_before_death_ms() <= GIVES_UP_MS;
        (absent && !failure.path.is_empty() && (opened || self.found_by_another_ending(failure)))
            || self.wrote_elsewhere(failure)
            || (failure.errno == errno::EADDRINUSE
                && (listened || (self.has_it_by_ipv6(failure) && !gave_up)))
    }

    /// True for `config.yml` when the program then read `config.yaml` in its place.
    fn found_by_another_ending(&self, failure: &Failure) -> bool {
        let stem = |path: &'_ str| {
            let (stem, ending) = path.rsplit_once('.')?;
            (!stem.ends_with('/') && !ending.contains('/')).then(|| stem.to_owned())
        };
        let Some(wanted) = stem(&failure.path) else { return false };
        self.evidence.opened_files.iter().any(|file| {
            file.before_death_ms <= failure.last_before_death_ms
                && (file.pid == 0 || file.pid == failure.pid)
                && file.path != failure.path
                && stem(&file.path).as_deref() == Some(wanted.as_str())
        })
    }

    /// True when the process that could not write this file then wrote one of the same name in another folder.
    fn wrote_elsewhere(&self, failure: &Failure) -> bool {
        let refused = matches!(
            failure.errno,
            errno::EACCES | errno::EPERM | errno::EROFS | errno::ENOENT | errno::ENOSPC
        );
        let name = words::base_name(&failure.path);
        refused
            && !name.is_empty()
            && self.evidence.opened_files.iter().any(|file| {
                file.written
                    && file.pid == failure.pid
                    && file.path != failure.path
                    && words::base_name(&file.path) == name
                    && file.before_death_ms < failure.last_before_death_ms
            })
    }

    /// True when the process that may not listen by IPv4 listens on that port by IPv6, for both protocols as is the default.
    fn has_it_by_ipv6(&self, failure: &Failure) -> bool {
        let Some(port) = failure.address.strip_prefix("0.0.0.0:") else { return false };
        self.evidence.listeners.iter().any(|listener| {
            listener.pid == failure.pid && listener.address.strip_prefix("[::]:") == Some(port)
        })
    }

    /// True when the process that failed with this call was seen at work afterwards: it read its configuration, began to listen, or
    /// became another program.
    pub(crate) fn went_on_after(&self, failure: &Failure) -> bool {
        /// Of a listener and an exec the moment is taken at another place than that of a call's end: one moment may be two.
        const SAME_MOMENT_MS: f64 = 0.1;
        let after = |ms: f64| ms + SAME_MOMENT_MS < failure.last_before_death_ms;
        let evidence = self.evidence;
        let read = evidence.opened_files.iter().any(|file| {
            file.pid == failure.pid
                && !file.written
                && file.path != failure.path
                && file.before_death_ms < failure.last_before_death_ms
        });
        let listened = evidence
            .listeners
            .iter()
            .any(|listener| listener.pid == failure.pid && after(listener.before_death_ms));
        let became = failure.pid == self.main_pid()
            && evidence.execs.iter().any(|exec| self.before_end_ms(exec.time).is_some_and(after));
        read || listened || became
    }

    /// True when the process began to listen after this call had failed for the first time, and tried it again: it works without.
    pub(crate) fn served_meanwhile(&self, failure: &Failure) -> bool {
        failure.count > 1
            && self.evidence.listeners.iter().any(|listener| {
                listener.pid == failure.pid && listener.before_death_ms < failure.first_before_death_ms
            })
    }

    /// The last connection that the main process was told it had lost, when that was just before its end: the one that a SIGPIPE is about.
    pub(crate) fn lost_connection(&self) -> Option<(usize, &'a Failure)> {
        const CALL_TO_SIGNAL_MS: f64 = 100.0;
        self.failures().rev().find(|(_, failure)| {
            failure.pid == self.main_pid()
                && failure.at_work_before_death_ms() <= CALL_TO_SIGNAL_MS
                && noise::is_lost_connection(failure)
        })
    }

    /// True for a process that listens, or did.
    pub(crate) fn serves(&self, pid: u32) -> bool {
        self.evidence.listeners.iter().any(|listener| listener.pid == pid)
    }

    /// Where the container stands in the pod, for remedies.
    pub(crate) fn field(&self) -> &'a str {
        self.pod
            .map(|pod| pod.container.field_path.as_str())
            .filter(|path| !path.is_empty())
            .unwrap_or("spec.containers[0]")
    }

    /// Why the record of failed calls may lack the decisive one; `None` when it is complete.
    pub(crate) fn incomplete(&self) -> Option<&'static str> {
        let losses = &self.evidence.losses;
        if losses.recorder_missing {
            Some("this container had no flight recorder, so its failed calls are not known")
        } else if losses.torn_entries > 0 {
            Some("entries of the flight recorder were lost")
        } else if losses.agent_started_later && self.evidence.process.is_none() {
            Some("the container was already running when the agent started")
        } else {
            None
        }
    }
}

/// Whether a process of this name executes a program of that one: the former is cut at 15 bytes.
pub(crate) fn is_named(comm: &str, program: &str) -> bool {
    comm == program || (comm.len() >= 15 && program.starts_with(comm))
}

fn milliseconds(nanos: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a difference of times, shown in milliseconds")]
    let nanos = nanos as f64;
    nanos / 1_000_000.0
}
