//! Attaching each probe by the first way in that this kernel takes.

use std::{any::Any, collections::HashMap};

use aya::{
    Btf, Ebpf,
    programs::{Program, ProgramError},
};

use super::{
    btf::{KernelTypes, Tracepoint},
    probes::{At, PROBES, Probe, Way},
    system_calls,
    verdict::{State, Verdict, WayIn},
};

/// The form that each probe's tracepoint or function has on this kernel, by name; without those that it has not.
pub(super) struct Forms {
    tracepoints: HashMap<&'static str, Tracepoint>,
    arguments: HashMap<&'static str, usize>,
}

impl Forms {
    pub(super) fn read(types: &KernelTypes) -> Self {
        let places = || PROBES.iter().flat_map(|probe| probe.ways).map(|way| &way.at);
        let events = places().filter_map(At::tracepoint);
        let functions = places().filter_map(At::counted_function);
        Self {
            tracepoints: events.filter_map(|event| Some((event, types.tracepoint(event)?))).collect(),
            arguments: functions
                .filter_map(|function| Some((function, types.arguments(function)?)))
                .collect(),
        }
    }

    /// Whether none of a hook's ways in has the form that it has here.
    pub(super) fn knows_no_way_to(&self, hook: &str) -> bool {
        let mut ways = PROBES.iter().filter(|probe| probe.hook == hook).flat_map(|probe| probe.ways);
        ways.all(|way| self.objection(&way.at).is_some())
    }

    /// Why a program cannot be attached there, if it cannot.
    fn objection(&self, at: &At) -> Option<&'static str> {
        let form = at.tracepoint().map(|event| self.tracepoints.get(event));
        match (at, form) {
            (At::FunctionOf(function, arguments), _) if self.arguments.get(function) != Some(arguments) => {
                Some("this kernel has no such function, or another form of it")
            }
            (_, Some(None)) => Some("this kernel has no such tracepoint"),
            (At::TaskTracepoint(_), Some(Some(form))) if !form.takes_task => {
                Some("this kernel's tracepoint does not carry the task")
            }
            _ => None,
        }
    }
}

/// What keeps programs attached that are not in the loaded object any more: dropping it detaches them.
pub(super) type Links = Vec<Box<dyn Any>>;

/// A program that is attached.
pub(super) struct Attached {
    pub(super) instructions: u32,
    /// What of it is missing, for people.
    pub(super) missing: Vec<String>,
}

/// Loads and attaches every probe.
pub(super) fn attach_all(
    ebpf: &mut Ebpf,
    btf: &Btf,
    forms: &Forms,
    way_in: Option<WayIn>,
) -> (Vec<Verdict>, Links) {
    let mut links = Links::new();
    let verdicts = PROBES
        .iter()
        .map(|probe| Verdict {
            probe: probe.name,
            hook: probe.hook,
            without: probe.without,
            required: probe.required,
            state: attach(ebpf, btf, forms, probe, way_in, &mut links),
        })
        .collect();
    (verdicts, links)
}

fn attach(
    ebpf: &mut Ebpf,
    btf: &Btf,
    forms: &Forms,
    probe: &Probe,
    only: Option<WayIn>,
    links: &mut Links,
) -> State {
    let mut refused = Vec::new();
    let mut objections = Vec::new();
    for way in probe.ways(only) {
        if let Some(objection) = forms.objection(&way.at) {
            objections.push(objection);
            continue;
        }
        match attach_by(ebpf, btf, way, links) {
            Ok(Attached { instructions, missing }) => {
                return State::Active { way_in: way.way_in, refused, instructions, missing };
            }
            Err(reason) => refused.push(format!("{} refused: {reason}", way.way_in)),
        }
    }
    if probe.ways.iter().all(|way| way.way_in == WayIn::Function) {
        // Another probe does its work where functions take no programs.
        let objection = objections.first().copied().unwrap_or("not by this way in");
        let reason = if refused.is_empty() { objection.to_owned() } else { refused.join("; ") };
        return State::Unsupported(reason);
    }
    match objections.first() {
        Some(objection) if refused.is_empty() => State::Unsupported((*objection).to_owned()),
        _ => State::Broken(refused.join("; ")),
    }
}

fn attach_by(ebpf: &mut Ebpf, btf: &Btf, way: &Way, links: &mut Links) -> Result<Attached, String> {
    let Some(name) = way.program else {
        return system_calls::attach(ebpf, btf, links);
    };
    let program = ebpf.program_mut(name).ok_or_else(|| format!("the eBPF object has no program {name}"))?;
    // A program that loaded and would not attach must not stay in the kernel.
    let attached = match (&mut *program, &way.at) {
        (Program::BtfTracePoint(program), At::Tracepoint(event) | At::TaskTracepoint(event)) => program
            .load(event, btf)
            .and_then(|()| program.attach().map(drop))
            .inspect_err(|_| drop(program.unload())),
        (Program::RawTracePoint(program), At::Tracepoint(event) | At::TaskTracepoint(event)) => program
            .load()
            .and_then(|()| program.attach(event).map(drop))
            .inspect_err(|_| drop(program.unload())),
        (Program::FExit(program), At::Function(function) | At::FunctionOf(function, _)) => program
            .load(function, btf)
            .and_then(|()| program.attach().map(drop))
            .inspect_err(|_| drop(program.unload())),
        (Program::FEntry(program), At::Function(function)) => program
            .load(function, btf)
            .and_then(|()| program.attach().map(drop))
            .inspect_err(|_| drop(program.unload())),
        _ => Err(ProgramError::UnexpectedProgramType),
    };
    attached.map_err(|error| reason(&error))?;
    Ok(Attached { instructions: instructions(program), missing: Vec::new() })
}

fn instructions(program: &Program) -> u32 {
    program.info().ok().and_then(|info| info.verified_instruction_count()).unwrap_or(0)
}

/// One line of an error that may carry a verifier log of thousands.
pub(super) fn reason(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let last = log
                .lines()
                .rev()
                .filter(|line| !line.trim().is_empty() && !line.starts_with("processed"))
                .take(3);
            let mut last: Vec<_> = last.collect();
            last.reverse();
            // A kernel that forbids the kind of program has verified nothing.
            if last.is_empty() { io_error.to_string() } else { format!("{io_error} ({})", last.join(" / ")) }
        }
        ProgramError::SyscallError(error) => format!("{}: {}", error.call, error.io_error),
        other => other.to_string(),
    }
}
