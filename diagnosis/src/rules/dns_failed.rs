//! A name the program needs could not be resolved.

use super::{Finding, before_the_end, call_and_exit};
use crate::calls::Call;
use crate::case::Case;
use crate::evidence::{DnsOutcome, Failure};
use crate::verdict::{Cause, Confidence};
use crate::{context, errno, log, noise, words};

pub(super) fn call(case: &Case<'_>, call: &Call<'_>) -> Option<Finding> {
    let failure = call.failure;
    let Some(query) = &failure.dns else { return unreachable(case, call) };
    let name = words::one_line(&failure.name);
    let server = words::one_line(&failure.address);
    let silent = query.outcome == DnsOutcome::NoAnswer && is_silent(case);
    let said = match query.outcome {
        DnsOutcome::Unknown => return None,
        DnsOutcome::NoAnswer if failure.errno != 0 => {
            format!("{server} does not answer: {}", words::failed(failure))
        }
        _ => words::failed(failure),
    };
    let program = words::program(&failure.comm);
    Some(Finding {
        cause: Cause::DnsFailed,
        confidence: call.confidence(),
        summary: format!(
            "{program} could not resolve {name}{}, {said}, {}",
            context::from_variable(case, failure),
            before_the_end(case, call)
        ),
        remedy: format!("{}{}", remedy(query.outcome, &name, &server), context::or_variable(case, failure)),
        object: if silent { server } else { name },
        evidence: call_and_exit(case, call),
    })
}

/// The name server could not even be asked. Which name was to be asked is then not known: nothing was sent.
fn unreachable(case: &Case<'_>, call: &Call<'_>) -> Option<Finding> {
    let failure = call.failure;
    let refused = matches!(
        failure.errno,
        errno::ECONNREFUSED | errno::ENETUNREACH | errno::EHOSTUNREACH | errno::ETIMEDOUT
    );
    if !refused || !noise::is_name_server(&failure.address) {
        return None;
    }
    let server = words::one_line(&failure.address);
    let told = log::last_lines(case).any(|line| is_about_a_name(line.text));
    let least = if told { Confidence::Medium } else { Confidence::Low };
    Some(Finding {
        cause: Cause::DnsFailed,
        confidence: call.confidence().max(least),
        summary: format!(
            "{} could resolve no name, the DNS server {server} cannot be reached: {} {}",
            words::program(&failure.comm),
            words::failed(failure),
            before_the_end(case, call)
        ),
        remedy: remedy(DnsOutcome::NoAnswer, "", &server),
        object: server,
        evidence: call_and_exit(case, call),
    })
}

/// A line of a log that tells of a name that was not resolved, in the words of the C library and of languages' runtimes.
fn is_about_a_name(line: &str) -> bool {
    const SAID: [&str; 9] = [
        "could not resolve",
        "couldn't resolve",
        "name resolution",
        "name or service not known",
        "getaddrinfo",
        "eai_again",
        "no such host",
        "unknownhostexception",
        "host not found",
    ];
    let lower = line.to_ascii_lowercase();
    SAID.iter().any(|said| lower.contains(said))
}

/// Whether no name server answered anything: then it is not about the name.
fn is_silent(case: &Case<'_>) -> bool {
    let outcome = |failure: &Failure| failure.dns.as_ref().map(|query| query.outcome);
    case.failures().filter_map(|(_, failure)| outcome(failure)).all(|it| it == DnsOutcome::NoAnswer)
}

fn remedy(outcome: DnsOutcome, name: &str, server: &str) -> String {
    match outcome {
        DnsOutcome::NxDomain | DnsOutcome::NoData => format!(
            "correct the name {name} in the container's configuration, or create what it names (kubectl get services -A); a Service of another namespace needs that behind its name"
        ),
        DnsOutcome::NoAnswer => format!(
            "see that the DNS server {server} runs (kubectl -n kube-system get pods -l k8s-app=kube-dns) and that no NetworkPolicy keeps the pod from port 53 over UDP and TCP"
        ),
        _ => format!(
            "see why the DNS server {server} does not resolve {name} (kubectl -n kube-system logs -l k8s-app=kube-dns), and let the program retry instead of leaving"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Diagnosis;
    use crate::evidence::{DnsQuery, Evidence, Exit, Process};

    const SERVER: &str = "10.96.0.10:53/udp";

    fn asked(name: &str, outcome: DnsOutcome, before_death_ms: f64) -> Failure {
        Failure {
            syscall: "recvfrom".to_owned(),
            name: name.to_owned(),
            address: SERVER.to_owned(),
            pid: 7,
            tid: 7,
            comm: "app".to_owned(),
            count: 1,
            first_before_death_ms: before_death_ms,
            last_before_death_ms: before_death_ms,
            by_dying_thread: true,
            dns: Some(DnsQuery {
                outcome,
                response_code: 3,
                types: vec!["A".to_owned(), "AAAA".to_owned()],
                transport: "udp".to_owned(),
            }),
            ..Failure::default()
        }
    }

    fn diagnosis(failures: Vec<Failure>) -> Diagnosis {
        let evidence = Evidence {
            process: Some(Process { pid: 7, comm: "app".to_owned(), ..Process::default() }),
            exit: Some(Exit { code: 1, tid: 7, ..Exit::default() }),
            failures,
            ..Evidence::default()
        };
        crate::diagnose(&evidence, None)
    }

    #[test]
    fn a_name_that_does_not_exist_is_the_cause() {
        let it = diagnosis(vec![asked("orders-db.prod", DnsOutcome::NxDomain, 1.0)]);
        assert_eq!(
            (it.cause, it.confidence, it.object.as_str()),
            (Cause::DnsFailed, Confidence::High, "orders-db.prod")
        );
        assert!(
            it.summary.contains("10.96.0.10:53/udp says that it does not exist (NXDOMAIN)"),
            "{}",
            it.summary
        );
    }

    #[test]
    fn a_silent_server_is_the_object() {
        let it = diagnosis(vec![asked("orders-db.prod", DnsOutcome::NoAnswer, 5_002.0)]);
        assert_eq!(
            (it.cause, it.confidence, it.object.as_str()),
            (Cause::DnsFailed, Confidence::Medium, SERVER)
        );
    }

    #[test]
    fn a_server_that_answered_another_name_is_not() {
        let failures = vec![
            asked("cache", DnsOutcome::NxDomain, 9_000.0),
            asked("orders-db.prod", DnsOutcome::NoAnswer, 800.0),
        ];
        assert_eq!(diagnosis(failures).object, "orders-db.prod");
    }

    #[test]
    fn a_connection_that_failed_later_comes_first() {
        let refused = Failure {
            syscall: "connect".to_owned(),
            errno: crate::errno::ECONNREFUSED,
            address: "10.0.0.9:5432/tcp".to_owned(),
            dns: None,
            name: String::new(),
            ..asked("", DnsOutcome::Unknown, 0.5)
        };
        let it = diagnosis(vec![asked("cache", DnsOutcome::NxDomain, 300.0), refused]);
        assert_eq!(it.cause, Cause::ConnectionFailed);
    }

    #[test]
    fn who_an_address_belongs_to_does_not_matter() {
        let mut reverse = asked("9.0.0.10.in-addr.arpa", DnsOutcome::NxDomain, 1.0);
        reverse.dns.as_mut().unwrap().types = vec!["PTR".to_owned()];
        assert_ne!(diagnosis(vec![reverse]).cause, Cause::DnsFailed);
    }
}
