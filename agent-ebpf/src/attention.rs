//! Whether a call that succeeds has to be looked at. Every call of the node asks that, so it is one load: a word of flags, of which each
//! has a byte, so that setting one never touches another.

/// See the functions.
#[repr(C, align(4))]
struct Attention {
    young: u8,
    asking: u8,
    unused: [u8; 2],
}

static mut ATTENTION: Attention = Attention { young: 0, asking: 0, unused: [0; 2] };

/// Whether there is any reason.
#[inline(always)]
pub fn is_any() -> bool {
    // SAFETY: an aligned word of the program's own data; what another processor writes at the same moment is as good.
    unsafe { (&raw const ATTENTION).cast::<u32>().read_volatile() != 0 }
}

/// Whether some container of the node may be in its start-up.
#[inline(always)]
pub fn is_any_young() -> bool {
    // SAFETY: as in `is_any`.
    unsafe { (&raw const ATTENTION.young).read_volatile() != 0 }
}

/// Says so.
#[inline(always)]
pub fn set_any_young(is: bool) {
    // SAFETY: as in `is_any`.
    unsafe { (&raw mut ATTENTION.young).write_volatile(u8::from(is)) };
}

/// Whether some container may be waiting for an answer of a name server.
#[inline(always)]
pub fn is_any_asking() -> bool {
    // SAFETY: as in `is_any`.
    unsafe { (&raw const ATTENTION.asking).read_volatile() != 0 }
}

/// Says so.
#[inline(always)]
pub fn set_any_asking(is: bool) {
    // SAFETY: as in `is_any`.
    unsafe { (&raw mut ATTENTION.asking).write_volatile(u8::from(is)) };
}
