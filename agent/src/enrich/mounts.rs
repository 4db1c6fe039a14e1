//! What is mounted where in a mount namespace, as `mountinfo` says it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The mounts of one mount namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mounts(Vec<Mount>);

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where, as the container sees it.
    pub point: PathBuf,
    /// For example `overlay`, `tmpfs`.
    pub file_system: String,
    /// True when this mount, or the file system as a whole, is mounted read-only.
    pub read_only: bool,
    /// Of an overlay: the directory that takes what is written to it, as whoever mounted it sees it.
    pub upper: Option<PathBuf>,
}

impl Mounts {
    /// Reads the lines of a `mountinfo` file; what is not understood, such as a last line cut in its middle, is left out.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        Self(bytes.split(|byte| *byte == b'\n').filter_map(parse_mount).collect())
    }

    /// The mount on which `path` lies; of several at the same point the last, which covers the others.
    #[must_use]
    pub fn of(&self, path: &Path) -> Option<&Mount> {
        let around = self.0.iter().filter(|mount| path.starts_with(&mount.point));
        around.max_by_key(|mount| mount.point.components().count())
    }
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let point = fields.nth(4)?;
    let options = fields.next()?;
    fields.find(|field| *field == b"-")?;
    let file_system = fields.next()?;
    let super_options = fields.nth(1)?;
    let is_read_only = |options: &[u8]| options.split(|byte| *byte == b',').any(|option| option == b"ro");
    Some(Mount {
        point: PathBuf::from(OsString::from_vec(unescape(point))),
        file_system: String::from_utf8_lossy(file_system).into_owned(),
        read_only: is_read_only(options) || is_read_only(super_options),
        upper: (file_system == b"overlay").then(|| upper_directory(super_options)).flatten(),
    })
}

/// Commas in the path are escaped (ovl_show_options, fs/overlayfs/super.c and params.c).
fn upper_directory(super_options: &[u8]) -> Option<PathBuf> {
    let mut options = super_options.split(|byte| *byte == b',');
    let path = unescape(options.find_map(|option| option.strip_prefix(b"upperdir="))?);
    path.starts_with(b"/").then(|| PathBuf::from(OsString::from_vec(path)))
}

/// The kernel writes blanks, tabs, newlines and backslashes as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = |digit: u8| matches!(digit, b'0'..=b'7').then(|| u32::from(digit - b'0'));
        let escaped = match rest {
            [b'\\', a, b, c, after @ ..] => {
                octal(*a).zip(octal(*b)).zip(octal(*c)).map(|((a, b), c)| (a << 6 | b << 3 | c, after))
            }
            _ => None,
        };
        if let Some((byte, after)) =
            escaped.and_then(|(value, after)| Some((u8::try_from(value).ok()?, after)))
        {
            plain.push(byte);
            rest = after;
        } else {
            plain.push(*first);
            rest = tail;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_mount_of_a_path() {
        let mounts = Mounts::parse(
            b"100 99 0:50 / / ro,relatime master:1 - overlay overlay rw,lowerdir=/a\n\
              101 100 0:51 / /proc rw,nosuid - proc proc rw\n\
              102 100 8:1 /pods/x /data rw - ext4 /dev/sda1 rw\n\
              103 102 0:52 / /data/my\\040files rw - tmpfs tmpfs ro\n\
              104 100 0:53 / /data rw shared:1 master:2 - nfs4 server:/x rw\n\
              105 100 0:5",
        );
        let of = |path: &str| {
            mounts.of(Path::new(path)).map(|mount| (mount.file_system.as_str(), mount.read_only))
        };
        assert_eq!(of("/etc/passwd"), Some(("overlay", true)));
        assert_eq!(of("/data/app.db"), Some(("nfs4", false)));
        assert_eq!(of("/database"), Some(("overlay", true)));
        assert_eq!(of("/data/my files/x"), Some(("tmpfs", true)));
        assert_eq!(Mounts::parse(b"\xff\n\n - - - - - -").of(Path::new("/")), None);
        assert_eq!(unescape(br"a\134\08\9\777"), br"a\\08\9\777");
    }

    #[test]
    fn finds_the_upper_directory_of_an_overlay() {
        let upper =
            |line: &str| Mounts::parse(line.as_bytes()).of(Path::new("/")).and_then(|it| it.upper.clone());
        assert_eq!(
            upper(
                "1 0 0:1 / / rw - overlay overlay rw,lowerdir=/a:/b,upperdir=/my\\040fs\\054/u,workdir=/w\n"
            ),
            Some(PathBuf::from("/my fs,/u"))
        );
        assert_eq!(upper("1 0 0:1 / / rw - overlay overlay rw,lowerdir=/a:/b\n"), None);
        assert_eq!(upper("1 0 0:1 / / rw - overlay overlay rw,upperdir=u\n"), None);
        assert_eq!(upper("1 0 8:1 / / rw - ext4 /dev/sda rw,upperdir=/u\n"), None);
    }
}
