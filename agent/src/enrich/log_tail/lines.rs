//! The CRI log format, `<time> <stdout|stderr> <F|P>[:…] <text>`, → the lines a program wrote, fit to be shown.

use std::collections::VecDeque;
use std::sync::LazyLock;

use regex::bytes::Regex;

use crate::escape::{CUT_MARK, escape};

/// Longest line shown, in bytes: a stack frame or an error with its context fits, and fifty of them fit well into one report.
const MAX_LINE_BYTES: usize = 4096;

/// The last `limit` lines in `bytes`, which are the end of a log, or the whole of it when `from_start`. Parts of lines that the
/// runtime split are joined, colour sequences are removed, tabs become blanks, and what cannot be shown is escaped.
pub(super) fn last_lines(bytes: &[u8], from_start: bool, limit: usize) -> Vec<String> {
    let mut entries = bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|byte| *byte == b'\n');
    if !from_start {
        // Most likely the rest of a line.
        entries.next();
    }
    let mut last = VecDeque::new();
    let mut keep = |line: Vec<u8>| {
        if last.len() == limit {
            last.pop_front();
        }
        last.push_back(line);
    };
    let mut parts: [Vec<u8>; 2] = Default::default();
    for entry in entries.filter(|entry| !entry.is_empty()) {
        match parse(entry) {
            Some(Entry { stream, is_part, text }) => {
                let [stdout, stderr] = &mut parts;
                let part = if stream == Stream::Stdout { stdout } else { stderr };
                part.extend_from_slice(text);
                if !is_part {
                    keep(std::mem::take(part));
                }
            }
            None => keep(entry.to_vec()),
        }
    }
    // What was written last and never ended by a newline is often the very thing looked for.
    parts.into_iter().filter(|part| !part.is_empty()).for_each(keep);
    last.iter().map(|line| show(line)).collect()
}

/// Cuts a line at the length that is shown.
pub(super) fn cut(mut line: String) -> String {
    if line.len() > MAX_LINE_BYTES {
        line.truncate(line.floor_char_boundary(MAX_LINE_BYTES));
        line.push(CUT_MARK);
    }
    line
}

#[derive(PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

struct Entry<'a> {
    stream: Stream,
    is_part: bool,
    text: &'a [u8],
}

fn parse(entry: &[u8]) -> Option<Entry<'_>> {
    let mut fields = entry.splitn(4, |byte| *byte == b' ');
    let time = fields.next()?;
    let stream = match fields.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let tag = fields.next()?;
    let starts_like_a_time =
        time.len() >= 20 && time.first().is_some_and(u8::is_ascii_digit) && time.contains(&b'T');
    let is_part = match tag.split(|byte| *byte == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    // An empty line may have lost its last blank.
    starts_like_a_time.then(|| Entry { stream, is_part, text: fields.next().unwrap_or_default() })
}

#[expect(clippy::expect_used, reason = "the pattern is a constant; a test uses it")]
static COLOURS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?-u)\x1b\[[0-9;]*[mK]").expect("a constant pattern compiles"));

fn show(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let plain = COLOURS.replace_all(line, b"".as_slice());
    let mut blanks = Vec::with_capacity(plain.len());
    for byte in plain.iter() {
        match byte {
            b'\t' => blanks.extend_from_slice(b"    "),
            byte => blanks.push(*byte),
        }
    }
    // The bytes read are bounded already; the line is cut only after secrets were looked for in it.
    escape(&blanks, usize::MAX)
}
