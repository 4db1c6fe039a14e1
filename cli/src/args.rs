//! The command line.

use std::path::Path;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use lastwords_proto::v1::Cause;

use crate::output::Format;
use crate::server::Server;

/// Why containers die, from what the kernel saw at that moment.
#[derive(Debug, Parser)]
#[command(name = "lastwords", version, disable_help_subcommand = true)]
pub struct Arguments {
    #[command(flatten)]
    pub(crate) server: Server,
    /// The form of the answer
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Format,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What is asked.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Why a pod's containers died: the cause, the evidence, the fix, the back-off
    Explain(Explain),
    /// A line a crash, newest first
    List(List),
    /// Crashes as they come in
    Watch(Watch),
    /// One crash with all its evidence
    Get(Get),
    /// The nodes and their agents: who is watched, since when, and what was lost
    Nodes,
}

/// `explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// A pod, or what owns pods: deployment/api, statefulset/db, daemonset/log, job/migrate, cronjob/backup
    #[arg(value_name = "[KIND/]NAME", value_parser = target, required_unless_present = "selector", conflicts_with = "selector")]
    pub(crate) target: Option<Target>,
    /// The pods with these labels, for example app=api
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub(crate) selector: Option<String>,
    /// The namespace [default: as the kubeconfig's context has it]
    #[arg(short, long, value_name = "NS")]
    pub(crate) namespace: Option<String>,
    /// Only this container
    #[arg(short, long, value_name = "CONTAINER", default_value = "", hide_default_value = true)]
    pub(crate) container: String,
}

/// What is to be explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A pod, by its name.
    Pod(String),
    /// What owns pods, by kind and name.
    Owner(String, String),
}

/// Which namespaces, as kubectl has it.
#[derive(Debug, Args)]
pub struct Namespaces {
    /// Only this namespace [default: as the kubeconfig's context has it]
    #[arg(short, long, value_name = "NS")]
    namespace: Option<String>,
    /// All namespaces, and containers without one
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
}

impl Namespaces {
    /// The namespace for a request, `default` where none was named; empty for all.
    pub(crate) fn wanted<'a>(&'a self, default: &'a str) -> &'a str {
        if self.all_namespaces { "" } else { self.namespace.as_deref().unwrap_or(default) }
    }
}

/// `list`.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    pub(crate) namespaces: Namespaces,
    /// Only this cause, for example out-of-memory
    #[arg(long, value_parser = cause)]
    pub(crate) cause: Option<Cause>,
    /// Only crashes of the last 90s, 15m, 1h, 2d
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    pub(crate) since: Option<i64>,
    /// Only crashes on this node
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) node: String,
    /// Also exits with code 0 and planned stops, which are no crashes
    #[arg(long)]
    pub(crate) all: bool,
    /// At most this many, the newest
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
}

/// `watch`.
#[derive(Debug, Args)]
pub struct Watch {
    #[command(flatten)]
    pub(crate) namespaces: Namespaces,
    /// Also exits with code 0 and planned stops, which are no crashes
    #[arg(long)]
    pub(crate) all: bool,
}

/// `get`.
#[derive(Debug, Args)]
pub struct Get {
    /// The crash's id, as list -o json shows it
    pub(crate) id: String,
}

impl Arguments {
    /// The arguments of this process; a wrong command line ends it with exit code 2. As `kubectl-lastwords` it calls itself what the
    /// user typed.
    pub fn from_command_line() -> Self {
        let called = std::env::args_os().next().unwrap_or_default();
        let as_plugin = Path::new(&called).file_stem().is_some_and(|name| name == "kubectl-lastwords");
        let command = Self::command();
        let command = if as_plugin { command.bin_name("kubectl lastwords") } else { command };
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }

    /// The format asked for.
    pub fn output(&self) -> Format {
        self.output
    }
}

/// `NAME`, `pod/NAME`, `pods/NAME` or `po/NAME`; `KIND/NAME` of what owns pods.
fn target(written: &str) -> Result<Target, String> {
    let (kind, name) = written.split_once('/').unwrap_or(("pod", written));
    match (kind, name) {
        (_, "") => Err("the name is missing".to_owned()),
        ("", _) => Err("the kind is missing".to_owned()),
        (_, name) if name.contains('/') => Err("write it as KIND/NAME".to_owned()),
        ("node" | "nodes" | "no", _) => {
            Err("nodes are no pods: see lastwords nodes, or list --node".to_owned())
        }
        ("pod" | "pods" | "po", name) => Ok(Target::Pod(name.to_owned())),
        (kind, name) => Ok(Target::Owner(kind.to_owned(), name.to_owned())),
    }
}

