//! What fits the end and may have been done without: likely, and not shown.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::{diagnose, errno, signals};
use support::*;

const REFUSED: &str = "127.0.0.1:5432/tcp";

/// A script whose child could not connect and left with 1, as the script did 0.3 ms later.
fn script(child: ChildExit) -> Evidence {
    let failure = by_child(failed_at("connect", errno::ECONNREFUSED, REFUSED, 0.9));
    let mut evidence = with(exited(&["bash", "/app/entry.sh"], 300, 1), vec![failure]);
    evidence.child_exits = vec![ChildExit { parent_pid: MAIN, ..child }];
    evidence
}

#[test]
fn a_script_that_wrote_something_after_its_child_left_went_on() {
    let wrote = |parent_wrote| ChildExit { parent_wrote, ..child_exit("job", 1, 0, 0.3) };
    let mut later = script(ChildExit { before_death_ms: 280.0, ..wrote(Some(0)) });
    (later.failures[0].first_before_death_ms, later.failures[0].last_before_death_ms) = (280.9, 280.9);
    check(vec![
        ("set -e", script(wrote(Some(0))), "CONNECTION_FAILED HIGH 127.0.0.1:5432/tcp"),
        ("not known", script(wrote(None)), "CONNECTION_FAILED HIGH 127.0.0.1:5432/tcp"),
        ("other work", later, "CONNECTION_FAILED MEDIUM 127.0.0.1:5432/tcp"),
        ("a complaint", script(wrote(Some(1))), "CONNECTION_FAILED MEDIUM 127.0.0.1:5432/tcp"),
    ]);
}

#[test]
fn what_a_trap_starts_on_the_way_out_is_no_reason() {
    let after = |earlier: ChildExit| {
        let mut evidence = script(child_exit("wget", 1, 0, 0.3));
        evidence.child_exits.insert(0, ChildExit { pid: CHILD - 1, parent_pid: MAIN, ..earlier });
        evidence
    };
    let expected = "CONNECTION_FAILED HIGH 127.0.0.1:5432/tcp";
    check(vec![
        (
            "with that code",
            after(child_exit("job", 1, 0, 6.0)),
            "CONNECTION_FAILED MEDIUM 127.0.0.1:5432/tcp",
        ),
        ("with another", after(child_exit("job", 3, 0, 6.0)), expected),
        ("the same program's last try", after(child_exit("wget", 1, 0, 6.0)), expected),
        ("long before", after(child_exit("job", 1, 0, 900.0)), expected),
    ]);
}

#[test]
fn who_collects_logs_is_told_besides_the_work() {
    let refused = |args: &[&str], address: &str| {
        with(exited(args, 300, 1), vec![failed_at("connect", errno::ECONNREFUSED, address, 1.0)])
    };
    check(vec![
        ("OTLP", refused(&["app"], "127.0.0.1:4318/tcp"), "CONNECTION_FAILED MEDIUM 127.0.0.1:4318/tcp"),
        ("IPv6", refused(&["app"], "[::1]:24224/tcp"), "CONNECTION_FAILED MEDIUM [::1]:24224/tcp"),
        (
            "asked for",
            refused(&["app", "--collector", "127.0.0.1:4318"], "127.0.0.1:4318/tcp"),
            "CONNECTION_FAILED HIGH 127.0.0.1:4318/tcp",
        ),
        ("a database", refused(&["app"], REFUSED), "CONNECTION_FAILED HIGH 127.0.0.1:5432/tcp"),
    ]);
}

#[test]
fn bash_that_only_asked_for_a_command() {
    let looked = |shell: &str, child: Option<ChildExit>| {
        let look = |folder: &str| failed("newfstatat", errno::ENOENT, &format!("{folder}/nvidia-smi"), 0.6);
        let folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];
        let mut evidence = with(exited(&[shell, "-c", "text"], 20, 127), folders.map(look).to_vec());
        evidence.child_exits = child.into_iter().collect();
        verdict(&evidence, None)
    };
    assert_eq!(looked("bash", None), "EXEC_FAILED MEDIUM nvidia-smi");
    assert_eq!(looked("bash", Some(child_exit("bash", 127, 0, 0.3))), "EXEC_FAILED HIGH nvidia-smi");
    assert_eq!(looked("dash", None), "EXEC_FAILED HIGH nvidia-smi");
}

