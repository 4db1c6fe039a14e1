//! Where a process has programs attached, as the kernel tells of its links (`/proc/PID/fdinfo`, the functions since Linux 6.4, e859e429511a).
//!
//! The floor is an empty program at the same hooks. Taken from the links themselves, the hooks cannot differ from the real ones.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result};
use btf_rs::{Btf, Type};

/// Kinds of `attach_type` (include/uapi/linux/bpf.h).
const TRACE_FENTRY: u32 = 24;
const TRACE_FEXIT: u32 = 25;

/// A place where a program can stand.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hook {
    /// A tracepoint, by either way in.
    Tracepoint(String),
    /// The start of a kernel function.
    Entry(String),
    /// The end of a kernel function.
    Exit(String),
}

/// A link as the kernel shows it.
#[derive(Debug, PartialEq, Eq)]
enum Link {
    Tracepoint(String),
    /// The function is not told by older kernels.
    Tracing {
        attach_type: u32,
        target: Option<u32>,
    },
}

/// Everything that a process has attached.
pub(crate) struct Links(Vec<Link>);

impl Links {
    /// Those of this process.
    ///
    /// # Errors
    /// When its descriptors cannot be read.
    pub(crate) fn of_process(pid: u32) -> Result<Self> {
        let folder = format!("/proc/{pid}/fdinfo");
        let mut links = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))? {
            // A descriptor may be closed meanwhile.
            let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
            links.extend(link(&text));
        }
        Ok(Self(links))
    }

    /// Whether one stands at a tracepoint of this name.
    pub(crate) fn has_tracepoint(&self, tracepoint: &str) -> bool {
        self.0.iter().any(|link| matches!(link, Link::Tracepoint(name) if name == tracepoint))
    }

    /// Whether one stands at the end of a function.
    pub(crate) fn has_exit(&self) -> bool {
        self.0.iter().any(|link| matches!(link, Link::Tracing { attach_type: TRACE_FEXIT, .. }))
    }

    /// Where they stand.
    ///
    /// # Errors
    /// When the kernel does not tell of which functions, or its types cannot be read.
    pub(crate) fn hooks(self) -> Result<BTreeSet<Hook>> {
        hooks(self.0)
    }
}

fn hooks(links: Vec<Link>) -> Result<BTreeSet<Hook>> {
    let types = if links.iter().any(|link| matches!(link, Link::Tracing { .. })) {
        Some(Btf::from_file(Path::new("/sys/kernel/btf/vmlinux")).context("cannot read the kernel's types")?)
    } else {
        None
    };
    links
        .into_iter()
        .map(|link| match link {
            Link::Tracepoint(name) => Ok(Hook::Tracepoint(name)),
            Link::Tracing { attach_type, target } => {
                let target = target.context(
                    "this kernel does not tell at which functions programs stand (Linux 6.4 does)",
                )?;
                let name = types.as_ref().and_then(|types| function(types, target));
                let name = name.with_context(|| format!("the kernel's type {target} is no function"))?;
                Ok(if attach_type == TRACE_FENTRY { Hook::Entry(name) } else { Hook::Exit(name) })
            }
        })
        .collect()
}

fn function(types: &Btf, id: u32) -> Option<String> {
    match types.resolve_type_by_id(id).ok()? {
        Type::Func(function) => types.resolve_name(&function).ok(),
        _ => None,
    }
}

fn link(text: &str) -> Option<Link> {
    let field =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    field("link_type")?;
    if let Some(name) = field("tp_name") {
        return Some(Link::Tracepoint(name.to_owned()));
    }
    let attach_type = field("attach_type")?.parse().ok()?;
    let target = field("target_btf_id").and_then(|id| id.parse().ok());
    matches!(attach_type, TRACE_FENTRY | TRACE_FEXIT).then_some(Link::Tracing { attach_type, target })
}

impl Hook {
    /// One line, for [`Hook::read`].
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Tracepoint(name) => format!("tracepoint {name}"),
            Self::Entry(name) => format!("entry {name}"),
            Self::Exit(name) => format!("exit {name}"),
        }
    }

    /// What [`Hook::line`] wrote.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let (kind, name) = line.split_once(' ')?;
        let make = match kind {
            "tracepoint" => Self::Tracepoint,
            "entry" => Self::Entry,
            "exit" => Self::Exit,
            _ => return None,
        };
        Some(make(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read() {
        let raw = "pos:\t0\nflags:\t02000000\nlink_type:\traw_tracepoint\nlink_id:\t5\nprog_id:\t9\ntp_name:\tsys_exit\n";
        assert_eq!(link(raw), Some(Link::Tracepoint("sys_exit".to_owned())));
        let fexit =
            "link_type:\ttracing\nlink_id:\t6\nattach_type:\t25\ntarget_obj_id:\t1\ntarget_btf_id:\t4711\n";
        assert_eq!(link(fexit), Some(Link::Tracing { attach_type: 25, target: Some(4711) }));
        let older = Some(Link::Tracing { attach_type: 25, target: None });
        assert_eq!(link("link_type:\ttracing\nlink_id:\t6\nattach_type:\t25\n"), older);
        assert_eq!(link(&fexit.replace("25", "27")), None, "an LSM hook is none of these");
        assert_eq!(link("pos:\t0\nflags:\t02\nprog_type:\t26\n"), None);
    }

    #[test]
    fn a_hook_survives_its_line() {
        for hook in [
            Hook::Tracepoint("sys_exit".into()),
            Hook::Exit("__x64_sys_openat".into()),
            Hook::Entry("x".into()),
        ] {
            assert_eq!(Hook::read(&hook.line()), Some(hook));
        }
        assert_eq!(Hook::read("kprobe x"), None);
    }
}
