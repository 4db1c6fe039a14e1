//! What the last lines of a log say, in the words that programs use for a wrong argument, setting or variable.
//!
//! A container writes its own log, so a line proves nothing by itself: it counts only beside an exit that nothing else explains.

use crate::case::Case;
use crate::verdict::EvidenceRef;
use crate::words;

/// Lines from the end in which the reason of an exit is looked for. A trace of an interpreter fits, and a usage text behind it.
const LAST_LINES: usize = 64;
/// Longest line that is searched, in bytes: a sentence for people is shorter.
const LONGEST: usize = 4096;

/// Words for something that was not accepted.
const REFUSING: [&str; 28] = [
    "unknown",
    "unrecognized",
    "unrecognised",
    "invalid",
    "illegal",
    "bad ",
    "unsupported",
    "unexpected",
    "expected a ",
    "not defined",
    "not valid",
    "is not a ",
    "not allowed",
    "not recognized",
    "not a number",
    "not an integer",
    // Java's NumberFormatException.
    "for input string",
    "not understood",
    "no such option",
    "ambiguous",
    "malformed",
    "incorrect",
    "out of range",
    "must be",
    "couldn't be parsed",
    "cannot parse",
    "can't parse",
    "could not parse",
];

/// Words for something that was not given.
const LACKING: [&str; 26] = [
    "required",
    "requires",
    "missing",
    "not set",
    "must be set",
    "not specified",
    "not provided",
    "unset",
    "unbound",
    "undefined",
    "not defined",
    "is empty",
    "must specify",
    "must provide",
    "must define",
    "needs a value",
    "needs an argument",
    "expects a value",
    "expects an argument",
    "need to specify",
    "need to provide",
    "need to define",
    "please set",
    "please specify",
    "please provide",
    "please define",
];

/// Words for trouble of any kind.
const FAILING: [&str; 15] = [
    "error",
    "fail",
    "emerg",
    "fatal",
    "cannot",
    "can't",
    "could not",
    "couldn't",
    "unable",
    "syntax",
    "parsing",
    "parser",
    "parse error",
    "exception",
    "wrong",
];

/// Where these words stand, others of trouble tell of none.
const OF_NO_TROUBLE: [&str; 7] = [
    "syntax is ok",
    "log level error",
    "log level: error",
    "log level=error",
    "log_level=error",
    "loglevel=error",
    "no error",
];

/// Words that a line has which tells why a program leaves, and one that only remarks upon something does not.
const FATAL: [&str; 20] = [
    "error",
    "fatal",
    "panic",
    "exception",
    "traceback",
    "must",
    "requir",
    "mandatory",
    "missing",
    "need",
    "please",
    "cannot",
    "can't",
    "could not",
    "fail",
    "abort",
    "exit",
    "parameter not set",
    "parameter null or not set",
    "unbound variable",
];

/// Words by which a program says that it goes on all the same.
const GOING_ON: [&str; 25] = [
    "warn",
    "deprecat",
    "ignoring",
    "ignored",
    "skipping",
    "skipped",
    "falling back",
    "using default",
    "using the default",
    "defaulting",
    "default to",
    "assuming",
    "continuing",
    "disabled",
    "fallback",
    "proceeding",
    "starting with the",
    "starting without",
    "going on without",
    "running without",
    "not enabled",
    ", using ",
    "; using ",
    ": using ",
    " - using ",
];

/// One of a log's last lines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) text: &'a str,
    pub(crate) evidence: EvidenceRef,
}

impl<'a> Line<'a> {
    /// Without a program's name at its beginning.
    pub(crate) fn without_speaker(&self, speaker: &str) -> Self {
        let rest = self.text.strip_prefix(speaker).and_then(|rest| rest.strip_prefix(':'));
        Self { text: rest.unwrap_or(self.text), ..*self }
    }

    /// Says that something was not accepted.
    pub(crate) fn refuses(&self) -> bool {
        self.has(&REFUSING) && !self.goes_on()
    }

    /// Says that something was not given.
    pub(crate) fn lacks(&self) -> bool {
        self.has(&LACKING) && !self.goes_on()
    }

    /// Tells of trouble.
    pub(crate) fn complains(&self) -> bool {
        let trouble = self.refuses() || self.lacks() || self.has(&FAILING);
        trouble && !self.goes_on() && !informs(self.text) && !self.has(&OF_NO_TROUBLE)
    }

    /// Tells why the program leaves, and does not only remark upon something (`SENTRY_DSN is not set, errors are not reported`).
    pub(crate) fn is_fatal(&self) -> bool {
        // What is said behind a comma, or in brackets, is what follows from it.
        let said = self.text.split([',', ';', '(']).next().unwrap_or_default();
        let alone = self.text.trim_end_matches(['.', '!', ' ']).to_ascii_lowercase();
        let bare = ["not set", "unset", "not specified", "not provided", "is empty", "not defined"];
        let says_why = has(said, &FATAL) || bare.iter().any(|words| alone.ends_with(words));
        says_why && !self.goes_on() && !informs(self.text)
    }

    /// Tells of what the program did without, as a warning or with what it does instead.
    fn goes_on(&self) -> bool {
        goes_on(self.text)
    }

    /// Is the beginning, or the end, of a text on how the program is to be called.
    pub(crate) fn is_usage(&self) -> bool {
        let lower = self.text.trim_start().to_ascii_lowercase();
        lower.starts_with("usage") || lower.contains("--help") || lower.contains("-h' for more")
    }

