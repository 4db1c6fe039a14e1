//! Ends in which a shell stood above the program, or the runtime of a language below it.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::{errno, signals};
use support::*;

/// Children that ended one after another; the last of them is `CHILD`.
fn children(mut evidence: Evidence, ends: &[(&str, i32, f64)]) -> Evidence {
    let end = |(pid, (comm, code, before_death_ms)): (u32, &(&str, i32, f64))| ChildExit {
        pid,
        ..child_exit(comm, *code, 0, *before_death_ms)
    };
    evidence.child_exits = (900..).zip(ends).map(end).collect();
    if let Some(last) = evidence.child_exits.last_mut() {
        last.pid = CHILD;
    }
    evidence
}

#[test]
fn a_program_that_a_script_tries_again_and_again() {
    let missing = || {
        let failure = by_child(failed("openat", errno::ENOENT, "/shared/ready", 201.0));
        vec![Failure { comm: "cat".into(), count: 3, first_before_death_ms: 601.0, ..failure }]
    };
    let loops =
        |ends: &[(&str, i32, f64)]| with(children(exited(&["sh", "/wait.sh"], 700, 3), ends), missing());
    check(vec![
        (
            "left when the next try was due",
            loops(&[("cat", 1, 600.0), ("cat", 1, 400.0), ("cat", 1, 200.0)]),
            "FILE_NOT_FOUND MEDIUM /shared/ready",
        ),
        ("tried once", loops(&[("cat", 1, 200.0)]), "PROGRAM_ERROR LOW exit code 3"),
        (
            "went on for longer than a try takes",
            loops(&[("cat", 1, 290.0), ("cat", 1, 250.0), ("cat", 1, 200.0)]),
            "PROGRAM_ERROR LOW exit code 3",
        ),
        (
            "another program came to nothing afterwards",
            {
                let mut evidence = loops(&[("cat", 1, 600.0), ("cat", 1, 400.0), ("cat", 1, 200.0)]);
                evidence.child_exits.push(ChildExit { pid: 990, ..child_exit("app", 4, 0, 90.0) });
                evidence
            },
            "PROGRAM_ERROR LOW exit code 3",
        ),
    ]);
}

#[test]
fn a_lock_folder_that_a_script_cannot_make() {
    let script = |code| {
        let made = by_child(failed("mkdir", errno::EEXIST, "/run/sync.lock", 0.3));
        let script = children(exited(&["sh", "/sync.sh"], 10, code), &[("mkdir", 1, 0.2)]);
        with(script, vec![made])
    };
    check(vec![
        ("a code of its own", script(75), "FILE_LOCKED MEDIUM /run/sync.lock"),
        ("the code of mkdir", script(1), "FILE_LOCKED MEDIUM /run/sync.lock"),
    ]);
}

#[test]
fn a_shell_that_answers_a_wrong_argument_with_a_code_of_its_own() {
    let shell = |script: &str, ended_ms| {
        children(exited(&["sh", "-c", script], 11, 64), &[("memcached", 1, ended_ms)])
    };
    let script = "memcached -m 64 --treads=4 || exit 64";
    check(vec![
        ("at once", shell(script, 3.9), "INVALID_ARGUMENTS LOW --treads=4"),
        ("no option at all", shell("memcached || exit 64", 3.9), "PROGRAM_ERROR LOW exit code 64"),
    ]);
}

#[test]
fn a_runtime_takes_options_from_a_variable() {
    let java = |args: &[&str], life_ms, names: &[&str]| with_environment(exited(args, life_ms, 1), names);
    check(vec![
        (
            "too soon for the program",
            java(&["java", "-cp", "/app", "Main"], 6, &["PATH", "JAVA_TOOL_OPTIONS"]),
            "INVALID_ENVIRONMENT LOW JAVA_TOOL_OPTIONS",
        ),
        (
            "the program ran",
            java(&["java", "-cp", "/app", "Main"], 160, &["PATH", "JAVA_TOOL_OPTIONS"]),
            "PROGRAM_ERROR LOW exit code 1",
        ),
        (
            "no such variable",
            java(&["java", "-cp", "/app", "Main"], 6, &["PATH"]),
            "PROGRAM_ERROR LOW exit code 1",
        ),
        (
            "options on the command line too",
            java(&["java", "-cp", "/app", "-XX:+UseG1", "Main"], 6, &["JAVA_TOOL_OPTIONS"]),
            "INVALID_ARGUMENTS LOW -XX:+UseG1",
        ),
        (
            "node, whose script has options",
            with_environment(exited(&["node", "/app.js", "--port", "80"], 15, 9), &["NODE_OPTIONS"]),
            "INVALID_ENVIRONMENT LOW NODE_OPTIONS",
        ),
    ]);
}

