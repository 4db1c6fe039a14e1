//! Bytes that a container chose (paths, names, log lines) → text that is safe to show on a terminal, in JSON and in a browser.

use std::fmt::Write;

/// Follows text that was cut at its limit.
pub const CUT_MARK: char = '…';

/// Turns bytes into text: printable UTF-8 stays as it is; control characters, invalid bytes and characters that are invisible or
/// reorder what surrounds them (bidirectional controls, zero-width ones, tags) become `\xNN`, a byte each. A backslash stays a
/// backslash. Text longer than `limit` bytes is cut at a character and ends in [`CUT_MARK`].
#[must_use]
pub fn escape(bytes: &[u8], limit: usize) -> String {
    let mut shown = String::with_capacity(bytes.len().min(limit));
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            let fits = if is_hidden(character) {
                push_escaped(&mut shown, character.encode_utf8(&mut [0; 4]).as_bytes(), limit)
            } else {
                push_plain(&mut shown, character, limit)
            };
            if !fits {
                shown.push(CUT_MARK);
                return shown;
            }
        }
        if !push_escaped(&mut shown, chunk.invalid(), limit) {
            shown.push(CUT_MARK);
            return shown;
        }
    }
    shown
}

fn push_plain(shown: &mut String, character: char, limit: usize) -> bool {
    let fits = shown.len() + character.len_utf8() <= limit;
    if fits {
        shown.push(character);
    }
    fits
}

fn push_escaped(shown: &mut String, bytes: &[u8], limit: usize) -> bool {
    let fits = shown.len() + 4 * bytes.len() <= limit;
    if fits {
        for byte in bytes {
            // Writing to a String cannot fail.
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    fits
}

/// True for characters that show nothing themselves or change how their neighbours are shown.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_is_printable_and_escapes_the_rest() {
        let table: &[(&[u8], &str)] = &[
            (b"", ""),
            (b"/data/app.db", "/data/app.db"),
            ("/donn\u{e9}es/\u{65e5}\u{672c}".as_bytes(), "/données/日本"),
            (b"a\nb\tc\0", r"a\x0ab\x09c\x00"),
            (b"\x1b[31mred\x7f", r"\x1b[31mred\x7f"),
            (b"\xff\xfe/x", r"\xff\xfe/x"),
            (b"cut \xe6\x97", r"cut \xe6\x97"),
            ("a\u{202e}b".as_bytes(), r"a\xe2\x80\xaeb"),
            ("pay\u{200b}load".as_bytes(), r"pay\xe2\x80\x8bload"),
            ("c1\u{85}".as_bytes(), r"c1\xc2\x85"),
            ("tag\u{e0041}".as_bytes(), r"tag\xf3\xa0\x81\x81"),
            (br"C:\x41", r"C:\x41"),
        ];
        for (bytes, expected) in table {
            assert_eq!(escape(bytes, 1000), *expected);
        }
    }

    #[test]
    fn cuts_at_a_whole_character_or_escape() {
        assert_eq!(escape(b"abcdef", 6), "abcdef");
        assert_eq!(escape(b"abcdef", 3), "abc…");
        assert_eq!(escape("ab\u{e9}".as_bytes(), 3), "ab…");
        assert_eq!(escape(b"ab\x01", 5), "ab…");
        assert_eq!(escape(b"abc", 0), "…");
    }

    #[test]
    fn every_byte_sequence_becomes_bounded_text_without_controls() {
        for first in 0..=255_u8 {
            for second in [0_u8, 0x80, 0xbf, 0xc2, 0xe2, 0xf0, b'a'] {
                let shown = escape(&[first, second, first], 8);
                assert!(shown.len() <= 8 + CUT_MARK.len_utf8(), "{shown}");
                assert!(!shown.chars().any(is_hidden), "{shown:?}");
            }
        }
    }
}
