//! Names that could not be resolved. A resolver asks for one name many times: for A and AAAA, with each search domain behind it, of one
//! server after the other. What is told is the name that the program wanted.

use lastwords_diagnosis::evidence::{DnsOutcome, DnsQuery, Failure};

use super::{Death, is_of_run, milliseconds_before, text};
use crate::{
    assemble::failures::is_dying_thread,
    decode::{self, DnsFate, Recording, Transport},
    kernel::syscalls,
};

/// A query that is younger than this (nanoseconds) at the end may still have been answered.
const PATIENCE: u64 = 500_000_000;
/// Names of one series follow each other within this (nanoseconds): a resolver with two servers waits ten seconds for each name.
const SERIES: u64 = 15_000_000_000;

/// Queries of one name.
struct Name<'a> {
    name: Vec<u8>,
    /// Oldest first.
    queries: Vec<&'a decode::DnsQuery>,
}

/// One failure a name, oldest first.
pub(super) fn failures(death: &Death, recording: &Recording) -> Vec<Failure> {
    let mut names: Vec<Name<'_>> = Vec::new();
    let of_run: Vec<_> = recording.dns.iter().filter(|query| is_of_run(death, query.time)).collect();
    let failed = |query: &&decode::DnsQuery| match query.fate {
        DnsFate::Failed => outcome(death, query).is_some(),
        DnsFate::Resolved => false,
        DnsFate::Supplanted => !is_of_series(query, &of_run),
    };
    for query in of_run.iter().copied().filter(failed) {
        let name = query.name.to_ascii_lowercase();
        match names.iter_mut().find(|it| it.name == name && it.tgid() == query.tgid) {
            Some(known) => known.queries.push(query),
            None => names.push(Name::of(query)),
        }
    }
    let mut failures = Vec::new();
    for it in &names {
        // The last name of a series is the one that counts, and stands for all.
        if !names.iter().any(|other| it.is_extended(other) || it.precedes(other)) {
            // The name itself was asked for as well: `db.shop.svc.cluster.local` with `cluster.local` behind it looks like `db.shop` with
            // two search domains behind that.
            let is_itself = names.iter().any(|other| other.is_extended(it));
            let stems = names.iter().filter(|_| !is_itself).filter_map(|other| it.stem(other));
            let wanted = stems.min_by_key(Vec::len).unwrap_or_else(|| it.original());
            failures.extend(failure(death, it, &wanted));
        }
    }
    failures
}

/// Whether a name that does not exist was only tried on the way to one that was resolved afterwards. When that one is not kept any more it is
/// taken for such.
fn is_of_series(query: &decode::DnsQuery, all: &[&decode::DnsQuery]) -> bool {
    let name = Name::of(query);
    let resolved: Vec<Name<'_>> = all
        .iter()
        .filter(|other| other.fate == DnsFate::Resolved && other.time >= query.time)
        .map(|other| Name::of(other))
        .filter(|other| other.is_near(&name) && other.first_label() == name.first_label())
        .collect();
    let stems = || all.iter().filter_map(|other| Name::of(other).stem(&name));
    let led_to = |found: &Name<'_>| {
        name.is_extended(found)
            || name.stem(found).is_some()
            // Search domains that have nothing in common: what the others show to be the name before them.
            || stems().any(|stem| found.name.strip_prefix(stem.as_slice()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b".")))
    };
    resolved.is_empty() || resolved.iter().any(led_to)
}

impl<'a> Name<'a> {
    fn of(query: &'a decode::DnsQuery) -> Self {
        Self { name: query.name.to_ascii_lowercase(), queries: vec![query] }
    }

    fn first_label(&self) -> &[u8] {
        self.name.split(|byte| *byte == b'.').next().unwrap_or_default()
    }
}

impl Name<'_> {
    fn tgid(&self) -> u32 {
        self.queries.first().map_or(0, |query| query.tgid)
    }

    fn time(&self) -> u64 {
        self.queries.last().map_or(0, |query| query.time)
    }

    fn is_near(&self, other: &Self) -> bool {
        self.tgid() == other.tgid() && self.time().abs_diff(other.time()) < SERIES
    }

    /// As the program wrote it, whatever the case of its letters.
    fn original(&self) -> Vec<u8> {
        self.queries.first().map(|query| query.name.clone()).unwrap_or_default()
    }

    /// Whether this is the name `base` with a search domain behind it.
    fn is_extended(&self, base: &Self) -> bool {
        self.name.strip_prefix(base.name.as_slice()).is_some_and(|rest| rest.starts_with(b"."))
            && self.is_near(base)
    }

    /// What this name and `other` have before their search domains, when the one's is a part of the other's: `db` for
    /// `db.prod.svc.cluster.local` and `db.svc.cluster.local`.
    fn stem(&self, other: &Self) -> Option<Vec<u8>> {
        let (long, short) = if self.name.len() > other.name.len() {
            (&self.name, &other.name)
        } else {
            (&other.name, &self.name)
        };
        if long.len() == short.len() || !self.is_near(other) {
            return None;
        }
        let dots = short.iter().enumerate().filter(|(_, byte)| **byte == b'.');
        let stem = dots.map(|(dot, _)| short.split_at(dot)).find(|(stem, domain)| {
            long.starts_with(stem) && long.get(stem.len()) == Some(&b'.') && long.ends_with(domain)
        });
        stem.map(|(stem, _)| stem.to_vec())
    }

    /// Whether `other` is a later one of the same series.
    fn precedes(&self, other: &Self) -> bool {
        self.stem(other).is_some() && (self.time(), &self.name) < (other.time(), &other.name)
    }
}

