//! One screen: why, the evidence, the fix, the back-off, what came before.

use lastwords_diagnosis::span;
use lastwords_proto::v1::{
    Cause, Confidence, Crash, EvidenceRef, ExplainPodResponse, Losses, OpenedFile, PodState, Process,
};
use prost_types::Timestamp;

use crate::escape::escape;
use crate::names::{cause_name, cause_words, confidence_words};
use crate::nodes::clock_apart;
use crate::style::{Style, wrap};
use crate::{evidence, memory, time};

/// Characters a line; what most terminals show.
const WIDTH: usize = 110;
/// Characters of the column of headings.
const HEADING: usize = 10;
/// Lines of evidence on the screen; the rest is counted.
const MOST_EVIDENCE: usize = 12;
/// Lines of the log's tail on the screen.
const MOST_LOG_LINES: usize = 4;
/// Log files whose end is on the screen.
const MOST_LOG_FILES: usize = 2;
/// Changes of the pod's template on the screen.
const MOST_CHANGES: usize = 8;
/// Files that were read last on the screen.
const MOST_OPENED: usize = 3;
/// Lines of causes that lost.
const MOST_ALSO_SEEN: usize = 3;
/// Lines of earlier crashes.
const MOST_EARLIER: usize = 10;
/// A node's clock that is less than this apart (milliseconds) changes nothing about when to look again: the kubelet's times are whole seconds.
const OTHER_CLOCK_MS: u64 = 2_000;

/// The screen for one crash by itself, as `lastwords get` and `lastwords-agent try` print it. Ends with a new line.
pub fn crash_text(crash: &Crash, colour: bool) -> String {
    let mut screen = Screen::new(colour);
    screen.headline(crash);
    screen.crash(crash);
    screen.part("Listened", &evidence::listeners(crash));
    if let Some(pod_state) = &crash.pod_state {
        screen.back_off(pod_state, None, 0);
    }
    screen.text
}

/// The screen for a pod: for each of its containers the newest crash in full and the earlier ones a line each. `now` is what
/// "in 1m20s" counts from. Ends with a new line.
pub fn explain_text(answer: &ExplainPodResponse, now: &Timestamp, colour: bool) -> String {
    let mut screen = Screen::new(colour);
    let mut seen: Vec<&str> = Vec::new();
    for crash in &answer.crashes {
        let container = container_name(crash);
        if seen.contains(&container) {
            continue;
        }
        if !seen.is_empty() {
            screen.text.push('\n');
        }
        seen.push(container);
        screen.headline(crash);
        screen.crash(crash);
        if let Some(state) = state_now(answer, crash) {
            let ahead_ms = answer.pod.as_ref().map_or(0, |pod| pod.node_clock_ahead_ms());
            screen.back_off(state, Some(now), ahead_ms);
        }
        let series = answer.crashes.iter().filter(|other| container_name(other) == container);
        screen.earlier(&series.collect::<Vec<_>>());
    }
    if answer.crashes.is_empty() {
        screen.no_crash(answer);
    }
    screen.text
}

fn container_name(crash: &Crash) -> &str {
    crash.container.as_ref().map_or("", |container| container.name.as_str())
}

/// The container's state as computed for this answer, else as it was when the crash was paired.
fn state_now<'a>(answer: &'a ExplainPodResponse, crash: &'a Crash) -> Option<&'a PodState> {
    let containers = answer.pod.iter().flat_map(|pod| &pod.containers);
    let now = containers
        .filter(|container| container.name == container_name(crash))
        .find_map(|c| c.pod_state.as_ref());
    now.or(crash.pod_state.as_ref())
}

struct Screen {
    text: String,
    style: Style,
}

