//! Which of its options a program cannot know: their names occur nowhere in its file, and those of others do.
//!
//! A program that was given an option which it does not know says so and leaves; when what it says is lost no call of it failed. But each
//! option that a program knows stands in it by its name, in the table that its command line is held against. A shell's script has its
//! letters in the string that it gives to `getopts`.

mod getopts;

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use memchr::memmem::Finder;

use super::file_facts::RootHandle;
use crate::counters;

/// Bytes of the largest file that is looked through; the largest Go programs have about a hundred MiB. It takes some 50 ms.
const MOST_BYTES: u64 = 128 << 20;
/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// Options that are looked for; more fit no command line that a person wrote.
const MOST_OPTIONS: usize = 32;
/// The shortest name that is looked for: shorter ones occur anywhere.
const SHORTEST: usize = 4;
/// Bytes of a script that are looked through for its letters.
const SCRIPT_BYTES: u64 = 1 << 20;
/// The longest one.
const LONGEST: usize = 64;
/// How long a report waits for it. Files are looked through one after the other.
const PATIENCE: Duration = Duration::from_secs(1);
/// What may stand before the name that the program's table has.
const PREFIXES: [&str; 6] = ["no-", "skip-", "disable-", "enable-", "with-", "without-"];
/// One after the other: crashes of many containers at once must not take a node's processors for this.
static ONE_AT_A_TIME: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(1);

/// A program's file, and the options that it was given.
pub struct Query {
    /// Where the file may be, absolute as the container sees it: the first of these that is there.
    pub programs: Vec<PathBuf>,
    /// Where in it the known ones stand.
    pub table: Table,
    /// The options as they stand on the command line, without their values.
    pub options: Vec<String>,
}

/// Where a program's file has the options that it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// By their names, anywhere.
    Names,
    /// By their letters, in what a shell's script gives to `getopts`.
    Getopts,
}

/// The options of one letter among `arguments`, each once.
#[must_use]
pub fn letters<'a>(arguments: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let mut letters: Vec<String> = Vec::new();
    for argument in arguments.take_while(|argument| *argument != b"--").take(MOST_OPTIONS) {
        if let [b'-', letter] = argument
            && letter.is_ascii_alphabetic()
        {
            let option = format!("-{}", char::from(*letter));
            if !letters.contains(&option) {
                letters.push(option);
            }
        }
    }
    letters
}

/// The options among `arguments` that are looked for, each once: `--name`, and Go's `-name`, without values.
#[must_use]
pub fn options<'a>(arguments: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let mut options: Vec<String> = Vec::new();
    for argument in arguments.take_while(|argument| *argument != b"--") {
        let option = argument.split(|byte| *byte == b'=').next().unwrap_or_default();
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let Ok(option) = std::str::from_utf8(option) else { continue };
        let fits = (SHORTEST..=LONGEST).contains(&name(option).len())
            && option.starts_with('-')
            && name(option).starts_with(|letter: char| letter.is_ascii_alphabetic())
            && option.bytes().all(|byte| is_name(&byte));
        if fits && options.len() < MOST_OPTIONS && !options.iter().any(|known| known == option) {
            options.push(option.to_owned());
        }
    }
    options
}

/// Those whose names occur nowhere in the program's file, when the names of others do; none when that could not be told in time.
pub async fn unknown(query: Query, root: Arc<RootHandle>) -> Vec<String> {
    let looked = async {
        let turn = ONE_AT_A_TIME.acquire().await.ok()?;
        // It keeps its turn for as long as it reads: a file system that hangs takes one thread and no more.
        let look = move || (look(&query, &root), turn).0;
        tokio::task::spawn_blocking(look).await.ok()?
    };
    let Ok(Some(unknown)) = tokio::time::timeout(PATIENCE, looked).await else {
        counters::OPTIONS_NOT_LOOKED_FOR.increment();
        return Vec::new();
    };
    unknown
}

fn look(query: &Query, root: &RootHandle) -> Option<Vec<String>> {
    let file = query.programs.iter().find_map(|program| root.open_file(program).ok())?;
    if query.table == Table::Getopts {
        let mut script = Vec::new();
        file.take(SCRIPT_BYTES).read_to_end(&mut script).ok()?;
        let known = getopts::letters(&script)?;
        let is_unknown =
            |option: &&String| option.as_bytes().get(1).is_some_and(|letter| !known.contains(letter));
        return Some(query.options.iter().filter(is_unknown).cloned().collect());
    }
    let absent = absent(&file, &query.options).ok()?;
    // A program that has none of them keeps its table elsewhere.
    Some(if absent.len() < query.options.len() { absent } else { Vec::new() })
}

