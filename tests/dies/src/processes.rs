//! Steps that start programs, and limits on what may be started.

use std::ffi::{CStr, CString};
use std::io;
use std::mem;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};
use nix::unistd::{Pid, Uid, getpid, getppid, setuid};

use crate::number;

/// What would colour a terminal, begin a new line, and is no text.
const BAD_NAME: &CStr = c"\x1b[31m\n\xff\xfe\r";

pub(crate) fn step(words: &[&str]) -> io::Result<bool> {
    match words {
        // Comes back only when it fails.
        ["exec", program, arguments @ ..] => return Err(Command::new(program).args(arguments).exec()),
        // By posix_spawn: a child made by vfork, which leaves with 127 when the program cannot be executed.
        ["spawn", program, arguments @ ..] => drop(Command::new(program).args(arguments).status()?),
        ["background", program, arguments @ ..] => {
            mem::forget(Command::new(program).args(arguments).spawn()?);
        }
        ["threads-until-refused"] => threads_until_refused()?,
        ["limit", resource, most] => limit(resource, number(most)?)?,
        ["use-memory", mebibytes] => mem::forget(vec![1_u8; number::<usize>(mebibytes)? << 20]),
        ["set-clock"] => clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(1_000_000_000, 0))?,
        ["rename-itself", name] => prctl::set_name(&CString::new(*name)?)?,
        ["rename-itself-badly"] => prctl::set_name(BAD_NAME)?,
        ["setuid", uid] => setuid(Uid::from_raw(number(uid)?))?,
        ["kill", "self", signal] => kill(getpid(), signal.parse::<Signal>()?)?,
        ["kill", "parent", signal] => kill(getppid(), signal.parse::<Signal>()?)?,
        ["kill", pid, signal] => kill(Pid::from_raw(number(pid)?), signal.parse::<Signal>()?)?,
        ["sleep", milliseconds] => thread::sleep(Duration::from_millis(number(milliseconds)?)),
        _ => return Ok(false),
    }
    Ok(true)
}

/// Takes the step in a child process of its own.
pub(crate) fn child(words: &[&str]) -> io::Result<()> {
    let status = Command::new(std::env::current_exe()?).arg(words.join(" ")).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
}

fn limit(resource: &str, most: u64) -> io::Result<()> {
    let resource = match resource {
        "files" => Resource::RLIMIT_NOFILE,
        "processes" => Resource::RLIMIT_NPROC,
        "file-size" => Resource::RLIMIT_FSIZE,
        "memory" => Resource::RLIMIT_AS,
        "processor" => Resource::RLIMIT_CPU,
        "core" => Resource::RLIMIT_CORE,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "no such limit")),
    };
    Ok(setrlimit(resource, most, most)?)
}

fn threads_until_refused() -> io::Result<()> {
    loop {
        thread::Builder::new().spawn(|| thread::sleep(Duration::from_secs(60)))?;
    }
}
