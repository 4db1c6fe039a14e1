//! An argument is wrong or missing: the program looked at its command line, did not like it, and left.
//!
//! No system call fails for that. A log that names the very argument shows it; without one there is the command line as it was executed,
//! an exit code that means "usage", and a life too short for anything else.

mod candidates;

use candidates::{Candidate, Named, candidates, of_init, runs_a_script, unexpanded};
pub(super) use candidates::{has_runtime_options, is_interpreter};

use super::{Finding, before_the_end, call_and_exit};
use crate::calls::Call;
use crate::case::Case;
use crate::changed;
use crate::log::{self, Line};
use crate::pod::ChangeKind;
use crate::startup::{self, Startup};
use crate::verdict::{Cause, Confidence, EvidenceRef};
use crate::{errno, words};

/// Exit codes by which programs say that they were called wrongly: getopt's and argparse's 2, EX_USAGE, node's 9.
const USAGE_CODES: [i32; 3] = [2, 64, 9];
/// A command line is looked at within this (milliseconds), also by a program in a slow language on a busy node.
const PARSED_MS: f64 = 2_000.0;
/// What a program in machine code needs for that, on a busy node (milliseconds).
const AT_ONCE_MS: f64 = 600.0;

/// A log's last lines say so: they name the argument, or show how the program is to be called.
pub(super) fn told(case: &Case<'_>) -> Option<Finding> {
    let startup = startup::told(case)?;
    let candidates: Vec<Candidate> = of_init(case).into_iter().chain(candidates(case)).collect();
    let lines: Vec<Line<'_>> = log::last_lines(case).collect();
    // Clearly named before named by a word, and the oldest such line: a usage text that follows may name all.
    let named = lines.iter().flat_map(|line| {
        candidates.iter().rev().filter_map(|candidate| Some((candidate.named_by(line)?, *line, candidate)))
    });
    if let Some((named, line, candidate)) = named.max_by_key(|(named, ..)| *named) {
        let confidence = if named == Named::Clearly { Confidence::High } else { Confidence::Medium };
        let argument = candidate.shown();
        let what = format!("its log names the argument {argument}: {}", line.quoted());
        return Some(finding(case, &startup, confidence, argument, "", &what, Some(line)));
    }
    if let Some((line, option)) = lines.iter().rev().find_map(|line| Some((*line, lacking_option(line)?))) {
        let what = format!("its log says that {option} is missing: {}", line.quoted());
        let remedy = format!("add {option} to {0}.args (or {0}.command)", case.field());
        let confidence = if line.is_fatal() { Confidence::High } else { Confidence::Medium };
        return Some(Finding {
            remedy,
            ..finding(case, &startup, confidence, option, "", &what, Some(line))
        });
    }
    // `error parsing app.yml: …, see 'app --help'` is about the file.
    let read =
        || startup::read_last(case).into_iter().any(|(_, file)| startup::in_arguments(case, &file.path));
    let of_file = |line: &Line<'_>| line.complains() && line.is_about_settings() && read();
    let usage = lines.iter().find(|line| line.is_usage() && !of_file(line))?;
    let argument = match candidates.as_slice() {
        [only] => only.shown(),
        _ => command_line(case),
    };
    let what = format!("it printed how it is to be called: {}", usage.quoted());
    Some(finding(case, &startup, Confidence::Medium, argument, "", &what, Some(*usage)))
}

/// It wants to listen on an address that this machine does not have, and an argument names it.
pub(super) fn address(case: &Case<'_>, call: &Call<'_>) -> Option<Finding> {
    let failure = call.failure;
    if failure.errno != errno::EADDRNOTAVAIL {
        return None;
    }
    let host = failure.address.rsplit_once(':').map_or("", |(host, _)| host);
    let candidates = candidates(case);
    let argument = candidates.iter().map(Candidate::shown).find(|argument| {
        host.len() > 1 && argument.contains(host.trim_start_matches('[').trim_end_matches(']'))
    })?;
    let address = words::one_line(&failure.address);
    Some(Finding {
        cause: Cause::InvalidArguments,
        confidence: call.confidence(),
        summary: format!(
            "the argument {argument} names the address {address}, which this machine does not have: {} {}",
            words::failed(failure),
            before_the_end(case, call)
        ),
        remedy: format!(
            "let {argument} name 0.0.0.0, or the pod's own address (status.podIP by the downward API)"
        ),
        object: argument,
        evidence: call_and_exit(case, call),
    })
}

