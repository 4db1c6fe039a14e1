//! Which arguments may be the wrong one.

use crate::case::Case;
use crate::evidence::Process;
use crate::log::{self, Line};
use crate::{startup, words};

/// Programs whose own options come before a script, whose options follow.
const INTERPRETERS: [&str; 12] =
    ["bash", "dash", "ash", "sh", "python", "perl", "ruby", "node", "php", "lua", "java", "deno"];
/// Options after which the next argument is a program's text.
const INLINE: [&str; 8] = ["-c", "-e", "-r", "--eval", "-p", "-E", "-lc", "-ec"];
/// Options of interpreters whose value stands behind them.
const WITH_A_VALUE: [&str; 7] = ["-d", "-I", "-W", "-X", "-cp", "-classpath", "--class-path"];
/// Stands where a secret stood.
const REDACTED: &str = "<redacted>";
/// Arguments that are looked at; more than this fits no command line that a person wrote.
const MOST: usize = 64;

/// An argument that the program may not have liked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    argument: String,
    /// It names a file that the program read: what a log says of that is about the file.
    is_file: bool,
}

/// How a line names an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Named {
    /// A word of the line is the same.
    ByWord,
    /// As an option, or in quotation marks.
    Clearly,
}

impl Candidate {
    /// For a sentence.
    pub(super) fn shown(&self) -> String {
        words::one_line(&self.argument)
    }

    /// What stands before the `=`.
    pub(super) fn option(&self) -> &str {
        self.argument.split('=').next().unwrap_or_default()
    }

    /// True for `-x`, `--listen` and `--listen=:8080`.
    pub(super) fn is_option(&self) -> bool {
        self.argument.len() > 1 && self.argument.starts_with('-')
    }

    /// True for `--listen` and `-listen`.
    pub(super) fn is_long(&self) -> bool {
        self.is_option() && self.argument.len() > 2
    }

    /// True for `--listen` and `--listen=:8080`.
    pub(super) fn is_long_option(&self) -> bool {
        self.argument.len() > 2 && self.argument.starts_with("--")
    }

    /// True for `shared_buffers=1GB` and `daemon off;` behind an option of one letter.
    pub(super) fn is_setting(&self) -> bool {
        let of_words = self.argument.contains('=') || self.argument.trim_end().ends_with(';');
        of_words
            && self.argument.starts_with(|c: char| c.is_ascii_lowercase())
            && !self.argument.contains("://")
    }

    /// How rarely a JVM refuses it: any property is taken, and a heap's size is mostly right.
    fn taken_by_a_jvm(&self) -> u8 {
        const BY_ANY: [&str; 6] = ["-version", "--version", "-server", "-client", "-ea", "-esa"];
        let sizes = ["-Xmx", "-Xms", "-Xmn", "-Xss"];
        if self.argument.starts_with("-D") || BY_ANY.contains(&self.argument.as_str()) {
            2
        } else {
            u8::from(sizes.iter().any(|size| self.argument.starts_with(size)))
        }
    }

    /// What stands between the commas of `TCP-LISTEN:80,fork,reuseaddr`, each by its name.
    fn parts(&self) -> impl Iterator<Item = &str> {
        let several = self.argument.contains(',') && !self.is_file;
        let parts = self.argument.split(',').filter(move |_| several);
        parts.map(|part| part.split('=').next().unwrap_or(part)).filter(|part| part.len() > 1)
    }

