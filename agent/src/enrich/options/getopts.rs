//! The letters that a shell's script knows: those of the strings that it gives to `getopts`.

use std::collections::BTreeSet;

const COMMAND: &[u8] = b"getopts";

/// The letters of all `getopts` of the script; None when it has none, or one whose letters stand in a variable.
pub(super) fn letters(script: &[u8]) -> Option<BTreeSet<u8>> {
    let mut found = None;
    for at in memchr::memmem::find_iter(script, COMMAND) {
        let after = script.get(at + COMMAND.len()..)?;
        let blanks = after.iter().take_while(|byte| **byte == b' ' || **byte == b'\t').count();
        let (Some(text), 1..) = (after.get(blanks..), blanks) else { continue };
        let text = text.strip_prefix(b"\"").or_else(|| text.strip_prefix(b"'")).unwrap_or(text);
        let end = text.iter().position(|byte| !byte.is_ascii_alphanumeric() && !b":-".contains(byte))?;
        let letters = text.get(..end)?;
        // `getopts "$known" name`, and the word in a comment, a message.
        let is_string = text.get(end).is_some_and(|byte| b"\"' \t".contains(byte)) && !letters.is_empty();
        if text.first() == Some(&b'$') || !is_string {
            return None;
        }
        found.get_or_insert_with(BTreeSet::new).extend(letters.iter().filter(|byte| **byte != b':'));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(script: &str) -> Option<String> {
        letters(script.as_bytes()).map(|letters| letters.into_iter().map(char::from).collect())
    }

    #[test]
    fn the_letters_are_those_of_the_string() {
        assert_eq!(of("while getopts \"p:m:\" o; do").as_deref(), Some("mp"));
        assert_eq!(of("while getopts ':hv' o; do").as_deref(), Some("hv"));
        assert_eq!(of("getopts ab: name\nf() { getopts\tc x; }").as_deref(), Some("abc"));
    }

    #[test]
    fn what_cannot_be_read_tells_nothing() {
        for script in
            ["", "exec app \"$@\"", "getopts \"$known\" o", "getopts", "getopts \"ab", "getopts=\"a\""]
        {
            assert_eq!(of(script), None, "{script}");
        }
        // One that is read and one that is not.
        assert_eq!(of("getopts a: o; getopts \"$more\" o"), None);
    }
}
