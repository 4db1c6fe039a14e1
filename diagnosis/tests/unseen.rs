//! What deaths that nobody had tuned the rules for got wrong at first.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::{errno, signals};
use support::*;

#[test]
fn what_a_command_line_names_in_other_ways() {
    let jar = || by_other_thread(failed("newfstatat", errno::ENOENT, "/app/lib/app.jar", 88.0));
    check(vec![
        (
            "a jar in a class path, looked for by a thread that is not the one that ends a JVM",
            with(exited(&["java", "-cp", "/app/lib/app.jar:/app/classes", "Main"], 340, 1), vec![jar()]),
            "FILE_NOT_FOUND LOW /app/lib/app.jar",
        ),
        (
            "a word of an argument",
            with(
                exited(&["sqlite3", "/data/app.db", ".read /app/schema.sql"], 20, 1),
                vec![
                    failed("access", errno::ENOENT, "/data/app.db", 0.19),
                    failed("newfstatat", errno::ENOENT, "/app/schema.sql", 0.04),
                ],
            ),
            "FILE_NOT_FOUND MEDIUM /app/schema.sql",
        ),
        (
            "a command that is searched for as a program of its own",
            with(
                exited(&["git", "cloone", "/a"], 12, 1),
                vec![failed("newfstatat", errno::ENOENT, "/usr/bin/git-cloone", 8.7)],
            ),
            "INVALID_ARGUMENTS MEDIUM cloone",
        ),
    ]);
}

#[test]
fn an_allocation_that_was_done_without() {
    let refused = || failed("mmap", errno::ENOMEM, "", 22.0);
    let folder = || failed("newfstatat", errno::ENOENT, "/app/public", 8.0);
    let php = || exited(&["php", "-S", "127.0.0.1:80", "-t", "/app/public"], 110, 1);
    check(vec![
        (
            "it came to its folder",
            with(php(), vec![refused(), folder()]),
            "FILE_NOT_FOUND MEDIUM /app/public",
        ),
        (
            "it came to nothing, and no limit is set",
            with(php(), vec![refused()]),
            "PROGRAM_ERROR LOW exit code 1",
        ),
        (
            "the limit is known",
            with(php(), vec![Failure { name: "RLIMIT_AS 1073741824".into(), ..refused() }]),
            "RESOURCE_LIMIT MEDIUM RLIMIT_AS 1073741824",
        ),
        (
            "small pieces were refused too",
            with(php(), vec![Failure { count: 3, last_before_death_ms: 0.4, ..refused() }]),
            "RESOURCE_LIMIT HIGH RLIMIT_AS or memory overcommit",
        ),
    ]);
}

#[test]
fn a_child_of_what_the_main_process_was_before() {
    let mut evidence = with(
        exited(&["cat", "/app/tenants.conf"], 234, 1),
        vec![
            by_child(failed("mkdir", errno::EROFS, "/var/cache/app", 205.6)),
            failed("openat", errno::ENOENT, "/app/tenants.conf", 0.05),
        ],
    );
    evidence.child_exits = vec![child_exit("mkdir", 1, 0, 205.4)];
    assert_eq!(verdict(&evidence, None), "READ_ONLY_FILESYSTEM MEDIUM /var/cache/app", "a child of its own");
    let process = evidence.process.as_ref().expect("it has one");
    let became = UnixNanos(process.exited_at.0 - 2_000_000);
    evidence.execs.push(Exec { path: "/bin/cat".into(), args: process.args.clone(), time: became });
    assert_eq!(verdict(&evidence, None), "FILE_NOT_FOUND HIGH /app/tenants.conf");
}

#[test]
fn a_command_that_a_pipelines_child_did_not_find() {
    let look = |folder: &str| by_child(failed("newfstatat", errno::ENOENT, &format!("{folder}/jqq"), 1.3));
    let mut evidence = with(exited(&["bash", "/app/run.sh"], 7, 127), vec![look("/usr/bin"), look("/bin")]);
    evidence.child_exits = vec![child_exit("bash", 127, 0, 1.1)];
    assert_eq!(verdict(&evidence, None), "EXEC_FAILED HIGH jqq");
    evidence.child_exits = vec![child_exit("bash", 1, 0, 1.1)];
    assert_eq!(verdict(&evidence, None), "PROGRAM_ERROR LOW exit code 127");
}

