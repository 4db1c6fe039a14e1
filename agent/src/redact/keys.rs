//! Secrets that are known by the name before them: `DB_PASSWORD=…`, `"apiKey": "…"`, `--token …`.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::{REDACTED, pattern};

/// A name and what stands between it and its value. A name longer than 128 bytes is not one.
static KEY: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?P<key>[A-Za-z_][A-Za-z0-9_.-]{0,127})(?P<gap>["']?[ \t]{0,4}(?:=>?|:)[ \t]{0,4}|[ \t]{1,4})"#,
    )
});

/// Whether a value is a secret is judged by its beginning, so that a line made of names alone costs no time with the square of its
/// length.
const JUDGED_BYTES: usize = 512;

/// Replaces the values of secret names in one line.
pub(super) fn hide_values(line: &str) -> Cow<'_, str> {
    let mut shown = String::new();
    let mut copied = 0;
    let mut position = 0;
    while let Some(captures) = KEY.captures_at(line, position) {
        let (Some(whole), Some(key), Some(gap)) =
            (captures.get(0), captures.name("key"), captures.name("gap"))
        else {
            break;
        };
        position = whole.end();
        if !introduces_a_value(line, key.start(), gap.as_str()) {
            continue;
        }
        let judged_up_to = line.floor_char_boundary(whole.end() + JUDGED_BYTES);
        let judged = line.get(..judged_up_to).unwrap_or(line);
        let value = judged.get(value_at(judged, whole.end())).unwrap_or_default();
        if !is_secret(key.as_str(), gap.as_str(), value) {
            continue;
        }
        let span = value_at(line, whole.end());
        shown.push_str(line.get(copied..span.start).unwrap_or_default());
        shown.push_str(REDACTED);
        copied = span.end;
        position = copied;
    }
    if copied == 0 {
        return Cow::Borrowed(line);
    }
    shown.push_str(line.get(copied..).unwrap_or_default());
    Cow::Owned(shown)
}

/// True when the name at `key_start` is followed by its value: after a blank only where it is an option (`--token abc`), and never
/// as a part of a path or an image (`team/token:1.2`).
fn introduces_a_value(line: &str, key_start: usize, gap: &str) -> bool {
    let before = line.get(..key_start).unwrap_or_default();
    if gap.trim().is_empty() { before.ends_with("--") } else { !before.ends_with('/') }
}

/// Where the value stands that starts at `start`: between its quotes when it is quoted, else up to a blank or what separates
/// values in JSON, URLs and connection strings.
fn value_at(line: &str, start: usize) -> Range<usize> {
    let rest = line.get(start..).unwrap_or_default();
    let Some(quote) = rest.chars().next().filter(|first| matches!(first, '"' | '\'')) else {
        let end = rest.find(|character: char| {
            character.is_whitespace() || matches!(character, ',' | ';' | '&' | ')' | ']' | '}' | '"' | '\'')
        });
        return start..start + end.unwrap_or(rest.len());
    };
    let mut escaped = false;
    for (position, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return start + 1..start + position,
            _ => {}
        }
    }
    start + 1..line.len()
}

fn is_secret(key: &str, gap: &str, value: &str) -> bool {
    match sensitivity(key) {
        Sensitivity::Secret => {
            // After a colon people write sentences: "token: expired".
            let in_a_sentence = gap.trim_start_matches(['"', '\'']).trim() == ":" && is_plain_word(value);
            hides_something(value) && !in_a_sentence && !value.starts_with("//")
        }
        Sensitivity::SecretWhenRandom => hides_something(value) && looks_random(value),
        Sensitivity::None => false,
    }
}

enum Sensitivity {
    Secret,
    /// Names such as `key`, whose value is a secret only if it looks like one.
    SecretWhenRandom,
    None,
}

