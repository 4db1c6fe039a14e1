//! What a file's path tells of the file, whatever was done with it.

use super::tables::{OF_RUNTIMES, OPTIONAL_ENDINGS, OPTIONAL_FOLDERS, OPTIONAL_NAMES, OPTIONAL_PREFIXES};
use crate::words;

/// True when a shared library was looked for: a search goes through many folders, and only its end tells.
pub(crate) fn is_library(path: &str) -> bool {
    let name = words::base_name(path);
    let of_the_system = ["/lib", "/usr/lib", "/usr/local/lib"].iter().any(|folder| path.starts_with(folder));
    // Elsewhere the loader looks for `libssl.so.3`; a plug-in that a configuration names is called otherwise.
    let searched = of_the_system || name.starts_with("lib") || path.contains("/glibc-hwcaps/");
    (name.ends_with(".so") || name.contains(".so.")) && !path.starts_with("/etc/") && searched
}

/// True for a folder that the loader looks at in its search for a library (`/usr/lib/tls/x86_64`, `/lib/glibc-hwcaps/x86-64-v3`).
fn is_of_the_loader(path: &str) -> bool {
    const CAPABILITIES: [&str; 13] = [
        "aarch64",
        "atomics",
        "avx512_1",
        "glibc-hwcaps",
        "haswell",
        "i686",
        "sse2",
        "tls",
        "x86-64-v2",
        "x86-64-v3",
        "x86-64-v4",
        "x86_64",
        "xeon_phi",
    ];
    let rest =
        ["/usr/lib64/", "/usr/lib/", "/lib64/", "/lib/"].iter().find_map(|folder| path.strip_prefix(folder));
    let mut parts = rest.into_iter().flat_map(|rest| rest.split('/')).peekable();
    parts.next_if(|first| first.contains("-linux-"));
    parts.peek().is_some() && parts.all(|part| CAPABILITIES.contains(&part))
}

/// True for what a program makes itself when it is not there: its state, a folder for what is temporary, the cookies that it was given.
pub(crate) fn is_made_anew(path: &str) -> bool {
    const NAMES: [&str; 15] = [
        "bookmark",
        "bookmarks",
        "checkpoint",
        "checkpoints",
        "cookie",
        "cookies",
        "cursor",
        "history",
        "journal",
        "offsets",
        "session",
        "shm",
        "state",
        "tmp",
        "wal",
    ];
    // A person writes these.
    const SETTINGS: [&str; 7] = [".conf", ".cfg", ".ini", ".yaml", ".yml", ".toml", ".properties"];
    let name = words::base_name(path).to_ascii_lowercase();
    !SETTINGS.iter().any(|ending| name.ends_with(ending))
        && name.split(['.', '-', '_']).any(|word| NAMES.contains(&word))
}

/// True for a path that a search through PATH may try.
pub(crate) fn in_a_program_folder(path: &str) -> bool {
    path.rsplit_once('/').is_some_and(|(folder, _)| folder.ends_with("/bin") || folder.ends_with("/sbin"))
}

/// True for a file whose name says that it is a lock.
pub(crate) fn is_called_a_lock(path: &str) -> bool {
    const NAMES: [&str; 4] = ["lock", ".lck", ".pid", "pidfile"];
    let name = words::base_name(path).to_ascii_lowercase();
    NAMES.iter().any(|part| name.contains(part))
}

/// True for settings of a language's runtime, which no program is written for.
pub(crate) fn is_of_a_runtime(path: &str) -> bool {
    OF_RUNTIMES.iter().any(|folder| path.contains(folder))
}

/// True for what C libraries, runtimes and shells look for and do without.
pub(super) fn is_optional(path: &str) -> bool {
    OPTIONAL_PREFIXES.iter().any(|prefix| path.starts_with(prefix))
        || OPTIONAL_FOLDERS.iter().any(|folder| path.contains(folder))
        || OPTIONAL_ENDINGS.iter().any(|ending| path.ends_with(ending))
        // Interpreters name code that is in no file `<string>`, `<stdin>`, `<frozen …>` and look for it when they print a trace.
        || words::base_name(path).starts_with('<')
        || (path.contains("/python3") && path.ends_with(".zip"))
        // Perl looks for modules below folders that are called as its version.
        || (path.contains("/perl") && words::base_name(path).bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
        || adds_to_another(words::base_name(path))
        || tells_the_distribution(path)
        || is_of_the_loader(path)
}

/// True for the files of which each distribution has one (`/etc/gentoo-release`, `/etc/system-version`): who reports a crash asks for all.
fn tells_the_distribution(path: &str) -> bool {
    let name = path.strip_prefix("/etc/").filter(|name| !name.contains('/'));
    name.is_some_and(|name| ["-release", "-version", "_version"].iter().any(|ending| name.ends_with(ending)))
}

/// True when the name says that the file changes what another one says.
fn adds_to_another(name: &str) -> bool {
    let mut words = name.split(['.', '-', '_']).skip(1);
    // `app-local.conf`; but `local-zones.conf` is about what is local.
    words.any(|word| OPTIONAL_NAMES.contains(&word))
}

/// True for `local.conf`, which adds to another one too, or is included by it.
pub(super) fn is_local(path: &str) -> bool {
    let name = words::base_name(path);
    name.split_once('.').is_some_and(|(name, _)| OPTIONAL_NAMES.contains(&name))
}

/// True for a log that a program writes.
pub(crate) fn is_log(path: &str) -> bool {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    name.ends_with(".log")
        || ["/log", "/logs"].iter().any(|end| folder.ends_with(end))
        || folder.contains("/var/log/")
}

/// True for a place that a program keeps what it can make anew in: without it, it only works more slowly.
pub(crate) fn is_cache(path: &str) -> bool {
    path.split(['/', '-', '_']).any(|part| matches!(part, "cache" | "caches" | ".cache"))
}

/// A user's own settings and caches (`/root/.netrc`, `/home/a/.cache/x`): every tool looks, none needs them. The name under which rsync
/// and others first write what is to replace a file (`.name.x3Yz9a`) is none.
pub(crate) fn is_private(path: &str) -> bool {
    const RANDOM: usize = 6;
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let is_temporary =
        name.strip_prefix('.').and_then(|rest| rest.rsplit_once('.')).is_some_and(|(_, end)| {
            end.len() == RANDOM && end.bytes().any(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        });
    folder.contains("/.") || (name.starts_with('.') && path.len() > name.len() && !is_temporary)
}

/// What packages bring and look for themselves; nobody gives a program a file there.
pub(crate) fn is_of_a_package(path: &str) -> bool {
    ["/usr/lib/", "/usr/libexec/", "/usr/share/"].iter().any(|folder| path.starts_with(folder))
}

/// True for a folder that is a user's home by its place; the root is one where HOME is not set.
pub(super) fn is_home(folder: &str) -> bool {
    let of_a_user = folder.strip_prefix("/home/").is_some_and(|user| !user.contains('/'));
    of_a_user || matches!(folder, "" | "/root" | "/nonexistent")
}
