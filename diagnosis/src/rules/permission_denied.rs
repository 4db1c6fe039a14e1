//! The program may not do what it tried: a file, a port, or something that takes a capability.

use super::read_only_filesystem::no_temporary_folder;
use super::{Finding, before_the_end, call_and_exit};
use crate::calls::Call;
use crate::case::Case;
use crate::evidence::{Failure, FileFacts, Seccomp};
use crate::verdict::{Cause, Confidence};
use crate::{context, errno, noise, words};

pub(super) fn call(case: &Case<'_>, call: &Call<'_>) -> Option<Finding> {
    let failure = call.failure;
    if !matches!(failure.errno, errno::EACCES | errno::EPERM) || noise::executes(&failure.syscall) {
        return None;
    }
    if let Some(none_at_all) = no_temporary_folder(case, call, Cause::PermissionDenied) {
        return Some(none_at_all);
    }
    let (object, what, remedy) = if !failure.address.is_empty() {
        port(case, failure)
    } else if is_for_administrators(failure) {
        capability(case, failure)
    } else if !failure.path.is_empty() {
        file(case, failure)
    } else {
        capability(case, failure)
    };
    let end = before_the_end(case, call);
    // A missing permission of a file answers EACCES, a missing capability EPERM. Where the call needs none, EPERM is a filter's or a
    // security module's own word, which the record does not show.
    let undecided = failure.errno == errno::EPERM
        && capability_for(&failure.syscall).is_none()
        && !is_held_to_the_owner(&failure.syscall);
    let doubt = match failure.seccomp {
        _ if !undecided || !failure.capability.is_empty() => "",
        Seccomp::NoFilter | Seccomp::NotByFilter | Seccomp::Denied => {
            "; a file's permissions would have answered EACCES, and no seccomp filter did, so look for a security module or an immutable file"
        }
        Seccomp::Undecided => {
            "; a file's permissions would have answered EACCES, and whether its seccomp filter did cannot be told: look for that profile, a security module or an immutable file"
        }
        Seccomp::Unknown => {
            "; a file's permissions would have answered EACCES, so look for a seccomp profile, a security module or an immutable file"
        }
    };
    Some(Finding {
        cause: Cause::PermissionDenied,
        confidence: if undecided { call.confidence().min(Confidence::Medium) } else { call.confidence() },
        summary: format!("{} (uid {}) {what} {end}{doubt}", words::program(&failure.comm), failure.uid),
        object,
        remedy,
        evidence: call_and_exit(case, call),
    })
}

/// Object, sentence and remedy for a path.
fn file(case: &Case<'_>, failure: &Failure) -> (String, String, String) {
    let path = words::one_line(&failure.path);
    let facts = failure.file.as_ref().map_or_else(String::new, |file| facts(failure, file));
    let what = format!(
        "may not {} {path}{}{facts}: {}",
        words::verb(&failure.syscall),
        context::on_volume(case, &failure.path),
        words::failed(failure)
    );
    let field = case.field();
    let remedy = match (capability_for(&failure.syscall), failure.errno) {
        (Some(capability), errno::EPERM) => {
            format!("do this in the image instead, or {}", granted(case, failure, capability))
        }
        _ => format!(
            "give uid {} access to {path} (chown or chmod it in the image; for a volume set spec.securityContext.fsGroup), or set {field}.securityContext.runAsUser to a user that has it",
            failure.uid
        ),
    };
    (path, what, remedy)
}

/// Who may: `, which belongs to 0:42 with mode 0640`, or the folder that bars the way.
fn facts(failure: &Failure, file: &FileFacts) -> String {
    let FileFacts { uid, gid, mode, kind, path, .. } = file;
    let mode = mode & 0o7777;
    if path.is_empty() || *path == failure.path {
        format!(", which belongs to {uid}:{gid} with mode {mode:04o}")
    } else {
        let kind = if kind.is_empty() { "file" } else { kind };
        format!(
            " below the {kind} {}, which belongs to {uid}:{gid} with mode {mode:04o}",
            words::one_line(path)
        )
    }
}

