//! Everyday deaths that were once named wrongly: waits that end, what is done without, words beside the reason.

mod support;

use lastwords_diagnosis::errno;
use lastwords_diagnosis::evidence::*;
use support::*;

fn opened(path: &str, before_death_ms: f64) -> OpenedFile {
    OpenedFile { path: path.to_owned(), pid: MAIN, before_death_ms, ..OpenedFile::default() }
}

fn logged(args: &[&str], lines: &[&str]) -> Evidence {
    let mut evidence = exited(args, 40, 1);
    let lines = lines.iter().map(|line| (*line).to_owned()).collect();
    evidence.log_files = vec![LogTail { lines, ..LogTail::default() }];
    evidence.process.get_or_insert_default().environment_names = vec!["HOME".to_owned(), "PORT".to_owned()];
    evidence
}

#[test]
fn a_file_that_was_waited_for() {
    let looked = |count, first_before_death_ms, last_before_death_ms| {
        let look = failed("newfstatat", errno::ENOENT, "/shared/migrations.done", last_before_death_ms);
        let look = Failure { comm: "bash".to_owned(), count, first_before_death_ms, ..look };
        with(exited(&["bash", "/start.sh"], 2_000, 1), vec![look])
    };
    check(vec![
        ("until the end", looked(8, 816.0, 102.0), "FILE_NOT_FOUND MEDIUM /shared/migrations.done"),
        ("and then no longer", looked(8, 1_816.0, 902.0), "PROGRAM_ERROR LOW exit code 1"),
        ("once", looked(1, 102.0, 102.0), "PROGRAM_ERROR LOW exit code 1"),
    ]);
    let mut serves = looked(8, 816.0, 102.0);
    serves.listeners = vec![Listener {
        address: "0.0.0.0:80/tcp".to_owned(),
        pid: MAIN,
        before_death_ms: 1_900.0,
        ..Listener::default()
    }];
    check(vec![("a server that polls it", serves, "PROGRAM_ERROR LOW exit code 1")]);
}

#[test]
fn an_included_file_and_one_that_only_adds() {
    let read = |missing: &str| {
        let mut evidence =
            with(exited(&["app", "/c/app.conf"], 40, 1), vec![failed("openat", errno::ENOENT, missing, 0.4)]);
        evidence.opened_files = vec![opened("/c/app.conf", 0.45)];
        evidence
    };
    check(vec![
        ("included", read("/c/local.conf"), "FILE_NOT_FOUND MEDIUM /c/local.conf"),
        ("added", read("/c/app-local.conf"), "INVALID_CONFIGURATION MEDIUM /c/app.conf"),
    ]);
}

#[test]
fn what_it_went_on_after() {
    let exec =
        Failure { comm: "su".to_owned(), ..by_child(failed("execve", errno::ENOENT, "/bin/zsh", 1.2)) };
    let mut su = with(
        exited(&["su", "nobody", "-s", "/bin/zsh"], 26, 127),
        vec![failed("connect", errno::ENOENT, "/run/dbus/system_bus_socket", 2.6), exec],
    );
    su.child_exits = vec![child_exit("su", 127, 0, 0.9)];
    let log = failed("openat", errno::EACCES, "/srv/m.log", 0.29);
    let plug_in = failed("openat", errno::ENOENT, "/srv/lib/auth.so", 0.24);
    let name_server =
        |count| Failure { count, ..failed_at("connect", errno::ENETUNREACH, "10.96.0.10:53/udp", 0.9) };
    let map = || failed("openat", errno::ENOENT, "/maps/hosts.map", 4.3);
    check(vec![
        ("a child whose code it left with", su, "EXEC_FAILED HIGH /bin/zsh"),
        (
            "a log that it may not write",
            with(exited(&["m"], 27, 13), vec![log, plug_in]),
            "FILE_NOT_FOUND MEDIUM /srv/lib/auth.so",
        ),
        (
            "a name server that was made ready to be asked",
            with(exited(&["haproxy"], 60, 1), vec![map(), name_server(1)]),
            "FILE_NOT_FOUND MEDIUM /maps/hosts.map",
        ),
        (
            "a name server that was asked",
            with(exited(&["haproxy"], 60, 1), vec![name_server(2)]),
            "DNS_FAILED MEDIUM 10.96.0.10:53/udp",
        ),
    ]);
}

#[test]
fn a_child_without_memory_long_before() {
    let killed = |before_death_ms| {
        let mut evidence =
            with(exited(&["app"], 3_000, 1), vec![failed("openat", errno::ENOENT, "/input/batch.csv", 0.3)]);
        let end = evidence.process.as_ref().map(|process| process.exited_at).unwrap_or_default();
        evidence.oom = vec![oom(OomScope::Container, 40 << 20, false, before_death_ms, end)];
        evidence
    };
    check(vec![
        ("another end", killed(1_600), "FILE_NOT_FOUND MEDIUM /input/batch.csv"),
        ("at once", killed(300), "OUT_OF_MEMORY HIGH memory limit 40Mi"),
    ]);
}

