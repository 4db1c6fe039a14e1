//! Pieces of sentences. Everything here gives one line without control characters.

use crate::evidence::{BlockedCall, DnsOutcome, Exit, Failure, Holder, KilledBy, SenderKind};
use crate::{errno, signals};

/// Longest piece of foreign text in a sentence, in characters; a path is kept to 255 bytes anyway, a log line may be longer.
const LONGEST: usize = 255;

/// As much of a container's id as people use.
const SHORT_ID: usize = 12;

/// Foreign text made fit for one line: control characters as `\xNN`, cut at 255 characters.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for (count, character) in text.chars().enumerate() {
        if count == LONGEST {
            line.push('…');
            break;
        }
        if character.is_control() {
            for byte in character.to_string().bytes() {
                line.push_str(&format!("\\x{byte:02x}"));
            }
        } else {
            line.push(character);
        }
    }
    line
}

/// A span of time given in milliseconds: `0.4 ms`, `120 ms`, `3.2 s`, `2m5s`, `3h20m`.
pub fn span(milliseconds: f64) -> String {
    let milliseconds = milliseconds.max(0.0);
    if milliseconds < 0.95 {
        // A silent program leaves within microseconds of the call that failed.
        format!("{:.0} µs", milliseconds * 1000.0)
    } else if milliseconds < 10.0 {
        format!("{milliseconds:.1} ms")
    } else if milliseconds < 1000.0 {
        format!("{milliseconds:.0} ms")
    } else if milliseconds < 60_000.0 {
        format!("{:.1} s", milliseconds / 1000.0)
    } else if milliseconds < 3_600_000.0 {
        let seconds = (milliseconds / 1000.0).floor();
        format!("{:.0}m{:.0}s", (seconds / 60.0).floor(), seconds % 60.0)
    } else {
        let minutes = (milliseconds / 60_000.0).floor();
        format!("{:.0}h{:.0}m", (minutes / 60.0).floor(), minutes % 60.0)
    }
}

/// `cat (pid 12)`, or `pid 12` without a name.
pub(crate) fn process(comm: &str, pid: u32) -> String {
    match (comm.is_empty(), pid) {
        (true, 0) => "a process".to_owned(),
        (true, pid) => format!("pid {pid}"),
        (false, 0) => one_line(comm),
        (false, pid) => format!("{} (pid {pid})", one_line(comm)),
    }
}

/// Who has what was wanted: `nginx (pid 12) of container 3f8a1c5d7e9b`.
pub fn holder(holder: &Holder) -> String {
    let process = process(&holder.comm, holder.pid);
    match holder.container_id.get(..SHORT_ID).unwrap_or(&holder.container_id) {
        _ if holder.same_container => format!("{process} of the same container"),
        // It had ended before it could be looked at.
        "" if holder.comm.is_empty() => process,
        "" => format!("{process} of the node, in no container that is known"),
        id => format!("{process} of container {}", one_line(id)),
    }
}

/// The part of a sentence about a lock that says who holds it, and `after` it: `, held by flock (pid 12) of the same container,`.
pub(crate) fn held(by: Option<&Holder>, looked_for: bool, after: &str) -> String {
    match by {
        Some(by) => format!(", held by {}{after}", holder(by)),
        None if looked_for => format!(", held by no process on this node{after}"),
        None => String::new(),
    }
}

/// `waiting in connect to 10.0.0.9:5432/tcp`.
pub fn waiting_in(blocked: &BlockedCall) -> String {
    let thing = if blocked.address.is_empty() { &blocked.path } else { &blocked.address };
    let preposition = match blocked.syscall.as_str() {
        _ if thing.is_empty() => return format!("waiting in {}", one_line(&blocked.syscall)),
        "connect" | "sendto" | "sendmsg" | "sendmmsg" => "to",
        "recvfrom" | "recvmsg" | "recvmmsg" | "read" | "readv" | "pread64" => "from",
        _ => "on",
    };
    let held = held(blocked.holder.as_ref(), blocked.holder_looked_for, ",");
    format!("waiting in {} {preposition} {}{held}", one_line(&blocked.syscall), one_line(thing))
}

