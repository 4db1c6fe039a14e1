//! One line for each piece of evidence.

use lastwords_diagnosis::{about, binary_quantity, span, waiting_in};
use lastwords_proto::v1::dns_query::Outcome;
use lastwords_proto::v1::killed_by::Kind;
use lastwords_proto::v1::oom_kill::Scope;
use lastwords_proto::v1::{
    BlockedCall, ChildExit, Crash, DnsQuery, EvidenceRef, Exec, Exit, Failure, Fault, Frame, Holder,
    KilledBy, Listener, OomKill, OpenedFile, Signal,
};

use crate::escape::escape;
use crate::time;

/// si_code of a signal that the kernel sends without a fault address.
const FROM_THE_KERNEL: i32 = 128;

/// Frames on a line; the others are counted, and stand in the JSON.
const MOST_FRAMES: usize = 6;

/// The line for what a diagnosis points at; `None` when it points at nothing.
pub(crate) fn line(crash: &Crash, reference: &EvidenceRef) -> Option<String> {
    let index = usize::try_from(reference.index).ok()?;
    match reference.field.as_str() {
        "exit" => crash.exit.as_ref().map(|exit| end(crash, exit)),
        "oom" => crash.oom.get(index).map(oom_kill),
        "failures" => crash.failures.get(index).map(failure),
        "signals" => crash.signals.get(index).map(signal),
        "child_exits" => crash.child_exits.get(index).map(child_exit),
        "execs" => crash.execs.get(index).map(exec),
        "fault" => crash.fault.as_ref().and_then(fault),
        "blocked" => crash.blocked.as_ref().map(blocked),
        "probe_events" => {
            crash.pod_state.as_ref().and_then(|pod| pod.probe_events.get(index)).map(|event| escape(event))
        }
        "opened_files" => crash.opened_files.get(index).map(opened_file),
        "listeners" => crash.listeners.get(index).map(listener),
        _ => None,
    }
}

fn end(crash: &Crash, exit: &Exit) -> String {
    let who = crash.process.as_ref().map_or_else(
        || "the container".to_owned(),
        |process| format!("{} (pid {}, uid {})", escape(&process.comm), process.pid, process.uid),
    );
    let mut line = format!("{who} ended with {}", how(exit));
    if let Some(by) = &exit.killed_by {
        line.push_str(&format!(" from {}", sender(by)));
    }
    if exit.core_dumped {
        line.push_str(", core dumped");
    }
    let times = crash.process.as_ref().and_then(|process| Some((process.started_at?, process.exited_at?)));
    if let Some((started, exited)) = times {
        line.push_str(&format!(" after {}", span(time::milliseconds_between(&started, &exited))));
    }
    line
}

/// `exit code 1` or `SIGKILL`.
pub(crate) fn how(exit: &Exit) -> String {
    match (exit.signal, exit.signal_name.as_str()) {
        (0, _) => format!("exit code {}", exit.code),
        (number, "") => format!("signal {number}"),
        (_, name) => escape(name),
    }
}

fn sender(by: &KilledBy) -> String {
    match by.kind() {
        Kind::Kernel => "the kernel".to_owned(),
        Kind::OomKiller => "the kernel's OOM killer".to_owned(),
        Kind::Runtime => format!("the container runtime, {}", who(&by.comm, by.pid)),
        Kind::SameContainer => format!("{} of the same container", who(&by.comm, by.pid)),
        Kind::Other => format!("{} outside the container", who(&by.comm, by.pid)),
        Kind::Unspecified => "an unknown sender".to_owned(),
    }
}

fn who(comm: &str, pid: u32) -> String {
    if comm.is_empty() { format!("pid {pid}") } else { format!("{} (pid {pid})", escape(comm)) }
}

fn oom_kill(oom: &OomKill) -> String {
    let at = match oom.scope() {
        Scope::Container => "the container's limit",
        Scope::Pod => "the pod's limit",
        Scope::Node => "the node's memory",
        Scope::Unspecified => "a limit",
    };
    let limit =
        if oom.limit_bytes > 0 { format!(" of {}", binary_quantity(oom.limit_bytes)) } else { String::new() };
    let usage =
        if oom.usage_bytes > 0 { format!(", {} in use", about(oom.usage_bytes)) } else { String::new() };
    let group = if oom.group_kill { ", with its whole group" } else { "" };
    format!(
        "OOM kill of {} at {at}{limit}{usage}{group}: it held {} anonymous, {} file, {} shared, {} page tables",
        who(&oom.victim_comm, oom.victim_pid),
        about(oom.anon_rss_bytes),
        about(oom.file_rss_bytes),
        about(oom.shmem_rss_bytes),
        about(oom.page_tables_bytes)
    )
}

