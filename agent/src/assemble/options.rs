//! Whether it is worth looking which options a program cannot know, and in which file.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path};

use super::{Death, End, failures::against};
use crate::enrich::options::{Query, options};

/// Who ended later than this after its program was executed liked its command line (nanoseconds).
const START_UP: u64 = 10_000_000_000;
/// Programs that run what an argument names: that has the table of options then.
const INTERPRETERS: [&str; 8] = ["python", "perl", "ruby", "node", "php", "lua", "deno", "bun"];
/// Programs whose options stand in files beside them, or that run whatever stands in an argument.
const OTHERS: [&str; 8] = ["java", "sh", "bash", "dash", "ash", "zsh", "ksh", "busybox"];

/// What to look for when the main process left with a failure's code while it started, and was given options.
#[must_use]
pub fn options_query(death: &Death) -> Option<Query> {
    let End::Exited(exited) = &death.end else { return None };
    let (executed_at, executed) = death.execs.last()?;
    let failed = exited.status.signal == 0 && exited.status.code != 0;
    if !failed || death.time.saturating_sub(*executed_at) > START_UP {
        return None;
    }
    let (first, rest) = executed.arguments.split_first()?;
    let name = base_name(first);
    let resolved = |path: &[u8]| against(path, executed.cwd.as_deref());
    let (program, given) = if is_one_of(&OTHERS, name) {
        return None;
    } else if is_one_of(&INTERPRETERS, name) {
        let script = rest.iter().position(|argument| !argument.starts_with(b"-"))?;
        // The text of a program, or a module's name, is no file.
        let is_file =
            rest.iter().take(script).all(|option| option.len() == 2 && !b"cemr".contains(&option[1]));
        let file = rest.get(script).filter(|_| is_file)?;
        (resolved(file)?, rest.get(script + 1..)?)
    } else {
        (resolved(&executed.filename)?, rest)
    };
    let options = options(given.iter().map(Vec::as_slice));
    // It is by the others that one is told to be unknown.
    (options.len() > 1).then(|| Query { program: Path::new(OsStr::from_bytes(&program)).to_owned(), options })
}

fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// `python3.11`, `node22`: the name with a version behind it.
fn is_one_of(names: &[&str], program: &[u8]) -> bool {
    let version = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    names
        .iter()
        .any(|name| program.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.iter().all(version)))
}
