//! Deaths that are easily told wrong: threads that leave in any order, process ids that come again, five hundred at once. Each is told
//! once, as wait(2) tells it to the parent.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use lastwords_tests::containers::Container;
use lastwords_tests::lastwords::Lastwords;
use lastwords_tests::patience::until;
use lastwords_tests::programs::{is_ready, release_program};
use nix::sys::stat::Mode;
use serde_json::Value;

const PROGRAMS: [&str; 4] = ["lastwords", "lastwords-agent", "lastwords-aggregator", "dies"];
/// Deaths of programs whose threads leave in another order each.
const DISORDERS: u32 = 200;
/// Deaths of programs one of whose threads gives up.
const GIVEN_UP: usize = 80;
/// So many of them at a time.
const AT_ONCE: usize = 8;
/// More than a node has: the kubelet's default is 110 pods.
const CROWD: usize = 500;
/// Containers that end as soon as they have begun.
const SHORT: usize = 50;
/// Tries to get a process id a second time: others of this machine take theirs meanwhile.
const TRIES: u32 = 200;

fn dies() -> String {
    release_program("dies").unwrap().to_str().unwrap().to_owned()
}

/// Starts `dies` with these steps in a container.
fn start(steps: &[&str]) -> Container {
    let program = dies();
    Container::start(&[&[program.as_str()], steps].concat()).unwrap()
}

/// What is stored of each of these containers, by id, once every one of them is there.
fn stored(lastwords: &Lastwords, ended: &BTreeMap<String, ExitStatus>) -> BTreeMap<String, Value> {
    until(&format!("the deaths of {} containers", ended.len()), || {
        let list = lastwords.ask_json(&["list", "-A", "--all", "--limit", "10000"]).ok()?;
        let mut stored = BTreeMap::new();
        for crash in list["crashes"].as_array()? {
            let id = crash["container"]["id"].as_str()?;
            if ended.contains_key(id) {
                let twice = stored.insert(id.to_owned(), crash.clone());
                assert!(twice.is_none(), "stored twice: {twice:#?} and {crash:#}");
            }
        }
        (stored.len() == ended.len()).then_some(stored)
    })
}

/// Each is stored once, and with the end that wait(2) told its parent.
fn assert_told_once(lastwords: &Lastwords, ended: &BTreeMap<String, ExitStatus>) -> BTreeMap<String, Value> {
    let stored = stored(lastwords, ended);
    for (id, status) in ended {
        let exit = &stored[id]["exit"];
        let told = (exit["code"].as_i64(), exit["signal"].as_i64());
        let right = (status.code().unwrap_or(0).into(), status.signal().unwrap_or(0).into());
        assert_eq!(told, (Some(right.0), Some(right.1)), "{:#}", stored[id]);
    }
    stored
}

/// All that is known of one of them.
fn whole(lastwords: &Lastwords, crash: &Value) -> Value {
    lastwords.ask_json(&["get", crash["id"].as_str().unwrap()]).unwrap()
}

#[test]
fn threads_may_leave_in_any_order() {
    if !is_ready("threads_may_leave_in_any_order", &PROGRAMS) {
        return;
    }
    let lastwords = Lastwords::alone().unwrap();
    let mut ended = BTreeMap::new();
    let orders: Vec<u32> = (0..DISORDERS).collect();
    for orders in orders.chunks(AT_ONCE) {
        let started: Vec<_> =
            orders.iter().map(|order| start(&[&format!("end-in-disorder {order}")])).collect();
        ended.extend(started.into_iter().map(|container| container.wait().unwrap()));
    }
    assert_eq!(ended.len(), DISORDERS as usize);
    assert_told_once(&lastwords, &ended);
    who_gave_up_is_told(&lastwords);
    a_leader_that_left_is_no_death(&lastwords);
    programs_of_threads(&lastwords);
    names(&lastwords);
}

