//! Attaching to the ends of the system calls' own functions: one program for each, and one that they go on with when a call failed.

use std::io;

use aya::{
    Btf, Ebpf,
    maps::{MapData, ProgramArray},
    programs::{FExit, ProgramError, fexit::FExitLink},
};

use super::{
    attach::{Attached, Links, reason},
    syscalls::{self, SystemCall},
};

/// What the programs of a family go on with, in the order of their places (agent-ebpf, probe/syscall.rs).
const CONTINUATIONS: &[&str] = &["system_call_failed", "system_call_asked", "system_call_opened"];

/// Programs for functions of one type, and the array through which they go on. Kernels that compare the types (Linux 5.19) refuse a
/// program of another with EINVAL.
struct Family {
    suffix: &'static str,
    map: &'static str,
    continued: Option<ProgramArray<MapData>>,
}

/// Attaches to every function. The first decides whether this kernel takes such programs; one that the kernel does not have is then
/// only missing.
pub(super) fn attach(ebpf: &mut Ebpf, btf: &Btf, links: &mut Links) -> Result<Attached, String> {
    let mut families = [
        Family { suffix: "", map: "CONTINUED", continued: None },
        Family { suffix: "_conditional", map: "CONTINUED_CONDITIONAL", continued: None },
    ];
    let mut attached = Attached { instructions: 0, missing: Vec::new() };
    let mut own = Links::new();
    for call in syscalls::functions() {
        match attach_one(ebpf, btf, &mut families, &call, &mut attached) {
            Ok(link) => own.push(Box::new(link)),
            Err(ProgramError::Btf(_)) => attached.missing.push(call.function),
            Err(error) if own.is_empty() => return Err(reason(&error)),
            Err(error) => attached.missing.push(format!("{} ({})", call.function, reason(&error))),
        }
    }
    if own.is_empty() {
        return Err("this kernel has none of the system calls' functions".to_owned());
    }
    // An array forgets its programs when nobody has it open any more.
    own.extend(families.into_iter().filter_map(|family| family.continued).map(|it| Box::new(it) as _));
    links.append(&mut own);
    Ok(attached)
}

fn attach_one(
    ebpf: &mut Ebpf,
    btf: &Btf,
    families: &mut [Family],
    call: &SystemCall,
    attached: &mut Attached,
) -> Result<FExitLink, ProgramError> {
    let mut refused = ProgramError::UnexpectedProgramType;
    for family in families {
        if family.continued.is_none() {
            attached.instructions = family.prepare(ebpf, btf, &call.function)?;
        }
        let program = fexit(ebpf, &format!("{}{}", call.program, family.suffix))?;
        match load_and_attach(program, btf, &call.function) {
            Err(error) if is_of_another_type(&error) => refused = error,
            other => return other,
        }
    }
    Err(refused)
}

fn is_of_another_type(error: &ProgramError) -> bool {
    matches!(error, ProgramError::LoadError { io_error, .. } if io_error.kind() == io::ErrorKind::InvalidInput)
}

impl Family {
    /// Puts what the programs go on with, loaded for `function`, into the array; gives how many instructions the verifier saw.
    fn prepare(&mut self, ebpf: &mut Ebpf, btf: &Btf, function: &str) -> Result<u32, ProgramError> {
        let map = ebpf.take_map(self.map).ok_or(ProgramError::UnexpectedProgramType)?;
        let mut continued = ProgramArray::try_from(map)?;
        let mut instructions = 0;
        for (place, continuation) in (0..).zip(CONTINUATIONS) {
            let program = fexit(ebpf, continuation)?;
            program.load(function, btf)?;
            continued.set(place, program.fd()?, 0)?;
            instructions += program.info()?.verified_instruction_count().unwrap_or(0);
            // The array keeps it.
            program.unload()?;
        }
        self.continued = Some(continued);
        Ok(instructions)
    }
}

fn load_and_attach(program: &mut FExit, btf: &Btf, function: &str) -> Result<FExitLink, ProgramError> {
    let link = program.load(function, btf).and_then(|()| {
        let link = program.attach()?;
        program.take_link(link)
    });
    // The link keeps the program; this object is needed for the next function.
    let _ = program.unload();
    link
}

fn fexit<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut FExit, ProgramError> {
    ebpf.program_mut(name).ok_or(ProgramError::UnexpectedProgramType)?.try_into()
}
