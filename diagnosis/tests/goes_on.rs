//! What a program did without is not what ended it: the surest-looking failures of healthy programs.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::{Cause, Confidence, diagnose, errno};
use support::*;

fn opened(path: &str, written: bool, before_death_ms: f64) -> OpenedFile {
    OpenedFile { path: path.to_owned(), written, pid: MAIN, before_death_ms, ..OpenedFile::default() }
}

fn said(args: &[&str], lines: &[&str], variables: &[&str]) -> Evidence {
    let mut evidence = exited(args, 40, 1);
    let lines = lines.iter().map(|line| (*line).to_owned()).collect();
    evidence.log_tail = Some(LogTail { lines, ..LogTail::default() });
    let process = evidence.process.get_or_insert_default();
    process.environment_names = variables.iter().map(|name| (*name).to_owned()).collect();
    evidence
}

#[test]
fn a_file_of_that_name_in_another_folder() {
    let refused =
        || with(exited(&["app"], 60, 1), vec![failed("openat", errno::EACCES, "/srv/app.db", 33.0)]);
    let mut other_name = refused();
    other_name.opened_files = vec![opened("/tmp/x/audit.log", true, 32.0)];
    let mut fell_back = refused();
    fell_back.opened_files = vec![opened("/tmp/x/app.db", true, 32.0)];
    let mut before = refused();
    before.opened_files = vec![opened("/tmp/x/app.db", true, 34.0)];
    let log = with(exited(&["app"], 60, 1), vec![failed("openat", errno::EACCES, "/srv/app.log", 33.0)]);
    let long_ago = with(exited(&["app"], 900, 1), vec![failed("openat", errno::EACCES, "/srv/app.db", 70.0)]);
    check(vec![
        ("a log, which many do without", log, "PERMISSION_DENIED MEDIUM /srv/app.log"),
        ("after some work", long_ago, "PERMISSION_DENIED MEDIUM /srv/app.db"),
        ("none", refused(), "PERMISSION_DENIED HIGH /srv/app.db"),
        ("another file", other_name, "PERMISSION_DENIED HIGH /srv/app.db"),
        ("earlier", before, "PERMISSION_DENIED HIGH /srv/app.db"),
        ("fallen back", fell_back, "PROGRAM_ERROR LOW exit code 1"),
    ]);
}

#[test]
fn how_soon_the_end_followed() {
    let refused = |ms| {
        with(
            exited(&["app"], 900, 1),
            vec![failed_at("connect", errno::ECONNREFUSED, "10.0.0.9:5432/tcp", ms)],
        )
    };
    let missing = |ms| {
        with(
            exited(&["app", "/etc/app.pem"], 900, 1),
            vec![failed("openat", errno::ENOENT, "/etc/app.pem", ms)],
        )
    };
    check(vec![
        ("at once", refused(90.0), "CONNECTION_FAILED HIGH 10.0.0.9:5432/tcp"),
        ("after some work", refused(110.0), "CONNECTION_FAILED MEDIUM 10.0.0.9:5432/tcp"),
        ("a file, at once", missing(90.0), "FILE_NOT_FOUND HIGH /etc/app.pem"),
        ("a file, after some work", missing(110.0), "FILE_NOT_FOUND MEDIUM /etc/app.pem"),
    ]);
}

#[test]
fn a_program_that_connected_to_somebody_else_had_not_given_up() {
    let refused = |next: &str| {
        let failure = failed_at("connect", errno::ECONNREFUSED, "10.0.0.9:4400/tcp", 20.0);
        let failure = Failure { later_connected: next.to_owned(), ..failure };
        with(exited(&["app"], 900, 1), vec![failure])
    };
    check(vec![
        ("nobody else", refused(""), "CONNECTION_FAILED HIGH 10.0.0.9:4400/tcp"),
        ("its database", refused("10.0.0.7:5432/tcp"), "CONNECTION_FAILED MEDIUM 10.0.0.9:4400/tcp"),
    ]);
}

