//! What stands in a configuration file is wrong: the program read it, did not like it, and left.
//!
//! The kernel sees that the file was read and that nothing failed, and no more: only a log that names the file shows that it was the reason.

use super::{Finding, before_the_end, call_and_exit};
use crate::calls::Call;
use crate::case::Case;
use crate::changed;
use crate::evidence::OpenedFile;
use crate::log::{self, Line};
use crate::pod::ChangeKind;
use crate::startup::{self, Startup};
use crate::verdict::{Cause, Confidence, EvidenceRef};
use crate::{context, errno, words};

/// A parser that does not like a file leaves within this (milliseconds), also in a slow language on a busy node.
const AT_ONCE_MS: f64 = 350.0;
/// A program that was told of its configuration has read it within this (milliseconds).
const PARSED_MS: f64 = 2_000.0;
/// A program reads its own files in this last part of a life that ends of them, or so shortly (milliseconds) before the end.
const LATE_PART: f64 = 0.75;
const LATE_MS: f64 = 25.0;
/// Lines around one that names the file in which the trouble itself may stand.
const AROUND: usize = 3;

/// A log's last lines name the file that was read, and complain.
pub(super) fn told(case: &Case<'_>) -> Option<Finding> {
    let startup = startup::told(case)?;
    let files = startup::read_last(case);
    let lines: Vec<Line<'_>> = log::last_lines(case).collect();
    let known = files.iter().find_map(|(index, file)| {
        let at = lines.iter().position(|line| names_file(line, &file.path))?;
        let around = lines.get(at.saturating_sub(AROUND)..(at + AROUND + 1).min(lines.len()))?;
        // The line that names it, else the nearest one that says what is wrong.
        let at_a_line = |line: &Line<'_>| has_a_line_number(line, &file.path) && !log::informs(line.text);
        let line = lines.get(at).filter(|line| line.complains() || at_a_line(line));
        // What stands beside it may be about something else.
        let named = line.is_some();
        let line = line.or_else(|| around.iter().find(|line| line.complains()))?;
        let complains = named && line.complains();
        let confidence =
            if complains || line.is_about_settings() { Confidence::High } else { Confidence::Medium };
        Some((*index, *file, *line, confidence))
    });
    let Some((index, file, line, confidence)) = known else {
        return pointed_at(case, &startup, &lines).or_else(|| setting(case, &startup, &files, &lines));
    };
    let mut finding = finding(case, &startup, index, file, confidence);
    finding.summary.push_str(&format!("; its log says {}", line.quoted()));
    finding.evidence.insert(1, line.evidence);
    Some(finding)
}

/// A log's last complaint is about a setting that the program does not know, and names no file: the one that it was told to read, else the
/// last.
fn setting(
    case: &Case<'_>,
    startup: &Startup,
    files: &[(usize, &OpenedFile)],
    lines: &[Line<'_>],
) -> Option<Finding> {
    const OF_SETTINGS: [&str; 4] =
        ["unknown variable", "unknown directive", "unknown setting", "unknown keyword"];
    let line = lines.iter().take(AROUND).find(|line| {
        let lower = line.text.to_ascii_lowercase();
        line.complains() && OF_SETTINGS.iter().any(|words| lower.contains(words))
    })?;
    let own = || files.iter().filter(|(_, file)| !crate::noise::is_of_a_package(&file.path));
    let (index, file) =
        own().find(|(_, file)| startup::in_arguments(case, &file.path)).or_else(|| own().next())?;
    let mut finding = finding(case, startup, *index, file, Confidence::Medium);
    finding.summary.push_str(&format!("; its log says {}", line.quoted()));
    finding.evidence.insert(1, line.evidence);
    Some(finding)
}

/// A log's last complaint points at a line of a file whose name does not tell that it is configuration: `users.acl:1: …`.
fn pointed_at(case: &Case<'_>, startup: &Startup, lines: &[Line<'_>]) -> Option<Finding> {
    /// A trace of a program's own code points at lines too.
    const OF_CODE: [&str; 22] = [
        "py", "pyx", "js", "mjs", "cjs", "ts", "rb", "php", "pl", "pm", "java", "kt", "scala", "go", "rs",
        "c", "cc", "cpp", "h", "sh", "lua", "tcl",
    ];
    let line = lines.iter().find(|line| line.complains())?;
    let marks = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '(' | ')' | ',' | '[' | ']');
    let path = line.text.split(marks).find_map(|word| {
        let (path, rest) = word.split_once(':')?;
        let (_, ending) = words::base_name(path).rsplit_once('.')?;
        let points = path.starts_with('/') && rest.starts_with(|c: char| c.is_ascii_digit());
        (points && !OF_CODE.contains(&ending)).then(|| words::one_line(path))
    })?;
    Some(Finding {
        cause: Cause::InvalidConfiguration,
        confidence: Confidence::Medium,
        summary: format!(
            "{}; its log points at {path}{}: {}",
            startup.ended(case, ""),
            context::on_volume(case, &path),
            line.quoted()
        ),
        remedy: format!("correct {path}; compare it with the version that last ran well"),
        object: path,
        evidence: vec![line.evidence, EvidenceRef::Exit],
    })
}