/// Object, sentence and remedy for an address.
fn port(case: &Case<'_>, failure: &Failure) -> (String, String, String) {
    let address = words::one_line(&failure.address);
    let binds = failure.syscall == "bind";
    let what =
        format!("may not {} {address}: {}", if binds { "listen on" } else { "use" }, words::failed(failure));
    let remedy = if binds && gets_none(failure) {
        format!(
            "listen on a port from 1024 up, or set the sysctl net.ipv4.ip_unprivileged_port_start to 0 in spec.securityContext.sysctls; or {}",
            granted(case, failure, "CAP_NET_BIND_SERVICE")
        )
    } else if binds {
        format!("listen on a port from 1024 up, or {}", granted(case, failure, "CAP_NET_BIND_SERVICE"))
    } else if failure.errno == errno::EACCES {
        "see whether it is a broadcast address, which a program sends to with SO_BROADCAST set only, or one that a route of the node prohibits".to_owned()
    } else {
        "see whether a NetworkPolicy or a cgroup program forbids this address".to_owned()
    };
    (address, what, remedy)
}

/// Object, sentence and remedy for a call that has neither path nor address.
fn capability(case: &Case<'_>, failure: &Failure) -> (String, String, String) {
    let named =
        [failure.name.as_str(), failure.capability.as_str()].into_iter().find(|name| !name.is_empty());
    let capability = named.or_else(|| capability_for(&failure.syscall));
    match capability {
        Some(capability) => {
            let capability = words::one_line(capability);
            let remedy = format!("{}, or make the program do without", granted(case, failure, &capability));
            let on = if failure.path.is_empty() {
                String::new()
            } else {
                format!(" for {}", words::one_line(&failure.path))
            };
            let what = format!("lacks {capability}{on}: {}", words::failed(failure));
            (capability, what, remedy)
        }
        None => {
            let remedy = format!(
                "see {0}.securityContext: the user, the capabilities and the seccompProfile decide whether {1} is allowed",
                case.field(),
                words::one_line(&failure.syscall)
            );
            (words::one_line(&failure.syscall), format!("was refused: {}", words::failed(failure)), remedy)
        }
    }
}

/// Calls that a capability alone lets through, whoever owns the path that they name.
fn is_for_administrators(failure: &Failure) -> bool {
    const CALLS: [&str; 9] =
        ["mount", "umount", "umount2", "pivot_root", "chroot", "swapon", "swapoff", "acct", "quotactl"];
    failure.errno == errno::EPERM && CALLS.contains(&failure.syscall.as_str())
}

/// Calls that answer EPERM to who is not the owner: in a folder with the sticky bit, and for hard links (proc_sys_fs(5)).
fn is_held_to_the_owner(syscall: &str) -> bool {
    ["unlink", "rmdir", "rename", "link"].iter().any(|call| syscall.starts_with(call))
}

/// True for a call refused with EPERM whose caller has the capability that it takes: somebody else refused it.
pub(super) fn needs_nothing_more(failure: &Failure) -> bool {
    let has = |capability: &str| failure.capabilities.iter().any(|held| held == capability);
    failure.errno == errno::EPERM
        && failure.capability.is_empty()
        && capability_for(&failure.syscall).is_some_and(has)
}

/// True for a call refused with EPERM that names no file and no address, or makes what anybody may make, and asked for no capability: the
/// kernel had no reason of its own.
pub(super) fn is_refused_without_reason(failure: &Failure) -> bool {
    /// Calls on a file that is open already, to which the kernel never answers EPERM, and those to which only a file system that knows
    /// no such thing does.
    const NEVER_REFUSED: [&str; 13] = [
        "symlink",
        "symlinkat",
        "mkdir",
        "mkdirat",
        "fsync",
        "fdatasync",
        "syncfs",
        "sync_file_range",
        "getdents64",
        "lseek",
        "flock",
        "fstat",
        "fadvise64",
    ];
    let names_something = [&failure.capability, &failure.path, &failure.address, &failure.name]
        .iter()
        .any(|text| !text.is_empty());
    failure.errno == errno::EPERM
        && failure.capability.is_empty()
        && (!names_something || NEVER_REFUSED.contains(&failure.syscall.as_str()))
        && capability_for(&failure.syscall).is_none()
}