#[test]
fn a_limit_of_the_runtime_itself() {
    let said = |args: &[&str], code, lines: &[&str]| logged(exited(args, 400, code), lines);
    check(vec![
        (
            "the JVM's heap",
            said(
                &["java", "-Xmx24m", "Main"],
                1,
                &[
                    "Exception in thread \"main\" java.lang.OutOfMemoryError: Java heap space",
                    "\tat Main.main(Main.java:2)",
                ],
            ),
            "PROGRAM_ERROR MEDIUM exit code 1",
        ),
        (
            "PHP's",
            said(
                &["php", "/app.php"],
                255,
                &[
                    "PHP Fatal error:  Allowed memory size of 134217728 bytes exhausted (tried to allocate 20480 bytes) in /app.php on line 3",
                ],
            ),
            "PROGRAM_ERROR MEDIUM exit code 255",
        ),
        (
            "a program that threw liked its options",
            said(
                &["java", "-Xmx24m", "Main"],
                1,
                &[
                    "Exception in thread \"main\" java.lang.IllegalStateException",
                    "\tat Main.main(Main.java:2)",
                ],
            ),
            "PROGRAM_ERROR LOW exit code 1",
        ),
    ]);
}

#[test]
fn what_a_line_names_of_a_command_line() {
    let said = |args: &[&str], code, line: &str| logged(exited(args, 60, code), &[line]);
    check(vec![
        (
            "one of several between commas",
            said(
                &["socat", "TCP-LISTEN:80,forkk,reuseaddr", "EXEC:cat"],
                1,
                "E parseopts_table(): unknown option \"forkk\"",
            ),
            "INVALID_ARGUMENTS HIGH TCP-LISTEN:80,forkk,reuseaddr",
        ),
        (
            "a synopsis names all, and the value is one's",
            said(
                &["/app", "--mode=worker", "--port=eighty"],
                2,
                "usage: app [--mode=NAME] [--port=NUMBER]: not a number: eighty",
            ),
            "INVALID_ARGUMENTS MEDIUM --port=eighty",
        ),
        (
            "Java's words for it",
            said(
                &["java", "-jar", "/app.jar", "--port=eighty"],
                1,
                "Exception in thread \"main\" java.lang.NumberFormatException: For input string: \"eighty\"",
            ),
            "INVALID_ARGUMENTS HIGH --port=eighty",
        ),
    ]);
}

#[test]
fn a_hint_at_help_behind_a_complaint_about_a_file() {
    let mut evidence = logged(
        exited(&["etcd", "--config-file", "/etc/etcd.yml"], 44, 1),
        &[
            "Loading server configuration from \"/etc/etcd.yml\"",
            "error verifying flags, error unmarshaling JSON: cannot unmarshal string into configYAML.snapshot-count. See 'etcd --help'",
        ],
    );
    let without = evidence.clone();
    evidence.opened_files = vec![OpenedFile {
        path: "/etc/etcd.yml".into(),
        pid: MAIN,
        before_death_ms: 2.0,
        ..OpenedFile::default()
    }];
    check(vec![
        ("the file was read", evidence, "INVALID_CONFIGURATION HIGH /etc/etcd.yml"),
        ("no file was read", without, "INVALID_ARGUMENTS MEDIUM etcd --config-file /etc/etcd.yml"),
    ]);
}

#[test]
fn a_folder_that_a_variable_names_and_what_lies_below_it() {
    let held = |path: &str, before_death_ms, name: &str| Failure {
        variables: vec![name.to_owned()],
        ..failed("newfstatat", errno::ENOENT, path, before_death_ms)
    };
    let below = || failed("newfstatat", errno::ENOENT, "/opt/python/lib/python3.11/lib-dynload", 0.2);
    let python = || exited(&["python3", "/app.py"], 20, 1);
    check(vec![
        (
            "not there",
            with(python(), vec![held("/opt/python", 0.21, "PYTHONHOME"), below()]),
            "INVALID_ENVIRONMENT MEDIUM PYTHONHOME",
        ),
        (
            "another folder",
            with(python(), vec![held("/opt/py", 0.21, "PYTHONHOME"), below()]),
            "PROGRAM_ERROR LOW exit code 1",
        ),
    ]);
}

#[test]
fn a_full_disk_of_which_only_the_log_tells_the_path() {
    let full = || with(exited(&["restic", "backup"], 800, 1), vec![failed("write", errno::ENOSPC, "", 2.6)]);
    let line = "Fatal: unable to save snapshot: write /repo/data/b3/b343-tmp-39: no space left on device";
    let cleans_up = || {
        let mut evidence = full();
        evidence.failures[0].last_before_death_ms = 5.1;
        evidence.failures.push(failed("fchmodat", errno::ENOENT, "/repo/data/b3/b343", 4.9));
        evidence
    };
    check(vec![
        ("told", logged(full(), &[line]), "DISK_FULL HIGH /repo/data/b3/b343-tmp-39"),
        ("it cleans up", logged(cleans_up(), &[line]), "DISK_FULL MEDIUM /repo/data/b3/b343-tmp-39"),
    ]);
}

