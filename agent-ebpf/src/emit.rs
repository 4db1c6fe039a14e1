//! The ring buffer: rare life-cycle records.

use lastwords_agent_common::record::{Counter, Header};

use crate::{
    container::Container,
    kernel::now,
    maps::{RECORDS, count},
};

/// Reserves a record, has `fill` write every field after the header, and sends it; counts it when there is no room. Ring memory
/// is not zeroed: `fill` writes every byte that the agent may read.
#[inline(always)]
pub fn emit<T: 'static>(kind: u32, container: u64, recorder: u32, fill: impl FnOnce(*mut T)) {
    let Some(mut entry) = RECORDS.reserve::<T>(0) else {
        count(Counter::RingFull);
        count(Counter::RingRecords);
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: every record begins with a header, and the entry has room for a whole record.
    unsafe { record.cast::<Header>().write(Header { kind, recorder, time: now(), cgroup_id: container }) };
    fill(record);
    entry.submit(0);
    // Not before: what is counted can be read.
    count(Counter::RingRecords);
}

/// As [`emit`], for a container that is known.
#[inline(always)]
pub fn emit_for<T: 'static>(kind: u32, container: Container, fill: impl FnOnce(*mut T)) {
    emit(kind, container.id(), container.slot(), fill);
}
