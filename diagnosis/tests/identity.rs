//! Programs that got no identity: from the metadata service, by its name or from a token.

mod support;

use lastwords_diagnosis::evidence::*;
use lastwords_diagnosis::{diagnose, errno};
use support::*;

#[test]
fn no_identity() {
    let app = || exited(&["/app"], 400, 1);
    check(vec![
        (
            "the metadata service",
            with(app(), vec![failed_at("connect", errno::ETIMEDOUT, "169.254.169.254:80/tcp", 3.0)]),
            "IDENTITY_UNAVAILABLE MEDIUM 169.254.169.254:80/tcp",
        ),
        (
            "by IPv6",
            with(app(), vec![failed_at("connect", errno::ENETUNREACH, "[fd00:ec2::254]:80/tcp", 3.0)]),
            "IDENTITY_UNAVAILABLE MEDIUM [fd00:ec2::254]:80/tcp",
        ),
        (
            "a token",
            with(
                app(),
                vec![failed(
                    "openat",
                    errno::ENOENT,
                    "/var/run/secrets/eks.amazonaws.com/serviceaccount/token",
                    3.0,
                )],
            ),
            "IDENTITY_UNAVAILABLE MEDIUM /var/run/secrets/eks.amazonaws.com/serviceaccount/token",
        ),
        (
            "a token that may not be read",
            with(
                app(),
                vec![failed(
                    "openat",
                    errno::EACCES,
                    "/var/run/secrets/azure/tokens/azure-identity-token",
                    3.0,
                )],
            ),
            "IDENTITY_UNAVAILABLE HIGH /var/run/secrets/azure/tokens/azure-identity-token",
        ),
        (
            "a chain that moved on",
            with(
                app(),
                vec![
                    failed_at("connect", errno::ETIMEDOUT, "169.254.169.254:80/tcp", 300.0),
                    failed("openat", errno::EROFS, "/var/cache/app.db", 0.5),
                ],
            ),
            "READ_ONLY_FILESYSTEM MEDIUM /var/cache/app.db",
        ),
        (
            "by name",
            with(
                app(),
                vec![Failure {
                    name: "metadata.google.internal".into(),
                    dns: Some(DnsQuery { outcome: DnsOutcome::NxDomain, ..DnsQuery::default() }),
                    ..failed("recvfrom", 0, "", 3.0)
                }],
            ),
            "IDENTITY_UNAVAILABLE HIGH metadata.google.internal",
        ),
    ]);
}

#[test]
fn what_is_said_of_it() {
    let refused = failed_at("connect", errno::ECONNREFUSED, "169.254.169.254:80/tcp", 3.0);
    assert_eq!(
        diagnose(&with(exited(&["/app"], 400, 1), vec![refused]), None).summary,
        "app got no identity: nobody listens at the metadata service's address 169.254.169.254:80/tcp: connect failed with ECONNREFUSED (connection refused) 3.0 ms before it ended with exit code 1"
    );
}
