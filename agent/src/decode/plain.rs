//! The kernel side's structures as bytes, and back.

use lastwords_agent_common::record;

/// A structure that any bytes of its size are a value of, and all of whose bytes may be read.
///
/// # Safety
/// Only for `#[repr(C)]` structures of integers and arrays of them without padding.
#[expect(unsafe_code, reason = "a promise that the compiler cannot check")]
pub unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($structure:ident)+) => {$(
        // SAFETY: integers and arrays of them; its size, and so that there is no padding, is asserted in agent-common.
        #[expect(unsafe_code, reason = "a promise that the compiler cannot check")]
        unsafe impl Plain for record::$structure {}
    )+};
}

plain! {
    Header CgroupMade CgroupGone WorkingDirectory Executed Exited MemoryLevel OomVictim Refused
    PortTaken Listener DnsEntry LockHeld LockEntry BlockedEntry
    FailureEntry Place RefusedCapability SignalEntry FaultEntry BuildIdEntry MappingEntry ChildExitEntry Recorder
}

/// All zeroes.
#[must_use]
pub fn zeroed<T: Plain>() -> T {
    // SAFETY: any bytes are a value.
    #[expect(unsafe_code, reason = "nested arrays have no Default")]
    unsafe {
        std::mem::zeroed()
    }
}

/// As it stands in the ring buffer.
#[must_use]
pub fn bytes_of<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: all of its bytes are initialised, and live as long as the reference.
    #[expect(unsafe_code, reason = "the records are C structures")]
    unsafe {
        std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>())
    }
}

/// The value that `bytes` begin with; None when there are too few.
#[must_use]
pub fn from_bytes<T: Plain>(bytes: &[u8]) -> Option<T> {
    let bytes = bytes.get(..size_of::<T>())?;
    // SAFETY: there are enough bytes, the read is unaligned, and any bytes are a value.
    #[expect(unsafe_code, reason = "the records are C structures")]
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
