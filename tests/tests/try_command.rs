//! `lastwords-agent try` on this machine's own kernel and programs, by each way into the kernel.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use lastwords_tests::programs::{containers_missing, release_program};
use serde_json::Value;

/// Options, command, cause, how the object begins, confidence.
type Case = (&'static [&'static str], &'static [&'static str], &'static str, &'static str, &'static str);

/// perl is in every Debian.
const CASES: &[Case] = &[
    (&["--user", "4242"], &["cat", "/etc/shadow"], "CAUSE_PERMISSION_DENIED", "/etc/shadow", "HIGH"),
    (
        &["--memory", "20Mi"],
        &["perl", "-e", "my @a; push @a, 'x' x 1048576 while 1"],
        "CAUSE_OUT_OF_MEMORY",
        "memory limit 20Mi",
        "HIGH",
    ),
    (
        &["--memory", "20Mi"],
        &["sh", "-c", "perl -e 'my @a; push @a, 2 x 1048576 while 1'; sleep 0.2; exit 3"],
        "CAUSE_OUT_OF_MEMORY",
        "memory limit 20Mi",
        "HIGH",
    ),
    (&[], &["/no/such"], "CAUSE_EXEC_FAILED", "/no/such", "HIGH"),
    (&[], &["no-such-command"], "CAUSE_EXEC_FAILED", "no-such-command", "HIGH"),
    (&[], &["/etc/passwd"], "CAUSE_EXEC_FAILED", "/etc/passwd", "HIGH"),
    (&[], &["true"], "CAUSE_COMPLETED", "exit code 0", "HIGH"),
    (&[], &["cat", "/no/such/file"], "CAUSE_FILE_NOT_FOUND", "/no/such/file", "HIGH"),
    (
        &[],
        &["sh", "-c", "cd /var; exec perl -e 'open(F, q(relative.cfg)) or exit 2'"],
        "CAUSE_FILE_NOT_FOUND",
        "/var/relative.cfg",
        "",
    ),
    (&["--read-only"], &["mkdir", "/var/new"], "CAUSE_READ_ONLY_FILESYSTEM", "/var/new", "HIGH"),
    (&[], &["perl", "-e", "kill SEGV => $$; exit 4"], "CAUSE_PROGRAM_ERROR", "exit code 4", "LOW"),
    (
        &["--timeout", "3s"],
        &["perl", "-e", "fork or exec 'sleep 9'; sleep 9; "],
        "CAUSE_KILLED",
        "SIGKILL from lastwords-agent",
        "HIGH",
    ),
    (
        &["--pids", "3"],
        &["sh", "-c", "sleep 0.2; sleep 1 & sleep 1 & sleep 1 & sleep 1 & wait"],
        "CAUSE_RESOURCE_LIMIT",
        "pids.max 3",
        "",
    ),
    (
        &[],
        &[
            "perl",
            "-MSocket",
            "-e",
            "socket(S, PF_INET, SOCK_STREAM, 0); connect(S, sockaddr_in(5432, inet_aton('127.0.0.1'))) or exit 1",
        ],
        "CAUSE_CONNECTION_FAILED",
        "127.0.0.1:5432/tcp",
        "HIGH",
    ),
    (
        &[],
        &[
            "perl",
            "-MSocket",
            "-MFcntl",
            "-e",
            "socket(S, PF_INET, SOCK_STREAM, 0); fcntl(S, F_SETFL, O_NONBLOCK); connect(S, sockaddr_in(5432, inet_aton('127.0.0.1'))); select(undef, undef, undef, 0.2); exit 1",
        ],
        "CAUSE_CONNECTION_FAILED",
        "127.0.0.1:5432/tcp",
        "",
    ),
    (
        &["--user", "4242"],
        &[
            "perl",
            "-MSocket",
            "-e",
            "socket(S, PF_INET, SOCK_STREAM, 0); bind(S, sockaddr_in(80, INADDR_ANY)) or exit 1",
        ],
        "CAUSE_PERMISSION_DENIED",
        "0.0.0.0:80/tcp",
        "HIGH",
    ),
    (
        &[],
        &[
            "perl",
            "-MSocket",
            "-e",
            "for (1, 2) { my $s; socket($s, PF_INET, SOCK_STREAM, 0); bind($s, sockaddr_in(8080, INADDR_ANY)) and listen($s, 1) or exit 1; push @s, $s }",
        ],
        "CAUSE_PORT_IN_USE",
        "0.0.0.0:8080/tcp",
        "HIGH",
    ),
];

fn try_with(way_in: &str, options: &[&str], command: &[&str]) -> Output {
    let mut agent = Command::new(release_program("lastwords-agent").unwrap());
    agent.args(["try", "-o", "json", "--way-in", way_in]).args(options);
    if !options.contains(&"--timeout") {
        // Where the disk is slow, perl needs seconds to fill its memory: it is taken back for it, page by page.
        agent.args(["--timeout", "20s"]);
    }
    agent.arg("--").args(command);
    agent.output().unwrap()
}

