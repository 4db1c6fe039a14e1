//! The agent's configuration: a TOML file in which every key is optional. All problems of a file are reported at once.

mod reader;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing_subscriber::filter::LevelFilter;

use crate::redact::Redactor;
use reader::Table;

/// A file larger than this is no configuration (the documented one has about a kilobyte).
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// 64 MiB: crash reports are about 4 to 20 KiB, so an aggregator may be away for some thousand crashes of this node; small enough
/// for the state disk of any node.
pub const DEFAULT_SPOOL_BYTES: u64 = 64 * 1024 * 1024;

/// A minute: programs that give up for want of something do so earlier.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// How the agent is set up. The defaults are those of the DaemonSet.
#[derive(Debug, Clone)]
pub struct Config {
    /// `node_name`: the node as Kubernetes names it. Default: the environment variable NODE_NAME, else the host's name.
    pub node_name: String,
    /// `aggregator`: where reports go. Default: `https://lastwords-aggregator:7443`.
    pub aggregator: String,
    /// `aggregator_ca`: a file with the authority that the aggregator's certificate has to be of. Default: `/etc/lastwords/ca/ca.crt`.
    pub aggregator_ca: PathBuf,
    /// `aggregator_token`: a file with the token by which this agent proves its node. Default: none.
    pub aggregator_token: Option<PathBuf>,
    /// `spool_directory`: reports are kept here until they are stored. Default: `/var/lib/lastwords`.
    pub spool_directory: PathBuf,
    /// `spool_max_bytes`: bytes of reports kept at most, 1 MiB to 64 GiB. Default: 64 MiB.
    pub spool_max_bytes: u64,
    /// `metrics_listen`: where Prometheus asks for metrics. Default: none, nobody can.
    pub metrics_listen: Option<SocketAddr>,
    /// `host_proc`: the host's procfs as this process sees it. Default: `/proc`.
    pub host_proc: PathBuf,
    /// `cgroup_root`: the host's control groups as this process sees them. Default: `/sys/fs/cgroup`.
    pub cgroup_root: PathBuf,
    /// `pod_logs_directory`: where the kubelet keeps the containers' logs. Default: `/var/log/pods`.
    pub pod_logs_directory: PathBuf,
    /// `[log_tail]`.
    pub log_tail: LogTailConfig,
    /// `[redact] extra_patterns`: regular expressions of what else to hide in arguments and log lines. Default: none.
    pub redactor: Redactor,
    /// `healthy_after_seconds`: how long a container has to be up until what failed in it counts as harmless, 2 to 3600. Default: 60.
    pub healthy_after: Duration,
    /// `log_level`: error, warn, info, debug or trace. Default: info.
    pub log_level: LevelFilter,
}

/// `[log_tail]`: whether and how much of a dead container's log is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogTailConfig {
    /// `enabled`. Default: true.
    pub enabled: bool,
    /// `lines`: lines kept at most, 1 to 500. Default: 50.
    pub lines: usize,
    /// `bytes`: bytes read at most from the end of the log, 1 KiB to 1 MiB. Default: 64 KiB.
    pub bytes: u64,
    /// `disabled_namespaces`: namespaces whose logs are never read. Default: none.
    pub disabled_namespaces: Vec<String>,
}

impl Default for LogTailConfig {
    fn default() -> Self {
        Self { enabled: true, lines: 50, bytes: 64 * 1024, disabled_namespaces: Vec::new() }
    }
}