#[test]
fn a_module_in_none_of_perls_folders() {
    let look = |folder: &str| failed("newfstatat", errno::ENOENT, &format!("{folder}/Orders/Client.pm"), 8.6);
    let places = ["/usr/share/perl5", "/usr/lib/x86_64-linux-gnu/perl-base", "/usr/local/lib/site_perl"];
    let perl = || exited(&["perl", "/app/job.pl"], 27, 2);
    check(vec![
        (
            "slow to leave",
            with(perl(), places.iter().map(|place| look(place)).collect()),
            "FILE_NOT_FOUND MEDIUM /usr/local/lib/site_perl/Orders/Client.pm",
        ),
        (
            "it was in the last of them",
            with(perl(), places[..2].iter().map(|place| look(place)).collect()),
            "PROGRAM_ERROR LOW exit code 2",
        ),
    ]);
}

#[test]
fn ends_by_signals_that_nobody_sent() {
    let kernel = || by(SenderKind::Kernel, "", 0);
    let mut piped = exited(&["bash", "-c", "yes | head"], 20, 141);
    piped.child_exits = vec![child_exit("yes", 0, signals::SIGPIPE, 0.5)];
    check(vec![
        (
            "the hard limit on processor time",
            signalled(&["perl"], 1_060, signals::SIGKILL, kernel()),
            "RESOURCE_LIMIT MEDIUM RLIMIT_CPU",
        ),
        (
            "sooner than any such limit",
            signalled(&["perl"], 400, signals::SIGKILL, kernel()),
            "KILLED HIGH SIGKILL from the kernel",
        ),
        ("a pipe whose reader left", piped, "PROGRAM_ERROR LOW exit code 141"),
    ]);
}

#[test]
fn folders_as_locks() {
    let mkdir = |path| with(exited(&["backup"], 20, 1), vec![failed("mkdir", errno::EEXIST, path, 0.3)]);
    check(vec![
        ("named for it", mkdir("/data/backup.lock"), "FILE_LOCKED MEDIUM /data/backup.lock"),
        ("where locks lie", mkdir("/run/lock"), "PROGRAM_ERROR LOW exit code 1"),
    ]);
}

#[test]
fn capabilities_as_the_object() {
    let lacks = |syscall: &str, path: &str, capability: &str| Failure {
        capability: capability.to_owned(),
        ..failed(syscall, errno::EPERM, path, 0.1)
    };
    let filtered =
        |syscall: &str| Failure { seccomp: Seccomp::Undecided, ..failed(syscall, errno::EPERM, "", 0.1) };
    check(vec![
        (
            "no owner decides a mount",
            with(exited(&["mount"], 5, 32), vec![lacks("mount", "/mnt", "CAP_SYS_ADMIN")]),
            "PERMISSION_DENIED HIGH CAP_SYS_ADMIN",
        ),
        (
            "over netlink",
            with(exited(&["ip", "link"], 37, 2), vec![lacks("sendmsg", "", "CAP_NET_ADMIN")]),
            "PERMISSION_DENIED MEDIUM CAP_NET_ADMIN",
        ),
        (
            "the kernel has no reason of its own to refuse it",
            with(exited(&["setarch"], 3, 1), vec![filtered("personality")]),
            "SECCOMP_DENIED MEDIUM personality",
        ),
    ]);
}