#[test]
fn a_file_that_the_log_names() {
    let missing = |lines: &[&str]| {
        with(said(&["app"], lines, &[]), vec![failed("openat", errno::ENOENT, "/etc/app/extra.conf", 1.0)])
    };
    check(vec![
        (
            "as the reason",
            missing(&["cannot open /etc/app/extra.conf"]),
            "FILE_NOT_FOUND HIGH /etc/app/extra.conf",
        ),
        (
            "aside",
            missing(&["no /etc/app/extra.conf, using defaults"]),
            "FILE_NOT_FOUND MEDIUM /etc/app/extra.conf",
        ),
    ]);
    let refused = |lines: &[&str]| {
        with(
            said(&["app"], lines, &[]),
            vec![failed_at("connect", errno::ECONNREFUSED, "10.0.0.9:5432/tcp", 1.0)],
        )
    };
    check(vec![
        (
            "a server, aside",
            refused(&["WARN cannot reach 10.0.0.9:5432"]),
            "CONNECTION_FAILED MEDIUM 10.0.0.9:5432/tcp",
        ),
        (
            "a server, in the end",
            refused(&["WARN cannot reach 10.0.0.9:5432", "FATAL cannot reach 10.0.0.9:5432"]),
            "CONNECTION_FAILED HIGH 10.0.0.9:5432/tcp",
        ),
    ]);
}

#[test]
fn a_configuration_that_the_log_names() {
    let read = |lines: &[&str]| {
        let mut evidence = said(&["app"], lines, &[]);
        evidence.opened_files = vec![opened("/etc/app/app.yaml", false, 20.0)];
        evidence
    };
    check(vec![
        (
            "in what it complains of",
            read(&["error in /etc/app/app.yaml: unknown field portt"]),
            "INVALID_CONFIGURATION HIGH /etc/app/app.yaml",
        ),
        (
            "beside another complaint",
            read(&["read /etc/app/app.yaml", "error: wrong password for app"]),
            "INVALID_CONFIGURATION MEDIUM /etc/app/app.yaml",
        ),
    ]);
}

#[test]
fn what_failed_afterwards() {
    let refused = |ms| failed_at("connect", errno::ECONNREFUSED, "127.0.0.1:8500/tcp", ms);
    let missing = |ms| failed("openat", errno::ENOENT, "/data/rates.csv", ms);
    let app = |failures| with(exited(&["app"], 200, 3), failures);
    check(vec![
        ("nothing", app(vec![missing(21.0), refused(20.0)]), "CONNECTION_FAILED HIGH 127.0.0.1:8500/tcp"),
        ("something", app(vec![refused(20.0), missing(19.0)]), "CONNECTION_FAILED MEDIUM 127.0.0.1:8500/tcp"),
        (
            "what it left with",
            app(vec![refused(20.0), missing(0.2)]),
            "FILE_NOT_FOUND MEDIUM /data/rates.csv",
        ),
    ]);
}

#[test]
fn who_serves_while_it_tries() {
    let tried = |count, last_before_death_ms| {
        let tried = Failure {
            count,
            first_before_death_ms: 9_000.0,
            ..failed_at("connect", errno::ECONNREFUSED, "10.0.0.7:5672/tcp", last_before_death_ms)
        };
        with(exited(&["node", "/app/main.js"], 9_500, 1), vec![tried])
    };
    let waits = tried(9, 900.0);
    let mut serves = waits.clone();
    let listener = |before_death_ms| Listener {
        address: "0.0.0.0:80/tcp".to_owned(),
        pid: MAIN,
        before_death_ms,
        ..Listener::default()
    };
    serves.listeners = vec![listener(8_900.0)];
    check(vec![
        ("it waits for it", waits, "CONNECTION_FAILED HIGH 10.0.0.7:5672/tcp"),
        ("in the middle of the wait", tried(9, 600.0), "CONNECTION_FAILED MEDIUM 10.0.0.7:5672/tcp"),
        ("the last one right before", tried(90, 99.0), "CONNECTION_FAILED HIGH 10.0.0.7:5672/tcp"),
        ("many, beside its work", tried(30, 290.0), "CONNECTION_FAILED MEDIUM 10.0.0.7:5672/tcp"),
        ("it serves without it", serves, "CONNECTION_FAILED MEDIUM 10.0.0.7:5672/tcp"),
    ]);
}

