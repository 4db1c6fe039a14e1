//! Failed calls that healthy programs make by the hundred. A verdict that falls for one of them is worse than none.
//!
//! The tables in `tables.rs` are data: a look-up that turned out to be harmless gets a line there and a line in the test.

mod paths;
mod tables;

pub(crate) use paths::{
    in_a_program_folder, is_cache, is_called_a_lock, is_library, is_log, is_made_anew, is_of_a_package,
    is_of_a_runtime, is_private,
};
use paths::{is_home, is_local, is_optional};
use tables::{BEST_EFFORT, CACHES, COLLECTORS, LOOKING, NAMES_OF_COLLECTORS};

use crate::evidence::{DnsOutcome, DnsQuery, Failure};
use crate::{errno, words};

/// How far a failed call, by its kind alone, can be what ended a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// Every healthy program does this: never decides.
    Noise,
    /// Programs try this and go on without it: decides only when nothing better is there.
    Weak,
    /// Often fatal, often not: a file that is not there.
    Plain,
    /// Rare in healthy programs: permission, read-only, port in use, disk full, refused connection.
    Rare,
}

/// Whether a diagnosis makes use of what is known here; see [`crate::diagnose_without`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noise {
    Known,
    Ignored,
}

impl Noise {
    /// What a failed call can be by its kind; without any knowledge of noise each may be what ended the program.
    pub(crate) fn standing(self, failure: &Failure) -> Standing {
        match self {
            Self::Known => standing(failure),
            Self::Ignored => standing(failure).max(Standing::Plain),
        }
    }
}

/// True for a call that asks about a file instead of using it.
pub(crate) fn only_looks(syscall: &str) -> bool {
    LOOKING.contains(&syscall)
}

/// True for a call on a file's ownership, which `chown -R` in an entrypoint makes on everything below its argument.
pub(crate) fn changes_ownership(syscall: &str) -> bool {
    matches!(syscall, "chown" | "fchown" | "lchown" | "fchownat")
}

/// True for an attempt to start a program.
pub(crate) fn executes(syscall: &str) -> bool {
    matches!(syscall, "execve" | "execveat")
}

/// True for a program's own plug-in (`/usr/lib/x86_64-linux-gnu/rsyslog/imfile.so`), opened by its one path: neither a library, of which
/// the name tells, nor what a language's runtime looks for in many folders.
pub(crate) fn is_plug_in(failure: &Failure) -> bool {
    const OF_OTHERS: [&str; 10] =
        ["python", "perl", "ruby", "lua", "node", "jvm", "php", "ocaml", "ossl-modules", "engines"];
    let path = failure.path.as_str();
    let rest = ["/usr/lib/", "/lib/"].into_iter().find_map(|folder| path.strip_prefix(folder));
    // The folder of the architecture, one of the program, the file.
    let parts: Vec<&str> = rest.unwrap_or_default().split('/').collect();
    let [architecture, folder, name] = parts.as_slice() else { return false };
    !only_looks(&failure.syscall)
        && architecture.contains("-linux-")
        && !folder.starts_with("glibc-hwcaps")
        && !OF_OTHERS.iter().any(|other| folder.starts_with(other))
        && name.ends_with(".so")
        && !name.starts_with("lib")
}

/// True for memory that was not to be had.
pub(crate) fn asks_for_memory(failure: &Failure) -> bool {
    failure.errno == errno::ENOMEM && matches!(failure.syscall.as_str(), "brk" | "mmap" | "mremap")
}

/// True when a file or folder could not be made below a hidden folder of the program's own (`/app/.next`): the folders of a user
/// (`/root/.cache`, `/home/app/.config`, `/.npm` without a HOME) are those that tools do without.
pub(crate) fn is_refused_to_make(failure: &Failure) -> bool {
    let makes = match failure.errno {
        // Who only reads is never told that.
        errno::EROFS => !only_looks(&failure.syscall),
        errno::EACCES | errno::EPERM => matches!(failure.syscall.as_str(), "mkdir" | "mkdirat"),
        _ => false,
    };
    makes && failure.path.find("/.").is_some_and(|at| !is_home(failure.path.get(..at).unwrap_or_default()))
}

/// True for a call that locks files.
pub(crate) fn locks(syscall: &str) -> bool {
    matches!(syscall, "flock" | "fcntl")
}

/// True for the file that a JVM shows its counters in: it is called as the process's id, and the JVM does without it where the file system
/// is read-only, or where another one of that id has it, as both are PID 1 of containers that share /tmp.
fn is_of_counters(path: &str) -> bool {
    path.contains("/hsperfdata_")
}

