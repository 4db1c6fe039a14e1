//! The running kernel's own description of its types (BTF): where the fields are that the programs read.

use std::path::Path;

use btf_rs::{Btf, Type};
use lastwords_agent_common::offsets::{ABSENT, FIELDS, Need};

use super::syscalls;

/// Where a kernel built with CONFIG_DEBUG_INFO_BTF shows its types (Linux 5.4).
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Why the kernel's types could not be used.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file is not there or cannot be parsed.
    #[error(
        "cannot read the kernel's types from {path}: {reason}; a kernel built with CONFIG_DEBUG_INFO_BTF=y is needed (all \
         current distributions' are)"
    )]
    Unreadable {
        /// The file.
        path: String,
        /// What went wrong.
        reason: String,
    },
    /// A field that the programs cannot do without.
    #[error(
        "this kernel has no field {0}, which the programs read; please report it with the output of `uname -r`"
    )]
    Missing(String),
    /// A layout that the programs rely on is another here.
    #[error(
        "this kernel lays out {0} in a way the programs do not know; please report it with the output of `uname -r`"
    )]
    Layout(String),
}

/// Everything that is frozen into the programs before they are loaded: the name of each global and its value.
pub type Globals = Vec<(&'static str, u32)>;

/// The kernel's types.
pub struct KernelTypes(Btf);

impl KernelTypes {
    /// Reads them.
    ///
    /// # Errors
    /// When the file is missing or no BTF.
    pub fn read(path: &Path) -> Result<Self, BtfError> {
        Btf::from_file(path).map(Self).map_err(|error| BtfError::Unreadable {
            path: path.display().to_string(),
            reason: match std::fs::metadata(path) {
                Err(io) => io.to_string(),
                Ok(_) => error.to_string(),
            },
        })
    }

    /// Finds every field and constant that the programs need.
    ///
    /// # Errors
    /// Names the first required field that this kernel does not have.
    pub fn globals(&self) -> Result<Globals, BtfError> {
        let mut globals = Vec::with_capacity(FIELDS.len() + syscalls::REGISTERS.len() + 5);
        for (name, need, path) in FIELDS {
            let offset = match (self.offset(path), need) {
                (Some(offset), _) => offset,
                (None, Need::Optional) => ABSENT,
                (None, Need::Required) => return Err(BtfError::Missing((*path).to_owned())),
            };
            globals.push((*name, offset));
        }
        for (name, path, within) in syscalls::REGISTERS {
            let offset = self.offset(path).ok_or_else(|| BtfError::Missing((*path).to_owned()))?;
            globals.push((*name, offset + within));
        }
        globals.push(("MEMORY_CGRP_ID", self.constant("cgroup_subsys_id", "memory_cgrp_id")?));
        globals.push(("MEMCG_OOM", self.constant("memcg_memory_event", "MEMCG_OOM")?));
        let typed = self.constant("bpf_func_id", "BPF_FUNC_get_current_task_btf").is_ok();
        globals.push(("CURRENT_TASK_TYPED", u32::from(typed)));
        let (stride, count) = self.rss_layout()?;
        globals.push(("RSS_STRIDE", stride));
        globals.push(("RSS_COUNT", count));
        globals.push(("SIGACTION_STRIDE", self.size("k_sigaction")?));
        if self.offset("mem_cgroup.css") != Some(0) {
            return Err(BtfError::Layout("mem_cgroup.css".to_owned()));
        }
        Ok(globals)
    }

    /// Offset in bytes of `struct.member.member`; `a|b` is a member with two names over time, `x or y` are two paths.
    #[must_use]
    pub fn offset(&self, paths: &str) -> Option<u32> {
        paths.split(" or ").find_map(|path| self.offset_of_path(path))
    }

    fn offset_of_path(&self, path: &str) -> Option<u32> {
        let mut parts = path.split('.');
        let mut structure = self.structure(parts.next()?)?;
        let mut bits = 0;
        let mut parts = parts.peekable();
        while let Some(names) = parts.next() {
            let (member_bits, kind) = names.split('|').find_map(|name| self.member(&structure, name))?;
            bits += member_bits;
            if parts.peek().is_some() {
                structure = self.as_structure(kind)?;
            }
        }
        Some(bits / 8)
    }

    /// How many arguments the raw tracepoint `name` has, and whether its first one is a `struct task_struct *`. None when the
    /// kernel has no such tracepoint.
    #[must_use]
    pub fn tracepoint(&self, name: &str) -> Option<Tracepoint> {
        let types = self.0.resolve_types_by_name(&format!("btf_trace_{name}")).ok()?;
        let typedef = types.iter().find_map(|kind| match kind {
            Type::Typedef(typedef) => Some(typedef),
            _ => None,
        })?;
        let Ok(Type::Ptr(pointer)) = self.0.resolve_chained_type(typedef) else { return None };
        let Ok(Type::FuncProto(prototype)) = self.0.resolve_chained_type(&pointer) else { return None };
        // Its first parameter is the tracepoint's private data, not an argument.
        let arguments = prototype.parameters.get(1..).unwrap_or_default();
        let takes_task = arguments.first().is_some_and(|argument| {
            let Ok(Type::Ptr(pointer)) = self.0.resolve_chained_type(argument) else { return false };
            matches!(self.0.resolve_chained_type(&pointer),
                Ok(Type::Struct(structure)) if self.0.resolve_name(&structure).is_ok_and(|name| name == "task_struct"))
        });
        Some(Tracepoint { arguments: arguments.len(), takes_task })
    }

    /// How many arguments the function `name` has; None when the kernel has none of that name, or no single form of it.
    #[must_use]
    pub fn arguments(&self, name: &str) -> Option<usize> {
        let types = self.0.resolve_types_by_name(name).ok()?;
        let function = types.iter().find_map(|kind| match kind {
            Type::Func(function) => Some(function),
            _ => None,
        })?;
        match self.0.resolve_chained_type(function) {
            Ok(Type::FuncProto(prototype)) => Some(prototype.parameters.len()),
            _ => None,
        }
    }

    /// Bytes between the counters of `mm_struct.rss_stat`, and of the number in each: an array of atomics up to Linux 6.1, of
    /// percpu counters since 6.2 (f1a7941243c1).
    fn rss_layout(&self) -> Result<(u32, u32), BtfError> {
        let mm = self.structure("mm_struct").ok_or_else(|| BtfError::Missing("mm_struct".to_owned()))?;
        let (_, kind) =
            self.member(&mm, "rss_stat").ok_or_else(|| BtfError::Missing("mm_struct.rss_stat".to_owned()))?;
        if matches!(kind, Type::Struct(_)) {
            return Ok((8, 0));
        }
        let counter = self
            .structure("percpu_counter")
            .ok_or_else(|| BtfError::Layout("mm_struct.rss_stat".to_owned()))?;
        let count = self
            .offset("percpu_counter.count")
            .ok_or_else(|| BtfError::Missing("percpu_counter.count".to_owned()))?;
        let stride =
            u32::try_from(counter.size()).map_err(|_| BtfError::Layout("percpu_counter".to_owned()))?;
        Ok((stride, count))
    }

    fn size(&self, name: &str) -> Result<u32, BtfError> {
        let structure = self.structure(name).ok_or_else(|| BtfError::Missing(name.to_owned()))?;
        u32::try_from(structure.size()).map_err(|_| BtfError::Layout(name.to_owned()))
    }

    fn constant(&self, enumeration: &str, name: &str) -> Result<u32, BtfError> {
        let types = self.0.resolve_types_by_name(enumeration).unwrap_or_default();
        types
            .iter()
            .filter_map(|kind| match kind {
                Type::Enum(enumeration) => Some(&enumeration.members),
                _ => None,
            })
            .flatten()
            .find(|member| self.0.resolve_name(*member).is_ok_and(|member| member == name))
            .map(btf_rs::EnumMember::val)
            .ok_or_else(|| BtfError::Missing(format!("{enumeration}::{name}")))
    }

    fn structure(&self, name: &str) -> Option<btf_rs::Struct> {
        self.0.resolve_types_by_name(name).ok()?.into_iter().find_map(|kind| match kind {
            Type::Struct(structure) => Some(structure),
            _ => None,
        })
    }

    /// Offset in bits and type of a member, looked for in anonymous members too.
    fn member(&self, structure: &btf_rs::Struct, name: &str) -> Option<(u32, Type)> {
        for member in &structure.members {
            let own = self.0.resolve_name(member).unwrap_or_default();
            if own == name {
                return Some((member.bit_offset(), self.strip(self.0.resolve_chained_type(member).ok()?)));
            }
            if own.is_empty() {
                let inner = self.as_structure(self.0.resolve_chained_type(member).ok()?)?;
                if let Some((bits, kind)) = self.member(&inner, name) {
                    return Some((member.bit_offset() + bits, kind));
                }
            }
        }
        None
    }

    fn as_structure(&self, kind: Type) -> Option<btf_rs::Struct> {
        match self.strip(kind) {
            Type::Struct(inner) | Type::Union(inner) => Some(inner),
            _ => None,
        }
    }

    /// Looks through typedefs and qualifiers.
    fn strip(&self, mut kind: Type) -> Type {
        loop {
            let next = match &kind {
                Type::Typedef(inner) => self.0.resolve_chained_type(inner),
                Type::Const(inner) => self.0.resolve_chained_type(inner),
                Type::Volatile(inner) => self.0.resolve_chained_type(inner),
                Type::TypeTag(inner) => self.0.resolve_chained_type(inner),
                _ => return kind,
            };
            match next {
                Ok(next) => kind = next,
                Err(_) => return kind,
            }
        }
    }
}

/// The form of a tracepoint on this kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tracepoint {
    /// How many arguments it has.
    pub arguments: usize,
    /// Whether the first is a task.
    pub takes_task: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_every_field() {
        let path = Path::new(VMLINUX);
        if !path.exists() {
            println!("SKIPPED this_kernel_has_every_field: this kernel shows no BTF");
            return;
        }
        let types = KernelTypes::read(path).unwrap();
        let globals = types.globals().unwrap();
        let value = |name: &str| globals.iter().find(|(global, _)| *global == name).unwrap().1;
        // What only a right resolver gives: fixed by the kernel's ABI or by the order of declarations.
        assert_eq!(value("SIGINFO_CODE"), 8, "si_signo, si_errno, si_code are three ints");
        assert_eq!(value("SIGINFO_ADDRESS"), 16);
        assert_eq!(value("SIGNAL_LIVE"), 4, "after the reference count");
        assert_ne!(value("TASK_PID"), value("TASK_TGID"));
        // `struct pt_regs` is what debuggers get (PTRACE_GETREGS) and never changes.
        let registers = if cfg!(target_arch = "aarch64") { [280, 272, 8] } else { [120, 112, 104] };
        assert_eq!(["REGS_CALL", "REGS_0", "REGS_1"].map(value), registers);
        assert_eq!(types.tracepoint("sys_exit"), Some(Tracepoint { arguments: 2, takes_task: false }));
        assert_eq!(types.tracepoint("sched_process_exec").map(|it| it.takes_task), Some(true));
        assert_eq!(types.tracepoint("no_such_tracepoint"), None);
        assert_eq!(types.arguments("security_capable"), Some(4));
        assert_eq!(types.arguments("no_such_function"), None);
        assert_eq!(types.offset("task_struct.no_such_member"), None);
    }

    #[test]
    fn a_missing_file_says_what_is_needed() {
        let error = KernelTypes::read(Path::new("/no/such/btf")).err().unwrap().to_string();
        assert!(error.contains("/no/such/btf") && error.contains("CONFIG_DEBUG_INFO_BTF"), "{error}");
    }
}