/// It wants to listen on an address that this machine does not have; without an argument or a variable that names it, it stands in
/// what was read.
pub(super) fn address(case: &Case<'_>, call: &Call<'_>) -> Option<Finding> {
    let failure = call.failure;
    if failure.errno != errno::EADDRNOTAVAIL {
        return None;
    }
    let (index, file) = *startup::read_last(case).first()?;
    let (path, address) = (words::one_line(&file.path), words::one_line(&failure.address));
    let mut evidence = call_and_exit(case, call);
    evidence.push(EvidenceRef::OpenedFile(index));
    Some(Finding {
        cause: Cause::InvalidConfiguration,
        confidence: call.confidence().min(Confidence::Medium),
        summary: format!(
            "{} read {path}{} and could not listen on {address}, an address that this machine does not have: {} {}",
            words::program(&failure.comm),
            context::on_volume(case, &file.path),
            words::failed(failure),
            before_the_end(case, call)
        ),
        remedy: format!("correct the address {address} in {path}: 0.0.0.0, or the pod's own"),
        object: path,
        evidence,
    })
}

/// Nothing failed, and what is mounted is not what it was when the container last ran well.
pub(super) fn changed(case: &Case<'_>) -> Option<Finding> {
    let blamed = changed::blamed(case, ChangeKind::Mount)?;
    let mut evidence = blamed.evidence.clone();
    // The file that was read from there, else the mount itself.
    let below = |path: &str| path.starts_with(blamed.change.name.trim_end_matches('/'));
    let read = startup::read_last(case).into_iter().find(|(_, file)| below(&file.path));
    evidence.extend(read.map(|(index, _)| EvidenceRef::OpenedFile(index)));
    let object = words::one_line(read.map_or(&blamed.change.name, |(_, file)| &file.path));
    Some(Finding {
        cause: Cause::InvalidConfiguration,
        confidence: blamed.confidence,
        summary: blamed.sentence(case),
        remedy: format!(
            "correct what is mounted at {object} ({}.volumeMounts), or take that change back",
            case.field()
        ),
        object,
        evidence,
    })
}

/// Nothing failed and no log tells: the file that was read last, right before the end.
pub(super) fn guessed(case: &Case<'_>) -> Option<Finding> {
    let startup = startup::quiet(case)?;
    let files = startup::read_last(case);
    // One that was read long before belongs to the language's runtime, or was good enough to work with; of one that the command line names,
    // or that lies with the program, only the latter holds.
    let at_once = |file: &OpenedFile| file.before_death_ms <= AT_ONCE_MS;
    let late = |file: &OpenedFile| {
        let part_ms = (startup.life_ms * LATE_PART).max(LATE_MS);
        let own = at_once(file) && startup::in_arguments(case, &file.path);
        own || startup.life_ms == 0.0 || file.before_death_ms <= part_ms
    };
    let with_it = |file: &OpenedFile| at_once(file) && startup::lies_with_the_program(case, &file.path);
    let read = files.first().copied().filter(|(_, file)| late(file) || with_it(file));
    let Some((index, file)) = read else { return on_command_line(case, &startup) };
    let alone = files.len() == 1;
    let pointed_at = startup::in_arguments(case, &file.path) || context::mount(case, &file.path).is_some();
    let is_likely = at_once(file) && late(file) && (alone || pointed_at);
    let confidence = if is_likely { Confidence::Medium } else { Confidence::Low };
    let mut finding = finding(case, &startup, index, file, confidence);
    finding.summary.push_str("; no call failed that would explain it");
    if let [_, (_, other), ..] = files.as_slice() {
        finding.summary.push_str(&format!("; before that file it had read {}", words::one_line(&other.path)));
    }
    Some(finding)
}

