//! What was found by looking at a container's processes and files while they were there.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path, sync::Arc};

use lastwords_diagnosis::evidence::FileFacts;

use crate::{
    container::ContainerRef,
    decode::PortTaken,
    enrich::{
        environment::Environment, file_facts::RootHandle, holder::FoundHolder, limits::Limits,
        log_tail::WritableLayer, mounts::Mounts,
    },
};

/// Files that were looked at, by the path that the program passed.
pub type Files = Vec<(Vec<u8>, FileFacts)>;

/// What was seen of one container while it lived.
#[derive(Debug, Clone, Default)]
pub struct Looked {
    /// Files on which a call was refused.
    pub files: Files,
    /// Limits that its main process had.
    pub limits: Limits,
    /// Who held the addresses that it could not have.
    pub ports: Vec<PortFacts>,
    /// The root that its main process had. It keeps the container's mounts in use: drop it once the report is made.
    pub root: Option<Arc<RootHandle>>,
    /// The variables that its last program was given.
    pub environment: Environment,
    /// What was mounted when it executed its last program.
    pub mounts: Mounts,
    /// Where its own writes go. Noted at its first program: a later look would see what it mounted itself.
    pub writable: Option<Arc<WritableLayer>>,
    /// Paths that it had missed and that were there once it had ended: it made them itself.
    pub made: Vec<Vec<u8>>,
    /// Options of its last program that occur nowhere in that one's file, when others do.
    pub unknown_options: Vec<String>,
    /// Processes that held locks which it wanted, by the process that had taken the lock. The latest ones; the looker bounds them.
    pub holders: Vec<(u32, FoundHolder)>,
}

impl Looked {
    /// Notes which of these absolute paths are there by now. Blocks as long as the file system does.
    pub fn look_for(&mut self, missed: Vec<Vec<u8>>) {
        let Some(root) = &self.root else { return };
        self.made = missed;
        self.made.retain(|path| root.has(Path::new(OsStr::from_bytes(path))));
    }
}

/// What is known of one bind(2) or listen(2) that failed with EADDRINUSE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortFacts {
    /// The call, with what the kernel knew of its socket.
    pub taken: PortTaken,
    /// Who has the address.
    pub holder: Option<PortHolder>,
    /// Without a holder: there is none on this node.
    pub looked_for: bool,
}

/// A process that has a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortHolder {
    /// Host's view.
    pub pid: u32,
    /// Its name.
    pub comm: Vec<u8>,
    /// Its container; None when it runs in none.
    pub container: Option<ContainerRef>,
}
