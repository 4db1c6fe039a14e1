//! A wrong argument, which nothing in the kernel shows, and what is only taken for one.

mod support;

use lastwords_diagnosis::{EvidenceRef, diagnose};
use support::*;

/// Lines as real programs write them.
#[test]
fn an_argument_that_the_log_names() {
    let wrong = |args: &[&str], code, line: &str| logged(exited(args, 12, code), &[line]);
    check(vec![
        (
            "sort",
            wrong(&["sort", "--lines=3"], 2, "sort: unrecognized option '--lines=3'"),
            "INVALID_ARGUMENTS HIGH --lines=3",
        ),
        (
            "node",
            wrong(&["node", "--nonsense", "x.js"], 9, "node: bad option: --nonsense"),
            "INVALID_ARGUMENTS HIGH --nonsense",
        ),
        (
            "Go's flag package",
            wrong(&["/app", "-v", "--lisen=:80"], 2, "flag provided but not defined: -lisen"),
            "INVALID_ARGUMENTS HIGH --lisen=:80",
        ),
        (
            "getopt",
            wrong(&["busybox", "httpd", "-f", "-Z"], 1, "httpd: invalid option -- 'Z'"),
            "INVALID_ARGUMENTS HIGH -Z",
        ),
        (
            "argparse, a value",
            wrong(
                &["python3", "/srv/main.py", "--config=a", "--port=abc"],
                2,
                "main.py: error: argument --port: invalid int value: 'abc'",
            ),
            "INVALID_ARGUMENTS HIGH --port=abc",
        ),
        (
            "argparse, one that is missing",
            wrong(
                &["python3", "/srv/main.py", "--port=1"],
                2,
                "main.py: error: the following arguments are required: --config",
            ),
            "INVALID_ARGUMENTS HIGH --config",
        ),
        (
            "the JVM",
            wrong(&["java", "-Xmx1Q", "-jar", "/a.jar"], 1, "Invalid maximum heap size: -Xmx1Q"),
            "INVALID_ARGUMENTS HIGH -Xmx1Q",
        ),
        (
            "a subcommand",
            wrong(&["openssl", "frob"], 1, "Invalid command 'frob'; type \"help\" for a list."),
            "INVALID_ARGUMENTS HIGH frob",
        ),
        (
            "an operand that no quotation marks set off",
            wrong(&["app", "serve", "fast"], 1, "invalid mode fast"),
            "INVALID_ARGUMENTS MEDIUM fast",
        ),
        (
            "how it is to be called",
            wrong(&["grep", "-Z"], 2, "Usage: grep [OPTION]... PATTERNS [FILE]..."),
            "INVALID_ARGUMENTS MEDIUM -Z",
        ),
        (
            "the file that an option names",
            read(
                wrong(&["nginx", "-c", "/bad.conf"], 1, "unknown directive \"lisen\" in /bad.conf:1"),
                &[("/bad.conf", 2.0)],
            ),
            "INVALID_CONFIGURATION HIGH /bad.conf",
        ),
    ]);
}

#[test]
fn an_argument_without_a_log() {
    let quiet = |args: &[&str], life_ms, code| exited(args, life_ms, code);
    check(vec![
        ("exit code 2", quiet(&["sort", "--bad"], 3, 2), "INVALID_ARGUMENTS MEDIUM --bad"),
        ("two options", quiet(&["app", "--a=1", "--b=2"], 3, 2), "INVALID_ARGUMENTS LOW --a=1"),
        (
            "a long one among short ones",
            quiet(&["memcached", "-u", "root", "--memory=64"], 3, 2),
            "INVALID_ARGUMENTS LOW --memory=64",
        ),
        ("at once", quiet(&["git", "--bad"], 3, 129), "INVALID_ARGUMENTS LOW --bad"),
        (
            "a script's",
            quiet(&["python3", "-u", "main.py", "--bad"], 90, 2),
            "INVALID_ARGUMENTS MEDIUM --bad",
        ),
        (
            "a script that leaves",
            quiet(&["python3", "-u", "main.py"], 30, 1),
            "PROGRAM_ERROR LOW exit code 1",
        ),
        ("a script with options", quiet(&["node", "a.js", "--a=1"], 30, 1), "PROGRAM_ERROR LOW exit code 1"),
        ("an interpreter alone", quiet(&["perl", "-Z"], 3, 29), "INVALID_ARGUMENTS LOW -Z"),
        ("a JVM", quiet(&["java", "-XX:+Bad", "-version"], 60, 1), "INVALID_ARGUMENTS LOW -XX:+Bad"),
        ("text of a program", quiet(&["python3", "-c", "exit(2)"], 20, 2), "PROGRAM_ERROR LOW exit code 2"),
        ("no option", quiet(&["false"], 1, 1), "PROGRAM_ERROR LOW exit code 1"),
        ("later", quiet(&["app", "--a=1"], 4_000, 2), "PROGRAM_ERROR LOW exit code 2"),
        (
            "a reference that Kubernetes left",
            quiet(&["app", "--host=$(DB_HOST)"], 2_000, 1),
            "INVALID_ARGUMENTS MEDIUM --host=$(DB_HOST)",
        ),
        (
            "a shell's substitution",
            quiet(&["sh", "-c", "test $(HOSTNAME)"], 2, 1),
            "PROGRAM_ERROR LOW exit code 1",
        ),
        ("a hidden one", quiet(&["app", "<redacted>"], 2, 1), "PROGRAM_ERROR LOW exit code 1"),
    ]);
}

#[test]
fn a_child_of_a_shell() {
    let mut evidence = exited(&["sh", "-c", "/usr/bin/sort --bad 2>/dev/null; exit $?"], 9, 2);
    evidence.child_exits = vec![child_exit("sort", 2, 0, 0.5)];
    assert_eq!(verdict(&evidence, None), "INVALID_ARGUMENTS MEDIUM --bad");
}

#[test]
fn sentences() {
    let evidence = logged(exited(&["sort", "--lines=3"], 3, 2), &["sort: unrecognized option '--lines=3'"]);
    let diagnosis = diagnose(&evidence, None);
    assert_eq!(
        diagnosis.summary,
        "sort ended itself with exit code 2 after 3.0 ms; its log names the argument --lines=3: \"sort: unrecognized option '--lines=3'\""
    );
    assert_eq!(
        diagnosis.remedy,
        "correct --lines=3 in spec.containers[0].args (or spec.containers[0].command)"
    );
    assert_eq!(diagnosis.evidence, [EvidenceRef::LogTail, EvidenceRef::Exit, EvidenceRef::Exec(0)]);

    assert_eq!(
        diagnose(&exited(&["sort", "--lines=3"], 3, 2), None).summary,
        "sort ended itself with exit code 2, which many programs use for a wrong command line, after 3.0 ms; it was given --lines=3, had read no configuration, and no call failed that would explain the end"
    );
}