/// The first thread or another one ends the process, and all race to leave. Which one it was is told by what it failed at.
fn who_gave_up_is_told(lastwords: &Lastwords) {
    let mut ended = BTreeMap::new();
    for round in 0..GIVEN_UP / AT_ONCE {
        let started: Vec<_> = (0..AT_ONCE)
            .map(|number| {
                let thread = if number % 2 == 0 { "" } else { "thread " };
                let others = format!("repeat {} beside sleep 30000", 1 + (number + round) % 4);
                start(&[&others, &format!("{thread}give-up-without /no/such/file 3")])
            })
            .collect();
        ended.extend(started.into_iter().map(|container| container.wait().unwrap()));
    }
    for crash in assert_told_once(lastwords, &ended).values() {
        let crash = whole(lastwords, crash);
        let failures = crash["failures"].as_array().unwrap();
        let failed = failures.iter().find(|failure| failure["path"] == "/no/such/file");
        let failed = failed.unwrap_or_else(|| panic!("{crash:#}"));
        assert_eq!(failed["by_dying_thread"], true, "{crash:#}");
    }
}

/// The first thread of a process leaves, and is a zombie for as long as another one lives.
fn a_leader_that_left_is_no_death(lastwords: &Lastwords) {
    let directory = tempfile::tempdir().unwrap();
    let gate = gate(directory.path());
    let container = start(&[&format!("beside open {} then exit 7", gate.display()), "leave-alone 1"]);
    let id = container.id().to_owned();
    until("the first thread has left", || {
        let threads = fs::read_dir(format!("/proc/{}/task", container.pid())).ok()?.count();
        (threads == 2 && state(container.pid())? == 'Z').then_some(())
    });
    // Records come in order: once a later death is stored, an earlier one would be too.
    let (later, status) = start(&["exit 3"]).wait().unwrap();
    assert_told_once(lastwords, &BTreeMap::from([(later, status)]));
    let list = lastwords.ask_json(&["list", "-A", "--all", "--limit", "10000"]).unwrap();
    let crashes = list["crashes"].as_array().unwrap();
    assert!(crashes.iter().all(|crash| crash["container"]["id"] != id.as_str()), "it lives");
    drop(OpenOptions::new().write(true).open(&gate).unwrap());
    let (id, status) = container.wait().unwrap();
    assert_eq!(status.code(), Some(7));
    assert_told_once(lastwords, &BTreeMap::from([(id, status)]));
}

/// In a pod that shares its processes a container may stop another one, and call itself anything.
#[test]
fn a_neighbour_called_like_a_runtime_is_none() {
    if !is_ready("a_neighbour_called_like_a_runtime_is_none", &PROGRAMS) {
        return;
    }
    let lastwords = &Lastwords::alone().unwrap();
    let container = start(&["sleep 3600000"]);
    until("its program runs", || {
        let comm = fs::read_to_string(format!("/proc/{}/comm", container.pid())).ok()?;
        (comm == "dies\n").then_some(())
    });
    let script = format!("printf runc > /proc/$$/comm; kill -9 {}; sleep 3600", container.pid());
    let _neighbour = Container::start(&["/bin/busybox", "sh", "-c", &script]).unwrap();
    let (id, status) = container.wait().unwrap();
    let stored = assert_told_once(lastwords, &BTreeMap::from([(id.clone(), status)]));
    let killed_by = &whole(lastwords, &stored[&id])["exit"]["killed_by"];
    assert_eq!((&killed_by["comm"], &killed_by["kind"]), (&"runc".into(), &"OTHER".into()));
}

