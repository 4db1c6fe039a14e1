//! Ends that nothing in the kernel shows: a wrong argument, setting or variable, and what is only taken for one.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::pod::{ContainerContext, Mount, Neighbour, Variable};
use lastwords_diagnosis::{EvidenceRef, PodContext, diagnose, errno};
use support::*;

fn logged(mut evidence: Evidence, lines: &[&str]) -> Evidence {
    let lines = lines.iter().map(|line| (*line).to_owned()).collect();
    evidence.log_tail = Some(LogTail { lines, ..LogTail::default() });
    evidence
}

fn read(mut evidence: Evidence, files: &[(&str, f64)]) -> Evidence {
    let opened = |(path, before_death_ms): &(&str, f64)| OpenedFile {
        path: (*path).to_owned(),
        comm: "app".to_owned(),
        before_death_ms: *before_death_ms,
        ..OpenedFile::default()
    };
    evidence.opened_files = files.iter().map(opened).collect();
    evidence
}

fn with_environment(mut evidence: Evidence, names: &[&str]) -> Evidence {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    evidence.process = evidence.process.map(|process| Process { environment_names: names, ..process });
    evidence
}

fn in_pod(mounts: Vec<Mount>, variables: Vec<Variable>) -> PodContext {
    let container = ContainerContext {
        name: "api".into(),
        field_path: "spec.containers[1]".into(),
        mounts,
        variables,
        ..ContainerContext::default()
    };
    PodContext { container, ..PodContext::default() }
}

fn app_settings() -> Mount {
    Mount {
        path: "/etc/app".into(),
        volume: "settings".into(),
        source: "configmap app-settings".into(),
        read_only: true,
    }
}

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
fn a_configuration() {
    let app = |life_ms| exited(&["/app"], life_ms, 1);
    check(vec![
        (
            "read, and left",
            read(app(40), &[("/etc/app.yaml", 2.0)]),
            "INVALID_CONFIGURATION MEDIUM /etc/app.yaml",
        ),
        (
            "the last of two",
            read(app(40), &[("/etc/a.yaml", 3.0), ("/etc/b.yaml", 2.0)]),
            "INVALID_CONFIGURATION LOW /etc/b.yaml",
        ),
        (
            "named by an argument",
            read(exited(&["/app", "--config=b.yaml"], 40, 1), &[("/etc/a.yaml", 3.0), ("/etc/b.yaml", 2.0)]),
            "INVALID_CONFIGURATION MEDIUM /etc/b.yaml",
        ),
        ("long before", read(app(5_000), &[("/etc/app.yaml", 4_000.0)]), "PROGRAM_ERROR LOW exit code 1"),
        (
            "long after the start",
            read(app(50_000), &[("/etc/app.yaml", 2.0)]),
            "PROGRAM_ERROR MEDIUM exit code 1",
        ),
        (
            "beside a call that failed",
            with(
                read(app(40), &[("/etc/app.yaml", 2.0)]),
                vec![failed("openat", errno::EACCES, "/data/x", 0.5)],
            ),
            "PERMISSION_DENIED HIGH /data/x",
        ),
        (
            "a log without trouble in it",
            logged(read(app(40), &[("/etc/app.yaml", 2.0)]), &["reading /etc/app.yaml", "hello"]),
            "INVALID_CONFIGURATION MEDIUM /etc/app.yaml",
        ),
    ]);
    let mut listening = read(app(900), &[("/etc/app.yaml", 200.0)]);
    listening.listeners =
        vec![Listener { address: "0.0.0.0:80/tcp".into(), before_death_ms: 150.0, ..Listener::default() }];
    assert_eq!(
        verdict(&listening, None),
        "PROGRAM_ERROR LOW exit code 1",
        "it was good enough to listen after"
    );
}

