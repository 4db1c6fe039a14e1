//! Noise does not win over what tells, and what is lost is counted to the last one.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use lastwords_tests::containers::Container;
use lastwords_tests::lastwords::Lastwords;
use lastwords_tests::patience::until;
use lastwords_tests::programs::{Program, is_ready, release_program};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// Calls that fail and say nothing.
const NOISE: u64 = 100_000;
/// More programs than the ring buffer has room for: their records take 1.4 KiB each, and the ring 4 MiB.
const PROGRAMS: usize = 4000;
/// Containers that live and die while nobody reads the ring.
const UNHEARD: usize = 20;

/// `dies` where any user can execute it.
fn dies() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("dies");
    fs::copy(release_program("dies").unwrap(), &program).unwrap();
    (directory, program)
}

/// What `try` says of a user's program that fails to read `/etc/shadow`, takes the steps and leaves with code 1.
fn refused_and(steps: &[&str]) -> Value {
    let (_directory, program) = dies();
    let mut agent = Command::new(release_program("lastwords-agent").unwrap());
    agent.args(["try", "-o", "json", "--user", "4242", "--"]).arg(program);
    let output = agent.arg("open /etc/shadow").args(steps).arg("exit 1").output().unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("no JSON; {}", String::from_utf8_lossy(&output.stderr)))
}

fn number(value: &Value) -> u64 {
    value
        .as_str()
        .map_or_else(|| value.as_u64(), |text| text.parse().ok())
        .unwrap_or_else(|| panic!("{value}"))
}

/// Every failure that was made: those that are shown, repeats counted, and those that newer ones replaced.
fn made(crash: &Value) -> u64 {
    let shown: u64 =
        crash["failures"].as_array().unwrap().iter().map(|failure| number(&failure["count"])).sum();
    shown + number(&crash["losses"]["failures_overwritten"]) + number(&crash["losses"]["torn_entries"])
}

fn assert_refusal_is_told(crash: &Value) {
    let failures = crash["failures"].as_array().unwrap();
    let refused: Vec<_> = failures.iter().filter(|failure| failure["errno_name"] == "EACCES").collect();
    let [refused] = refused.as_slice() else { panic!("{} refusals: {failures:#?}", refused.len()) };
    assert_eq!((&refused["path"], number(&refused["count"])), (&"/etc/shadow".into(), 1), "{refused:#}");
    assert_eq!(crash["exit"]["code"], 1);
}

#[test]
fn a_hundred_thousand_missing_files_do_not_hide_the_one_refusal() {
    if !is_ready("a_hundred_thousand_missing_files_do_not_hide_the_one_refusal", &["lastwords-agent", "dies"])
    {
        return;
    }
    // What the loader does not find on its way to the program is the same in each run.
    let quiet = made(&refused_and(&[]));
    let crash = refused_and(&[&format!("look-around {NOISE}")]);
    assert_refusal_is_told(&crash);
    assert_eq!(made(&crash), quiet + NOISE, "{:#}", crash["losses"]);
    assert!(number(&crash["losses"]["failures_overwritten"]) >= NOISE - 16, "{:#}", crash["losses"]);

    // The same on several processors at once.
    let crash = refused_and(&[&format!("look-around-on 4 {}", NOISE / 4)]);
    assert_refusal_is_told(&crash);
    assert_eq!(made(&crash), quiet + NOISE, "{:#}", crash["losses"]);
}

/// The counters that the agent says at its end, by name.
fn counted(agent: &Program, name: &str) -> u64 {
    let output = agent.output();
    let last = output.lines().rfind(|line| line.contains("stopped; ")).unwrap_or_else(|| panic!("{output}"));
    let value = last.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.map_or(0, |value| value.parse().unwrap())
}