#[test]
fn a_look_into_a_named_folder() {
    let looked = |number, ms| {
        with(
            exited(&["postgres", "-D", "/data"], 31, 2),
            vec![failed("newfstatat", number, "/data/postgresql.conf", ms)],
        )
    };
    check(vec![
        ("refused", looked(errno::EACCES, 12.5), "PERMISSION_DENIED MEDIUM /data/postgresql.conf"),
        ("in vain", looked(errno::ENOENT, 12.5), "INVALID_ARGUMENTS MEDIUM -D"),
    ]);
}

#[test]
fn what_is_made_anew() {
    let missing = |path: &str, ms| {
        with(exited(&["app", "--state", path], 300, 5), vec![failed("openat", errno::ENOENT, path, ms)])
    };
    check(vec![
        ("its state", missing("/data/state.json", 70.0), "INVALID_ARGUMENTS LOW --state"),
        (
            "its state, and it left at once",
            missing("/data/state.json", 0.4),
            "FILE_NOT_FOUND MEDIUM /data/state.json",
        ),
        (
            "a look for it",
            with(exited(&["sqlite3"], 9, 26), vec![failed("stat", errno::ENOENT, "/data/x.db-wal", 0.1)]),
            "PROGRAM_ERROR LOW exit code 26",
        ),
        (
            "another file, after what a user may have",
            with(
                exited(&["caddy"], 90, 1),
                vec![
                    failed("openat", errno::ENOENT, "/root/.step/config.json", 30.0),
                    failed("stat", errno::ENOENT, "/etc/caddy/snippets/headers", 0.1),
                ],
            ),
            "FILE_NOT_FOUND MEDIUM /etc/caddy/snippets/headers",
        ),
        ("settings of it", missing("/etc/session.yaml", 70.0), "FILE_NOT_FOUND HIGH /etc/session.yaml"),
        ("its data", missing("/data/orders.json", 70.0), "FILE_NOT_FOUND HIGH /data/orders.json"),
    ]);
}

#[test]
fn an_allocation_before_the_configuration_was_read() {
    let mut evidence = with(
        exited(&["php-fpm", "-y", "/etc/fpm.conf"], 60, 78),
        vec![failed("mmap", errno::ENOMEM, "", 14.0)],
    );
    evidence.opened_files = vec![opened("/etc/fpm.conf", false, 10.0)];
    assert_eq!(verdict(&evidence, None), "INVALID_CONFIGURATION MEDIUM /etc/fpm.conf");
}

#[test]
fn a_command_that_a_script_only_asks_for() {
    let looks = || {
        ["/usr/local/bin/jq", "/usr/bin/jq", "/bin/jq"]
            .map(|path| failed("newfstatat", errno::ENOENT, path, 3.0))
            .to_vec()
    };
    let script = || exited(&["sh", "/entrypoint.sh"], 10, 127);
    let mut with_program = looks();
    with_program.push(failed("execve", errno::ENOENT, "/app/bin/server", 0.2));
    check(vec![
        ("it is what ends it", with(script(), looks()), "EXEC_FAILED HIGH jq"),
        ("its program is missing", with(script(), with_program), "EXEC_FAILED HIGH /app/bin/server"),
    ]);
}