/// Those that do not occur in the file.
fn absent(file: &File, options: &[String]) -> io::Result<Vec<String>> {
    let bytes = file.metadata()?.len();
    if bytes > MOST_BYTES {
        return Err(io::Error::other("the file is too large"));
    }
    let spellings: Vec<(String, Vec<String>)> =
        options.iter().map(|option| (option.clone(), spellings(name(option)))).collect();
    let mut left: Vec<(&str, Vec<Finder<'_>>, Seen)> = spellings
        .iter()
        .map(|(option, names)| (option.as_str(), names.iter().map(Finder::new).collect(), Seen::Nowhere))
        .collect();
    let mut chunk = vec![0; CHUNK_BYTES + LONGEST];
    let mut at = 0;
    while at < bytes && !left.is_empty() {
        let read = file.read_at(&mut chunk, at)?;
        let part = chunk.get(..read).unwrap_or_default();
        // A name may lie across the border, and is looked at once.
        let next = read.checked_sub(LONGEST).filter(|step| *step > 0);
        let border = next.filter(|_| read == chunk.len()).unwrap_or(read);
        left.retain_mut(|(_, names, seen)| {
            for name in names.iter() {
                for found in name.find_iter(part).filter(|found| *found < border) {
                    *seen = seen.and(part.get(found + name.needle().len()).copied());
                }
            }
            *seen != Seen::Known
        });
        let Some(next) = next else { break };
        at += next as u64;
    }
    let is_known = |seen: &Seen| matches!(seen, Seen::Known | Seen::Once(_));
    let unknown = left.into_iter().filter(|(_, _, seen)| !is_known(seen));
    Ok(unknown.map(|(option, ..)| option.to_owned()).collect())
}

/// Where the name of an option was found. Go's strings stand end to end, so that what follows one says nothing; but where the same letter
/// follows each time it is a part of a longer name, `listen-client-url` of `listen-client-urls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nowhere,
    /// Once, with this letter behind it.
    Once(u8),
    /// Several times, always with this letter behind it.
    WithinAnother(u8),
    Known,
}

impl Seen {
    /// And once more, with this byte behind it.
    fn and(self, next: Option<u8>) -> Self {
        let goes_on = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(*byte, b'-' | b'_');
        match (self, next.filter(goes_on)) {
            (Self::Nowhere, Some(next)) => Self::Once(next),
            (Self::Once(before) | Self::WithinAnother(before), Some(next)) if before == next => {
                Self::WithinAnother(next)
            }
            _ => Self::Known,
        }
    }
}

fn name(option: &str) -> &str {
    option.trim_start_matches('-')
}

/// How the name may stand in the program: V8 and MySQL write `_` for `-`, and `--no-color` is `color`.
fn spellings(name: &str) -> Vec<String> {
    let bare =
        PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).filter(|bare| bare.len() >= SHORTEST);
    let mut spellings: Vec<String> = Vec::new();
    for name in [Some(name), bare].into_iter().flatten() {
        spellings.extend([name.to_owned(), name.replace('-', "_"), name.replace('_', "-")]);
    }
    spellings.sort();
    spellings.dedup();
    spellings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absent_from(contents: &[u8], options: &[&str]) -> Vec<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), contents).unwrap();
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        absent(&File::open(file.path()).unwrap(), &options).unwrap()
    }

    #[test]
    fn options_are_those_with_a_name() {
        let arguments: [&[u8]; 14] = [
            b"etcd",
            b"--data-dir",
            b"/data",
            b"--listen-urls=http://x",
            b"-config.file=a",
            b"-v",
            b"-XX:+Use",
            b"--data-dir",
            b"--log\xff",
            b"---",
            b"--=x",
            b"-1000000",
            b"--",
            b"--after",
        ];
        let options = options(arguments.into_iter());
        assert_eq!(options, ["--data-dir", "--listen-urls", "-config.file"]);
    }

    #[test]
    fn a_name_that_occurs_nowhere_is_absent() {
        let program = b"\x7fELF\0usage\0data-dirlisten-client-urls\0max_old_space_size\0color\0";
        let of = |options: &[&str]| absent_from(program, options);
        assert_eq!(of(&["--data-dir", "--listen-clients-urls"]), ["--listen-clients-urls"]);
        assert!(of(&["--max-old-space-size", "--no-color", "--listen-client-urls"]).is_empty());
        assert_eq!(of(&["--no-colour"]), ["--no-colour"]);
    }

    #[test]
    fn a_name_that_is_only_a_part_of_another_is_unknown() {
        let of = |program: &[u8]| absent_from(program, &["--listen-client-url", "--name"]);
        let unknown = ["--listen-client-url"];
        assert_eq!(of(b"name\0listen-client-urlslisten-client-urls\0"), unknown);
        assert!(of(b"name\0listen-client-urlslisten-client-url\0").is_empty());
        assert!(of(b"name\0listen-client-urlslisten-client-urlmax").is_empty());
        assert!(of(b"name\0listen-client-urls\0").is_empty(), "once it may be another string that follows");
    }

    #[test]
    fn a_name_across_the_border_of_two_chunks_is_found() {
        for shift in 0..=LONGEST + 2 {
            let mut program = vec![b'.'; CHUNK_BYTES + LONGEST - shift];
            program.extend(b"listen-client-urls");
            program.extend(vec![b'.'; CHUNK_BYTES]);
            assert!(absent_from(&program, &["--listen-client-urls"]).is_empty(), "{shift}");
        }
    }

    #[test]
    fn many_and_long_ones_are_bounded() {
        let many: Vec<String> = (0..1_000).map(|number| format!("--option-{number}")).collect();
        assert_eq!(options(many.iter().map(String::as_bytes)).len(), MOST_OPTIONS);
        let long = format!("--{}", "a".repeat(LONGEST + 1));
        assert!(options([long.as_bytes()].into_iter()).is_empty());
    }
}
