//! What an operator meets when something is wrong: one sentence that says what to do, the documented exit code, a clean stop.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use lastwords_tests::programs::{Program, containers_missing, free_port, release_program};

/// Exit codes as docs/operations.md lists them.
const WRONG_CONFIGURATION: i32 = 64;
const UNREACHABLE: i32 = 69;
const NOT_POSSIBLE_HERE: i32 = 77;

/// What the agents and aggregators of pods get before they are killed is 30 s; ours want less.
const STOP: Duration = Duration::from_secs(5);

fn ready(test: &str) -> bool {
    if let Some(reason) = containers_missing() {
        println!("SKIPPED {test}: {reason}");
        return false;
    }
    for name in ["lastwords", "lastwords-agent", "lastwords-aggregator"] {
        if let Err(error) = release_program(name) {
            println!("SKIPPED {test}: {error:#}");
            return false;
        }
    }
    true
}

/// Runs a script in a mount namespace of its own, `$PROGRAM` being one of ours.
fn in_own_mounts(program: &str, script: &str) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).env("PROGRAM", release_program(program).unwrap());
    command.output().unwrap()
}

/// The one line on standard error, and the exit code.
fn complaint(output: &Output) -> (String, Option<i32>) {
    let text = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    (text, output.status.code())
}

fn agent_config(directory: &Path, spool: &Path, port: u16) -> std::path::PathBuf {
    let file = directory.join("agent.toml");
    let text = format!(
        "node_name = \"node1\"\naggregator = \"http://127.0.0.1:{port}\"\nspool_directory = {spool:?}\npod_logs_directory = {:?}\n",
        directory.join("pods"),
    );
    fs::write(&file, text).unwrap();
    file
}

fn start_agent(directory: &Path, spool: &Path, port: u16) -> Program {
    let config = agent_config(directory, spool, port);
    let mut command = Command::new(release_program("lastwords-agent").unwrap());
    command.arg("run").arg("--config").arg(config);
    let mut agent = Program::start(command, "lastwords-agent", directory).unwrap();
    agent.wait_for_line("watching ").unwrap();
    agent
}

#[test]
fn a_wrong_configuration_names_every_problem_at_once() {
    if !ready("a_wrong_configuration_names_every_problem_at_once") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("agent.toml");
    fs::write(&file, "aggregator = \"nowhere\"\nspool_max_bytes = -1\nnod_name = \"x\"\n").unwrap();
    let output = Command::new(release_program("lastwords-agent").unwrap())
        .arg("run")
        .arg("--config")
        .arg(&file)
        .output()
        .unwrap();
    let (text, code) = complaint(&output);
    assert_eq!(code, Some(WRONG_CONFIGURATION), "{text}");
    for problem in ["agent.toml", "aggregator", "spool_max_bytes", "nod_name"] {
        assert!(text.contains(problem), "no {problem:?} in {text}");
    }
}

#[test]
fn a_kernel_without_btf_is_told_by_name() {
    if !ready("a_kernel_without_btf_is_told_by_name") {
        return;
    }
    let hide = "mount -t tmpfs none /sys/kernel/btf && exec \"$PROGRAM\" check";
    let output = in_own_mounts("lastwords-agent", hide);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(NOT_POSSIBLE_HERE), "{text}");
    assert!(text.contains("/sys/kernel/btf/vmlinux") && text.contains("CONFIG_DEBUG_INFO_BTF"), "{text}");
}

#[test]
fn want_of_permission_says_which() {
    if !ready("want_of_permission_says_which") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // Copied, because the way to target/ may be root's alone.
    let program = directory.path().join("lastwords-agent");
    fs::copy(release_program("lastwords-agent").unwrap(), &program).unwrap();
    fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&program)
        .args(["try", "--", "true"])
        .output()
        .unwrap();
    let (text, code) = complaint(&output);
    assert_eq!(code, Some(NOT_POSSIBLE_HERE), "{text}");
    assert!(text.contains("permission") && text.contains("root"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn an_unreachable_aggregator_is_said_once_and_does_not_keep_the_agent_from_stopping() {
    if !ready("an_unreachable_aggregator_is_said_once_and_does_not_keep_the_agent_from_stopping") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let mut agent = start_agent(directory.path(), &directory.path().join("spool"), port);
    let line = agent.wait_for_line(&format!("127.0.0.1:{port}")).unwrap();
    assert!(line.contains("WARN") || line.contains("ERROR"), "{line}");
    std::thread::sleep(Duration::from_secs(3));
    let (status, took) = agent.stop().unwrap();
    let output = agent.output();
    let said =
        output.lines().filter(|line| line.contains("WARN") && line.contains(&port.to_string())).count();
    assert_eq!(said, 1, "once, not for every try:\n{output}");
    assert!(status.success() && took < STOP, "{status} after {took:?}");

    let mut command = Command::new(release_program("lastwords").unwrap());
    let output = command.args(["list", "--server", &format!("http://127.0.0.1:{port}")]).output().unwrap();
    let (text, code) = complaint(&output);
    assert_eq!((code, text.lines().count()), (Some(UNREACHABLE), 1), "{text}");
}

#[test]
fn the_agent_tells_prometheus_what_it_counts() {
    if !ready("the_agent_tells_prometheus_what_it_counts") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let config = agent_config(directory.path(), &directory.path().join("spool"), free_port().unwrap());
    let text = format!("metrics_listen = \"127.0.0.1:0\"\n{}", fs::read_to_string(&config).unwrap());
    fs::write(&config, text).unwrap();
    let mut command = Command::new(release_program("lastwords-agent").unwrap());
    command.arg("run").arg("--config").arg(config);
    let mut agent = Program::start(command, "lastwords-agent", directory.path()).unwrap();
    let line = agent.wait_for_line("metrics on http://").unwrap();
    let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: it\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let of = |state: &str| {
        let of_state = format!("lastwords_agent_probes{{state=\"{state}\"");
        let lines = answer.lines().filter(|line| line.starts_with(&of_state));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap()).sum::<u32>()
    };
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("# EOF\n"), "{answer}");
    assert!(of("active") > 0 && of("broken") == 0, "{answer}");
    assert!(answer.contains("lastwords_agent_records_dropped_total{reason=\"ring_full\"} 0"), "{answer}");
    let (status, _) = agent.stop().unwrap();
    assert!(status.success());
}