#[test]
fn last_words_of_interpreters() {
    let said = |args: &[&str], lines: &[&str], variables: &[&str]| {
        let mut evidence = exited(args, 40, 1);
        evidence.log_tail = Some(LogTail {
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            ..LogTail::default()
        });
        let process = evidence.process.as_mut().expect("it has one");
        process.environment_names = variables.iter().map(|name| (*name).to_owned()).collect();
        evidence
    };
    let traceback = [
        "Traceback (most recent call last):",
        "  File \"/app/main.py\", line 2, in <module>",
        "    port = int(os.environ[\"PORT\"])",
        "ValueError: invalid literal for int() with base 10: '80a'",
    ];
    let python = &["python3", "/app/main.py"];
    check(vec![
        (
            "a package",
            said(python, &["ModuleNotFoundError: No module named 'flask'"], &[]),
            "FILE_NOT_FOUND MEDIUM flask",
        ),
        ("a variable's value", said(python, &traceback, &["PORT"]), "INVALID_ENVIRONMENT MEDIUM PORT"),
        ("a variable that is not set", said(python, &traceback, &["HOME"]), "PROGRAM_ERROR LOW exit code 1"),
    ]);
}

#[test]
fn a_program_whose_beginning_was_not_heard_was_started_all_the_same() {
    let looked_for = failed("execve", errno::ENOENT, "/usr/local/bin/tool", 30_000.0);
    let mut evidence = with(exited(&["app"], 60_000, 1), vec![by_child(looked_for)]);
    // The record of it was dropped with a full ring buffer.
    evidence.execs.clear();
    let diagnosis = lastwords_diagnosis::diagnose(&evidence, None);
    assert_eq!(diagnosis.object, "exit code 1", "{}", diagnosis.summary);
}

#[test]
fn a_name_server_that_was_only_made_ready_to_be_asked() {
    let server = |count| Failure {
        count,
        first_before_death_ms: 1.5,
        ..failed_at("connect", errno::ENETUNREACH, "10.96.0.10:53/udp", 1.2)
    };
    let proxy = |failures| {
        let mut evidence = with(exited(&["haproxy", "-f", "/etc/haproxy.cfg"], 290, 1), failures);
        evidence.opened_files = vec![OpenedFile {
            path: "/etc/haproxy.cfg".into(),
            pid: MAIN,
            before_death_ms: 149.0,
            ..OpenedFile::default()
        }];
        evidence
    };
    check(vec![
        ("once", proxy(vec![server(1)]), "INVALID_CONFIGURATION MEDIUM /etc/haproxy.cfg"),
        ("as a resolver tries", proxy(vec![server(2)]), "DNS_FAILED MEDIUM 10.96.0.10:53/udp"),
    ]);
}

#[test]
fn a_port_that_the_program_serves_itself() {
    let taken = |pid, before_death_ms| Failure {
        holder: Some(Holder { pid, same_container: true, ..Holder::default() }),
        ..failed_at("bind", errno::EADDRINUSE, "0.0.0.0:8080/tcp", before_death_ms)
    };
    check(vec![
        (
            "asked for, and worked on",
            with(exited(&["app"], 800, 4), vec![taken(MAIN, 740.0)]),
            "PROGRAM_ERROR LOW exit code 4",
        ),
        (
            "asked for twice, and left",
            with(exited(&["app"], 800, 4), vec![taken(MAIN, 3.0)]),
            "PORT_IN_USE HIGH 0.0.0.0:8080/tcp",
        ),
        (
            "somebody else's",
            with(exited(&["app"], 800, 4), vec![taken(CHILD, 740.0)]),
            "PORT_IN_USE MEDIUM 0.0.0.0:8080/tcp",
        ),
    ]);
}

#[test]
fn an_entrypoint_says_what_must_be_given() {
    let mut evidence = exited(&["sh", "/docker-entrypoint.sh", "postgres"], 20, 1);
    let lines = [
        "Error: Database is uninitialized and superuser password is not specified.",
        "       You must specify POSTGRES_PASSWORD to a non-empty value for the",
        "       superuser. For example, \"-e POSTGRES_PASSWORD=<redacted>\" on \"docker run\".",
    ];
    evidence.log_tail = Some(LogTail { lines: lines.map(str::to_owned).to_vec(), ..LogTail::default() });
    assert_eq!(verdict(&evidence, None), "INVALID_ENVIRONMENT MEDIUM POSTGRES_PASSWORD");
}

