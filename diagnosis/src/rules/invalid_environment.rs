//! An environment variable is wrong or missing.
//!
//! Programs read their variables without a system call. What shows is what they did with a value: a name that does not exist, a file that
//! is not there; and, for one that is missing, the program's own words.

use super::{Finding, before_the_end, call_and_exit};
use crate::calls::Call;
use crate::case::Case;
use crate::changed;
use crate::evidence::{DnsOutcome, Failure};
use crate::log::{self, Line};
use crate::pod::ChangeKind;
use crate::verdict::{Cause, Confidence, EvidenceRef};
use crate::{context, errno, noise, startup, words};

/// Shortest name that is taken for a variable's.
const SHORTEST: usize = 3;

/// What failed is what a variable says, and the value itself is at fault: a name that does not exist, a path where nothing is, an address
/// that this machine does not have. Whether a server that refused is down or the variable names the wrong one cannot be told.
pub(super) fn call(case: &Case<'_>, call: &Call<'_>) -> Option<Finding> {
    let failure = call.failure;
    let why = match (&failure.dns, failure.errno) {
        (Some(query), _) if query.outcome == DnsOutcome::NxDomain => {
            format!("a name that does not exist: {} answered NXDOMAIN", words::one_line(&failure.address))
        }
        (None, errno::ENOENT | errno::ENOTDIR) => {
            format!("a path where nothing is: {}", words::failed(failure))
        }
        (None, errno::EADDRNOTAVAIL) => {
            format!("an address that this machine does not have: {}", words::failed(failure))
        }
        // Whether a server that refused is down or the variable names the wrong one cannot be told, but where it was just changed.
        (None, _) => format!("and {}", words::failed(failure)),
        _ => return None,
    };
    // Where the folder that the variable names is not there, nothing below it is.
    let failure =
        context::variable(case, failure).map_or_else(|| folder_above(case, failure), |_| Some(failure))?;
    let variable = context::variable(case, failure)?;
    let change = changed::variable(case, &variable.name);
    let at_fault = failure.dns.is_some()
        || matches!(failure.errno, errno::ENOENT | errno::ENOTDIR | errno::EADDRNOTAVAIL);
    if change.is_none() && (!at_fault || noise::executes(&failure.syscall)) {
        return None;
    }
    let things = [&failure.name, &failure.path, &failure.address];
    let thing = words::one_line(things.into_iter().find(|thing| !thing.is_empty())?);
    let since = change.map_or("", |_| ", and was changed since the container last ran well");
    let mut evidence = call_and_exit(case, call);
    evidence.extend(change.map(|(index, _)| EvidenceRef::Change(index)));
    Some(Finding {
        cause: Cause::InvalidEnvironment,
        // The value may be right, and what it names not there yet.
        confidence: call.confidence().min(Confidence::Medium),
        summary: format!(
            "the variable {} names {}, {why} {}{since}",
            variable.name,
            context::named(case, failure, &variable.name).unwrap_or_else(|| thing.clone()),
            before_the_end(case, call)
        ),
        remedy: format!("correct the variable {}, or provide {thing}", variable.shown),
        object: variable.name,
        evidence,
    })
}

/// The failed look for a folder above this path, by the same process, that a variable names.
fn folder_above<'a>(case: &Case<'a>, failure: &Failure) -> Option<&'a Failure> {
    let above = |folder: &str| {
        folder.len() > 1 && failure.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    };
    let absent = |number: i32| matches!(number, errno::ENOENT | errno::ENOTDIR);
    let mut failures = case.failures().map(|(_, other)| other);
    let found = failures.rfind(|other| {
        other.pid == failure.pid
            && absent(other.errno)
            && above(&other.path)
            && !other.later_succeeded
            && context::variable(case, other).is_some()
    });
    found.filter(|_| absent(failure.errno) && !noise::executes(&failure.syscall))
}

/// Nothing failed, and a variable is not what it was when the container last ran well.
pub(super) fn changed(case: &Case<'_>) -> Option<Finding> {
    let blamed = changed::blamed(case, ChangeKind::Variable)?;
    let variable = context::described(case, &blamed.change.name);
    Some(Finding {
        cause: Cause::InvalidEnvironment,
        confidence: blamed.confidence,
        summary: blamed.sentence(case),
        remedy: format!("correct the variable {}, or take that change back", variable.shown),
        object: variable.name,
        evidence: blamed.evidence,
    })
}

