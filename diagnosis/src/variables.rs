//! Which environment variables hold what a failed call was about. The agent asks on the node, where the values are; only names leave it.

use crate::evidence::Failure;

/// Names that are told of one failed call at most: a host often stands in two or three variables.
const MOST: usize = 4;

/// Variables that the system or the cluster sets, and nobody gets wrong.
const GIVEN: [&str; 12] = [
    "HOME", "HOSTNAME", "LANG", "LANGUAGE", "LOGNAME", "OLDPWD", "PATH", "PWD", "SHELL", "SHLVL", "TERM",
    "USER",
];

/// The names of those variables whose values hold the path, host or port that the call failed on.
pub fn holding<'a>(failure: &Failure, variables: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for (name, value) in variables {
        if names.len() < MOST && !is_given(name) && holds(failure, name, value) && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Set by the container, its runtime, or by Kubernetes for each Service (`DB_SERVICE_HOST`, `DB_PORT_5432_TCP_ADDR`).
fn is_given(name: &str) -> bool {
    let of_a_service = name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.contains("_PORT_") && (name.contains("_TCP") || name.contains("_UDP")));
    GIVEN.contains(&name) || name.starts_with("LC_") || of_a_service
}

fn holds(failure: &Failure, name: &str, value: &str) -> bool {
    let value = value.trim();
    if value.len() < 2 {
        return false;
    }
    if failure.dns.is_some() {
        return is_host(value, failure.name.trim_end_matches('.'));
    }
    if !failure.path.is_empty() {
        let path = value.strip_prefix("file://").or(value.strip_prefix("unix:")).unwrap_or(value);
        return failure.path.len() > 1 && path.trim_end_matches('/') == failure.path;
    }
    match split(&failure.address) {
        Some((host, port)) => match authority(value).and_then(|authority| authority.rsplit_once(':')) {
            Some((value_host, value_port)) => value_port == port && same_host(value_host, host),
            None => {
                is_one_host(host, value)
                    || (is_port(value, port) && name.to_ascii_uppercase().contains("PORT"))
            }
        },
        None => false,
    }
}

/// `db.prod.svc` in `db`, `db:5432`, `postgres://user:…@db:5432/app` or `host=db port=5432`; the search list's domains may follow.
fn is_host(value: &str, asked: &str) -> bool {
    let same = |host: &str| {
        let host = host.trim_end_matches('.');
        let (begin, rest) = asked.split_at_checked(host.len()).unwrap_or_default();
        host.len() > 1 && begin.eq_ignore_ascii_case(host) && (rest.is_empty() || rest.starts_with('.'))
    };
    let authority = authority(value).unwrap_or(value);
    let without_port = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let of_pairs = || value.split_whitespace().filter_map(|pair| pair.strip_prefix("host=")).any(same);
    !asked.is_empty() && (same(value) || same(without_port) || of_pairs())
}

/// `db:5432` of `postgres://user:…@db:5432/app`; a value with a port or a scheme has one.
fn authority(value: &str) -> Option<&str> {
    let rest = match value.split_once("://") {
        Some((_, rest)) => rest,
        None if value.contains(':') && !value.contains('/') => value,
        None => return None,
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    Some(authority.rsplit_once('@').map_or(authority, |(_, host)| host))
}

/// Host and port of `10.0.0.9:5432/tcp`.
fn split(address: &str) -> Option<(&str, &str)> {
    address.split('/').next()?.rsplit_once(':')
}

fn same_host(value: &str, host: &str) -> bool {
    let bare = |text: &str| text.trim_start_matches('[').trim_end_matches(']').to_owned();
    // A listener on all addresses is written in many ways; of a name only the resolver knows the address.
    let any = ["", "*", "0.0.0.0", "::"];
    bare(value) == bare(host)
        || (any.contains(&bare(value).as_str()) && any.contains(&bare(host).as_str()))
        || (value == "localhost" && matches!(bare(host).as_str(), "127.0.0.1" | "::1"))
}

fn is_one_host(host: &str, value: &str) -> bool {
    !matches!(host, "0.0.0.0" | "[::]") && same_host(value, host)
}

fn is_port(value: &str, port: &str) -> bool {
    value == port && port != "0"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::DnsQuery;

    fn of(failure: &Failure, variables: &[(&'static str, &'static str)]) -> Vec<&'static str> {
        holding(failure, variables.iter().copied())
    }

    #[test]
    fn hosts() {
        let failure = Failure {
            name: "db.prod.svc.cluster.local".into(),
            dns: Some(DnsQuery::default()),
            ..Failure::default()
        };
        let variables = [
            ("PATH", "db"),
            ("DB_HOST", "db.prod"),
            ("DB_URL", "postgres://app:secret@db.prod.svc.cluster.local:5432/app"),
            ("DB_DSN", "host=db port=5432"),
            ("OTHER", "d"),
            ("CACHE", "redis://cache:6379"),
            ("DB_SERVICE_HOST", "db"),
        ];
        assert_eq!(of(&failure, &variables), ["DB_HOST", "DB_URL", "DB_DSN"]);
    }

    #[test]
    fn addresses() {
        let failure = Failure { address: "10.0.0.9:5432/tcp".into(), ..Failure::default() };
        let variables = [
            ("WORKERS", "5432"),
            ("DB_PORT", "5432"),
            ("DB_HOST", "10.0.0.9"),
            ("DB", "10.0.0.9:5432"),
            ("OTHER", "10.0.0.9:80"),
        ];
        assert_eq!(of(&failure, &variables), ["DB_PORT", "DB_HOST", "DB"]);
        let failure = Failure { address: "0.0.0.0:8080/tcp".into(), ..Failure::default() };
        assert_eq!(
            of(&failure, &[("LISTEN", ":8080"), ("BIND", "0.0.0.0"), ("PORT", "8080")]),
            ["LISTEN", "PORT"]
        );
    }

    #[test]
    fn paths() {
        let failure = Failure { path: "/data/app".into(), ..Failure::default() };
        assert_eq!(
            of(
                &failure,
                &[("DATA", "/data/app/"), ("HOME", "/data/app"), ("X", "/data"), ("U", "file:///data/app")]
            ),
            ["DATA", "U"]
        );
    }
}