#[test]
fn a_log_file_names_the_configuration() {
    let mut evidence = read(exited(&["redis-server", "/etc/redis.conf"], 20, 1), &[("/etc/redis.conf", 4.0)]);
    evidence.log_files = vec![LogTail {
        lines: vec!["*** FATAL CONFIG FILE ERROR ***".into(), "Reading /etc/redis.conf, at line 1".into()],
        source: "/var/log/redis.log".into(),
        ..LogTail::default()
    }];
    let pod = in_pod(vec![Mount { path: "/etc/redis.conf".into(), ..app_settings() }], Vec::new());
    let diagnosis = diagnose(&evidence, Some(&pod));
    assert_eq!(short(&diagnosis), "INVALID_CONFIGURATION HIGH /etc/redis.conf");
    assert_eq!(
        diagnosis.summary,
        "redis-server read /etc/redis.conf (configmap app-settings, mounted at /etc/redis.conf) and ended itself with exit code 1 4.0 ms later; its log says \"*** FATAL CONFIG FILE ERROR ***\""
    );
    assert_eq!(
        diagnosis.remedy,
        "correct /etc/redis.conf in configmap app-settings, mounted at /etc/redis.conf; compare it with the version that last ran well"
    );
    assert_eq!(diagnosis.evidence, [EvidenceRef::OpenedFile(0), EvidenceRef::LogFile(0), EvidenceRef::Exit]);
}

#[test]
fn a_variable_that_the_log_names() {
    let app = |line: &str| logged(exited(&["/app"], 30, 1), &[line]);
    let known = |line: &str| with_environment(app(line), &["PATH", "DB_PORT"]);
    check(vec![
        ("python, of whatever has keys", known("KeyError: 'DB_HOST'"), "INVALID_ENVIRONMENT MEDIUM DB_HOST"),
        ("a shell", known("sh: 1: DB_HOST: parameter not set"), "INVALID_ENVIRONMENT HIGH DB_HOST"),
        (
            "in words",
            known("required environment variable DB_HOST is not set"),
            "INVALID_ENVIRONMENT HIGH DB_HOST",
        ),
        ("a value", known("invalid value of DB_PORT: abc"), "INVALID_ENVIRONMENT HIGH DB_PORT"),
        ("the variables are not known", app("DB_HOST is not set"), "INVALID_ENVIRONMENT MEDIUM DB_HOST"),
        ("it is set", known("DB_PORT is missing"), "INVALID_ENVIRONMENT MEDIUM DB_PORT"),
        ("the name of an error", known("invalid: ECONNREFUSED"), "PROGRAM_ERROR LOW exit code 1"),
        ("a code", known("unexpected state AUTH_FAILED"), "PROGRAM_ERROR LOW exit code 1"),
    ]);
}

#[test]
fn what_failed_stands_in_a_variable() {
    let named = |failure: Failure| Failure { variables: vec!["DB_HOST".into()], ..failure };
    let unknown_name = Failure {
        name: "db.prod".into(),
        address: "10.96.0.10:53/udp".into(),
        dns: Some(DnsQuery { outcome: DnsOutcome::NxDomain, ..DnsQuery::default() }),
        ..failed("recvfrom", 0, "", 3.0)
    };
    let app = || exited(&["/app"], 400, 1);
    let missing = failed("openat", errno::ENOENT, "/data/db", 3.0);
    let refused = failed_at("connect", errno::ECONNREFUSED, "10.0.0.9:5432/tcp", 3.0);
    check(vec![
        ("a name", with(app(), vec![named(unknown_name.clone())]), "INVALID_ENVIRONMENT MEDIUM DB_HOST"),
        ("no variable", with(app(), vec![unknown_name]), "DNS_FAILED HIGH db.prod"),
        ("a path", with(app(), vec![named(missing)]), "INVALID_ENVIRONMENT MEDIUM DB_HOST"),
        (
            "a server that may just be down",
            with(app(), vec![named(refused.clone())]),
            "CONNECTION_FAILED HIGH 10.0.0.9:5432/tcp",
        ),
    ]);
    let variable = Variable {
        name: "DB_HOST".into(),
        value: "10.0.0.9".into(),
        field_path: "spec.containers[1].env[3]".into(),
        ..Variable::default()
    };
    let diagnosis = diagnose(&with(app(), vec![refused]), Some(&in_pod(Vec::new(), vec![variable])));
    assert_eq!(
        diagnosis.summary,
        "app could not connect to 10.0.0.9:5432/tcp (from the variable DB_HOST), nobody listens there: connect failed with ECONNREFUSED (connection refused) 3.0 ms before it ended with exit code 1"
    );
    assert!(
        diagnosis.remedy.ends_with("; or correct the variable DB_HOST (spec.containers[1].env[3])"),
        "{}",
        diagnosis.remedy
    );
}

