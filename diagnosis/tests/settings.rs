//! A wrong setting in a file or a variable, which nothing in the kernel shows, and what is only taken for one.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::pod::{Mount, Variable};
use lastwords_diagnosis::{EvidenceRef, diagnose, errno};
use support::*;

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

#[test]
fn sentences() {
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
}
