//! What a program inherits of the signals' dispositions.

use nix::sys::signal::{SigHandler, Signal, signal};

/// Undoes what Rust's start-up did: what it ignores, a program that is executed in its place ignores too, and one that writes into a pipe
/// without a reader would end with an error of its own instead of SIGPIPE, as it does in no container.
///
/// # Errors
/// When the kernel refuses.
pub fn restore_broken_pipe() -> nix::Result<()> {
    #[expect(unsafe_code, reason = "a handler of ours could do anything; the default one is none")]
    // SAFETY: no handler is installed.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.map(drop)
}