#[test]
fn what_a_full_ring_buffer_drops_is_counted_exactly() {
    if !is_ready(
        "what_a_full_ring_buffer_drops_is_counted_exactly",
        &["lastwords", "lastwords-agent", "lastwords-aggregator"],
    ) {
        return;
    }
    let mut lastwords = Lastwords::alone().unwrap();
    let agent = Pid::from_raw(lastwords.agent().pid().cast_signed());
    let unheard_end = Container::start(&["/bin/busybox", "sleep", "3600"]).unwrap();
    let lives_on = Container::start(&["/bin/busybox", "sleep", "3600"]).unwrap();
    // From here on nobody reads the ring.
    kill(agent, Signal::SIGSTOP).unwrap();
    let mut command = ["/bin/busybox", "env"].repeat(PROGRAMS);
    command.extend(["/bin/busybox", "false"]);
    let busy = Container::start(&command).unwrap();
    let (_, status) = busy.wait().unwrap();
    assert_eq!(status.code(), Some(1));
    for _ in 0..UNHEARD {
        Container::start(&["/bin/busybox", "false"]).unwrap().wait().unwrap();
    }
    kill(Pid::from_raw(unheard_end.pid().cast_signed()), Signal::SIGKILL).unwrap();
    until("it is a zombie", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", unheard_end.pid())).ok()?;
        stat.contains(") Z ").then_some(())
    });
    kill(agent, Signal::SIGCONT).unwrap();
    // Sooner or later it is heard again; until it has read what stands in the ring, more is dropped.
    let mut later = Vec::new();
    until("a container after the flood is reported", || {
        later.push(Container::start(&["/bin/busybox", "false"]).unwrap().wait().unwrap().0);
        let list = lastwords.ask_json(&["list", "-A", "--all", "--limit", "10000"]).ok()?;
        let crashes = list["crashes"].as_array()?;
        let is_later = |crash: &Value| later.iter().any(|id| crash["container"]["id"] == id.as_str());
        crashes.iter().any(is_later).then_some(())
    });
    // That its group goes is heard, its end was not.
    let (unheard_end, _) = unheard_end.wait().unwrap();
    let crash = until("the container whose end was dropped is reported", || {
        let list = lastwords.ask_json(&["list", "-A", "--all", "--limit", "10000"]).ok()?;
        let mut crashes = list["crashes"].as_array()?.iter();
        crashes.find(|crash| crash["container"]["id"] == unheard_end.as_str()).cloned()
    });
    assert_eq!(crash["exit"], Value::Null, "nobody saw it: {crash:#}");
    // Whoever lived at that time is told with it, however many were before; whoever was made later is not.
    kill(Pid::from_raw(lives_on.pid().cast_signed()), Signal::SIGKILL).unwrap();
    let (lives_on, _) = lives_on.wait().unwrap();
    let lost = |id: &str| {
        until("it is reported", || {
            let list = lastwords.ask_json(&["list", "-A", "--all", "--limit", "10000"]).ok()?;
            let mut crashes = list["crashes"].as_array()?.iter();
            let crash = crashes.find(|crash| crash["container"]["id"] == id)?;
            Some(number(&crash["losses"]["ring_records_dropped"]))
        })
    };
    assert!(lost(&lives_on) > 0 && lost(&lives_on) >= lost(&unheard_end) && lost(&unheard_end) > 0);
    let (after, _) = Container::start(&["/bin/busybox", "false"]).unwrap().wait().unwrap();
    assert_eq!(lost(&after), 0);
    let (status, _) = lastwords.agent().stop().unwrap();
    assert!(status.success(), "{status}");
    let agent = lastwords.agent();
    let [made, received, dropped] =
        ["ring_records_made", "ring_records", "ring_records_dropped"].map(|name| counted(agent, name));
    println!("{made} records made, {received} received, {dropped} dropped");
    assert_eq!(received + dropped, made, "every record is either received or counted as dropped");
    // One for each program, and for each container its group's making and removal, its program and its end.
    let sent = PROGRAMS as u64 + 4 * (3 + UNHEARD + later.len()) as u64;
    assert!(made >= sent, "{made} of at least {sent}");
    assert!(dropped > 0 && received > 0, "{received} received, {dropped} dropped");
}