/// Nothing failed, and an argument is not what it was when the container last ran well.
pub(super) fn changed(case: &Case<'_>) -> Option<Finding> {
    let blamed = changed::blamed(case, ChangeKind::Argument)?;
    // As the node saw it, without what is secret.
    let name = blamed.change.name.as_str();
    let arguments = case.evidence.process.iter().flat_map(|process| process.args.iter());
    let now = arguments.into_iter().find(|argument| argument.as_str() == name);
    let object = match now {
        Some(argument) => words::one_line(argument),
        None => words::one_line(name.split('=').next().unwrap_or(name)),
    };
    Some(Finding {
        cause: Cause::InvalidArguments,
        confidence: blamed.confidence,
        summary: blamed.sentence(case),
        remedy: format!(
            "correct {object} in {0}.args (or {0}.command), or take that change back",
            case.field()
        ),
        object,
        evidence: blamed.evidence,
    })
}

/// Nothing failed and no log tells.
pub(super) fn guessed(case: &Case<'_>) -> Option<Finding> {
    let startup = startup::quiet(case)?;
    if let Some(argument) = unexpanded(case) {
        let what = format!(
            "its argument {argument} holds a reference to a variable that the pod does not have, and no call failed that would explain the end"
        );
        return Some(finding(case, &startup, Confidence::Medium, argument, "", &what, None));
    }
    if let Some(command) = unknown_command(case) {
        let what = format!(
            "it looked for a program {}-{command} in the folders of PATH, as it does for a command that it does not know, and found none",
            case.main_name()
        );
        return Some(finding(case, &startup, Confidence::Medium, command, "", &what, None));
    }
    if let Some(command) = command_of_its_own(case, &startup) {
        let what = format!("it was given {command}, and left with the code for a command that is not found");
        return Some(finding(case, &startup, Confidence::Low, command, "", &what, None));
    }
    let read_nothing = startup::read_last(case).is_empty() && !startup::served(case);
    let says_usage = USAGE_CODES.contains(&startup.code) && startup.life_ms <= PARSED_MS;
    let at_once = startup.life_ms > 0.0 && startup.life_ms <= AT_ONCE_MS && !runs_a_script(case);
    let at_once = at_once && !came_to_its_work(case);
    let candidates = candidates(case);
    if let Some(option) = unknown_option(case, &candidates)
        && ((read_nothing && (at_once || is_letter(&option))) || says_usage)
    {
        let unknown = if is_letter(&option) {
            "which is not among those that its script gives to getopts"
        } else {
            "a name that occurs nowhere in its program as those of its other options do"
        };
        let what = format!("it was given {option}, {unknown}, and no call failed that would explain the end");
        return Some(finding(case, &startup, Confidence::Medium, option, "", &what, None));
    }
    // Of several a long one is the likeliest to be misspelt.
    let mut options: Vec<&Candidate> = candidates.iter().filter(|candidate| candidate.is_option()).collect();
    options.sort_by_key(|candidate| !candidate.is_long_option());
    // `-c name=value`, `-g "daemon off;"`: there is more to get wrong in that than in the letter before it.
    let setting = candidates.iter().find(|candidate| candidate.is_setting());
    if let Some(setting) = setting.filter(|_| !options.iter().any(|option| option.is_long_option())) {
        options = vec![setting];
    }
    // An interpreter's script that looks at its arguments leaves with that code too; a shell that passes on its child's code looks at none.
    if options.is_empty() && says_usage && runs_a_script(case) && case.passed_on().is_none() {
        options.extend(candidates.last());
    }
    if !read_nothing || options.is_empty() || !(says_usage || at_once) {
        return None;
    }
    let (argument, confidence) = match (options.as_slice(), says_usage) {
        ([only], true) if only.is_option() => (only.shown(), Confidence::Medium),
        ([only], true) => (only.shown(), Confidence::Low),
        ([only], false) => (only.shown(), Confidence::Low),
        // There is more to get wrong in a long one.
        ([first, ..], _) => {
            let long = options.iter().find(|option| option.is_long());
            (long.unwrap_or(first).shown(), Confidence::Low)
        }
        ([], _) => return None,
    };
    let meaning = if says_usage { ", which many programs use for a wrong command line," } else { "" };
    let given = match options.len() {
        ..=1 => format!("it was given {argument}"),
        all => format!("it was given {all} options, {argument} among them"),
    };
    let what = format!("{given}, had read no configuration, and no call failed that would explain the end");
    Some(finding(case, &startup, confidence, argument, meaning, &what, None))
}

