//! A node that is a container itself, as kind and k3d make them: its processes have numbers of their own, its control groups are a part
//! of the kernel's, and beside it run containers that are not its own.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lastwords_tests::containers::{Container, Group, ROOTS, new_id};
use lastwords_tests::lastwords::Lastwords;
use lastwords_tests::patience::until;
use lastwords_tests::programs::{is_ready, release_program, stand_in};
use nix::sys::stat::Mode;
use serde_json::{Value, json};

/// What the node calls itself.
const NAME: &str = "node-in-container";

/// The node's first process. Its containers: one from before the agent; one for each line that is written into `orders`.
const INIT: &str = r#"
set -e
mount -t tmpfs none "$D/groups"
mkdir "$D/groups/unified"
mount -t cgroup2 none "$D/groups/unified"
started() {
    mkdir "$D/groups/unified/$1"
    "$STAND_IN" "$D/groups/unified/$1" "$DIES" "open $D/gate" "open /no/such/file/$2" "exit $2" &
    echo $! > "$D/pid.$2.new"
    mv "$D/pid.$2.new" "$D/pid.$2"
}
started "$EARLIER" 3
until grep -q '(dies) S' "/proc/$!/stat"; do sleep 0.05; done
"$AGENT" run --config "$D/agent.toml" > "$D/agent.log" 2>&1 &
while read -r id code; do started "$id" "$code"; done < "$D/orders"
"#;

/// The node; dropping it ends all its processes.
struct Node {
    init: Child,
    group: PathBuf,
    directory: tempfile::TempDir,
    orders: File,
    earlier: String,
}

impl Node {
    fn start(server: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("lastwords-node-").tempdir().unwrap();
        let path = directory.path();
        for folder in ["groups", "spool"] {
            fs::create_dir(path.join(folder)).unwrap();
        }
        for pipe in ["gate", "orders"] {
            nix::unistd::mkfifo(&path.join(pipe), Mode::from_bits_truncate(0o600)).unwrap();
        }
        let shown = path.display();
        let configuration = format!(
            "node_name = \"{NAME}\"\naggregator = \"{server}\"\nspool_directory = \"{shown}/spool\"\n\
             cgroup_root = \"{shown}/groups\"\npod_logs_directory = \"/nonexistent\"\n"
        );
        fs::write(path.join("agent.toml"), configuration).unwrap();
        let root = ROOTS.iter().map(Path::new).find(|root| root.join("cgroup.controllers").exists()).unwrap();
        let group = root.join(format!("lastwords-node-{}", std::process::id()));
        fs::create_dir(&group).unwrap();
        let earlier = new_id();
        // It joins its group before it gets a view of groups that begins there.
        let join = r#"echo 0 > "$G/cgroup.procs"; exec unshare --pid --fork --kill-child --mount-proc --cgroup --mount sh -c "$INIT""#;
        let init = Command::new("sh")
            .args(["-c", join])
            .env("INIT", INIT)
            .env("G", &group)
            .env("D", path)
            .env("EARLIER", &earlier)
            .env("STAND_IN", stand_in("stand-in-container").unwrap())
            .env("DIES", release_program("dies").unwrap())
            .env("AGENT", release_program("lastwords-agent").unwrap())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        // For reading too, so that it can be opened before the shell does, and stays open.
        let orders = OpenOptions::new().read(true).write(true).open(path.join("orders")).unwrap();
        Self { init, group, directory, orders, earlier }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts a container that ends with this code once the gate is open; gives its id.
    fn order(&mut self, code: u32) -> String {
        use std::io::Write as _;
        let id = new_id();
        writeln!(self.orders, "{id} {code}").unwrap();
        id
    }

    /// The number that the node knows that container's process by.
    fn pid(&self, code: u32) -> u32 {
        let file = self.path(&format!("pid.{code}"));
        until("the container is started", || fs::read_to_string(&file).ok()).trim().parse().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.init.kill();
        let _ = self.init.wait();
        let entries = fs::read_dir(&self.group).into_iter().flatten().flatten();
        let groups = entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.path());
        // A group can be removed once the last of its processes is gone, which takes the kernel a moment.
        for group in groups.collect::<Vec<_>>().into_iter().chain([self.group.clone()]) {
            until("the group is empty", || match fs::remove_dir(&group) {
                Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => None,
                _ => Some(()),
            });
        }
    }
}