#[test]
fn a_spool_that_cannot_be_written_is_one_sentence() {
    if !ready("a_spool_that_cannot_be_written_is_one_sentence") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("not-a-directory");
    fs::write(&file, "").unwrap();
    let config = agent_config(directory.path(), &file, 1);
    let output = Command::new(release_program("lastwords-agent").unwrap())
        .arg("run")
        .arg("--config")
        .arg(config)
        .output()
        .unwrap();
    let (text, code) = complaint(&output);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("not-a-directory") && text.contains("spool_directory"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn a_full_disk_keeps_nothing_already_stored_from_being_read() {
    if !ready("a_full_disk_keeps_nothing_already_stored_from_being_read") {
        return;
    }
    // An aggregator whose disk has no room at all for a database says so and ends.
    let script = "mkdir -p /tmp/full && mount -t tmpfs -o size=4k none /tmp/full && exec \"$PROGRAM\" --no-kubernetes \
                  --listen 127.0.0.1:0 --store sqlite:/tmp/full/crashes.db";
    let output = in_own_mounts("lastwords-aggregator", script);
    let (text, code) = complaint(&output);
    assert_eq!(code, Some(1), "{text}");
    let last = text.lines().last().unwrap_or_default();
    assert!(last.contains("/tmp/full/crashes.db") && last.contains("full"), "{text}");
    let _ = fs::remove_dir("/tmp/full");
}

#[test]
fn an_agent_that_is_killed_is_told_by_the_next_one() {
    if !ready("an_agent_that_is_killed_is_told_by_the_next_one") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(release_program("lastwords-aggregator").unwrap());
    command.arg("--no-kubernetes").args(["--listen", "127.0.0.1:0", "--store"]);
    command.arg(format!("sqlite:{}", directory.path().join("crashes.db").display()));
    let mut aggregator = Program::start(command, "lastwords-aggregator", directory.path()).unwrap();
    let address = aggregator.wait_for_address().unwrap();
    let port = address.rsplit(':').next().unwrap().parse().unwrap();
    let spool = directory.path().join("spool");
    let start = |run: &str| {
        let directory = directory.path().join(run);
        fs::create_dir(&directory).unwrap();
        start_agent(&directory, &spool, port)
    };
    let nodes_until = |is_there: &dyn Fn(&str) -> bool| {
        let server = format!("http://{address}");
        let began = Instant::now();
        loop {
            let mut command = Command::new(release_program("lastwords").unwrap());
            let output = command.args(["nodes", "--server", &server]).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if is_there(&text) {
                return text;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{text}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let mut first = start("first");
    nodes_until(&|text| text.contains("node1"));
    first.kill();
    let mut second = start("second");
    second.wait_for_line("the agent before ended without being asked to").unwrap();
    nodes_until(&|text| text.contains("node1: not watched from "));
    let (status, _) = second.stop().unwrap();
    assert!(status.success());
    // One that was asked to stop leaves nothing to be said.
    let mut third = start("third");
    nodes_until(&|text| text.contains("node1") && !text.contains("not watched"));
    assert!(!third.output().contains("without being asked to"), "{}", third.output());
    assert!(third.stop().unwrap().0.success() && aggregator.stop().unwrap().0.success());
}

#[test]
fn both_programs_stop_within_five_seconds_with_streams_open() {
    if !ready("both_programs_stop_within_five_seconds_with_streams_open") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(release_program("lastwords-aggregator").unwrap());
    command.arg("--no-kubernetes").args(["--listen", "127.0.0.1:0", "--store"]);
    command.arg(format!("sqlite:{}", directory.path().join("crashes.db").display()));
    let mut aggregator = Program::start(command, "lastwords-aggregator", directory.path()).unwrap();
    let address = aggregator.wait_for_address().unwrap();
    let port = address.rsplit(':').next().unwrap().parse().unwrap();
    let mut agent = start_agent(directory.path(), &directory.path().join("spool"), port);
    let server = format!("http://{address}");
    let mut command = Command::new(release_program("lastwords").unwrap());
    command.args(["watch", "-A", "--server", &server]);
    let mut watch = Program::start(command, "lastwords-watch", directory.path()).unwrap();
    // A crash goes through while all three are connected.
    let mut command = Command::new(release_program("lastwords-agent").unwrap());
    command.args(["try", "-o", "json", "--", "cat", "/no/such/file"]);
    assert!(command.output().unwrap().status.success());
    watch.wait_for_line("/no/such/file").unwrap();
    let began = Instant::now();
    let (status, took) = aggregator.stop().unwrap();
    assert!(status.success() && took < STOP, "aggregator: {status} after {took:?}");
    let (status, took) = agent.stop().unwrap();
    assert!(status.success() && took < STOP, "agent: {status} after {took:?}");
    assert!(began.elapsed() < 2 * STOP);
}