fn outcome(death: &Death, query: &decode::DnsQuery) -> Option<DnsOutcome> {
    match query.answer {
        Some(answer) => Some(match answer.code {
            0 => DnsOutcome::NoData,
            2 => DnsOutcome::ServFail,
            3 => DnsOutcome::NxDomain,
            5 => DnsOutcome::Refused,
            _ => DnsOutcome::Other,
        }),
        None => {
            // A resolver that asks again within that time was told that nobody listens there (glibc sees no more than POLLERR of it).
            let waited =
                query.errno != 0 || query.sent > 1 || death.time.saturating_sub(query.time) >= PATIENCE;
            waited.then_some(DnsOutcome::NoAnswer)
        }
    }
}

/// What an answer says more than another one of the same name.
fn weight(outcome: DnsOutcome) -> u8 {
    match outcome {
        DnsOutcome::NxDomain => 6,
        DnsOutcome::ServFail => 5,
        DnsOutcome::Refused => 4,
        DnsOutcome::Other => 3,
        DnsOutcome::NoAnswer => 2,
        DnsOutcome::NoData => 1,
        DnsOutcome::Unknown => 0,
    }
}

fn failure(death: &Death, name: &Name<'_>, shown: &[u8]) -> Option<Failure> {
    let judged = name.queries.iter().filter_map(|query| Some((outcome(death, query)?, *query)));
    let (outcome, query) = judged.max_by_key(|(outcome, query)| (weight(*outcome), query.time))?;
    let mut types: Vec<u16> = name.queries.iter().map(|query| query.record_type).collect();
    types.sort_unstable();
    types.dedup();
    if outcome == DnsOutcome::NoData && types == [AAAA] {
        // A name that has an IPv4 address alone; that one was found, or nobody asked for it.
        return None;
    }
    let transport = if query.transport == Transport::Tcp { "tcp" } else { "udp" };
    let at = |query: &decode::DnsQuery| query.answer.map_or(query.time, |answer| answer.time);
    let last = name.queries.iter().map(|query| at(query)).max()?;
    Some(Failure {
        syscall: query.syscall.map(syscalls::name).unwrap_or_default(),
        errno: query.errno,
        name: text(shown),
        address: format!("{}/{transport}", query.server),
        pid: query.tgid,
        tid: query.tid,
        comm: text(&query.comm),
        uid: query.uid,
        gid: query.gid,
        count: u64::from(query.sent),
        first_before_death_ms: milliseconds_before(death.time, name.queries.first()?.time),
        last_before_death_ms: milliseconds_before(death.time, last),
        by_dying_thread: is_dying_thread(death, query.tid),
        dns: Some(DnsQuery {
            outcome,
            response_code: query.answer.map_or(0, |answer| u32::from(answer.code)),
            types: types.into_iter().map(type_name).collect(),
            transport: transport.to_owned(),
        }),
        ..Failure::default()
    })
}

const AAAA: u16 = 28;

