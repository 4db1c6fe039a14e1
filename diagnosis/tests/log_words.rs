//! Which lines of a log tell why a program left, and which only remark upon something.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::{diagnose, errno};
use support::*;

fn said(line: &str) -> Evidence {
    with_environment(logged(exited(&["app", "--data", "/d"], 300, 1), &[line]), &["HOME"])
}

#[test]
fn a_variable_that_is_not_set() {
    let expected = |line: &str| verdict(&said(line), None);
    for fatal in
        ["error: SENTRY_DSN is not set", "SENTRY_DSN is not set", "SENTRY_DSN must be set, see the manual"]
    {
        assert_eq!(expected(fatal), "INVALID_ENVIRONMENT HIGH SENTRY_DSN", "{fatal}");
    }
    for remark in ["SENTRY_DSN is not set, errors are not reported", "SENTRY_DSN not set (tracing is off)"] {
        assert_eq!(expected(remark), "INVALID_ENVIRONMENT MEDIUM SENTRY_DSN", "{remark}");
    }
    assert_eq!(expected("INFO SENTRY_DSN is not set, nothing else"), "INVALID_ENVIRONMENT MEDIUM SENTRY_DSN");
}

#[test]
fn what_a_shell_says_of_a_variable_in_the_scripts_words() {
    let script = |line: &str| {
        let evidence = logged(exited(&["sh", "/app/entry.sh"], 3, 2), &[line]);
        verdict(&with_environment(evidence, &["HOME"]), None)
    };
    for line in
        ["entry.sh: 3: DB_PASSWORD: must be given", "/app/entry.sh: line 3: DB_PASSWORD: the database's"]
    {
        assert!(script(line).starts_with("INVALID_ENVIRONMENT"), "{line}: {}", script(line));
        assert!(script(line).ends_with("DB_PASSWORD"), "{line}");
    }
    for line in ["entry.sh: 3: DB_PASSWORD: not found", "entry.sh: 3: MAKE: Permission denied"] {
        assert!(!script(line).starts_with("INVALID_ENVIRONMENT"), "{line}: {}", script(line));
    }
}

#[test]
fn an_option_that_was_not_given_may_be_done_without() {
    let expected = |line: &str| verdict(&said(line), None);
    assert_eq!(
        expected("flag --tls-cert not provided: serving plain HTTP"),
        "INVALID_ARGUMENTS MEDIUM --tls-cert"
    );
    assert_eq!(expected("error: required flag --tls-cert not provided"), "INVALID_ARGUMENTS HIGH --tls-cert");
}

#[test]
fn what_is_parsed_is_well() {
    let read_it = |line: &str| {
        let file = [("/etc/app/app.yaml", 20.0)];
        verdict(&read(logged(exited(&["app"], 300, 1), &[line]), &file), None)
    };
    let expected = "INVALID_CONFIGURATION MEDIUM /etc/app/app.yaml";
    for well in [
        "INFO parsed configuration /etc/app/app.yaml (1 section)",
        "loaded /etc/app/app.yaml: log level error",
        "/etc/app/app.yaml: syntax is ok",
    ] {
        assert_eq!(read_it(well), expected, "{well}");
    }
    for wrong in ["error parsing /etc/app/app.yaml", "/etc/app/app.yaml: cannot parse line 3"] {
        assert_eq!(read_it(wrong), "INVALID_CONFIGURATION HIGH /etc/app/app.yaml", "{wrong}");
    }
}

#[test]
fn a_file_is_named_by_a_line_that_tells_of_trouble() {
    let expected = |line: &str| {
        let missing = failed("openat", errno::ENOENT, "/etc/app/plugins.yaml", 30.0);
        verdict(&with(logged(exited(&["app"], 300, 1), &[line]), vec![missing]), None)
    };
    assert_eq!(expected("/etc/app/plugins.yaml: no such file"), "FILE_NOT_FOUND HIGH /etc/app/plugins.yaml");
    let remark = expected("no plugins (/etc/app/plugins.yaml), with what is built in");
    assert_ne!(remark, "FILE_NOT_FOUND HIGH /etc/app/plugins.yaml");
}

#[test]
fn a_mapped_file_that_could_not_be_filled() {
    let bus = signalled(&["app"], 300, lastwords_diagnosis::signals::SIGBUS, by(SenderKind::Kernel, "", 0));
    assert!(diagnose(&bus, None).remedy.contains("/dev/shm"));
}

#[test]
fn a_key_of_the_data_beside_a_variable_that_is_read() {
    let traced = |code: &str, name: &str| {
        let lines = ["Traceback (most recent call last):", code, &format!("KeyError: '{name}'")];
        let evidence = logged(exited(&["python3", "/app/main.py"], 300, 1), &lines);
        verdict(&with_environment(evidence, &["HOME", "CURRENCY"]), None)
    };
    let code = "    price = table[sku] * rate(os.environ['CURRENCY'])";
    assert_eq!(traced(code, "SKU_2"), "INVALID_ENVIRONMENT MEDIUM SKU_2");
    assert_eq!(traced("    host = os.environ['DB_HOST']", "DB_HOST"), "INVALID_ENVIRONMENT HIGH DB_HOST");
}