#[test]
fn which_argument() {
    check(vec![
        (
            "a setting behind an option of one letter",
            exited(&["postgres", "-D", "/d", "-k", "/d", "-c", "shared_bufers=1GB"], 16, 1),
            "INVALID_ARGUMENTS LOW shared_bufers=1GB",
        ),
        (
            "a directive",
            exited(&["nginx", "-e", "/dev/null", "-g", "deamon off;"], 6, 1),
            "INVALID_ARGUMENTS LOW deamon off;",
        ),
        (
            "a script's own",
            exited(&["python3", "-m", "http.server", "eighty"], 67, 2),
            "INVALID_ARGUMENTS LOW eighty",
        ),
    ]);
}

#[test]
fn what_a_log_names() {
    let zone = "[23-Nov-2026 06:49:07 UTC] environment variable QUEUE_URL is not set";
    let capitals = "[23-Nov-2026 06:49:07 XYZ] HTTP environment variable missing";
    let rule = "1:M # Aborting startup because of ACL errors: /etc/redis/users.acl:1: Unknown command. WARNING: no change";
    let trace = "/app/main.go:17: invalid state";
    check(vec![
        ("a variable, not the time's zone", logged(&["php"], &[zone]), "INVALID_ENVIRONMENT HIGH QUEUE_URL"),
        ("capitals that may be anything", logged(&["php"], &[capitals]), "INVALID_ENVIRONMENT HIGH HTTP"),
        (
            "a line of a file",
            logged(&["redis"], &[rule]),
            "INVALID_CONFIGURATION MEDIUM /etc/redis/users.acl",
        ),
        ("a line of code", logged(&["app"], &[trace]), "PROGRAM_ERROR LOW exit code 1"),
    ]);
}

#[test]
fn what_was_done_without_long_before() {
    let missed = |ms| failed("openat", errno::ENOENT, "/srv/settings.yml", ms);
    let refused = |path, ms| failed("openat", errno::EACCES, path, ms);
    let of_a_variable = |ms| Failure { variables: vec!["SETTINGS".to_owned()], ..missed(ms) };
    let after = |failure| with(exited(&["app"], 400, 1), vec![failure]);
    let of_a_long_life = |failure| with(exited(&["app"], 9_000, 1), vec![failure]);
    let mut listens = after(failed_at("connect", errno::ECONNREFUSED, "10.0.0.7:6379/tcp", 370.0));
    listens.listeners = vec![Listener {
        address: "0.0.0.0:80/tcp".to_owned(),
        pid: MAIN,
        before_death_ms: 360.0,
        ..Listener::default()
    }];
    let tried = |last_before_death_ms| {
        let tried = failed_at("connect", errno::ECONNREFUSED, "10.0.0.7:9091/tcp", last_before_death_ms);
        after(by_other_thread(Failure {
            count: 4,
            first_before_death_ms: last_before_death_ms + 750.0,
            ..tried
        }))
    };
    check(vec![
        ("a file, just before", after(missed(200.0)), "FILE_NOT_FOUND MEDIUM /srv/settings.yml"),
        ("a file, before a pause of 300 ms", after(missed(304.0)), "FILE_NOT_FOUND MEDIUM /srv/settings.yml"),
        ("a file", after(missed(380.0)), "PROGRAM_ERROR LOW exit code 1"),
        ("a file that a variable names", after(of_a_variable(380.0)), "INVALID_ENVIRONMENT MEDIUM SETTINGS"),
        (
            "a file, late in a long life",
            of_a_long_life(missed(350.0)),
            "FILE_NOT_FOUND MEDIUM /srv/settings.yml",
        ),
        ("a server that was refused before it listened", listens, "PROGRAM_ERROR LOW exit code 1"),
        ("another thread, between its tries", tried(90.0), "PROGRAM_ERROR LOW exit code 1"),
        ("another thread, when the next was due", tried(245.0), "CONNECTION_FAILED MEDIUM 10.0.0.7:9091/tcp"),
        (
            "a log, just before",
            after(refused("/var/log/a.log", 90.0)),
            "PERMISSION_DENIED MEDIUM /var/log/a.log",
        ),
        ("a log", after(refused("/var/log/a.log", 260.0)), "PROGRAM_ERROR LOW exit code 1"),
    ]);
}

