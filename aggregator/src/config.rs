//! The configuration: a TOML file, then the command line over it. Every problem is reported, not just the first.

mod security;

use std::collections::BTreeSet;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::{Table, Value};

use crate::args::Args;
use crate::backoff::{self, Policy};
use crate::kubernetes::{self, Access};
use crate::store::{Place, Retention};
use crate::tls;

/// Everything the aggregator is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The cluster's name, which goes with every crash; empty without one.
    pub cluster: String,
    /// Where the health service listens besides, in plain text: a kubelet's probes speak no TLS.
    pub health_listen: Option<SocketAddr>,
    /// Where Prometheus asks for metrics; None when nobody can.
    pub metrics_listen: Option<SocketAddr>,
    /// Where the certificate of the port comes from.
    pub tls: tls::Mode,
    /// The agents' service account (NAME, or NAMESPACE/NAME), where agents and callers have to prove who they are.
    pub authorization: Option<String>,
    /// Where crashes are kept.
    pub store: Place,
    /// What is kept at most.
    pub retention: Retention,
    /// How the Kubernetes API is reached; None without Kubernetes.
    pub kubernetes: Option<Access>,
    /// The Lease by which one of several aggregators that share a store leads.
    pub lease: String,
    /// Whether causes are written on their pods as events.
    pub write_events: bool,
    /// Whether the cause of a pod's newest crash is written into its annotations.
    pub annotate_pods: bool,
    /// How long pods that vanished are kept for late reports.
    pub keep_deleted_pods: Duration,
    /// How long an end that the API shows waits for the report of an agent that saw it.
    pub wait_for_agents: Duration,
    /// What the kubelets are assumed to be configured with.
    pub back_off: Policy,
    /// Largest report taken, in bytes.
    pub max_report_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 7443)),
            cluster: String::new(),
            health_listen: None,
            metrics_listen: None,
            tls: tls::Mode::Own(tls::Own::default()),
            authorization: Some(security::AGENT_ACCOUNT.to_owned()),
            store: Place::Sqlite(Path::new(DATA_DIRECTORY).join(DATABASE)),
            retention: Retention::default(),
            kubernetes: Some(Access::Inferred),
            lease: "lastwords-aggregator".to_owned(),
            write_events: true,
            // It takes the right to change pods.
            annotate_pods: false,
            // A node that was cut off for a while sends its spool within minutes of its return.
            keep_deleted_pods: Duration::from_secs(600),
            // An agent ships within seconds; one that was cut off replaces later what was said without it.
            wait_for_agents: Duration::from_secs(60),
            back_off: Policy::default(),
            // Ten times the largest that an agent makes: 512 failures with paths and a log tail of 64 KiB.
            max_report_bytes: 1 << 20,
        }
    }
}

const DATA_DIRECTORY: &str = "/var/lib/lastwords";
const DATABASE: &str = "lastwords.db";

/// Reads the file that `args` names, if any, and puts the command line over it.
///
/// # Errors
/// All problems found, a sentence each.
pub fn settings(args: &Args) -> Result<Settings, Vec<String>> {
    let (table, origin) = match &args.config {
        None => (Table::new(), "the configuration".to_owned()),
        Some(path) => (read(path).map_err(|problem| vec![problem])?, path.display().to_string()),
    };
    let mut reader = Reader { origin, problems: Vec::new(), known: BTreeSet::new() };
    let settings = reader.settings(table, args);
    if reader.problems.is_empty() { Ok(settings) } else { Err(reader.problems) }
}

fn read(path: &Path) -> Result<Table, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("the configuration {} cannot be read: {error}", path.display()))?;
    text.parse().map_err(|error: toml::de::Error| {
        format!(
            "the configuration {} is not TOML: {}",
            path.display(),
            error.to_string().trim_end().replace('\n', " ")
        )
    })
}

struct Reader {
    origin: String,
    problems: Vec<String>,
    /// Every key that was asked for, with its section.
    known: BTreeSet<String>,
}

