//! Names for the frames of a fault: the file as the container sees it, the function, the line.
//!
//! On a thread of its own, because files can be slow and what stands in them is the container's: a report waits for it no longer than
//! [`PATIENCE`] and then goes without names. A file counts only when it is the one that was mapped: its build id is the recorded one,
//! or, where it has none, its inode number is.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{Input, Symbolizer};

use super::file_facts::RootHandle;
use super::module::Module;
use crate::counters;
use crate::decode::Frame;

/// Faults that wait for names. Crashes by faults are rare; when many come at once the later ones go without.
const QUEUE: usize = 8;
/// How long a report waits. The largest file that is looked at takes about a second on a cold disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was found out about one frame.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Named {
    /// The file, as the container sees it.
    pub path: Vec<u8>,
    /// Its build id.
    pub build_id: Vec<u8>,
    /// The function, demangled; empty when the file has no symbol there.
    pub symbol: String,
    /// From its first byte, in bytes.
    pub symbol_offset: u64,
    /// Source file; empty without debug information.
    pub file: Vec<u8>,
    /// Line in it.
    pub line: u32,
}

/// Frames, and where to look for their files.
pub struct Query {
    /// The frames.
    pub frames: Vec<Frame>,
    /// The container's root.
    pub root: Arc<RootHandle>,
    /// The file that the process executed, as the container sees it.
    pub executable: Option<Vec<u8>>,
    /// Bytes of a page of memory.
    pub page_bytes: u64,
}

/// The thread that names. It ends when this is dropped.
#[derive(Clone)]
pub struct Symbols {
    jobs: SyncSender<(Query, tokio::sync::oneshot::Sender<Vec<Option<Named>>>)>,
}

impl Symbols {
    /// Starts it.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start() -> io::Result<Self> {
        let (sender, jobs) = sync_channel(QUEUE);
        std::thread::Builder::new().name("symbols".to_owned()).spawn(move || run(&jobs))?;
        Ok(Self { jobs: sender })
    }

    /// One answer a frame; none at all when it took too long.
    pub async fn name(&self, query: Query) -> Vec<Option<Named>> {
        let (reply, named) = tokio::sync::oneshot::channel();
        if self.jobs.try_send((query, reply)).is_err() {
            counters::SYMBOLS_LATE.increment();
            return Vec::new();
        }
        match tokio::time::timeout(PATIENCE, named).await {
            Ok(Ok(named)) => named,
            Ok(Err(_)) | Err(_) => {
                counters::SYMBOLS_LATE.increment();
                Vec::new()
            }
        }
    }
}

fn run(jobs: &Receiver<(Query, tokio::sync::oneshot::Sender<Vec<Option<Named>>>)>) {
    while let Ok((query, reply)) = jobs.recv() {
        if reply.is_closed() {
            continue;
        }
        // What a container wrote into a file may find a fault in the library that reads it.
        let named = catch_unwind(AssertUnwindSafe(|| named(&query))).unwrap_or_default();
        // The one who asked may have lost patience.
        let _ = reply.send(named);
    }
}

/// A file that was found again.
struct Found {
    path: PathBuf,
    build_id: Vec<u8>,
    /// Its symbols; None when there are none or too many.
    copy: Option<File>,
}

fn named(query: &Query) -> Vec<Option<Named>> {
    // With inlined functions told apart a frame has the line of its own function, not of what was inlined there.
    let symbolizer = Symbolizer::builder()
        .enable_auto_reload(false)
        .enable_inlined_fns(true)
        .set_debug_dirs(None::<[&Path; 0]>)
        .build();
    // By the file's name and inode number: a stack passes through few files.
    let mut files: HashMap<(&[Vec<u8>], u64), Option<Found>> = HashMap::new();
    let name = |(number, frame): (usize, &Frame)| {
        let mapping = query.frames.get(number)?.mapping.as_ref().filter(|it| it.inode != 0)?;
        let found = files
            .entry((mapping.names.as_slice(), mapping.inode))
            .or_insert_with(|| find(query, number))
            .as_ref()?;
        let mut named = Named {
            path: found.path.as_os_str().as_bytes().to_vec(),
            build_id: found.build_id.clone(),
            ..Named::default()
        };
        if let Some((copy, offset)) = found.copy.as_ref().zip(frame.file_offset(query.page_bytes)) {
            // A caller's address is the one behind its call, which may be the next function's first.
            let before = u64::from(number > 0);
            add_symbol(&symbolizer, copy, offset.saturating_sub(before), before, &mut named);
        }
        Some(named)
    };
    query.frames.iter().enumerate().map(name).collect()
}

