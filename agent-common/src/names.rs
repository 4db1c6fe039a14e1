//! Which files that a container opens while it starts are kept: what looks like configuration among those it reads, what looks like a
//! log among those it writes. Decided by the ends of the path as it was passed, so that the kernel side needs some hundred
//! instructions for it. The agent looks closer; this keeps the hundreds of libraries, modules, certificates and fonts out.

/// What a pattern says of the paths that fit it.
pub mod says {
    /// Opened for reading it looks like configuration.
    pub const CONFIGURATION: u64 = 1;
    /// Everybody reads it, or hundreds like it.
    pub const COMMON: u64 = 2;
    /// Opened for writing it looks like a log.
    pub const LOG: u64 = 4;
    /// It is no file of the container's.
    pub const SYSTEM: u64 = 8;
}

/// Up to sixteen bytes at one end of a path.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    /// The eight bytes at the end in question.
    pub near: u64,
    /// Those of them that count.
    pub near_mask: u64,
    /// The eight bytes beside those.
    pub far: u64,
    /// Those of them that count.
    pub far_mask: u64,
    /// See [`says`].
    pub says: u64,
}

impl Pattern {
    /// Whether a path with these bytes at its end fits.
    #[inline(always)]
    #[must_use]
    pub fn fits(self, near: u64, far: u64) -> bool {
        (near ^ self.near) & self.near_mask | (far ^ self.far) & self.far_mask == 0
    }

    const fn begins(bytes: &[u8], says: u64) -> Self {
        let (near, near_mask) = number(bytes, 0);
        let (far, far_mask) = number(bytes, 8);
        Self { near, near_mask, far, far_mask, says }
    }

    const fn ends(bytes: &[u8], says: u64) -> Self {
        let (far, far_mask) = number_before(bytes, 8);
        let (near, near_mask) = number_before(bytes, 0);
        Self { near, near_mask, far, far_mask, says }
    }
}

/// The eight bytes from `from` on as they stand in memory, and those of them that there are.
const fn number(bytes: &[u8], from: usize) -> (u64, u64) {
    let (mut number, mut mask, mut place) = (0, 0, 0);
    while place < 8 && from + place < bytes.len() {
        number |= (bytes[from + place] as u64) << (8 * place);
        mask |= 0xff << (8 * place);
        place += 1;
    }
    (number, mask)
}

/// The eight bytes that end `before` bytes before the end.
const fn number_before(bytes: &[u8], before: usize) -> (u64, u64) {
    let (mut number, mut mask, mut place) = (0, 0, 0);
    while place < 8 && before + place < bytes.len() {
        number |= (bytes[bytes.len() - 1 - before - place] as u64) << (8 * (7 - place));
        mask |= 0xff << (8 * (7 - place));
        place += 1;
    }
    (number, mask)
}

use says::{COMMON, CONFIGURATION, LOG, SYSTEM};

/// By bytes 0 to 7 (near) and 8 to 15 (far).
pub static BEGINNINGS: [Pattern; 39] = [
    Pattern::begins(b"/proc/", SYSTEM),
    Pattern::begins(b"/sys/", SYSTEM),
    Pattern::begins(b"/dev/", SYSTEM),
    Pattern::begins(b"/etc/", CONFIGURATION),
    // /conf, /config, /configuration.
    Pattern::begins(b"/conf", CONFIGURATION),
    Pattern::begins(b"/var/run/secrets", CONFIGURATION),
    Pattern::begins(b"/run/secrets/", CONFIGURATION),
    Pattern::begins(b"/lib", COMMON),
    Pattern::begins(b"/usr/lib", COMMON),
    Pattern::begins(b"/usr/local/lib", COMMON),
    // What C libraries, shells and language runtimes read.
    Pattern::begins(b"/etc/bash", COMMON),
    Pattern::begins(b"/etc/ca-certific", COMMON),
    Pattern::begins(b"/etc/crypto-poli", COMMON),
    Pattern::begins(b"/etc/debian_vers", COMMON),
    Pattern::begins(b"/etc/fonts/", COMMON),
    Pattern::begins(b"/etc/gai.conf", COMMON),
    Pattern::begins(b"/etc/group\0", COMMON),
    Pattern::begins(b"/etc/host.conf\0", COMMON),
    Pattern::begins(b"/etc/hostname\0", COMMON),
    Pattern::begins(b"/etc/hosts\0", COMMON),
    Pattern::begins(b"/etc/inputrc\0", COMMON),
    Pattern::begins(b"/etc/java-", COMMON),
    Pattern::begins(b"/etc/ld.", COMMON),
    Pattern::begins(b"/etc/localtime\0", COMMON),
    Pattern::begins(b"/etc/machine-id\0", COMMON),
    Pattern::begins(b"/etc/nsswitch.co", COMMON),
    Pattern::begins(b"/etc/os-release\0", COMMON),
    Pattern::begins(b"/etc/passwd\0", COMMON),
    Pattern::begins(b"/etc/perl/", COMMON),
    Pattern::begins(b"/etc/pki/", COMMON),
    Pattern::begins(b"/etc/profile", COMMON),
    Pattern::begins(b"/etc/protocols\0", COMMON),
    Pattern::begins(b"/etc/python", COMMON),
    Pattern::begins(b"/etc/resolv.conf", COMMON),
    Pattern::begins(b"/etc/services\0", COMMON),
    Pattern::begins(b"/etc/ssl/certs", COMMON),
    Pattern::begins(b"/etc/ssl/openssl", COMMON),
    Pattern::begins(b"/etc/terminfo", COMMON),
    Pattern::begins(b"/etc/timezone\0", COMMON),
];