impl Reader {
    fn settings(&mut self, mut table: Table, args: &Args) -> Settings {
        let default = Settings::default();
        let listen = self.text(&mut table, "", "listen");
        let listen = args.listen.clone().or(listen);
        let listen = listen.map_or(default.listen, |text| self.address("listen", &text));
        let health_listen = self.text(&mut table, "", "health_listen");
        let health_listen = health_listen.map(|text| self.address("health_listen", &text));
        let metrics_listen = self.text(&mut table, "", "metrics_listen");
        let metrics_listen = metrics_listen.map(|text| self.address("metrics_listen", &text));
        let store = self.text(&mut table, "", "store");
        let store = args.store.clone().or(store);
        let data_directory = self.text(&mut table, "", "data_directory");
        let mut retention = self.section(&mut table, "retention");
        let mut kubernetes = self.section(&mut table, "kubernetes");
        let mut back_off = self.section(&mut table, "back_off");
        let mut ingest = self.section(&mut table, "ingest");
        let mut tls = self.section(&mut table, "tls");
        let mut authorization = self.section(&mut table, "authorization");
        let access = self.kubernetes(&mut kubernetes, args);
        let settings = Settings {
            cluster: self.text(&mut table, "", "cluster").unwrap_or_default(),
            listen,
            health_listen,
            metrics_listen,
            tls: self.tls(&mut tls, listen, access.is_some()),
            authorization: self.authorization(&mut authorization, listen, access.is_some()),
            store: self.store(store, data_directory),
            retention: Retention {
                max_age: self.duration(&mut retention, "retention", "max_age", default.retention.max_age),
                max_bytes: self.bytes(
                    &mut retention,
                    "retention",
                    "max_bytes",
                    default.retention.max_bytes,
                    1 << 20,
                ),
            },
            keep_deleted_pods: self.duration(
                &mut kubernetes,
                "kubernetes",
                "keep_deleted_pods",
                default.keep_deleted_pods,
            ),
            wait_for_agents: self.duration(
                &mut kubernetes,
                "kubernetes",
                "wait_for_agents",
                default.wait_for_agents,
            ),
            write_events: self.switch(&mut kubernetes, "kubernetes", "write_events", default.write_events),
            annotate_pods: self.switch(&mut kubernetes, "kubernetes", "annotate_pods", default.annotate_pods),
            lease: self.text(&mut kubernetes, "kubernetes", "lease").unwrap_or(default.lease),
            kubernetes: access,
            back_off: Policy {
                initial: self.duration(&mut back_off, "back_off", "initial", default.back_off.initial),
                cap: self.duration(&mut back_off, "back_off", "cap", default.back_off.cap),
            },
            max_report_bytes: self.report_bytes(&mut ingest, default.max_report_bytes),
        };
        if settings.back_off.cap < settings.back_off.initial {
            self.problem("back_off.cap is shorter than back_off.initial: the cap is the longest wait");
        }
        let sections = [
            ("retention", retention),
            ("kubernetes", kubernetes),
            ("back_off", back_off),
            ("ingest", ingest),
            ("tls", tls),
            ("authorization", authorization),
        ];
        for key in table.keys() {
            self.problem(&format!("there is no setting {key:?}: remove it, or correct its spelling"));
        }
        for (section, rest) in sections {
            for key in rest.keys() {
                self.problem(&format!(
                    "there is no setting {key:?} in [{section}]: remove it, or correct its spelling"
                ));
            }
        }
        settings
    }

    fn problem(&mut self, sentence: &str) {
        self.problems.push(format!("{}: {sentence}", self.origin));
    }

    fn section(&mut self, table: &mut Table, name: &str) -> Table {
        match table.remove(name) {
            None => Table::new(),
            Some(Value::Table(section)) => section,
            Some(_) => {
                self.problem(&format!("{name} is a section: write [{name}]"));
                Table::new()
            }
        }
    }

    fn take(&mut self, table: &mut Table, section: &str, key: &str) -> Option<Value> {
        self.known.insert(full(section, key));
        table.remove(key)
    }

    fn text(&mut self, table: &mut Table, section: &str, key: &str) -> Option<String> {
        match self.take(table, section, key)? {
            Value::String(text) => Some(text),
            other => {
                self.problem(&format!("{} has to be a text in quotes, not {other}", full(section, key)));
                None
            }
        }
    }

    fn switch(&mut self, table: &mut Table, section: &str, key: &str, default: bool) -> bool {
        match self.take(table, section, key) {
            None => default,
            Some(Value::Boolean(on)) => on,
            Some(other) => {
                self.problem(&format!("{} has to be true or false, not {other}", full(section, key)));
                default
            }
        }
    }

