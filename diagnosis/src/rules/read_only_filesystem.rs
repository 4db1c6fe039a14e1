//! The program writes where nothing may be written.

mod temporary_folder;

pub(super) use temporary_folder::none as no_temporary_folder;

use super::{Finding, before_the_end, call_and_exit};
use crate::calls::Call;
use crate::case::Case;
use crate::evidence::Failure;
use crate::pod::Mount;
use crate::verdict::Cause;
use crate::{context, errno, words};

pub(super) fn call(case: &Case<'_>, call: &Call<'_>) -> Option<Finding> {
    let failure = call.failure;
    if failure.errno != errno::EROFS {
        return None;
    }
    if let Some(none_at_all) = no_temporary_folder(case, call, Cause::ReadOnlyFilesystem) {
        return Some(none_at_all);
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
        remedy: remedy(case, failure),
        evidence: call_and_exit(case, call),
    })
}

/// What lets it write: that depends on what is read-only there, the image, a volume or a part of the kernel.
fn remedy(case: &Case<'_>, failure: &Failure) -> String {
    let path = failure.path.as_str();
    let field = case.field();
    if let Some(mount) = context::mount(case, path) {
        return of_volume(field, mount);
    }
    // The kernel's own settings, which the runtime mounts so.
    if path.starts_with("/proc/sys/") {
        return "set it for the pod in spec.securityContext.sysctls, or leave it to the node: no container may write there that is not privileged"
            .to_owned();
    }
    let seen = failure.mount.as_ref().map_or("", |mount| mount.mount_point.as_str());
    let looked_at = failure.file.as_ref().map_or("", |file| file.mount_point.as_str());
    match if seen.is_empty() { looked_at } else { seen } {
        "" | "/" => {
            let folder =
                path.rsplit_once('/').map_or("/", |(folder, _)| if folder.is_empty() { "/" } else { folder });
            format!(
                "mount an emptyDir or another writable volume at {} ({field}.volumeMounts), or set {field}.securityContext.readOnlyRootFilesystem to false",
                words::one_line(folder)
            )
        }
        // Whether the root is read-only says nothing of it, and another volume at that place would hide what it holds.
        own => format!(
            "{0} is a mount of its own: let the entry of {field}.volumeMounts whose mountPath is {0} have no readOnly, and see how the volume itself is mounted; or write elsewhere",
            words::one_line(own)
        ),
    }
}

/// The same for a volume of the pod.
fn of_volume(field: &str, mount: &Mount) -> String {
    let path = words::one_line(&mount.path);
    let source = words::one_line(&mount.source);
    if context::is_always_read_only(mount) {
        format!(
            "{path} is a {source}, which is always read-only: copy it to an emptyDir first (an init container, or the program's own start), or write elsewhere"
        )
    } else if mount.read_only {
        format!(
            "the volume mount {path} ({source}) is readOnly: set {field}.volumeMounts[].readOnly to false, or write elsewhere"
        )
    } else {
        format!(
            "the volume mount {path} ({source}) is not readOnly, so the volume itself is: see readOnly of its entry in spec.volumes, its access mode, and whether the node mounted it read-only after an error; or write elsewhere"
        )
    }
}