/// What gives it a capability: `add SYS_TIME to spec.containers[0].securityContext.capabilities.add`, and for a user that this gives
/// nothing, to be root besides.
fn granted(case: &Case<'_>, failure: &Failure, capability: &str) -> String {
    let field = case.field();
    let capability = without_prefix(capability);
    if gets_none(failure) {
        format!(
            "run it as root (runAsUser 0) with {capability} in {field}.securityContext.capabilities.add, which alone gives uid {} nothing",
            failure.uid
        )
    } else {
        format!("add {capability} to {field}.securityContext.capabilities.add")
    }
}

/// True for a user other than root: Kubernetes sets no ambient capabilities, so that what the pod adds is lost to it when its program is
/// executed. One that holds some is root of a user namespace, or has them from the program's file.
fn gets_none(failure: &Failure) -> bool {
    failure.uid != 0 && failure.capabilities.is_empty()
}

/// A pod spec names capabilities without their prefix.
fn without_prefix(capability: &str) -> &str {
    capability.strip_prefix("CAP_").unwrap_or(capability)
}

/// The capability that lets a call through that is refused with EPERM (capabilities(7)).
fn capability_for(syscall: &str) -> Option<&'static str> {
    Some(match syscall {
        "chown" | "fchown" | "lchown" | "fchownat" => "CAP_CHOWN",
        "chmod" | "fchmod" | "fchmodat" | "fchmodat2" | "utimensat" => "CAP_FOWNER",
        "setuid" | "setreuid" | "setresuid" | "setfsuid" => "CAP_SETUID",
        "setgid" | "setregid" | "setresgid" | "setfsgid" | "setgroups" => "CAP_SETGID",
        "capset" => "CAP_SETPCAP",
        "mount" | "umount" | "umount2" | "pivot_root" | "sethostname" | "setdomainname" | "unshare"
        | "setns" | "swapon" | "swapoff" | "fsopen" | "fsmount" | "move_mount" | "open_tree" | "quotactl" => {
            "CAP_SYS_ADMIN"
        }
        "clock_settime" | "settimeofday" | "adjtimex" | "clock_adjtime" | "stime" => "CAP_SYS_TIME",
        "socket" => "CAP_NET_RAW",
        "setsockopt" => "CAP_NET_ADMIN",
        "bind" => "CAP_NET_BIND_SERVICE",
        "chroot" => "CAP_SYS_CHROOT",
        "reboot" | "kexec_load" | "kexec_file_load" => "CAP_SYS_BOOT",
        "init_module" | "finit_module" | "delete_module" => "CAP_SYS_MODULE",
        "ptrace" | "process_vm_readv" | "process_vm_writev" => "CAP_SYS_PTRACE",
        "mlock" | "mlock2" | "mlockall" => "CAP_IPC_LOCK",
        "mknod" | "mknodat" => "CAP_MKNOD",
        "setpriority" | "ioprio_set" | "sched_setscheduler" | "sched_setattr" | "sched_setparam" => {
            "CAP_SYS_NICE"
        }
        "setrlimit" | "prlimit64" => "CAP_SYS_RESOURCE",
        "kill" | "tgkill" | "tkill" => "CAP_KILL",
        "bpf" => "CAP_BPF",
        "perf_event_open" => "CAP_PERFMON",
        "syslog" => "CAP_SYSLOG",
        "iopl" | "ioperm" => "CAP_SYS_RAWIO",
        "acct" => "CAP_SYS_PACCT",
        _ => return None,
    })
}