/// A name for the caller: its own, or `the program`.
pub(crate) fn program(comm: &str) -> String {
    if comm.is_empty() { "the program".to_owned() } else { one_line(comm) }
}

/// Who sent a signal.
pub(crate) fn sender(sender: Option<&KilledBy>) -> String {
    match sender {
        None => "an unknown sender".to_owned(),
        Some(by) => match by.kind {
            SenderKind::Kernel => "the kernel".to_owned(),
            SenderKind::OomKiller => "the kernel's OOM killer".to_owned(),
            _ if by.comm.is_empty() && by.pid == 0 => "an unknown sender".to_owned(),
            _ => process(&by.comm, by.pid),
        },
    }
}

/// What failed: `openat failed with EACCES (permission denied)`. Where no call did, what came instead.
pub(crate) fn failed(failure: &Failure) -> String {
    if failure.unanswered {
        return "it was connected and got no answer".to_owned();
    }
    if let Some(query) = failure.dns.as_ref().filter(|_| failure.errno == 0) {
        let server = one_line(&failure.address);
        return match query.outcome {
            DnsOutcome::NxDomain => format!("{server} says that it does not exist (NXDOMAIN)"),
            DnsOutcome::NoData => format!("{server} knows it and has no {} of it", query.types.join(" or ")),
            DnsOutcome::ServFail => format!("{server} failed (SERVFAIL)"),
            DnsOutcome::Refused => format!("{server} refuses to answer (REFUSED)"),
            DnsOutcome::Other => format!("{server} answered with code {}", query.response_code),
            DnsOutcome::NoAnswer | DnsOutcome::Unknown => format!("no answer came from {server}"),
        };
    }
    let name = errno::shown(failure.errno);
    let call = if failure.syscall.is_empty() { "a call".to_owned() } else { one_line(&failure.syscall) };
    match errno::text(failure.errno) {
        Some(text) => format!("{call} failed with {name} ({text})"),
        None => format!("{call} failed with {name}"),
    }
}

/// What a call does to its path, for "may not … it".
pub(crate) fn verb(syscall: &str) -> &'static str {
    match syscall {
        "open" | "openat" | "openat2" | "creat" => "open",
        "mkdir" | "mkdirat" | "mknod" | "mknodat" | "symlink" | "symlinkat" => "create",
        "unlink" | "unlinkat" | "rmdir" => "remove",
        "rename" | "renameat" | "renameat2" => "rename",
        "link" | "linkat" => "link",
        "chown" | "fchown" | "lchown" | "fchownat" => "change the owner of",
        "chmod" | "fchmod" | "fchmodat" | "fchmodat2" => "change the mode of",
        "truncate" | "ftruncate" | "write" | "pwrite64" => "write",
        "chdir" | "fchdir" | "chroot" => "enter",
        "mount" | "umount2" => "mount",
        "connect" => "connect to",
        "bind" => "listen on",
        _ => "use",
    }
}

/// How the main process ended: `exit code 1`, `SIGKILL`.
pub(crate) fn ending(exit: &Exit) -> String {
    if exit.signal == 0 { format!("exit code {}", exit.code) } else { signals::name(exit.signal) }
}

/// The last part of a path.
pub(crate) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A path without its ending.
pub(crate) fn stem(path: &str) -> &str {
    let name_at = path.rfind('/').map_or(0, |slash| slash + 1);
    match path.rfind('.') {
        Some(dot) if dot > name_at => path.get(..dot).unwrap_or(path),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_stays_on_one_line() {
        assert_eq!(one_line("/a\nb\x1b[31m"), "/a\\x0ab\\x1b[31m");
        assert_eq!(one_line("\u{9b}x"), "\\xc2\\x9bx");
        assert_eq!(one_line(&"x".repeat(300)).chars().count(), 256);
    }

    #[test]
    fn spans_are_short() {
        for (milliseconds, text) in [
            (-1.0, "0 µs"),
            (0.42, "420 µs"),
            (0.999, "1.0 ms"),
            (120.2, "120 ms"),
            (3200.0, "3.2 s"),
            (125_000.0, "2m5s"),
            (12_000_000.0, "3h20m"),
        ] {
            assert_eq!(span(milliseconds), text);
        }
    }
}
