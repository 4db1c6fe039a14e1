//! The container's main process executes a program: `sched:sched_process_exec`.
//!
//! Why this: it fires only for an exec that worked, after the new program is set up, with its arguments still in place; nothing of
//! them can be had after the death on kernels before 6.18. The main process is the first one in the group whose program runs in
//! a mount namespace other than its parent's: the runtime's own set-up (`runc init` executing itself) still shares it.
//! Cost: every exec of the node pays a look-up; the container's own first programs about 1 500 instructions.

use lastwords_agent_common::{
    limits::{ARGUMENT_BYTES, PATH_BYTES},
    record::{Executed, kind},
};

use crate::{
    container::Container,
    emit::emit_for,
    hook,
    kernel::{
        Address, executes_compat, follow, offset, pointer, read, read_comm, read_string, read_user_bytes,
    },
    probe::startup,
    process, recorder, working_directory,
};

hook!("sched_process_exec", sched_process_exec, sched_process_exec_raw, |arguments| {
    let Some(container) = Container::of_current() else {
        return;
    };
    let task = pointer(arguments, 0);
    let tgid = (process::current() >> 32) as u32;
    let main = container.main_tgid();
    let first = main == 0;
    if first {
        if mount_namespace(task) == mount_namespace(follow(task, &offset::TASK_REAL_PARENT)) {
            return;
        }
        container.set_main_tgid(tgid);
        // What the runtime's set-up failed at until here is not the program's, and would be most of what the recorder holds.
        if let Some(recorder) = container.recorder() {
            recorder::forget(recorder);
            startup::began(recorder);
        }
    } else if main != tgid {
        return;
    }
    let binary = pointer(arguments, 2);
    emit_for::<Executed>(kind::EXECUTED, container, |record| fill(record, task, binary, tgid, first));
});

#[inline(always)]
fn mount_namespace(task: Address) -> Address {
    follow(follow(task, &offset::TASK_NSPROXY), &offset::NSPROXY_MNT_NS)
}

#[inline(always)]
fn fill(record: *mut Executed, task: Address, binary: Address, tgid: u32, first: bool) {
    let credentials = follow(task, &offset::TASK_CRED);
    let memory = follow(task, &offset::TASK_MM);
    let start: u64 = read(memory, &offset::MM_ARG_START);
    let end: u64 = read(memory, &offset::MM_ARG_END);
    // SAFETY: fields of a reserved record.
    unsafe {
        (*record).tgid = tgid;
        (*record).uid = read(credentials, &offset::CRED_UID);
        (*record).gid = read(credentials, &offset::CRED_GID);
        (*record).namespace_init = u32::from(process::is_namespace_init(task));
        (*record).first = u32::from(first);
        (*record).compat = u32::from(executes_compat(task));
        (*record).padding = 0;
        read_comm(&raw mut (*record).comm, task);
        read_string::<PATH_BYTES>(&raw mut (*record).filename, follow(binary, &offset::BPRM_FILENAME));
        let copied = read_user_bytes::<ARGUMENT_BYTES, { ARGUMENT_BYTES as u64 - 1 }>(
            &raw mut (*record).arguments,
            start,
            end.wrapping_sub(start),
        );
        (*record).argument_bytes = if copied == 0 { 0 } else { end.wrapping_sub(start) as u32 };
        working_directory::write(task, &raw mut (*record).cwd);
    }
}
