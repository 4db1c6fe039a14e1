//! Failed calls: named, resolved against the working directory, repeats folded together.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path};

use lastwords_agent_common::rules::object;
use lastwords_diagnosis::evidence::{Failure, FileFacts, Mount};
use nix::libc::AT_FDCWD;

use super::{Caller, Death, End, is_of_run, listeners::add_holder, milliseconds_before, text};
use crate::{
    decode::{self, Object, Recording, SocketAddress, Transport},
    kernel::syscalls,
};

/// The failures before the end, oldest first by their last occurrence; the same call of the same thread on the same object with
/// the same error is one.
pub(super) fn folded(death: &Death, recording: &Recording) -> Vec<Failure> {
    let mut folded: Vec<Folded<'_>> = Vec::new();
    let of_run: Vec<&decode::Failure> =
        recording.failures.iter().filter(|failure| is_of_run(death, failure.time)).collect();
    for (position, &raw) in of_run.iter().enumerate().filter(|(_, raw)| raw.errno != 0) {
        // By its place and not its time: within a tick of a coarse clock all times are one.
        let made_since = || of_run.iter().skip(position).copied().filter(|raw| raw.errno == 0);
        let before_death_ms = milliseconds_before(death.time, raw.time);
        let mut one = match folded.iter().position(|one| is_same(one.last, raw)) {
            Some(position) => folded.remove(position),
            None => Folded::new(raw, failure(death, raw, before_death_ms)),
        };
        one.add(raw);
        one.failure.last_before_death_ms = before_death_ms;
        one.failure.waited_for_processor_ms = waited_ms(death, recording, raw);
        let made_itself = missed_path(raw).is_some_and(|path| death.looked.made.iter().any(|it| it == path));
        one.failure.later_succeeded = made_itself || made_since().any(|made| is_made_of(made, raw));
        one.failure.later_connected = connected_next(made_since(), raw).unwrap_or_default();
        add_holder(death, raw, &mut one.failure);
        folded.push(one);
    }
    folded.into_iter().map(|one| one.failure).collect()
}

/// Repeats of one failure.
struct Folded<'a> {
    last: &'a decode::Failure,
    /// How often a call told of it, a socket, and a socket that was asked. Each tells of one failure no more than once, and a
    /// connection is often told of by two of them.
    told: [u64; 3],
    failure: Failure,
}

impl<'a> Folded<'a> {
    fn new(first: &'a decode::Failure, failure: Failure) -> Self {
        Self { last: first, told: [0; 3], failure }
    }

    fn add(&mut self, raw: &'a decode::Failure) {
        self.last = raw;
        let [by_call, by_socket, by_question] = &mut self.told;
        match (raw.late, raw.arguments) {
            (false, _) => *by_call += 1,
            (true, [object::ASKED, ..]) => *by_question += 1,
            (true, _) => *by_socket += 1,
        }
        self.failure.count = self.told.into_iter().max().unwrap_or_default();
    }
}

/// A connection that failed late is told by its socket, perhaps by its call, and perhaps once more to whichever thread asked.
fn is_same(a: &decode::Failure, b: &decode::Failure) -> bool {
    let thread = |it: &decode::Failure| if a.late || b.late { 0 } else { it.tid };
    let object = |it: &'_ decode::Failure| (it.object.clone(), it.directory.clone());
    let call = |it: &decode::Failure| (it.syscall, it.errno, it.unanswered, it.tgid);
    (call(a), thread(a), object(a)) == (call(b), thread(b), object(b))
}

/// Absolute paths that were not there when they were opened or looked at, for finding out whether they are there after the end. A program
/// that looks for its database, and makes it when there is none, did not end of that.
pub(crate) fn missed(death: &Death) -> Vec<Vec<u8>> {
    let recorded = death.recording.iter().flat_map(|recording| &recording.failures);
    let mut paths: Vec<Vec<u8>> = recorded.filter_map(missed_path).map(<[u8]>::to_vec).collect();
    paths.sort();
    paths.dedup();
    paths
}

