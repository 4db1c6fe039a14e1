//! No space, or no quota, left where the program writes.

use super::{Finding, before_the_end, call_and_exit};
use crate::calls::Call;
use crate::case::Case;
use crate::verdict::Cause;
use crate::{context, errno, log, words};

pub(super) fn call(case: &Case<'_>, call: &Call<'_>) -> Option<Finding> {
    let failure = call.failure;
    // inotify says ENOSPC when the user's watches are used up, a device or a control group when something else is: no disk is full.
    let is_no_disk = failure.syscall.starts_with("inotify_")
        || ["/dev/ptmx", "/dev/pts/", "/proc/", "/sys/"].iter().any(|it| failure.path.starts_with(it));
    if !matches!(failure.errno, errno::ENOSPC | errno::EDQUOT) || is_no_disk {
        return None;
    }
    let mount = failure.file.as_ref().map_or("", |file| file.mount_point.as_str());
    // A file that was closed and removed at once has no path any more, but the program may tell it.
    let told = errno::text(failure.errno).filter(|_| failure.path.is_empty());
    let told = told.and_then(|reason| log::path_beside(case, reason));
    let path = match told {
        Some(path) => path,
        None if failure.path.is_empty() => mount,
        None => failure.path.as_str(),
    };
    let on = if mount.is_empty() || mount == path {
        String::new()
    } else {
        format!(" on the mount {}", words::one_line(mount))
    };
    Some(Finding {
        cause: Cause::DiskFull,
        confidence: call.confidence(),
        summary: format!(
            "{} could not write {}{on}{}: {} {}",
            words::program(&failure.comm),
            if path.is_empty() { "a file".to_owned() } else { words::one_line(path) },
            context::on_volume(case, path),
            words::failed(failure),
            before_the_end(case, call)
        ),
        object: words::one_line(path),
        remedy: format!(
            "free or enlarge the volume behind that path; for the container's own layer or an emptyDir raise {0}.resources.limits.ephemeral-storage or sizeLimit",
            case.field()
        ),
        evidence: call_and_exit(case, call),
    })
}