/// True for a try to lock a file that somebody else has locked, or a wait for that which a signal (an alarm) ended.
pub(crate) fn is_refused_lock(failure: &Failure) -> bool {
    !is_of_counters(&failure.path)
        && locks(&failure.syscall)
        && matches!(failure.errno, errno::EAGAIN | errno::EDEADLK | errno::EINTR)
}

/// True when a lock file was there already: opening gives EEXIST only for O_CREAT with O_EXCL, and the name says what it is for. Folders
/// and links are made as locks too, by scripts; but `/run/lock` is a folder for them.
pub(crate) fn is_lock_file(failure: &Failure) -> bool {
    let name = words::base_name(&failure.path).to_ascii_lowercase();
    let says_so = match failure.syscall.as_str() {
        "open" | "openat" | "openat2" => is_called_a_lock(&failure.path),
        "mkdir" | "mkdirat" | "symlink" | "symlinkat" | "link" | "linkat" => {
            [".lock", ".lck", "lockdir"].iter().any(|ending| name.ends_with(ending))
        }
        _ => false,
    };
    failure.errno == errno::EEXIST && says_so
}

/// What a failed call can be by its kind alone.
pub(crate) fn standing(failure: &Failure) -> Standing {
    let syscall = failure.syscall.as_str();
    if let Some(query) = &failure.dns {
        return unresolved(query);
    }
    if failure.unanswered {
        return Standing::Rare;
    }
    if is_lost_connection(failure) {
        return if is_optional(&failure.path) { Standing::Noise } else { Standing::Rare };
    }
    match failure.errno {
        errno::ENOENT | errno::ENOTDIR | errno::ENAMETOOLONG | errno::ELOOP => absent(failure),
        errno::EACCES | errno::EPERM | errno::EROFS => refused(failure),
        // Without IPv6 its loopback is not there, and nobody minds.
        errno::EADDRNOTAVAIL if syscall == "bind" && !failure.address.starts_with("[::1]") => Standing::Rare,
        errno::EADDRINUSE if matches!(syscall, "bind" | "listen") => Standing::Rare,
        errno::ECONNREFUSED | errno::ETIMEDOUT | errno::EHOSTUNREACH | errno::ENETUNREACH => {
            unconnected(failure)
        }
        errno::ENOSPC | errno::EDQUOT | errno::EMFILE | errno::ENFILE | errno::EFBIG => Standing::Rare,
        errno::EAGAIN if matches!(syscall, "clone" | "clone3" | "fork" | "vfork") => Standing::Rare,
        errno::ENOMEM if matches!(syscall, "clone" | "clone3" | "fork" | "vfork") => Standing::Rare,
        // Without a limit on it, the refusal of a single piece is that of huge pages: small ones do.
        _ if asks_for_memory(failure) && failure.count <= 1 && failure.name.is_empty() => Standing::Weak,
        _ if asks_for_memory(failure) => Standing::Rare,
        // Another program that does the same has it; but a lock is often tried and done without.
        _ if is_refused_lock(failure) => Standing::Rare,
        errno::EEXIST if is_lock_file(failure) => Standing::Plain,
        errno::ENOEXEC | errno::ELIBBAD | errno::E2BIG | errno::ETXTBSY if executes(syscall) => {
            Standing::Rare
        }
        _ => Standing::Noise,
    }
}

/// A name that brought nothing. Who an address belongs to is asked for the log alone, and a name without a record of one type is often
/// asked for another.
fn unresolved(query: &DnsQuery) -> Standing {
    match query.outcome {
        _ if query.types == ["PTR"] => Standing::Noise,
        DnsOutcome::NoData => Standing::Plain,
        DnsOutcome::Unknown => Standing::Noise,
        _ => Standing::Rare,
    }
}

/// ENOENT and its kin.
fn absent(failure: &Failure) -> Standing {
    let path = failure.path.as_str();
    let syscall = failure.syscall.as_str();
    if syscall == "connect" {
        return if path.is_empty() || is_optional(path) { Standing::Noise } else { Standing::Rare };
    }
    if path.is_empty() || is_optional(path) {
        return Standing::Noise;
    }
    if executes(syscall) {
        return Standing::Plain;
    }
    // A search through PATH, of which only the end tells; temporary names are unlinked and looked up on purpose.
    // Perl looks for each module in folder after folder of its own.
    let of_perl = path.contains("/perl") && (path.ends_with(".pm") || path.ends_with(".pmc"));
    let searches = only_looks(syscall) && (in_a_program_folder(path) || of_perl);
    let library = is_library(path) && !is_plug_in(failure);
    let looks_anew = only_looks(syscall) && (is_made_anew(path) || is_local(path));
    if searches || library || looks_anew || matches!(syscall, "unlink" | "unlinkat" | "rmdir") {
        return Standing::Noise;
    }
    let done_without = is_private(path) || is_made_anew(path) || is_local(path);
    if only_looks(syscall) || done_without || is_plug_in(failure) { Standing::Weak } else { Standing::Plain }
}

