//! Whether the command line or the log names what a call failed on.

use super::thing;
use crate::case::Case;
use crate::evidence::Failure;
use crate::{errno, log, noise};

/// True when the command line or one of the log's last lines names the call's path or address.
pub(super) fn named(case: &Case<'_>, failure: &Failure) -> bool {
    let thing = thing(failure);
    if thing.len() < 2 {
        return false;
    }
    // The program itself has the name of many a folder that is its own (`redis` and `/root/.config/redis`).
    let names_itself = |first: &String| !first.contains('/') && !noise::executes(&failure.syscall);
    let given = |args: &'_ [String]| usize::from(args.first().is_some_and(names_itself));
    let process_args =
        case.evidence.process.iter().flat_map(|process| process.args.iter().skip(given(&process.args)));
    let exec_args = case.evidence.execs.iter().flat_map(|exec| exec.args.iter().skip(given(&exec.args)));
    let mut is_script = false;
    let in_arguments = process_args.chain(exec_args).any(|argument| {
        let named = argument_names(argument, failure)
            // `.read schema.sql` is one argument.
            || (!is_script && argument.split_whitespace().any(|word| argument_names(word, failure)));
        is_script = matches!(argument.as_str(), "-c" | "-e" | "-r" | "-ec" | "-lc" | "--eval");
        named
    });
    in_arguments || is_main_class(case, failure) || lines_about(case, thing).any(log::tells_of_trouble)
}

/// True when the log tells the error of a call on something whose path is gone: `no space left on device` is said of nothing else.
pub(super) fn error_told(case: &Case<'_>, failure: &Failure) -> bool {
    let unmistakable =
        matches!(failure.errno, errno::ENOSPC | errno::EDQUOT | errno::EMFILE | errno::ENFILE | errno::EFBIG);
    let reason = errno::text(failure.errno).filter(|_| unmistakable && failure.path.is_empty());
    reason.is_some_and(|reason| {
        log::last_lines(case)
            .any(|line| line.text.to_ascii_lowercase().contains(reason) && !log::goes_on(line.text))
    })
}

/// True for the file of the class that a JVM is to run, in the last place of its class path: it was in none of those before.
fn is_main_class(case: &Case<'_>, failure: &Failure) -> bool {
    let Some(process) = &case.evidence.process else { return false };
    let mut arguments = process.args.iter().skip(1);
    let mut last = "";
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-cp" | "-classpath" | "--class-path" => {
                last = arguments.next().and_then(|path| path.rsplit(':').next()).unwrap_or_default();
            }
            "-jar" | "-m" | "--module" => return false,
            option if option.starts_with('-') => {}
            class => {
                let file = format!("/{}.class", class.replace('.', "/"));
                let folder = failure.path.strip_suffix(&file);
                return !last.is_empty() && folder == Some(last.trim_end_matches('/'));
            }
        }
    }
    false
}

/// True when the log says what the program does without it, and nothing else of it.
pub(super) fn said_aside(case: &Case<'_>, failure: &Failure) -> bool {
    let thing = thing(failure);
    let mut lines = lines_about(case, thing);
    thing.len() >= 2 && lines.next().is_some_and(log::goes_on) && lines.all(log::goes_on)
}

/// The log's last lines that name it.
fn lines_about<'a>(case: &Case<'a>, thing: &str) -> impl Iterator<Item = &'a str> {
    let thing = thing.trim_end_matches("/tcp").trim_end_matches("/udp").to_owned();
    let tails = case.evidence.log_tail.iter().chain(&case.evidence.log_files);
    let lines = tails.flat_map(|tail| tail.lines.iter().rev().take(20));
    // Lua lists every place of a search: none of them is what is missing.
    lines.map(String::as_str).filter(move |line| log::names(line, &thing) && !line.contains("no file '"))
}

/// True when an argument (`/a/b`, `--config=/a/b`, `conf/b`) is the call's path, or the folder above it for a change of ownership, or for
/// a look into it that was refused.
/// The words of a shell's `-c` script do not count: a script may mention a file and do without it.
fn argument_names(argument: &str, failure: &Failure) -> bool {
    let looks_in_vain = failure.errno == errno::EACCES && noise::only_looks(&failure.syscall);
    // A search path (`a.jar:b.jar`) names each of its places.
    let words =
        argument.split(['=', ',', ';']).chain(argument.split(':').skip(usize::from(!argument.contains(':'))));
    words.filter(|word| !word.is_empty() && !matches!(*word, "." | ".." | "/")).any(|word| {
        let word = word.trim_start_matches("./");
        let path = failure.path.as_str();
        let relative = !word.starts_with('/') && !word.is_empty();
        word == path
            || (failure.dns.is_some() && log::names(word, &failure.name))
            || (relative && path.strip_suffix(word).is_some_and(|folder| folder.ends_with('/')))
            || ((noise::changes_ownership(&failure.syscall) || looks_in_vain)
                && path.strip_prefix(word.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/')))
    })
}