#[test]
fn no_identity() {
    let app = || exited(&["/app"], 400, 1);
    check(vec![
        (
            "the metadata service",
            with(app(), vec![failed_at("connect", errno::ETIMEDOUT, "169.254.169.254:80/tcp", 3.0)]),
            "IDENTITY_UNAVAILABLE HIGH 169.254.169.254:80/tcp",
        ),
        (
            "by IPv6",
            with(app(), vec![failed_at("connect", errno::ENETUNREACH, "[fd00:ec2::254]:80/tcp", 3.0)]),
            "IDENTITY_UNAVAILABLE HIGH [fd00:ec2::254]:80/tcp",
        ),
        (
            "a token",
            with(
                app(),
                vec![failed(
                    "openat",
                    errno::ENOENT,
                    "/var/run/secrets/eks.amazonaws.com/serviceaccount/token",
                    3.0,
                )],
            ),
            "IDENTITY_UNAVAILABLE MEDIUM /var/run/secrets/eks.amazonaws.com/serviceaccount/token",
        ),
        (
            "a token that may not be read",
            with(
                app(),
                vec![failed(
                    "openat",
                    errno::EACCES,
                    "/var/run/secrets/azure/tokens/azure-identity-token",
                    3.0,
                )],
            ),
            "IDENTITY_UNAVAILABLE HIGH /var/run/secrets/azure/tokens/azure-identity-token",
        ),
        (
            "a chain that moved on",
            with(
                app(),
                vec![
                    failed_at("connect", errno::ETIMEDOUT, "169.254.169.254:80/tcp", 300.0),
                    failed("openat", errno::EROFS, "/var/cache/app.db", 0.5),
                ],
            ),
            "READ_ONLY_FILESYSTEM MEDIUM /var/cache/app.db",
        ),
        (
            "by name",
            with(
                app(),
                vec![Failure {
                    name: "metadata.google.internal".into(),
                    dns: Some(DnsQuery { outcome: DnsOutcome::NxDomain, ..DnsQuery::default() }),
                    ..failed("recvfrom", 0, "", 3.0)
                }],
            ),
            "IDENTITY_UNAVAILABLE HIGH metadata.google.internal",
        ),
    ]);
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
    assert_eq!(
        diagnose(&read(exited(&["/app"], 30, 1), &[("/etc/a.yaml", 3.0), ("/etc/b.yaml", 2.0)]), None)
            .summary,
        "app read /etc/b.yaml and ended itself with exit code 1 2.0 ms later; no call failed that would explain it; before that file it had read /etc/a.yaml"
    );
    let evidence = with_environment(logged(exited(&["/app"], 30, 1), &["KeyError: 'DB_HOST'"]), &["PATH"]);
    let diagnosis = diagnose(&evidence, None);
    assert_eq!(
        diagnosis.summary,
        "app ended itself with exit code 1 after 30 ms; its log names the variable DB_HOST, which was not set: \"KeyError: 'DB_HOST'\""
    );
    assert_eq!(
        diagnosis.remedy,
        "set DB_HOST in spec.containers[0].env, or see that the ConfigMap or Secret in envFrom has that key"
    );
    let refused = failed_at("connect", errno::ECONNREFUSED, "169.254.169.254:80/tcp", 3.0);
    assert_eq!(
        diagnose(&with(exited(&["/app"], 400, 1), vec![refused]), None).summary,
        "app got no identity: nobody listens at the metadata service's address 169.254.169.254:80/tcp: connect failed with ECONNREFUSED (connection refused) 3.0 ms before it ended with exit code 1"
    );
}

