//! Where a process was: a fault's place in its program, a call it waited in, what it listened on, what it had opened.

use lastwords_diagnosis::{evidence, signals};

use crate::v1;

both_ways!(Frame { instruction, module, build_id, offset, symbol, symbol_offset, file, line });
both_ways!(Listener { address, pid, comm, before_death_ms, closed });
both_ways!(OpenedFile { path, written, pid, comm, before_death_ms, path_unresolved });

impl From<&evidence::Fault> for v1::Fault {
    fn from(from: &evidence::Fault) -> Self {
        let evidence::Fault { signal, code, address, tid, comm, frames } = from;
        Self {
            signal: *signal,
            signal_name: signals::name(*signal),
            code: *code,
            code_name: signals::code_name(*signal, *code).to_owned(),
            address: *address,
            tid: *tid,
            comm: comm.clone(),
            frames: frames.iter().map(Into::into).collect(),
        }
    }
}

impl From<&v1::Fault> for evidence::Fault {
    fn from(from: &v1::Fault) -> Self {
        let v1::Fault { signal, signal_name: _, code, code_name: _, address, tid, comm, frames } = from;
        Self {
            signal: *signal,
            code: *code,
            address: *address,
            tid: *tid,
            comm: comm.clone(),
            frames: frames.iter().map(Into::into).collect(),
        }
    }
}

both_ways!(BlockedCall {
    syscall,
    pid,
    tid,
    comm,
    path,
    address,
    signal,
    before_death_ms,
    holder_looked_for;
    holder;
    signal_name = signals::name(*signal)
});