fn add_symbol(symbolizer: &Symbolizer, copy: &File, offset: u64, before: u64, named: &mut Named) {
    let mut elf = Elf::new(format!("/proc/self/fd/{}", copy.as_raw_fd()));
    // The symbol table has whole names (`app::parse`), debug information often only their ends; and that alone has lines.
    for with_debug_information in [false, true] {
        elf.debug_syms = with_debug_information;
        let source = Source::Elf(elf.clone());
        let Ok(symbolized) = symbolizer.symbolize_single(&source, Input::FileOffset(offset)) else {
            continue;
        };
        let Some(symbol) = symbolized.as_sym() else { continue };
        if named.symbol.is_empty() {
            symbol.name.as_ref().clone_into(&mut named.symbol);
            named.symbol_offset = symbol.offset as u64 + before;
        }
        if let Some(code) = &symbol.code_info {
            named.file = code.to_path().as_os_str().as_bytes().to_vec();
            named.line = code.line.unwrap_or(0);
        }
    }
}

/// The file of a frame, below the container's root. The kernel knows it by its path within its own file system: that of an image's
/// layer ends like the container's path, so each end is tried, the longest first.
fn find(query: &Query, number: usize) -> Option<Found> {
    let frame = query.frames.get(number)?;
    let mapping = frame.mapping.as_ref()?;
    let name = mapping.names.first()?;
    let executable = query.executable.as_deref().map(|path| Path::new(OsStr::from_bytes(path)));
    let executable = executable.filter(|path| path.file_name().is_some_and(|last| last.as_bytes() == name));
    let ends = (1..=mapping.names.len()).rev().map(|count| {
        let parts = mapping.names.get(..count).unwrap_or_default().iter().rev();
        parts.fold(PathBuf::from("/"), |path, part| path.join(OsStr::from_bytes(part)))
    });
    executable.map(Path::to_owned).into_iter().chain(ends).find_map(|path| {
        let file = query.root.open_file(&path).ok()?;
        let inode = file.metadata().ok()?.ino();
        let module = Module::read(file)?;
        let build_id = module.build_id();
        let is_it = match &frame.build_id {
            Some((recorded, _)) => !build_id.is_empty() && is_same(recorded, &build_id),
            None => inode == mapping.inode,
        };
        is_it.then(|| Found { path, build_id, copy: module.copy() })
    })
}

/// The kernel gives 20 bytes and fills a shorter id up with zeroes.
fn is_same(recorded: &[u8], of_file: &[u8]) -> bool {
    let length = recorded.len().max(of_file.len());
    let padded = |id: &[u8]| id.iter().copied().chain(std::iter::repeat(0)).take(length).collect::<Vec<u8>>();
    padded(recorded) == padded(of_file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Mapping;
    use crate::enrich::procfs::HostProc;

    /// A frame at this very function, as the kernel would record it.
    fn frame_here(build_id: Option<Vec<u8>>) -> (Frame, PathBuf) {
        let address = frame_here as *const () as u64 + 1;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let executable = std::env::current_exe().unwrap();
        let line = maps
            .lines()
            .find(|line| {
                let (start, rest) = line.split_once('-').unwrap();
                let end = rest.split(' ').next().unwrap();
                let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
                (number(start)..number(end)).contains(&address)
            })
            .unwrap();
        let fields: Vec<&str> = line.split_whitespace().collect();
        let start = u64::from_str_radix(fields[0].split('-').next().unwrap(), 16).unwrap();
        let names = executable.components().rev().map(|part| part.as_os_str().as_bytes().to_vec());
        let mapping = Mapping {
            distance: address - start,
            page_offset: u64::from_str_radix(fields[2], 16).unwrap() / 4096,
            inode: fields[4].parse().unwrap(),
            executable: true,
            names: names.filter(|name| name != b"/").take(8).collect(),
            complete: true,
        };
        let offset = mapping.page_offset * 4096 + mapping.distance;
        let build_id = build_id.map(|id| (id, offset));
        (Frame { instruction: address, build_id, mapping: Some(mapping) }, executable)
    }

    fn query(frame: Frame) -> Query {
        let root = HostProc::new(Path::new("/proc")).root_of(std::process::id()).unwrap();
        Query { frames: vec![frame], root: Arc::new(root), executable: None, page_bytes: 4096 }
    }

    #[test]
    fn a_function_of_this_program_gets_its_name_file_and_line() {
        let (frame, executable) = frame_here(None);
        let named = named(&query(frame)).remove(0).unwrap();
        assert_eq!(named.path, executable.as_os_str().as_bytes());
        assert!(named.symbol.contains("symbols::tests::frame_here"), "{named:?}");
        assert!(named.file.ends_with(b"symbols.rs") && named.line > 0, "{named:?}");
    }

    #[test]
    fn another_build_of_the_file_gives_no_names() {
        let (mut frame, _) = frame_here(Some(vec![1; 20]));
        assert_eq!(named(&query(frame.clone())), [None], "by its build id");
        frame.build_id = None;
        frame.mapping.as_mut().unwrap().inode += 1;
        assert_eq!(named(&query(frame)), [None], "by its inode number");
    }

    #[test]
    fn short_build_ids_are_compared_without_their_filling() {
        assert!(is_same(&[1, 2, 0, 0], &[1, 2]) && is_same(&[1, 2], &[1, 2]));
        assert!(!is_same(&[1, 2, 0, 0], &[1, 3]) && !is_same(&[1, 2], &[1, 2, 3]));
    }
}
