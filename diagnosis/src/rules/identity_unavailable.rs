//! The workload has no identity: the metadata service did not answer, or the token that stands for its service account is not there.
//!
//! A service that answers "no identity assigned" answers all the same: the kernel sees a connection that worked.

use super::{Finding, before_the_end, call_and_exit};
use crate::calls::Call;
use crate::case::Case;
use crate::evidence::{DnsOutcome, Failure};
use crate::verdict::{Cause, Confidence};
use crate::{context, errno, words};

/// Where clouds answer for a machine's or a pod's identity: AWS, Azure and Google (also by IPv6), EKS Pod Identity and ECS, Alibaba.
const ADDRESSES: [&str; 7] = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "[fd00:ec2::254]",
    "[fd00:ec2::23]",
    "[fd20:ce::254]",
    "100.100.100.200",
];
/// By name.
const NAMES: [&str; 3] = ["metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"];
/// Where tokens are mounted, below /var/run or /run.
const TOKENS: [&str; 5] = [
    "/secrets/eks.amazonaws.com/",
    "/secrets/pods.eks.amazonaws.com/",
    "/secrets/azure/tokens/",
    "/secrets/tokens/",
    "/secrets/kubernetes.io/serviceaccount/",
];
/// Variables that name a token or a key file.
const TOKEN_VARIABLES: [&str; 4] = [
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AZURE_FEDERATED_TOKEN_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
];

pub(super) fn call(case: &Case<'_>, call: &Call<'_>) -> Option<Finding> {
    let failure = call.failure;
    let (object, what, remedy) = service(case, failure).or_else(|| token(case, failure))?;
    let object = words::one_line(object);
    Some(Finding {
        cause: Cause::IdentityUnavailable,
        // Every kit for a cloud asks the metadata service which region it is in, and most do without an answer.
        confidence: if call.named || failure.address.is_empty() {
            call.confidence()
        } else {
            call.confidence().min(Confidence::Medium)
        },
        summary: format!(
            "{} got no identity: {what} {object}: {}{} {}",
            words::program(&failure.comm),
            words::failed(failure),
            if failure.dns.is_some() { "," } else { "" },
            before_the_end(case, call)
        ),
        object,
        remedy,
        evidence: call_and_exit(case, call),
    })
}

/// The metadata service.
fn service<'a>(case: &Case<'_>, failure: &'a Failure) -> Option<(&'a str, &'static str, String)> {
    let host = failure.address.rsplit_once(':').map_or("", |(host, _)| host);
    let remedy = || {
        format!(
            "assign an identity to the service account of the pod (IRSA or Pod Identity, Azure Workload Identity, Workload Identity Federation) and set spec.serviceAccountName, or let the pod reach the metadata service (hop limit, NetworkPolicy); or give the credentials in {}.env",
            case.field()
        )
    };
    if ADDRESSES.contains(&host) {
        let what = match failure.errno {
            errno::ECONNREFUSED => "nobody listens at the metadata service's address",
            errno::ETIMEDOUT => "no answer came from the metadata service at",
            errno::EHOSTUNREACH | errno::ENETUNREACH => "there is no route to the metadata service at",
            errno::EACCES | errno::EPERM => "it may not connect to the metadata service at",
            _ => return None,
        };
        return Some((&failure.address, what, remedy()));
    }
    let outcome = failure.dns.as_ref().map(|query| query.outcome)?;
    let what = match outcome {
        DnsOutcome::NxDomain | DnsOutcome::NoData => "there is no metadata service of the name",
        _ => "it could not resolve the name of the metadata service,",
    };
    let asked = NAMES.contains(&failure.name.trim_end_matches('.'));
    asked.then(|| (failure.name.as_str(), what, remedy()))
}

/// The token file.
fn token<'a>(case: &Case<'_>, failure: &'a Failure) -> Option<(&'a str, &'static str, String)> {
    let path = failure.path.as_str();
    let below = path.strip_prefix("/var/run").or_else(|| path.strip_prefix("/run")).unwrap_or_default();
    let by_variable = || {
        context::variable(case, failure)
            .is_some_and(|variable| TOKEN_VARIABLES.contains(&variable.name.as_str()))
    };
    if !TOKENS.iter().any(|folder| below.starts_with(folder)) && !by_variable() {
        return None;
    }
    let (what, remedy) = match failure.errno {
        errno::ENOENT | errno::ENOTDIR => (
            "there is no token at",
            format!(
                "let the token be mounted: spec.serviceAccountName with the annotations or labels of the cloud's workload identity, spec.automountServiceAccountToken not false, or a projected volume with a serviceAccountToken that {}.volumeMounts mounts there",
                case.field()
            ),
        ),
        errno::EACCES | errno::EPERM => (
            "it may not read the token",
            format!(
                "set spec.securityContext.fsGroup to a group of uid {}, so that it may read the projected token",
                failure.uid
            ),
        ),
        _ => return None,
    };
    Some((path, what, remedy))
}