/// A runtime that takes options from a variable ended before it can have come to its program, and was given none on its command line.
pub(super) fn guessed(case: &Case<'_>) -> Option<Finding> {
    /// The runtimes, and where each looks for options.
    const OPTIONS_IN: [(&str, &[&str]); 3] = [
        ("java", &["JDK_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS"]),
        ("node", &["NODE_OPTIONS"]),
        ("ruby", &["RUBYOPT"]),
    ];
    /// None of them runs a line of its program sooner (milliseconds), on the fastest of machines, without what it waited for a processor.
    const SET_UP_MS: f64 = 35.0;
    let start = startup::quiet(case)?;
    let process = case.evidence.process.as_ref()?;
    let runtime = [process.args.first()?.as_str(), process.exe.as_str()].map(words::base_name);
    let (_, names) = OPTIONS_IN.iter().find(|(name, _)| runtime.contains(name))?;
    let at_work_ms = start.life_ms - case.waited_ms();
    let at_once = start.life_ms > 0.0 && at_work_ms <= SET_UP_MS;
    if !at_once || super::invalid_arguments::has_runtime_options(case) || !startup::read_last(case).is_empty()
    {
        return None;
    }
    let name = process.environment_names.iter().find(|set| names.contains(&set.as_str()))?;
    let variable = context::described(case, name);
    Some(Finding {
        cause: Cause::InvalidEnvironment,
        confidence: Confidence::Low,
        summary: format!(
            "{} ended itself with exit code {}{}, too soon to have come to its program; it takes options from the variable {}, and no call failed that would explain the end",
            case.main_name(),
            start.code,
            start.after(),
            variable.name
        ),
        remedy: format!("correct the variable {}", variable.shown),
        object: variable.name,
        evidence: vec![EvidenceRef::Exit],
    })
}

/// The log's last lines name a variable, and say that it is missing or wrong.
pub(super) fn told(case: &Case<'_>) -> Option<Finding> {
    let startup = startup::told(case)?;
    let (line, name, complaint) = log::last_lines(case)
        .find_map(|line| named_in(case, &line).map(|(name, what)| (line, name, what)))
        .or_else(|| converted(case))
        .or_else(|| picked_up(case))
        .or_else(|| validated(case))?;
    let known = &case.evidence.process.as_ref()?.environment_names;
    let set = known.iter().any(|known| known == name);
    // What the program said of something else afterwards may be the reason.
    let newer =
        log::last_lines(case).take_while(|newer| newer.text != line.text || newer.evidence != line.evidence);
    let last_word = newer.filter(|newer| newer.evidence == line.evidence).all(|newer| !newer.complains());
    // Where the variables are known, they must agree with what the line says.
    let confidence = match (complaint, known.is_empty()) {
        (Complaint::Unconverted, _) => Confidence::Medium,
        (_, true) => Confidence::Medium,
        _ if !last_word || !is_of_environment(case, &line, name) => Confidence::Medium,
        _ if !name.contains('_') && !set && !is_called_one(&line, name) => Confidence::Medium,
        (Complaint::Missing, false) if set || !line.is_fatal() => Confidence::Medium,
        (Complaint::Missing, false) => Confidence::High,
        (Complaint::Wrong, false) if set => Confidence::High,
        (Complaint::Wrong, false) => return None,
    };
    let variable = context::described(case, name);
    let what = match complaint {
        Complaint::Missing if !known.is_empty() && !set => "which was not set",
        Complaint::Missing => "which it lacks",
        Complaint::Wrong | Complaint::Unconverted => "whose value it does not accept",
    };
    Some(Finding {
        cause: Cause::InvalidEnvironment,
        confidence,
        summary: format!(
            "{}; its log names the variable {}, {what}: {}",
            startup.ended(case, ""),
            variable.name,
            line.quoted()
        ),
        remedy: match complaint {
            Complaint::Missing => format!(
                "set {} in {}.env, or see that the ConfigMap or Secret in envFrom has that key",
                variable.name,
                case.field()
            ),
            Complaint::Wrong | Complaint::Unconverted => format!("correct the variable {}", variable.shown),
        },
        object: variable.name,
        evidence: vec![line.evidence, EvidenceRef::Exit],
    })
}

