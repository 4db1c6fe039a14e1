//! Which file a command is: looked for in PATH once, as a runtime does.

use std::{
    ffi::{OsStr, OsString},
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::Path,
};

/// PATH of every tried command.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The file that `command` names: itself when it has a slash, else the first executable file in [`PATH`]. When there is none it is
/// the name as it stands, and the kernel says what is wrong with it.
pub(super) fn resolve(command: &OsStr) -> OsString {
    if command.as_bytes().contains(&b'/') {
        return command.to_owned();
    }
    let candidates = PATH.split(':').map(|directory| Path::new(directory).join(command));
    candidates
        .into_iter()
        .find(|file| is_executable(file))
        .map_or_else(|| command.to_owned(), |file| file.into_os_string())
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
