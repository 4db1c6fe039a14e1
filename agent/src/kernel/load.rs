//! Loading: the object, the frozen offsets, the maps, the probes.

use std::path::Path;

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapData, PerCpuArray, Queue, RingBuf},
};

use lastwords_agent_common::offsets::ABSENT;

use super::{
    attach::{Forms, Links, attach_all},
    btf::{BtfError, KernelTypes, VMLINUX},
    group_places::GroupPlaces,
    maps::{CounterMap, FaultMap, GroupMap, ListenerMap, RecorderMap},
    plain::PlainRule,
    probes::TCP_RECEIVED,
    registers, syscalls,
    verdict::{Verdict, WayIn},
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lastwords.bpf.o"));

/// Why nothing could be loaded at all.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The agent was compiled without the eBPF object.
    #[error("this agent was built without its eBPF object; build it with `cargo xtask build`")]
    NoObject,
    /// Not allowed.
    #[error(
        "no permission to load eBPF programs: {0}; run as root, or with the capabilities BPF, PERFMON and SYS_PTRACE (and \
         kernel.unprivileged_bpf_disabled does not matter then)"
    )]
    Permission(String),
    /// See [`BtfError`].
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The object or a map was refused.
    #[error("the kernel refused the eBPF object: {0}")]
    Refused(String),
    /// This processor's registers are not known.
    #[error("this agent knows no system calls of the architecture {0}; x86-64 and arm64 are supported")]
    Architecture(&'static str),
}

/// The programs in the kernel. Dropping this detaches them.
#[expect(dead_code, reason = "kept for its end")]
pub struct Programs(Links, Ebpf);

/// The loaded kernel side.
pub struct Kernel {
    /// What became of each probe.
    pub verdicts: Vec<Verdict>,
    /// The flight recorders.
    pub recorders: RecorderMap,
    /// Where faults happened.
    pub faults: FaultMap,
    /// Which group is whose.
    pub groups: GroupMap,
    /// Which sockets listen.
    pub listeners: ListenerMap,
    /// Losses in the kernel.
    pub counters: CounterMap,
    /// Life-cycle records.
    pub records: RingBuf<MapData>,
    /// What runs in the kernel.
    pub programs: Programs,
}