#[test]
fn a_path_on_a_volume_names_what_it_is_made_of() {
    let app = || exited(&["/app"], 400, 1);
    let pod = in_pod(vec![app_settings()], Vec::new());
    let missing = with(app(), vec![failed("openat", errno::ENOENT, "/etc/app/app.yaml", 0.5)]);
    let diagnosis = diagnose(&missing, Some(&pod));
    assert_eq!(
        diagnosis.summary,
        "app did not find /etc/app/app.yaml (configmap app-settings, mounted at /etc/app): openat failed with ENOENT (no such file or directory) 500 µs before it ended with exit code 1"
    );
    assert_eq!(
        diagnosis.remedy,
        "add the key app.yaml to configmap app-settings (or to the items of the volume settings), which is mounted at /etc/app; or correct the path in spec.containers[1].args or spec.containers[1].env"
    );
    let refused = with(app(), vec![failed("openat", errno::EACCES, "/etc/app/app.yaml", 0.5)]);
    let summary = diagnose(&refused, Some(&pod)).summary;
    assert!(
        summary
            .contains("may not open /etc/app/app.yaml (configmap app-settings, mounted at /etc/app): openat"),
        "{summary}"
    );
}

#[test]
fn a_port_that_another_container_of_the_pod_has() {
    let holder = Holder {
        pid: 12,
        comm: "envoy".into(),
        container_id: "3f8a1c5d7e9b0a2c".into(),
        ..Holder::default()
    };
    let taken = Failure {
        holder: Some(holder),
        holder_looked_for: true,
        ..failed_at("bind", errno::EADDRINUSE, "0.0.0.0:8080/tcp", 0.5)
    };
    let neighbour = Neighbour {
        container_id: "3f8a1c5d7e9b0a2c".into(),
        container: "proxy".into(),
        pod: "api-7f9".into(),
        namespace: "shop".into(),
        same_pod: true,
    };
    let mut pod = PodContext { neighbours: vec![neighbour], ..in_pod(Vec::new(), Vec::new()) };
    let evidence = with(exited(&["/app"], 400, 1), vec![taken]);
    let diagnosis = diagnose(&evidence, Some(&pod));
    assert!(
        diagnosis
            .summary
            .contains("which is taken by envoy (pid 12) of the container proxy of the same pod:"),
        "{}",
        diagnosis.summary
    );
    pod.neighbours[0].same_pod = false;
    let summary = diagnose(&evidence, Some(&pod)).summary;
    assert!(summary.contains("by envoy (pid 12) of the container proxy of pod shop/api-7f9:"), "{summary}");
}

#[test]
fn an_address_that_the_machine_does_not_have() {
    let bind = |address: &str| failed_at("bind", errno::EADDRNOTAVAIL, address, 3.0);
    let app = |arguments: &[&str]| with(exited(arguments, 400, 1), vec![bind("10.9.9.9:80/tcp")]);
    check(vec![
        (
            "in an argument",
            app(&["/app", "--listen=10.9.9.9:80"]),
            "INVALID_ARGUMENTS HIGH --listen=10.9.9.9:80",
        ),
        (
            "in a file",
            read(app(&["/app"]), &[("/etc/app.yaml", 5.0)]),
            "INVALID_CONFIGURATION MEDIUM /etc/app.yaml",
        ),
        (
            "in a variable",
            with(
                exited(&["/app"], 400, 1),
                vec![Failure { variables: vec!["LISTEN".into()], ..bind("10.9.9.9:80/tcp") }],
            ),
            "INVALID_ENVIRONMENT MEDIUM LISTEN",
        ),
        (
            "IPv6 that is switched off",
            with(exited(&["/app"], 400, 1), vec![bind("[::1]:80/tcp")]),
            "PROGRAM_ERROR LOW exit code 1",
        ),
    ]);
}
