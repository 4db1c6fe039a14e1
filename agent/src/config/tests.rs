use std::collections::BTreeSet;

use super::*;

#[test]
fn an_empty_file_gives_the_documented_defaults() {
    let config = Config::parse("", "worker-1").unwrap();
    assert_eq!(config.node_name, "worker-1");
    assert_eq!(config.aggregator, "https://lastwords-aggregator:7443");
    assert_eq!(config.aggregator_ca, Path::new("/etc/lastwords/ca/ca.crt"));
    assert_eq!(config.aggregator_token, None);
    assert_eq!(config.spool_directory, Path::new("/var/lib/lastwords"));
    assert_eq!(config.spool_max_bytes, 67_108_864);
    assert_eq!(config.metrics_listen, None);
    assert_eq!(config.host_proc, Path::new("/proc"));
    assert_eq!(config.cgroup_root, Path::new("/sys/fs/cgroup"));
    assert_eq!(config.pod_logs_directory, Path::new("/var/log/pods"));
    assert_eq!(config.log_tail, LogTailConfig::default());
    assert_eq!(config.healthy_after, Duration::from_secs(60));
    assert_eq!(config.log_level, LevelFilter::INFO);
}

#[test]
fn every_key_is_read() {
    let text = r#"
        node_name = "worker-7"
        aggregator = "https://10.0.0.1:7443"
        aggregator_ca = "/ca.crt"
        aggregator_token = "/token"
        spool_directory = "/data/spool"
        spool_max_bytes = "16Mi"
        metrics_listen = "[::]:7445"
        host_proc = "/host/proc"
        cgroup_root = "/host/sys/fs/cgroup"
        pod_logs_directory = "/host/var/log/pods"
        healthy_after_seconds = 300
        log_level = "debug"
        [log_tail]
        enabled = false
        lines = 10
        bytes = 4096
        disabled_namespaces = ["bank"]
        [redact]
        extra_patterns = ["customer (\\d+)"]
    "#;
    let config = Config::parse(text, "").unwrap();
    assert_eq!(config.node_name, "worker-7");
    assert_eq!(config.aggregator, "https://10.0.0.1:7443");
    assert_eq!(config.aggregator_ca, Path::new("/ca.crt"));
    assert_eq!(config.aggregator_token.as_deref(), Some(Path::new("/token")));
    assert_eq!(config.spool_directory, Path::new("/data/spool"));
    assert_eq!(config.spool_max_bytes, 16 << 20);
    assert_eq!(config.metrics_listen, Some("[::]:7445".parse().unwrap()));
    assert_eq!(config.host_proc, Path::new("/host/proc"));
    assert_eq!(config.cgroup_root, Path::new("/host/sys/fs/cgroup"));
    assert_eq!(config.pod_logs_directory, Path::new("/host/var/log/pods"));
    assert_eq!(config.healthy_after, Duration::from_secs(300));
    assert_eq!(config.log_level, LevelFilter::DEBUG);
    let expected =
        LogTailConfig { enabled: false, lines: 10, bytes: 4096, disabled_namespaces: vec!["bank".into()] };
    assert_eq!(config.log_tail, expected);
    assert_eq!(config.redactor.line("customer 12"), "customer <redacted>");
}

#[test]
fn all_problems_are_reported_at_once() {
    let text = r#"
        node_name = "a b"
        agregator = "x"
        aggregator = "ftp://x:1"
        spool_directory = "var"
        spool_max_bytes = 5
        host_proc = 7
        log_level = "loud"
        [log_tail]
        enabled = "yes"
        lines = 0
        bytes = "1Ti"
        namespaces = []
        disabled_namespaces = [1]
        [redact]
        extra_patterns = ["(", "x*"]
    "#;
    let problems = Config::parse(text, "").unwrap_err();
    let starts = [
        "node_name must have",
        "aggregator must be a URL such as https://",
        "spool_directory must be an absolute path",
        "spool_max_bytes must be a number of bytes from 1048576",
        "host_proc must be a text in quotes, not a number",
        "log_level must be one of error, warn",
        "log_tail.enabled must be true or false, not a text",
        "log_tail.lines must be a number from 1 to 500",
        "log_tail.bytes must be a number of bytes",
        "log_tail.disabled_namespaces must be a list of texts",
        "log_tail.namespaces is no key (there are enabled, lines, bytes, disabled_namespaces)",
        "redact.extra_patterns \"(\" is no regular expression",
        "redact.extra_patterns \"x*\" matches the empty text",
        "agregator is no key (there are node_name, aggregator,",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem}");
    }
}