impl Screen {
    fn new(colour: bool) -> Self {
        Self { text: String::new(), style: Style { colour } }
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// A heading with its text beside it, broken into lines.
    fn part(&mut self, heading: &str, lines: &[String]) {
        let mut heading = format!("{heading:HEADING$}");
        for line in lines {
            for (count, piece) in wrap(line, WIDTH - HEADING).into_iter().enumerate() {
                let hang = if count > 0 && lines.len() > 1 { "  " } else { "" };
                let heading = std::mem::replace(&mut heading, " ".repeat(HEADING));
                let row = format!("{}{hang}{piece}", self.style.bold(&heading));
                self.line(if self.style.colour { &row } else { row.trim_end() });
            }
        }
    }

    fn headline(&mut self, crash: &Crash) {
        let diagnosis = crash.diagnosis.clone().unwrap_or_default();
        let words = cause_words(diagnosis.cause()).to_uppercase();
        let words = match diagnosis.cause() {
            Cause::Completed => self.style.green(&words),
            _ if diagnosis.planned => self.style.green(&words),
            _ => self.style.red(&words),
        };
        let confidence = match diagnosis.confidence() {
            Confidence::Unspecified => String::new(),
            confidence => self.style.dim(&format!(" (confidence {})", confidence_words(confidence))),
        };
        let confidence = if diagnosis.planned { format!(" (planned){confidence}") } else { confidence };
        let object = if diagnosis.object.is_empty() {
            String::new()
        } else {
            format!(": {}", escape(&diagnosis.object))
        };
        self.line(&format!("{}  {words}{object}{confidence}", self.style.bold(&subject(crash))));
        self.line(&self.style.dim(&circumstances(crash)));
        if crash.pod_unconfirmed {
            let who = escape(&crash.node);
            self.part(
                "Pod",
                &[format!(
                    "only the agent on {who} says so: the Kubernetes API has shown no such pod on that node"
                )],
            );
        }
    }

    fn crash(&mut self, crash: &Crash) {
        let Some(diagnosis) = &crash.diagnosis else {
            self.part("Why", &["not diagnosed yet".to_owned()]);
            return;
        };
        self.part("Why", &[escape(&diagnosis.summary)]);
        let shown = diagnosis.evidence.get(..MOST_EVIDENCE.min(diagnosis.evidence.len())).unwrap_or_default();
        let mut lines: Vec<String> = shown
            .iter()
            .filter_map(|reference| evidence::line(crash, reference))
            .map(|line| format!("- {line}"))
            .collect();
        let rest = evidence::not_shown(crash, shown);
        if !rest.is_empty() {
            lines.push(format!("- not shown: {rest}"));
        }
        self.part("Evidence", &lines);
        self.part("Fix", &[escape(&diagnosis.remedy)]);
        let also: Vec<String> = diagnosis
            .also_seen
            .iter()
            .take(MOST_ALSO_SEEN)
            .map(|line| format!("- {}", escape(line)))
            .collect();
        self.part("Also seen", &also);
        self.part("Memory", &memory::curve(crash).into_iter().collect::<Vec<_>>());
        self.part("Changed", &changed(crash));
        self.part("Opened", &opened(crash));
        self.log_tail(crash);
        self.log_files(crash);
        self.part("Lost", &losses(crash.losses.as_ref()));
    }

    fn log_tail(&mut self, crash: &Crash) {
        let Some(tail) = &crash.log_tail else { return };
        let from = tail.lines.len().saturating_sub(MOST_LOG_LINES);
        let lines: Vec<String> =
            tail.lines.iter().skip(from).map(|line| format!("| {}", escape(line))).collect();
        if lines.is_empty() { self.part("Log", &["empty".to_owned()]) } else { self.part("Log", &lines) }
    }

    fn log_files(&mut self, crash: &Crash) {
        for file in crash.log_files.iter().take(MOST_LOG_FILES) {
            let from = file.lines.len().saturating_sub(MOST_LOG_LINES);
            let lines = file.lines.iter().skip(from).map(|line| format!("| {}", escape(line)));
            let lines: Vec<String> =
                std::iter::once(format!("{}:", escape(&file.source))).chain(lines).collect();
            self.part("Log file", &lines);
        }
    }

    /// `ahead_ms` is how far the node's clock, by which the kubelet tells the times, is ahead of `now`'s.
    fn back_off(&mut self, state: &PodState, now: Option<&Timestamp>, ahead_ms: i64) {
        let mut facts = vec![format!("restarts {}", state.restart_count)];
        let words = [&state.waiting_reason, &state.terminated, &state.phase];
        facts.extend(words.into_iter().find(|text| !text.is_empty()).map(|text| escape(text)));
        if state.attempts > 0 {
            facts.push(format!("tried {} times", state.attempts));
        }
        if state.back_off_seconds > 0 {
            let computed = if state.back_off_computed { " (computed)" } else { "" };
            facts.push(format!("back-off {}{computed}", time::duration(i64::from(state.back_off_seconds))));
        }
        if let Some(at) = &state.next_retry_at {
            facts.push(next_retry(at, now, ahead_ms));
        }
        if state.pod_deleted {
            facts.push("the pod is gone".to_owned());
        }
        self.part("Back-off", &[facts.join(", ")]);
    }

    /// All but the first of the crashes of a container, newest first.
    fn earlier(&mut self, series: &[&Crash]) {
        let pairs = series.windows(2).filter_map(|pair| <[&Crash; 2]>::try_from(pair).ok());
        let mut lines: Vec<String> =
            pairs.take(MOST_EARLIER).map(|[later, crash]| earlier_line(crash, later)).collect();
        let rest = series.len().saturating_sub(1 + MOST_EARLIER);
        if rest > 0 {
            lines.push(format!("and {rest} more"));
        }
        self.part("Earlier", &lines);
    }

    fn no_crash(&mut self, answer: &ExplainPodResponse) {
        let Some(pod) = &answer.pod else { return };
        self.line(&format!("{}/{}: no crash is known", escape(&pod.namespace), escape(&pod.name)));
        if !answer.why_none.is_empty() {
            self.part("Why", &[escape(&answer.why_none)]);
        }
        for container in &pod.containers {
            let reason = if container.reason.is_empty() {
                String::new()
            } else {
                format!(" ({})", escape(&container.reason))
            };
            let line = format!(
                "{} {}{reason}, restarts {}",
                escape(&container.name),
                escape(&container.state),
                container.restart_count
            );
            self.part("Container", &[line]);
        }
    }
}

/// `default/api-7f9 container app`, or the command where there is no pod.
fn subject(crash: &Crash) -> String {
    let container = crash.container.clone().unwrap_or_default();
    if !container.pod_name.is_empty() {
        let name = if container.name.is_empty() {
            String::new()
        } else {
            format!(" container {}", escape(&container.name))
        };
        return format!("{}/{}{name}", escape(&container.namespace), escape(&container.pod_name));
    }
    match &crash.process {
        Some(process) if !process.args.is_empty() => escape(&evidence::command(&process.args)),
        Some(process) if !process.exe.is_empty() => escape(&process.exe),
        _ if !container.id.is_empty() => {
            format!("container {}", escape(container.id.get(..12).unwrap_or(&container.id)))
        }
        _ => "a container".to_owned(),
    }
}

/// When, where, what ran and for how long.
fn circumstances(crash: &Crash) -> String {
    let mut facts: Vec<String> = Vec::new();
    facts.extend(crash.observed_at.as_ref().map(time::moment));
    if !crash.node.is_empty() {
        facts.push(format!("node {}", escape(&crash.node)));
    }
    if let Some(process) = &crash.process {
        facts.extend(ran(process));
    }
    if crash.container_survived {
        facts.push("the container lives on".to_owned());
    }
    if !crash.id.is_empty() {
        facts.push(format!("id {}", escape(&crash.id)));
    }
    facts.join(", ")
}

/// How the pod's template differs from the last one that was healthy.
fn changed(crash: &Crash) -> Vec<String> {
    let changes = crash.pod_state.iter().flat_map(|pod| &pod.changed_since_last_good);
    changes.take(MOST_CHANGES).map(|change| format!("- {}", escape(change))).collect()
}

/// The configuration that was read last while the container started, for an end that may come of it.
fn opened(crash: &Crash) -> Vec<String> {
    if crash.exit.as_ref().is_none_or(|exit| exit.signal == 0 && exit.code == 0) {
        return Vec::new();
    }
    let told = |index: usize| {
        let pointed_at = |reference: &EvidenceRef| {
            reference.field == "opened_files" && usize::try_from(reference.index).is_ok_and(|at| at == index)
        };
        crash.diagnosis.iter().flat_map(|diagnosis| &diagnosis.evidence).any(pointed_at)
    };
    let read = crash.opened_files.iter().enumerate().filter(|(index, file)| !file.written && !told(*index));
    let read: Vec<&OpenedFile> = read.map(|(_, file)| file).collect();
    let last = read.get(read.len().saturating_sub(MOST_OPENED)..).unwrap_or_default();
    last.iter().map(|file| format!("- {}", evidence::opened_file(file))).collect()
}

fn ran(process: &Process) -> Vec<String> {
    let mut facts = Vec::new();
    if let Some(program) = process.args.first() {
        facts.push(format!("ran {} as uid {}", escape(program), process.uid));
    }
    if let (Some(started), Some(exited)) = (&process.started_at, &process.exited_at) {
        facts.push(format!("for {}", span(time::milliseconds_between(started, exited))));
    }
    facts
}

fn next_retry(at: &Timestamp, now: Option<&Timestamp>, ahead_ms: i64) -> String {
    let clock = if ahead_ms.unsigned_abs() < OTHER_CLOCK_MS {
        String::new()
    } else {
        format!(" by the node's clock, which is {}", clock_apart(ahead_ms))
    };
    let when = match now.map(|now| time::seconds_between(now, at).saturating_sub(ahead_ms / 1_000)) {
        None => String::new(),
        Some(seconds) if seconds > 0 => format!(" (in {})", time::duration(seconds)),
        Some(_) => " (due)".to_owned(),
    };
    format!("next retry at {}{clock}{when}; the kubelet may add up to half of the back-off", time::moment(at))
}

/// One crash of a series, and how long before the one after it.
fn earlier_line(crash: &Crash, later: &Crash) -> String {
    let before = |at| match &later.observed_at {
        Some(later) => format!(" ({} before)", time::duration(time::seconds_between(at, later))),
        None => String::new(),
    };
    let at = match &crash.observed_at {
        Some(at) => format!("{}{}", time::moment(at), before(at)),
        None => "at an unknown time".to_owned(),
    };
    let diagnosis = crash.diagnosis.clone().unwrap_or_default();
    let end = crash.exit.as_ref().map_or_else(String::new, |exit| format!(", {}", evidence::how(exit)));
    format!(
        "{at}  {} ({}) {}{end}",
        cause_name(diagnosis.cause()),
        confidence_words(diagnosis.confidence()),
        escape(&diagnosis.object)
    )
}

/// What is missing, a line each; nothing when nothing was lost.
fn losses(losses: Option<&Losses>) -> Vec<String> {
    let Some(losses) = losses else { return Vec::new() };
    let counts = [
        (losses.failures_overwritten, "older failed calls overwritten"),
        (losses.signals_overwritten, "older signals overwritten"),
        (losses.torn_entries, "recorder entries torn"),
        (losses.opened_files_overwritten, "older files opened in the start-up overwritten"),
        (losses.ring_records_dropped, "life-cycle records of this node dropped"),
        (losses.compat_calls_failed, "failed calls of 32-bit programs not decoded"),
    ];
    let mut lines: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if losses.recorder_missing {
        lines.push("no flight recorder was free: failed calls and signals are not known".to_owned());
    }
    if losses.agent_started_later {
        lines.push("the container ran before the agent did: what came before was not seen".to_owned());
    }
    lines.extend(losses.unreadable.iter().map(|line| escape(line)));
    lines
}
