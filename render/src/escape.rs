//! Text from containers is hostile: it may try to move the cursor, recolour or retitle the terminal.

use std::fmt::Write as _;

/// One line fit for a terminal: control characters (C0, DEL, C1) and characters that reorder or hide text as `\xNN` of their UTF-8.
pub fn escape(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || reorders(character) {
            let mut buffer = [0; 4];
            for byte in character.encode_utf8(&mut buffer).bytes() {
                // Writing to a String cannot fail.
                let _ = write!(line, "\\x{byte:02x}");
            }
        } else {
            line.push(character);
        }
    }
    line
}

/// Bidirectional overrides and isolates, line separators, zero-width characters.
fn reorders(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn nothing_reaches_the_terminal_that_moves_it() {
        for (text, expected) in [
            ("/data/app.db", "/data/app.db"),
            ("/grün/日本", "/grün/日本"),
            ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
            ("a\nb\tc", "a\\x0ab\\x09c"),
            ("\u{9b}31m", "\\xc2\\x9b31m"),
            ("\u{202e}gpj.exe", "\\xe2\\x80\\xaegpj.exe"),
        ] {
            assert_eq!(escape(text), expected);
        }
    }
}
