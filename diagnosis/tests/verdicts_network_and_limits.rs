//! Deaths that a port, a connection, a disk or a limit explains: the evidence, and the cause, confidence and object that must come out.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::{errno, signals};
use support::*;

#[test]
fn network_disk_and_limits() {
    let app = || exited(&["app"], 300, 1);
    let named = |name: &str, failure: Failure| Failure { name: name.to_owned(), ..failure };
    check(vec![
        (
            "a port that is taken",
            with(app(), vec![failed_at("bind", errno::EADDRINUSE, "0.0.0.0:8080/tcp", 1.0)]),
            "PORT_IN_USE HIGH 0.0.0.0:8080/tcp",
        ),
        (
            "v6, then v4",
            with(
                app(),
                vec![
                    failed_at("bind", errno::EADDRINUSE, "[::]:8080/tcp", 2.0),
                    failed_at("bind", errno::EADDRINUSE, "0.0.0.0:8080/tcp", 1.0),
                ],
            ),
            "PORT_IN_USE HIGH 0.0.0.0:8080/tcp",
        ),
        (
            "a stale socket",
            with(app(), vec![failed("bind", errno::EADDRINUSE, "/run/app.sock", 1.0)]),
            "PORT_IN_USE HIGH /run/app.sock",
        ),
        (
            "nobody listens",
            with(app(), vec![failed_at("connect", errno::ECONNREFUSED, "10.0.0.9:5432/tcp", 3.0)]),
            "CONNECTION_FAILED HIGH 10.0.0.9:5432/tcp",
        ),
        (
            "no answer, and another attempt before",
            with(app(), vec![failed_at("connect", errno::ETIMEDOUT, "10.0.0.9:5432/tcp", 4_000.0)]),
            "CONNECTION_FAILED MEDIUM 10.0.0.9:5432/tcp",
        ),
        (
            "a missing socket",
            with(app(), vec![failed("connect", errno::ENOENT, "/var/run/docker.sock", 1.0)]),
            "CONNECTION_FAILED HIGH /var/run/docker.sock",
        ),
        (
            "name service sockets and a look for a route are no connections",
            with(
                app(),
                vec![
                    failed("connect", errno::ENOENT, "/var/run/nscd/socket", 2.0),
                    failed_at("connect", errno::ENETUNREACH, "[2001:db8::1]:443/udp", 1.0),
                ],
            ),
            "PROGRAM_ERROR LOW exit code 1",
        ),
        (
            "a full disk",
            with(app(), vec![failed("write", errno::ENOSPC, "/data/db", 1.0)]),
            "DISK_FULL HIGH /data/db",
        ),
        (
            "a quota",
            with(app(), vec![failed("openat", errno::EDQUOT, "/data/db", 1.0)]),
            "DISK_FULL HIGH /data/db",
        ),
        (
            "a read-only root",
            with(app(), vec![failed("mkdir", errno::EROFS, "/var/cache/app", 1.0)]),
            "READ_ONLY_FILESYSTEM MEDIUM /var/cache/app",
        ),
        (
            "byte code that could not be cached",
            with(app(), vec![failed("mkdir", errno::EROFS, "/app/__pycache__", 1.0)]),
            "PROGRAM_ERROR LOW exit code 1",
        ),
        (
            "open files",
            with(app(), vec![named("RLIMIT_NOFILE 1024", failed("openat", errno::EMFILE, "/tmp/x", 1.0))]),
            "RESOURCE_LIMIT HIGH RLIMIT_NOFILE 1024",
        ),
        (
            "processes",
            with(app(), vec![named("pids.max 100", failed("clone", errno::EAGAIN, "", 1.0))]),
            "RESOURCE_LIMIT HIGH pids.max 100",
        ),
        (
            "processes, limit unknown",
            with(app(), vec![failed("clone3", errno::EAGAIN, "", 1.0)]),
            "RESOURCE_LIMIT HIGH pids.max or RLIMIT_NPROC",
        ),
        (
            "processor time",
            signalled(&["app"], 3_000, signals::SIGXCPU, by(SenderKind::Kernel, "", 0)),
            "RESOURCE_LIMIT HIGH RLIMIT_CPU",
        ),
    ]);
}
