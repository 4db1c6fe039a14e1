//! Where a fault happened → frames, as far as they can be believed.

use lastwords_agent_common::record::{BuildIdEntry, FaultEntry, MappingEntry};

use super::until_zero;

/// `BPF_STACK_BUILD_ID_VALID` (include/uapi/linux/bpf.h).
const BUILD_ID_VALID: i32 = 1;
/// `VM_EXEC` (include/linux/mm.h).
const VM_EXEC: u64 = 4;
/// Lengths of build ids in use: SHA-1, MD5 or UUID, and the fast hash of LLVM's linker.
const BUILD_ID_LENGTHS: [usize; 3] = [8, 16, 20];

/// Where a signal was raised.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// The thread.
    pub tid: u32,
    /// Its name.
    pub comm: Vec<u8>,
    /// The instruction, then its callers.
    pub frames: Vec<Frame>,
}

/// One address of the process's code.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frame {
    /// The address.
    pub instruction: u64,
    /// Build id and offset in the file; None when the kernel could not read the build id.
    pub build_id: Option<(Vec<u8>, u64)>,
    /// What is mapped there; None when nothing is, or when it changed meanwhile.
    pub mapping: Option<Mapping>,
}

impl Frame {
    /// Where the instruction lies in its file, in bytes; None when it lies in none.
    #[must_use]
    pub fn file_offset(&self, page_bytes: u64) -> Option<u64> {
        let by_build_id = self.build_id.as_ref().map(|(_, offset)| *offset);
        let in_file = |it: &&Mapping| it.inode != 0 && !it.names.is_empty();
        by_build_id.or_else(|| {
            let mapping = self.mapping.as_ref().filter(in_file)?;
            mapping.page_offset.checked_mul(page_bytes)?.checked_add(mapping.distance)
        })
    }
}

/// What is mapped at an address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mapping {
    /// From the mapping's first address to the frame's, in bytes.
    pub distance: u64,
    /// Where in the file the mapping begins, in pages.
    pub page_offset: u64,
    /// Inode number of the file; 0 for memory without one (a just-in-time compiler's, the vDSO).
    pub inode: u64,
    /// Code may be run there.
    pub executable: bool,
    /// The file's name, its directory's and so on upwards, as far as it is known.
    pub names: Vec<Vec<u8>>,
    /// `names` reaches the root of the file's file system.
    pub complete: bool,
}

/// Reads a place; None when two processors wrote it at once.
#[must_use]
pub fn place(entry: &FaultEntry) -> Option<Place> {
    if entry.begin == 0 || entry.begin != entry.end {
        return None;
    }
    let of = |bytes: i64, size: usize| usize::try_from(bytes).unwrap_or(0) / size;
    let count = of(entry.instruction_bytes, size_of::<u64>());
    let with_build_id = of(entry.build_id_bytes, size_of::<BuildIdEntry>());
    let all = entry.instructions.iter().zip(&entry.mappings).zip(&entry.build_ids).take(count);
    let mut frames = Vec::new();
    for (number, ((instruction, mapped), build_id)) in all.enumerate() {
        let mapping = mapping(mapped, *instruction);
        // Code that is compiled without frame pointers leads to values that are none. One that lies in no code ends the way; the
        // instruction itself is a fact, wherever it lies.
        if number > 0 && !mapping.as_ref().is_some_and(|mapping| mapping.executable) {
            break;
        }
        // Where nothing is mapped the kernel gives the build id of the next mapping above (stack_map_get_build_id_offset).
        let known = mapping.is_some() && number < with_build_id && build_id.status == BUILD_ID_VALID;
        frames.push(Frame {
            instruction: *instruction,
            build_id: known.then(|| (trimmed(&build_id.build_id), build_id.offset)),
            mapping,
        });
    }
    Some(Place { tid: entry.tid, comm: until_zero(&entry.comm).to_vec(), frames })
}