/// EACCES, EPERM and EROFS.
fn refused(failure: &Failure) -> Standing {
    let path = failure.path.as_str();
    let syscall = failure.syscall.as_str();
    let kernel_file = path.starts_with("/proc/") || path.starts_with("/sys/");
    let done_without = path.contains("/__pycache__") || path.ends_with(".pyc") || is_of_counters(path);
    if done_without || (syscall == "connect" && is_optional(path)) {
        return Standing::Noise;
    }
    if failure.errno == errno::EROFS && path.starts_with("/proc/sys/") {
        return Standing::Rare;
    }
    if failure.errno == errno::EACCES && path.starts_with("/proc/sys/") && !only_looks(syscall) {
        return Standing::Plain;
    }
    if kernel_file || only_looks(syscall) || BEST_EFFORT.contains(&syscall) || is_private(path) {
        return Standing::Weak;
    }
    Standing::Rare
}

/// True for a call on a connection that this side had made, and that its peer reset, closed or left without a word. The node tells of no
/// other: that a client left is nothing to a server. (Resolvers have their own rule.)
pub(crate) fn is_lost_connection(failure: &Failure) -> bool {
    let is_loss = matches!(
        failure.errno,
        errno::EPIPE | errno::ECONNRESET | errno::ETIMEDOUT | errno::EHOSTUNREACH | errno::ENETUNREACH
    );
    let is_stream =
        failure.address.ends_with("/tcp") || (failure.address.is_empty() && !failure.path.is_empty());
    is_loss
        && is_stream
        && failure.syscall != "connect"
        && failure.dns.is_none()
        && !is_name_server(&failure.address)
}

/// True for an address at which logs, metrics or traces are collected, and for a cache.
pub(crate) fn is_of_a_helper(failure: &Failure) -> bool {
    let port = failure.address.split('/').next().and_then(|address| address.rsplit_once(':'));
    let is_one = |port: u16| COLLECTORS.contains(&port) || CACHES.contains(&port);
    let asked = failure.dns.is_some().then(|| failure.name.to_ascii_lowercase());
    if asked.is_some_and(|name| NAMES_OF_COLLECTORS.iter().any(|part| name.contains(part))) {
        return true;
    }
    port.is_some_and(|(_, port)| port.parse().is_ok_and(is_one))
        && !matches!(failure.syscall.as_str(), "bind" | "listen")
}

/// True for what programs do for the better, and scripts in front of them with `|| true`.
pub(crate) fn is_for_the_better(failure: &Failure) -> bool {
    let of_the_bus = ["/run/dbus/", "/var/run/dbus/"].iter().any(|folder| failure.path.starts_with(folder));
    BEST_EFFORT.contains(&failure.syscall.as_str()) || failure.path.ends_with(".pid") || of_the_bus
}

/// A connection that was not made.
fn unconnected(failure: &Failure) -> Standing {
    // getaddrinfo "connects" datagram sockets only to learn which addresses have a route, and servers to make ready to ask one day. A
    // resolver that has a name to ask for tries more than once.
    let only_a_route = failure.address.ends_with("/udp")
        && !(is_name_server(&failure.address) && failure.count > 1)
        && matches!(failure.errno, errno::ENETUNREACH | errno::EHOSTUNREACH);
    let is_connection = failure.syscall == "connect" || !failure.address.is_empty();
    if only_a_route || !is_connection || is_optional(&failure.path) {
        Standing::Noise
    } else if is_name_server(&failure.address) {
        if failure.count > 1 { Standing::Plain } else { Standing::Weak }
    } else {
        Standing::Rare
    }
}

/// True for an address where names are resolved.
pub(crate) fn is_name_server(address: &str) -> bool {
    address.ends_with(":53/udp") || address.ends_with(":53/tcp")
}

