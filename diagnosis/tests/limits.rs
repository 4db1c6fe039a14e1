//! One error number, several limits: which of them it was, by what was asked for.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::{diagnose, errno, signals};
use support::*;

fn refused(failure: Failure) -> Evidence {
    with(exited(&["app"], 300, 1), vec![failure])
}

fn named(failure: Failure, name: &str) -> Failure {
    Failure { name: name.into(), ..failure }
}

#[test]
fn open_files_are_not_what_inotify_lacks() {
    let files = |syscall| named(failed(syscall, errno::EMFILE, "", 0.4), "RLIMIT_NOFILE 20000");
    check(vec![
        ("files", refused(files("openat")), "RESOURCE_LIMIT HIGH RLIMIT_NOFILE 20000"),
        ("instances", refused(files("inotify_init1")), "RESOURCE_LIMIT HIGH fs.inotify.max_user_instances"),
        (
            "watches, without which many go on",
            refused(failed("inotify_add_watch", errno::ENOSPC, "/data", 0.4)),
            "RESOURCE_LIMIT MEDIUM fs.inotify.max_user_watches",
        ),
    ]);
}

#[test]
fn what_is_full_is_not_always_a_disk() {
    let full = |path| verdict(&refused(failed("openat", errno::ENOSPC, path, 0.4)), None);
    assert_eq!(full("/data/x"), "DISK_FULL HIGH /data/x");
    assert_eq!(full("/dev/ptmx"), "RESOURCE_LIMIT HIGH kernel.pty.max");
    assert!(!full("/sys/fs/cgroup/a/cpuset.cpus").starts_with("DISK_FULL"));
}

#[test]
fn a_file_that_is_too_large_for_its_limit_or_its_file_system() {
    let large = || refused(failed("ftruncate", errno::EFBIG, "/data/x", 0.4));
    assert_eq!(
        verdict(&large(), None),
        "RESOURCE_LIMIT MEDIUM RLIMIT_FSIZE or the file system's largest file"
    );
    let mut limited = large();
    limited.signals = vec![sent(signals::SIGXFSZ, 0, by(SenderKind::Kernel, "", 0), 0.5)];
    assert_eq!(verdict(&limited, None), "RESOURCE_LIMIT HIGH RLIMIT_FSIZE");
}

#[test]
fn any_port_is_taken_only_when_all_are() {
    let bind = |address| verdict(&refused(failed_at("bind", errno::EADDRINUSE, address, 0.4)), None);
    assert_eq!(bind("0.0.0.0:0/tcp"), "RESOURCE_LIMIT HIGH net.ipv4.ip_local_port_range");
    assert_eq!(bind("0.0.0.0:80/tcp"), "PORT_IN_USE HIGH 0.0.0.0:80/tcp");
}

#[test]
fn a_fork_without_memory_has_several_reasons() {
    let said = diagnose(&refused(failed("clone", errno::ENOMEM, "", 0.4)), None);
    assert_eq!(short(&said), "RESOURCE_LIMIT MEDIUM RLIMIT_AS or memory overcommit");
    assert!(said.remedy.contains("unshare --pid without --fork"), "{}", said.remedy);
}

#[test]
fn a_link_that_is_not_followed_is_there() {
    let said = diagnose(&refused(failed("openat", errno::ELOOP, "/etc/app/policy.yaml", 0.4)), None);
    assert_eq!(short(&said), "FILE_NOT_FOUND MEDIUM /etc/app/policy.yaml");
    assert!(said.summary.starts_with("app may not follow the symbolic links of /etc"), "{}", said.summary);
    assert!(said.remedy.contains("O_NOFOLLOW"), "{}", said.remedy);
}

#[test]
fn a_refused_address_is_a_broadcast_or_forbidden() {
    let remedy =
        |number| diagnose(&refused(failed_at("sendto", number, "10.0.0.255:7/udp", 0.4)), None).remedy;
    assert!(remedy(errno::EACCES).contains("SO_BROADCAST"), "{}", remedy(errno::EACCES));
    assert!(remedy(errno::EPERM).contains("NetworkPolicy"), "{}", remedy(errno::EPERM));
}

#[test]
fn a_first_process_leads_its_session_already() {
    for call in ["setsid", "setpgid"] {
        let said = diagnose(&refused(failed(call, errno::EPERM, "", 40.0)), None);
        assert_eq!(short(&said), "PROGRAM_ERROR LOW exit code 1", "{call}");
    }
}