fn missed_path(raw: &decode::Failure) -> Option<&[u8]> {
    let Object::Path { path, truncated: false, .. } = &raw.object else { return None };
    let name = syscalls::name(raw.syscall);
    let opens_or_looks = name.starts_with("open") || name.contains("stat") || name.contains("access");
    let missed = raw.errno == nix::libc::ENOENT && opens_or_looks && path.starts_with(b"/");
    missed.then_some(path.as_slice())
}

/// Whether a connection was made in the end that had failed, or anew that was lost: to the same address, or by the other of the two protocols (RFC 8305), by
/// whichever process of the container.
fn is_made_of(made: &decode::Failure, failed: &decode::Failure) -> bool {
    let address = |raw: &decode::Failure| match raw.object {
        Object::Address(SocketAddress::Internet(address)) => Some(address),
        _ => None,
    };
    let (Some(made), Some(failed)) = (address(made), address(failed)) else { return false };
    made == failed || (made.port() == failed.port() && made.is_ipv4() != failed.is_ipv4())
}

/// Where the process of a failed or lost connection connected to next, when that was not what had failed.
fn connected_next<'a>(
    mut made_since: impl Iterator<Item = &'a decode::Failure>,
    failed: &decode::Failure,
) -> Option<String> {
    let is_connection = failed.lost || syscalls::name(failed.syscall) == "connect";
    if !matches!(failed.object, Object::Address(_)) || !is_connection {
        return None;
    }
    let next = made_since.find(|made| made.tgid == failed.tgid && !is_made_of(made, failed))?;
    match next.object {
        Object::Address(SocketAddress::Internet(address)) => Some(format!("{address}/tcp")),
        _ => None,
    }
}

/// What the thread waited for a processor from its call to its own end, in milliseconds: that of the main process that began the end, or the
/// last one of another process. 0 for others, of which it is not known.
fn waited_ms(death: &Death, recording: &Recording, raw: &decode::Failure) -> f64 {
    let main = match &death.end {
        End::Exited(exited) if (exited.tgid, exited.first_tid) == (raw.tgid, raw.tid) => {
            exited.waited.map(|waited| (death.time, waited))
        }
        End::Exited(_) | End::NeverRan | End::Survived | End::RunsWell | End::Unseen => None,
    };
    let children = recording.child_exits.iter().rev();
    let mut of_thread = children.filter(|child| (child.tgid, child.tid) == (raw.tgid, raw.tid));
    let child = || of_thread.find_map(|child| Some((child.time, child.waited?)));
    let waited = main.or_else(child).zip(raw.waited).map(|((ended, in_all), before)| {
        // A thread cannot have waited for longer than it lived on.
        in_all.saturating_sub(before).min(ended.saturating_sub(raw.time))
    });
    milliseconds_before(waited.unwrap_or_default(), 0)
}

/// Whether this is the thread that began the end.
pub(super) fn is_dying_thread(death: &Death, tid: u32) -> bool {
    match &death.end {
        End::Exited(exited) => exited.first_tid == tid,
        // The runtime's set-up gave up: its last failed call was made by the only thread there is.
        End::NeverRan => true,
        End::Survived | End::RunsWell | End::Unseen => false,
    }
}

fn failure(death: &Death, raw: &decode::Failure, before_death_ms: f64) -> Failure {
    let mut failure = Failure {
        syscall: syscalls::name(raw.syscall),
        errno: raw.errno,
        pid: raw.tgid,
        tid: raw.tid,
        comm: text(&raw.comm),
        uid: raw.uid,
        gid: raw.gid,
        count: 1,
        first_before_death_ms: before_death_ms,
        last_before_death_ms: before_death_ms,
        by_dying_thread: is_dying_thread(death, raw.tid),
        groups: groups(death, raw),
        capabilities: capabilities(raw.capabilities),
        capability: raw.refused_capability.map(capability).unwrap_or_default(),
        seccomp: raw.seccomp,
        unanswered: raw.unanswered,
        ..Failure::default()
    };
    match &raw.object {
        Object::None => {}
        Object::Address(SocketAddress::Internet(address)) => {
            failure.address = format!("{address}/{}", transport(raw, address.port()));
        }
        Object::Address(SocketAddress::Unix(path)) => failure.path = text(path),
        Object::Path { path, directory, truncated } => {
            let cwd = if *directory == AT_FDCWD { working_directory(death, raw.tgid) } else { None };
            // A program's name without a slash was looked for in PATH, and is said as it was asked for.
            let is_name = syscalls::executes(raw.syscall) && !path.contains(&b'/');
            let start = raw.directory.as_deref().or(cwd).filter(|_| !is_name);
            let resolved = against(path, start);
            failure.path_truncated = *truncated;
            failure.path_unresolved = resolved.is_none();
            failure.file = facts(death, path);
            failure.mount = resolved.as_deref().and_then(|path| mount(death, path));
            failure.path = text(&resolved.unwrap_or_else(|| path.clone()));
        }
    }
    add_holder(death, raw, &mut failure);
    failure
}

