//! Where a task's registers are on its kernel stack, found with one call of our own (agent-ebpf, probe/registers.rs).

use aya::{
    Ebpf,
    programs::{ProgramError, RawTracePoint},
};

/// Has the kernel side find it. The map keeps it; the program is gone again afterwards.
///
/// # Errors
/// When this kernel does not take the program: what a process was waiting in is then not known.
pub(super) fn find(ebpf: &mut Ebpf) -> Result<(), ProgramError> {
    let Some(program) = ebpf.program_mut("find_registers") else {
        return Err(ProgramError::UnexpectedProgramType);
    };
    let program: &mut RawTracePoint = program.try_into()?;
    program.load()?;
    let attached = program.attach("sys_exit").map(drop);
    // Any call ends in the event that it waits for.
    let _ = nix::unistd::getppid();
    program.unload()?;
    attached
}