#[test]
fn an_oom_kill_that_was_survived() {
    let warm_up = |code| {
        let mut evidence = exited(&["sh", "-c", "text"], 9_000, code);
        evidence.oom = vec![oom(OomScope::Container, 20 << 20, false, 60, evidence.observed_at)];
        evidence
    };
    let refused = || vec![failed_at("connect", errno::ECONNREFUSED, REFUSED, 1.0)];
    let mut became = with(warm_up(1), refused());
    let main = Exec {
        path: "/app/main".into(),
        time: UnixNanos(became.observed_at.0 - 50_000_000),
        ..Exec::default()
    };
    became.execs.push(main);
    check(vec![
        ("it went on as another program", became.clone(), "CONNECTION_FAILED HIGH 127.0.0.1:5432/tcp"),
        (
            "it went on, to nothing that failed",
            with(became, Vec::new()),
            "OUT_OF_MEMORY MEDIUM memory limit 20Mi",
        ),
        ("it left at once", warm_up(1), "OUT_OF_MEMORY HIGH memory limit 20Mi"),
    ]);
    // Another child was killed by somebody, and that was passed on.
    let mut killed = warm_up(137);
    assert_eq!(verdict(&killed, None), "OUT_OF_MEMORY HIGH memory limit 20Mi");
    killed.child_exits = vec![ChildExit { pid: CHILD + 1, ..child_exit("sleep", 0, signals::SIGKILL, 3.0) }];
    killed.signals = vec![Signal {
        target_pid: CHILD + 1,
        to_main: false,
        ..sent(signals::SIGKILL, 0, by(SenderKind::SameContainer, "timeout", MAIN), 3.1)
    }];
    assert_eq!(verdict(&killed, None), format!("KILLED HIGH SIGKILL from timeout (pid {MAIN})"));
}

#[test]
fn what_is_done_for_the_better_and_what_a_shell_asks() {
    let refused = |syscall, number, path: &str| {
        with(exited(&["app", path], 300, 1), vec![failed(syscall, number, path, 0.4)])
    };
    let mut asked = with(
        exited(&["sh", "/app/entry.sh", "/config/extra.env"], 300, 1),
        vec![failed("newfstatat", errno::ENOENT, "/config/extra.env", 0.1)],
    );
    asked.process.as_mut().unwrap().exe = "/usr/bin/dash".into();
    check(vec![
        (
            "as the entry point of PostgreSQL does",
            refused("fchmodat", errno::EPERM, "/run/postgresql"),
            "PERMISSION_DENIED MEDIUM /run/postgresql",
        ),
        (
            "a pid file",
            refused("openat", errno::EACCES, "/run/app.pid"),
            "PERMISSION_DENIED MEDIUM /run/app.pid",
        ),
        (
            "a JVM's counters",
            refused("mkdir", errno::EROFS, "/tmp/hsperfdata_root"),
            "PROGRAM_ERROR LOW exit code 1",
        ),
        ("asked by a shell", asked, "FILE_NOT_FOUND MEDIUM /config/extra.env"),
        (
            "a cache",
            with(
                exited(&["app"], 300, 1),
                vec![failed_at("connect", errno::ECONNREFUSED, "10.0.0.7:11211/tcp", 1.0)],
            ),
            "CONNECTION_FAILED MEDIUM 10.0.0.7:11211/tcp",
        ),
        (
            "a lock on something without a name",
            with(exited(&["app"], 300, 1), vec![failed("flock", errno::EAGAIN, "", 0.3)]),
            "FILE_LOCKED MEDIUM a file whose path is not known",
        ),
    ]);
}