#[test]
fn a_command_that_a_child_shell_did_not_find() {
    let looks = ["/usr/local/sbin/x", "/usr/local/bin/x", "/usr/sbin/x", "/usr/bin/x"];
    let mut evidence = with(
        exited(&["python3", "/app/main.py"], 130, 1),
        looks.map(|path| by_child(failed("newfstatat", errno::ENOENT, path, 19.4))).to_vec(),
    );
    evidence.child_exits = vec![child_exit("sh", 127, 0, 19.3)];
    assert_eq!(verdict(&evidence, None), "EXEC_FAILED MEDIUM x");
    evidence.child_exits = vec![child_exit("sh", 127, 0, 0.0)];
    assert_eq!(verdict(&evidence, None), "PROGRAM_ERROR LOW exit code 1", "it searched long before its end");
}

#[test]
fn a_plug_in_is_no_library_search() {
    let module =
        |path: &str| with(exited(&["rsyslogd"], 9, 1), vec![failed("openat", errno::ENOENT, path, 0.1)]);
    check(vec![
        (
            "its own",
            module("/usr/lib/x86_64-linux-gnu/rsyslog/imkafka.so"),
            "FILE_NOT_FOUND MEDIUM /usr/lib/x86_64-linux-gnu/rsyslog/imkafka.so",
        ),
        ("of a language", module("/usr/lib/x86_64-linux-gnu/perl5/x.so"), "PROGRAM_ERROR LOW exit code 1"),
        ("a library", module("/usr/lib/x86_64-linux-gnu/rsyslog/libx.so"), "PROGRAM_ERROR LOW exit code 1"),
    ]);
}

#[test]
fn words_of_who_goes_on() {
    let python = &["python3", "/app/main.py"];
    let node = &["node", "/app/main.js", "--trace-queries"];
    check(vec![
        ("missing", said(python, &["LOG_LEVEL is not set"], &["HOME"]), "INVALID_ENVIRONMENT HIGH LOG_LEVEL"),
        (
            "missing, and done without",
            said(python, &["LOG_LEVEL is not set, using default info", "KeyError: 'b'"], &["HOME"]),
            "PROGRAM_ERROR LOW exit code 1",
        ),
        (
            "missing, and then something else",
            said(python, &["LOG_LEVEL is not set", "error: cannot reach the broker"], &["HOME"]),
            "INVALID_ENVIRONMENT MEDIUM LOG_LEVEL",
        ),
        (
            "a name of its code",
            said(python, &["NameError: name 'MAX_TRIES' is not defined"], &["HOME"]),
            "PROGRAM_ERROR LOW exit code 1",
        ),
        (
            "a key of its data",
            said(python, &["KeyError: 'ORDER_ID'"], &["HOME"]),
            "INVALID_ENVIRONMENT MEDIUM ORDER_ID",
        ),
        (
            "a key of its environment",
            said(
                python,
                &["  File \"<frozen os>\", line 679, in __getitem__", "KeyError: 'ORDER_ID'"],
                &["HOME"],
            ),
            "INVALID_ENVIRONMENT HIGH ORDER_ID",
        ),
        (
            "a word that is also an argument",
            said(&["app", "serve", "web"], &["error: invalid session for 'web'"], &[]),
            "INVALID_ARGUMENTS MEDIUM web",
        ),
        (
            "an argument",
            said(&["app", "serve", "web"], &["error: unknown command 'web'"], &[]),
            "INVALID_ARGUMENTS HIGH web",
        ),
        (
            "an option that is ignored",
            said(node, &["warn: unknown option --trace-queries, ignored", "TypeError"], &[]),
            "PROGRAM_ERROR LOW exit code 1",
        ),
        (
            "ruby's words for a variable",
            said(
                &["ruby", "/app/main.rb"],
                &["main.rb:1:in `fetch': key not found: \"REDIS_URL\" (KeyError)"],
                &["HOME"],
            ),
            "INVALID_ENVIRONMENT MEDIUM REDIS_URL",
        ),
        (
            "a module that python is to run",
            said(&["python3", "-m", "worker"], &["/usr/bin/python3: No module named worker"], &[]),
            "FILE_NOT_FOUND MEDIUM worker",
        ),
    ]);
}

