//! Hides secrets in arguments and log lines: what looks like one becomes [`REDACTED`]. It errs on the side of hiding, but keeps
//! what a diagnosis needs: paths, image digests, references such as `$(DB_PASSWORD)`, and words such as `token: expired`.

mod keys;

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// Stands where a secret stood.
pub const REDACTED: &str = "<redacted>";

/// At most this many patterns of the operator's own; each costs a pass over every line.
pub const MAX_EXTRA_PATTERNS: usize = 32;

/// Hides secrets: what everyone has, and what the operator added.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    extra: Vec<Regex>,
}

impl Redactor {
    /// A redactor that also hides what matches `extra_patterns`: the first capture group where a pattern has one, else the whole
    /// match.
    ///
    /// # Errors
    /// One sentence for each pattern that is no regular expression, or for too many of them.
    pub fn new(extra_patterns: &[String]) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        if extra_patterns.len() > MAX_EXTRA_PATTERNS {
            problems.push(format!(
                "{} patterns are too many: at most {MAX_EXTRA_PATTERNS}, join some with \"|\"",
                extra_patterns.len()
            ));
        }
        let mut extra = Vec::new();
        for pattern in extra_patterns.iter().take(MAX_EXTRA_PATTERNS) {
            match Regex::new(pattern) {
                Ok(regex) if regex.is_match("") => {
                    problems
                        .push(format!("{pattern:?} matches the empty text, so it would match everywhere"));
                }
                Ok(regex) => extra.push(regex),
                Err(error) => {
                    problems.push(format!("{pattern:?} is no regular expression: {}", last_line(&error)))
                }
            }
        }
        if problems.is_empty() { Ok(Self { extra }) } else { Err(problems) }
    }

    /// Hides secrets in the arguments of one program, where `--token x` spreads over two.
    #[must_use]
    pub fn arguments(&self, arguments: &[String]) -> Vec<String> {
        let mut value_follows = false;
        let mut shown = Vec::with_capacity(arguments.len());
        for argument in arguments {
            let is_value = std::mem::replace(&mut value_follows, keys::is_secret_option(argument));
            shown.push(if is_value && !argument.starts_with('-') && keys::hides_something(argument) {
                REDACTED.to_owned()
            } else if let Some(option) = keys::secret_option_with_value(argument) {
                format!("{option}{REDACTED}")
            } else {
                self.line(argument)
            });
        }
        shown
    }

    /// Hides secrets in one line of text.
    #[must_use]
    pub fn line(&self, line: &str) -> String {
        let mut text = Cow::Borrowed(line);
        for pattern in &self.extra {
            apply(&mut text, |text| pattern.replace_all(text, hide_first_group));
        }
        apply(&mut text, |text| PRIVATE_KEY.replace_all(text, REDACTED));
        apply(&mut text, |text| KNOWN_TOKENS.replace_all(text, REDACTED));
        apply(&mut text, |text| URL_PASSWORD.replace_all(text, hide_password));
        apply(&mut text, |text| AUTHORIZATION.replace_all(text, hide_credentials));
        apply(&mut text, keys::hide_values);
        text.into_owned()
    }

    /// Hides secrets in consecutive lines of a log, private keys that span lines included, even where the log was cut within one.
    #[must_use]
    pub fn lines(&self, lines: &[String]) -> Vec<String> {
        let mut shown: Vec<String> = Vec::with_capacity(lines.len());
        let mut in_key = false;
        for line in lines {
            let ends = line.contains("-----END ") && line.contains("PRIVATE KEY-----");
            if ends && !in_key {
                // The beginning lies before what was read: the key's lines are those that are nothing but base64.
                for earlier in shown.iter_mut().rev().take_while(|earlier| is_base64_line(earlier)) {
                    REDACTED.clone_into(earlier);
                }
            }
            let begins = line.contains("-----BEGIN ") && line.contains("PRIVATE KEY-----");
            shown.push(if in_key || (ends && !begins) { REDACTED.to_owned() } else { self.line(line) });
            in_key = (in_key || begins) && !ends;
        }
        shown
    }
}