fn ready(test: &str) -> bool {
    let missing = containers_missing()
        .map(str::to_owned)
        .or_else(|| release_program("lastwords-agent").err().map(|error| format!("{error:#}")));
    if let Some(reason) = &missing {
        println!("SKIPPED {test}: {reason}");
    }
    missing.is_none()
}

/// What is wrong with the answer, if anything.
fn fault(way_in: &str, (options, command, cause, object, confidence): &Case) -> Option<String> {
    let output = try_with(way_in, options, command);
    let Ok(crash) = serde_json::from_slice::<Value>(&output.stdout) else {
        return Some(format!("{way_in} {command:?}: no JSON; {}", String::from_utf8_lossy(&output.stderr)));
    };
    let diagnosis = &crash["diagnosis"];
    let named = |field: &str| diagnosis[field].as_str().unwrap_or_default().to_owned();
    let right = named("cause") == *cause
        && named("object").starts_with(object)
        && named("confidence").ends_with(confidence)
        && output.status.success();
    (!right).then(|| format!("{way_in} {command:?}: {}\n{diagnosis:#}", output.status))
}

fn check_all(way_in: &str) {
    let faults: Vec<String> = CASES.iter().filter_map(|case| fault(way_in, case)).collect();
    assert!(faults.is_empty(), "{} of {} wrong:\n{}", faults.len(), CASES.len(), faults.join("\n"));
}

#[test]
fn every_death_is_explained_by_typed_tracepoints() {
    if ready("every_death_is_explained_by_typed_tracepoints") {
        check_all("tp_btf");
    }
}

#[test]
fn every_death_is_explained_by_raw_tracepoints() {
    if ready("every_death_is_explained_by_raw_tracepoints") {
        check_all("raw_tracepoint");
    }
}

#[test]
fn a_stop_and_the_kill_after_it_are_one_story() {
    if !ready("a_stop_and_the_kill_after_it_are_one_story") {
        return;
    }
    let began = Instant::now();
    let mut agent = Command::new(release_program("lastwords-agent").unwrap());
    agent.args(["try", "-o", "json", "--stop-after", "200ms", "--", "sleep", "60"]);
    let output = agent.output().unwrap();
    assert!(began.elapsed() > Duration::from_secs(10), "the grace period was not kept");
    let crash: Value = serde_json::from_slice(&output.stdout).unwrap();
    let signals = crash["signals"].as_array().unwrap();
    let term = signals.iter().find(|signal| signal["signal_name"] == "SIGTERM").unwrap();
    assert_eq!(term["delivered"], false, "PIDs 1 ignore what they have no handler for: {term}");
    assert_eq!(crash["exit"]["signal_name"], "SIGKILL");
    assert_eq!(crash["exit"]["killed_by"]["kind"], "RUNTIME", "{:#}", crash["exit"]);
}

/// The loaders of glibc and musl exit with 127 when a library is nowhere; the program itself never runs.
#[test]
fn a_library_that_the_loader_does_not_find_is_named() {
    let test = "a_library_that_the_loader_does_not_find_is_named";
    if !ready(test) {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str| place.path().join(name).display().to_string();
    fs::write(file("library.c"), "int answer(void) { return 42; }").unwrap();
    fs::write(file("program.c"), "int answer(void); int main(void) { return answer(); }").unwrap();
    let compile =
        |arguments: &[&str]| Command::new("cc").args(arguments).status().is_ok_and(|it| it.success());
    let library = file("libanswer.so");
    if !compile(&["-shared", "-Wl,-soname,libanswer.so.7", "-o", &library, &file("library.c")])
        || !compile(&["-o", &file("program"), &file("program.c"), &library])
    {
        println!("SKIPPED {test}: there is no C compiler");
        return;
    }
    let program = file("program");
    for way_in in ["tp_btf", "raw_tracepoint"] {
        for command in [vec![program.as_str()], vec!["sh", "-c", &format!("{program}; exit $?")]] {
            let output = try_with(way_in, &[], &command);
            let crash: Value = serde_json::from_slice(&output.stdout).unwrap();
            let diagnosis = &crash["diagnosis"];
            assert_eq!(
                (&diagnosis["cause"], &diagnosis["object"], &diagnosis["confidence"]),
                (&"CAUSE_EXEC_FAILED".into(), &"libanswer.so.7".into(), &"CONFIDENCE_HIGH".into()),
                "{way_in} {command:?}: {crash:#}"
            );
        }
    }
}

#[test]
fn nothing_is_left_behind() {
    if !ready("nothing_is_left_behind") {
        return;
    }
    let output = try_with("tp_btf", &["--memory", "20Mi", "--pids", "9"], &["true"]);
    let crash: Value = serde_json::from_slice(&output.stdout).unwrap();
    // Other tests' commands are still there.
    let id = crash["container"]["id"].as_str().unwrap();
    assert_eq!(id.len(), 64, "{crash:#}");
    for hierarchy in ["", "unified", "memory", "pids"] {
        let Ok(groups) = fs::read_dir(std::path::Path::new("/sys/fs/cgroup").join(hierarchy)) else {
            continue;
        };
        for group in groups.filter_map(Result::ok) {
            let name = group.file_name().to_string_lossy().into_owned();
            assert!(!name.contains(id), "{hierarchy}/{name} is still there");
        }
    }
}
