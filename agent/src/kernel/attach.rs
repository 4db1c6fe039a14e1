//! The list of probes, and attaching each by the first way in that this kernel takes.

use aya::{
    Btf, Ebpf,
    programs::{Program, ProgramError},
};

use super::{
    btf::{KernelTypes, Tracepoint},
    verdict::{State, Verdict, WayIn},
};

/// One probe: what it watches, its hook, and the program for each way in.
struct Probe {
    name: &'static str,
    hook: &'static str,
    without: &'static str,
    required: bool,
    /// The first argument must be a task: some kernels have another form (mark_victim on 5.10).
    needs_task: bool,
}

const PROBES: &[Probe] = &[
    Probe {
        name: "containers",
        hook: "cgroup_mkdir",
        without: "no new container is noticed",
        required: true,
        needs_task: false,
    },
    Probe {
        name: "containers gone",
        hook: "cgroup_rmdir",
        without: "recorders are not given back, and a container that never ran its program is not reported",
        required: true,
        needs_task: false,
    },
    Probe {
        name: "exec",
        hook: "sched_process_exec",
        without: "the main process of a container is not known",
        required: true,
        needs_task: true,
    },
    Probe {
        name: "exit",
        hook: "sched_process_exit",
        without: "no death is seen",
        required: true,
        needs_task: true,
    },
    Probe {
        name: "signal",
        hook: "signal_generate",
        without: "who sent a fatal signal is not known",
        required: false,
        needs_task: false,
    },
    Probe {
        name: "oom",
        hook: "mark_victim",
        without: "an OOM kill is taken from the SIGKILL that the kernel sends",
        required: false,
        needs_task: true,
    },
    Probe {
        name: "connections",
        hook: "inet_sock_set_state",
        without: "a connection that fails after connect(2) has returned is not known",
        required: false,
        needs_task: false,
    },
    Probe {
        name: "system calls",
        hook: "sys_exit",
        without: "failed file and socket calls are not known",
        required: false,
        needs_task: false,
    },
];

/// The form that each probe's tracepoint has on this kernel, in the order of the list.
pub(super) fn forms(types: &KernelTypes) -> Vec<Option<Tracepoint>> {
    PROBES.iter().map(|probe| types.tracepoint(probe.hook)).collect()
}

/// Loads and attaches every probe.
pub(super) fn attach_all(
    ebpf: &mut Ebpf,
    btf: &Btf,
    forms: &[Option<Tracepoint>],
    way_in: Option<WayIn>,
) -> Vec<Verdict> {
    PROBES
        .iter()
        .zip(forms)
        .map(|(probe, form)| Verdict {
            probe: probe.name,
            hook: probe.hook,
            without: probe.without,
            required: probe.required,
            state: attach(ebpf, btf, *form, probe, way_in),
        })
        .collect()
}

fn attach(ebpf: &mut Ebpf, btf: &Btf, form: Option<Tracepoint>, probe: &Probe, only: Option<WayIn>) -> State {
    match form {
        None => return State::Unsupported("this kernel has no such tracepoint".to_owned()),
        Some(found) if probe.needs_task && !found.takes_task => {
            return State::Unsupported("this kernel's tracepoint does not carry the task".to_owned());
        }
        Some(_) => {}
    }
    let mut refused = Vec::new();
    for way_in in WayIn::ALL.into_iter().filter(|way_in| only.is_none_or(|only| only == *way_in)) {
        match attach_by(ebpf, btf, probe.hook, way_in) {
            Ok(instructions) => return State::Active { way_in, refused, instructions },
            Err(reason) => refused.push(format!("{way_in} refused: {reason}")),
        }
    }
    State::Broken(refused.join("; "))
}

fn attach_by(ebpf: &mut Ebpf, btf: &Btf, hook: &str, way_in: WayIn) -> Result<u32, String> {
    let name = match way_in {
        WayIn::TypedTracepoint => hook.to_owned(),
        WayIn::RawTracepoint => format!("{hook}_raw"),
    };
    let program = ebpf.program_mut(&name).ok_or_else(|| format!("the eBPF object has no program {name}"))?;
    // A program that loaded and would not attach must not stay in the kernel.
    let attached = match program {
        Program::BtfTracePoint(program) => program
            .load(hook, btf)
            .and_then(|()| program.attach().map(drop))
            .inspect_err(|_| drop(program.unload())),
        Program::RawTracePoint(program) => program
            .load()
            .and_then(|()| program.attach(hook).map(drop))
            .inspect_err(|_| drop(program.unload())),
        _ => Err(ProgramError::UnexpectedProgramType),
    };
    attached.map(|()| instructions(program)).map_err(|error| reason(&error))
}

fn instructions(program: &Program) -> u32 {
    program.info().ok().and_then(|info| info.verified_instruction_count()).unwrap_or(0)
}

/// One line of an error that may carry a verifier log of thousands.
fn reason(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let last = log
                .lines()
                .rev()
                .filter(|line| !line.trim().is_empty() && !line.starts_with("processed"))
                .take(3);
            let last: Vec<_> = last.collect();
            format!("{io_error} ({})", last.into_iter().rev().collect::<Vec<_>>().join(" / "))
        }
        ProgramError::SyscallError(error) => format!("{}: {}", error.call, error.io_error),
        other => other.to_string(),
    }
}