fn mapping(entry: &MappingEntry, instruction: u64) -> Option<Mapping> {
    if instruction < entry.start || instruction >= entry.end {
        return None;
    }
    let mut names = Vec::new();
    let mut complete = false;
    for name in entry.names.iter().map(|name| (until_zero(name), name.len())) {
        match name {
            (b"/", _) => {
                complete = true;
                break;
            }
            // Cut, or not readable.
            (name, size) if name.is_empty() || name.len() + 1 >= size => {
                if names.is_empty() && !name.is_empty() {
                    names.push(name.to_vec());
                }
                break;
            }
            (name, _) => names.push(name.to_vec()),
        }
    }
    Some(Mapping {
        distance: instruction - entry.start,
        page_offset: entry.page_offset,
        inode: entry.inode,
        executable: entry.flags & VM_EXEC != 0,
        names,
        complete,
    })
}

/// Without the zeroes that the kernel fills a short build id up with. A longer one may end in zeroes of its own: only as many are taken
/// off as a shorter kind would leave.
fn trimmed(build_id: &[u8]) -> Vec<u8> {
    let used = build_id.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let length = BUILD_ID_LENGTHS.into_iter().find(|length| used <= *length).unwrap_or(build_id.len());
    build_id.get(..length).unwrap_or(build_id).to_vec()
}

#[cfg(test)]
mod tests {
    use lastwords_agent_common::limits::FRAME_NAME_BYTES;

    use super::*;
    use crate::decode::zeroed;

    fn named(text: &[u8]) -> [u8; FRAME_NAME_BYTES] {
        let mut name = [0; FRAME_NAME_BYTES];
        name[..text.len()].copy_from_slice(text);
        name
    }

    /// Two frames in `/bin/app`, mapped from its second page on, and behind them a value that is no code.
    fn entry() -> FaultEntry {
        let mut entry: FaultEntry = zeroed();
        (entry.begin, entry.end) = (7, 7);
        (entry.instruction_bytes, entry.build_id_bytes) = (3 * 8, 3 * 32);
        entry.instructions[..3].copy_from_slice(&[0x1010, 0x1020, 0x9000]);
        for (mapping, build_id) in entry.mappings.iter_mut().zip(&mut entry.build_ids).take(3) {
            (mapping.start, mapping.end, mapping.page_offset) = (0x1000, 0x2000, 1);
            (mapping.flags, mapping.inode) = (VM_EXEC, 9);
            mapping.names[..3].copy_from_slice(&[named(b"app"), named(b"bin"), named(b"/")]);
            (build_id.status, build_id.build_id[0], build_id.offset) = (BUILD_ID_VALID, 0xab, 0x77);
        }
        entry
    }

    #[test]
    fn frames_end_where_no_code_is() {
        let place = place(&entry()).unwrap();
        assert_eq!(place.frames.len(), 2);
        let mapping = place.frames[1].mapping.as_ref().unwrap();
        assert_eq!((mapping.distance, mapping.complete), (0x20, true));
        assert_eq!(mapping.names, [b"app".to_vec(), b"bin".to_vec()]);
        assert_eq!(place.frames[0].build_id, Some((vec![0xab, 0, 0, 0, 0, 0, 0, 0], 0x77)));
    }

    #[test]
    fn without_a_build_id_the_mapping_tells_the_offset() {
        let mut entry = entry();
        entry.build_ids[0].status = 2;
        assert_eq!(place(&entry).unwrap().frames[0].file_offset(4096), Some(4096 + 0x10));
        entry.mappings[0].inode = 0;
        assert_eq!(place(&entry).unwrap().frames[0].file_offset(4096), None, "memory without a file");
    }

    #[test]
    fn an_instruction_where_nothing_is_mapped_is_in_no_file() {
        let mut entry = entry();
        entry.instructions[0] = 16;
        let frames = place(&entry).unwrap().frames;
        assert_eq!((frames[0].mapping.as_ref(), frames[0].build_id.as_ref()), (None, None));
        assert_eq!(frames.len(), 2, "its callers are frames all the same");
    }

    #[test]
    fn a_torn_or_unreadable_stack_gives_nothing() {
        let mut entry = entry();
        entry.instruction_bytes = -14;
        assert!(place(&entry).unwrap().frames.is_empty());
        entry.end = 8;
        assert_eq!(place(&entry), None);
    }
}