/// A cause in any of its spellings.
fn cause(written: &str) -> Result<Cause, String> {
    lastwords_render::cause_by_name(written).ok_or_else(|| {
        let names = (0..).map_while(|number| Cause::try_from(number).ok());
        let names: Vec<String> =
            names.map(|cause| lastwords_render::cause_words(cause).replace(' ', "-")).collect();
        format!("there is no such cause; causes are {}", names.join(", "))
    })
}

/// Seconds from `90s`, `15m`, `1h`, `2d` or several of them (`1h30m`).
fn seconds(written: &str) -> Result<i64, String> {
    let wrong = || "write it as 90s, 15m, 1h or 2d".to_owned();
    let mut total: i64 = 0;
    let mut rest = written;
    while !rest.is_empty() {
        let unit_at = rest.find(|character: char| !character.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(unit_at);
        let mut tail = tail.chars();
        let unit: i64 = match tail.next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3_600,
            Some('d') => 86_400,
            _ => return Err(wrong()),
        };
        let number: i64 = number.parse().map_err(|_| wrong())?;
        total = number.checked_mul(unit).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = tail.as_str();
    }
    if total == 0 { Err(wrong()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn durations() {
        for (written, expected) in [
            ("90s", Some(90)),
            ("15m", Some(900)),
            ("1h", Some(3_600)),
            ("2d", Some(172_800)),
            ("1h30m", Some(5_400)),
        ] {
            assert_eq!(seconds(written).ok(), expected, "{written}");
        }
        for wrong in
            ["", "1", "h", "-1h", "1w", "0s", "1.5h", "99999999999999999999s", "9223372036854775807d"]
        {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pods_may_be_written_as_for_kubectl() {
        for written in ["api-7f9", "pod/api-7f9", "pods/api-7f9", "po/api-7f9"] {
            assert_eq!(target(written), Ok(Target::Pod("api-7f9".to_owned())));
        }
        assert_eq!(target("deploy/api"), Ok(Target::Owner("deploy".to_owned(), "api".to_owned())));
        for wrong in ["", "pod/", "/api", "deploy/shop/api", "node/worker-1"] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn options_stand_before_and_after() {
        let arguments =
            parse("lastwords -o json explain pod/api -n shop -c app --server 10.0.0.1:7443").unwrap();
        assert_eq!(arguments.output, Format::Json);
        assert_eq!(arguments.server.address.as_deref(), Some("10.0.0.1:7443"));
        let Command::Explain(explain) = arguments.command else { panic!("explain was asked") };
        assert_eq!(
            (explain.target, explain.namespace.as_deref(), explain.container.as_str()),
            (Some(Target::Pod("api".to_owned())), Some("shop"), "app")
        );
        let Command::Explain(explain) = parse("lastwords explain -l app=api").unwrap().command else {
            panic!("explain was asked")
        };
        assert_eq!((explain.target, explain.selector.as_deref()), (None, Some("app=api")));
    }

    #[test]
    fn lists_are_of_one_namespace_or_all() {
        for (line, namespace) in
            [("lastwords list", "of the context"), ("lastwords list -n a", "a"), ("lastwords list -A", "")]
        {
            let Command::List(list) = parse(line).unwrap().command else { panic!("list was asked") };
            assert_eq!(list.namespaces.wanted("of the context"), namespace);
        }
        let line = "lastwords list -A --cause out-of-memory --since 1h --node n1 --all";
        let Command::List(list) = parse(line).unwrap().command else { panic!("list was asked") };
        assert_eq!((list.cause, list.since, list.all), (Some(Cause::OutOfMemory), Some(3_600), true));
    }

    #[test]
    fn a_wrong_command_line_is_refused_with_code_2() {
        for line in [
            "lastwords",
            "lastwords explain",
            "lastwords explain node/worker-1",
            "lastwords explain api -l app=api",
            "lastwords list --cause oom",
            "lastwords list --since yesterday",
            "lastwords list -n a -A",
            "lastwords list -o xml",
            "lastwords get",
        ] {
            assert_eq!(parse(line).map(|_| ()).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