#[test]
fn a_shell_that_waited_before_it_became_the_program() {
    let mut evidence = exited(&["sort", "--parallel=many"], 2_400, 2);
    assert_eq!(verdict(&evidence, None), "PROGRAM_ERROR LOW exit code 2");
    let process = evidence.process.as_ref().expect("it has one");
    let time = UnixNanos(process.exited_at.0 - 5_000_000);
    evidence.execs.push(Exec { path: "/usr/bin/sort".into(), args: process.args.clone(), time });
    assert_eq!(verdict(&evidence, None), "INVALID_ARGUMENTS MEDIUM --parallel=many");
}

#[test]
fn a_call_that_the_kernel_never_refuses() {
    let refused = |syscall: &str| {
        let failure =
            Failure { seccomp: Seccomp::Undecided, ..failed(syscall, errno::EPERM, "/data/journal", 1.0) };
        with(exited(&["app"], 50, 1), vec![failure])
    };
    check(vec![
        ("of an open file", refused("fsync"), "SECCOMP_DENIED MEDIUM fsync"),
        ("of a path", refused("openat"), "PERMISSION_DENIED MEDIUM /data/journal"),
    ]);
}

#[test]
fn a_search_for_many_files_follows_nothing() {
    let then_missing = |count: u32| {
        let mut calls = vec![failed("openat", errno::EACCES, "/etc/service.key", 12.0)];
        calls.extend((0..count).map(|number| {
            let path = format!("/usr/share/plugins/{number}.so");
            failed("openat", errno::ENOENT, &path, 4.0 - f64::from(number) / 10.0)
        }));
        with(exited(&["app"], 90, 1), calls)
    };
    check(vec![
        ("two more", then_missing(2), "FILE_NOT_FOUND MEDIUM /usr/share/plugins/1.so"),
        ("a search", then_missing(16), "PERMISSION_DENIED HIGH /etc/service.key"),
    ]);
}

#[test]
fn a_log_that_cannot_be_written_at_the_end_is_not_what_it_wanted_to_tell() {
    let full = |ms: f64| Failure {
        count: 8,
        first_before_death_ms: 1_000.0,
        ..failed("write", errno::ENOSPC, "/logs/app.log", ms)
    };
    let missing = failed("openat", errno::ENOENT, "/input/prices.csv", 0.27);
    let both = diagnose(&with(exited(&["app"], 1_010, 1), vec![missing.clone(), full(0.2)]), None);
    assert_eq!((both.cause, both.object.as_str()), (Cause::FileNotFound, "/input/prices.csv"));
    assert!(both.confidence < Confidence::High);
    // Alone, or after something that was long past, it is the reason.
    let alone = diagnose(&with(exited(&["app"], 1_010, 1), vec![full(0.2)]), None);
    assert_eq!(alone.cause, Cause::DiskFull);
    let past = Failure { first_before_death_ms: 800.0, last_before_death_ms: 800.0, ..missing };
    assert_eq!(
        diagnose(&with(exited(&["app"], 1_010, 1), vec![past, full(0.2)]), None).cause,
        Cause::DiskFull
    );
}

#[test]
fn who_connected_to_the_next_address_of_its_port_has_its_server() {
    let refused = |later: &str, ms: f64| Failure {
        later_connected: later.to_owned(),
        ..failed_at("connect", errno::ECONNREFUSED, "127.0.0.2:8500/tcp", ms)
    };
    let cause = |failure: Failure| diagnose(&with(exited(&["app"], 1_300, 5), vec![failure]), None).cause;
    assert_eq!(cause(refused("127.0.0.1:8500/tcp", 40.0)), Cause::ProgramError);
    // Another server does not stand for it, unless the program lived on with that.
    assert_eq!(cause(refused("127.0.0.1:6379/tcp", 40.0)), Cause::ConnectionFailed);
    assert_eq!(cause(refused("127.0.0.1:6379/tcp", 1_204.0)), Cause::ProgramError);
}