/// Judges a name by its last words, so that `DB_PASSWORD`, `dbPassword` and `PGPASSWORD` are secrets, while `password-file`,
/// `tokenizer`, `max_tokens` and `secretName` are not.
fn sensitivity(key: &str) -> Sensitivity {
    const SECRET_ENDINGS: &[&str] =
        &["password", "passwd", "passphrase", "secret", "token", "apikey", "credential", "credentials"];
    const SECRET_WORDS: &[&str] = &["pass", "pwd", "pw", "jwt", "authorization"];
    const SECRET_KEYS: &[&str] = &[
        "api",
        "access",
        "private",
        "secret",
        "encryption",
        "signing",
        "master",
        "account",
        "shared",
        "auth",
        "storage",
    ];
    const RANDOM_WORDS: &[&str] = &[
        "key",
        "auth",
        "sig",
        "signature",
        "session",
        "sessionid",
        "cookie",
        "sid",
        "seed",
        "salt",
        "otp",
        "code",
    ];

    // The shell's working directory.
    if key == "PWD" {
        return Sensitivity::None;
    }
    let mut words = words(key);
    while let Some(last) = words.last_mut() {
        last.truncate(last.trim_end_matches(|digit: char| digit.is_ascii_digit()).len());
        if !last.is_empty() {
            break;
        }
        words.pop();
    }
    // Rails' SECRET_KEY_BASE, Django's secret_key_fallbacks.
    if words.len() > 2 && matches!(words.last().map(String::as_str), Some("base" | "fallbacks")) {
        words.pop();
    }
    let Some(last) = words.last().map(String::as_str) else {
        return Sensitivity::None;
    };
    let before = words.len().checked_sub(2).and_then(|index| words.get(index)).map_or("", String::as_str);
    if SECRET_WORDS.contains(&last)
        || SECRET_ENDINGS.iter().any(|ending| last.ends_with(ending))
        || (last == "key" && SECRET_KEYS.contains(&before))
    {
        Sensitivity::Secret
    } else if RANDOM_WORDS.contains(&last) || last.ends_with("key") {
        Sensitivity::SecretWhenRandom
    } else {
        Sensitivity::None
    }
}

/// The words of `some-name`, `some_name`, `some.name` and `someName`, in lower case.
fn words(key: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut previous_is_lower = false;
    for character in key.chars() {
        let separates = matches!(character, '-' | '_' | '.');
        if separates || (previous_is_lower && character.is_ascii_uppercase()) {
            words.push(String::new());
        }
        if let (false, Some(word)) = (separates, words.last_mut()) {
            word.push(character.to_ascii_lowercase());
        }
        previous_is_lower = character.is_ascii_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// False for values that give nothing away: none, a switch, a reference to where the secret is, a path.
pub(super) fn hides_something(value: &str) -> bool {
    let is_switch = matches!(
        value.to_ascii_lowercase().as_str(),
        "true" | "false" | "null" | "none" | "nil" | "undefined" | "yes" | "no"
    );
    let is_reference = value.starts_with('$') || value.starts_with(REDACTED);
    let has_content = value.bytes().any(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii());
    has_content && !is_switch && !is_reference && !is_path(value)
}

/// A path of at least two parts, none of them so long without a separator that it could be base64.
fn is_path(value: &str) -> bool {
    let path = value.strip_prefix("file://").unwrap_or(value);
    let Some(rest) = ["/", "./", "../"].iter().find_map(|start| path.strip_prefix(start)) else {
        return false;
    };
    let well_formed = rest.split('/').all(|part| {
        part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'@'))
            && part.split(['.', '_', '-', '@']).all(|word| word.len() <= 24)
    });
    well_formed && rest.contains('/')
}

fn is_plain_word(value: &str) -> bool {
    const WORDS: &[&str] = &[
        "expired",
        "invalid",
        "missing",
        "required",
        "not",
        "is",
        "was",
        "must",
        "cannot",
        "could",
        "denied",
        "failed",
        "incorrect",
        "wrong",
        "empty",
        "unset",
        "no",
        "authentication",
        "unauthorized",
        "unknown",
        "malformed",
        "unexpected",
        "open",
        "permission",
        "read",
        // The scheme in an Authorization header; what follows it is hidden already.
        "bearer",
        "basic",
        "digest",
        "negotiate",
        "token",
    ];
    WORDS.contains(&value.to_ascii_lowercase().trim_end_matches(['.', ':', '!']))
}

/// Long enough, and made like hexadecimal or base64 with digits in it.
fn looks_random(value: &str) -> bool {
    value.len() >= 20
        && value.bytes().any(|byte| byte.is_ascii_digit())
        && value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'_' | b'-'))
}

/// True for an argument that is a secret's option without its value, which then is the next argument.
pub(super) fn is_secret_option(argument: &str) -> bool {
    let Some(name) = argument.strip_prefix('-') else {
        return false;
    };
    let name = name.strip_prefix('-').unwrap_or(name);
    is_name(name) && matches!(sensitivity(name), Sensitivity::Secret)
}

/// `--password=` of `--password=some thing`: in an option of its own the value goes up to the argument's end, blanks included.
pub(super) fn secret_option_with_value(argument: &str) -> Option<&str> {
    let (option, value) = argument.split_once('=')?;
    let secret = is_secret_option(option) && hides_something(value);
    secret.then(|| argument.get(..=option.len())).flatten()
}

fn is_name(text: &str) -> bool {
    text.len() > 1
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}