/// As people know it (RFC 3597, 5, for those that are not listed).
fn type_name(number: u16) -> String {
    match number {
        1 => "A",
        5 => "CNAME",
        12 => "PTR",
        15 => "MX",
        16 => "TXT",
        AAAA => "AAAA",
        33 => "SRV",
        64 => "SVCB",
        65 => "HTTPS",
        255 => "ANY",
        _ => return format!("TYPE{number}"),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        assemble::tests,
        decode::{DnsAnswer, DnsQuery, Status},
    };

    const SECOND: u64 = 1_000_000_000;
    const END: u64 = 60 * SECOND;

    fn query(name: &str, record_type: u16, code: Option<u8>, before: u64) -> DnsQuery {
        let time = END - before;
        DnsQuery {
            time,
            fate: DnsFate::Failed,
            answer: code.map(|code| DnsAnswer { time: time + 1, code }),
            errno: 0,
            sent: 1,
            tgid: 100,
            tid: 100,
            uid: 0,
            gid: 0,
            syscall: None,
            comm: b"app".to_vec(),
            transport: Transport::Udp,
            server: "10.96.0.10:53".parse().unwrap(),
            name: name.as_bytes().to_vec(),
            record_type,
        }
    }

    /// `name outcome types`, a line a failure.
    fn told(queries: Vec<DnsQuery>) -> Vec<String> {
        let mut death = tests::death(Status { code: 1, ..Status::default() });
        death.time = END;
        let recording = Recording { dns: queries, ..Recording::default() };
        failures(&death, &recording)
            .iter()
            .map(|it| {
                let dns = it.dns.as_ref().unwrap();
                assert_eq!(it.address, "10.96.0.10:53/udp");
                format!("{} {:?} {}", it.name, dns.outcome, dns.types.join(" "))
            })
            .collect()
    }

    #[test]
    fn a_series_is_told_by_the_name_that_was_wanted() {
        let suffixes = [".prod.svc.cluster.local", ".svc.cluster.local", ".cluster.local", ""];
        let series = (1u64..).zip(suffixes).flat_map(|(step, suffix)| {
            let name = format!("orders-db{suffix}");
            [query(&name, 1, Some(3), SECOND - step), query(&name, 28, Some(3), SECOND - step)]
        });
        assert_eq!(told(series.clone().collect()), ["orders-db NxDomain A AAAA"]);
        let unfinished: Vec<DnsQuery> = series.take(4).collect();
        assert_eq!(told(unfinished), ["orders-db NxDomain A AAAA"], "without the name itself");
        // One that ends as search domains do.
        let series = (1u64..).zip(suffixes).map(|(step, suffix)| {
            query(&format!("orders-db.shop.svc.cluster.local{suffix}"), 1, Some(3), SECOND - step)
        });
        assert_eq!(told(series.collect()), ["orders-db.shop.svc.cluster.local NxDomain A"]);
    }

    #[test]
    fn a_name_is_given_up_for_another_only_within_a_series() {
        let supplanted = |name: &str| {
            let mut query = query(name, 1, Some(3), SECOND);
            query.fate = DnsFate::Supplanted;
            query
        };
        let resolved = |name: &str| {
            let mut query = query(name, 1, None, SECOND - 1);
            query.fate = DnsFate::Resolved;
            query
        };
        assert_eq!(told(vec![supplanted("www.a"), resolved("www.b")]), ["www.a NxDomain A"]);
        let search = ["db.prod.svc.cluster.local", "db.svc.cluster.local"].map(supplanted).to_vec();
        for found in ["db", "db.cluster.local", "db.ec2.internal"] {
            assert!(told([search.clone(), vec![resolved(found)]].concat()).is_empty(), "{found}");
        }
        assert!(told(search).is_empty(), "the one that was found is not kept");
        let both = ["www.a.prod.svc.cluster.local", "www.a.svc.cluster.local", "www.a"].map(supplanted);
        assert_eq!(told([both.to_vec(), vec![resolved("www.b")]].concat()), ["www.a NxDomain A"]);
    }

    #[test]
    fn names_that_only_look_alike_stay_apart() {
        let two = vec![query("db.prod", 1, Some(3), 9), query("db.test", 1, Some(3), 8)];
        assert_eq!(told(two), ["db.prod NxDomain A", "db.test NxDomain A"]);
        let far = vec![query("db.local", 1, Some(3), 50 * SECOND), query("db", 1, Some(3), 8)];
        assert_eq!(told(far), ["db.local NxDomain A", "db NxDomain A"], "half a minute apart");
    }

    #[test]
    fn what_says_nothing_is_not_told() {
        assert!(told(vec![query("db", 28, Some(0), 9)]).is_empty(), "no IPv6 address");
        assert!(told(vec![query("db", 1, None, SECOND / 10)]).is_empty(), "it may still be answered");
        assert_eq!(told(vec![query("db", 1, None, SECOND)]), ["db NoAnswer A"]);
        assert_eq!(told(vec![query("db", 1, Some(0), 9), query("db", 28, Some(0), 9)]), ["db NoData A AAAA"]);
    }

    #[test]
    fn an_answer_says_more_than_none() {
        let tries = vec![query("db", 1, None, 6 * SECOND), query("DB", 1, Some(2), SECOND)];
        assert_eq!(told(tries), ["db ServFail A"], "the case of letters does not matter");
        let mut refused = query("db", 1, None, 9);
        refused.errno = 111;
        assert_eq!(told(vec![refused]), ["db NoAnswer A"], "nobody listens there");
    }
}