#[test]
fn broken_files_are_named_with_what_is_wrong() {
    let problems = Config::parse("log_level = \"info\"\nnode_name =", "n").unwrap_err();
    assert!(problems[0].starts_with("line 2 is not TOML"), "{problems:?}");
    assert!(Config::parse("", "").unwrap_err()[0].contains("NODE_NAME"));
    assert!(Config::parse("log_tail = 1", "n").unwrap_err()[0].contains("must be a table"));

    let missing = Config::load(Some(Path::new("/no/such/agent.toml"))).unwrap_err();
    let sentence = missing.to_string();
    assert!(
        sentence.starts_with("wrong configuration in /no/such/agent.toml: cannot read it:"),
        "{sentence}"
    );
}

#[test]
fn aggregators_are_urls() {
    for address in ["", "lastwords:7443", "ftp://x", "http://", "http:///x", "http://x:port", "not a url"] {
        assert!(is_address(address).is_err(), "{address}");
    }
    for address in ["http://x", "https://x:7443", "http://[::1]:7443", "https://10.0.0.1:7443/"] {
        assert_eq!(is_address(address), Ok(()), "{address}");
    }
}

#[test]
fn a_token_goes_to_no_other_machine_in_plain_text() {
    let with = |address: &str| {
        Config::parse(&format!("aggregator = {address:?}\naggregator_token = \"/token\""), "n").map(|_| ())
    };
    for address in ["https://x:7443", "http://127.0.0.1:7443", "http://[::1]:7443", "http://localhost"] {
        assert_eq!(with(address), Ok(()), "{address}");
    }
    for address in ["http://x:7443", "http://10.0.0.1:7443", "http://[fd00::1]:7443", "http://localhost.evil"]
    {
        let problems = with(address).unwrap_err();
        assert!(problems[0].starts_with("aggregator_token goes only to"), "{address}: {problems:?}");
    }
}

#[test]
fn whole_numbers_may_be_floats_as_helm_writes_them() {
    let config = Config::parse("spool_max_bytes = 6.7108864e+07\n[log_tail]\nlines = 10.0", "n").unwrap();
    assert_eq!((config.spool_max_bytes, config.log_tail.lines), (64 << 20, 10));
    for wrong in ["lines = 10.5", "lines = -10.0", "lines = nan", "lines = 1e300"] {
        assert!(Config::parse(&format!("[log_tail]\n{wrong}"), "n").is_err(), "{wrong}");
    }
}

/// What a release sets by other values: addresses, and folders of the node.
const THE_CHARTS_OWN: [&str; 9] = [
    "node_name",
    "aggregator",
    "aggregator_ca",
    "aggregator_token",
    "spool_directory",
    "metrics_listen",
    "host_proc",
    "cgroup_root",
    "pod_logs_directory",
];

/// Every key that is read, as a wrong one is answered with it.
fn known() -> BTreeSet<String> {
    let problems = Config::parse("zz = 1\n[log_tail]\nzz = 1\n[redact]\nzz = 1\n", "it").unwrap_err();
    let mut known = BTreeSet::new();
    for problem in &problems {
        let (key, list) = problem.split_once(" is no key (there are ").unwrap();
        let section = key.strip_suffix("zz").unwrap();
        known.extend(list.trim_end_matches(')').split(", ").map(|key| format!("{section}{key}")));
    }
    known.retain(|key| key != "log_tail" && key != "redact");
    known
}

#[test]
fn the_charts_schema_takes_what_is_read() {
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../../../deploy/chart/values.schema.json")).unwrap();
    let config = &schema["properties"]["agent"]["properties"]["config"];
    let mut taken = BTreeSet::new();
    for (key, what) in config["properties"].as_object().unwrap() {
        match what["properties"].as_object() {
            Some(section) => taken.extend(section.keys().map(|inner| format!("{key}.{inner}"))),
            None => drop(taken.insert(key.clone())),
        }
    }
    let own: BTreeSet<String> = THE_CHARTS_OWN.map(str::to_owned).into();
    assert_eq!(own.intersection(&taken).collect::<Vec<_>>(), [""; 0], "the chart sets these itself");
    let both: BTreeSet<String> = own.union(&taken).cloned().collect();
    assert_eq!(both, known());
}

#[test]
fn every_key_is_documented() {
    let docs = include_str!("../../../docs/operations.md");
    for key in known() {
        let (section, inner) = key.split_once('.').unwrap_or(("", &key));
        let is_there =
            docs.contains(&format!("| `{inner}` |")) || docs.contains(&format!("| `[{section}] {inner}` |"));
        assert!(is_there, "docs/operations.md has no {key}");
    }
}