#[test]
fn a_library_that_the_loader_found_elsewhere() {
    let looked = |path: &str, before_ms| failed("openat", errno::ENOENT, path, before_ms);
    let started = || exited(&["app"], 3, 127);
    let preloaded =
        Failure { variables: vec!["LD_PRELOAD".into()], ..looked("/usr/lib/libjemalloc.so.2", 0.9) };
    let libc = || looked("/usr/lib/libc.so.6", 0.9);
    let missing = || Failure { comm: "bash".into(), ..failed("execve", errno::ENOENT, "/opt/app/run", 0.2) };
    let exotic = || looked("/usr/lib/libacme.so.1", 0.5);
    check(vec![
        ("not there", with(started(), vec![exotic()]), "EXEC_FAILED HIGH libacme.so.1"),
        ("it came further", with(started(), vec![libc(), missing()]), "EXEC_FAILED HIGH /opt/app/run"),
        (
            "long before",
            with(started(), vec![looked("/usr/lib/libacme.so.1", 80.0)]),
            "EXEC_FAILED MEDIUM libacme.so.1",
        ),
    ]);
    for harmless in [libc(), preloaded] {
        let said = verdict(&with(started(), vec![harmless]), None);
        assert!(!said.starts_with("EXEC_FAILED"), "{said}");
    }
}

#[test]
fn who_stops_the_others_is_not_the_reason() {
    let stopped = |first: Option<ChildExit>| {
        let mut evidence = exited(&["bash", "/app/both.sh"], 900, 143);
        evidence.child_exits = first.into_iter().collect();
        evidence
            .child_exits
            .push(ChildExit { pid: CHILD + 1, ..child_exit("nginx", 0, signals::SIGTERM, 0.4) });
        evidence.signals = vec![Signal {
            target_pid: CHILD + 1,
            to_main: false,
            ..sent(signals::SIGTERM, 0, by(SenderKind::SameContainer, "bash", MAIN), 0.8)
        }];
        evidence.failures = vec![by_child(failed_at("connect", errno::ECONNREFUSED, REFUSED, 3.0))];
        verdict(&evidence, None)
    };
    assert_eq!(
        stopped(Some(child_exit("python3", 1, 0, 1.2))),
        "CONNECTION_FAILED MEDIUM 127.0.0.1:5432/tcp"
    );
    assert_eq!(stopped(None), format!("KILLED HIGH SIGTERM from bash (pid {MAIN})"));
}

#[test]
fn a_reload_is_no_stop() {
    let hung_up = |before_ms| {
        let refused = failed_at("connect", errno::ECONNREFUSED, REFUSED, 1.0);
        let mut evidence = with(exited(&["app"], 9_000, 1), vec![refused]);
        evidence.signals = vec![sent(signals::SIGHUP, 0, by(SenderKind::SameContainer, "sh", 7), before_ms)];
        verdict(&evidence, None)
    };
    assert_eq!(hung_up(1_900.0), "CONNECTION_FAILED HIGH 127.0.0.1:5432/tcp");
    assert_eq!(hung_up(200.0), "KILLED MEDIUM SIGHUP from sh (pid 7)");
}

#[test]
fn what_the_main_process_failed_with_after_a_childs_oom_kill() {
    let mut evidence =
        with(exited(&["app"], 9_000, 1), vec![failed_at("connect", errno::ECONNREFUSED, REFUSED, 6.0)]);
    evidence.oom = vec![oom(OomScope::Container, 20 << 20, false, 300, evidence.observed_at)];
    assert_eq!(verdict(&evidence, None), "CONNECTION_FAILED HIGH 127.0.0.1:5432/tcp");
    evidence.failures[0].last_before_death_ms = 400.0;
    assert_eq!(verdict(&evidence, None), "OUT_OF_MEMORY HIGH memory limit 20Mi");
}