/// True for the name of a shell.
pub(crate) fn is_shell(comm: &str) -> bool {
    matches!(comm, "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh" | "busybox")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_failed_calls() {
        for (syscall, number, object, expected) in [
            ("access", errno::ENOENT, "/etc/ld.so.preload", Standing::Noise),
            ("openat", errno::ENOENT, "/usr/share/locale/en/LC_MESSAGES/coreutils.mo", Standing::Noise),
            (
                "openat",
                errno::ENOENT,
                "/usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v3/libc.so.6",
                Standing::Noise,
            ),
            ("openat", errno::ENOENT, "/usr/local/lib/libssl.so.3", Standing::Noise),
            ("openat", errno::ENOENT, "/usr/lib/python3.11/<string>", Standing::Noise),
            ("stat", errno::ENOENT, "/usr/lib/python311.zip", Standing::Noise),
            ("newfstatat", errno::ENOENT, "/lib/tls/x86_64", Standing::Noise),
            (
                "newfstatat",
                errno::ENOENT,
                "/usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v3",
                Standing::Noise,
            ),
            ("newfstatat", errno::ENOENT, "/usr/lib/app/tls", Standing::Weak),
            ("newfstatat", errno::ENOENT, "/usr/bin/pyvenv.cfg", Standing::Noise),
            ("openat", errno::ENOENT, "/sys/fs/cgroup/memory.max", Standing::Noise),
            ("connect", errno::ENOENT, "/var/run/nscd/socket", Standing::Noise),
            ("connect", errno::ENOENT, "/var/run/docker.sock", Standing::Rare),
            ("openat", errno::ENOENT, "/etc/app/app.yaml", Standing::Plain),
            ("statx", errno::ENOENT, "/app/server.js", Standing::Weak),
            ("newfstatat", errno::ENOENT, "/usr/local/bin/cat", Standing::Noise),
            ("openat", errno::ENOENT, "/root/.pgpass", Standing::Weak),
            ("execve", errno::ENOENT, "/usr/local/bin/app", Standing::Plain),
            ("openat", errno::EACCES, "/etc/shadow", Standing::Rare),
            ("access", errno::EACCES, "/etc/shadow", Standing::Weak),
            ("openat", errno::EACCES, "/proc/self/oom_score_adj", Standing::Weak),
            ("fchownat", errno::EPERM, "/data/x", Standing::Weak),
            ("clock_settime", errno::EPERM, "", Standing::Rare),
            ("mkdir", errno::EROFS, "/app/__pycache__", Standing::Noise),
            ("openat", errno::EROFS, "/proc/sys/net/core/somaxconn", Standing::Rare),
            ("openat", errno::EROFS, "/var/cache/app.db", Standing::Rare),
            ("clone", errno::EAGAIN, "", Standing::Rare),
            ("read", errno::EAGAIN, "", Standing::Noise),
            ("futex", errno::ETIMEDOUT, "", Standing::Noise),
            ("connect", errno::EINPROGRESS, "", Standing::Noise),
        ] {
            let failure =
                Failure { syscall: syscall.into(), errno: number, path: object.into(), ..Failure::default() };
            assert_eq!(standing(&failure), expected, "{syscall} {number} {object}");
        }
    }

    #[test]
    fn a_lost_connection_is_one_that_had_been_made() {
        for (syscall, number, address, path, expected) in [
            ("recvfrom", errno::ECONNRESET, "10.0.0.9:5432/tcp", "", true),
            ("read", errno::ETIMEDOUT, "10.0.0.9:5432/tcp", "", true),
            ("write", errno::EPIPE, "", "/run/app.sock", true),
            ("connect", errno::ECONNRESET, "10.0.0.9:5432/tcp", "", false),
            ("connect", errno::ETIMEDOUT, "10.0.0.9:5432/tcp", "", false),
            ("sendto", errno::ENETUNREACH, "10.0.0.9:514/udp", "", false),
            ("read", errno::ECONNRESET, "10.96.0.10:53/tcp", "", false),
            ("write", errno::EPIPE, "", "", false),
        ] {
            let failure = Failure {
                syscall: syscall.into(),
                errno: number,
                address: address.into(),
                path: path.into(),
                ..Failure::default()
            };
            assert_eq!(is_lost_connection(&failure), expected, "{syscall} {number} {address}{path}");
        }
    }

    #[test]
    fn a_route_look_up_is_no_failed_connection() {
        let mut failure = Failure {
            syscall: "connect".into(),
            errno: errno::ENETUNREACH,
            address: "[2001:db8::1]:443/udp".into(),
            ..Failure::default()
        };
        assert_eq!(standing(&failure), Standing::Noise);
        failure.address = "[2001:db8::1]:443/tcp".into();
        assert_eq!(standing(&failure), Standing::Rare);
    }
}