    /// The line complains about this argument: by its name, by its letter, or by its value.
    pub(super) fn named_by(&self, line: &Line<'_>) -> Option<Named> {
        if !(line.refuses() || line.lacks()) {
            return None;
        }
        // `main.py: error: …` begins with who speaks.
        let speaker = words::base_name(&self.argument);
        let line = &line.without_speaker(speaker);
        let (name, value) = match self.argument.split_once('=') {
            Some((name, value)) => (name, value),
            None => (self.argument.as_str(), ""),
        };
        let option = match name.strip_prefix("--") {
            // Go's flag package writes --listen as -listen.
            Some(long) => {
                line.names(name)
                    || (long.len() > 1 && (line.names(&format!("-{long}")) || ends_with_bare(line, long)))
            }
            // A JVM writes -XX:+UseOld as 'UseOld'.
            None if name.starts_with("-XX:") => {
                line.names(name.trim_start_matches("-XX:").trim_start_matches(['+', '-']))
            }
            None if self.is_option() => {
                line.names(name) || name.chars().nth(1).is_some_and(|letter| is_letter_named(line, letter))
            }
            None => false,
        };
        // `usage: app [--mode=NAME] [--port=NUMBER]` names all that there are.
        if option && !line.is_synopsis() {
            return Some(Named::Clearly);
        }
        if line.is_about_arguments() && self.parts().any(|part| is_in_quotes(line, part)) {
            return Some(Named::Clearly);
        }
        let words = [self.argument.as_str(), value];
        let is_word =
            |word: &&str| word.len() > 1 && !self.is_file && !word.contains('/') && *word != REDACTED;
        let quoted =
            |word: &str| ["'", "\"", "`"].iter().any(|mark| line.text.contains(&format!("{mark}{word}")));
        // A word may be anything's name; of what is on the command line one speaks so.
        let of_arguments = line.is_about_arguments() || self.is_option();
        let named = words.into_iter().filter(is_word).filter(|word| line.names(word));
        named.map(|word| if of_arguments && quoted(word) { Named::Clearly } else { Named::ByWord }).max()
    }
}

/// `Unknown option: verbos`, as Perl's Getopt::Long writes it.
fn ends_with_bare(line: &Line<'_>, long: &str) -> bool {
    let lower = line.text.to_ascii_lowercase();
    lower.contains("option")
        && line.text.trim_end().strip_suffix(long).is_some_and(|rest| rest.ends_with(": "))
}

/// `unknown option "forkk"`.
fn is_in_quotes(line: &Line<'_>, word: &str) -> bool {
    [('\'', '\''), ('"', '"'), ('`', '`'), ('`', '\''), ('‘', '’')]
        .iter()
        .any(|(open, close)| line.text.contains(&format!("{open}{word}{close}")))
}

/// `invalid option -- 'Z'`, as getopt writes it.
fn is_letter_named(line: &Line<'_>, letter: char) -> bool {
    [format!("-- '{letter}'"), format!("-- {letter}"), format!("'{letter}'"), format!("\"{letter}\"")]
        .iter()
        .any(|form| line.text.contains(form.as_str()))
}

/// The arguments after the program's name and its script, without what is a program's text itself. An interpreter's own options count
/// when its script was given none.
pub(super) fn candidates(case: &Case<'_>) -> Vec<Candidate> {
    case.evidence
        .process
        .as_ref()
        .map_or_else(Vec::new, |process| of(case, process, behind_init(&process.args)))
}

/// The options of an init program itself, which it tells of when it does not know one.
pub(super) fn of_init(case: &Case<'_>) -> Vec<Candidate> {
    let Some(process) = &case.evidence.process else { return Vec::new() };
    let own = process.args.len().saturating_sub(behind_init(&process.args).len());
    let options = process.args.iter().take(own).skip(1).filter(|argument| *argument != "--");
    options.map(|argument| Candidate { argument: argument.clone(), is_file: false }).collect()
}

fn of(case: &Case<'_>, process: &Process, command: &[String]) -> Vec<Candidate> {
    let mut arguments = command.iter().skip(1).take(MOST);
    let program = command.first().map_or("", |program| words::base_name(program));
    let mut before_script = is_interpreter(program) || is_interpreter(words::base_name(&process.exe));
    let mut of_interpreter = Vec::new();
    let mut found = Vec::new();
    while let Some(argument) = arguments.next() {
        if argument == "--" || argument == REDACTED || argument.is_empty() {
            continue;
        }
        let candidate = Candidate { argument: argument.clone(), is_file: startup::is_read(case, argument) };
        match argument.as_str() {
            inline if before_script && INLINE.contains(&inline) => {
                let text = arguments.next();
                found.extend(text.into_iter().flat_map(|text| of_child(case, text)));
                before_script = false;
            }
            "-m" | "-jar" if before_script => {
                arguments.next();
                before_script = false;
            }
            option if before_script && WITH_A_VALUE.contains(&option) => {
                arguments.next();
            }
            option if before_script && option.starts_with('-') => of_interpreter.push(candidate),
            _ if before_script => before_script = false,
            _ => found.push(candidate),
        }
    }
    if found.is_empty() {
        of_interpreter.sort_by_key(Candidate::taken_by_a_jvm);
        return of_interpreter;
    }
    found
}

