//! The program writes where nothing may be written.

use super::{Finding, before_the_end, call_and_exit};
use crate::calls::Call;
use crate::case::Case;
use crate::verdict::Cause;
use crate::{context, errno, words};

pub(super) fn call(case: &Case<'_>, call: &Call<'_>) -> Option<Finding> {
    let failure = call.failure;
    if failure.errno != errno::EROFS {
        return None;
    }
    let path = words::one_line(&failure.path);
    let mount = failure.file.as_ref().map_or("", |file| file.mount_point.as_str());
    let on =
        if mount.is_empty() { String::new() } else { format!(" on the mount {}", words::one_line(mount)) };
    Some(Finding {
        cause: Cause::ReadOnlyFilesystem,
        confidence: call.confidence(),
        summary: format!(
            "{} may not write {path}{}, which lies on a read-only file system{on}: {} {}",
            words::program(&failure.comm),
            context::on_volume(case, &failure.path),
            words::failed(failure),
            before_the_end(case, call)
        ),
        object: path,
        remedy: remedy(case, &failure.path),
        evidence: call_and_exit(case, call),
    })
}

fn remedy(case: &Case<'_>, path: &str) -> String {
    let folder =
        path.rsplit_once('/').map_or("/", |(folder, _)| if folder.is_empty() { "/" } else { folder });
    match context::mount(case, path) {
        Some(mount) if mount.read_only => format!(
            "the volume mount {} ({}) is readOnly: set {}.volumeMounts[].readOnly to false, or write elsewhere",
            words::one_line(&mount.path),
            words::one_line(&mount.source),
            case.field()
        ),
        // The kubelet mounts these read-only whatever the pod says.
        Some(mount) if mount.source.starts_with("configmap") || mount.source.starts_with("secret") => {
            format!(
                "{} is a {}, which is always read-only: copy it to an emptyDir first, or write elsewhere",
                words::one_line(&mount.path),
                words::one_line(&mount.source)
            )
        }
        _ => format!(
            "mount an emptyDir or another writable volume at {} ({}.volumeMounts), or set {}.securityContext.readOnlyRootFilesystem to false",
            words::one_line(folder),
            case.field(),
            case.field()
        ),
    }
}
