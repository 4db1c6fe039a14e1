//! What the kernel side does with a failed system call, by its number. The agent fills the table for its architecture at start-up;
//! the program has no system call number in it.

/// How a call's arguments name its object.
pub mod object {
    /// None that is kept, only the raw arguments.
    pub const NONE: u8 = 0;
    /// A path in argument 0.
    pub const PATH_0: u8 = 1;
    /// A directory descriptor in argument 0 and a path in argument 1.
    pub const PATH_1: u8 = 2;
    /// A path in argument 2 (symlinkat's link, mount's none).
    pub const PATH_2: u8 = 3;
    /// A socket in argument 0, an address in argument 1, its length in argument 2.
    pub const SOCKET_ADDRESS: u8 = 4;
    /// A socket in argument 0, an address in argument 4, its length in argument 5.
    pub const SOCKET_ADDRESS_4: u8 = 5;
    /// An address that connect(2) was called with earlier: the failure came after the call had returned.
    pub const LATE_ADDRESS: u8 = 6;
    /// An open file in argument 0, whose own path is kept.
    pub const DESCRIPTOR: u8 = 7;
    /// A file in argument 0 that is to be locked.
    pub const LOCK: u8 = 8;
    /// The peer of a connection that had been made, and is lost.
    pub const PEER: u8 = 9;

    /// In argument 0 of a late failure: its socket told of it.
    pub const TOLD: u64 = 0;
    /// In argument 0 of a late failure: the program asked its socket (SO_ERROR).
    pub const ASKED: u64 = 1;
    /// The same, for a connection that was made and on which nothing ever came: ETIMEDOUT when its process closed it after a while,
    /// ECONNRESET when the peer did.
    pub const UNANSWERED: u64 = 2;
}

/// The bit of the processor's mode in `pt_regs` that tells programs of 32 and of 64 bits apart, on each architecture with its own sense.
pub const MODE_BIT: u32 = 0x10;

/// What the success of a system call may have to say, where all calls are seen.
pub mod success {
    /// Nothing.
    pub const NONE: u8 = 0;
    /// A message to or from a name server, in one of these ways. A buffer in argument 1, an address in argument 4 with its length in argument 5.
    pub const SENDTO: u8 = 1;
    /// A buffer in argument 1.
    pub const BUFFER: u8 = 2;
    /// A vector in argument 1.
    pub const WRITEV: u8 = 3;
    /// A `struct msghdr` in argument 1.
    pub const MESSAGE: u8 = 4;
    /// An array of `struct mmsghdr` in argument 1; the result is how many of them were sent.
    pub const SENDMMSG: u8 = 5;
    /// A file was opened.
    pub const OPEN: u8 = 6;
    /// From here on: what is looked at even when no container talks to a name server and none is young.
    pub const ALWAYS: u8 = 7;
    /// A socket was connected.
    pub const CONNECT: u8 = 7;
    /// A socket was bound.
    pub const BIND: u8 = 8;
    /// An option of a socket was asked for, which may be its error.
    pub const OPTION: u8 = 9;
    /// A socket began to listen.
    pub const LISTEN: u8 = 10;
}

/// Which slots of the recorder a failure goes to.
pub mod class {
    /// Says much whenever it comes.
    pub const TELLING: u8 = 0;
    /// A path that does not exist.
    pub const MISSING: u8 = 1;
    /// A socket.
    pub const NETWORK: u8 = 2;
    /// A call that only looks.
    pub const LOOKING: u8 = 3;
}

/// Whether a call opens a file, and where its flags are.
pub mod opens {
    /// It opens none.
    pub const NOTHING: u8 = 0;
    /// In the argument behind the path.
    pub const FLAGS: u8 = 1;
    /// At the beginning of the `struct open_how` that the argument behind the path points at.
    pub const HOW: u8 = 2;
    /// It has none: it creates a file for writing.
    pub const CREATES: u8 = 3;
}

/// One row of the table. An errno `n` is recorded when its bit is set in `errors`; in the class [`class::TELLING`] when it is set
/// in `telling` too, else in `class`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SyscallRule {
    /// Errors 0 to 63 that are recorded.
    pub errors_low: u64,
    /// Errors 64 to 127.
    pub errors_high: u64,
    /// Errors 0 to 63 that are telling. (All above 63 keep `class`, but EADDRINUSE, which the low word's bit 0 stands for.)
    pub telling: u64,
    /// See [`object`].
    pub object: u8,
    /// See [`class`].
    pub class: u8,
    /// 1 when every recorded failure is told at once, and not only a refusal: for exec, where a file that is there and cannot be
    /// found means that its interpreter is missing.
    pub told: u8,
    /// See [`opens`]; for the success of a call.
    pub opens: u8,
    /// 1 when argument 0 is the descriptor that the call waits on.
    pub descriptor: u8,
    /// 1 when argument 0 may be a connection that the call sends or receives through: [`is_loss`] then tells of its peer.
    pub carries: u8,
    /// Zero.
    pub padding: [u8; 2],
}

/// Errors of a connection that stood: the peer reset it or is gone (EPIPE, ECONNRESET), or nothing has come from it for too long (ETIMEDOUT,
/// EHOSTUNREACH, ENETUNREACH). A bit each.
pub const LOSSES: [u64; 2] = [1 << 32, 1 << (101 - 64) | 1 << (104 - 64) | 1 << (110 - 64) | 1 << (113 - 64)];

/// Whether a call that failed with `errno` may have failed because its connection was lost.
#[inline(always)]
#[must_use]
pub const fn is_loss(errno: u64) -> bool {
    let losses = if errno < 64 { LOSSES[0] } else { LOSSES[1] };
    errno < 128 && losses & (1 << (errno & 63)) != 0
}

/// EADDRINUSE, the only telling error above 63. Bit 0 of [`SyscallRule::telling`] stands for it, as no error is 0.
pub const EADDRINUSE: u32 = 98;

const _: () = assert!(size_of::<SyscallRule>() == 32);