/// What is wrong with a configuration, all of it.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, or `defaults` without one.
    pub file: String,
    /// One sentence each, at least one.
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "wrong configuration in {}: {}", self.file, self.problems.join("; "))
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads `file`, or takes the defaults without one.
    ///
    /// # Errors
    /// When the file cannot be read, is no TOML, or has unknown keys or wrong values.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let name = file.map_or_else(|| "defaults".to_owned(), |path| path.display().to_string());
        let fail = |problem| ConfigError { file: name.clone(), problems: vec![problem] };
        let text = file.map_or_else(|| Ok(String::new()), |path| read(path).map_err(fail))?;
        Self::parse(&text, &default_node_name()).map_err(|problems| ConfigError { file: name, problems })
    }

    /// Reads a configuration from its text. `node_name` stands where the text names none.
    ///
    /// # Errors
    /// Each problem as a sentence that begins with the key.
    pub fn parse(text: &str, node_name: &str) -> Result<Self, Vec<String>> {
        let document: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error
                .span()
                .map_or(0, |span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
            vec![format!("line {line} is not TOML: {}", error.message())]
        })?;
        let mut problems = Vec::new();
        let mut table = Table::new(document, "", &mut problems);

        let node_name = table.text("node_name", node_name, is_node_name);
        let aggregator = table.text("aggregator", "https://lastwords-aggregator:7443", is_address);
        let aggregator_ca = table.path("aggregator_ca", "/etc/lastwords/ca/ca.crt");
        let aggregator_token = table.optional_path("aggregator_token");
        if aggregator_token.is_some() && !may_have_token(&aggregator) {
            table.report(
                "aggregator_token",
                "goes only to an https:// address, or to this host: whoever is on the way would read it",
            );
        }
        let spool_directory = table.path("spool_directory", "/var/lib/lastwords");
        let spool_max_bytes = table.bytes("spool_max_bytes", DEFAULT_SPOOL_BYTES, 1 << 20..=64 << 30);
        let metrics_listen = table.optional_address("metrics_listen");
        let host_proc = table.path("host_proc", "/proc");
        let cgroup_root = table.path("cgroup_root", "/sys/fs/cgroup");
        let pod_logs_directory = table.path("pod_logs_directory", "/var/log/pods");
        let healthy_after = table.number("healthy_after_seconds", HEALTHY_AFTER.as_secs() as usize, 2..=3600);
        let log_level = table.text("log_level", "info", is_log_level).parse().unwrap_or(LevelFilter::INFO);

        let log_tail_defaults = LogTailConfig::default();
        let mut section = table.section("log_tail");
        let log_tail = LogTailConfig {
            enabled: section.switch("enabled", log_tail_defaults.enabled),
            lines: section.number("lines", log_tail_defaults.lines, 1..=500),
            bytes: section.bytes("bytes", log_tail_defaults.bytes, 1 << 10..=1 << 20),
            disabled_namespaces: section.texts("disabled_namespaces"),
        };
        section.refuse_the_rest();

        let mut section = table.section("redact");
        let redactor = Redactor::new(&section.texts("extra_patterns")).unwrap_or_else(|wrong| {
            section.report_all("extra_patterns", wrong);
            Redactor::default()
        });
        section.refuse_the_rest();
        table.refuse_the_rest();

        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            node_name,
            aggregator,
            aggregator_ca,
            aggregator_token,
            spool_directory,
            spool_max_bytes,
            metrics_listen,
            host_proc,
            cgroup_root,
            pod_logs_directory,
            log_tail,
            redactor,
            healthy_after: Duration::from_secs(healthy_after as u64),
            log_level,
        })
    }
}

fn read(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| format!("cannot read it: {error}"))?.len();
    if size > MAX_FILE_BYTES {
        return Err(format!("it has {size} bytes, which is no configuration (at most {MAX_FILE_BYTES})"));
    }
    std::fs::read_to_string(path).map_err(|error| format!("cannot read it: {error}"))
}

/// The node's name where nothing else says it: the environment variable NODE_NAME, else the host's name.
#[must_use]
pub fn default_node_name() -> String {
    let host_name = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    std::env::var("NODE_NAME").ok().filter(|name| !name.is_empty()).or_else(host_name).unwrap_or_default()
}

/// A node's name is a DNS subdomain (RFC 1123); this takes a little more, as hosts outside Kubernetes have names such as `My_Host`.
fn is_node_name(name: &str) -> Result<(), String> {
    let characters =
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    if (1..=253).contains(&name.len()) && characters {
        Ok(())
    } else {
        Err("must have 1 to 253 letters, digits, dots, dashes or underscores; set it, or the environment variable NODE_NAME"
            .to_owned())
    }
}

fn is_address(address: &str) -> Result<(), String> {
    let wrong = || "must be a URL such as https://lastwords-aggregator:7443".to_owned();
    let uri: tonic::transport::Uri = address.parse().map_err(|_| wrong())?;
    let authority = uri.authority().ok_or_else(wrong)?;
    let port_is_right = authority.port_u16().is_some() || authority.as_str() == authority.host();
    match uri.scheme_str() {
        Some("https" | "http") if port_is_right && !authority.host().is_empty() => Ok(()),
        _ => Err(wrong()),
    }
}

/// Plain text may carry a token only within this host.
fn may_have_token(address: &str) -> bool {
    let Ok(uri) = address.parse::<tonic::transport::Uri>() else { return true };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    uri.scheme_str() == Some("https") || is_here
}

fn is_log_level(level: &str) -> Result<(), String> {
    let known = ["error", "warn", "info", "debug", "trace"];
    if known.contains(&level) { Ok(()) } else { Err(format!("must be one of {}", known.join(", "))) }
}

#[cfg(test)]
mod tests;