/// Its socket's, where that is known. Else: what fails for want of a peer is TCP's; a datagram socket's connect sends nothing and cannot be
/// refused. Without a route both fail at once, and name servers are asked by datagrams.
fn transport(raw: &decode::Failure, port: u16) -> &'static str {
    const DNS: u16 = 53;
    match raw.transport {
        Some(Transport::Tcp) => return "tcp",
        Some(Transport::Udp) => return "udp",
        Some(Transport::Other) | None => {}
    }
    let asks = port == DNS && !raw.late && raw.errno == nix::libc::ENETUNREACH;
    if asks || syscalls::name(raw.syscall) == "sendto" { "udp" } else { "tcp" }
}

/// The main process's directory, when it did not move between its last exec and its end. Another process's is not known.
pub(super) fn working_directory(death: &Death, tgid: u32) -> Option<&[u8]> {
    let at_exec = death.execs.last().and_then(|(_, executed)| executed.cwd.as_deref());
    let (main, at_end) = match &death.end {
        End::Exited(exited) => (exited.tgid, exited.cwd.as_deref()),
        End::NeverRan | End::Survived | End::RunsWell | End::Unseen => return None,
    };
    if main != tgid {
        return None;
    }
    match (at_exec, at_end) {
        (Some(before), Some(after)) => (before == after).then_some(after),
        (None, Some(only)) | (Some(only), None) => Some(only),
        (None, None) => None,
    }
}

/// `path` seen from the root: itself when it is absolute, else below `cwd`. None when it is relative and `cwd` is not known.
/// Symbolic links are left as they are.
pub(crate) fn against(path: &[u8], cwd: Option<&[u8]>) -> Option<Vec<u8>> {
    if path.starts_with(b"/") {
        return Some(path.to_vec());
    }
    let mut rest = path;
    while let Some(shorter) = rest.strip_prefix(b"./") {
        rest = shorter;
    }
    let cwd = cwd?;
    let mut resolved = cwd.strip_suffix(b"/").unwrap_or(cwd).to_vec();
    resolved.push(b'/');
    resolved.extend_from_slice(rest);
    Some(resolved)
}

/// The mount that a path lay on when the main process executed its last program.
fn mount(death: &Death, path: &[u8]) -> Option<Mount> {
    let mount = death.looked.mounts.of(Path::new(OsStr::from_bytes(path)))?;
    Some(Mount {
        mount_point: text(mount.point.as_os_str().as_bytes()),
        file_system: text(mount.file_system.as_bytes()),
        read_only: mount.read_only,
    })
}

/// The caller's supplementary groups, where the call was told of at once.
fn groups(death: &Death, raw: &decode::Failure) -> Vec<u32> {
    let is_its = |caller: &&Caller| (caller.failed_at, caller.tid) == (raw.time, raw.tid);
    death.callers.iter().find(is_its).map(|caller| caller.groups.clone()).unwrap_or_default()
}

/// The names of the capabilities whose bits are set.
fn capabilities(bits: u64) -> Vec<String> {
    (0..u64::BITS).filter(|number| bits & 1 << number != 0).map(capability).collect()
}

/// `CAP_CHOWN` for 0 (include/uapi/linux/capability.h).
pub(super) fn capability(number: u32) -> String {
    let known = caps::all().into_iter().find(|capability| u32::from(capability.index()) == number);
    known.map_or_else(|| format!("capability {number}"), |capability| capability.to_string())
}

fn facts(death: &Death, path: &[u8]) -> Option<FileFacts> {
    death.looked.files.iter().find(|(looked_at, _)| looked_at == path).map(|(_, facts)| facts.clone())
}