/// The only one of its options that its program cannot know.
fn unknown_option(case: &Case<'_>, candidates: &[Candidate]) -> Option<String> {
    let [option] = case.evidence.process.as_ref()?.unknown_options.as_slice() else { return None };
    candidates.iter().find(|candidate| candidate.option() == option).map(Candidate::shown)
}

/// True for `-p`.
fn is_letter(option: &str) -> bool {
    option.len() == 2
}

/// True when it looked beside a file that its command line names, for what belongs to that one (`app.db-journal`), or within such a folder:
/// the command line was understood by then.
fn came_to_its_work(case: &Case<'_>) -> bool {
    let arguments = || case.evidence.process.iter().flat_map(|process| process.args.iter().skip(1));
    let values =
        || arguments().flat_map(|argument| argument.split('=')).filter(|value| value.starts_with('/'));
    case.failures().filter(|(_, failure)| failure.pid == case.main_pid()).any(|(_, failure)| {
        values().any(|value| failure.path.strip_prefix(value).is_some_and(|rest| !rest.is_empty()))
    })
}

/// git, cargo and kubectl look for a program `git-x` when they know no command `x`.
fn unknown_command(case: &Case<'_>) -> Option<String> {
    let process = case.evidence.process.as_ref()?;
    let program = words::base_name(process.args.first()?);
    let looked_for = |argument: &str| {
        case.failures().any(|(_, failure)| {
            failure.errno == errno::ENOENT
                && words::base_name(&failure.path)
                    .strip_prefix(program)
                    .and_then(|rest| rest.strip_prefix('-'))
                    .is_some_and(|command| command == argument)
        })
    };
    let command =
        process.args.iter().skip(1).find(|argument| !argument.starts_with('-') && looked_for(argument))?;
    Some(words::one_line(command))
}

/// A program with many commands in it (busybox, a wrapper) leaves as a shell does when it has none of that name.
fn command_of_its_own(case: &Case<'_>, startup: &Startup) -> Option<String> {
    const NOT_FOUND: i32 = 127;
    let first = case.evidence.process.as_ref()?.args.get(1)?;
    let fits =
        startup.code == NOT_FOUND && !runs_a_script(case) && !first.starts_with('-') && !first.contains('/');
    fits.then(|| words::one_line(first))
}

fn finding(
    case: &Case<'_>,
    startup: &Startup,
    confidence: Confidence,
    argument: String,
    meaning: &str,
    what: &str,
    line: Option<Line<'_>>,
) -> Finding {
    let mut evidence: Vec<EvidenceRef> = line.map(|line| line.evidence).into_iter().collect();
    evidence.push(EvidenceRef::Exit);
    evidence.extend(case.evidence.execs.len().checked_sub(1).map(EvidenceRef::Exec));
    Finding {
        cause: Cause::InvalidArguments,
        confidence,
        summary: format!("{}; {what}", startup.ended(case, meaning)),
        remedy: format!("correct {argument} in {0}.args (or {0}.command)", case.field()),
        object: argument,
        evidence,
    }
}

/// `--config` of "the following arguments are required: --config" and `required flag(s) "config" not set`.
fn lacking_option(line: &Line<'_>) -> Option<String> {
    let lower = line.text.to_ascii_lowercase();
    let of_options =
        ["option", "argument", "flag", "parameter", "switch"].iter().any(|word| lower.contains(word));
    if !line.lacks() || !of_options {
        return None;
    }
    let part_of_option = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let mut words = line.text.split(|c: char| !part_of_option(c));
    let option = words.find(|word| word.len() > 1 && word.starts_with('-') && !word.ends_with('-'))?;
    Some(words::one_line(option))
}

/// The whole command line, as far as it fits a sentence.
fn command_line(case: &Case<'_>) -> String {
    let arguments = case.evidence.process.iter().flat_map(|process| &process.args);
    words::one_line(&arguments.map(String::as_str).collect::<Vec<_>>().join(" "))
}
