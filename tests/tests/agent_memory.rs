//! What an agent takes of its node's memory, beside what its DaemonSet asks for.
//! `cargo test -p lastwords-tests --test agent_memory -- --nocapture` prints it.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, OpenOptions};

use lastwords_tests::containers::Container;
use lastwords_tests::kubelet::quantity;
use lastwords_tests::lastwords::Lastwords;
use lastwords_tests::patience::until;
use lastwords_tests::programs::is_ready;
use lastwords_tests::rendered;
use nix::sys::stat::Mode;

/// Two in each of the kubelet's 110 pods, and some more.
const CROWD: usize = 250;

/// What a control group of the agent's own would be charged with, in bytes.
#[derive(Clone, Copy)]
struct Held {
    anonymous: u64,
    /// Its program and libraries, as far as they were read.
    file: u64,
    /// eBPF maps.
    maps: u64,
}

impl Held {
    fn by(pid: u32) -> Held {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let kilobytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
        };
        // A map may be held by several descriptors.
        let mut maps = BTreeMap::new();
        for descriptor in fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap() {
            let text = fs::read_to_string(descriptor.unwrap().path()).unwrap_or_default();
            let number = |name: &str| {
                text.lines()
                    .find_map(|line| line.strip_prefix(name))
                    .and_then(|value| value.trim().parse::<u64>().ok())
            };
            if let (Some(id), Some(bytes)) = (number("map_id:"), number("memlock:")) {
                maps.insert(id, bytes);
            }
        }
        assert!(!maps.is_empty(), "the agent has no map");
        Held { anonymous: kilobytes("RssAnon:"), file: kilobytes("RssFile:"), maps: maps.values().sum() }
    }

    fn total(self) -> u64 {
        self.anonymous + self.file + self.maps
    }
}

impl fmt::Display for Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [anonymous, file, maps, total] = [self.anonymous, self.file, self.maps, self.total()]
            .map(|bytes| bytes as f64 / f64::from(1 << 20));
        write!(formatter, "{total:.1} MiB: {anonymous:.1} of its own, {file:.1} program, {maps:.1} eBPF maps")
    }
}

#[test]
fn an_agent_keeps_to_what_its_daemonset_asks_for() {
    if !is_ready(
        "an_agent_keeps_to_what_its_daemonset_asks_for",
        &["lastwords", "lastwords-agent", "lastwords-aggregator"],
    ) {
        return;
    }
    let set = rendered::object("DaemonSet", "lastwords-agent").unwrap();
    let asked = &set["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["memory"];
    let asked = quantity::bytes(asked.as_str().unwrap()).unwrap();
    let mut lastwords = Lastwords::alone().unwrap();
    let pid = lastwords.agent().pid();
    let idle = Held::by(pid);
    println!("nothing to watch:         {idle}");

    let directory = tempfile::tempdir().unwrap();
    let gate = directory.path().join("gate");
    nix::unistd::mkfifo(&gate, Mode::from_bits_truncate(0o644)).unwrap();
    let wait = format!(": < {}; exec cat /no/such/file 2>/dev/null", gate.display());
    let crowd: Vec<_> =
        (0..CROWD).map(|_| Container::start(&["/bin/busybox", "sh", "-c", &wait]).unwrap()).collect();
    let program = fs::canonicalize("/bin/busybox").unwrap();
    let runs = |container: &Container| {
        fs::read_link(format!("/proc/{}/exe", container.pid())).is_ok_and(|runs| runs == program)
    };
    until("all run", || crowd.iter().all(runs).then_some(()));
    println!("{CROWD} containers run:       {}", Held::by(pid));
    // As long as it is open for writing nobody waits, should somebody have been late.
    let open = OpenOptions::new().write(true).open(&gate).unwrap();
    let ids: BTreeSet<String> = crowd.into_iter().map(|container| container.wait().unwrap().0).collect();
    drop(open);
    until("all ends are stored", || {
        let list = lastwords.ask_json(&["list", "-A", "--all", "--limit", "10000"]).ok()?;
        let stored = list["crashes"].as_array()?.iter().filter_map(|crash| crash["container"]["id"].as_str());
        (stored.filter(|id| ids.contains(*id)).count() == CROWD).then_some(())
    });
    let after = Held::by(pid);
    println!("and all have ended:       {after}");
    for held in [idle, after] {
        assert!(held.total() <= asked, "{held}; the DaemonSet asks for {} MiB", asked >> 20);
    }
}
