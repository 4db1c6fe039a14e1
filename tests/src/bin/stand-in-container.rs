//! `stand-in-container GROUP PROGRAM [ARGUMENT…]`: a runtime with nothing around it. Makes a mount namespace of its own, by which a
//! container's first program is known, joins the control group in the directory GROUP, and becomes PROGRAM.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::sched::{CloneFlags, unshare};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(group), Some(program)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: stand-in-container GROUP PROGRAM [ARGUMENT…]");
        return ExitCode::from(64);
    };
    let joined = unshare(CloneFlags::CLONE_NEWNS)
        .map_err(std::io::Error::from)
        .and_then(|()| std::fs::write(Path::new(&group).join("cgroup.procs"), "0"));
    let error = match joined {
        Ok(()) => Command::new(&program).args(arguments).exec(),
        Err(error) => error,
    };
    eprintln!("stand-in-container: {}: {error}", program.display());
    ExitCode::from(126)
}