#[test]
fn what_a_program_is_told_by_a_variable_or_lacks() {
    let said = |args: &[&str], lines: &[&str], variables: &[&str]| {
        let mut evidence = exited(args, 40, 1);
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        evidence.log_tail = Some(LogTail { lines, ..LogTail::default() });
        let process = evidence.process.as_mut().expect("it has one");
        process.environment_names = variables.iter().map(|name| (*name).to_owned()).collect();
        evidence
    };
    let jvm = [
        "Picked up JAVA_TOOL_OPTIONS: -XX:+UseConcMarkSweepGC",
        "Unrecognized VM option 'UseConcMarkSweepGC'",
        "Error: Could not create the Java Virtual Machine.",
        "Error: A fatal exception has occurred. Program will exit.",
    ];
    let started = ["Picked up JAVA_TOOL_OPTIONS: -Xmx512m", "unknown colour: blau"];
    check(vec![
        (
            "a JVM's options",
            said(&["java", "-jar", "/app.jar"], &jvm, &["JAVA_TOOL_OPTIONS"]),
            "INVALID_ENVIRONMENT MEDIUM JAVA_TOOL_OPTIONS",
        ),
        (
            "on its command line",
            said(&["java", "-XX:+UseConcMarkSweepGC", "-jar", "/app.jar"], &jvm, &["JAVA_TOOL_OPTIONS"]),
            "INVALID_ARGUMENTS HIGH -XX:+UseConcMarkSweepGC",
        ),
        (
            "a JVM that started with them",
            said(&["java", "-jar", "/app.jar"], &started, &["JAVA_TOOL_OPTIONS"]),
            "PROGRAM_ERROR LOW exit code 1",
        ),
        (
            "asked for",
            said(&["node", "/app.js"], &["Please set STRIPE_SECRET_KEY before starting"], &["HOME"]),
            "INVALID_ENVIRONMENT MEDIUM STRIPE_SECRET_KEY",
        ),
    ]);
}

#[test]
fn who_looked_beside_a_named_file_has_understood_its_command_line() {
    let sqlite = |looked_for: &str| {
        let evidence = exited(&["sqlite3", "-bail", "/data/app.db", "insert into t values (-1)"], 6, 19);
        with(evidence, vec![failed("newfstatat", errno::ENOENT, looked_for, 0.1)])
    };
    check(vec![
        ("elsewhere", sqlite("/root/.sqliterc"), "INVALID_ARGUMENTS LOW -bail"),
        ("beside it", sqlite("/data/app.db-journal"), "PROGRAM_ERROR LOW exit code 19"),
    ]);
}

#[test]
fn a_connection_done_without_before_the_settings_are_read() {
    let read = |before_death_ms| {
        let refused = failed_at("connect", errno::ECONNREFUSED, "127.0.0.1:8126/tcp", 402.0);
        let mut evidence = with(exited(&["node", "/app/main.js"], 790, 1), vec![refused]);
        evidence.opened_files = vec![OpenedFile {
            path: "/app/settings.json".into(),
            pid: MAIN,
            before_death_ms,
            ..OpenedFile::default()
        }];
        evidence
    };
    check(vec![
        ("read afterwards", read(2.0), "INVALID_CONFIGURATION MEDIUM /app/settings.json"),
        ("read before", read(420.0), "CONNECTION_FAILED MEDIUM 127.0.0.1:8126/tcp"),
    ]);
}

#[test]
fn settings_that_the_command_line_names_are_its_own_however_early_they_were_read() {
    let proxy = |path: &str| {
        let mut evidence = exited(&["haproxy", "-f", "/etc/haproxy.cfg"], 100, 1);
        evidence.opened_files =
            vec![OpenedFile { path: path.into(), pid: MAIN, before_death_ms: 80.0, ..OpenedFile::default() }];
        evidence
    };
    let mut application = proxy("/app/config/production.json");
    application.process.as_mut().unwrap().args = vec!["node".into(), "/app/server.js".into()];
    check(vec![
        ("named", proxy("/etc/haproxy.cfg"), "INVALID_CONFIGURATION MEDIUM /etc/haproxy.cfg"),
        ("a runtime's", proxy("/etc/tracing.cfg"), "PROGRAM_ERROR LOW exit code 1"),
        ("an application's own", application, "INVALID_CONFIGURATION LOW /app/config/production.json"),
    ]);
}