    fn duration(&mut self, table: &mut Table, section: &str, key: &str, default: Duration) -> Duration {
        let Some(text) = self.text(table, section, key) else { return default };
        let days =
            || text.strip_suffix('d')?.parse::<u64>().ok()?.checked_mul(24 * 3600).map(Duration::from_secs);
        match days().or_else(|| backoff::go_duration(&text)) {
            Some(duration) if !duration.is_zero() => duration,
            _ => {
                self.problem(&format!(
                    "{} has to be a time such as \"90s\", \"10m\" or \"30d\", not {text:?}",
                    full(section, key)
                ));
                default
            }
        }
    }

    fn bytes(&mut self, table: &mut Table, section: &str, key: &str, default: u64, least: u64) -> u64 {
        let value = match self.take(table, section, key) {
            None => return default,
            Some(Value::Integer(bytes)) => u64::try_from(bytes).ok(),
            // Helm writes all numbers of its values as floats; up to 2^53 they are exact.
            Some(Value::Float(bytes)) if (0.0..9_007_199_254_740_992.0).contains(&bytes) => {
                Some(bytes as u64)
            }
            Some(Value::String(text)) => in_bytes(&text),
            Some(_) => None,
        };
        value.filter(|bytes| *bytes >= least).unwrap_or_else(|| {
            self.problem(&format!(
                "{} has to be a size of at least {least} bytes, such as \"512MiB\" or \"2GiB\"",
                full(section, key)
            ));
            default
        })
    }

    fn report_bytes(&mut self, ingest: &mut Table, default: usize) -> usize {
        let bytes = self.bytes(ingest, "ingest", "max_report_bytes", default as u64, 64 << 10);
        let most = crate::serve::MAX_MESSAGE_BYTES as u64 / 2;
        if bytes > most {
            self.problem(&format!(
                "ingest.max_report_bytes is at most {most}: larger messages end the agent's stream"
            ));
        }
        usize::try_from(bytes).unwrap_or(default)
    }

    fn address(&mut self, key: &str, text: &str) -> SocketAddr {
        match text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next()) {
            Some(address) => address,
            None => {
                self.problem(&format!(
                    "{key} has to be an address and a port such as \"0.0.0.0:7443\", not {text:?}"
                ));
                Settings::default().listen
            }
        }
    }

    fn store(&mut self, store: Option<String>, data_directory: Option<String>) -> Place {
        let directory = PathBuf::from(data_directory.unwrap_or_else(|| DATA_DIRECTORY.to_owned()));
        let by_default = || Place::Sqlite(directory.join(DATABASE));
        let Some(store) = store else { return by_default() };
        if store.starts_with("postgres://") || store.starts_with("postgresql://") {
            return Place::Postgres(store);
        }
        match store.strip_prefix("sqlite:") {
            Some(path) if !path.is_empty() => Place::Sqlite(PathBuf::from(path)),
            _ => {
                self.problem(&format!("store has to be sqlite:PATH or postgres://…, not {store:?}"));
                by_default()
            }
        }
    }

    fn kubernetes(&mut self, table: &mut Table, args: &Args) -> Option<Access> {
        let in_file = self.text(table, "kubernetes", "kubeconfig").map(PathBuf::from);
        let enabled = self.switch(table, "kubernetes", "enabled", true);
        if args.no_kubernetes || (!enabled && args.kubeconfig.is_none()) {
            return None;
        }
        let Some(path) = args.kubeconfig.clone().or(in_file) else { return Some(Access::Inferred) };
        if let Err(sentence) = kubernetes::check_kubeconfig(&path) {
            self.problem(&sentence);
        }
        Some(Access::Kubeconfig(path))
    }
}

fn full(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

fn in_bytes(text: &str) -> Option<u64> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let (number, shift) =
        units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift))).unwrap_or((text, 0));
    number.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod keys_tests;