/// A thread executes a program in place of its process; a child made by vfork cannot execute one.
fn programs_of_threads(lastwords: &Lastwords) {
    let (id, status) =
        start(&["beside sleep 30000", "beside sleep 30000", "thread exec /bin/busybox cat /no/such/file"])
            .wait()
            .unwrap();
    let ended = BTreeMap::from([(id.clone(), status)]);
    let crash = whole(lastwords, &assert_told_once(lastwords, &ended)[&id]);
    assert_eq!(crash["process"]["args"][1], "cat", "{:#}", crash["process"]);
    assert_eq!(crash["execs"].as_array().unwrap().len(), 2, "{:#}", crash["execs"]);
    assert_eq!(crash["diagnosis"]["object"], "/no/such/file", "{:#}", crash["diagnosis"]);

    let (id, status) = start(&["spawn /no/such/program", "exit 3"]).wait().unwrap();
    assert_eq!(status.code(), Some(3));
    let ended = BTreeMap::from([(id.clone(), status)]);
    let crash = whole(lastwords, &assert_told_once(lastwords, &ended)[&id]);
    assert_eq!(crash["execs"].as_array().unwrap().len(), 1, "{:#}", crash["execs"]);
    let failures = crash["failures"].as_array().unwrap();
    let failed = failures.iter().find(|failure| failure["path"] == "/no/such/program");
    let failed = failed.unwrap_or_else(|| panic!("{failures:#?}"));
    assert_eq!((&failed["syscall"], &failed["errno_name"]), (&"execve".into(), &"ENOENT".into()));
    assert_ne!(failed["pid"], crash["process"]["pid"], "the child's, not the main process's");
}

/// A process takes a name that would do something to a terminal.
fn names(lastwords: &Lastwords) {
    let (id, status) = start(&["rename-itself-badly", "open /no/such/file", "exit 2"]).wait().unwrap();
    let ended = BTreeMap::from([(id.clone(), status)]);
    let crash = whole(lastwords, &assert_told_once(lastwords, &ended)[&id]);
    assert_eq!(crash["process"]["comm"], r"\x1b[31m\x0a\xff\xfe\x0d", "{:#}", crash["process"]);
    let screen = lastwords.ask(&["get", crash["id"].as_str().unwrap()]).unwrap();
    let screen = String::from_utf8(screen.stdout).unwrap();
    assert!(screen.contains(r"\x1b[31m"), "{screen}");
    let is_harmful = |letter: char| letter.is_control() && letter != '\n';
    assert!(!screen.contains(is_harmful) && !screen.contains('\u{fffd}'), "{screen:?}");
}

/// A FIFO: who opens it for reading waits until it is opened for writing.
fn gate(directory: &Path) -> PathBuf {
    let gate = directory.join("gate");
    nix::unistd::mkfifo(&gate, Mode::from_bits_truncate(0o600)).unwrap();
    gate
}

/// The state of a process's first thread as procfs has it.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[test]
fn five_hundred_at_once_and_the_shortest_lives_are_each_told_once() {
    if !is_ready("five_hundred_at_once_and_the_shortest_lives_are_each_told_once", &PROGRAMS) {
        return;
    }
    let lastwords = Lastwords::alone().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let gate = gate(directory.path());
    let open = format!("open {}", gate.display());
    let crowd: Vec<_> = (0..CROWD).map(|number| start(&[&open, &format!("exit {}", number % 256)])).collect();
    let waits = |container: &Container| {
        let pid = container.pid();
        let is_dies = fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "dies\n");
        is_dies && state(pid) == Some('S')
    };
    until("all wait at the gate", || crowd.iter().all(waits).then_some(()));
    // As long as it is open for writing nobody waits, should somebody have been late.
    let release = OpenOptions::new().write(true).open(&gate).unwrap();
    let mut ended = BTreeMap::new();
    for (number, container) in crowd.into_iter().enumerate() {
        let (id, status) = container.wait().unwrap();
        assert_eq!(status.code(), i32::try_from(number % 256).ok());
        ended.insert(id, status);
    }
    drop(release);
    assert_eq!(ended.len(), CROWD);
    assert_told_once(&lastwords, &ended);

    let ended: BTreeMap<_, _> = (0..SHORT).map(|_| start(&["exit 7"]).wait().unwrap()).collect();
    for (id, crash) in assert_told_once(&lastwords, &ended) {
        assert_eq!(ended[&id].code(), Some(7));
        // Taken in the kernel at its exec: nothing of it was left to look at.
        assert_eq!(crash["process"]["args"][1], "exit 7", "{crash:#}");
    }
}

