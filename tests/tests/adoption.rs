//! Containers that ran before the agent did: their later failures are theirs, and their reports say that the beginning was not seen.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::fs::{self, OpenOptions};

use lastwords_agent_common::limits::GROUP_PLACES;
use lastwords_tests::containers::{Container, Group};
use lastwords_tests::lastwords::Lastwords;
use lastwords_tests::patience::until;
use lastwords_tests::programs::{is_ready, release_program};
use nix::sys::stat::Mode;
use serde_json::{Value, json};

/// One that was there before.
struct Earlier {
    container: Container,
    /// What it looks for at its end.
    path: String,
    code: i32,
}

/// Starts `dies`, which waits at the gate, looks for a file of its own and leaves with a code of its own.
fn start(group: Group, gate: &str, number: i32) -> Earlier {
    let program = release_program("dies").unwrap();
    let path = format!("/no/such/file/{number}");
    let (open, exit) = (format!("open {path}"), format!("exit {number}"));
    let command = [program.to_str().unwrap(), &format!("open {gate}"), &open, &exit];
    Earlier { container: Container::start_in(group, &command).unwrap(), path, code: number }
}

/// Whether it is at its gate: asleep, and the program that it is to be.
fn waits(container: &Container) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", container.pid())).unwrap_or_default();
    stat.contains("(dies) S ")
}

/// All evidence of its death.
fn crash_of(lastwords: &Lastwords, id: &str) -> Value {
    let listed = until(&format!("the death of {id}"), || {
        let list = lastwords.ask_json(&["list", "-A", "--all", "--limit", "10000"]).ok()?;
        list["crashes"].as_array()?.iter().find(|crash| crash["container"]["id"] == id).cloned()
    });
    lastwords.ask_json(&["get", listed["id"].as_str().unwrap()]).unwrap()
}

#[test]
fn containers_that_ran_before_the_agent_are_told_apart() {
    if !is_ready(
        "containers_that_ran_before_the_agent_are_told_apart",
        &["lastwords", "lastwords-agent", "lastwords-aggregator", "dies"],
    ) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let gate = directory.path().join("gate");
    nix::unistd::mkfifo(&gate, Mode::from_bits_truncate(0o600)).unwrap();
    let gate = gate.to_str().unwrap();

    let plain = Group::make().unwrap();
    // Two whose groups have one place in the table that stands before the map of groups, so that both have to be looked up.
    let same =
        Group::make_beside(&plain, u64::from(GROUP_PLACES)).unwrap().expect("a group of the same place");
    let mut earlier = vec![start(plain, gate, 3), start(same, gate, 4)];
    let mut nested = start(Group::make().unwrap(), gate, 5);
    let mut nested_later = start(Group::make().unwrap(), gate, 6);
    nested.container.nest().unwrap();
    let empty = Group::make().unwrap();
    until("all wait at the gate", || {
        earlier.iter().chain([&nested, &nested_later]).all(|one| waits(&one.container)).then_some(())
    });
    let lastwords = Lastwords::alone().unwrap();
    nested_later.container.nest().unwrap();
    earlier.extend([nested, nested_later]);

    // As long as it is open for writing nobody waits, should somebody have been late.
    let release = OpenOptions::new().write(true).open(gate).unwrap();
    for Earlier { container, path, code } in earlier {
        let pid = container.pid();
        let (id, status) = container.wait().unwrap();
        assert_eq!(status.code(), Some(code));
        let crash = crash_of(&lastwords, &id);
        assert_eq!(
            (&crash["exit"]["code"], &crash["process"]["pid"]),
            (&json!(code), &json!(pid)),
            "{crash:#}"
        );
        assert_eq!(crash["process"]["args"][2], format!("open {path}"), "{crash:#}");
        assert_eq!(crash["losses"]["agent_started_later"], true, "{crash:#}");
        assert_eq!(crash["losses"]["recorder_missing"], false, "{crash:#}");
        let paths: Vec<_> = crash["failures"].as_array().unwrap().iter().map(|it| &it["path"]).collect();
        assert_eq!(paths, [path.as_str()], "its own, once, and nobody else's");
    }

    // Nobody was in this one before: all of its life was seen.
    let Earlier { container, path, code } = start(empty, gate, 7);
    let (id, status) = container.wait().unwrap();
    assert_eq!(status.code(), Some(code));
    drop(release);
    let crash = crash_of(&lastwords, &id);
    assert_eq!(crash["losses"]["agent_started_later"], false, "{crash:#}");
    assert_eq!(crash["process"]["args"][2], format!("open {path}"), "{crash:#}");
    let failures = crash["failures"].as_array().unwrap();
    assert!(failures.iter().any(|failure| failure["path"] == path.as_str()), "{failures:#?}");
}
