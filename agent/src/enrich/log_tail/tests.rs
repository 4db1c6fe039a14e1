use std::os::unix::fs::symlink;
use std::time::Duration;

use super::*;
use crate::clock;

const UID: &str = "0c1f2a3b-4d5e-6f70-8192-a3b4c5d6e7f8";
const ID: &str = "3f8a1c5d7e9b0a2c4e6f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5";

struct Node {
    place: tempfile::TempDir,
    container: ContainerRef,
}

impl Node {
    fn new() -> Self {
        let container = ContainerRef {
            runtime: "containerd",
            id: ID.to_owned(),
            pod_uid: UID.to_owned(),
            cgroup_path: format!("/kubepods/pod{UID}/{ID}"),
        };
        Self { place: tempfile::tempdir().unwrap(), container }
    }

    fn pods(&self) -> PathBuf {
        self.place.path().join("pods")
    }

    fn file(&self, container: &str, run: u32) -> PathBuf {
        self.pods().join(format!("prod_api-7f9_{UID}/{container}/{run}.log"))
    }

    fn write(&self, container: &str, run: u32, text: &str) {
        let file = self.file(container, run);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    fn link(&self, container: &str, run: u32) {
        std::fs::create_dir_all(self.place.path().join("containers")).unwrap();
        let link = self.place.path().join(format!("containers/api-7f9_prod_{container}-{ID}.log"));
        symlink(format!("/var/log/pods/prod_api-7f9_{UID}/{container}/{run}.log"), link).unwrap();
    }

    fn read_with(
        &self,
        config: &LogTailConfig,
        name: Option<&str>,
        started_at: Option<UnixNanos>,
    ) -> LogFindings {
        let query =
            LogQuery { container: &self.container, container_name: name, started_at, died_at: clock::now() };
        LogReader::new(&self.pods(), config, &Redactor::default()).read(&query)
    }

    fn read(&self) -> LogFindings {
        self.read_with(&LogTailConfig::default(), None, None)
    }
}

fn cri(stream: &str, tag: &str, text: &str) -> String {
    format!("2026-11-22T10:00:00.123456789Z {stream} {tag} {text}\n")
}

#[test]
fn reads_lines_and_what_the_folder_tells() {
    let node = Node::new();
    let log = cri("stdout", "F", "starting")
        + &cri("stderr", "P", "a long ")
        + &cri("stdout", "F", "between\ttabs")
        + &cri("stderr", "F", "line")
        + &cri("stdout", "F", "")
        + &cri("stdout", "F", "\x1b[31mred\x1b[0m \x07bell")
        + &cri("stdout", "F", "password=hunter2")
        + &cri("stdout", "P", "no newline");
    node.write("app", 3, &log);
    let expected = LogFindings {
        namespace: "prod".into(),
        pod_name: "api-7f9".into(),
        container_name: "app".into(),
        restart_count: Some(3),
        tail: Some(LogTail {
            lines: [
                "starting",
                "between    tabs",
                "a long line",
                "",
                r"red \x07bell",
                "password=<redacted>",
                "no newline",
            ]
            .map(str::to_owned)
            .to_vec(),
            bytes: log.len() as u64,
            source: format!("prod_api-7f9_{UID}/app/3.log"),
        }),
        ambiguous: false,
        unreadable: None,
    };
    assert_eq!(node.read(), expected);
}

#[test]
fn an_empty_log_is_a_result() {
    let node = Node::new();
    node.write("app", 0, "");
    let findings = node.read();
    assert_eq!(findings.tail.map(|tail| (tail.lines.len(), tail.bytes)), Some((0, 0)));
    assert_eq!(findings.unreadable, None);
}

#[test]
fn reads_only_the_end_of_a_long_log() {
    let node = Node::new();
    let log: String = (0..10_000).map(|number| cri("stdout", "F", &format!("line {number}"))).collect();
    node.write("app", 0, &log);
    let config = LogTailConfig { bytes: 1024, lines: 5, ..LogTailConfig::default() };
    let tail = node.read_with(&config, None, None).tail.unwrap();
    assert_eq!(tail.bytes, 1024);
    assert_eq!(tail.lines, ["line 9995", "line 9996", "line 9997", "line 9998", "line 9999"]);

    let config = LogTailConfig { bytes: 1024, lines: 500, ..LogTailConfig::default() };
    let lines = node.read_with(&config, None, None).tail.unwrap().lines;
    assert!(lines.len() < 30 && lines.iter().all(|line| line.starts_with("line 99")), "{lines:?}");

    node.write("app", 0, &cri("stdout", "F", &"x".repeat(10_000)));
    let line = node.read().tail.unwrap().lines.remove(0);
    assert_eq!((line.len(), line.ends_with('…')), (4096 + 3, true));
}

#[test]
fn takes_the_last_run_and_ignores_rotated_files() {
    let node = Node::new();
    for run in [0, 9, 10] {
        node.write("app", run, &cri("stdout", "F", &format!("run {run}")));
    }
    std::fs::write(node.file("app", 10).with_extension("log.20261122-100000"), "rotated").unwrap();
    let findings = node.read();
    assert_eq!(findings.restart_count, Some(10));
    assert_eq!(findings.tail.unwrap().lines, ["run 10"]);
}

#[test]
fn a_log_made_by_the_restart_is_not_the_dead_ones() {
    let node = Node::new();
    node.write("app", 0, &cri("stdout", "F", "died"));
    std::thread::sleep(Duration::from_millis(50));
    let died_at = clock::now();
    std::thread::sleep(Duration::from_millis(50));
    node.write("app", 1, &cri("stdout", "F", "restarted"));
    let query = LogQuery { container: &node.container, container_name: None, started_at: None, died_at };
    let findings = LogReader::new(&node.pods(), &LogTailConfig::default(), &Redactor::default()).read(&query);
    assert_eq!((findings.restart_count, findings.tail.unwrap().lines), (Some(0), vec!["died".to_owned()]));
}

#[test]
fn the_kubelets_link_tells_which_container_it_is() {
    let node = Node::new();
    node.write("app", 1, &cri("stdout", "F", "of app"));
    node.write("sidecar", 0, &cri("stdout", "F", "of sidecar"));
    node.link("sidecar", 0);
    let findings = node.read();
    assert_eq!((findings.container_name.as_str(), findings.ambiguous), ("sidecar", false));
    assert_eq!(findings.tail.unwrap().lines, ["of sidecar"]);
}

#[test]
fn a_given_name_tells_which_container_it_is() {
    let node = Node::new();
    node.write("app", 1, &cri("stdout", "F", "of app"));
    node.write("sidecar", 0, "");
    let findings = node.read_with(&LogTailConfig::default(), Some("app"), None);
    assert_eq!(findings.tail.unwrap().lines, ["of app"]);
    let findings = node.read_with(&LogTailConfig::default(), Some("../app"), None);
    assert_eq!(findings.tail, None);
}

#[test]
fn says_that_it_is_ambiguous_instead_of_guessing() {
    let node = Node::new();
    node.write("app", 0, "");
    node.write("sidecar", 0, "");
    for started_at in [None, Some(clock::now())] {
        let findings = node.read_with(&LogTailConfig::default(), None, started_at);
        assert_eq!((findings.tail, findings.ambiguous), (None, true));
        assert_eq!(findings.unreadable.as_deref(), Some("log: ambiguous, it is one of app, sidecar"));
        assert_eq!((findings.pod_name.as_str(), findings.container_name.as_str()), ("api-7f9", ""));
    }
}

#[test]
fn the_order_of_starts_tells_which_container_it_is() {
    let node = Node::new();
    let pause = || std::thread::sleep(Duration::from_millis(60));
    node.write("app", 0, &cri("stdout", "F", "of app"));
    pause();
    let app_started = clock::now();
    pause();
    node.write("sidecar", 0, "");
    pause();
    let sidecar_started = clock::now();
    let name = |started| node.read_with(&LogTailConfig::default(), None, Some(started)).container_name;
    assert_eq!(name(app_started), "app");
    assert_eq!(name(sidecar_started), "sidecar");
}

#[test]
fn follows_no_symbolic_link_to_a_log() {
    let node = Node::new();
    let secret = node.place.path().join("shadow");
    std::fs::write(&secret, "root:x").unwrap();
    node.write("app", 0, "");
    std::fs::remove_file(node.file("app", 0)).unwrap();
    symlink(&secret, node.file("app", 0)).unwrap();
    let findings = node.read();
    assert_eq!(findings.tail, None);
    assert!(findings.unreadable.unwrap().starts_with("log: no file of container 3f8a"));

    std::fs::remove_dir_all(node.file("app", 0).parent().unwrap()).unwrap();
    symlink(node.place.path(), node.file("app", 0).parent().unwrap()).unwrap();
    std::fs::write(node.place.path().join("0.log"), "outside").unwrap();
    assert_eq!(node.read().tail, None);
}

#[test]
fn logs_that_may_not_be_read_are_left_alone() {
    let node = Node::new();
    node.write("app", 0, "text");
    let off = LogTailConfig { enabled: false, ..LogTailConfig::default() };
    let namespace = LogTailConfig { disabled_namespaces: vec!["prod".into()], ..LogTailConfig::default() };
    for config in [off, namespace] {
        let findings = node.read_with(&config, None, None);
        assert_eq!((findings.tail, findings.unreadable), (None, None));
        assert_eq!((findings.container_name.as_str(), findings.restart_count), ("app", Some(0)));
    }
}

#[test]
fn missing_folders_are_said() {
    let node = Node::new();
    assert!(node.read().unreadable.unwrap().starts_with("log: no folder of pod"));
    let outside_kubernetes = ContainerRef { pod_uid: String::new(), ..node.container.clone() };
    let node = Node { container: outside_kubernetes, ..node };
    assert_eq!(node.read(), LogFindings::default());
}

#[test]
fn lines_of_another_format_are_kept_as_they_are() {
    let node = Node::new();
    node.write("app", 0, "{\"log\":\"x\"}\nnot a time stdout F text\n2026-11-22T10:00:00.1Z stdin F x\n");
    let lines = node.read().tail.unwrap().lines;
    assert_eq!(lines, ["{\"log\":\"x\"}", "not a time stdout F text", "2026-11-22T10:00:00.1Z stdin F x"]);
}