/// By the last eight bytes (near) and the eight before them (far).
pub static ENDINGS: [Pattern; 22] = [
    Pattern::ends(b".conf", CONFIGURATION),
    Pattern::ends(b".cnf", CONFIGURATION),
    Pattern::ends(b".cfg", CONFIGURATION),
    Pattern::ends(b".config", CONFIGURATION),
    Pattern::ends(b".ini", CONFIGURATION),
    Pattern::ends(b".yaml", CONFIGURATION),
    Pattern::ends(b".yml", CONFIGURATION),
    Pattern::ends(b".json", CONFIGURATION),
    Pattern::ends(b".toml", CONFIGURATION),
    Pattern::ends(b".xml", CONFIGURATION),
    Pattern::ends(b".env", CONFIGURATION),
    Pattern::ends(b".properties", CONFIGURATION),
    // Of programs that are configured in their own language: gunicorn.conf.py.
    Pattern::ends(b"conf.py", CONFIGURATION),
    Pattern::ends(b".hcl", CONFIGURATION),
    Pattern::ends(b".vcl", CONFIGURATION),
    // Caddyfile, Corefile, Procfile, Makefile; but .profile is a shell's.
    Pattern::ends(b"file", CONFIGURATION),
    Pattern::ends(b"profile", COMMON),
    // Of each module that Node looks at.
    Pattern::ends(b"/package.json", COMMON),
    Pattern::ends(b"log", LOG),
    Pattern::ends(b".out", LOG),
    Pattern::ends(b".err", LOG),
    Pattern::ends(b".txt", LOG),
];

const _: () = assert!(size_of::<Pattern>() == 40);

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel side does it: with the terminating zero, and whatever stands before and behind.
    fn said(path: &str) -> u64 {
        let mut bytes = [b'x'; 128];
        bytes[16..16 + path.len()].copy_from_slice(path.as_bytes());
        bytes[16 + path.len()] = 0;
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let end = 16 + path.len();
        BEGINNINGS
            .iter()
            .filter(|pattern| pattern.fits(word(16), word(24)))
            .chain(ENDINGS.iter().filter(|pattern| pattern.fits(word(end - 8), word(end - 16))))
            .fold(0, |said, pattern| said | pattern.says)
    }

    #[test]
    fn configuration_is_told_from_what_everybody_reads() {
        for (path, expected) in [
            ("/etc/nginx/nginx.conf", CONFIGURATION),
            ("/etc/redis/redis.conf", CONFIGURATION),
            ("/etc/service/token", CONFIGURATION),
            ("/etc/hosts.d/own", CONFIGURATION),
            ("/etc/passwords.yaml", CONFIGURATION),
            ("config.json", CONFIGURATION),
            ("/app/src/main/resources/application.properties", CONFIGURATION),
            ("/config/settings", CONFIGURATION),
            ("/var/run/secrets/kubernetes.io/serviceaccount/token", CONFIGURATION),
            ("/var/lib/postgresql/data/postgresql.conf", CONFIGURATION),
            ("/srv/storage.json", CONFIGURATION),
            ("/app/node_modules/a/package.json", CONFIGURATION | COMMON),
            ("/etc/ld.so.cache", CONFIGURATION | COMMON),
            ("/etc/hosts", CONFIGURATION | COMMON),
            ("/etc/ssl/certs/ca-certificates.crt", CONFIGURATION | COMMON),
            ("/usr/lib/python3.11/os.py", COMMON),
            ("/usr/lib/locale/locale.json", CONFIGURATION | COMMON),
            ("/lib/x86_64-linux-gnu/libc.so.6", COMMON),
            ("/proc/self/maps", SYSTEM),
            ("/config/Caddyfile", CONFIGURATION),
            ("/srv/Corefile", CONFIGURATION),
            ("/app/gunicorn.conf.py", CONFIGURATION),
            ("/root/.bash_profile", CONFIGURATION | COMMON),
            ("/app/main.py", 0),
            ("a", 0),
            ("conf", 0),
            ("/var/log/nginx/error.log", LOG),
            ("/var/log/nginx/access_log", LOG),
            ("/tmp/out.txt", LOG),
            ("/data/app.db", 0),
        ] {
            assert_eq!(said(path), expected, "{path}");
        }
    }
}