/// True when it is told that a variable of the environment is meant, by the line, by the trace around it or by the spec. What a program
/// calls so in its own code, or in its data, looks the same.
fn is_of_environment(case: &Case<'_>, line: &Line<'_>, name: &str) -> bool {
    const SAYS_SO: [&str; 9] =
        ["environ", "getenv", "env var", "ENV", "<frozen os>", "/os.py", "not set", "must be set", "unset"];
    let of_shells = ["parameter not set", "parameter null or not set", "unbound variable"];
    let says_so = |text: &str| SAYS_SO.iter().any(|word| text.contains(word));
    let known = &case.evidence.process.iter().flat_map(|process| &process.environment_names);
    let is_set = known.clone().any(|known| known == name);
    // A trace shows the environment being read for this name, or the function that reads it.
    let of_name = |text: &str| text.contains(name) || text.contains("<frozen os>") || text.contains("/os.py");
    let in_trace = || {
        let mut same = log::last_lines(case).filter(|other| other.evidence == line.evidence);
        same.any(|other| says_so(other.text) && of_name(other.text))
    };
    is_set
        || in_spec(case, name)
        || of_shells.iter().any(|form| line.text.contains(form))
        || refused_by_a_shell(case, line).is_some()
        || line.text.to_ascii_lowercase().contains("variable")
        || says_so(&line.text.to_ascii_lowercase())
        || in_trace()
}

fn in_spec(case: &Case<'_>, name: &str) -> bool {
    case.pod.is_some_and(|pod| pod.container.variables.iter().any(|variable| variable.name == name))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Complaint {
    Missing,
    Wrong,
    /// A trace shows the line of code that read it.
    Unconverted,
}

/// A trace ends with a value that is none of its type, and the line of code above that reads a variable that is set:
/// `port = int(os.environ["PORT"])`.
fn converted<'a>(case: &Case<'a>) -> Option<(Line<'a>, &'a str, Complaint)> {
    const CODE_LINES: usize = 4;
    let mut lines = log::last_lines(case);
    lines.next().filter(|last| last.text.contains("ValueError") || last.text.contains("ArgumentError"))?;
    let known = &case.evidence.process.as_ref()?.environment_names;
    let line = lines
        .take(CODE_LINES)
        .find(|line| ["environ", "getenv", "ENV["].iter().any(|reads| line.text.contains(reads)))?;
    let mut words = line.text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let name = words.find(|word| is_name(word) && known.iter().any(|known| known == word))?;
    Some((line, name, Complaint::Unconverted))
}

/// A JVM takes options from variables, says so first (`Picked up JAVA_TOOL_OPTIONS: -XX:+UseOld`), and does not start with a wrong one.
/// One on its command line is told before this.
fn picked_up<'a>(case: &Case<'a>) -> Option<(Line<'a>, &'a str, Complaint)> {
    let mut lines = log::last_lines(case);
    lines.find(|line| line.text.contains("Could not create the Java Virtual Machine"))?;
    let refused = lines.find(Line::refuses)?;
    let names = lines.filter_map(|line| line.text.strip_prefix("Picked up ")?.split(':').next());
    let name = names.filter(|name| is_name(name)).last()?;
    Some((refused, name, Complaint::Wrong))
}

/// Settings are checked all at once: a line with the name alone, and one below it, further in, that says what is wrong with its value. The
/// name may be that of a field, in small letters; the variable is called so in capitals, with or without a beginning of its own.
fn validated<'a>(case: &Case<'a>) -> Option<(Line<'a>, &'a str, Complaint)> {
    let known = &case.evidence.process.as_ref()?.environment_names;
    let lines: Vec<Line<'_>> = log::last_lines(case).collect();
    lines.windows(2).find_map(|pair| {
        // The newest line comes first.
        let [said, field] = pair else { return None };
        let alone = field.text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let wrong = said.refuses() || said.text.contains("should be");
        if !alone || !said.text.starts_with([' ', '\t']) || !wrong {
            return None;
        }
        let capitals = field.text.to_ascii_uppercase();
        let is = |set: &&String| {
            set.strip_suffix(capitals.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('_'))
        };
        let name = known.iter().find(is).filter(|name| is_name(name))?;
        Some((*said, name.as_str(), Complaint::Unconverted))
    })
}

