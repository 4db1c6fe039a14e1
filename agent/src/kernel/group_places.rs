//! Which groups are known, by their place ([`lastwords_agent_common::group_place`]). Both sides add to it, so the map's memory is shared.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::{Map, MapData, MapError};
use lastwords_agent_common::{group_place, limits::GROUP_PLACES, record::Group};
use nix::libc;

const BYTES: usize = GROUP_PLACES as usize * size_of::<AtomicU64>();

/// The sums.
pub(super) struct GroupPlaces {
    sums: NonNull<AtomicU64>,
    /// Its descriptor has to stay open until the programs that use it are loaded.
    _map: MapData,
}

// SAFETY: the memory is the map's, is there until the end of this value, and is used by atomic instructions alone.
#[expect(unsafe_code, reason = "memory that is shared with the kernel belongs to no thread")]
unsafe impl Send for GroupPlaces {}

impl GroupPlaces {
    /// Shares the map's memory.
    ///
    /// # Errors
    /// When the kernel refuses that; it never does for a map that was made to be shared (Linux 5.5).
    pub(super) fn new(map: Map) -> Result<Self, MapError> {
        let Map::Array(map) = map else {
            return Err(MapError::IoError(io::ErrorKind::InvalidInput.into()));
        };
        #[expect(unsafe_code, reason = "shared memory has no safe wrapper")]
        // SAFETY: a new mapping, at an address of the kernel's choice; the map has this many elements of eight bytes.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error().into());
        }
        let sums = NonNull::new(address.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::AddrInUse))?;
        Ok(Self { sums, _map: map })
    }

    /// A group was remembered.
    pub(super) fn add(&self, cgroup_id: u64, group: &Group) {
        self.sum(cgroup_id).fetch_add(group_place::number(cgroup_id, group.recorder), Ordering::Relaxed);
    }

    /// A group that was remembered so was forgotten.
    pub(super) fn subtract(&self, cgroup_id: u64, group: &Group) {
        self.sum(cgroup_id).fetch_sub(group_place::number(cgroup_id, group.recorder), Ordering::Relaxed);
    }

    fn sum(&self, cgroup_id: u64) -> &AtomicU64 {
        let place = group_place::place(cgroup_id) as usize;
        #[expect(unsafe_code, reason = "as in `new`")]
        // SAFETY: below the number of elements of the mapping, which lives as long as this; aligned and always initialised.
        unsafe {
            self.sums.add(place).as_ref()
        }
    }
}

impl Drop for GroupPlaces {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "as in `new`")]
        // SAFETY: the mapping that `new` made, to which no reference is left.
        unsafe {
            libc::munmap(self.sums.as_ptr().cast(), BYTES);
        }
    }
}
