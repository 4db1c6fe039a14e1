//! What the map `GROUP_PLACES` says of the groups whose number has one place: the sum over them of a number each. While there is one of
//! them, and that is nearly always so, the sum is its number, and tells which group that is and which recorder it has, without a look-up.
//!
//! From the low end: 16 bits for the recorder's slot, 32 for the group's number divided by the places, 8 that are zero, 8 for how many
//! there are. A sum of as many as fit there leaves the count as it is.

use crate::limits::{GROUP_PLACES, RECORDERS};

const SLOT_BITS: u32 = 16;
const NUMBER_BITS: u32 = 32;
const ONE: u64 = 1 << 56;
const PLACE_BITS: u32 = GROUP_PLACES.trailing_zeros();

/// Where a group is.
#[inline(always)]
#[must_use]
pub const fn place(id: u64) -> u32 {
    id as u32 & (GROUP_PLACES - 1)
}

/// What a group adds to its place.
#[inline(always)]
#[must_use]
pub const fn number(id: u64, recorder: u32) -> u64 {
    let id = id >> PLACE_BITS & ((1 << NUMBER_BITS) - 1);
    ONE | id << SLOT_BITS | (recorder & ((1 << SLOT_BITS) - 1)) as u64
}

/// What a place says of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It is not known.
    Unknown,
    /// It is, with this slot of its recorder: one beyond all of them when it has none.
    Slot(u32),
    /// There are several of this place: it has to be looked up.
    LookUp,
}

/// What the sum at its place says of a group.
#[inline(always)]
#[must_use]
pub const fn said(sum: u64, id: u64) -> Said {
    // First, for it is so of most of the node.
    if sum == 0 {
        return Said::Unknown;
    }
    let other = sum ^ number(id, 0);
    if other < 1 << SLOT_BITS {
        Said::Slot(other as u32)
    } else if sum < 2 * ONE {
        Said::Unknown
    } else {
        Said::LookUp
    }
}

const _: () = assert!(GROUP_PLACES.is_power_of_two() && RECORDERS < (1 << SLOT_BITS) - 1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::NO_RECORDER;

    const ID: u64 = 5 * GROUP_PLACES as u64 + 7;
    const OTHER: u64 = ID + GROUP_PLACES as u64;

    #[test]
    fn one_group_is_known_by_its_sum_and_others_of_its_place_are_not() {
        let sum = number(ID, 3);
        assert_eq!(place(ID), place(OTHER));
        assert_eq!(said(sum, ID), Said::Slot(3));
        assert_eq!(said(sum, OTHER), Said::Unknown);
        assert_eq!(said(0, ID), Said::Unknown);
    }

    #[test]
    fn two_of_a_place_are_looked_up_and_one_that_stays_is_known_again() {
        let sum = number(ID, 3) + number(OTHER, RECORDERS - 1);
        assert_eq!(said(sum, ID), Said::LookUp);
        assert_eq!(said(sum - number(ID, 3), OTHER), Said::Slot(RECORDERS - 1));
        assert_eq!(said(sum - number(ID, 3), ID), Said::Unknown);
    }

    #[test]
    fn no_recorder_is_a_slot_that_there_is_not() {
        let Said::Slot(slot) = said(number(ID, NO_RECORDER), ID) else { panic!("it is known") };
        assert!(slot >= RECORDERS);
    }

    #[test]
    fn as_many_as_fit_leave_the_count_as_it_is() {
        let largest = number(u64::MAX, NO_RECORDER);
        let sum = (0..255).fold(0u64, |sum, _| sum.wrapping_add(largest));
        assert_eq!(sum >> 56, 255);
    }
}