/// The command that an init program was given to run, else all of it.
fn behind_init(arguments: &[String]) -> &[String] {
    const INITS: [&str; 4] = ["tini", "dumb-init", "catatonit", "docker-init"];
    let is_init = arguments.first().is_some_and(|first| INITS.contains(&words::base_name(first)));
    let command = arguments.iter().position(|argument| argument == "--").map(|at| at + 1).or_else(|| {
        arguments.iter().skip(1).position(|argument| !argument.starts_with('-')).map(|at| at + 1)
    });
    command.filter(|_| is_init).and_then(|at| arguments.get(at..)).unwrap_or(arguments)
}

/// True when the runtime of a language was given options of its own, before its program.
pub(in crate::rules) fn has_runtime_options(case: &Case<'_>) -> bool {
    let mut arguments =
        case.evidence.process.iter().flat_map(|process| process.args.iter().skip(1).take(MOST));
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-m" | "-jar" => return false,
            inline if INLINE.contains(&inline) => return false,
            option if WITH_A_VALUE.contains(&option) => {
                arguments.next();
            }
            option => return option.starts_with('-'),
        }
    }
    false
}

/// The arguments that a shell's script gives to the child whose end was passed on, or was answered by a code of the shell's own.
fn of_child(case: &Case<'_>, script: &str) -> Vec<Candidate> {
    let passed_on = case.passed_on().map(|(_, child)| child);
    let Some(child) = passed_on.or_else(|| case.left_for()) else { return Vec::new() };
    let mut words = script.split_whitespace().map(|word| word.trim_matches(['\'', '"']));
    if words.by_ref().all(|word| words::base_name(word) != child.comm) {
        return Vec::new();
    }
    let ends = |word: &&str| !word.starts_with([';', '|', '&', '<', '>']) && !word.starts_with("2>");
    let mut was_last = false;
    words
        .take_while(ends)
        .take_while(|word| !std::mem::replace(&mut was_last, word.ends_with(';')))
        .take(MOST)
        .map(|word| word.trim_end_matches(';'))
        .map(|word| Candidate { argument: word.to_owned(), is_file: startup::is_read(case, word) })
        .collect()
}

/// True when a script runs: what it ends with is its own doing, and only a code that means "usage" speaks of its arguments. A JVM
/// looks at its own options first and leaves with 1; one whose program threw liked them.
pub(super) fn runs_a_script(case: &Case<'_>) -> bool {
    let Some(process) = &case.evidence.process else { return false };
    let program = process.args.first().map_or("", |program| words::base_name(program));
    let gives_one = |argument: &String| {
        !argument.starts_with('-') || INLINE.contains(&argument.as_str()) || argument == "-m"
    };
    (is_interpreter(program) || is_interpreter(words::base_name(&process.exe)))
        && (!program.starts_with("java") || came_to_its_program(case))
        && process.args.iter().skip(1).any(gives_one)
}

/// A JVM prints this of what its program threw.
fn came_to_its_program(case: &Case<'_>) -> bool {
    log::last_lines(case).any(|line| line.text.starts_with("Exception in thread "))
}

/// `python3.11`, `node22`: the name with a version behind it.
pub(in crate::rules) fn is_interpreter(program: &str) -> bool {
    INTERPRETERS
        .contains(&words::base_name(program).trim_end_matches(|c: char| c.is_ascii_digit() || c == '.'))
}

/// An argument with a `$(NAME)` that Kubernetes left as it was, because the pod has no variable of that name.
pub(super) fn unexpanded(case: &Case<'_>) -> Option<String> {
    let candidates = candidates(case);
    let argument = candidates.iter().find(|candidate| {
        candidate.argument.split("$(").skip(1).any(|rest| {
            let name = rest.split(')').next().unwrap_or_default();
            rest.contains(')')
                && !name.is_empty()
                && !name.starts_with(|c: char| c.is_ascii_digit())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && name.bytes().any(|b| b.is_ascii_uppercase())
        })
    })?;
    Some(argument.shown())
}