fn failure(failure: &Failure) -> String {
    if let Some(query) = &failure.dns {
        return unresolved(failure, query);
    }
    let thing = [&failure.path, &failure.address, &failure.name].into_iter().find(|text| !text.is_empty());
    let thing = thing.map_or_else(String::new, |thing| format!(" {}", escape(thing)));
    let often = if failure.count > 1 { format!(", {} times", failure.count) } else { String::new() };
    let file = failure.file.as_ref().map_or_else(String::new, |file| {
        let path = if file.path == failure.path || file.path.is_empty() { "it" } else { &escape(&file.path) };
        format!("; {path} belongs to {}:{}, mode {:04o}", file.uid, file.gid, file.mode & 0o7777)
    });
    let held = match &failure.holder {
        Some(holder) => format!("; held by {}", holder_of(holder)),
        None if failure.holder_looked_for => "; no process on this node holds it".to_owned(),
        None => String::new(),
    };
    let thread = if failure.by_dying_thread { ", by the thread that ended it" } else { "" };
    if failure.unanswered {
        let closed =
            if failure.errno_name == "ETIMEDOUT" { "it closed it" } else { "the other side closed it" };
        return format!(
            "connection to{thing}: nothing came until {closed}{often}, {} before the end, {} uid {}{thread}",
            span(failure.last_before_death_ms),
            who(&failure.comm, failure.pid),
            failure.uid
        );
    }
    format!(
        "{}{thing} → {}{often}, {} before the end{}, {} uid {}{thread}{file}{held}",
        escape(&failure.syscall),
        escape(&failure.errno_name),
        span(failure.last_before_death_ms),
        waited(failure),
        who(&failure.comm, failure.pid),
        failure.uid
    )
}

/// Said where it is a good part of the time: what looks late then was not.
fn waited(failure: &Failure) -> String {
    /// In milliseconds, and as a part of the whole.
    const WORTH_SAYING: f64 = 10.0;
    const GOOD_PART: f64 = 0.25;
    let waited = failure.waited_for_processor_ms;
    if waited < WORTH_SAYING || waited < failure.last_before_death_ms * GOOD_PART {
        return String::new();
    }
    format!(" ({} of it waiting for a processor)", span(waited))
}

/// `orders-db.prod.svc: NXDOMAIN from 10.96.0.10:53/udp`
fn unresolved(failure: &Failure, query: &DnsQuery) -> String {
    let said = match query.outcome() {
        Outcome::Nxdomain => "NXDOMAIN from",
        Outcome::Servfail => "SERVFAIL from",
        Outcome::Refused => "REFUSED by",
        Outcome::NoAnswer => "no answer from",
        Outcome::NoData => "no such record at",
        Outcome::Other | Outcome::Unspecified => "not resolved by",
    };
    let types: Vec<String> = query.types.iter().map(|it| escape(it)).collect();
    let often = if failure.count > 1 { format!(", {} times", failure.count) } else { String::new() };
    let error = if failure.errno == 0 { String::new() } else { format!(", {}", escape(&failure.errno_name)) };
    let thread = if failure.by_dying_thread { ", by the thread that ended it" } else { "" };
    format!(
        "{}: {said} {} ({}){error}{often}, {} before the end, {} uid {}{thread}",
        escape(&failure.name),
        escape(&failure.address),
        types.join(", "),
        span(failure.last_before_death_ms),
        who(&failure.comm, failure.pid),
        failure.uid
    )
}

/// `nginx (pid 12) of container 3f8a1c5d7e9b`.
fn holder_of(holder: &Holder) -> String {
    let Holder { pid, comm, container_id, pod_uid, same_container } = holder.clone();
    let holder = lastwords_diagnosis::evidence::Holder { pid, comm, container_id, pod_uid, same_container };
    escape(&lastwords_diagnosis::holder(&holder))
}

/// What the container listened on, a line each.
pub(crate) fn listeners(crash: &Crash) -> Vec<String> {
    crash.listeners.iter().map(listener).collect()
}

fn listener(listener: &Listener) -> String {
    let closed = if listener.closed { ", closed again" } else { "" };
    format!(
        "{} by {}, since {} before the end{closed}",
        escape(&listener.address),
        who(&listener.comm, listener.pid),
        span(listener.before_death_ms)
    )
}

/// A file that was read while the container started.
pub(crate) fn opened_file(file: &OpenedFile) -> String {
    format!(
        "{} read by {}, {} before the end",
        escape(&file.path),
        escape(&file.comm),
        span(file.before_death_ms)
    )
}

