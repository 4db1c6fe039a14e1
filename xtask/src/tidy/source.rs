//! Rust source as far as the laws need it: code without comments and literals, and the words in it.

use std::iter::Peekable;
use std::str::Chars;

/// The source with comments and the contents of string and character literals replaced by blanks; lines stay where they are.
pub(super) fn blank(text: &str) -> String {
    let mut blanked = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    // Tells `r"…"` from a name that ends in r.
    let mut before = ' ';
    while let Some(letter) = rest.next() {
        match (letter, rest.peek().copied()) {
            ('/', Some('/')) => skip_while(&mut rest, &mut blanked, |letter| letter != '\n'),
            ('/', Some('*')) => block_comment(&mut rest, &mut blanked),
            ('r', Some('"' | '#')) if !is_word(before) || before == 'b' => {
                raw_string(&mut rest, &mut blanked)
            }
            ('"', _) => {
                blanked.push('"');
                string(&mut rest, &mut blanked);
            }
            ('\'', Some(next)) => character(next, &mut rest, &mut blanked),
            _ => blanked.push(letter),
        }
        before = letter;
    }
    blanked
}

/// The words of blanked code with the number of their line (from 1) and what follows them on it.
pub(super) fn words(code: &str) -> impl Iterator<Item = (usize, &str, &str, &str)> {
    code.lines().enumerate().flat_map(|(number, line)| {
        let mut end = 0;
        std::iter::from_fn(move || {
            let start = end + line.get(end..)?.find(is_word)?;
            let length = line.get(start..)?.find(|letter| !is_word(letter)).unwrap_or(line.len() - start);
            end = start + length;
            Some((number + 1, line.get(..start)?, line.get(start..end)?, line.get(end..)?))
        })
    })
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn keep_lines(letter: char, blanked: &mut String) {
    blanked.push(if letter == '\n' { '\n' } else { ' ' });
}

fn skip_while(rest: &mut Peekable<Chars<'_>>, blanked: &mut String, wanted: impl Fn(char) -> bool) {
    while let Some(letter) = rest.next_if(|letter| wanted(*letter)) {
        keep_lines(letter, blanked);
    }
}

fn block_comment(rest: &mut Peekable<Chars<'_>>, blanked: &mut String) {
    let mut depth = 1;
    rest.next();
    while let Some(letter) = rest.next() {
        keep_lines(letter, blanked);
        match (letter, rest.peek()) {
            ('/', Some('*')) => {
                depth += 1;
                rest.next();
            }
            ('*', Some('/')) => {
                depth -= 1;
                rest.next();
            }
            _ => {}
        }
        if depth == 0 {
            return;
        }
    }
}

fn string(rest: &mut Peekable<Chars<'_>>, blanked: &mut String) {
    while let Some(letter) = rest.next() {
        match letter {
            '"' => {
                blanked.push('"');
                return;
            }
            '\\' => {
                blanked.push(' ');
                if let Some(escaped) = rest.next() {
                    keep_lines(escaped, blanked);
                }
            }
            _ => keep_lines(letter, blanked),
        }
    }
}

/// Behind the `r`: as many `#` as it likes, a quote, and the same backwards. `r#type` is a name and no string.
fn raw_string(rest: &mut Peekable<Chars<'_>>, blanked: &mut String) {
    let mut hashes = 0;
    while rest.next_if_eq(&'#').is_some() {
        hashes += 1;
    }
    if rest.next_if_eq(&'"').is_none() {
        return;
    }
    blanked.push('"');
    while let Some(letter) = rest.next() {
        if letter != '"' {
            keep_lines(letter, blanked);
            continue;
        }
        let mut closing = 0;
        while closing < hashes && rest.next_if_eq(&'#').is_some() {
            closing += 1;
        }
        if closing == hashes {
            blanked.push('"');
            return;
        }
    }
}

/// Behind the `'`: a character, or a lifetime.
fn character(next: char, rest: &mut Peekable<Chars<'_>>, blanked: &mut String) {
    let mut ahead = rest.clone();
    ahead.next();
    let is_character = next == '\\' || ahead.peek() == Some(&'\'');
    if !is_character {
        return blanked.push('\'');
    }
    rest.next();
    if next == '\\' {
        rest.next();
    }
    while rest.next_if(|letter| *letter != '\'').is_some() {}
    rest.next();
    blanked.push_str("' '");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let code = blank(text);
        words(&code).map(|(line, _, word, _)| format!("{line}:{word}")).collect()
    }

    #[test]
    fn comments_and_literals_hold_no_words() {
        assert_eq!(found("a // b\n/* c /* d */ e */ f\n\"g \\\" h\" i"), ["1:a", "2:f", "3:i"]);
        assert_eq!(found("r#\"x \" y\"# a"), ["1:a"]);
        assert_eq!(found("br\"x\" a"), ["1:b", "1:a"]);
    }

    #[test]
    fn lifetimes_are_no_characters() {
        assert_eq!(
            found("fn f<'a>(x: &'a str) { '\\'' ; '{' ; b'x' }"),
            ["1:fn", "1:f", "1:a", "1:x", "1:a", "1:str", "1:b"]
        );
        assert_eq!(found("'\\u{1F}' a"), ["1:a"]);
    }

    #[test]
    fn a_string_over_lines_keeps_their_numbers() {
        assert_eq!(found("\"x\ny\"\nz"), ["3:z"]);
    }

    #[test]
    fn raw_names_are_names() {
        assert_eq!(found("r#type a"), ["1:type", "1:a"]);
    }
}