    /// Lists what a program can be called with: `usage: app [--port=NUMBER]`.
    pub(crate) fn is_synopsis(&self) -> bool {
        self.text.trim_start().to_ascii_lowercase().starts_with("usage") && self.text.contains('[')
    }

    /// Speaks of what a program is called with.
    pub(crate) fn is_about_arguments(&self) -> bool {
        self.has(&[
            "option",
            "argument",
            "command",
            "choice",
            "flag",
            "parameter",
            "switch",
            "usage",
            "operand",
        ])
    }

    /// Speaks of what stands in a configuration.
    pub(crate) fn is_about_settings(&self) -> bool {
        self.has(&["config", "syntax", "pars", "directive", "setting", " line "])
    }

    /// Names this: with nothing around it that would make it part of another word.
    pub(crate) fn names(&self, word: &str) -> bool {
        names(self.text, word)
    }

    /// For a sentence.
    pub(crate) fn quoted(&self) -> String {
        format!("\"{}\"", words::one_line(self.text.trim()))
    }

    fn has(&self, words: &[&str]) -> bool {
        has(self.text, words)
    }
}

/// True for a line of a log that tells of what the program did without.
pub(crate) fn goes_on(text: &str) -> bool {
    /// Words by which it says that it does not go on, whatever it warns of besides.
    const LEAVING: [&str; 5] = ["aborting", "exiting", "terminating", "giving up", "shutting down"];
    has(text, &GOING_ON) && !has(text, &LEAVING)
}

/// True for a line that tells of trouble of any kind, also in the words of the system.
pub(crate) fn tells_of_trouble(text: &str) -> bool {
    const OF_SYSTEM: [&str; 16] = [
        "no such",
        "not found",
        "not exist",
        "n't exist",
        "denied",
        "not permitted",
        "refused",
        "reset",
        "broken",
        "closed",
        "timed out",
        "timeout",
        "unreachable",
        "in use",
        "read-only",
        "panic",
    ];
    let named = |word: &str| {
        word.len() > 3 && (crate::errno::is_name(word) || word == "ENOTFOUND" || word == "EAI_AGAIN")
    };
    let by_name = || text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(named);
    let trouble = [REFUSING.as_slice(), &LACKING, &FAILING, &OF_SYSTEM].iter().any(|words| has(text, words));
    (trouble || by_name()) && !goes_on(text) && !informs(text)
}

/// True for a line that tells of what is well, by the level that it is written at.
pub(crate) fn informs(text: &str) -> bool {
    let starts = ["info ", "info:", "debug ", "debug:"];
    let lower = text.trim_start().to_ascii_lowercase();
    starts.iter().any(|level| lower.starts_with(level))
        || has(
            text,
            &["[note]", "[info]", " info ", "level=info", "\"level\":\"info\"", "[debug]", " debug "],
        )
}

fn has(text: &str, words: &[&str]) -> bool {
    let lower = text.to_ascii_lowercase();
    words.iter().any(|word| lower.contains(word))
}

/// The last lines of the log and of the log files that the container wrote, newest first, each log after the other.
pub(crate) fn last_lines<'a>(case: &Case<'a>) -> impl Iterator<Item = Line<'a>> + use<'a> {
    let tail = case.evidence.log_tail.iter().map(|tail| (tail, EvidenceRef::LogTail));
    let files =
        case.evidence.log_files.iter().enumerate().map(|(index, tail)| (tail, EvidenceRef::LogFile(index)));
    tail.chain(files).flat_map(|(tail, evidence)| {
        let fits = |text: &&'a String| text.len() <= LONGEST && !text.trim().is_empty();
        let lines = tail.lines.iter().rev().filter(fits).take(LAST_LINES);
        lines.map(move |text| Line { text, evidence })
    })
}

/// The path that the newest line with this reason names: `write /data/a.csv: no space left on device`.
pub(crate) fn path_beside<'a>(case: &Case<'a>, reason: &str) -> Option<&'a str> {
    let marks = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '(' | ')' | ',' | '=');
    last_lines(case).filter(|line| has(line.text, &[reason])).find_map(|line| {
        let mut words = line.text.split(marks).map(|word| word.trim_end_matches([':', '.', ';']));
        words.rfind(|word| word.len() > 1 && word.starts_with('/'))
    })
}

/// True when the text holds the word with nothing around it that would make it part of another one.
pub(crate) fn names(text: &str, word: &str) -> bool {
    let part_of_a_word = |character: char| character.is_alphanumeric() || matches!(character, '_' | '-');
    word.len() > 1
        && text.match_indices(word).any(|(at, _)| {
            let before = text.get(..at).and_then(|before| before.chars().next_back());
            let after = text.get(at + word.len()..).and_then(|after| after.chars().next());
            !before.is_some_and(part_of_a_word) && !after.is_some_and(part_of_a_word)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_on_does_not_complain() {
        let line = |text| Line { text, evidence: EvidenceRef::LogTail };
        assert!(line("LOG_LEVEL is not set").lacks());
        assert!(!line("LOG_LEVEL is not set, using default info").lacks());
        assert!(line("unknown option --trace").refuses());
        assert!(!line("WARN unknown option --trace").complains());
        assert!(!line("invalid value for cache_size, ignored").refuses());
    }

    #[test]
    fn whole_words_only() {
        assert!(names("unknown option '--lisen'", "--lisen"));
        assert!(!names("unknown option '--lisen-all'", "--lisen"));
        assert!(names("flag provided but not defined: -lisen", "-lisen"));
        assert!(names("KeyError: 'DB_HOST'", "DB_HOST"));
        assert!(!names("MY_DB_HOST is not set", "DB_HOST"));
        assert!(!names("anything", ""));
    }
}