/// No file of this kind was seen to be read, but the command line names one for it.
fn on_command_line(case: &Case<'_>, startup: &Startup) -> Option<Finding> {
    let arguments = &case.evidence.process.as_ref()?.args;
    let nexts = arguments.iter().skip(1).map(String::as_str).chain([""]);
    let path = arguments.iter().zip(nexts).find_map(|(option, next)| {
        let (name, value) = option.split_once('=').unwrap_or((option, next));
        let lower = name.to_ascii_lowercase();
        // `--confg` may itself be what is wrong.
        let of_configuration = lower.starts_with('-')
            && ["config", "conf", "cfg"].iter().any(|word| {
                lower.split(['-', '_', '.']).any(|part| part == *word || part == format!("{word}file"))
            });
        // `/dev/null` says that there is to be none.
        let is_a_file = value.starts_with('/') && !value.starts_with("/dev/");
        (is_a_file && (of_configuration || (lower.starts_with('-') && is_called_so(value)))).then_some(value)
    });
    let path = words::one_line(path?);
    let read = case.evidence.losses.opened_files_overwritten > 0 || !is_seen_when_read(&path);
    if startup.life_ms > PARSED_MS || !case.evidence.listeners.is_empty() || !read {
        return None;
    }
    let volume = context::on_volume(case, &path);
    let (who, ended) = case.ended_itself(startup.code, "", Some(startup.life_ms));
    Some(Finding {
        cause: Cause::InvalidConfiguration,
        confidence: Confidence::Low,
        summary: format!(
            "{who} was given the configuration {path}{volume} and {ended}; no call failed that would explain it"
        ),
        remedy: format!("correct {path}; compare it with the version that last ran well"),
        object: path,
        evidence: vec![EvidenceRef::Exit],
    })
}

/// True for a file that would be among those that were read, had it been: its name says that it is configuration to the node as well.
fn is_seen_when_read(path: &str) -> bool {
    const ENDINGS: [&str; 14] = [
        ".conf",
        ".cnf",
        ".cfg",
        ".config",
        ".ini",
        ".yaml",
        ".yml",
        ".json",
        ".toml",
        ".xml",
        ".env",
        ".properties",
        ".hcl",
        "file",
    ];
    path.starts_with("/etc/")
        || path.starts_with("/conf")
        || ENDINGS.iter().any(|ending| path.ends_with(ending))
}

/// True for a file whose name says that it is configuration, in a way that the record of what was read does not know: `sshd_config`.
fn is_called_so(path: &str) -> bool {
    let name = words::base_name(path);
    ["_config", "-config", "_conf"].iter().any(|ending| name.ends_with(ending))
}

fn finding(
    case: &Case<'_>,
    startup: &Startup,
    index: usize,
    file: &OpenedFile,
    confidence: Confidence,
) -> Finding {
    let path = words::one_line(&file.path);
    let volume = context::volume(case, &file.path);
    Finding {
        cause: Cause::InvalidConfiguration,
        confidence,
        summary: read_and_ended(case, startup, file),
        remedy: match volume {
            Some(volume) => {
                format!("correct {path} in {volume}; compare it with the version that last ran well")
            }
            None => format!("correct {path}; compare it with the version that last ran well"),
        },
        object: path,
        evidence: vec![EvidenceRef::OpenedFile(index), EvidenceRef::Exit],
    }
}

/// `app read /etc/app.conf and ended itself with exit code 1 1.4 ms later`: who read it need not be the main process.
fn read_and_ended(case: &Case<'_>, startup: &Startup, file: &OpenedFile) -> String {
    let (main, code) = (case.main_name(), startup.code);
    let read = format!("read {}{}", words::one_line(&file.path), context::on_volume(case, &file.path));
    let passed_on =
        case.passed_on().map(|(_, child)| child).filter(|child| child.pid == file.pid && child.signal == 0);
    if let Some(child) = passed_on {
        let later = words::span(file.before_death_ms - child.before_death_ms);
        return format!(
            "{} {read} and ended itself with exit code {code} {later} later, and {main} passed that on",
            words::program(&child.comm)
        );
    }
    let later = words::span(file.before_death_ms);
    if file.pid == 0 || file.pid == case.main_pid() || file.comm.is_empty() {
        format!("{main} {read} and ended itself with exit code {code} {later} later")
    } else {
        format!(
            "{} {read}, and {main} ended itself with exit code {code} {later} later",
            words::one_line(&file.comm)
        )
    }
}

/// The path, or its last part where that is long enough to mean this file.
fn names_file(line: &Line<'_>, path: &str) -> bool {
    let name = words::base_name(path);
    line.names(path) || (name.len() >= 5 && name.contains('.') && line.names(name))
}

/// `app.conf:3`, as parsers point at what they did not like.
fn has_a_line_number(line: &Line<'_>, path: &str) -> bool {
    let name = words::base_name(path);
    line.text.split(name).skip(1).any(|after| {
        let after = after.trim_start_matches(['"', '\'', ')', ' ', ',']);
        after.strip_prefix([':', '(']).is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()))
    })
}
