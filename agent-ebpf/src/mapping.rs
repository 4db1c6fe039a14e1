//! What is mapped at an address of a process. The kernel's tree of mappings is walked by reading it: a tracepoint may not take the lock.
//! Another thread may change the tree meanwhile; then a wrong mapping or none is found, and the agent sees that its addresses do not
//! enclose the one that was looked for.
//!
//! Linux 6.1 replaced the red-black tree by a maple tree (mm/mmap.c, lib/maple_tree.c). Both walks choose by arithmetic: a branch a
//! round would double the ways that the verifier follows.

use core::hint::black_box;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use lastwords_agent_common::{
    limits::{FRAME_NAME_BYTES, FRAME_NAMES},
    offsets::ABSENT,
    record::MappingEntry,
};

use crate::kernel::{Address, follow, offset, read};

/// Levels of a maple tree that are walked. An inner node has 5 to 10 children and a leaf 8 to 16 mappings: 5 000 at least, most often 30 000; the
/// kernel allows a process 65 530.
const MAPLE_LEVELS: usize = 5;
/// Levels of a red-black tree: with n mappings it has at most 2·log2(n + 1), so 1 000 at least, and most often 100 000.
const TREE_LEVELS: usize = 20;
/// Nodes of a maple tree are aligned to this; the bits below hold the node's kind.
const NODE_MASK: u64 = 0xff;

/// Writes what is mapped at `address`.
#[inline(always)]
pub fn write(memory: Address, address: u64, destination: *mut MappingEntry) {
    let mapping = if offset::MM_MAPLE_ROOT.load() != ABSENT {
        in_maple_tree(memory, address)
    } else if offset::MM_TREE_ROOT.load() != ABSENT {
        in_red_black_tree(memory, address)
    } else {
        core::ptr::null()
    };
    let file = follow(mapping, &offset::VMA_FILE);
    // SAFETY: fields of a map element.
    unsafe {
        (*destination).start = read(mapping, &offset::VMA_START);
        (*destination).end = read(mapping, &offset::VMA_END);
        (*destination).page_offset = read(mapping, &offset::VMA_PAGE_OFFSET);
        (*destination).flags = read(mapping, &offset::VMA_FLAGS);
        (*destination).inode = read(follow(file, &offset::FILE_INODE), &offset::INODE_NUMBER);
    }
    let mut entry = follow(file, &offset::FILE_DENTRY);
    for index in 0..FRAME_NAMES {
        // SAFETY: `index` is below FRAME_NAMES; the helper is given the array's size and zeroes it when the name cannot be read.
        unsafe {
            let name = (&raw mut (*destination).names).cast::<[u8; FRAME_NAME_BYTES]>().add(index);
            let source = follow(entry, &offset::DENTRY_NAME);
            bpf_probe_read_kernel_str(name.cast(), FRAME_NAME_BYTES as u32, source.cast());
        }
        entry = follow(entry, &offset::DENTRY_PARENT);
    }
}

/// As `mtree_lookup_walk`: in each node the first child whose last address (pivot) is not below the one looked for. A pivot of 0 stands
/// behind the last child.
#[inline(always)]
fn in_maple_tree(memory: Address, address: u64) -> Address {
    let mut encoded: u64 = read(memory, &offset::MM_MAPLE_ROOT);
    let mut found = 0;
    for _ in 0..MAPLE_LEVELS {
        // maple_leaf_64 is 1, maple_range_64 2 and maple_arange_64 3.
        let kind = encoded >> 3 & 3;
        let is_leaf = black_box(kind >> 1 ^ 1).wrapping_neg();
        let is_arange = black_box(kind & kind >> 1).wrapping_neg();
        let node = (encoded & !NODE_MASK) as Address;
        let field = |arange: u32, range: u32| {
            node.wrapping_add(choose(is_arange, u64::from(arange), u64::from(range)) as usize)
        };
        let pivots = field(offset::MAPLE_ARANGE_PIVOTS.load(), offset::MAPLE_RANGE_PIVOTS.load());
        let slots = field(offset::MAPLE_ARANGE_SLOTS.load(), offset::MAPLE_RANGE_SLOTS.load());
        let pivot_bytes = slots as u64 - pivots as u64;
        let mut child_bytes = 0;
        for step in [8, 4, 2, 1].map(|step| step * size_of::<u64>() as u64) {
            let next = child_bytes + step;
            let pivot: u64 = read_at(pivots.wrapping_add(next as usize - size_of::<u64>()));
            let is_below = is_less(pivot.wrapping_sub(1), address) & !is_less(pivot_bytes, next);
            child_bytes += step & black_box(is_below).wrapping_neg();
        }
        let next: u64 = read_at(slots.wrapping_add(child_bytes as usize));
        found |= next & is_leaf;
        encoded = next & !is_leaf;
    }
    found as Address
}

/// As `find_vma` before Linux 6.1.
#[inline(always)]
fn in_red_black_tree(memory: Address, address: u64) -> Address {
    let mut node: u64 = read(memory, &offset::MM_TREE_ROOT);
    let mut found = 0;
    for _ in 0..TREE_LEVELS {
        let mapping = (node as Address).wrapping_sub(offset::VMA_NODE.load() as usize);
        let is_above = black_box(is_less(address, read(mapping, &offset::VMA_START))).wrapping_neg();
        let is_below = !black_box(is_less(address, read(mapping, &offset::VMA_END))).wrapping_neg();
        let left: u64 = read(node as Address, &offset::RB_LEFT);
        let right: u64 = read(node as Address, &offset::RB_RIGHT);
        let is_here = !(is_above | is_below);
        found |= mapping as u64 & is_here;
        node = left & is_above | right & is_below;
    }
    found as Address
}

/// 1 when `a` is below `b`, else 0, without a branch and without regard to the lowest bit: mappings begin at even addresses and end
/// before them.
#[inline(always)]
fn is_less(a: u64, b: u64) -> u64 {
    black_box((a >> 1).wrapping_sub(b >> 1)) >> 63
}

/// `a` where `mask` is all ones, `b` where it is zero.
#[inline(always)]
fn choose(mask: u64, a: u64, b: u64) -> u64 {
    a & mask | b & !mask
}

/// The value at `source`, zero when it cannot be read.
#[inline(always)]
fn read_at<T: Copy>(source: Address) -> T {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: as in `kernel::read`.
    unsafe {
        aya_ebpf::helpers::generated::bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            source.cast(),
        );
        value.assume_init()
    }
}