/// The variable that a line complains about.
fn named_in<'a>(case: &Case<'_>, line: &Line<'a>) -> Option<(&'a str, Complaint)> {
    // Names of the program's own code that it does not know: a bug.
    const OF_CODE: [&str; 7] = [
        "nameerror",
        "referenceerror",
        "unboundlocalerror",
        "undefined constant",
        "undefined variable",
        "uninitialized constant",
        "undeclared",
    ];
    let lower = line.text.to_ascii_lowercase();
    if OF_CODE.iter().any(|of_code| lower.contains(of_code)) {
        return None;
    }
    let of_variables =
        lower.contains("environment") || lower.contains("env var") || lower.contains("variable");
    // `sh: 1: DB_HOST: parameter not set`, `KeyError: 'DB_HOST'`
    let by_form = lower.contains("parameter not set")
        || lower.contains("parameter null or not set")
        || lower.contains("keyerror:")
        // Ruby's ENV.fetch: `key not found: "DB_HOST" (KeyError)`.
        || lower.contains("(keyerror)");
    if let Some(name) = refused_by_a_shell(case, line) {
        return Some((name, Complaint::Missing));
    }
    let complaint = if line.lacks() || by_form {
        Complaint::Missing
    } else if line.refuses() {
        Complaint::Wrong
    } else {
        return None;
    };
    let is_set = |name: &str| {
        case.evidence.process.iter().any(|process| process.environment_names.iter().any(|set| set == name))
    };
    let words = line.text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let by_words = |name: &str| complaint == Complaint::Missing && name.contains('_');
    let names: Vec<&str> = words
        .filter(|word| is_name(word))
        .filter(|name| of_variables || by_form || is_set(name) || in_spec(case, name) || by_words(name))
        .collect();
    // Capitals alone may be anything's name: a zone of the time before the line, a part of the program.
    let sure =
        |name: &&&str| name.contains('_') || is_set(name) || in_spec(case, name) || is_called_one(line, name);
    let name = names.iter().find(sure).or(names.first())?;
    Some((name, complaint))
}

/// The variable of `entry.sh: 3: DB_HOST: where the database is` and of bash's `entry.sh: line 3: …`: what a shell says for `${DB_HOST:?…}`, in
/// the script's own words. A command that it does not find, and a file, have words of the shell's.
fn refused_by_a_shell<'a>(case: &Case<'_>, line: &Line<'a>) -> Option<&'a str> {
    const OF_OTHERS: [&str; 6] =
        ["not found", "No such file", "Permission denied", "directory", "read only", "readonly"];
    let mut parts = line.text.splitn(4, ": ");
    let (_, number) = (parts.next()?, parts.next()?);
    let (name, text) = (parts.next()?, parts.next()?);
    let number = number.strip_prefix("line ").unwrap_or(number);
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let is_set = || {
        let mut processes = case.evidence.process.iter();
        processes.any(|process| process.environment_names.iter().any(|set| set == name))
    };
    let of_others = OF_OTHERS.iter().any(|words| text.contains(words));
    (is_number && is_name(name) && !of_others && !is_set()).then_some(name)
}

/// `environment variable PORT`, `$PORT`, `PORT environment variable`, `'PORT'`.
fn is_called_one(line: &Line<'_>, name: &str) -> bool {
    let beside = |(before, after): (&str, &str)| {
        let before = before.trim_end_matches([' ', ':', '\'', '"', '`', '$', '{']).to_ascii_lowercase();
        let after = after.trim_start_matches([' ', '\'', '"', '`', '}']).to_ascii_lowercase();
        before.ends_with("variable")
            || before.ends_with("env")
            || after.starts_with("env")
            || after.starts_with("variable")
    };
    let quoted = ["'", "\"", "`", "$", "${"].iter().any(|mark| line.text.contains(&format!("{mark}{name}")));
    quoted
        || line
            .text
            .match_indices(name)
            .any(|(at, _)| line.text.get(..at).zip(line.text.get(at + name.len()..)).is_some_and(beside))
}

/// `DB_HOST`: capitals, digits and underscores; no name of an error or a signal, and no zone of a time.
fn is_name(word: &str) -> bool {
    let capitals = word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    let taken = errno::is_name(word) || word.starts_with("SIG") || word.starts_with("ERR_");
    let levels = [
        "ERROR", "FATAL", "WARN", "WARNING", "INFO", "DEBUG", "CRITICAL", "PANIC", "NOTICE", "LOG", "ERR",
        "UTC", "GMT", "CET", "CEST", "EST", "EDT", "PST", "PDT", "CST", "MSK", "IST", "JST",
    ];
    word.len() >= SHORTEST
        && capitals
        && word.starts_with(|c: char| c.is_ascii_uppercase())
        && !taken
        && !levels.contains(&word)
}
