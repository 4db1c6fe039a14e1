//! Types that may be read from and written to kernel maps as plain bytes.

use lastwords_agent_common::{
    record::{FaultEntry, Group, Listener, Recorder},
    rules::SyscallRule,
};

/// [`Recorder`] as a map's value.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct PlainRecorder(pub Recorder);

/// [`FaultEntry`] as a map's value.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct PlainFault(pub FaultEntry);

/// [`Group`] as a map's value.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct PlainGroup(pub Group);

/// [`Listener`] as a map's value.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct PlainListener(pub Listener);

/// [`SyscallRule`] as a map's value.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct PlainRule(pub SyscallRule);

// SAFETY: integers and arrays of them without padding (sizes asserted in agent-common); every bit pattern is valid.
#[expect(unsafe_code, reason = "aya asks for this promise")]
unsafe impl aya::Pod for PlainRecorder {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "aya asks for this promise")]
unsafe impl aya::Pod for PlainFault {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "aya asks for this promise")]
unsafe impl aya::Pod for PlainGroup {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "aya asks for this promise")]
unsafe impl aya::Pod for PlainListener {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "aya asks for this promise")]
unsafe impl aya::Pod for PlainRule {}

/// A recorder with nothing in it.
#[must_use]
pub(super) fn empty_recorder() -> PlainRecorder {
    // SAFETY: as above, all zeroes are valid.
    #[expect(unsafe_code, reason = "21 KiB of nested arrays have no Default")]
    PlainRecorder(unsafe { std::mem::zeroed() })
}