fn apply<'a>(text: &mut Cow<'a, str>, change: impl FnOnce(&str) -> Cow<'_, str>) {
    if let Cow::Owned(changed) = change(text) {
        *text = Cow::Owned(changed);
    }
}

#[expect(clippy::expect_used, reason = "the patterns are constants; a test compiles each")]
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a constant pattern compiles")
}

/// A PEM private key on one line, as it stands in an environment variable or JSON; without its end, up to the end of the line.
static PRIVATE_KEY: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)")
});

/// Tokens whose own form says what they are.
static KNOWN_TOKENS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?x)
        \beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?   # JSON Web Token
        | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b                                  # AWS access key id
        | \bgh[opsur]_[A-Za-z0-9]{30,} | \bgithub_pat_[A-Za-z0-9_]{20,}  # GitHub
        | \bglpat-[A-Za-z0-9_-]{20,}                                     # GitLab
        | \bxox[abeoprs]-[A-Za-z0-9-]{10,}                               # Slack
        | \bAIza[A-Za-z0-9_-]{35}                                        # Google API key
        | \b[rs]k_(?:live|test)_[A-Za-z0-9]{10,}                         # Stripe
        | \bnpm_[A-Za-z0-9]{36}                                          # npm
        | \bdckr_pat_[A-Za-z0-9_-]{20,}                                  # Docker Hub
        | \bhvs\.[A-Za-z0-9_-]{20,}                                      # Vault
        | \bsk-[A-Za-z0-9_-]{20,}                                        # OpenAI and others
        ",
    )
});

/// `scheme://user:password@host`, and Go's `user:password@tcp(host)`. A password with a bare `/` in it is not a valid URL, and
/// taking it for one would hide `registry:5000/team/app@sha256:…`.
static URL_PASSWORD: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?x)
        (?P<url>\b[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@"']*:) [^\s/"']+ @
        | (?P<dsn>\b[A-Za-z0-9_.-]+:) [^\s/"']+ @(?P<network>tcp|unix)\(
        "#,
    )
});

fn hide_password(captures: &Captures<'_>) -> String {
    match (captures.name("url"), captures.name("dsn"), captures.name("network")) {
        (_, Some(dsn), Some(network)) => format!("{}{REDACTED}@{}(", dsn.as_str(), network.as_str()),
        (Some(url), _, _) => format!("{}{REDACTED}@", url.as_str()),
        _ => REDACTED.to_owned(),
    }
}

/// `Bearer …`, `Basic …` and the like, and whatever an Authorization header holds.
static AUTHORIZATION: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?ix)
        (?P<before> \b(?:bearer|basic|negotiate|apikey)[\x20\t]+
                  | \bauthorization["']?[\x20\t]*[:=][\x20\t]*["']?(?:[a-z0-9-]+[\x20\t]+)? )
        (?P<credentials>[a-z0-9+/_.~=-]{8,})
        "#,
    )
});

fn hide_credentials(captures: &Captures<'_>) -> String {
    let part = |name| captures.name(name).map_or("", |part| part.as_str());
    let (before, credentials) = (part("before"), part("credentials"));
    // "basic authentication failed" is a sentence.
    let is_word = credentials.len() < 20 && credentials.bytes().skip(1).all(|byte| byte.is_ascii_lowercase());
    let shown = if is_word { credentials } else { REDACTED };
    format!("{before}{shown}")
}

fn hide_first_group(captures: &Captures<'_>) -> String {
    let (Some(whole), Some(secret)) = (captures.get(0), captures.get(1)) else {
        return REDACTED.to_owned();
    };
    let text = whole.as_str();
    let before = text.get(..secret.start() - whole.start()).unwrap_or_default();
    let after = text.get(secret.end() - whole.start()..).unwrap_or_default();
    format!("{before}{REDACTED}{after}")
}

fn is_base64_line(line: &str) -> bool {
    let line = line.trim();
    line.len() >= 16
        && line.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='))
}

fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests;
