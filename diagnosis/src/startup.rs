//! Ends that nothing in the kernel explains: the program did not like what it was started with, and left.

use crate::calls::Call;
use crate::case::Case;
use crate::evidence::OpenedFile;
use crate::{noise, words};

/// A run shorter than this (milliseconds) ended while starting.
const START_UP_MS: f64 = 10_000.0;
/// From the reading of a file to an end that comes of what stands in it (milliseconds).
const READ_TO_END_MS: f64 = 1_000.0;

/// A program that began to listen within this of its end (milliseconds) was still setting itself up: it steps down to a user after that.
const SET_UP_MS: f64 = 10.0;
/// The same for one that reads its configuration again, or all of it, once it listens.
const READ_MS: f64 = 30.0;

/// A program that ended itself with a code other than 0 while it started.
pub(crate) struct Startup {
    pub(crate) code: i32,
    /// How long the program ran, in milliseconds; 0 when that is not known.
    pub(crate) life_ms: f64,
}

impl Startup {
    /// `app ended itself with exit code 1 after 12 ms`, or the child whose end the main process passed on.
    pub(crate) fn ended(&self, case: &Case<'_>, meaning: &str) -> String {
        let (who, ended) = case.ended_itself(self.code, meaning, Some(self.life_ms));
        format!("{who} {ended}")
    }

    /// ` after 12 ms`, where that is known.
    pub(crate) fn after(&self) -> String {
        if self.life_ms > 0.0 { format!(" after {}", words::span(self.life_ms)) } else { String::new() }
    }
}

/// `Some` when it ended itself while it started, and no failed call stands that would explain it.
pub(crate) fn quiet(case: &Case<'_>) -> Option<Startup> {
    let in_doubt = case.incomplete().is_some() || case.calls.iter().any(Call::leaves_doubt);
    ended(case).filter(|_| !in_doubt)
}

/// As [`quiet`], where a log tells the reason: a missing file that nothing names does not speak against that.
pub(crate) fn told(case: &Case<'_>) -> Option<Startup> {
    ended(case).filter(|_| !case.calls.iter().any(|call| call.may_decide() && call.outweighs_words()))
}

fn ended(case: &Case<'_>) -> Option<Startup> {
    let code = case.exit_code().filter(|code| *code != 0)?;
    case.evidence.process.as_ref()?;
    let life_ms = case.program_ms().unwrap_or_default();
    (life_ms < START_UP_MS).then_some(Startup { code, life_ms })
}

/// The configuration that the program read shortly before its end, last first, each file once. One that it listened after was good
/// enough to work with.
pub(crate) fn read_last<'a>(case: &Case<'a>) -> Vec<(usize, &'a OpenedFile)> {
    let listened = case.evidence.listeners.iter().map(|listener| listener.before_death_ms);
    let listened_ms = listened.filter(|ms| *ms > READ_MS).fold(f64::INFINITY, f64::min);
    let mut files: Vec<(usize, &OpenedFile)> = Vec::new();
    for (index, file) in case.evidence.opened_files.iter().enumerate().rev() {
        // What it was told to read it has read at the start, however long it then worked on that.
        let told = || in_arguments(case, &file.path);
        let near = (file.before_death_ms <= READ_TO_END_MS || told()) && file.before_death_ms <= listened_ms;
        let near = near && !noise::is_of_a_runtime(&file.path);
        // What a helper reads that lives on beside the main process is that one's own.
        let own = file.pid == 0 || file.pid == case.main_pid() || case.ended_just_before(file.pid).is_some();
        let near = near && own;
        let is_script = case.evidence.execs.iter().any(|exec| exec.path == file.path);
        if !file.written && near && !is_script && files.iter().all(|(_, other)| other.path != file.path) {
            files.push((index, file));
        }
    }
    // What a program writes itself (`postgresql.auto.conf`) it reads after what a person wrote.
    if files.iter().any(|(_, file)| !is_written_by_programs(&file.path)) {
        files.retain(|(_, file)| !is_written_by_programs(&file.path));
    }
    files
}

/// True when the name says that programs write the file.
fn is_written_by_programs(path: &str) -> bool {
    words::base_name(path).split(['.', '-', '_']).skip(1).any(|word| matches!(word, "auto" | "generated"))
}

/// True when it listened for long enough to have served somebody.
pub(crate) fn served(case: &Case<'_>) -> bool {
    case.evidence.listeners.iter().any(|listener| listener.before_death_ms > SET_UP_MS)
}

/// True when an argument, or what stands behind its `=`, names a file that the program read.
pub(crate) fn is_read(case: &Case<'_>, argument: &str) -> bool {
    let value = argument.split_once('=').map_or(argument, |(_, value)| value).trim_start_matches("./");
    let is =
        |path: &str| path == value || path.strip_suffix(value).is_some_and(|folder| folder.ends_with('/'));
    !value.is_empty() && case.evidence.opened_files.iter().any(|file| is(&file.path))
}

/// True for a file in, or below, the folder of a script that the command line names, or the working directory: an application's own.
pub(crate) fn lies_with_the_program(case: &Case<'_>, path: &str) -> bool {
    let Some(process) = &case.evidence.process else { return false };
    let scripts = process.args.iter().filter(|argument| argument.starts_with('/'));
    let folders = scripts.filter_map(|script| script.rsplit_once('/').map(|(folder, _)| folder));
    // What everything lies in, and what packages share, is nobody's own.
    let own =
        |folder: &str| !matches!(folder, "" | "/" | "/etc" | "/usr" | "/var" | "/tmp" | "/opt" | "/srv");
    let below = |folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    folders.chain([process.cwd.as_str()]).any(|folder| own(folder) && below(folder))
}

/// True when an argument is this file, or ends with it (`--config=/etc/app.conf`).
pub(crate) fn in_arguments(case: &Case<'_>, path: &str) -> bool {
    let arguments = case.evidence.process.iter().flat_map(|process| process.args.iter().skip(1));
    arguments.flat_map(|argument| argument.split(['=', ',', ':'])).any(|word| {
        let word = word.trim_start_matches("./");
        word == path
            || (!word.is_empty()
                && !word.starts_with('/')
                && path.strip_suffix(word).is_some_and(|folder| folder.ends_with('/')))
    })
}
