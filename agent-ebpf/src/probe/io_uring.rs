//! A ring of io_uring is made: `io_uring:io_uring_create`.
//!
//! Why this: what is asked through a ring passes through no system call, so what fails there is not seen, and that has to be said. The
//! event has carried (file descriptor, …) since 5.1 and nothing of it is read. Cost: nothing until a ring is made.

use crate::{container::Container, hook};

hook!("io_uring_create", io_uring_create, io_uring_create_raw, |_arguments| {
    if let Some(recorder) = Container::of_current().and_then(Container::recorder) {
        // SAFETY: a field of the container's recorder; a count that two processors raise at once may miss one.
        unsafe { (*recorder).io_urings += 1 };
    }
});
