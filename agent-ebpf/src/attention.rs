//! Whether a call that succeeds has to be looked at. Every call of the node, and every message through a TCP socket, asks that, so it is one
//! load: flags in a word, of which each has a byte, so that setting one never touches another.

/// See the functions. Two words of two flags, each of which is loaded as one: what waits for a name server concerns both.
#[repr(C, align(4))]
struct Attention {
    young: u8,
    asking: u8,
    asking_by_stream: u8,
    losing: u8,
}

static mut ATTENTION: Attention = Attention { young: 0, asking: 0, asking_by_stream: 0, losing: 0 };

/// Whether there is any reason for a system call.
#[inline(always)]
pub fn is_any() -> bool {
    // SAFETY: an aligned word of the program's own data; what another processor writes at the same moment is as good.
    unsafe { (&raw const ATTENTION).cast::<u16>().read_volatile() != 0 }
}

/// Whether there is any reason for a message that came through a TCP socket.
#[inline(always)]
pub fn is_any_for_streams() -> bool {
    // SAFETY: as in `is_any`.
    unsafe { (&raw const ATTENTION).cast::<u16>().add(1).read_volatile() != 0 }
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
    unsafe {
        (&raw mut ATTENTION.asking).write_volatile(u8::from(is));
        (&raw mut ATTENTION.asking_by_stream).write_volatile(u8::from(is));
    }
}

/// Whether some container may yet be told that it has lost a connection.
#[inline(always)]
pub fn is_any_losing() -> bool {
    // SAFETY: as in `is_any`.
    unsafe { (&raw const ATTENTION.losing).read_volatile() != 0 }
}

/// Says so.
#[inline(always)]
pub fn set_any_losing(is: bool) {
    // SAFETY: as in `is_any`.
    unsafe { (&raw mut ATTENTION.losing).write_volatile(u8::from(is)) };
}