#[test]
fn a_module_that_a_child_did_not_find() {
    let look = |path: &str| by_child(failed("statx", errno::ENOENT, path, 31.0));
    let looks =
        ["/app/dist/main.js", "/app/dist/main.js.js", "/app/dist/main.js.json", "/app/dist/main.js.node"];
    let mut shell = with(exited(&["sh", "-c", "node dist/main.js; exit $?"], 230, 1), looks.map(look).into());
    shell.child_exits = vec![child_exit("node", 1, 0, 4.2)];
    check(vec![("a shell passes it on", shell, "FILE_NOT_FOUND LOW /app/dist/main.js")]);
}

#[test]
fn who_stepped_down_to_a_user_that_is_not_there() {
    let listens = |before_death_ms| {
        let mut evidence = exited(&["tinyproxy", "-d", "-c", "/etc/tinyproxy.conf"], 70, 67);
        evidence.opened_files = vec![opened("/etc/tinyproxy.conf", before_death_ms + 0.4)];
        let address = "127.0.0.1:8536/tcp".to_owned();
        evidence.listeners = vec![Listener { address, pid: MAIN, before_death_ms, ..Listener::default() }];
        evidence
    };
    check(vec![
        ("just after it began to listen", listens(1.2), "INVALID_CONFIGURATION MEDIUM /etc/tinyproxy.conf"),
        ("after it had served", listens(45.0), "PROGRAM_ERROR LOW exit code 67"),
    ]);
}

#[test]
fn a_setting_that_the_log_does_not_know() {
    let lines = [
        "[Note] InnoDB: Setting file './ibtmp1' size to 12 MiB",
        "[ERROR] mariadbd: unknown variable 'innodb_bufer_pool_size=8M'",
        "[ERROR] Aborting",
    ];
    let mut evidence = with(
        logged(&["mariadbd", "--defaults-file=/etc/my.cnf"], &lines),
        vec![failed("newfstatat", errno::ENOENT, "./ibtmp1", 20.0)],
    );
    evidence.opened_files =
        vec![opened("/etc/my.cnf", 33.0), opened("/usr/share/mysql/charsets/Index.xml", 29.0)];
    let mut rsync = with(
        exited(&["rsync", "--daemon", "--config=/etc/rsyncd.conf"], 17, 1),
        vec![Failure { path_unresolved: true, ..failed("newfstatat", errno::ENOENT, "rsyncd.conf", 0.3) }],
    );
    rsync.execs.clear();
    check(vec![
        ("in the file it was told to read", evidence, "INVALID_CONFIGURATION MEDIUM /etc/my.cnf"),
        ("a file whose folder is not known", rsync, "FILE_NOT_FOUND MEDIUM /etc/rsyncd.conf"),
    ]);
}

#[test]
fn a_shell_that_passes_on_a_code_looks_at_no_arguments() {
    let mut evidence = exited(&["sh", "-c", "worker \"exit 9\"; exit $?"], 4, 9);
    evidence.child_exits = vec![child_exit("worker", 9, 0, 0.3)];
    assert_eq!(verdict(&evidence, None), "PROGRAM_ERROR LOW exit code 9");
}

#[test]
fn what_is_looked_for_in_passing_is_no_rival() {
    let looked = |path: &str, before| failed("newfstatat", errno::ENOENT, path, before);
    let beside =
        |path: &str| with(exited(&["app"], 400, 1), vec![looked(path, 0.8), looked("/srv/key", 0.5)]);
    let alone = |path: &str| with(exited(&["app"], 400, 1), vec![looked(path, 0.5)]);
    check(vec![
        ("of its package", beside("/usr/share/app/theme"), "FILE_NOT_FOUND MEDIUM /srv/key"),
        ("a folder for what is temporary", beside("/srv/tmp"), "FILE_NOT_FOUND MEDIUM /srv/key"),
        ("of another one's", beside("/srv/other"), "PROGRAM_ERROR LOW exit code 1"),
        (
            "a module in one of Perl's folders",
            alone("/opt/perl/lib/JSON.pm"),
            "PROGRAM_ERROR LOW exit code 1",
        ),
        (
            "a module in one of its own",
            alone("/srv/lib/Report.pm"),
            "FILE_NOT_FOUND MEDIUM /srv/lib/Report.pm",
        ),
    ]);
}

#[test]
fn a_log_names_a_path_as_a_whole() {
    let missing = |line: &str| {
        let failure = failed("openat", errno::ENOENT, "/srv/queue", 40.0);
        with(support::logged(exited(&["app"], 400, 1), &[line]), vec![failure])
    };
    check(vec![
        ("the path", missing("cannot open /srv/queue"), "FILE_NOT_FOUND HIGH /srv/queue"),
        ("a longer one", missing("cannot open /srv/queue-old"), "FILE_NOT_FOUND MEDIUM /srv/queue"),
    ]);
}