impl Kernel {
    /// Loads everything and attaches what this kernel takes, by `way_in` alone when one is given. Processes are told by their numbers in
    /// the PID namespace with the inode number `pid_namespace`, 0 for the kernel's own.
    ///
    /// # Errors
    /// See [`LoadError`]; a single probe that cannot run is a verdict, not an error.
    pub fn load(pid_namespace: u32, way_in: Option<WayIn>) -> Result<Self, LoadError> {
        if OBJECT.is_empty() {
            return Err(LoadError::NoObject);
        }
        if syscalls::REGISTERS.is_empty() {
            return Err(LoadError::Architecture(std::env::consts::ARCH));
        }
        let btf_path = Path::new(VMLINUX);
        // Two libraries read the kernel's types, some 40 MB each while they do: one after the other.
        let (globals, forms, oom_by_signal, compat) = {
            let types = KernelTypes::read(btf_path)?;
            let carries_task = types.tracepoint("mark_victim").is_some_and(|form| form.takes_task);
            (types.globals()?, Forms::read(&types), u32::from(!carries_task), syscalls::compat(&types))
        };
        if pid_namespace != 0 && globals.contains(&("PID_NAMESPACE_INUM", ABSENT)) {
            return Err(BtfError::Missing("pid_namespace.ns.inum".to_owned()).into());
        }
        let btf = Btf::from_sys_fs()
            .map_err(|error| BtfError::Unreadable { path: VMLINUX.to_owned(), reason: error.to_string() })?;
        let mut loader = EbpfLoader::new();
        loader.btf(Some(&btf));
        let numbers = syscalls::numbers();
        let (compat_flags, compat_bit) = compat;
        loader.override_global("COMPAT_FLAGS", &compat_flags, true);
        loader.override_global("COMPAT_BIT", &compat_bit, true);
        loader.override_global("OOM_BY_SIGNAL", &oom_by_signal, true);
        loader.override_global("PID_NAMESPACE", &pid_namespace, true);
        let blind_to_tcp = u32::from(forms.knows_no_way_to(TCP_RECEIVED));
        loader.override_global("BLIND_TO_TCP", &blind_to_tcp, true);
        for (name, value) in globals.iter().chain(&numbers) {
            loader.override_global(name, value, true);
        }
        let (name, successes) = syscalls::successes();
        loader.override_global(name, successes.as_slice(), true);
        let mut ebpf = loader.load(OBJECT).map_err(|error| refused(&error))?;
        // Its descriptor has to stay open until the programs that use it are loaded.
        let rules = fill_rules(&mut ebpf)?;
        let recorders = RecorderMap::new(
            Array::try_from(take(&mut ebpf, "RECORDERS")?).map_err(|error| refused(&error))?,
            Queue::try_from(take(&mut ebpf, "FREE_RECORDERS")?).map_err(|error| refused(&error))?,
        )
        .map_err(|error| refused(&error))?;
        let faults =
            FaultMap::new(Array::try_from(take(&mut ebpf, "FAULTS")?).map_err(|error| refused(&error))?);
        let groups = GroupMap::new(
            HashMap::try_from(take(&mut ebpf, "GROUPS")?).map_err(|error| refused(&error))?,
            GroupPlaces::new(take(&mut ebpf, "GROUP_PLACES")?).map_err(|error| refused(&error))?,
        );
        let listeners = ListenerMap::new(
            HashMap::try_from(take(&mut ebpf, "LISTENERS")?).map_err(|error| refused(&error))?,
            HashMap::try_from(take(&mut ebpf, "CLOSED_LISTENERS")?).map_err(|error| refused(&error))?,
        );
        let counters = CounterMap::new(
            PerCpuArray::try_from(take(&mut ebpf, "COUNTERS")?).map_err(|error| refused(&error))?,
        );
        let records = RingBuf::try_from(take(&mut ebpf, "RECORDS")?).map_err(|error| refused(&error))?;
        if let Err(error) = registers::find(&mut ebpf) {
            tracing::warn!("what a process waits in when it is told to stop will not be known: {error}");
        }
        let (verdicts, links) = attach_all(&mut ebpf, &btf, &forms, way_in);
        drop((rules, btf));
        give_back_memory();
        Ok(Self {
            verdicts,
            recorders,
            faults,
            groups,
            listeners,
            counters,
            records,
            programs: Programs(links, ebpf),
        })
    }

    /// The probes without which no crash can be recorded, and which do not run.
    pub fn missing(&self) -> impl Iterator<Item = &Verdict> {
        self.verdicts.iter().filter(|verdict| verdict.required && !verdict.is_active())
    }
}

/// Most of what start-up took is free now, and would stay with the process for want of use.
#[expect(unsafe_code, reason = "the C library's own function has no safe wrapper")]
fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no argument, no memory of ours is touched.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

fn fill_rules(ebpf: &mut Ebpf) -> Result<Array<MapData, PlainRule>, LoadError> {
    let mut rules: Array<MapData, PlainRule> =
        Array::try_from(take(ebpf, "SYSCALLS")?).map_err(|error| refused(&error))?;
    for (number, rule) in (0u32..).zip(syscalls::rules()) {
        rules.set(number, PlainRule(rule), 0).map_err(|error| refused(&error))?;
    }
    Ok(rules)
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map, LoadError> {
    ebpf.take_map(name).ok_or_else(|| LoadError::Refused(format!("it has no map {name}")))
}

/// Tells a missing permission from other refusals, by the first system error in the chain.
fn refused(error: &(dyn std::error::Error + 'static)) -> LoadError {
    let mut chain: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut text = error.to_string();
    while let Some(link) = chain {
        if let Some(io) = link.downcast_ref::<std::io::Error>() {
            text = format!("{text}: {io}");
            if io.kind() == std::io::ErrorKind::PermissionDenied {
                return LoadError::Permission(text);
            }
            break;
        }
        chain = link.source();
    }
    LoadError::Refused(text)
}
