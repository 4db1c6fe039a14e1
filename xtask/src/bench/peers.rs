//! The tools that people would use today, as Debian has them, carried into the emulated machine.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::vm::initrd::Files;

/// A tool, its program, and what it reads beside its libraries.
struct Peer {
    attached: &'static str,
    program: &'static str,
    files: &'static [&'static str],
}

const PEERS: &[Peer] = &[
    Peer { attached: "opensnoop", program: "opensnoop", files: &[] },
    Peer { attached: "exitsnoop", program: "exitsnoop", files: &[] },
    Peer { attached: "bpftrace", program: "bpftrace", files: &["/usr/sbin/opensnoop.bt"] },
];

const FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/bin"];

/// Whether this name is another's tool.
pub(super) fn is_peer(attached: &str) -> bool {
    PEERS.iter().any(|peer| peer.attached == attached)
}

/// Adds the tool of that name, or says why it is not there; nothing is done for what is ours.
pub(super) fn carry(attached: &str, files: &mut Files) -> Result<Option<String>> {
    let Some(peer) = PEERS.iter().find(|peer| peer.attached == attached) else { return Ok(None) };
    let Some(program) = installed(peer.program) else {
        return Ok(Some(format!(
            "{} is not installed; `cargo xtask setup --only bench` does that",
            peer.program
        )));
    };
    files.program(&program)?;
    for file in peer.files {
        files.copy(Path::new(file), Path::new(file.trim_start_matches('/')))?;
    }
    Ok(None)
}

fn installed(program: &str) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.exists())
}