#[test]
fn timeout_says_so_by_its_code() {
    let timed_out = |code| {
        let mut evidence = exited(&["timeout", "2", "app"], 2_000, code);
        evidence.child_exits = vec![child_exit("app", 0, signals::SIGTERM, 0.3)];
        evidence.signals = vec![Signal {
            target_pid: CHILD,
            to_main: false,
            ..sent(signals::SIGTERM, 0, by(SenderKind::SameContainer, "timeout", MAIN), 0.8)
        }];
        verdict(&evidence, None)
    };
    assert_eq!(timed_out(124), format!("KILLED MEDIUM SIGTERM from timeout (pid {MAIN})"));
    assert_eq!(timed_out(2), "PROGRAM_ERROR LOW exit code 2");
}

#[test]
fn one_configuration_under_another_ending() {
    let missing = || failed("openat", errno::ENOENT, "/etc/shop/config.yml", 30.0);
    let found = |path, before_ms| {
        let command = ["app", "--config", "/etc/shop/config.yml"];
        verdict(&read(with(exited(&command, 300, 1), vec![missing()]), &[(path, before_ms)]), None)
    };
    assert!(found("/etc/shop/config.yaml", 29.0).starts_with("INVALID_CONFIGURATION"));
    assert_eq!(found("/etc/shop/config.yaml", 90.0), "FILE_NOT_FOUND HIGH /etc/shop/config.yml", "before it");
    assert_eq!(found("/etc/shop/other.yaml", 29.0).split(' ').next(), Some("FILE_NOT_FOUND"));
}

#[test]
fn what_is_refused_each_round_is_lived_with() {
    let each_round = |count, first| Failure {
        count,
        first_before_death_ms: first,
        last_before_death_ms: 800.0,
        ..failed("openat", errno::EROFS, "/var/worker.heartbeat", 800.0)
    };
    let worker = |failure| verdict(&with(exited(&["worker"], 60_000, 1), vec![failure]), None);
    assert_eq!(worker(each_round(60, 59_800.0)), "READ_ONLY_FILESYSTEM MEDIUM /var/worker.heartbeat");
    assert_eq!(worker(each_round(5, 4_800.0)), "READ_ONLY_FILESYSTEM HIGH /var/worker.heartbeat");
}

#[test]
fn a_name_tells_who_collects() {
    let unknown = |name: &str| Failure {
        name: name.into(),
        dns: Some(DnsQuery { outcome: DnsOutcome::NxDomain, ..DnsQuery::default() }),
        ..failed_at("recvfrom", 0, "10.96.0.10:53/udp", 3.0)
    };
    let said = |name| verdict(&with(exited(&["app"], 300, 1), vec![unknown(name)]), None);
    assert_eq!(said("statsd.monitoring.svc"), "DNS_FAILED MEDIUM statsd.monitoring.svc");
    assert_eq!(said("orders.shop.svc"), "DNS_FAILED HIGH orders.shop.svc");
}

#[test]
fn an_exception_that_nobody_catches_was_thrown_for_something() {
    let aborted = |before_ms| {
        let own = by(SenderKind::SameContainer, "app", MAIN);
        let mut evidence = signalled(&["app"], 300, signals::SIGABRT, own);
        evidence.signals[0].code = -6;
        diagnose(&with(evidence, vec![failed_at("connect", errno::ECONNREFUSED, REFUSED, before_ms)]), None)
    };
    let thrown = aborted(0.6);
    assert_eq!(short(&thrown), "PROGRAM_ERROR MEDIUM SIGABRT");
    assert!(thrown.summary.contains("600 µs before, connect failed with ECONNREFUSED"), "{}", thrown.summary);
    assert_eq!(short(&aborted(90.0)), "PROGRAM_ERROR HIGH SIGABRT");
}

#[test]
fn the_bus_of_the_system_is_no_part_of_most_containers() {
    let refused = failed("connect", errno::ENOENT, "/run/dbus/system_bus_socket", 1.0);
    assert_eq!(
        verdict(&with(exited(&["app"], 300, 1), vec![refused]), None),
        "CONNECTION_FAILED MEDIUM /run/dbus/system_bus_socket"
    );
}
