//! The image could not be had: the kubelet says so in the container's status, and with it what the registry or the runtime said.

use super::Finding;
use crate::case::Case;
use crate::verdict::{Cause, Confidence};
use crate::words;

/// The kubelet's reasons (pkg/kubelet/images/types.go).
const REASONS: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "RegistryUnavailable",
    "ImageInspectError",
    "SignatureValidationFailed",
];

pub(super) fn waiting(case: &Case<'_>) -> Option<Finding> {
    let (reason, message) = case.waits_to_be_made().filter(|(reason, _)| REASONS.contains(reason))?;
    let object = words::one_line(&case.pod?.container.image);
    let (why, remedy) = why(case, reason, message, &object);
    Some(Finding {
        cause: Cause::ImagePullFailed,
        confidence: Confidence::High,
        summary: format!("the image {object} could not be had: {why}{}", said(message)),
        object,
        remedy,
        evidence: Vec::new(),
    })
}

/// What it was, in words, and what to do about it.
fn why(case: &Case<'_>, reason: &str, message: &str, image: &str) -> (&'static str, String) {
    let field = format!("{}.image", case.field());
    let lower = message.to_ascii_lowercase();
    let says = |any: &[&str]| any.iter().any(|text| lower.contains(text));
    match reason {
        "InvalidImageName" => {
            return ("that is no valid name of an image", format!("correct {field}: {image}"));
        }
        "ErrImageNeverPull" => {
            let remedy =
                format!("put the image on the node, or set {}.imagePullPolicy to IfNotPresent", case.field());
            return ("it is not on the node, and imagePullPolicy Never forbids to pull it", remedy);
        }
        "SignatureValidationFailed" => {
            return ("its signature is not valid", format!("sign the image, or correct {field}"));
        }
        _ => {}
    }
    // A registry that refuses says so with words for "not found" beside it: what is refused is looked for first.
    if says(&[
        "unauthorized",
        "authentication required",
        "no basic auth",
        "denied",
        "forbidden",
        "401",
        "403",
    ]) {
        let remedy = format!(
            "give the pod's service account or spec.imagePullSecrets the right to pull it; where it does not exist, a registry may say the same: check {field}"
        );
        ("the registry refuses it", remedy)
    } else if says(&["too many requests", "toomanyrequests", "429"]) {
        (
            "the registry takes no more requests for now",
            "pull with an account, or by a mirror, or wait".to_owned(),
        )
    } else if says(&["no match for platform", "no matching manifest", "exec format"]) {
        let remedy = format!("build it for the node's architecture, or name one that is in {field}");
        ("the registry has it for other architectures only", remedy)
    } else if says(&["no such host", "server misbehaving", "temporary failure in name resolution"]) {
        let remedy = format!("correct the registry's name in {field}, or the node's DNS");
        ("the node cannot resolve the registry's name", remedy)
    } else if says(&["not found", "manifest unknown", "name unknown", "does not exist"]) {
        ("the registry has no such image", format!("correct name and tag in {field}, or push the image"))
    } else if says(&["x509", "certificate", "tls:", "http response to https"]) {
        let remedy = "let the node's runtime trust the registry's certificate, or set it up for plain HTTP";
        ("the node and the registry cannot agree on TLS", remedy.to_owned())
    } else if says(&["no space left"]) {
        ("the node's disk is full", "free space for images on the node".to_owned())
    } else if says(&["timeout", "deadline exceeded", "timed out"]) {
        ("the registry did not answer in time", reachable(&field))
    } else if says(&["connection refused", "no route to host", "unreachable", "connection reset"])
        || reason == "RegistryUnavailable"
    {
        ("the node cannot reach the registry", reachable(&field))
    } else {
        ("the kubelet could not pull it", format!("read what it says, and correct {field}"))
    }
}

fn reachable(field: &str) -> String {
    format!("correct the registry's address in {field}, or let the node reach it (routes, firewall, proxy)")
}

/// The end of the message, which holds the reason; the front repeats the image.
fn said(message: &str) -> String {
    /// Characters that hold the last two errors of such a chain.
    const MOST: usize = 160;
    let message = message.trim();
    let chars = message.chars().count();
    match chars {
        0 => String::new(),
        1..=MOST => format!(" ({})", words::one_line(message)),
        _ => format!(" (… {})", words::one_line(&message.chars().skip(chars - MOST).collect::<String>())),
    }
}