fn signal(signal: &Signal) -> String {
    let by = signal.sender.as_ref().map_or_else(String::new, |by| format!(" from {}", sender(by)));
    let to = if signal.to_main {
        "the main process".to_owned()
    } else {
        who(&signal.target_comm, signal.target_pid)
    };
    let ignored = if signal.delivered { "" } else { ", ignored" };
    let call =
        if signal.syscall.is_empty() { String::new() } else { format!(" for {}", escape(&signal.syscall)) };
    let address = if !call.is_empty() {
        call
    } else if signal.code > 0 && signal.code < FROM_THE_KERNEL {
        format!(", fault address {:#x}", signal.fault_address)
    } else {
        String::new()
    };
    format!(
        "{}{by} to {to}{ignored}{address}, {} before the end",
        escape(&signal.signal_name),
        span(signal.before_death_ms)
    )
}

/// `stood at libfoo.so+0x1a2b parse_header (parser.c:42), called by app+0x99`, innermost first; a call that repeats once with its number.
fn fault(fault: &Fault) -> Option<String> {
    let mut groups: Vec<(String, usize)> = Vec::new();
    for place in fault.frames.iter().map(place) {
        match groups.last_mut() {
            Some((last, times)) if *last == place => *times += 1,
            _ => groups.push((place, 1)),
        }
    }
    let rest = groups.len().saturating_sub(MOST_FRAMES);
    groups.truncate(MOST_FRAMES);
    let places: Vec<String> = groups
        .into_iter()
        .map(|(place, times)| if times > 1 { format!("{place} ({times} times)") } else { place })
        .collect();
    if places.is_empty() {
        return None;
    }
    let more = if rest > 0 { format!(", and {rest} more") } else { String::new() };
    Some(format!("thread {} stood at {}{more}", who(&fault.comm, fault.tid), places.join(", called by ")))
}

fn place(frame: &Frame) -> String {
    let module = frame.module.rsplit('/').next().unwrap_or_default();
    let mut place = if module.is_empty() {
        format!("{:#x}", frame.instruction)
    } else {
        format!("{}+{:#x}", escape(module), frame.offset)
    };
    if !frame.symbol.is_empty() {
        place.push_str(&format!(" {}", escape(&frame.symbol)));
    }
    let file = frame.file.rsplit('/').next().unwrap_or_default();
    match (file, frame.line) {
        ("", _) => {}
        (file, 0) => place.push_str(&format!(" ({})", escape(file))),
        (file, line) => place.push_str(&format!(" ({}:{line})", escape(file))),
    }
    place
}

/// `app (pid 12) was waiting in connect to 10.0.0.9:5432/tcp when it was told to stop by SIGTERM, 10 s before the end`.
fn blocked(blocked: &BlockedCall) -> String {
    format!(
        "{} was {} when it was told to stop by {}, {} before the end",
        who(&blocked.comm, blocked.pid),
        escape(&waiting_in(&blocked.into())),
        escape(&blocked.signal_name),
        span(blocked.before_death_ms)
    )
}

fn child_exit(child: &ChildExit) -> String {
    let how = if child.signal == 0 {
        format!("exit code {}", child.code)
    } else {
        lastwords_diagnosis::signals::name(child.signal)
    };
    let then = match child.parent_wrote() {
        0 => "",
        _ => "; its parent wrote something afterwards",
    };
    format!(
        "{} {} ended with {how}, {} before the end{then}",
        if child.detached { "detached process" } else { "child" },
        who(&child.comm, child.pid),
        span(child.before_death_ms)
    )
}

fn exec(exec: &Exec) -> String {
    format!("executed {} {}", escape(&exec.path), command(&exec.args)).trim_end().to_owned()
}

/// Arguments as a command line; those with spaces or quotes in quotes.
pub(crate) fn command(args: &[String]) -> String {
    let shown: Vec<String> = args
        .iter()
        .map(|argument| {
            let plain = !argument.is_empty()
                && argument.chars().all(|c| c.is_alphanumeric() || "-_./:=,@%+<>".contains(c));
            if plain { argument.clone() } else { format!("'{}'", escape(argument).replace('\'', "'\\''")) }
        })
        .collect();
    shown.join(" ")
}

/// How many pieces of evidence of each kind the diagnosis does not point at, in words; empty when it points at all.
pub(crate) fn not_shown(crash: &Crash, shown: &[EvidenceRef]) -> String {
    let kinds = [
        ("oom", crash.oom.len(), "OOM kill"),
        ("failures", crash.failures.len(), "failed call"),
        ("signals", crash.signals.len(), "signal"),
        ("child_exits", crash.child_exits.len(), "ended child"),
    ];
    let counted: Vec<String> = kinds
        .into_iter()
        .filter_map(|(field, total, word)| {
            let rest =
                total.saturating_sub(shown.iter().filter(|reference| reference.field == field).count());
            let (plural, word) = match (rest, word) {
                (0, _) => return None,
                (1, _) => ("", word),
                (_, "ended child") => ("", "ended children"),
                _ => ("s", word),
            };
            Some(format!("{rest} {word}{plural}"))
        })
        .collect();
    counted.join(", ")
}