#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn with(text: &str, more: &[&str]) -> Result<Settings, Vec<String>> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("aggregator.toml");
        std::fs::write(&file, text).unwrap();
        let mut line = vec!["lastwords-aggregator", "--config", file.to_str().unwrap()];
        line.extend(more);
        settings(&Args::parse_from(line))
    }

    #[test]
    fn defaults() {
        assert_eq!(settings(&Args::parse_from(["lastwords-aggregator"])).unwrap(), Settings::default());
    }

    #[test]
    fn everything_set() {
        let settings = with(
            "listen = '127.0.0.1:9'\nhealth_listen = '0.0.0.0:10'\nmetrics_listen = '0.0.0.0:11'\ncluster = 'east'\ndata_directory = '/data'\n\
             [retention]\nmax_age = '7d'\nmax_bytes = '512MiB'\n[kubernetes]\nenabled = false\nwrite_events = false\nannotate_pods = true\n\
             keep_deleted_pods = '20m'\nwait_for_agents = '5s'\nlease = 'one'\n[back_off]\ninitial = '1s'\ncap = '1m30s'\n\
             [ingest]\nmax_report_bytes = 65536\n[tls]\ncertificate = '/c'\nkey = '/k'\n",
            &[],
        )
        .unwrap();
        let expected = Settings {
            listen: "127.0.0.1:9".parse().unwrap(),
            cluster: "east".to_owned(),
            store: Place::Sqlite(PathBuf::from("/data/lastwords.db")),
            retention: Retention { max_age: Duration::from_secs(7 * 86_400), max_bytes: 512 << 20 },
            health_listen: Some("0.0.0.0:10".parse().unwrap()),
            metrics_listen: Some("0.0.0.0:11".parse().unwrap()),
            tls: tls::Mode::Files { certificate: "/c".into(), key: "/k".into() },
            authorization: None,
            kubernetes: None,
            lease: "one".to_owned(),
            write_events: false,
            annotate_pods: true,
            keep_deleted_pods: Duration::from_secs(1200),
            wait_for_agents: Duration::from_secs(5),
            back_off: Policy { initial: Duration::from_secs(1), cap: Duration::from_secs(90) },
            max_report_bytes: 65_536,
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn sizes_may_be_floats_as_helm_writes_them() {
        let bytes = |written: &str| {
            with(&format!("[retention]\nmax_bytes = {written}\n"), &["--listen", "127.0.0.1:0"])
                .map(|settings| settings.retention.max_bytes)
        };
        assert_eq!(bytes("1.073741824e+09"), Ok(1 << 30));
        assert!(bytes("nan").is_err() && bytes("-1e9").is_err() && bytes("1e300").is_err());
    }

    #[test]
    fn the_command_line_wins() {
        let line = ["--listen", "127.0.0.1:2", "--store", "sqlite:/b.db", "--no-kubernetes"];
        let settings = with("listen = '127.0.0.1:1'\nstore = 'sqlite:/a.db'\n", &line).unwrap();
        assert_eq!(
            (settings.listen.port(), settings.store, settings.kubernetes),
            (2, Place::Sqlite(PathBuf::from("/b.db")), None)
        );
    }

    #[test]
    fn all_problems_at_once() {
        let problems = with(
            "listen = 'here'\nstore = 7\nlisten_on = 1\nretention = 3\n[kubernetes]\nkubeconfig = '/no/such/file'\n\
             [back_off]\ninitial = '10m'\ncaps = '1m'\n[ingest]\nmax_report_bytes = '1GiB'\n",
            &[],
        )
        .unwrap_err();
        for part in [
            "listen has to be",
            "store has to be a text",
            "no setting \"listen_on\"",
            "retention is a section",
            "/no/such/file",
            "back_off.cap is shorter",
            "no setting \"caps\" in [back_off]",
            "ingest.max_report_bytes is at most",
        ] {
            assert_eq!(
                problems.iter().filter(|problem| problem.contains(part)).count(),
                1,
                "{part}: {problems:#?}"
            );
        }
        assert_eq!(problems.len(), 8, "{problems:#?}");
    }

    #[test]
    fn postgres_is_a_store_and_nothing_else_is() {
        let line = |store| with("", &["--store", store, "--listen", "127.0.0.1:0"]);
        let url = "postgres://u@db/lastwords";
        assert_eq!(line(url).unwrap().store, Place::Postgres(url.to_owned()));
        assert!(line("mysql://db").unwrap_err()[0].contains("sqlite:PATH or postgres://"));
    }
}