#[test]
fn a_process_id_that_comes_again_is_another_process() {
    let test = "a_process_id_that_comes_again_is_another_process";
    if !is_ready(test, &PROGRAMS) {
        return;
    }
    /// Reading gives the last process id of this PID namespace, and the next one follows what is written.
    const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";
    let lastwords = Lastwords::alone().unwrap();
    let Ok(last) = fs::read_to_string(LAST_PID) else {
        println!("SKIPPED {test}: this kernel has no {LAST_PID} (CONFIG_CHECKPOINT_RESTORE)");
        return;
    };
    let twice = (0..TRIES).find_map(|_| {
        let first = start(&["open /no/such/first", "exit 3"]);
        let pid = first.pid();
        let (first, status) = first.wait().unwrap();
        fs::write(LAST_PID, (pid - 1).to_string()).unwrap();
        let second = start(&["open /no/such/second", "exit 4"]);
        let is_same = second.pid() == pid;
        let (second, second_status) = second.wait().unwrap();
        is_same.then(|| {
            (first.clone(), second.clone(), BTreeMap::from([(first, status), (second, second_status)]))
        })
    });
    fs::write(LAST_PID, last.trim()).unwrap();
    let (first, second, ended) = twice.expect("two containers with one process id");
    let stored = assert_told_once(&lastwords, &ended);
    assert_eq!(stored[&first]["process"]["pid"], stored[&second]["process"]["pid"]);
    for (id, code, path) in [(&first, 3, "/no/such/first"), (&second, 4, "/no/such/second")] {
        let crash = whole(&lastwords, &stored[id]);
        assert_eq!(crash["exit"]["code"], code);
        let paths: Vec<_> =
            crash["failures"].as_array().unwrap().iter().map(|failure| &failure["path"]).collect();
        assert!(paths.contains(&&Value::from(path)), "{paths:?}");
        assert!(
            !paths.iter().any(|other| **other != path && other.as_str().unwrap().starts_with("/no/such/")),
            "{paths:?}"
        );
    }
}

#[test]
fn a_fork_bomb_hits_its_limit_and_is_told_once() {
    if !is_ready("a_fork_bomb_hits_its_limit_and_is_told_once", &["lastwords-agent", "dies"]) {
        return;
    }
    let mut agent = Command::new(release_program("lastwords-agent").unwrap());
    agent.args(["try", "-o", "json", "--pids", "64", "--timeout", "30s", "--", &dies(), "bomb"]);
    let output = agent.output().unwrap();
    let crash: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("no JSON; {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!((&crash["exit"]["code"], &crash["timed_out"]), (&1.into(), &false.into()), "{crash:#}");
    let diagnosis = &crash["diagnosis"];
    assert_eq!(
        (&diagnosis["cause"], &diagnosis["object"]),
        (&"CAUSE_RESOURCE_LIMIT".into(), &"pids.max 64".into()),
        "{diagnosis:#}"
    );
}

#[test]
fn a_container_that_runs_a_program_called_pause_is_no_sandbox() {
    if !is_ready("a_container_that_runs_a_program_called_pause_is_no_sandbox", &PROGRAMS[..3]) {
        return;
    }
    let lastwords = Lastwords::alone().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let pause = directory.path().join("pause");
    // Busybox does not know itself by this name, and fails.
    fs::copy("/bin/busybox", &pause).unwrap();
    let named = Container::start(&[pause.to_str().unwrap()]).unwrap();
    let ended: BTreeMap<String, ExitStatus> = [named.wait().unwrap()].into();
    let stored = assert_told_once(&lastwords, &ended);
    let crash = stored.values().next().unwrap();
    assert_eq!(
        (&crash["exit"]["code"], &crash["process"]["comm"]),
        (&127.into(), &"pause".into()),
        "{crash:#}"
    );
}
