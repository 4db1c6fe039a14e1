//! Whether it is worth looking which options a program cannot know, and in which file.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path};

use super::{Death, End, failures::against};
use crate::enrich::options::{Query, Table, letters, options};

/// Who ended later than this after its program was executed liked its command line (nanoseconds).
const START_UP: u64 = 10_000_000_000;
/// Programs that run what an argument names: that has the table of options then.
const INTERPRETERS: [&str; 8] = ["python", "perl", "ruby", "node", "php", "lua", "deno", "bun"];
/// Options of theirs behind which the text of a program stands, or the name of a module.
const OF_TEXT: [u8; 4] = *b"cemr";
/// Those whose scripts have their letters with `getopts`, if anywhere: what else stands in one may be for the program that it starts.
const SHELLS: [&str; 6] = ["sh", "bash", "dash", "ash", "zsh", "ksh"];
/// Programs whose options stand in files beside them, or that are many in one.
const OTHERS: [&str; 2] = ["java", "busybox"];
/// Programs that start the one behind them and leave with its code.
const INITS: [&str; 4] = ["tini", "dumb-init", "catatonit", "docker-init"];
/// Where a program is that a container names without a folder: PATH is a value, and its value is not kept.
const PATH: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What to look for when the main process left with a failure's code while it started, and was given options.
#[must_use]
pub fn options_query(death: &Death) -> Option<Query> {
    let End::Exited(exited) = &death.end else { return None };
    let (executed_at, executed) = death.execs.last()?;
    let failed = exited.status.signal == 0 && exited.status.code != 0;
    if !failed || death.time.saturating_sub(*executed_at) > START_UP {
        return None;
    }
    let resolved = |path: &[u8]| against(path, executed.cwd.as_deref());
    let (first, rest) = executed.arguments.split_first()?;
    if !is_one_of(&INITS, base_name(first)) {
        let at = resolved(&executed.filename)?;
        return query(base_name(first), vec![at], rest, resolved);
    }
    let command = behind_init(rest)?;
    let (program, rest) = command.split_first()?;
    let places = if program.contains(&b'/') {
        vec![resolved(program)?]
    } else {
        PATH.iter().map(|folder| [folder.as_bytes(), b"/", program].concat()).collect()
    };
    query(base_name(program), places, rest, resolved)
}

/// What to look for in a program that was found at the first of these places, or in the script that it was given.
fn query(
    name: &[u8],
    places: Vec<Vec<u8>>,
    rest: &[Vec<u8>],
    resolved: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Option<Query> {
    let is_shell = is_one_of(&SHELLS, name);
    let (programs, given) = if is_one_of(&OTHERS, name) {
        return None;
    } else if is_shell || is_one_of(&INTERPRETERS, name) {
        let script = rest.iter().position(|argument| !argument.starts_with(b"-"))?;
        // The text of a program, or a module's name, is no file.
        let is_file =
            rest.iter().take(script).all(|option| option.len() == 2 && !OF_TEXT.contains(&option[1]));
        let file = rest.get(script).filter(|_| is_file)?;
        (vec![resolved(file)?], rest.get(script + 1..)?)
    } else {
        (places, rest)
    };
    let given = given.iter().map(Vec::as_slice);
    let (table, options) =
        if is_shell { (Table::Getopts, letters(given)) } else { (Table::Names, options(given)) };
    // It is by the others that a name is told to be unknown.
    let least = if is_shell { 1 } else { 2 };
    let programs = programs.iter().map(|path| Path::new(OsStr::from_bytes(path)).to_owned()).collect();
    (options.len() >= least).then_some(Query { programs, table, options })
}

/// The command that an init program was given to run.
fn behind_init(arguments: &[Vec<u8>]) -> Option<&[Vec<u8>]> {
    let after = arguments.iter().position(|argument| argument == b"--").map(|at| at + 1);
    let first = || arguments.iter().position(|argument| !argument.starts_with(b"-"));
    arguments.get(after.or_else(first)?..)
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