/// All evidence of the death of a container, as that node's agent saw it.
fn crash_of(lastwords: &Lastwords, node: &str, id: &str) -> Value {
    let listed = until(&format!("the death of {id} on {node}"), || seen_by(lastwords, node, id));
    lastwords.ask_json(&["get", listed["id"].as_str().unwrap()]).unwrap()
}

fn seen_by(lastwords: &Lastwords, node: &str, id: &str) -> Option<Value> {
    let list = lastwords.ask_json(&["list", "-A", "--all", "--limit", "10000"]).ok()?;
    let crashes = list["crashes"].as_array()?;
    let found = crashes.iter().find(|crash| crash["container"]["id"] == id && is_of(crash, node));
    found.cloned()
}

/// The node stands before the first slash of a crash's id.
fn is_of(crash: &Value, node: &str) -> bool {
    let is_inner = crash["id"].as_str().is_some_and(|id| id.starts_with(&format!("{NAME}/")));
    is_inner == (node == NAME)
}

#[test]
fn the_agent_of_a_node_in_a_container_knows_its_processes_and_leaves_others_alone() {
    let programs = ["lastwords", "lastwords-agent", "lastwords-aggregator", "dies"];
    if !is_ready("the_agent_of_a_node_in_a_container_knows_its_processes_and_leaves_others_alone", &programs)
    {
        return;
    }
    let lastwords = Lastwords::alone().unwrap();
    let mut node = Node::start(lastwords.server());
    let program = release_program("dies").unwrap();
    let run_beside = || {
        let command = [program.to_str().unwrap(), "exit 5"];
        let (id, _) = Container::start_in(Group::make().unwrap(), &command).unwrap().wait().unwrap();
        crash_of(&lastwords, "the machine", &id);
        id
    };
    until("the agent in the node is connected", || {
        let log = fs::read_to_string(node.path("agent.log")).unwrap_or_default();
        log.contains("connected to the aggregator").then_some(())
    });
    // One beside the node, which is none of its business, also while it does not know yet which groups are its own.
    let mut beside = vec![run_beside()];
    let first = node.order(4);
    let pid = node.pid(4);
    // As long as it is open for writing nobody waits, should somebody have been late.
    let release = OpenOptions::new().write(true).open(node.path("gate")).unwrap();
    let expected = [(node.earlier.clone(), 3, node.pid(3), true), (first, 4, pid, false)];
    for (id, code, pid, is_earlier) in expected {
        let crash = crash_of(&lastwords, NAME, &id);
        assert_eq!(
            (&crash["exit"]["code"], &crash["process"]["pid"], &crash["losses"]["agent_started_later"]),
            (&json!(code), &json!(pid), &json!(is_earlier)),
            "{crash:#}"
        );
        let failures = crash["failures"].as_array().unwrap();
        let missing = format!("/no/such/file/{code}");
        let failure = failures.iter().find(|failure| failure["path"] == missing.as_str()).unwrap();
        assert_eq!(failure["pid"], json!(pid), "{failure:#}");
        assert_eq!(failure["mount"]["mount_point"], "/", "looked at in its own mounts: {failure:#}");
        // The kernel's own number is another one.
        let outside = crash_of(&lastwords, "the machine", &id);
        assert_ne!(outside["process"]["pid"], json!(pid), "{outside:#}");
        assert_eq!(outside["exit"]["code"], json!(code), "{outside:#}");
    }

    // And later; one more of its own tells when it has been through with that.
    beside.push(run_beside());
    let last = node.order(6);
    crash_of(&lastwords, NAME, &last);
    for id in beside {
        assert_eq!(seen_by(&lastwords, NAME, &id), None);
    }
    drop(release);
}
