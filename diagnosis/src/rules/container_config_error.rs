//! What the container's spec refers to is not there: the kubelet says so before it asks the runtime for anything.

use super::Finding;
use crate::case::Case;
use crate::verdict::{Cause, Confidence};
use crate::words;

pub(super) fn waiting(case: &Case<'_>) -> Option<Finding> {
    let (reason, message) = case.waits_to_be_made()?;
    let Named { object, remedy } = match reason {
        "CreateContainerConfigError" => named(case, message),
        "FailedMount" => not_mounted(message)?,
        _ => return None,
    };
    Some(Finding {
        cause: Cause::ContainerConfigError,
        confidence: Confidence::High,
        summary: format!(
            "the kubelet cannot make the container as its spec asks: {}",
            words::one_line(message)
        ),
        object,
        remedy,
        evidence: Vec::new(),
    })
}

struct Named {
    object: String,
    remedy: String,
}

/// What a volume is made of and is not there: `MountVolume.SetUp failed for volume "settings" : configmap "app" not found`, or
/// `… : references non-existent secret key: k` with no name to be told.
fn not_mounted(message: &str) -> Option<Named> {
    let (before, what) = message.split_once("\" : ")?;
    let (_, volume) = before.rsplit_once('"')?;
    let (kind, rest) = what.split_once(" \"")?;
    let (name, _) = rest.split_once("\" not found")?;
    if !matches!(kind, "configmap" | "secret") {
        return None;
    }
    let object = format!("{kind} {}", words::one_line(name));
    let volume = words::one_line(volume);
    Some(Named {
        remedy: format!(
            "create the {object} in the pod's namespace, or correct the volume {volume} in spec.volumes (optional: true where it may be missing)"
        ),
        object,
    })
}

/// What is missing, by the kubelet's three ways to say it: `configmap "app" not found`, `secret "x" not found`,
/// `couldn't find key k in ConfigMap ns/app`; and the rest as it stands.
fn named(case: &Case<'_>, message: &str) -> Named {
    let create = |object: String| Named {
        remedy: format!(
            "create the {object} in the pod's namespace, or correct {0}.env or {0}.envFrom (optional: true where it may be missing)",
            case.field()
        ),
        object,
    };
    if let Some((kind, rest)) = message.split_once(" \"")
        && let Some((name, _)) = rest.split_once("\" not found")
        && let Some(kind @ ("configmap" | "secret" | "serviceaccount")) = kind.rsplit(' ').next()
    {
        return create(format!("{kind} {}", words::one_line(name)));
    }
    if let Some((_, rest)) = message.split_once("couldn't find key ")
        && let Some((key, rest)) = rest.split_once(" in ")
        && let Some((kind, place)) = rest.split_once(' ')
    {
        let name = place.rsplit('/').next().unwrap_or(place);
        let object = format!(
            "key {} in {} {}",
            words::one_line(key),
            kind.to_ascii_lowercase(),
            words::one_line(name)
        );
        return Named {
            remedy: format!("add the {object}, or correct {}.env[].valueFrom", case.field()),
            object,
        };
    }
    if message.contains("runAsNonRoot") {
        return Named {
            object: "runAsNonRoot".to_owned(),
            remedy: format!(
                "set {0}.securityContext.runAsUser to a user other than 0, or build the image with a numeric USER; or drop runAsNonRoot",
                case.field()
            ),
        };
    }
    Named {
        object: words::one_line(message.split(['(', ':']).next().unwrap_or(message).trim()),
        remedy: format!("correct what {} refers to", case.field()),
    }
}