#[test]
fn what_a_search_lists_is_none_of_it_missing() {
    let lua = ["/usr/share/lua/5.4/resty/redis.lua", "/app/resty/redis.lua", "/app/resty.so"];
    let looked = |(path, ms): (&&str, f64)| failed("openat", errno::ENOENT, path, ms);
    let mut lines = vec!["lua: /app/gate.lua:1: module 'resty.redis' not found:".to_owned()];
    lines.extend(lua.iter().map(|path| format!("\\x09no file '{path}'")));
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let failures = lua.iter().zip([0.3, 0.2, 0.1]).map(looked).collect();
    let perl = ["/usr/local/share/perl/5.36.0/Exporter/Heavy.pm", "/usr/share/perl5/Exporter/Heavy.pm"];
    let perl = perl.iter().map(|path| failed("newfstatat", errno::ENOENT, path, 0.8)).collect();
    check(vec![
        (
            "Lua names the module too",
            with(logged(exited(&["lua", "/app/gate.lua"], 9, 1), &lines), failures),
            "FILE_NOT_FOUND MEDIUM resty.redis",
        ),
        (
            "Perl found it in a later folder",
            with(
                logged(exited(&["perl", "/app/ship.pl", "--verbos"], 9, 2), &["Unknown option: verbos"]),
                perl,
            ),
            "INVALID_ARGUMENTS HIGH --verbos",
        ),
    ]);
}

#[test]
fn a_jvm_that_does_not_come_to_its_program() {
    let java = |args: &[&str], looked_for: &str| {
        with(
            exited(args, 90, 1),
            vec![by_other_thread(failed("newfstatat", errno::ENOENT, looked_for, 27.0))],
        )
    };
    let class = "/app/classes/com/shop/Main.class";
    let faulted = |fault_address| {
        let mut evidence = exited(&["java", "-Xms512m", "-Xmx128m", "-version"], 90, 1);
        let kernel = by(SenderKind::Kernel, "", 0);
        let fault = sent(signals::SIGSEGV, 1, kernel, 1.6);
        evidence.signals.push(Signal { fault_address, ..fault });
        evidence
    };
    check(vec![
        (
            "its class is not in the last place",
            java(&["java", "-cp", "/app/lib:/app/classes", "com.shop.Main"], class),
            "FILE_NOT_FOUND LOW /app/classes/com/shop/Main.class",
        ),
        (
            "it may be in a later one",
            java(&["java", "-cp", "/app/classes:/app/lib", "com.shop.Main"], class),
            "PROGRAM_ERROR LOW exit code 1",
        ),
        ("it faults on purpose at first", faulted(0), "INVALID_ARGUMENTS LOW -Xms512m"),
        ("it faults in its program", faulted(0x10), "PROGRAM_ERROR MEDIUM SIGSEGV at 0x10"),
    ]);
}

#[test]
fn settings_that_are_checked_all_at_once() {
    let said = |lines: &[&str]| {
        with_environment(
            logged(exited(&["python3", "/app.py"], 300, 1), lines),
            &["PATH", "APP_WORKERS", "NAME"],
        )
    };
    let wrong = "  Input should be a valid integer, unable to parse string as an integer";
    check(vec![
        (
            "by the variable",
            said(&["1 validation error for Settings", "APP_WORKERS", wrong]),
            "INVALID_ENVIRONMENT MEDIUM APP_WORKERS",
        ),
        (
            "by the field",
            said(&["1 validation error for Settings", "workers", wrong]),
            "INVALID_ENVIRONMENT MEDIUM APP_WORKERS",
        ),
        (
            "no such variable",
            said(&["1 validation error for Order", "amount", wrong]),
            "PROGRAM_ERROR LOW exit code 1",
        ),
    ]);
}

#[test]
fn another_server_was_connected_to_and_worked_with() {
    let read = |connected: &str, read_ms| {
        let refused = Failure {
            later_connected: connected.into(),
            ..failed_at("connect", errno::ECONNREFUSED, "127.0.0.1:9092/tcp", 12.3)
        };
        let mut evidence = with(exited(&["python3", "/app/consume.py"], 60, 1), vec![refused]);
        evidence.opened_files = vec![OpenedFile {
            path: "/app/topics.json".into(),
            pid: MAIN,
            before_death_ms: read_ms,
            ..OpenedFile::default()
        }];
        evidence
    };
    check(vec![
        ("and read on", read("127.0.0.1:9093/tcp", 12.2), "INVALID_CONFIGURATION MEDIUM /app/topics.json"),
        ("and no more", read("127.0.0.1:9093/tcp", 20.0), "CONNECTION_FAILED MEDIUM 127.0.0.1:9092/tcp"),
    ]);
}

#[test]
fn a_log_that_tells_of_a_name_which_was_not_resolved() {
    let git = |lines: &[&str]| {
        let asked =
            Failure { count: 2, ..failed_at("connect", errno::ENETUNREACH, "10.96.0.10:53/udp", 31.9) };
        let shell = children(
            exited(&["sh", "-c", "git clone x || exit 1"], 60, 3),
            &[("git-remote-http", 128, 31.5)],
        );
        with(logged(shell, lines), vec![by_child(asked)])
    };
    let line = "fatal: unable to access 'https://git.example/': Could not resolve host: git.example";
    check(vec![
        ("told", git(&[line]), "DNS_FAILED MEDIUM 10.96.0.10:53/udp"),
        ("silent", git(&[]), "DNS_FAILED LOW 10.96.0.10:53/udp"),
    ]);
}
